"""Exercise 5: which pixels a box covers, x_mask and y_mask.

The mistakes that people make with boxes are boxes themselves: `misread` lists them, and what a mask would be with each.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from upsnet_lite import panoptic_head
from upsnet_lite.course.feedback import Mistake, agree, known_as, right, same, tried

Edges = tuple[int, int, int, int]
INSTANCE = "instance, row, column"

TOO_FAR = "the right and the lower edge lie one pixel too far: x1 and y1 are exclusive; did you add 1?"
TOO_SHORT = "the last column and row are missing where x1 or y1 is a fraction: ceil, not floor or int()"
LAST = "the last column and row are missing: x1 and y1 are exclusive already; did you subtract 1?"
ROUNDED = "the edges are rounded: x0 and y0 go down (floor), x1 and y1 go up (ceil)"
SWAPPED = "x and y are swapped: a box is (x0, y0, x1, y1), a tensor is indexed [row, column] = [y, x]"
AS_XYWH = "the box is read as (x, y, width, height): it is (x0, y0, x1, y1)"
TOWARDS_0 = "int() cuts towards 0: the floor of -1.5 is -2"
CLIPPED = "the box is cut at the map's edge: keep the edges of the whole box, y_mask needs its full size"
NO_EXTENT = "a box without extent (x1 <= x0 or y1 <= y0) covers no pixel at all"


def misread(boxes: Float[Tensor, "N_inst 4"]) -> dict[str, Float[Tensor, "N_inst 4"]]:
    """What to say -> the boxes that this mistake makes of these."""
    low, high = boxes[:, :2].floor(), boxes[:, 2:].ceil()
    return {
        TOO_FAR: torch.cat((low, high + 1), 1),
        TOO_SHORT: torch.cat((low, boxes[:, 2:].floor()), 1),
        LAST: torch.cat((low, high - 1), 1),
        ROUNDED: boxes.round(),
        SWAPPED: boxes[:, [1, 0, 3, 2]],
        AS_XYWH: torch.cat((low, low + boxes[:, 2:]), 1),
    }


# ------------------------------------------------------------------------------------------------------- edges


def check_edges(edges: Callable) -> None:
    """floor and ceil; below 0; no extent."""
    box = torch.tensor([2.6, 1.2, 4.4, 3.0])
    wrong = {TOO_SHORT: (2, 1, 4, 3), LAST: (2, 1, 4, 2), ROUNDED: (3, 1, 4, 3), TOO_FAR: (2, 1, 6, 4)}
    wrong |= {SWAPPED: (1, 2, 3, 5), AS_XYWH: (2, 1, 3, 2)}
    _edges(edges, box, (2, 1, 5, 3), wrong)
    _edges(edges, torch.tensor([1.0, 1, 4, 4]), (1, 1, 4, 4), {TOO_FAR: (1, 1, 5, 5), LAST: (1, 1, 3, 3)})
    wrong = {TOWARDS_0: (-1, 0, 2, 2), CLIPPED: (0, 0, 2, 2)}
    _edges(edges, torch.tensor([-1.5, -0.5, 2, 2]), (-2, -1, 2, 2), wrong)
    _edges(edges, torch.tensor([2.5, 1, 2.5, 4]), (0, 0, 0, 0), {NO_EXTENT: (2, 1, 3, 4)})
    _edges(edges, torch.tensor([3.0, 1, 5, 1]), (0, 0, 0, 0), {NO_EXTENT: (3, 1, 5, 1)})
    _edges(edges, torch.tensor([5.5, 1, 3, 4]), (0, 0, 0, 0), {NO_EXTENT: (5, 1, 3, 4)})
    right("edges: floor and ceil, below 0, without extent")


def _edges(edges: Callable, box: Float[Tensor, "4"], expected: Edges, wrong: dict[str, Edges]) -> None:
    found, written = edges(box), tuple(round(v, 1) for v in box.tolist())
    for mistake, answer in wrong.items():
        if found == answer:
            raise Mistake(f"edges{written} is {found}, expected {expected}: {mistake}")
    if found != expected:
        raise Mistake(f"edges{written} is {found}, expected {expected}")


# ------------------------------------------------------------------------------------------------------ x_mask


def check_x_mask(x_mask: Callable) -> None:
    """Two boxes inside; at the border; no extent or outside; no instance; gradient."""
    x_thing = torch.arange(1.0, 91).view(3, 5, 6)
    boxes, classes = torch.tensor([[1.6, 0.0, 4.2, 2.4], [2.0, 1, 5, 4]]), torch.tensor([1, 0])

    def cut(boxes: Tensor, classes: Tensor = classes) -> Tensor:
        return panoptic_head.x_mask(x_thing, boxes, classes)

    known = {mistake: cut(wrong) for mistake, wrong in misread(boxes).items()}
    known["nothing is cut: x_mask is x_thing[C_i] inside the box and 0 outside"] = x_thing[classes]
    known["outside the box it is -inf: the panoptic head adds, it needs 0"] = torch.where(
        panoptic_head.inside(boxes, (5, 6)), x_thing[classes], -torch.inf
    )
    for shift in (-1, 1):
        shifted = f"each instance shows the class {'before' if shift < 0 else 'after'} its own: C counts things from 0"
        known[f"{shifted}, background is not among them"] = cut(boxes, (classes + shift) % 3)
    known["instance i shows the class i; its class is C_i"] = cut(boxes, torch.arange(2))
    known["every instance shows class 0; its class is C_i"] = cut(boxes, 0 * classes)
    _compare(x_mask(x_thing, boxes, classes), boxes, cut(boxes), "x_mask", known)

    def sliced(boxes: Tensor) -> Tensor:
        """As Python reads the edges of a box, the negative ones from the end."""
        wrapped = torch.zeros(2, 5, 6)
        for i, (x0, y0, x1, y1) in enumerate(boxes.int().tolist()):
            wrapped[i, y0:y1, x0:x1] = x_thing[classes[i], y0:y1, x0:x1]
        return wrapped

    border = torch.tensor([[-2.0, -1, 2, 3], [4.0, 3, 9, 8]])
    negative = "a box that begins outside comes out wrong: in Python a negative start counts from the end; cut it at 0"
    found = tried(x_mask, x_thing, border, classes, on="boxes that stick out of the map")
    _compare(found, border, cut(border), "x_mask of a box at the border", {negative: sliced(border)})

    before = torch.tensor([[-4.0, 1, -2, 3], [1.0, -5, 4, -1]])
    wrapped = sliced(torch.cat((before[:, :2].clamp(min=0), before[:, 2:]), 1))
    negative = "a box left of the map or above it covers nothing: in Python a negative end counts from the end, too"
    found = tried(x_mask, x_thing, before, classes, on="boxes left of the map and above it")
    _compare(found, before, cut(before), "x_mask of a box left of the map or above it", {negative: wrapped})

    empty = torch.tensor([[2.5, 1, 2.5, 4], [7.0, 1, 9, 3]])
    found = tried(x_mask, x_thing, empty, classes, on="a box without extent and one outside the map")
    _compare(found, empty, cut(empty), "x_mask of a box that covers nothing", {NO_EXTENT: _one_column(cut, empty)})

    found = tried(x_mask, x_thing, torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), on="no instance at all")
    agree(found, torch.zeros(0, 5, 6), "x_mask of no instance")
    _gradient(lambda x: x_mask(x, boxes, classes), x_thing, "x_thing")
    right("x_mask: inside, at the border, outside, without extent, without instances, gradient")


def _one_column(cut: Callable, boxes: Tensor) -> Tensor:
    """With the first box's column taken though it has no extent."""
    return cut(torch.cat((boxes[:, :2].floor(), boxes[:, 2:].ceil()), 1))


