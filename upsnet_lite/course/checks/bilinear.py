"""Exercise 2, parts 1 and 2, the value between the pixels and its slope: the visible checks.

Shapes   x (C, H, W)   row, column (P,) places in pixels
"""

from collections.abc import Callable, Mapping
from functools import wraps
from unittest.mock import patch

import torch
from torch import Tensor

from upsnet_lite import deform_conv
from upsnet_lite.course.feedback import Mistake, Without, agree, known_as, right, same, tried

FIRST = "row 0 and column 0 belong to the map: they are inside, >= 0 and not > 0"
LAST = "the last row and column belong to the map: they are inside, < height and < width"
READY = {
    "aten::grid_sampler_2d": "F.grid_sample does it all: write the four pixels and their weights down by hand",
    "torchvision::deform_conv2d": "torchvision's deform_conv2d does it all: build it from `taps` and `bilinear`",
}


def by_hand(function: Callable) -> Callable:
    """The function, in whose calls an operator that does it all is a Mistake, and the package's convolution, too."""

    def ours(*args, **kwargs):
        raise Mistake("the package's deform_conv2d does it all: build it from `taps` and `bilinear`")

    @wraps(function)
    def called(*args):
        with Without(READY), patch.object(deform_conv, "tap_places", ours):
            return function(*args)

    return called


# ------------------------------------------------------------------------------------------------- part 1, bilinear


def pixel(x: Tensor, row: Tensor, column: Tensor, outside: str = "zero") -> Tensor:
    """x at whole places (C, P), 0 outside of the map.

    outside: a wrong variant: "repeat" the border, "wrap" around, count a row and column too many at the end ("late"),
    or leave out the last ("short") or the first ("early").
    """
    height, width = x.shape[1:]
    first, last = int(outside == "early"), 1 + (outside == "short") - (outside == "late")
    within = (row >= first) & (row <= height - last) & (column >= first) & (column <= width - last)
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


