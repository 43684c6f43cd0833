"""Pictures of lesson 05: Z by hand, one instance's share of it, Z as it fills, who wins each pixel, conflicts.

A winner map holds channels of Z: stuff 0 …, instance i at N_stuff + i, unknown (hatched) above all instances.

Shapes   winner (H, W) int    logits (C, H, W) or (H, W)    boxes (N_inst, 4) xyxy    classes (N_inst,) from 0
"""

import io
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int, Shaped
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke
from PIL import Image

from upsnet_lite.categories import Categories
from upsnet_lite.viz import colors
from upsnet_lite.viz.charts import RUNS, STRIPES, rgb
from upsnet_lite.viz.colors import Array, array
from upsnet_lite.viz.labels import class_names, listed, z_colors, z_names
from upsnet_lite.viz.picture import (
    DIVERGING_MAP,
    DPI,
    GREY,
    INK,
    Picture,
    heading,
    img_of,
    panels,
    png,
    scale_bar,
    styled,
)
from upsnet_lite.viz.plots import draw_boxes, draw_panoptic, draw_pixels, named, shape

Box = tuple[float | int, float | int, float | int, float | int]
HALO = [withStroke(linewidth=2.2, foreground="white", alpha=0.9)]
OUTCOMES = {"stuff": dict(color=RUNS[0]), "instance": dict(color=RUNS[1]), "unknown": dict(color="#ececec") | STRIPES}
COARSE = 32  # a map with fewer pixels a side is enlarged, so that lines and stripes stay thin


# ------------------------------------------------------------------------------------------------ maps of logits


@styled
def show_numbers(
    maps: Shaped[Array, "C H W"],
    names: Sequence[str],
    title: str,
    box: Box | None = None,
    limit: float | int | None = None,
) -> Picture:
    """Small maps on one scale with the number written in every cell; `box` is outlined in each."""
    maps = array(maps).astype(float)
    limit = limit or colors.symmetric_limit(maps)
    figure, axes, bar = panels(len(maps), 5, maps.shape[1] / maps.shape[2], title, shape(maps), bar=True, largest=1.9)
    for ax, values, name in zip(axes, maps, names, strict=True):
        drawn = draw_logits(ax, values, limit, box)
        for (row, column), value in np.ndenumerate(values):
            pale = abs(value) < 0.55 * limit
            ax.text(column, row, f"{value:g}", ha="center", va="center", size=8, color=INK if pale else "white")
        named(ax, name)
    scale_bar(figure, bar, drawn, "logit")
    cells = "; ".join(f"{n}: " + ", ".join(f"{v:g}" for v in m.ravel()) for n, m in zip(names, maps, strict=True))
    figure.alt_text = f"{title}, row by row. {cells}."
    return figure


@styled
def show_heads(image: Float[Array, "3 H W"], trace, categories: Categories) -> Picture:
    """What comes in and what goes out: the picture, X's strongest class, B and C with their masks, who wins in Z."""
    things = np.arange(categories.num_thing)
    pixels = colors.image_rgb(image)
    figure, axes, _ = panels(4, 2, pixels.shape[0] / pixels.shape[1], "two heads, one answer", largest=2.6)
    draw_pixels(axes[0], pixels, "image")
    draw_winner(axes[1], array(trace.X).argmax(0), things, categories, image)
    nobody = np.zeros((1, *pixels.shape[:2]))  # wins where no Y is above 0
    owner = np.concatenate((nobody, array(trace.y_mask))).argmax(0) - 1
    owner[owner < 0] = len(trace.C)
    draw_winner(axes[2], categories.num_stuff + owner, trace.C, categories, image, names=False)
    draw_boxes(axes[2], trace.B, trace.C, categories)
    draw_winner(axes[3], array(trace.winner), trace.C, categories, image)
    notes = ("", "semantic head", "instance head", "panoptic head")
    for ax, name, note in zip(axes, ("image", "argmax of X", "B, C, Y > 0", "argmax of Z"), notes, strict=True):
        named(ax, name, note)
    found = listed(class_names(trace.C, categories)) or "nothing"
    figure.alt_text = f"The picture; the semantic head's class of each pixel; the instance head's {found}; both fused."
    return figure


@styled
def show_instance(image: Float[Array, "3 H W"], trace, i: int, categories: Categories) -> Picture:
    """Instance i of a trace: the picture with its box, then x_thing[C_i], x_mask[i], y_mask[i] and their sum in Z."""
    c, name = int(trace.C[i]), class_names(trace.C, categories)[i]
    maps = [array(m) for m in (trace.x_thing[c], trace.x_mask[i], trace.y_mask[i], trace.z[categories.num_stuff + i])]
    what = listed([categories.things[c].name])
    names = [f"x_thing, {what}", "x_mask: cut out", "+ y_mask: pasted", f"= Z, channel {categories.num_stuff + i}"]
    limit = colors.symmetric_limit(*maps)
    aspect = maps[0].shape[0] / maps[0].shape[1]
    figure, axes, bar = panels(5, 5, aspect, name, "one scale; the box is B", bar=True)
    draw_pixels(axes[0], colors.image_rgb(image), "image")
    draw_boxes(axes[0], trace.B[i : i + 1], trace.C[i : i + 1], categories, names=[name])
    for ax, values, text in zip(axes[1:], maps, names, strict=True):
        drawn = draw_logits(ax, values, limit, tuple(trace.B[i].tolist()))
        named(ax, text)
    scale_bar(figure, bar, drawn, "logit")
    figure.alt_text = f"One instance, {name}: the picture with its box; then {listed(names)}, up to {limit:.3g}."
    return figure


