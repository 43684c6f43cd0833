"""Exercise 2, bilinear sampling and deformable convolution: the visible checks.

Shapes   x (C, H, W)   row, column (P,) places in pixels   offset (18, H, W), (Δrow, Δcolumn) of tap after tap
"""

import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout

import torch
import torch.nn.functional as F
from torch import Tensor

from upsnet_lite.course.feedback import Mistake, agree, one_line, right
from upsnet_lite.deform_conv import deform_conv2d, tap_places

# ------------------------------------------------------------------------------------------------- part 1, bilinear


def pixel(x: Tensor, row: Tensor, column: Tensor, outside: str) -> Tensor:
    """x at whole places (C, P). outside: "zero", or a wrong variant: "repeat" the border, "wrap" around."""
    height, width = x.shape[1:]
    within = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    if outside == "wrap":  # a negative index counts from the end
        near = (row >= -height) & (row < height) & (column >= -width) & (column < width)
        return x[:, row.long() % height, column.long() % width] * near
    found = x[:, row.clamp(0, height - 1).long(), column.clamp(0, width - 1).long()]
    return found if outside == "repeat" else found * within


def sampled(x: Tensor, row: Tensor, column: Tensor, low: Callable = torch.floor, outside: str = "zero") -> Tensor:
    """The bilinear mean (C, P) of the four pixels around each place; `low` finds the upper left one."""
    r0, c0 = low(row), low(column)
    dr, dc = row - r0, column - c0
    return sum(
        wr * wc * pixel(x, r0 + i, c0 + j, outside)
        for i, wr in ((0, 1 - dr), (1, dr))
        for j, wc in ((0, 1 - dc), (1, dc))
    )


def example() -> Tensor:
    """Two channels (2, 5, 6): 10 · row + column, and row · column."""
    row, column = torch.arange(5.0)[:, None], torch.arange(6.0)
    return torch.stack((10 * row + column, row * column))


def check_bilinear(bilinear: Callable) -> None:
    x = example()
    row, column = torch.tensor([1.25, 3.0, 0.5, 2.75]), torch.tensor([2.5, 4.0, 1.75, 0.0])
    dr, dc = row - row.floor(), column - column.floor()
    known = {
        "rows and columns are exchanged: x is indexed [channel, row, column]": sampled(x, column, row),
        "this is the nearest pixel; mix the four around the place": pixel(x, row.round(), column.round(), "zero"),
        "this is the pixel to the upper left; mix the four around the place": pixel(
            x, row.floor(), column.floor(), "zero"
        ),
        "the weights are exchanged: a pixel counts the more, the nearer it is": sampled(
            x, row.floor() + 1 - dr, column.floor() + 1 - dc
        ),
        "these are the values half a pixel further up and left: here a pixel's place is its middle": sampled(
            x, row - 0.5, column - 0.5
        ),
    }
    agree(bilinear(x, row, column), sampled(x, row, column), "the value", "channel, place", known)

    row, column = (
        torch.tensor([-0.5, 4.25, 2.0, -1.0, -3.0, 9.0, 1.5]),
        torch.tensor([4.0, 2.0, 5.25, 0.0, 2.0, 9.0, -0.25]),
    )
    try:
        found = bilinear(x, row, column)
    except (IndexError, RuntimeError) as error:
        raise Mistake(
            f"a place outside of the map, or one whose neighbours are, ends in {type(error).__name__}: {error}; "
            "read some valid pixel there and give it the weight 0, or frame the map with zeros"
        ) from None
    known = {
        "outside of the map there is 0; yours repeats the border, as if the place were moved onto it": sampled(
            x, row, column, outside="repeat"
        ),
        "index −1 is the last row or column in Python; outside of the map there is 0": sampled(
            x, row, column, outside="wrap"
        ),
        "−0.5 was rounded to 0: .long() and .int() cut towards 0, .floor() goes down to −1": (
            sampled(x, row, column, low=torch.trunc)
        ),
    }
    agree(found, sampled(x, row, column), "at the border, the value", "channel, place", known)
    same_dtype(bilinear(x.double(), row.double(), column.double()), "x")
    right("bilinear, inside and outside")