# ------------------------------------------------------------------------------------------------------ y_mask


def check_y_mask(y_mask: Callable) -> None:
    """Inside; at the border; a large Y in a small box; no extent or outside; no instance; gradient."""
    y, size = torch.tensor([[[-3.0, 2], [2, 4]], [[1.0, 5], [-2, 3]]]), (5, 8)
    boxes = torch.tensor([[1.6, 0.0, 4.2, 4.0], [2.0, 1, 7, 4]])

    def paste(boxes: Tensor, y: Tensor = y) -> Tensor:
        return panoptic_head.y_mask(y, boxes, size)

    inside = panoptic_head.inside(boxes, size)
    known = {mistake: paste(wrong) for mistake, wrong in misread(boxes).items()}
    known["the corners hold Y's own corners: did you resize with align_corners=True?"] = _resized(
        y, boxes, size, mode="bilinear", align_corners=True
    )
    known["Y is enlarged in blocks: mode='bilinear', not 'nearest'"] = _resized(y, boxes, size, mode="nearest")
    known["between the stages there are logits: no sigmoid before the resize"] = paste(boxes, y.sigmoid())
    known["between the stages there are logits: no sigmoid"] = paste(boxes).sigmoid() * inside
    whole = F.interpolate(y[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    known["Y is spread over the whole map: resize it to its box"] = whole
    known["Y is resized to the map and then cut: resize it to its box"] = whole * inside
    _compare(y_mask(y, boxes, size), boxes, paste(boxes), "y_mask", known)

    border = torch.tensor([[-2.0, -1, 2, 3], [5.0, 3, 11, 7]])
    squeezed = paste(torch.cat((border[:, :2].clamp(min=0), torch.minimum(border[:, 2:], torch.tensor([8.0, 5]))), 1))
    early = "Y is squeezed into the part of the box that lies on the map: resize to the whole box first, then crop"
    found = tried(y_mask, y, border, size, on="boxes that stick out of the map")
    _compare(found, border, paste(border), "y_mask of a box at the border", {early: squeezed})

    large = torch.linspace(-4, 4, 28 * 28).view(1, 28, 28) ** 3
    one = torch.tensor([[2.0, 1, 5, 4]])
    smooth = _resized(large, one, size, mode="bilinear", align_corners=False, antialias=True)
    known = {"a large Y is averaged in a small box: resize without antialias": smooth}
    _compare(y_mask(large, one, size), one, paste(one, large), "y_mask of a 28 x 28 Y in a 3 x 3 box", known)

    empty = torch.tensor([[2.5, 1, 2.5, 4], [9.0, 1, 12, 3]])
    found = tried(y_mask, y, empty, size, on="a box without extent and one outside the map")
    _compare(found, empty, paste(empty), "y_mask of a box that covers nothing", {NO_EXTENT: _one_column(paste, empty)})

    found = tried(y_mask, y[:0], boxes[:0], size, on="no instance at all")
    agree(found, torch.zeros(0, *size), "y_mask of no instance")
    _gradient(lambda y: y_mask(y, boxes, size), y, "mask_logits")
    right("y_mask: inside, at the border, small, outside, without extent, without instances, gradient")


def _resized(y: Float[Tensor, "N_inst h w"], boxes: Tensor, size: tuple[int, int], **how) -> Tensor:
    """y_mask of boxes inside the map with another kind of resizing."""
    pasted = y.new_zeros(len(y), *size)
    for i, (x0, y0, x1, y1) in enumerate(panoptic_head.box_edges(boxes)):
        pasted[i, y0:y1, x0:x1] = F.interpolate(y[None, i : i + 1], (y1 - y0, x1 - x0), **how)[0, 0]
    return pasted


# ------------------------------------------------------------------------------------------------------ shared


def _compare(found: Tensor, boxes: Tensor, expected: Tensor, what: str, known: dict[str, Tensor]) -> None:
    """A known mistake by its name; else a value outside a box; else the first difference."""
    if not same(found, expected):
        if mistake := known_as(found, known):
            raise Mistake(f"{what}: {mistake}")
        if found.shape == expected.shape:
            _zero_outside(found, panoptic_head.inside(boxes, tuple(expected.shape[1:])), what)
    agree(found, expected, what, INSTANCE)


def _zero_outside(found: Float[Tensor, "N_inst H W"], inside: Bool[Tensor, "N_inst H W"], what: str) -> None:
    stray = ((found != 0) & ~inside).nonzero()
    if len(stray):
        i, row, column = stray[0].tolist()
        text = f"{what} is {found[i, row, column]:.4g} outside the box of instance {i} at row {row}, column {column}"
        raise Mistake(f"{text}: everything there must be 0; did you paste before cropping?")


def _gradient(function: Callable[[Tensor], Tensor], argument: Tensor, name: str) -> None:
    """The loss must reach what lies below: sum() of the result has a gradient."""
    argument = argument.clone().requires_grad_()
    found = tried(function, argument, on=f"a {name} that wants its gradient")
    if not found.requires_grad:
        raise Mistake(f"no gradient reaches {name}: stay in torch; no .item(), .numpy(), .detach() on the way")