def on_map(x: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Which places (P,) lie between the middles of the map's outermost pixels."""
    height, width = x.shape[1:]
    return (row >= 0) & (row <= height - 1) & (column >= 0) & (column <= width - 1)


def example() -> Tensor:
    """Three channels (3, 5, 6): 10 · row + column, row · column, and one that is not bilinear as a whole."""
    row, column = torch.arange(5.0)[:, None], torch.arange(6.0)
    return torch.stack((10 * row + column, row * column, (row**2 * column + column**2) % 7))


def agree_at(
    found: Tensor, expected: Tensor, row: Tensor, column: Tensor, what: str, known: Mapping[str, Tensor]
) -> None:
    """Values (C, P) agree, place by place: "the value at row 1.25, column 2.5, channel 0: 12, expected 15"."""
    if found.shape != expected.shape or known_as(found, known):
        agree(found, expected, what, "channel, place", known)
    for i, (r, c) in enumerate(zip(row.tolist(), column.tolist(), strict=True)):
        for channel, (a, b) in enumerate(zip(found[:, i], expected[:, i], strict=True)):
            agree(a, b, f"{what} at row {r:g}, column {c:g}, channel {channel}")


def check_bilinear(bilinear: Callable) -> None:
    bilinear = by_hand(bilinear)
    check_inside(bilinear)
    check_outside(bilinear)
    x = example().double().requires_grad_()
    row, column = (torch.tensor([0.25, -0.5], dtype=torch.float64, requires_grad=True) for _ in range(2))
    found = bilinear(x, row, column)
    same_dtype(found, "x")
    reached(found, {"x": x, "row": row, "column": column})
    row, column = (torch.tensor([1.0], dtype=torch.float64, requires_grad=True) for _ in range(2))
    slope = torch.autograd.grad(bilinear(x, row, column).sum(), (row, column), allow_unused=True)
    if not all(s is not None and s.any() for s in slope):
        raise Mistake(
            "at a whole row or column the place gets no gradient, and offsets that begin at 0 would never learn: mix "
            "r0 and r0 + 1 there, too; ceil(r) for r0 + 1, a shortcut for whole places, relu(1 − |r − i|) have no slope"
        )
    right("bilinear, inside and outside")


def check_inside(bilinear: Callable) -> None:
    x = example()
    row, column = torch.tensor([1.25, 3.0, 0.5, 2.75, 3.25]), torch.tensor([2.5, 4.0, 1.75, 0.0, 4.75])
    expected = sampled(x, row, column)
    up, left = row.floor(), column.floor()
    dr, dc = row - up, column - left
    exchanged = "rows and columns are exchanged: x is indexed [channel, row, column]"
    weights = "the weights are exchanged: a pixel counts the more, the nearer it is"
    known = {
        exchanged: sampled(x, column, row),
        "this is the nearest pixel; mix the four around the place": pixel(x, row.round(), column.round()),
        "this is the pixel to the upper left; mix the four around the place": pixel(x, up, left),
        weights: sampled(x, up + 1 - dr, left + 1 - dc),
        f"{weights} (here those by row)": sampled(x, up + 1 - dr, column),
        f"{weights} (here those by column)": sampled(x, row, left + 1 - dc),
        "dr and dc are exchanged: dr mixes the two rows, dc the two columns": sampled(x, up + dc, left + dr),
        "dr was taken for both axes: dr mixes the two rows, dc the two columns": sampled(x, row, left + dr),
        "dc was taken for both axes: dr mixes the two rows, dc the two columns": sampled(x, up + dc, column),
        "the weights by column are missing: 1 − dc and dc": sampled(x, row, left) + sampled(x, row, left + 1),
        "the weights by row are missing: 1 − dr and dr": sampled(x, up, column) + sampled(x, up + 1, column),
        LAST: sampled(x, row, column, outside="short"),
        "height and width are exchanged: x.shape is (C, H, W)": sampled(x[:, :, :5], row, column),
        "r0 is the floor, not the nearest: dr and dc lie between 0 and 1": sampled(x, row, column, low=torch.round),
        "these are the values half a pixel further up and left: here a pixel's place is its middle": sampled(
            x, row - 0.5, column - 0.5
        ),
        FIRST: sampled(x, row, column, outside="early"),
    }
    hints = {
        "tensors used as indices": "indices must be whole numbers: r0.long()",
        "out of bounds for dimension 0 with size 3": "x has the axes (channel, row, column): x[:, r, c]",
        "out of bounds": exchanged,
    }
    found = tried(bilinear, x, row, column, on="places on a map of 3 × 5 × 6", hints=hints)
    agree_at(found, expected, row, column, "the value", known)


def check_outside(bilinear: Callable) -> None:
    x = example()
    row = torch.tensor([-0.5, 4.25, 2.0, -1.0, -3.0, 9.0, 1.5])
    column = torch.tensor([4.0, 2.0, 5.25, 0.0, 2.0, 9.0, -0.25])
    hint = (
        "where a pixel is outside of the map, read some valid one and give it the weight 0, or frame the map with "
        "zeros (are height and width exchanged? x.shape is (C, H, W))"
    )
    where = "places outside of the map, or with neighbours outside"
    found = tried(bilinear, x, row, column, on=where, hints={"IndexError": hint, "RuntimeError": hint})
    expected = sampled(x, row, column)
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
        "the pixels outside are 0, not the whole place: less than one outside, it still gets its share of the edge": (
            expected * on_map(x, row, column)
        ),
        "row H and column W are outside: the last ones are H − 1 and W − 1": sampled(x, row, column, outside="late"),
        LAST: sampled(x, row, column, outside="short"),
        "the weights were made to add up to 1 without the pixels outside; these are 0, and keep their weights": (
            (expected / sampled(torch.ones_like(x), row, column)).nan_to_num(0)
        ),
        FIRST: sampled(x, row, column, outside="early"),
    }
    agree_at(found, expected, row, column, "at the border, the value", known)


def reached(found: Tensor, inputs: Mapping[str, Tensor]) -> None:
    """Mistake unless a gradient goes from what was found to each of the inputs."""
    if not found.requires_grad:
        raise Mistake("no gradient flows at all: is there a .detach(), a no_grad or a copy into a new tensor?")
    gradients = torch.autograd.grad(found.sum(), tuple(inputs.values()), allow_unused=True)
    for name, gradient in zip(inputs, gradients, strict=True):
        if gradient is None or not gradient.any():
            why = "" if name in ("x", "weight", "bias") else ": was a place rounded or detached before its weights?"
            raise Mistake(f"no gradient reaches {name}{why}")


