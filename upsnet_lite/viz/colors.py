"""The colours of the project, as pure functions on arrays (numpy or torch in, numpy out).

    a class              its category's own colour, in every picture
    its n-th instance    the same hue, lighter or darker
    void and unknown     one grey hatch that no class has
    logits               blue < 0 < orange, white at 0, the same range on both sides
    probabilities        from white to dark green

Shapes   image (3, H, W) float RGB in [0, 1]    panoptic (H, W) segment ids, 0 = void or unknown
         segments_info [{id, category_id, ...}]    every picture (H, W, 3) uint8
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped, UInt8

from upsnet_lite.categories import IGNORE, Categories

Array = Any  # numpy.ndarray or torch.Tensor
Color = tuple[int, int, int]
Number = float | int  # python takes one for the other, a run-time check of the shapes does not

HATCH: tuple[Color, Color] = ((236, 236, 236), (128, 128, 128))
NOTHING: Color = (208, 208, 208)  # a value that is not there: -inf or nan

# Blue and orange stay apart for every common colour blindness; both ends are equally dark, so a sign is never a weight.
DIVERGING_STOPS = (
    (10, 44, 98),
    (30, 107, 178),
    (128, 184, 222),
    (247, 247, 245),
    (245, 173, 92),
    (199, 95, 14),
    (98, 40, 4),
)
SEQUENTIAL_STOPS = ((250, 251, 246), (190, 224, 190), (103, 182, 152), (33, 126, 116), (8, 74, 82), (4, 34, 46))


def array(x: Array) -> np.ndarray:
    """A numpy array of a tensor on any device, in any precision; arrays pass through."""
    if hasattr(x, "detach"):
        x = x.detach().cpu()
        x = (x.float() if x.is_floating_point() else x).numpy()
    return np.asarray(x)


# ------------------------------------------------------------------------------------------- classes and instances


def oklab(rgb: Shaped[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    """sRGB in 0-255 -> lightness and two hue axes in which equal steps look equal (B. Ottosson, 2020)."""
    s = np.asarray(rgb, dtype=float) / 255
    linear = np.where(s <= 0.04045, s / 12.92, ((s + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ TO_LMS.T) @ TO_LAB.T


def from_oklab(lab: Float[np.ndarray, "*n 3"]) -> UInt8[np.ndarray, "*n 3"]:
    """The inverse of `oklab`; what no screen can show is clipped."""
    linear = np.clip((lab @ np.linalg.inv(TO_LAB).T) ** 3 @ np.linalg.inv(TO_LMS).T, 0, 1)
    s = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(255 * s).astype(np.uint8)


TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def shade(color: Color, n: int) -> Color:
    """The colour of a class's n-th instance: n = 0 is the class's own, then lighter and darker by turns.

    A class that is light already gets darker shades only, a dark one lighter ones.
    """
    if n == 0:
        return tuple(int(v) for v in color)
    lab = oklab(np.array(color))
    steps = DARKER if lab[0] > 0.77 else tuple(-s for s in DARKER) if lab[0] < 0.43 else BOTH_WAYS
    lab[0] += steps[(n - 1) % len(steps)]
    return tuple(int(v) for v in from_oklab(lab))


BOTH_WAYS = (0.10, -0.10, 0.18, -0.18, 0.05, -0.05)  # of lightness, in which 1 is white; neighbours far apart
DARKER = (-0.10, -0.20, -0.05, -0.15, -0.25)


def segment_colors(segments_info: Iterable[Mapping], categories: Categories) -> dict[int, Color]:
    """Segment id -> colour. Things are shaded in the order of `segments_info`. KeyError: an unknown category."""
    seen: dict[int, int] = {}
    found = {}
    for segment in segments_info:
        category = categories[categories.index(segment["category_id"])]
        found[int(segment["id"])] = shade(category.color, seen.get(category.id, 0))
        if category.isthing:
            seen[category.id] = seen.get(category.id, 0) + 1
    return found


def hatch_period(height: int, width: int) -> int:
    """Pixels from stripe to stripe of the hatch on a map of this size."""
    return max(4, 2 * round(min(height, width) / 40))


def hatch(height: int, width: int, period: int | None = None) -> UInt8[np.ndarray, "H W 3"]:
    """Diagonal grey stripes: void and unknown. `period` in pixels; None: about 20 stripes along the shorter side."""
    period = period or hatch_period(height, width)
    y, x = np.mgrid[:height, :width]
    return np.array(HATCH, dtype=np.uint8)[((x + y) % period >= period / 2).astype(int)]


# ------------------------------------------------------------------------------------------------------------- maps


def panoptic_rgb(
    panoptic: Int[Array, "H W"], segments_info: Sequence[Mapping], categories: Categories
) -> UInt8[np.ndarray, "H W 3"]:
    """Every segment in its colour; 0 and every id that `segments_info` does not name are hatched."""
    panoptic = array(panoptic)
    color_of = segment_colors(segments_info, categories)
    ids, where = np.unique(panoptic, return_inverse=True)
    table = np.array([color_of.get(int(i), (0, 0, 0)) for i in ids], dtype=np.uint8)
    known = np.array([int(i) in color_of for i in ids])
    where = where.reshape(panoptic.shape)
    return np.where(known[where][..., None], table[where], hatch(*panoptic.shape))


def semantic_rgb(semantic: Int[Array, "H W"], categories: Categories) -> UInt8[np.ndarray, "H W 3"]:
    """A map of class indices, for example the argmax of X, in the classes' colours; IGNORE is hatched."""
    semantic = array(semantic)
    table = np.array([c.color for c in categories], dtype=np.uint8)
    ignored = semantic == IGNORE
    return np.where(ignored[..., None], hatch(*semantic.shape), table[np.where(ignored, 0, semantic)])


