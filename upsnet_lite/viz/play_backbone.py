"""Lesson 02: one level of the pyramid, one of its channels, and what one of its pixels sees of the image.

    |P|(p)   = sqrt(sum over channels of P(p)²)                the norm: how much a pixel says, whatever it says
    sees(q)  = |d P(p) / d image(q)|, summed over the colours    of the chosen channel, or of the norm

Shapes   levels {"P2" ...: (1, C, h, w)}, on the graph of batch (1, 3, H, W)    field (3, H, W)
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from upsnet_lite.backbone import STRIDES
from upsnet_lite.viz.charts import RUNS
from upsnet_lite.viz.colors import Number, grey_rgb, image_rgb, symmetric_limit
from upsnet_lite.viz.lessons_backbone import draw_heat
from upsnet_lite.viz.picture import DIVERGING_MAP, SEQUENTIAL_MAP, Picture, panels, styled
from upsnet_lite.viz.play import Answer, Play, choice, play, slider
from upsnet_lite.viz.plots import draw_pixels, named

Levels = Mapping[str, Float[Tensor, "1 C _ _"]]
NORM = -1  # the channel that stands for all of them


def values(features: Float[Tensor, "1 C h w"], channel: int) -> Float[Tensor, "h w"]:
    """One channel, or the norm over all."""
    return features[0].norm(dim=0) if channel == NORM else features[0, channel]


def cell(pixel: tuple[int, int], stride: int) -> tuple[int, int]:
    """The pixel of a map of this stride in which a pixel (row, column) of the image lies."""
    return pixel[0] // stride, pixel[1] // stride


def field(
    levels: Levels, batch: Float[Tensor, "1 3 H W"], level: str, channel: int, pixel: tuple[int, int]
) -> Float[Tensor, "3 H W"]:
    """What the cell under a pixel of the image sees: the gradient of its value with respect to the batch."""
    row, column = cell(pixel, STRIDES[level])
    (gradient,) = torch.autograd.grad(values(levels[level], channel)[row, column], batch, retain_graph=True)
    return gradient[0]


def reach(gradient: Float[Tensor, "3 H W"], centre: tuple[Number, Number], share: Number = 0.5) -> Number:
    """Side of the smallest square around (row, column) that holds this share of |gradient|; 0 where all is 0."""
    heat = gradient.abs().sum(0)
    rows, columns = (abs(torch.arange(n) - c) for n, c in zip(heat.shape, centre, strict=True))
    distance, order = torch.maximum(rows[:, None], columns).flatten().sort()
    held = heat.flatten()[order].cumsum(0)
    last = int((held < share * held[-1]).sum())
    return 2 * float(distance[last]) + 1 if held[-1] else 0


@styled
def show_level(
    image: Float[Tensor, "3 H W"],
    shown: Float[Tensor, "h w"],
    gradient: Float[Tensor, "3 H W"],
    pixel: tuple[int, int],
    stride: int,
    name: str,
) -> Picture:
    """The image, the map, |gradient| over the image; frames around the chosen cell and around half of |gradient|."""
    figure, axes, _ = panels(3, 3, image.shape[1] / image.shape[2], largest=2.5)
    draw_pixels(axes[0], image_rgb(image), "image", f"a cell is {stride} × {stride} px")
    limit, signed = symmetric_limit(shown), bool((shown < 0).any())
    look = dict(cmap=DIVERGING_MAP, vmin=-limit) if signed else dict(cmap=SEQUENTIAL_MAP, vmin=0)
    axes[1].imshow(shown.numpy(), vmax=limit, **look)
    named(axes[1], name, f"{shown.shape[0]} × {shown.shape[1]} cells, up to {limit:.1f}")
    draw_heat(axes[2], grey_rgb(image), gradient.abs().sum(0).numpy())
    centre, (row, column) = middle(pixel, stride), cell(pixel, stride)
    side = reach(gradient, centre)
    named(axes[2], "what the cell sees", f"half of it in {side:.0f} × {side:.0f} px")
    outline(axes[0], column * stride, row * stride, stride)
    outline(axes[1], column, row, 1)
    outline(axes[2], centre[1] + 0.5 - side / 2, centre[0] + 0.5 - side / 2, side)
    figure.alt_text = (
        f"The image, {name}, and what its cell in row {row}, column {column} sees: half of the gradient lies in the "
        f"framed {side:.0f} by {side:.0f} pixels."
    )
    return figure


def middle(pixel: tuple[int, int], stride: int) -> tuple[float, float]:
    """The centre (row, column) of the cell of a pixel; a pixel of the image has its own at an integer."""
    row, column = cell(pixel, stride)
    return row * stride + (stride - 1) / 2, column * stride + (stride - 1) / 2


def outline(axes: Axes, x: Number, y: Number, side: Number) -> None:
    """A square from the upper left corner (x, y) on, where pixel 0 begins at 0."""
    for color, width in (("white", 3.4), (RUNS[1], 1.8)):
        axes.add_patch(Rectangle((x - 0.5, y - 0.5), side, side, fill=False, ec=color, lw=width))


def play_levels(
    backbone: nn.Module, batch: Float[Tensor, "1 3 H W"], image: Float[Tensor, "3 H_image W_image"]
) -> Play:
    """Choose a level, a channel and a pixel. batch: the image as the backbone wants it."""
    batch = batch.detach().clone().requires_grad_()
    levels = backbone(batch)
    height, width = image.shape[1:]

    def draw(level: str, channel: int, row: int, column: int) -> Answer:
        pixel, stride = (row, column), STRIDES[level]
        gradient = field(levels, batch, level, channel, pixel)[:, :height, :width]
        shown = values(levels[level], channel).detach()
        at, side = cell(pixel, stride), reach(gradient, middle(pixel, stride))
        text = (
            f"{level}, stride {stride}: {shown.shape[0]} × {shown.shape[1]} cells.   Row {at[0]}, column {at[1]}: "
            f"value {float(shown[at]):.2f}; half of what it sees lies within {side:.0f} × {side:.0f} px"
        )
        name = f"|{level}|" if channel == NORM else f"{level}, channel {channel}"
        return Answer([show_level(image, shown, gradient, pixel, stride, name)], text)

    channels = next(iter(levels.values())).shape[1]
    return play(
        draw,
        level=choice("level", levels, "P3"),
        channel=slider("channel", NORM, channels - 1, NORM),
        row=slider("row, px", 0, height - 1, height // 2),
        column=slider("column, px", 0, width - 1, width // 2),
    )
