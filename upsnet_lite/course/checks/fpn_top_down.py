"""Exercise 3, the top-down path of a pyramid and the level of an RoI: the visible checks, and a picture to try it on.

Shapes   res (C_in, H, W)   coarse (C, h, w)   laterals: lists of (C, H, W), finest first   boxes (R, 4) xyxy in pixels
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from upsnet_lite.course.feedback import Mistake, agree, right, tried
from upsnet_lite.datasets.shapes_scene import draw
from upsnet_lite.instance_head import roi_level as package_roi_level


def scene() -> Float[Tensor, "3 128 128"]:
    """A drawn picture, the same each time."""
    drawn = draw(np.random.default_rng(3), 128, 3)
    return torch.from_numpy(drawn.image.transpose(2, 0, 1) / np.float32(255))


# ------------------------------------------------------------------------------------------------- part 1, lateral


def check_lateral(lateral: Callable) -> None:
    seeded = torch.Generator().manual_seed(0)
    res, weight, bias = (torch.randn(*size, generator=seeded) for size in ((3, 5, 4), (3, 3), (3,)))
    plain = torch.einsum("oi,ihw->ohw", weight, res)
    expected = plain + bias[:, None, None]
    entering, leaving = res.reshape(-1, 3) @ weight.T + bias, (weight @ res.flatten(1) + bias[:, None]).T
    mixed = "pixels and channels are mixed: view reads on as the memory lies, one whole channel after the other; "
    known = {
        "the bias is missing": plain,
        "the weight is transposed: weight[o, i] is what channel i of res counts for in channel o": (
            torch.einsum("io,ihw->ohw", weight, res) + bias[:, None, None]
        ),
        "there is a ReLU too much: a lateral convolution has none": expected.relu(),
        "each channel was weighted by itself; a 1 x 1 convolution mixes all channels of one pixel": (
            weight.diagonal()[:, None, None] * res + bias[:, None, None]
        ),
        "the bias was added once per input channel; it is added once": plain + 3 * bias[:, None, None],
        f"{mixed}permute(1, 2, 0) puts the channels last, before you view": entering.T.reshape(3, 5, 4),
        f"{mixed}permute(1, 2, 0) before you view, permute(2, 0, 1) at the end": entering.reshape(3, 5, 4),
        f"{mixed}here that happens at the end: the channels stand last there, so transpose first": (
            leaving.reshape(3, 5, 4)
        ),
    }
    hints = {"size of tensor": "the bias wants the axes (C, 1, 1): one number for all pixels of a channel"}
    found = tried(lateral, res, weight, bias, on="three channels of 5 × 4", hints=hints)
    agree(found, expected, "the lateral map", "channel, row, column", known)
    wider = torch.randn(2, 3, generator=seeded), torch.randn(2, generator=seeded)
    found = tried(lateral, res, *wider, on="a weight that is no square, of shape (2, 3)")
    agree(
        found, F.conv2d(res[None], wider[0][:, :, None, None], wider[1])[0], "the lateral map", "channel, row, column"
    )
    right("lateral: a 1 x 1 convolution")


# ------------------------------------------------------------------------------------------------- part 2, enlarge


def resized(coarse: Tensor, size: tuple[int, int], mode: str, **options) -> Tensor:
    return F.interpolate(coarse[None], size, mode=mode, **options)[0]


def picked(
    coarse: Tensor, size: tuple[int, int], sides: tuple[int, int] | None = None, whole: Callable = torch.floor
) -> Tensor:
    """Copied from row whole(row · h / H): another rounding, or other sides than the coarse map's, are mistakes."""
    rows, columns = (
        whole(torch.arange(new) * old / new).long().clamp(max=last - 1)
        for new, old, last in zip(size, sides or coarse.shape[1:], coarse.shape[1:], strict=True)
    )
    return coarse[:, rows][:, :, columns]


