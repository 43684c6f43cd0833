"""The pictures of the lessons. Every function returns a figure that has alt text; `alt(figure, text)` replaces it.

    show_image, show_boxes, show_panoptic, show_truth_and_prediction      what goes in and what comes out
    show_logits, show_tensor                                              what lies between
    pixel_bars, plot_losses, pq_bars (module charts)                      one pixel of Z, training, evaluation

Tensors may be torch or numpy.   image (3, H, W) in [0, 1]    logits (C, H, W) or (H, W)    boxes (N, 4) xyxy
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int, Shaped
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.textpath import TextPath

from upsnet_lite.categories import Categories
from upsnet_lite.viz import colors
from upsnet_lite.viz.charts import STRIPES, pixel_bars, plot_losses, pq_bars, rgb
from upsnet_lite.viz.colors import HATCH, Array, Number, array
from upsnet_lite.viz.labels import class_names, listed, place_labels, segments_in_words, short
from upsnet_lite.viz.picture import (
    DIVERGING_MAP,
    GREY,
    INK,
    MARGIN,
    SEQUENTIAL_MAP,
    Picture,
    alt,
    bare,
    panels,
    scale_bar,
    styled,
    use_style,
)

__all__ = [
    "alt",
    "pixel_bars",
    "plot_losses",
    "pq_bars",
    "show_boxes",
    "show_image",
    "show_logits",
    "show_panoptic",
    "show_tensor",
    "show_truth_and_prediction",
    "use_style",
]

HALO = [withStroke(linewidth=2.2, foreground="white", alpha=0.9)]
LEGEND = 13  # points: height of a row, and from a swatch's left to its name
LABEL = dict(weight="bold", color=INK, ha="center", va="center_baseline", path_effects=HALO)


# ---------------------------------------------------------------------------------------------- image, boxes, segments


@styled
def show_image(image: Float[Array, "3 H W"], title: str = "image") -> Picture:
    """The picture, its size beside the title."""
    pixels = colors.image_rgb(image)
    figure, (axes,), _ = panels(1, 1, pixels.shape[0] / pixels.shape[1])
    draw_pixels(axes, pixels, title, shape(image))
    figure.alt_text = f"{title}: a picture of {pixels.shape[1]} by {pixels.shape[0]} pixels."
    return figure


@styled
def show_boxes(
    image: Float[Array, "3 H W"],
    boxes: Float[Array, "N_inst 4"],
    classes: Int[Array, " N_inst"],
    categories: Categories,
    scores: Float[Array, " N_inst"] | None = None,
    title: str = "B and C",
) -> Picture:
    """Boxes over the picture in their classes' colours, with name and score. classes: C, things from 0."""
    pixels = colors.image_rgb(image)
    figure, (axes,), _ = panels(1, 1, pixels.shape[0] / pixels.shape[1], largest=4.8)
    draw_pixels(axes, pixels, title, f"{len(array(boxes))} boxes")
    draw_boxes(axes, boxes, classes, categories, scores)
    figure.alt_text = f"{title}: the picture with boxes around {listed(class_names(classes, categories))}."
    return figure


@styled
def show_panoptic(
    image: Float[Array, "3 H W"],
    panoptic: Int[Array, "H W"],
    segments_info: Sequence[Mapping],
    categories: Categories,
    title: str = "panoptic",
    alpha: Number = 0.65,
    names: bool = True,
) -> Picture:
    """Segments laid over the picture with a line between them and names where there is room; 0 is hatched."""
    panoptic = array(panoptic)
    figure, (axes,), _ = panels(1, 1, panoptic.shape[0] / panoptic.shape[1], largest=4.8)
    draw_panoptic(axes, image, panoptic, segments_info, categories, alpha, names)
    named(axes, title, f"{len(segments_info)} segments")
    figure.alt_text = f"{title}: {segments_in_words(segments_info, categories)}."
    return figure


