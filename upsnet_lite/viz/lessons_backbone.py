"""Pictures of the backbone: maps of many channels, what a pixel of theirs sees, what a level costs.

likeness(p) = cosine of the angle between map(p) - mean and map(q) - mean, for one chosen pixel q

Shapes   map (C, h, w) of any stride    image (3, H, W)    gradient (3, H, W) of one pixel of a map
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from upsnet_lite.viz.charts import RUNS, label
from upsnet_lite.viz.colors import Array, array, grey_rgb, image_rgb
from upsnet_lite.viz.labels import listed
from upsnet_lite.viz.picture import (
    DIVERGING_MAP,
    GREY,
    INK,
    SEQUENTIAL_MAP,
    WIDTH,
    Picture,
    bare,
    heading,
    panels,
    scale_bar,
    styled,
)
from upsnet_lite.viz.plots import draw_pixels, named, shape


def likeness(features: Float[Array, "C h w"], pixel: tuple[float, float]) -> Float[np.ndarray, "h w"]:
    """How much each pixel says the same as one: 1 the same, -1 the opposite, measured from the map's mean.

    pixel: (row, column) as shares of the map's height and width, from 0 up to but not including 1.
    """
    v = array(features).astype(float)
    v = v - v.mean((1, 2), keepdims=True)
    v /= np.sqrt((v**2).sum(0)) + 1e-9
    row, column = (int(share * side) for share, side in zip(pixel, v.shape[1:], strict=True))
    return np.einsum("chw,c->hw", v, v[:, row, column])


@styled
def show_likeness(
    maps: Mapping[str, Float[Array, "_ _ _"]],
    image: Float[Array, "3 H W"],
    pixel: tuple[int, int],
    title: str = "likeness",
    columns: int = 6,
) -> Picture:
    """Maps of different strides at the same size: orange where a pixel says the same as the one under the cross.

    pixel: (row, column) of the image.
    """
    height, width = array(image).shape[1:]
    at = pixel[0] / height, pixel[1] / width
    figure, axes, bar = panels(len(maps) + 1, columns, height / width, title, bar=True)
    draw_pixels(axes[0], image_rgb(image), "image", f"{height} × {width}")
    for ax, (name, features) in zip(axes[1:], maps.items(), strict=True):
        likeness_ = likeness(features, at)
        drawn = ax.imshow(likeness_, cmap=DIVERGING_MAP, vmin=-1, vmax=1)
        named(ax, name, shape(likeness_))
    for ax in axes:
        bottom, right = ax.images[0].get_array().shape[:2]
        x, y = at[1] * right - 0.5, at[0] * bottom - 0.5  # shares -> imshow, whose pixel centres are integers
        ax.plot(x, y, "+", color="white", ms=9, mew=3)
        ax.plot(x, y, "+", color=INK, ms=8, mew=1.4)
    scale_bar(figure, bar, drawn, "same")
    listing = listed([f"{n} ({shape(m)})" for n, m in maps.items()])
    figure.alt_text = f"{title}: where {listing} say the same as at row {pixel[0]}, column {pixel[1]} of the image."
    return figure


@styled
def show_fields(
    image: Float[Array, "3 H W"],
    gradients: Mapping[str, Float[Array, "3 H W"]],
    pixel: tuple[float | int, float | int],
    title: str = "what one pixel sees",
    columns: int = 4,
) -> Picture:
    """|gradient| of one pixel (row, column of the image) of each map over the image; a frame around what is not 0."""
    ground = grey_rgb(image)
    figure, axes, _ = panels(len(gradients), columns, ground.shape[0] / ground.shape[1], title, "green: |gradient|")
    sides = []
    for ax, (name, gradient) in zip(axes, gradients.items(), strict=True):
        heat = np.abs(array(gradient)).sum(0)
        rows, columns_ = np.nonzero(heat)
        x0, y0, x1, y1 = columns_.min(), rows.min(), columns_.max() + 1, rows.max() + 1
        draw_heat(ax, ground, heat)
        ax.add_patch(Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, ec=RUNS[1], lw=1.8, clip_on=False))
        ax.plot(pixel[1], pixel[0], "+", color=RUNS[1], ms=8, mew=1.6)
        named(ax, name, f"{y1 - y0} × {x1 - x0} px")
        sides.append(f"{name} {y1 - y0} by {x1 - x0} pixels")
    figure.alt_text = f"{title}, at row {pixel[0]}, column {pixel[1]}: " + listed(sides) + "."
    return figure


def draw_heat(axes: Axes, ground: np.ndarray, heat: np.ndarray) -> None:
    """What is >= 0 in green over the pale picture (H, W, 3); its root, so that what is weak can be seen too."""
    heat = np.sqrt(heat / (heat.max() or 1))
    axes.imshow(0.45 * ground / 255 + 0.55)
    axes.imshow(heat, cmap=SEQUENTIAL_MAP, vmin=0, vmax=1, alpha=np.clip(2 * heat, 0, 0.92))


@styled
def cost_bars(columns: Mapping[str, Mapping[str, float | int]], title: str = "cost", unit: str = "million") -> Picture:
    """One panel of bars for each column, one row for each name; the number behind its bar."""
    rows = list(next(iter(columns.values())))
    tall = 0.24 * len(rows)
    figure = Picture(WIDTH, tall + 0.58)
    heading(figure, title, unit)
    wide = 0.86 / len(columns)
    for i, (what, values) in enumerate(columns.items()):
        axes = bare(figure.add_axes((0.12 + i * wide, 0.08 / (tall + 0.58), wide * 0.78, tall / (tall + 0.58))))
        axes.set_title(what, color=GREY, size=8)
        for at, name in enumerate(rows):
            axes.barh(at, values[name], 0.72, color=RUNS[i])
            label(axes, values[name], at, f"{values[name]:.3g}", color=INK)
            if i == 0:
                text = dict(xycoords=("axes fraction", "data"), textcoords="offset points", ha="right", va="center")
                axes.annotate(name, (0, at), (-6, 0), **text)
        axes.set(ylim=(len(rows) - 0.5, -0.5), xlim=(0, 1.18 * max(values.values())))
    most = [f"{what}: most in {max(values, key=values.get)}" for what, values in columns.items()]
    figure.alt_text = f"{title} of {listed(rows)}, in {unit}. " + "; ".join(most) + "."
    return figure