def check_enlarge(enlarge: Callable) -> None:
    coarse = torch.tensor([[[10.0, 20, 30], [40, 50, 60], [70, 80, 90]]])
    for size in ((6, 6), (5, 5), (4, 4)):
        height, width = size
        doubled = coarse.repeat_interleave(2, 1).repeat_interleave(2, 2)
        known = {
            "the map was laid beside itself, as tiles: each pixel must become a block": (
                coarse.repeat(1, 2, 2)[:, :height, :width]
            ),
            "this is bilinear, which mixes neighbours; the top-down path copies": resized(coarse, size, "bilinear"),
            "this is bilinear with align_corners=True; the top-down path copies": (
                resized(coarse, size, "bilinear", align_corners=True)
            ),
            "the source was rounded; it is rounded down: floor(row · h / H)": picked(coarse, size, whole=torch.round),
            "the source was rounded up; it is rounded down: floor(row · h / H)": picked(coarse, size, whole=torch.ceil),
            "this is nearest-exact, which asks for the middle of a pixel; here it is floor(row · h / H)": (
                resized(coarse, size, "nearest-exact")
            ),
            "the values are spread out and 0 stands between them; each is copied to the whole block": (
                F.pad(coarse[..., None, :, None], (0, 1, 0, 0, 0, 1)).reshape(1, 6, 6)[:, :height, :width]
            ),
        }
        if size != (6, 6):
            known |= {
                f"every pixel became 2 × 2, which is 6 × 6; the size asked for is {height} × {width}": doubled,
                "every value was copied equally often and what was too much cut off; row r is a copy of row "
                "floor(r · h / H)": doubled[:, :height, :width],
            }
        found = tried(enlarge, coarse, size, on=f"a map of 3 × 3 that is to become {height} × {width}")
        agree(
            found,
            resized(coarse, size, "nearest"),
            f"3 × 3 to {height} × {width}: the value",
            "channel, row, column",
            known,
        )
    found = tried(enlarge, coarse, (3, 6), on="size (3, 6)")
    if found.shape[1:] == (6, 3):
        raise Mistake("height and width are exchanged: size is (H, W)")
    agree(found, resized(coarse, (3, 6), "nearest"), "3 × 3 to 3 × 6: the value", "channel, row, column")
    wide = torch.arange(12.0).view(2, 2, 3)
    found = tried(enlarge, wide, (3, 5), on="two channels of 2 × 3 that are to become 3 × 5")
    known = {
        "every channel shows the first one": resized(wide[:1], (3, 5), "nearest").expand(2, 3, 5),
        "height and width of the coarse map are exchanged: its shape is (C, h, w)": picked(wide, (3, 5), (3, 2)),
        "the columns were counted with h; they have w": picked(wide, (3, 5), (2, 2)),
    }
    agree(found, resized(wide, (3, 5), "nearest"), "2 × 3 to 3 × 5: the value", "channel, row, column", known)
    right("enlarge: every value copied, odd sizes too")


# ------------------------------------------------------------------------------------------------- part 3, top-down


def sums(laterals: list[Tensor]) -> list[Tensor]:
    """The top-down path itself, finest first."""
    top = [laterals[-1]]
    for lateral in laterals[-2::-1]:
        top.insert(0, lateral + resized(top[0], tuple(lateral.shape[1:]), "nearest"))
    return top