def same_dtype(found: Tensor, of: str) -> None:
    """Mistake unless a result from float64 is float64: part 4 checks the gradient in it."""
    if found.dtype != torch.float64:
        kind = str(found.dtype).removeprefix("torch.")
        raise Mistake(
            f"{of} was float64 and your result is {kind}: begin with {of}.new_zeros(...), not torch.zeros(...)"
        )


# ------------------------------------------------------------------------------------------------- part 2, gradient


def slopes(x: Tensor, row: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
    """The derivatives of `sampled`, by autograd, one channel at a time."""
    row, column = row.clone().requires_grad_(), column.clone().requires_grad_()
    found = [torch.autograd.grad(v.sum(), (row, column), retain_graph=True) for v in sampled(x, row, column)]
    by_row, by_column = zip(*found, strict=True)
    return torch.stack(by_row), torch.stack(by_column)


def agree_both(
    found: Sequence[Tensor], expected: Sequence[Tensor], what: str, axes: str, known: Mapping[str, Tensor]
) -> None:
    """Rows and then columns agree; known holds both of them in one tensor."""
    for i, which in enumerate(("row", "column")):
        agree(found[i], expected[i], what.format(which), axes, {mistake: wrong[i] for mistake, wrong in known.items()})


def check_bilinear_gradient(bilinear_gradient: Callable) -> None:
    x = example()
    row, column = torch.tensor([1.25, 3.75, 0.5, -0.25]), torch.tensor([2.5, 4.25, 1.75, 5.5])
    expected, found = torch.stack(slopes(x, row, column)), bilinear_gradient(x, row, column)
    up, left = row.floor(), column.floor()
    corner = [pixel(x, up + i, left + j, "zero") for i in (0, 1) for j in (0, 1)]
    known = {
        "the two derivatives are exchanged: the one by row comes first": expected.flip(0),
        "the sign is wrong: below minus above, right minus left": -expected,
        "this is the step between two pixels; mix the steps of the left and the right (the upper and the lower) pair": (
            torch.stack((corner[2] - corner[0], corner[1] - corner[0]))
        ),
        "the steps are mixed with the weights of the wrong axis: the step down is mixed across": torch.stack(
            (
                (1 - row + up) * (corner[2] - corner[0]) + (row - up) * (corner[3] - corner[1]),
                (1 - column + left) * (corner[1] - corner[0]) + (column - left) * (corner[3] - corner[2]),
            )
        ),
        "this is the step from the place itself to one pixel on; the slope is that between the pixels around it": (
            torch.stack((sampled(x, row + 1, column), sampled(x, row, column + 1))) - sampled(x, row, column)
        ),
        "this is a step of a pixel around the place; the slope is that between the two pixels around it": torch.stack(
            (
                sampled(x, row + 0.5, column) - sampled(x, row - 0.5, column),
                sampled(x, row, column + 0.5) - sampled(x, row, column - 0.5),
            )
        ),
    }
    agree_both(found, expected.unbind(), "the derivative by {}", "channel, place", known)
    right("the derivatives by row and column, as autograd finds them")


# ------------------------------------------------------------------------------------------------- part 3, taps


def places(offset: Tensor, first: int = -1, by_column: bool = False) -> tuple[Tensor, Tensor]:
    """Where the nine taps of each pixel fall (9, H, W). first, by_column: wrong variants."""
    _, height, width = offset.shape
    k = torch.arange(9)[:, None, None]
    down, across = (k % 3, k // 3) if by_column else (k // 3, k % 3)
    rows = torch.arange(height)[:, None] + down + first + offset[0::2]
    return rows, torch.arange(width) + across + first + offset[1::2]


def check_taps(taps: Callable) -> None:
    offset = torch.arange(18.0)[:, None, None] / 100 + torch.zeros(18, 2, 3)
    offset[0, 1, 2] = 5
    in_halves = torch.stack((offset[:9], offset[9:]), 1).flatten(0, 1)
    swapped = offset.view(9, 2, 2, 3).flip(1).reshape(18, 2, 3)
    known = {
        "Δrow and Δcolumn are exchanged: of each pair the row comes first": torch.stack(places(swapped)),
        "the 18 offsets were read as nine rows and then nine columns; they come in pairs, tap after tap": (
            torch.stack(places(in_halves))
        ),
        "the middle tap must stand on the pixel itself: the steps are −1, 0, 1, not 0, 1, 2": torch.stack(
            places(offset, 0)
        ),
        "tap 1 stands below tap 0; the taps run along the rows: k // 3 goes down, k % 3 across": (
            torch.stack(places(offset, by_column=True))
        ),
        "the offsets are subtracted": torch.stack(places(-offset)),
        "these are the offsets without the regular grid": torch.stack((offset[0::2], offset[1::2])),
        "the offsets are missing": torch.stack(places(0 * offset)),
        "the pixel's own place is missing: row and column of the pixel + step of the tap + offset": (
            torch.stack(places(offset))
            - torch.stack(torch.meshgrid(torch.arange(2), torch.arange(3), indexing="ij"))[:, None]
        ),
    }
    agree_both(taps(offset), places(offset), "the {} of the place", "tap, row, column", known)
    by_package = [p[0, ..., 0].permute(2, 0, 1) for p in tap_places(offset[None], (3, 3), padding=1)]
    agree(torch.stack(taps(offset)), torch.stack(by_package), "the place", "rows or columns, tap, row, column")
    same_dtype(taps(offset.double())[0], "offset")
    right("where the taps fall")


# ------------------------------------------------------------------------------------------------- part 4, convolution


def check_deform_conv(deform_conv: Callable, bilinear: Callable, taps: Callable) -> None:
    try:
        check_values(deform_conv)
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
    plain = lambda w, b: F.conv2d(x[None], w, b, padding=1)[0]  # noqa: E731
    known = {
        "the bias is missing": plain(weight, None),
        "the kernel is turned around: weight[..., 0, 0] belongs to tap 0, the upper left one": (
            plain(weight.flip(2, 3), bias)
        ),
        "the kernel is transposed: tap k has the weight [..., k // 3, k % 3]": plain(weight.transpose(2, 3), bias),
        "weight is (C_out, C, 3, 3): the sum runs over the second axis, not the first": plain(
            weight.transpose(0, 1), bias
        ),
        "the taps are averaged; they must be added up": plain(weight / 9, bias),
    }
    agree(
        deform_conv(x, 0 * offset, weight, bias), plain(weight, bias), "with offsets 0", "channel, row, column", known
    )

    deformed = lambda o: deform_conv2d(x[None], o[None], weight, bias, padding=1)[0]  # noqa: E731
    known = {
        "the offsets change nothing: this is the plain convolution": plain(weight, bias),
        "Δrow and Δcolumn are exchanged": deformed(offset.view(9, 2, 5, 6).flip(1).reshape(18, 5, 6)),
        "the places were rounded: read them with `bilinear`": deformed(offset.round()),
    }
    found = deform_conv(x, offset, weight, bias)
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
    if not out.requires_grad:
        raise Mistake("no gradient flows at all: is there a .detach(), a no_grad or a copy into a new tensor?")
    for name, found in zip(
        inputs, torch.autograd.grad(out.sum(), tuple(inputs.values()), allow_unused=True), strict=True
    ):
        if found is None or not found.any():
            why = ": a place was rounded or detached before its weights were taken" if name == "offset" else ""
            raise Mistake(f"no gradient reaches {name}{why}")
    if not torch.autograd.gradcheck(deform_conv, tuple(inputs.values()), raise_exception=False):
        raise Mistake("the gradient is not that of the values: gradcheck compares it with differences of your function")
