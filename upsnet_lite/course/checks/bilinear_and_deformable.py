"""Exercise 2, bilinear sampling and deformable convolution: the visible checks.

Shapes   x (C, H, W)   offset (18, H, W), (Δrow, Δcolumn) of tap after tap
"""

import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout

import torch
import torch.nn.functional as F
from torch import Tensor

from upsnet_lite.course.checks.bilinear import (
    by_hand,
    check_bilinear,
    check_bilinear_gradient,
    reached,
    same_dtype,
    sampled,
)
from upsnet_lite.course.feedback import Mistake, agree, known_as, one_line, right, tried
from upsnet_lite.deform_conv import deform_conv2d, tap_places

__all__ = ["check_bilinear", "check_bilinear_gradient", "check_deform_conv", "check_taps"]

# ------------------------------------------------------------------------------------------------- part 3, taps


def places(offset: Tensor, by_column: bool = False) -> tuple[Tensor, Tensor]:
    """Where the nine taps of each pixel fall (9, H, W). by_column: a wrong variant."""
    _, height, width = offset.shape
    k = torch.arange(9)[:, None, None]
    down, across = (k % 3, k // 3) if by_column else (k // 3, k % 3)
    rows = torch.arange(height)[:, None] + down - 1 + offset[0::2]
    return rows, torch.arange(width) + across - 1 + offset[1::2]


def agree_both(
    found: Sequence[Tensor], expected: Sequence[Tensor], what: str, axes: str, known: Mapping[str, Tensor]
) -> None:
    """Rows and columns agree; known holds both of them in one tensor."""
    if found[0].shape == found[1].shape and (mistake := known_as(torch.stack(tuple(found)), known)):
        raise Mistake(mistake)
    for i, which in enumerate(("row", "column")):
        alone = {f"the {which}s alone: {mistake}": wrong[i] for mistake, wrong in known.items()}
        agree(found[i], expected[i], what.format(which), axes, alone)


def check_taps(taps: Callable) -> None:
    offset = torch.arange(18.0)[:, None, None] / 100 + torch.zeros(18, 2, 3)
    offset[0, 1, 2], offset[3, 0, 1] = 5, -4
    in_halves = torch.stack((offset[:9], offset[9:]), 1).flatten(0, 1)
    swapped = offset.view(9, 2, 2, 3).flip(1).reshape(18, 2, 3)
    own = torch.stack(torch.meshgrid(torch.arange(2), torch.arange(3), indexing="ij"))[:, None]  # each pixel's place
    right_places, moves = torch.stack(places(offset)), torch.stack((offset[0::2], offset[1::2]))
    last = torch.tensor([1, 2])[:, None, None, None]
    known = {
        "Δrow and Δcolumn are exchanged: of each pair the row comes first": torch.stack(places(swapped)),
        "Δrow was taken for both axes": torch.stack((right_places[0], right_places[1] - moves[1] + moves[0])),
        "Δcolumn was taken for both axes": torch.stack((right_places[0] - moves[0] + moves[1], right_places[1])),
        "the 18 offsets were read as nine rows and then nine columns; they come in pairs, tap after tap": (
            torch.stack(places(in_halves))
        ),
        "the middle tap must stand on the pixel itself: the steps are −1, 0, 1, not 0, 1, 2": right_places + 1,
        "tap 1 stands below tap 0; the taps run along the rows: k // 3 goes down, k % 3 across": (
            torch.stack(places(offset, by_column=True))
        ),
        "the steps are turned around: tap 0 stands above and to the left, at (−1, −1)": 2 * (own + moves)
        - right_places,
        "rows and columns are exchanged: the rows come first": right_places.flip(0),
        "rows and columns of the pixels are exchanged: the rows run down, torch.arange(height)[:, None]": (
            right_places - own + own.flip(0)
        ),
        "the offsets are subtracted": torch.stack(places(-offset)),
        "the places were rounded: `bilinear` reads between the pixels": right_places.round(),
        "the places were moved onto the map; a tap may fall outside, where `bilinear` reads 0": (
            right_places.clamp(torch.zeros(()), last)
        ),
        "these are the offsets without the regular grid": moves,
        "the offsets are missing": right_places - moves,
        "the pixel's own place is missing: row and column of the pixel + step of the tap + offset": right_places - own,
    }
    found = tried(taps, offset, on="a map of 2 rows and 3 columns")
    agree_both(found, places(offset), "the {} of the place", "tap, row, column", known)
    by_package = [p[0, ..., 0].permute(2, 0, 1) for p in tap_places(offset[None], (3, 3), padding=1)]
    agree(torch.stack(found), torch.stack(by_package), "the place", "rows or columns, tap, row, column")
    offset = offset.double().requires_grad_()
    found = torch.stack(taps(offset))
    same_dtype(found, "offset")
    reached(found, {"offset": offset})
    right("where the taps fall")


# ------------------------------------------------------------------------------------------------- part 4, convolution


def check_deform_conv(deform_conv: Callable, bilinear: Callable, taps: Callable) -> None:
    try:
        check_values(by_hand(deform_conv))
        check_gradient(deform_conv)
    except (Mistake, RuntimeError) as error:
        for part, function, check in ((1, bilinear, check_bilinear), (3, taps, check_taps)):
            if not passes(check, function):
                raise Mistake(f"{one_line(error)} (part {part} is not right yet, and this part stands on it)") from None
        raise
    right("a deformable convolution, its four gradients checked")


def passes(check: Callable, function: Callable) -> bool:
    try:
        with redirect_stdout(io.StringIO()):
            check(function)
    except Exception:  # whatever a learner's code can raise
        return False
    return True


def check_values(deform_conv: Callable) -> None:
    draw = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(*size, generator=draw) for size in ((2, 5, 6), (2, 2, 3, 3), (2,)))
    offset = 1.5 * torch.randn(18, 5, 6, generator=draw)
    rows, columns = (p.flatten() for p in places(0 * offset))
    plain = lambda w, b: F.conv2d(x[None], w, b, padding=1)[0]  # noqa: E731

    def weighed(read: Tensor, axes: str = "ikhw") -> Tensor:
        """Values (2, 9 · 5 · 6) of the taps, multiplied by the weights and added up."""
        size = [dict(i=2, k=9, h=5, w=6)[axis] for axis in axes]
        return torch.einsum(f"{axes},oik->ohw", read.view(size), weight.flatten(2)) + bias[:, None, None]

    def without(tap: int) -> Tensor:
        return plain(weight * (torch.arange(9) != tap).view(3, 3), bias)

    known = {
        "the bias is missing": plain(weight, None),
        "the bias counts nine times: add it once, after the sum over the taps": plain(weight, 9 * bias),
        "what was read has the axes (C, 9, H, W), the channel first; .view(9, C, H, W) mixes channels and taps": (
            weighed(sampled(x, rows, columns), "kihw")
        ),
        "rows and columns are exchanged: bilinear(x, rows, columns)": weighed(sampled(x, columns, rows)),
        "the places were moved onto the map; a tap outside reads 0": (
            weighed(sampled(x, rows, columns, outside="repeat"))
        ),
        "tap 8 is left out: k is 0 … 8, as range(9) gives it": without(8),
        "tap 0 is left out: k is 0 … 8, as range(9) gives it": without(0),
        "the kernel is turned around: weight[..., 0, 0] belongs to tap 0, the upper left one": (
            plain(weight.flip(2, 3), bias)
        ),
        "the kernel is transposed: tap k has the weight [..., k // 3, k % 3]": plain(weight.transpose(2, 3), bias),
        "weight is (C_out, C, 3, 3): the sum runs over the second axis, not the first": plain(
            weight.transpose(0, 1), bias
        ),
        "the taps are averaged; they must be added up": plain(weight / 9, bias),
    }
    on = "x of (2, 5, 6), a weight of (2, 2, 3, 3) and a bias of (2,)"
    hints = {"size of tensor": "the bias is one for each channel out: bias[:, None, None]"}
    found = tried(deform_conv, x, 0 * offset, weight, bias, on=on, hints=hints)
    agree(found, plain(weight, bias), "with offsets 0", "channel, row, column", known)

    deformed = lambda o: deform_conv2d(x[None], o[None], weight, bias, padding=1)[0]  # noqa: E731
    known = {
        "the offsets change nothing: this is the plain convolution": plain(weight, bias),
        "Δrow and Δcolumn are exchanged": deformed(offset.view(9, 2, 5, 6).flip(1).reshape(18, 5, 6)),
        "the places were rounded: read them with `bilinear`": deformed(offset.round()),
    }
    found = tried(deform_conv, x, offset, weight, bias, on="offsets of some pixels")
    agree(found, deformed(offset), "with offsets", "channel, row, column", known)
    same_dtype(deform_conv(*(v.double() for v in (x, offset, weight, bias))), "x")


def check_gradient(deform_conv: Callable) -> None:
    """Autograd's gradients against differences of the function's own values."""
    draw = torch.Generator().manual_seed(1)
    sizes = {"x": (2, 2, 3), "offset": (18, 2, 3), "weight": (1, 2, 3, 3), "bias": (1,)}
    inputs = {name: torch.randn(*size, generator=draw, dtype=torch.float64) for name, size in sizes.items()}
    inputs["offset"] = inputs["offset"].round() + 0.3 + 0.4 * torch.rand(18, 2, 3, generator=draw)  # away from kinks
    inputs = {name: value.requires_grad_() for name, value in inputs.items()}
    out = deform_conv(*inputs.values())
    reached(out, inputs)
    if not torch.autograd.gradcheck(deform_conv, tuple(inputs.values()), raise_exception=False):
        raise Mistake("the gradient is not that of the values: gradcheck compares it with differences of your function")