def draw_logits(axes: Axes, values: np.ndarray, limit: float | int, box: Box | None = None):
    drawn = axes.imshow(np.ma.masked_invalid(values), cmap=DIVERGING_MAP, norm=Normalize(-limit, limit))
    if box is not None:
        x0, y0, x1, y1 = box
        axes.add_patch(Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, ec=INK, lw=1, ls=(0, (3, 2))))
    return drawn


# ---------------------------------------------------------------------------------------------------- who wins


@styled
def show_winners(
    winners: Mapping[str, Int[Array, "H W"]],
    classes: Int[Array, " N_inst"],
    categories: Categories,
    image: Float[Array, "3 H W"] | None = None,
    title: str = "who wins",
    marks: Mapping[str, tuple[int, int]] | None = None,
) -> Picture:
    """Winner maps side by side, names on the segments, unknown hatched, IGNORE white.

    marks: text -> (row, column) to point at. A map of class indices is one too: its `classes` are arange(N_thing).
    """
    height, width = array(next(iter(winners.values()))).shape
    figure, axes, _ = panels(len(winners), 4, height / width, title, largest=2.6)
    told = []
    for ax, (name, winner) in zip(axes, winners.items(), strict=True):
        draw_winner(ax, array(winner), classes, categories, image)
        unknown = int((array(winner) >= categories.num_stuff + len(array(classes))).sum())
        named(ax, name, f"{unknown} px unknown" if unknown else "")
        told.append(f"{name}, {unknown} pixels unknown" if unknown else name)
        for text, (row, column) in (marks or {}).items():
            ax.plot(column, row, "o", ms=7, mfc="none", mec="white", mew=3.2)
            ax.plot(column, row, "o", ms=7, mfc="none", mec=INK, mew=1.4)
            ax.annotate(text, (column, row), (6, 4), textcoords="offset points", weight="bold", path_effects=HALO)
    figure.alt_text = f"{title}: {listed(told)}. Channels: {listed(names_of(classes, categories))}."
    return figure


def draw_winner(
    axes: Axes,
    winner: np.ndarray,
    classes,
    categories: Categories,
    image=None,
    alpha: float | int = 0.8,
    names: bool = True,
) -> None:
    """The map in the channels' colours; a coarse one is enlarged but keeps its coordinates."""
    height, width = winner.shape
    times = 16 if max(height, width) < COARSE else 1
    ids, segments = as_segments(winner.repeat(times, 0).repeat(times, 1), classes, categories)
    ground = np.zeros((3, height * times, width * times)) if image is None else image
    texts = dict(enumerate(names_of(classes, categories)[:-1], 1))  # with the numbers that the bars have, too
    draw_panoptic(axes, ground, ids, segments, categories, 1.0 if image is None else alpha, names, texts)
    pixels = np.array(axes.images[0].get_array())
    pixels[winner.repeat(times, 0).repeat(times, 1) < 0] = 255  # hatched like unknown it would look like one
    axes.images[0].set_data(pixels)
    if times > 1:
        axes.images[0].set_extent((-0.5, width - 0.5, height - 0.5, -0.5))
        for text in axes.texts:
            text.set_position([(v + 0.5) / times - 0.5 for v in text.get_position()])
        axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def as_segments(winner: np.ndarray, classes, categories: Categories) -> tuple[np.ndarray, list[dict]]:
    """A winner map as segment ids (channel + 1, unknown 0) and the segments_info that colours and names them."""
    of_channel = [*range(categories.num_stuff), *(categories.num_stuff + int(c) for c in array(classes))]
    segments = [{"id": k + 1, "category_id": categories[c].id} for k, c in enumerate(of_channel)]
    return np.where(winner < len(of_channel), winner + 1, 0), segments


def names_of(classes, categories: Categories) -> list[str]:
    return z_names(classes, categories, categories.num_stuff + len(array(classes)) + 1)


# --------------------------------------------------------------------------------------------------- animation


