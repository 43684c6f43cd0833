"""Pictures of lesson 06: boxes and where they should go, tables of bars, a matrix of loss x module.

Shapes   boxes, goals (R, 4) xyxy in pixels    labels (R,) 0 = background, k = thing class k - 1
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.patches import Rectangle

from upsnet_lite.categories import Categories
from upsnet_lite.viz import colors
from upsnet_lite.viz.charts import RUNS, label, rgb
from upsnet_lite.viz.colors import Array, array
from upsnet_lite.viz.picture import GREY, INK, SEQUENTIAL_MAP, Picture, heading, panels, styled
from upsnet_lite.viz.plots import named

OBJECT = rgb((199, 95, 14))  # a positive box whose class is not asked for


# ---------------------------------------------------------------------------------------------------- boxes


@styled
def show_box_targets(
    image: Float[Array, "3 H W"],
    boxes: Float[Array, "R 4"],
    labels: Int[Array, " R"],
    goals: Float[Array, "R 4"],
    title: str,
    names: tuple[str, str],
    categories: Categories | None = None,
) -> Picture:
    """Left, what each sampled box should be called: background grey, an object in colour (its class's where
    `categories` are given). Right, where to: for each goal the box that is farthest from it, dashed, and an arrow from
    each of its corners."""
    boxes, labels, goals = array(boxes), array(labels), array(goals)
    pixels = colors.grey_rgb(image)
    figure, axes, _ = panels(2, 2, pixels.shape[0] / pixels.shape[1], title, largest=3.4)
    for ax, name in zip(axes, names, strict=True):
        ax.imshow(pixels // 2 + 127)  # pale: the boxes are what there is to see
        ax.set(xlim=(-0.5, pixels.shape[1] - 0.5), ylim=(pixels.shape[0] - 0.5, -0.5))
        named(ax, name)
    positive = labels > 0
    for box in boxes[~positive]:
        outline(axes[0], box, GREY, lw=0.6, alpha=0.6)
    for box, goal, k in zip(boxes[positive], goals[positive], labels[positive], strict=True):
        tint = rgb(categories.things[int(k) - 1].color) if categories else OBJECT
        outline(axes[0], box, tint, lw=1.6)
        if np.abs(goal - box).sum() < np.abs(goals - boxes)[positive & (goals == goal).all(1)].sum(1).max():
            continue  # all of them would be a tangle
        outline(axes[1], goal, tint, lw=1.8)
        outline(axes[1], box, INK, lw=0.8, ls=(0, (3, 2)))
        for corner in ([0, 1], [2, 1], [0, 3], [2, 3]):
            look = dict(arrowstyle="-|>", mutation_scale=7, color=INK, lw=1, shrinkA=0, shrinkB=0)
            look |= dict(clip_on=True, clip_box=axes[1].bbox)
            axes[1].annotate("", goal[corner] - 0.5, box[corner] - 0.5, arrowprops=look)
    named(axes[0], names[0], f"{positive.sum()} objects, {(~positive).sum()} background")
    named(axes[1], names[1], "farthest box → its object")
    figure.alt_text = (
        f"{title}. {names[0]}: {positive.sum()} boxes on objects in colour, {(~positive).sum()} on background in grey. "
        f"{names[1]}: for each object arrows lead from the corners of the farthest box to those of the true one."
    )
    return figure


def outline(axes: Axes, box: np.ndarray, tint, **look) -> None:
    x0, y0, x1, y1 = box - 0.5  # continuous coordinates -> imshow, whose pixel centres are integers
    axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, ec=tint, **look))


# ---------------------------------------------------------------------------------------------------- numbers


@styled
def bar_table(
    names: Sequence[str], columns: Mapping[str, Sequence[float | int]], title: str, note: str = "", digits: int = 3
) -> Picture:
    """One row per name, one column of bars per entry, each column on a scale of its own with its numbers written.

    nan: no bar, a dash.
    """
    rows = len(names)
    figure = Picture(8.0, 0.8 + 0.24 * rows)
    heading(figure, title, note)
    tall = figure.get_figheight()
    left, bottom, height = 0.19, 0.08 / tall, 0.24 * rows / tall
    step = (1 - left) / len(columns)
    for at, (head, values) in enumerate(columns.items()):
        axes = figure.add_axes((left + at * step, bottom, step * 0.92, height))
        lengths = np.nan_to_num(np.array(values, dtype=float))
        axes.barh(range(rows), lengths, 0.72, color=RUNS[at % len(RUNS)])
        for row, value in enumerate(values):
            label(axes, lengths[row], row, "–" if np.isnan(value) else f"{value:.{digits}g}")
        axes.set(xlim=(0, 1.3 * (lengths.max() or 1)), ylim=(rows - 0.5, -0.5), xticks=[], yticks=[])
        axes.spines[["bottom"]].set_visible(False)
        axes.set_title(head)
        if at == 0:
            for row, name in enumerate(names):
                axes.annotate(
                    name, (0, row), (-6, 0), ("axes fraction", "data"), "offset points", ha="right", va="center"
                )
    told = (
        f"{h}: " + ", ".join(f"{n} {v:.{digits}g}" for n, v in zip(names, c, strict=True)) for h, c in columns.items()
    )
    figure.alt_text = f"{title}. " + "; ".join(told) + "."
    return figure


@styled
def show_matrix(
    values: Float[Array, "R C"], rows: Sequence[str], columns: Sequence[str], title: str, note: str = ""
) -> Picture:
    """Numbers on a logarithmic scale of colour; an exact 0 stays white and is written as a dot."""
    values = array(values).astype(float)
    some = values[values > 0]
    ends = (some.min() / 3, some.max()) if some.size else (0.1, 1)
    figure = Picture(1.6 + 0.95 * len(columns), 0.8 + 0.32 * len(rows))
    heading(figure, title, note)
    wide, tall = figure.get_size_inches()
    axes = figure.add_axes((1.5 / wide, 0.06 / tall, 0.95 * len(columns) / wide, 0.32 * len(rows) / tall))
    cmap = SEQUENTIAL_MAP.with_extremes(bad="white")
    axes.imshow(np.ma.masked_less_equal(values, 0), cmap=cmap, norm=LogNorm(*ends), aspect="auto")
    for (r, c), value in np.ndenumerate(values):
        dark = value > 0 and np.log(value / ends[0]) > 0.5 * np.log(ends[1] / ends[0])
        text = f"{value:.2g}" if value > 0 else "·"
        axes.text(c, r, text, ha="center", va="center", color="white" if dark else INK)
    axes.set_xticks(range(len(columns)), columns, color=INK, size=8.5)
    axes.set_yticks(range(len(rows)), rows, color=INK, size=8.5)
    axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    axes.spines[:].set_visible(False)
    for edge in range(1, len(rows)):
        axes.axhline(edge - 0.5, color="white", lw=1.5)
    cells = (
        f"{n}: " + ", ".join(f"{c} {v:.2g}" for c, v in zip(columns, row, strict=True))
        for n, row in zip(rows, values, strict=True)
    )
    figure.alt_text = f"{title}. " + "; ".join(cells) + "."
    return figure