def same_dtype(found: Tensor, of: str) -> None:
    """Mistake unless a result from float64 is float64: part 4 checks the gradient in it."""
    if found.dtype != torch.float64:
        kind = str(found.dtype).removeprefix("torch.")
        raise Mistake(
            f"{of} was float64 and your result is {kind}: torch.zeros and torch.arange make a dtype of their own; "
            f"{of}.new_zeros(...) takes that of {of}"
        )


# ------------------------------------------------------------------------------------------------- part 2, gradient


def slopes(x: Tensor, row: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
    """The derivatives of `sampled`, by autograd, one channel at a time."""
    row, column = row.clone().requires_grad_(), column.clone().requires_grad_()
    found = [torch.autograd.grad(v.sum(), (row, column), retain_graph=True) for v in sampled(x, row, column)]
    by_row, by_column = zip(*found, strict=True)
    return torch.stack(by_row), torch.stack(by_column)


def check_bilinear_gradient(bilinear_gradient: Callable) -> None:
    x = example()
    row, column = torch.tensor([1.25, 3.75, 0.5, -0.25, 1.75]), torch.tensor([2.5, 4.25, 1.75, 5.5, 5.25])
    expected = torch.stack(slopes(x, row, column))
    hints = {"require grad": "autograd is switched off here: write the two derivatives down by hand"}
    with torch.no_grad():
        found = tried(bilinear_gradient, x, row, column, on="places on the map and at its border", hints=hints)
    found = torch.stack(found)
    if not same(found, expected) and torch.allclose(found, expected, rtol=0.02, atol=0.02):
        raise Mistake(
            "about right: is this a difference over a small step? float32 rounds it; the slope is exact by hand"
        )
    for i, which in enumerate(("row", "column")):
        known = {mistake: wrong[i] for mistake, wrong in wrong_slopes(x, row, column, expected).items()}
        agree_at(found[i], expected[i], row, column, f"the derivative by {which}", known)
    right("the derivatives by row and column, as autograd finds them")


def wrong_slopes(x: Tensor, row: Tensor, column: Tensor, expected: Tensor) -> dict[str, Tensor]:
    """What well-known mistakes give instead, (2, C, P) each."""
    up, left = row.floor(), column.floor()
    dr, dc = row - up, column - left

    def steps(at_row: Tensor, at_column: Tensor, outside: str = "zero") -> Tensor:
        """The steps from row `up` to the next at some columns, and from column `left` to the next at some rows."""
        down = sampled(x, up + 1, at_column, outside=outside) - sampled(x, up, at_column, outside=outside)
        across = sampled(x, at_row, left + 1, outside=outside) - sampled(x, at_row, left, outside=outside)
        return torch.stack((down, across))

    def around(half: float) -> Tensor:
        """The slope between half a step before the place and half a step after it."""
        down = sampled(x, row + half, column) - sampled(x, row - half, column)
        across = sampled(x, row, column + half) - sampled(x, row, column - half)
        return torch.stack((down, across)) / (2 * half)

    return {
        "the two derivatives are exchanged: the one by row comes first": expected.flip(0),
        "the sign is wrong: below minus above, right minus left": -expected,
        "this is the step between two pixels; mix the steps of the left and the right (the upper and the lower) pair": (
            steps(up, left)
        ),
        "the steps are mixed with the weights of the wrong axis: the step down is mixed across": (
            steps(up + dc, left + dr)
        ),
        "the weights are exchanged: of two steps the nearer counts more": steps(up + 1 - dr, left + 1 - dc),
        "this is the step from the place itself to one pixel on; the slope is that between the pixels around it": (
            torch.stack((sampled(x, row + 1, column), sampled(x, row, column + 1))) - sampled(x, row, column)
        ),
        "this is the difference over half a pixel to each side; the slope is that between the pixels around": (
            around(0.5)
        ),
        "this is the difference over a whole pixel to each side; the slope is that between the pixels around": (
            around(1.0)
        ),
        "outside of the map there is 0, here too; yours repeats the border": steps(row, column, "repeat"),
        "a place less than a pixel outside of the map has a slope, too: its neighbours on the map count": (
            expected * on_map(x, row, column)
        ),
        "−0.25 was rounded to 0: .long() and .int() cut towards 0, .floor() goes down to −1": torch.stack(
            (
                sampled(x, row.trunc() + 1, column) - sampled(x, row.trunc(), column),
                sampled(x, row, column.trunc() + 1) - sampled(x, row, column.trunc()),
            )
        ),
    }