def check_top_down(top_down: Callable) -> None:
    sizes = ((5, 7), (3, 4), (2, 2), (1, 1))
    laterals = [10.0**n * (1 + torch.arange(h * w).view(1, h, w)) for n, (h, w) in enumerate(sizes)]
    expected, kept = sums(laterals), [t.clone() for t in laterals]
    given = list(laterals)
    found = tried(top_down, given, on="four levels of 5 × 7, 3 × 4, 2 × 2 and 1 × 1 pixels")
    if any(not torch.equal(a, b) for a, b in zip(laterals, kept, strict=True)):
        raise Mistake("your function changed the laterals it was given: += adds in place; write a = a + b")
    if [id(t) for t in given] != [id(t) for t in laterals]:
        raise Mistake(
            "your function changed the list it was given (laterals[i] = ..., pop); put the sums into a new one"
        )
    if len(found) == len(expected) - 1:
        raise Mistake("3 maps for 4 levels: the coarsest is one of them, its lateral as it is")
    if len(found) != len(expected):
        raise Mistake(f"{len(found)} maps for {len(expected)} levels")
    if found[0].shape == expected[-1].shape:
        raise Mistake("the list is in the order in which you went down; it must begin with the finest level")
    neighbours = [a + resized(b, tuple(a.shape[1:]), "nearest") for a, b in zip(laterals, laterals[1:], strict=False)]
    from_top = [a + resized(laterals[-1], tuple(a.shape[1:]), "nearest") for a in laterals[:-1]] + laterals[-1:]
    copied = [resized(b, tuple(a.shape[1:]), "nearest") for a, b in zip(laterals, expected[1:], strict=False)]
    upward = sums(laterals[::-1])[::-1]
    for level in reversed(range(len(sizes))):  # as one walks down: the first wrong level spoils those below
        known = {
            "this is the lateral alone": laterals[level],
            "only the next coarser lateral was added; add the next coarser *sum*, which holds all above it": (
                [*neighbours, laterals[-1]][level]
            ),
            "only the coarsest lateral was added; walk down level by level": from_top[level],
            "the copy from above stands there without the lateral": [*copied, laterals[-1]][level],
            "you walked up, from the finest level to the coarsest; begin at the coarsest and go down": upward[level],
            "twice the lateral of the coarsest level: at the top there is nothing to add": 2 * expected[level],
        }
        what = f"level {level} of {len(sizes)} (0 is the finest): the sum"
        agree(found[level], expected[level], what, "channel, row, column", known)
    agree(torch.stack(top_down(laterals[:1])), laterals[0][None], "with one level alone, the sum")
    right("top-down: every level has what is above it")


# ------------------------------------------------------------------------------------------------- part 4, level


def check_roi_level(roi_level: Callable) -> None:
    boxes = torch.tensor([[3.0, 5, 67, 69], [10, 0, 73, 63], [0, 0, 32, 32], [20, 10, 48, 42], [0, 0, 256, 16],
                          [7, 7, 107, 107], [1, 2, 81, 82], [0, 0, 200, 150], [9, 8, 129, 128],
                          [0, 0, 300, 300]])  # fmt: skip
    wide, high = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    side = (wide * high).sqrt()
    level = lambda s, canonical=64.0: 4 + (s / canonical).log2()  # noqa: E731
    cut = lambda values: values.floor().clamp(2, 5)  # noqa: E731
    known = {
        "the boxes were read as x, y, width, height; they are x0, y0, x1, y1": cut(
            level((boxes[:, 2] * boxes[:, 3]).sqrt())
        ),
        "rounded to the nearest level; it is rounded down": level(side).round().clamp(2, 5),
        "rounded up (ceil); it is rounded down (floor)": level(side).ceil().clamp(2, 5),
        "the square root is missing: the side of a box is √(w · h)": cut(level(wide * high)),
        "this is the natural logarithm; a level is a factor of 2: log2": cut(4 + (side / 64).log()),
        "the longer side was taken; the rule takes √(w · h)": cut(level(torch.maximum(wide, high))),
        "the mean of both sides was taken; the rule takes √(w · h)": cut(level((wide + high) / 2)),
        "224 stands where the argument canonical belongs; it is 64 here": cut(level(side, 224.0)),
        "these are places in the list P2 … P5; the level itself is 2 more": cut(level(side)) - 2,
        "the sign is wrong: larger boxes belong to higher levels": cut(4 - (side / 64).log2()),
        "the canonical size belongs to level 4, not to level 2": (cut(2 + (side / 64).log2())),
        "levels below 2 and above 5 do not exist: clamp": level(side).floor(),
    }
    found = tried(roi_level, boxes, 64.0, on=f"{len(boxes)} boxes")
    agree(found, package_roi_level(boxes, 64.0), "the level", "box", known)
    empty = tried(roi_level, torch.tensor([[4.0, 4, 4, 9]]), 64.0, on="a box without width")
    agree(empty, [2], "the level of a box without width (log2 of 0 is −∞; clamp before you make it an integer)", "box")
    agree(roi_level(boxes, 224.0), package_roi_level(boxes, 224.0), "with canonical = 224, the level", "box")
    right("the level of each box")
