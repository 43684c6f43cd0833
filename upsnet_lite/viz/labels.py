"""Names: what a channel, an instance or a map is called, and where a name is written on its segment.

A label lies as deep inside its segment as the text is wide, and never over another label:

    depth(p) = min over q outside the segment of |(p - q) * (1 / aspect, 1)|      aspect = text width / text height

A text of height h is fully inside where depth >= h / sqrt(2) and mostly inside from h / 2 on: shallower segments stay
without a name.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from upsnet_lite.categories import Categories
from upsnet_lite.viz.colors import HATCH, Array, Color, Number, array, shade

CELLS = 96  # a segment is measured on at most this many cells a side: a label needs no more, and the cost is cubic


def depth(mask: Bool[np.ndarray, "H W"], aspect: Number = 1.0) -> Float[np.ndarray, "H W"]:
    """Exact Euclidean distance in pixels to the nearest pixel that is not in the mask, x counting 1 / aspect.

    The map's edge counts as outside. One pass along y, one along x.
    """
    inside = np.pad(mask, 1)
    along_y = np.zeros(inside.shape)
    for y in range(1, len(inside)):
        along_y[y] = (along_y[y - 1] + 1) * inside[y]
    for y in range(len(inside) - 2, -1, -1):
        along_y[y] = np.minimum(along_y[y], (along_y[y + 1] + 1) * inside[y])
    x = np.arange(inside.shape[1]) / aspect
    squared = along_y[:, None, :] ** 2 + (x[:, None] - x) ** 2
    return np.sqrt(squared.min(-1))[1:-1, 1:-1]


def place_labels(
    panoptic: Int[Array, "H W"], ids: Sequence[int], sizes: Sequence[tuple[Number, Number]]
) -> dict[int, tuple[float, float]]:
    """Segment id -> centre (x, y) of its label, in pixels; a segment without room is left out.

    ids: the segments to name; sizes: (width, height) of each one's text in pixels of the map.
    Larger segments choose first. Every point lies inside its segment, and no two texts overlap.
    """
    panoptic = array(panoptic)
    texts = {i: size for i, size in zip(ids, sizes, strict=True)}
    placed: dict[int, tuple[float, float]] = {}
    for i in sorted(texts, key=lambda i: -np.count_nonzero(panoptic == i)):
        point = _deepest_free(panoptic == i, texts[i], [(placed[j], texts[j]) for j in placed])
        if point:
            placed[i] = point
    return placed


def _deepest_free(mask, size, taken) -> tuple[float, float] | None:
    """The deepest point of the mask at which a text of this size meets none of the (centre, size) taken."""
    ys, xs = np.nonzero(mask)
    if not len(ys):
        return None
    (y0, x0), (width, height) = (ys.min(), xs.min()), size
    crop = mask[y0 : ys.max() + 1, x0 : xs.max() + 1]
    step = -(-max(crop.shape) // CELLS)
    coarse = crop[::step, ::step]
    deep, middle = step * depth(coarse, width / height), depth(coarse)
    y = y0 + step * np.arange(deep.shape[0])[:, None]
    x = x0 + step * np.arange(deep.shape[1])
    for (other_x, other_y), (other_width, other_height) in taken:
        close = (np.abs(x - other_x) < (width + other_width) / 2) & (np.abs(y - other_y) < (height + other_height) / 2)
        deep, middle = np.where(close, 0, deep), np.where(close, 0, middle)
    # a wide text is as deep along a whole line: among such points the middle of the segment
    row, column = np.unravel_index((deep + 0.1 * step * middle).argmax(), deep.shape)
    room = deep[row, column] - step / 2  # from the centre of a cell to the edge of the nearest outside one
    return (float(x[column]), float(y[row, 0])) if room >= height / 2 else None


# --------------------------------------------------------------------------------------------------------- in words


def short(name: str) -> str:
    """COCO's `wall-other-merged` as people say it: wall."""
    return name.removesuffix("-merged").removesuffix("-other")


def class_names(classes: Int[Array, " N_inst"], categories: Categories) -> list[str]:
    """`cat 1, dog, cat 2`: the name, counted where a class occurs more than once."""
    classes = [int(c) for c in array(classes)]
    names = []
    for i, c in enumerate(classes):
        name = short(categories.things[c].name)
        names.append(f"{name} {classes[:i].count(c) + 1}" if classes.count(c) > 1 else name)
    return names


def z_names(classes: Int[Array, " N_inst"], categories: Categories, channels: int) -> list[str]:
    """A name for each channel of Z: stuff, instances, unknown."""
    return ([short(c.name) for c in categories.stuff] + class_names(classes, categories) + ["unknown"])[:channels]


def z_colors(classes: Int[Array, " N_inst"], categories: Categories, channels: int) -> list[Color]:
    """A colour for each channel of Z, instances in the shades they have in the panoptic map."""
    classes = [int(c) for c in array(classes)]
    shades = [shade(categories.things[c].color, classes[:i].count(c)) for i, c in enumerate(classes)]
    return ([c.color for c in categories.stuff] + shades + [HATCH[0]])[:channels]


def listed(names: Sequence[str], most: int = 12) -> str:
    """`a, b and c`; a long list is cut and counted."""
    if len(names) > most:
        return ", ".join(names[:most]) + f" and {len(names) - most} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else ""


def segments_in_words(segments_info: Sequence[Mapping], categories: Categories) -> str:
    """`2 × cat, grass and sky`, the classes of a panoptic map in class order."""
    counts: dict[int, int] = {}
    for s in segments_info:
        index = categories.index(s["category_id"])
        counts[index] = counts.get(index, 0) + 1
    names = [short(c.name) for c in categories]
    words = [names[i] if n == 1 else f"{n} × {names[i]}" for i, n in sorted(counts.items())]
    return listed(words) or "no segment"