class Animation:
    """Pictures that follow one another, shown as one animated image inside a `details` that can be folded away."""

    def __init__(self, frames: Sequence[Picture], seconds: Sequence[float | int], text: str) -> None:
        stills = [Image.open(io.BytesIO(png(frame, DPI))).convert("RGB") for frame in frames]
        file = io.BytesIO()
        look = dict(save_all=True, append_images=stills[1:], loop=0, duration=[round(1000 * s) for s in seconds])
        stills[0].save(file, "WEBP", lossless=True, quality=90, method=5, **look)
        self.data, self.alt_text, self.width = file.getvalue(), text, stills[0].width

    def _repr_html_(self) -> str:
        shown = img_of(self.data, self.alt_text, self.width, "webp")
        return f"<details open><summary>animation (click here to stop it)</summary>{shown}</details>"

    def __repr__(self) -> str:
        return self.alt_text


@styled
def fill_z(
    z: Float[Array, "C H W"],
    classes: Int[Array, " N_inst"],
    categories: Categories,
    image: Float[Array, "3 H W"] | None = None,
    seconds: float | int = 1.2,
) -> Animation:
    """Z channel by channel: the one that comes in, the highest logit so far, and who wins each pixel so far."""
    z, names = array(z), z_names(classes, categories, len(z))
    limit = colors.symmetric_limit(z, share=0.999)
    frames = [_frame(z, k, names, classes, categories, image, limit) for k in range(len(z))]
    text = f"Animation: Z fills channel by channel with {listed(names, 20)}; at each step the map of who wins so far."
    return Animation(frames, [seconds] * (len(frames) - 1) + [3 * seconds], text)


def _frame(z, k: int, names, classes, categories: Categories, image, limit) -> Picture:
    """Channel k comes in."""
    figure, axes, bar = panels(
        4, 4, z.shape[1] / z.shape[2], "filling Z", f"channel {k} of 0 … {len(z) - 1}: {names[k]}", bar=True
    )
    so_far = z[: k + 1]
    drawn = draw_logits(axes[0], z[k], limit)
    draw_logits(axes[1], so_far.max(0), limit)
    draw_winner(axes[2], so_far.argmax(0), classes, categories, image)
    for ax, text in zip(axes, (f"comes in: {names[k]}", "highest so far", "wins so far", "Z"), strict=True):
        named(ax, text)
    _stack(axes[3], k, names, z_colors(classes, categories, len(z)))
    scale_bar(figure, bar, drawn, "logit")
    return figure


def _stack(axes: Axes, k: int, names: Sequence[str], tints) -> None:
    """The list of channels: those that are in have their colour, the one that comes in is bold."""
    for row, (name, tint) in enumerate(zip(names, tints, strict=True)):
        look = STRIPES if name == "unknown" else {}
        face = rgb(tint) if row <= k else "white"
        axes.add_patch(Rectangle((0, row + 0.12), 0.2, 0.76, fc=face, ec=GREY, lw=0.6))
        if look and row <= k:
            axes.add_patch(Rectangle((0, row + 0.12), 0.2, 0.76, fill=False, **look))
        weight = dict(weight="bold", color=INK) if row == k else dict(color=INK if row < k else "#b6bac0")
        axes.text(0.27, row + 0.5, f"{row}  {name}", va="center", size=min(8.5, 95 / len(names)), **weight)
    axes.set(xlim=(0, 1), ylim=(len(names), 0))


# --------------------------------------------------------------------------------------------------- conflicts


@styled
def outcome_bars(rows: Mapping[str, Mapping[str, float | int]], title: str, note: str = "") -> Picture:
    """One bar per row, split into the shares that went to stuff, to an instance and to unknown (numbers are scaled)."""
    figure = Picture(7.2, 0.75 + 0.33 * len(rows))
    heading(figure, title, note)
    tall = figure.get_figheight()
    axes = figure.add_axes((0.36, 0.08 / tall, 0.62, 0.33 * len(rows) / tall))
    told = []
    for at, (name, counts) in enumerate(rows.items()):
        total = sum(counts.values()) or 1
        ends = np.cumsum([0, *(100 * counts.get(k, 0) / total for k in OUTCOMES)])
        for (left, right), look in zip(pairwise(ends), OUTCOMES.values(), strict=True):
            axes.barh(at, right - left, 0.74, left=left, **look)
            if right - left >= 5:
                plain = look["color"] != "#ececec"
                text = dict(color="white") if plain else dict(color=INK, path_effects=HALO)
                axes.text((left + right) / 2, at, f"{right - left:.0f} %", ha="center", va="center", **text)
        axes.text(-1.5, at, name, ha="right", va="center")
        told.append(
            f"{name}: " + ", ".join(f"{k} {b - a:.0f} %" for k, (a, b) in zip(OUTCOMES, pairwise(ends), strict=True))
        )
    axes.set(xlim=(0, 100), ylim=(len(rows) - 0.5, -0.5), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    handles = [
        Patch(label=k, **{"fc" if n == "color" else n: v for n, v in look.items()}) for k, look in OUTCOMES.items()
    ]
    axes.legend(handles=handles, ncols=3, frameon=False, loc="lower left", bbox_to_anchor=(-0.01, 0.97), borderpad=0)
    figure.alt_text = f"{title}, per cent of the pixels. " + "; ".join(told) + "."
    return figure