def borders(panoptic: Int[Array, "H W"]) -> Bool[np.ndarray, "H W"]:
    """True on the first pixel right of or below a change of segment: lines one pixel wide, none at the map's edge."""
    panoptic = array(panoptic)
    edge = np.zeros(panoptic.shape, dtype=bool)
    edge[1:] |= panoptic[1:] != panoptic[:-1]
    edge[:, 1:] |= panoptic[:, 1:] != panoptic[:, :-1]
    return edge


def image_rgb(image: Float[Array, "3 H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """The picture itself as pixels; values outside [0, 1] are clipped."""
    return np.rint(255 * np.clip(array(image), 0, 1)).astype(np.uint8).transpose(1, 2, 0)


def grey_rgb(image: Float[Array, "3 H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """The picture without its colours: a ground for colours that mean something."""
    luma = image_rgb(image) @ np.array([0.299, 0.587, 0.114])
    return np.repeat(np.rint(luma).astype(np.uint8)[..., None], 3, axis=2)


def overlay(
    image: Float[Array, "3 H W"],
    panoptic: Int[Array, "H W"],
    segments_info: Sequence[Mapping],
    categories: Categories,
    alpha: Number = 0.65,
) -> UInt8[np.ndarray, "H W 3"]:
    """Segments laid over the picture's brightness, `alpha` of 1 hiding it, and a white line between them.

    The picture loses its own colours: what is left of colour is the class's.
    """
    top = panoptic_rgb(panoptic, segments_info, categories)
    mixed = alpha * top + (1 - alpha) * grey_rgb(image)
    mixed[borders(panoptic)] = 0.15 * mixed[borders(panoptic)] + 0.85 * 255
    return np.rint(mixed).astype(np.uint8)


# ----------------------------------------------------------------------------------------------------------- scales


def ramp(stops: Sequence[Color], n: int) -> UInt8[np.ndarray, "n 3"]:
    """n colours through the stops, evenly spaced for the eye (linear in OKLab)."""
    lab = oklab(np.array(stops))
    at, knots = np.linspace(0, 1, n), np.linspace(0, 1, len(stops))
    return from_oklab(np.stack([np.interp(at, knots, lab[:, k]) for k in range(3)], axis=1))


DIVERGING = ramp(DIVERGING_STOPS, 255)  # an odd number: 0 has a colour of its own
SEQUENTIAL = ramp(SEQUENTIAL_STOPS, 256)


def symmetric_limit(*logits: Float[Array, "..."], share: Number = 1.0) -> float:
    """The smallest v such that [-v, v] holds `share` of all finite values; 1 where there is none but 0."""
    values = [np.abs(array(x)).ravel() for x in logits]
    values = np.concatenate([v[np.isfinite(v)] for v in values]) if values else np.zeros(0)
    return (float(np.quantile(values, share)) if values.size else 0.0) or 1.0


def logits_rgb(logits: Float[Array, "H W"], limit: Number) -> UInt8[np.ndarray, "H W 3"]:
    """Logits on the scale [-limit, limit]; beyond it the end's colour, -inf and nan plain grey."""
    values = array(logits)
    finite = np.isfinite(values)
    at = np.clip(np.where(finite, values, 0) / limit, -1, 1)
    return np.where(finite[..., None], DIVERGING[np.rint(127 * at).astype(int) + 127], np.uint8(NOTHING))
