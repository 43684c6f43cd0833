"""Small maps as numbers, to be checked by hand: bilinear sampling, residual blocks, RoIAlign.

Places are (row, column) in the map's own index: a pixel's centre is an integer, as in `deform_conv`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Shaped
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle

from upsnet_lite.viz.colors import Array, array, symmetric_limit
from upsnet_lite.viz.labels import listed
from upsnet_lite.viz.picture import DIVERGING_MAP, INK, SEQUENTIAL_MAP, Picture, panels, styled
from upsnet_lite.viz.plots import shape

BOX, POINT = "#c75f0e", "#0a2c62"


@styled
def number_grids(
    maps: Mapping[str, Shaped[Array, "H W"]],
    points: Mapping[str, Float[Array, "N 2"]] | None = None,
    boxes: Mapping[str, Sequence[float | int]] | None = None,
    title: str = "",
    columns: int = 4,
    *,
    names: tuple[Sequence[str], Sequence[str]] | None = None,
    limit: float | None = None,
) -> Picture:
    """Maps side by side with the number in each cell; on the map of that name, points (row, column) and a box xyxy.

    All maps share one pale scale: white is 0, blue is below, orange above; green where nothing is below 0. It ends at
    the largest number, or at `limit`: what lies beyond looks like it. names: of the rows and the columns of each map.
    """
    values = {name: array(m).astype(float) for name, m in maps.items()}
    limit = limit or symmetric_limit(*values.values())
    signed = min(m.min() for m in values.values()) < 0
    look = dict(cmap=DIVERGING_MAP, norm=Normalize(-2.2 * limit, 2.2 * limit))  # pale: the numbers are what counts
    look = look if signed else dict(cmap=SEQUENTIAL_MAP, norm=Normalize(0, 2.2 * limit))
    tallest = max(m.shape[0] / m.shape[1] for m in values.values())
    figure, axes, _ = panels(len(values), columns, tallest, title, ticks=names is not None, largest=2.3)
    for ax, (name, m) in zip(axes, values.items(), strict=True):
        ax.imshow(np.clip(m, -limit, limit), **look)
        ax.set_title(name)
        _write_numbers(ax, m, raised=bool(points) and name in points)
        if names:
            ax.set_yticks(range(len(names[0])), names[0])
            ax.set_xticks(range(len(names[1])), names[1])
            ax.tick_params(length=0, pad=2, labelsize=7, labelcolor=INK)
            ax.spines[:].set_visible(False)
        if boxes and name in boxes:
            x0, y0, x1, y1 = boxes[name]
            ax.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, ec=BOX, lw=2, zorder=3))
        if points and name in points:
            at = array(points[name])
            ax.plot(at[:, 1], at[:, 0], "o", ms=4.5, color=POINT, mec="white", mew=0.8)
    marks = [n for n in values if n in (points or {}) or n in (boxes or {})]
    figure.alt_text = f"Grids of numbers: {listed([f'{n} ({shape(m)})' for n, m in values.items()])}" + (
        f"; places are marked on {listed(marks)}." if marks else "."
    )
    return figure


def _write_numbers(axes, values: np.ndarray, raised: bool) -> None:
    """Every cell's number; raised into the corner, so that a point does not hide it."""
    for (row, column), v in np.ndenumerate(values):
        text = f"{v:.0f}" if abs(v - round(v)) < 1e-6 else f"{v:.3g}"
        axes.text(column - 0.27 * raised, row - 0.28 * raised, text, ha="center", va="center", size=8, color=INK)
    edges = dict(color="white", lw=1)
    for r in range(1, values.shape[0]):
        axes.axhline(r - 0.5, **edges)
    for c in range(1, values.shape[1]):
        axes.axvline(c - 0.5, **edges)
