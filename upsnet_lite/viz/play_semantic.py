"""Lesson 03: one pixel, and in each deformable layer of the subnet its nine taps: where they look, and what they bring.

    out(p) = sum_k v_k + bias,     v_k = w_k · x(p + p_k + Δp_k)          share of tap k = |v_k| / sum_j |v_j|

Shapes   x (1, C, h, w) of stride s    places (h, w, 9, 2) as (row, column) of the map    brought (h, w, 9, C_out)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from torch import Tensor, nn

from upsnet_lite.backbone import STRIDES
from upsnet_lite.categories import Categories
from upsnet_lite.deform_conv import DeformConv2d, corners, gather_sum, tap_places
from upsnet_lite.viz.charts import RUNS
from upsnet_lite.viz.colors import image_rgb
from upsnet_lite.viz.picture import GREY, Picture, panels, styled
from upsnet_lite.viz.play import Answer, Play, choice, slider
from upsnet_lite.viz.play_backbone import cell, middle
from upsnet_lite.viz.play_task import Map
from upsnet_lite.viz.plots import named
from upsnet_lite.viz.widgets import PanopticCanvas

AROUND = 5  # cells to each side of the pixel that are shown, where the image has so many


@dataclass(frozen=True)
class Taps:
    """One layer on one level: where the taps of every pixel fall, in cells, and the share that each brings."""

    places: Float[Tensor, "h w 9 2"]
    shares: Float[Tensor, "h w 9"]


@torch.no_grad()
def brought(
    layer: DeformConv2d, x: Float[Tensor, "1 C h w"]
) -> tuple[Float[Tensor, "h w 9 2"], Float[Tensor, "h w 9 C_out"]]:
    """Places of the taps, and v_k: their sum over k and the bias is the layer's output."""
    (rows,), (columns,) = (t[..., 0] for t in tap_places(layer.offset(x), (3, 3), padding=1))
    height, width, _ = rows.shape
    index, weight = corners(rows, columns, height, width)
    flat = x[0].permute(1, 2, 0).reshape(height * width, -1)
    read = gather_sum(flat, index.reshape(-1, 4), weight.reshape(-1, 4)).view(height, width, 9, -1)
    return torch.stack((rows, columns), -1), torch.einsum("hwkc,ock->hwko", read, layer.weight.flatten(2))


@torch.no_grad()
def layers(subnet: nn.Sequential, x: Float[Tensor, "1 C h w"]) -> list[Taps]:
    """The deformable layers of the subnet, each with the input that it has there."""
    found = []
    for module in subnet:
        if isinstance(module, DeformConv2d):
            places, values = brought(module, x)
            strength = values.norm(dim=-1)
            found.append(Taps(places, strength / strength.sum(-1, keepdim=True).clamp(min=1e-9)))
        x = module(x)
    return found


def offsets(taps: Taps, at: tuple[int, int]) -> Float[Tensor, "9 2"]:
    """How far each tap of one pixel was moved from the regular grid, in cells."""
    steps = torch.arange(-1.0, 2)
    grid = torch.cartesian_prod(steps, steps) + torch.tensor(at)
    return taps.places[at] - grid


@styled
def show_pixel(
    image: Float[Tensor, "3 H W"], found: Sequence[Taps], pixel: tuple[int, int], stride: int, level: str
) -> Picture:
    """Each layer close to the pixel's cell: nine points as large as their shares."""
    figure, axes, _ = panels(len(found), 1, image.shape[1] / image.shape[2], largest=2.4)
    (row, column), at = middle(pixel, stride), cell(pixel, stride)
    height, width = image.shape[1:]
    side = min(2 * AROUND * stride, height, width)
    left, top = (min(max(c + 0.5 - side / 2, 0), n - side) for c, n in ((column, width), (row, height)))
    for n, (ax, taps) in enumerate(zip(axes, found, strict=True), 1):
        ax.imshow(0.35 * image_rgb(image) / 255 + 0.65)  # pale: the taps are what counts
        draw_taps(ax, taps, at, stride)
        ax.set(xlim=(left - 0.5, left + side - 0.5), ylim=(top + side - 0.5, top - 0.5))
        moved = stride * float(offsets(taps, at).norm(dim=-1).mean())
        named(ax, f"{level}, layer {n}", f"taps moved by {moved:.1f} px")
    figure.alt_text = (
        f"Close to row {pixel[0]}, column {pixel[1]}: the nine taps of its cell on {level} in each of {len(found)} "
        f"deformable layers, larger where they bring more."
    )
    return figure


def draw_taps(axes: Axes, taps: Taps, at: tuple[int, int], stride: int) -> None:
    """From the places of a plain convolution (crosses) to those of this one (points)."""
    ends = stride * taps.places[at] + (stride - 1) / 2
    starts = ends - stride * offsets(taps, at)
    lines = torch.stack((starts.flip(1), ends.flip(1)), 1).numpy()
    axes.add_collection(LineCollection(lines, colors=RUNS[0], linewidths=1.2))
    axes.plot(starts[:, 1], starts[:, 0], "+", color=GREY, ms=6)
    axes.scatter(
        ends[:, 1], ends[:, 0], s=900 * taps.shares[at].numpy(), color=RUNS[0], ec="white", alpha=0.85, zorder=3
    )
    axes.plot(ends[4, 1], ends[4, 0], ".", color="white", ms=4, zorder=4)  # the tap in the middle


def words(found: Sequence[Taps], at: tuple[int, int], stride: int, level: str) -> str:
    """Shares in per cent, row by row of the 3 × 3 kernel."""
    lines = [f"{level}: cell in row {at[0]}, column {at[1]}.   Share of each tap in what the layer adds up, per cent:"]
    for n, taps in enumerate(found, 1):
        rows = (100 * taps.shares[at]).round().int().view(3, 3).tolist()
        moved = stride * float(offsets(taps, at).norm(dim=-1).max())
        kernel = "  |  ".join("  ".join(f"{v:2}" for v in row) for row in rows)
        lines.append(f"layer {n}:   {kernel}   farthest: {moved:.1f} px")
    return "\n".join(lines)


def play_taps(
    subnet: nn.Sequential,
    levels: Mapping[str, Float[Tensor, "1 C _ _"]],
    image: Float[Tensor, "3 H W"],
    truth: Map,
    categories: Categories,
    pixel: tuple[int, int],
) -> Play:
    """Click a pixel, choose a level. levels: "P2" … of the image; truth: what the canvas shows; pixel: the first."""
    found = {level: layers(subnet, x.detach()) for level, x in levels.items()}

    def draw(level: str, row: int, column: int) -> Answer:
        stride, chosen = STRIDES[level], found[level]
        at = cell((row, column), stride)
        picture = show_pixel(image, chosen, (row, column), stride, level)
        return Answer([picture], words(chosen, at, stride, level))

    row = slider("row, px", 0, image.shape[1] - 1, pixel[0])
    column = slider("column, px", 0, image.shape[2] - 1, pixel[1])
    canvas = PanopticCanvas(image, *truth, categories)
    canvas.pixel = list(pixel)
    widget = Play(draw, dict(level=choice("level", levels, "P2"), row=row, column=column), canvas)

    def clicked(change: Mapping) -> None:
        if change["new"] != [row.value, column.value]:
            widget.set(row=change["new"][0], column=change["new"][1])

    def marked(_: Mapping) -> None:  # whoever moved them: the mark stands where the controls are
        canvas.pixel = [row.value, column.value]

    canvas.observe(clicked, "pixel")
    widget.live.observe(marked, "busy")
    return widget