@styled
def show_truth_and_prediction(
    image: Float[Array, "3 H W"],
    truth: tuple[Int[Array, "H W"], Sequence[Mapping]],
    prediction: tuple[Int[Array, "H W"], Sequence[Mapping]],
    categories: Categories,
    alpha: Number = 0.65,
) -> Picture:
    """Image, ground truth and prediction side by side, below them the classes of both.

    truth, prediction: (panoptic, segments_info).
    """
    pixels = colors.image_rgb(image)
    figure, axes, _ = panels(3, 3, pixels.shape[0] / pixels.shape[1])
    draw_pixels(axes[0], pixels, "image")
    for ax, name, (panoptic, segments) in zip(
        axes[1:], ("ground truth", "prediction"), (truth, prediction), strict=True
    ):
        draw_panoptic(ax, image, panoptic, segments, categories, alpha)
        named(ax, name, f"{len(segments)} segments")
    draw_legend(figure, (truth, prediction), categories)
    figure.alt_text = (
        f"Image, ground truth and prediction. Ground truth: {segments_in_words(truth[1], categories)}. "
        f"Prediction: {segments_in_words(prediction[1], categories)}."
    )
    return figure


def draw_pixels(axes: Axes, pixels: np.ndarray, name: str = "", note: str = "") -> None:
    axes.imshow(pixels)
    named(axes, name, note)


def draw_boxes(axes: Axes, boxes, classes, categories: Categories, scores=None, names=None) -> None:
    """A box's edge is the class's colour inside a white halo; its text stands where it meets no other, or nowhere."""
    boxes, names = array(boxes), names or class_names(classes, categories)
    texts = names if scores is None else [f"{n} {s:.2f}" for n, s in zip(names, array(scores), strict=True)]
    taken = []
    per_point = points_to_pixels(axes)
    for box, c, text in zip(boxes, array(classes), texts, strict=True):
        x0, y0, x1, y1 = (float(v) - 0.5 for v in box)  # imshow: pixel centres are integers
        edge = [v / 255 for v in categories.things[int(c)].color]
        for color, width in (("white", 3.4), (edge, 1.8)):
            axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, ec=color, lw=width))
        width, height = text_size(text, per_point, 7)
        for x, y in ((x0, y0 - height), (x0, y1), (x0 + per_point, y0 + per_point), (x1 - width, y1 - height)):
            place = (x, y, x + width, y + height)
            if within(place, axes) and not any(meet(place, other) for other in taken):
                axes.text(x + 1.5 * per_point, y + height / 2, text, **{**LABEL, "size": 7, "ha": "left"})
                taken.append(place)
                break


def within(place, axes: Axes) -> bool:
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    return bool(left <= place[0] and place[2] <= right and high <= place[1] and place[3] <= low)


def meet(a, b) -> bool:
    return bool(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3])


def draw_panoptic(
    axes: Axes, image, panoptic, segments_info, categories, alpha: Number = 0.65, names: bool = True, texts=None
) -> None:
    """texts: segment id -> what is written on it where there is room for that; otherwise its class."""
    axes.imshow(colors.overlay(image, panoptic, segments_info, categories, alpha))
    if not names:
        return
    per_point, size = points_to_pixels(axes), 8 if axes.get_position().width * axes.figure.get_figwidth() > 3 else 7
    plain = {s["id"]: short(categories[categories.index(s["category_id"])].name) for s in segments_info}

    def placed(texts):
        return place_labels(panoptic, list(texts), [text_size(text, per_point, size) for text in texts.values()])

    shown = plain | {i: texts[i] for i in placed(plain | texts)} if texts else plain
    for i, (x, y) in placed(shown).items():
        axes.text(x, y, shown[i], **{**LABEL, "size": size})


def draw_legend(figure: Picture, maps: Sequence[tuple], categories: Categories) -> None:
    """A swatch and a name for each class of the (panoptic, segments_info), in rows by which the figure grows."""
    present = sorted({categories.index(s["category_id"]) for _, segments in maps for s in segments})
    looks = {short(categories[i].name): dict(fc=rgb(categories[i].color)) for i in present}
    if any(not np.isin(array(panoptic), [s["id"] for s in segments]).all() for panoptic, segments in maps):
        looks["unknown / void"] = dict(fc=rgb(HATCH[0])) | STRIPES
    (wide, tall), left = 72 * figure.get_size_inches(), 72 * MARGIN
    places = in_rows([LEGEND + text_size(name, 1, 7)[0] for name in looks], wide - 2 * left)
    room = LEGEND * (1 + max(row for row, _ in places))
    shrunk = tall / (tall + room)
    for axes in figure.axes:
        x, y, width, height = axes.get_position().bounds
        axes.set_position((x, 1 - (1 - y) * shrunk, width, height * shrunk))
    figure.set_figheight((tall + room) / 72)
    axes = bare(figure.add_axes((0, 0, 1, 1 - shrunk)))
    axes.set(xlim=(-left, wide - left), ylim=(room, 0))
    for (row, x), (name, look) in zip(places, looks.items(), strict=True):
        axes.add_patch(Rectangle((x, LEGEND * row), 9, 9, **look))
        axes.text(x + LEGEND, LEGEND * row + 4.5, name, size=7, va="center_baseline")


def in_rows(widths: Sequence[Number], room: Number, gap: Number = 8) -> list[tuple[int, float]]:
    """(row, x) for things of these widths, one after the other, in rows of at most this width."""
    places, row, x = [], 0, 0.0
    for width in widths:
        if x and x + width > room:
            row, x = row + 1, 0.0
        places.append((row, x))
        x += width + gap
    return places


def points_to_pixels(axes: Axes) -> float:
    """How many pixels of the map one point of text covers."""
    left, right = axes.get_xlim()
    return (right - left) / (axes.get_position().width * axes.figure.get_figwidth() * 72)


def text_size(text: str, per_point: Number, size: Number) -> tuple[float, float]:
    """Width and height of a label in pixels of the map, with a little air around it."""
    extent = TextPath((0, 0), text, size=size, prop=dict(weight="bold")).get_extents()
    return (extent.width + 3) * per_point, (size + 1.5) * per_point


# --------------------------------------------------------------------------------------------------- logits and tensors


@styled
def show_logits(
    logits: Float[Array, "*C H W"],
    names: Sequence[str] | None = None,
    title: str = "logits",
    limit: Number | None = None,
    columns: int = 6,
) -> Picture:
    """One map or small multiples on one scale, symmetric around 0: blue below, white at 0, orange above.

    limit: the end of the scale; None: the largest finite magnitude. -inf and nan are grey.
    """
    limit = limit or colors.symmetric_limit(logits)
    return _multiples(logits, names, title, columns, DIVERGING_MAP, (-limit, limit), "logit")


@styled
def show_tensor(
    tensor: Shaped[Array, "*C H W"],
    names: Sequence[str] | None = None,
    title: str = "tensor",
    columns: int = 6,
    largest: int = 24,
) -> Picture:
    """The channels of any tensor, the first `largest` of them: probabilities and masks on [0, 1], others around 0."""
    values = array(tensor).astype(float)
    shown = values[:largest] if values.ndim == 3 else values
    finite = shown[np.isfinite(shown)]
    if finite.size and finite.min() >= 0 and finite.max() <= 1:
        return _multiples(shown, names, title, columns, SEQUENTIAL_MAP, (0, 1), "value", values)
    limit = colors.symmetric_limit(shown)
    return _multiples(shown, names, title, columns, DIVERGING_MAP, (-limit, limit), "value", values)


def _multiples(values, names, title, columns, cmap, ends, unit, whole=None) -> Picture:
    note = shape(values if whole is None else whole)
    values = array(values)
    values = values[None] if values.ndim == 2 else values
    if whole is not None and len(array(whole)) > len(values) and array(whole).ndim == 3:
        note += f", the first {len(values)}"
    if names is not None and len(names) < len(values):
        raise ValueError(f"{title}: {len(names)} names for {len(values)} channels")
    names = [""] * len(values) if names is None and len(values) == 1 else names or [str(i) for i in range(len(values))]
    largest = 3.6 if len(values) == 1 else 1.9  # 28 x 28 logits are no better for being large
    aspect = values.shape[1] / values.shape[2]
    figure, axes, bar = panels(len(values), columns, aspect, title, note, bar=True, largest=largest, names=any(names))
    for ax, channel, name in zip(axes, values, names, strict=False):
        drawn = ax.imshow(np.ma.masked_invalid(channel), cmap=cmap, norm=Normalize(*ends))
        named(ax, name)
    scale_bar(figure, bar, drawn, unit)
    figure.alt_text = (
        f"{title}, {note}: {listed([n for n in names if n]) or 'one map'}, from {ends[0]:.3g} to {ends[1]:.3g}."
    )
    return figure


def named(axes: Axes, name: str, note: str = "") -> None:
    """A panel's name on its upper left corner, a note on the right one."""
    axes.set_title(name)
    if note:
        axes.set_title(note, loc="right", color=GREY, size=7.5)


def shape(x: Shaped[Array, "..."]) -> str:
    return " × ".join(str(n) for n in array(x).shape)
