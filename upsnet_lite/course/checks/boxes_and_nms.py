"""Visible checks of exercise 4: decode deltas, IoU, NMS. Each knows what the usual mistakes give on its input.

Shapes   boxes (N, 4) xyxy    deltas (N, 4)    iou (N, M)    scores, classes (N,)    kept (K,) indices, best first
"""

import random
from collections.abc import Callable
from math import inf, log

import torch
from jaxtyping import Float
from torch import Tensor

from upsnet_lite.course.feedback import Mistake, agree, right, same
from upsnet_lite.course.variant import own, seed

LARGEST = log(1000 / 16)  # torchvision's: no delta stretches a side more than 62.5 times
BOX_HEAD = (10.0, 10.0, 5.0, 5.0)  # deltas are counted in tenths of a side and fifths of a logarithm
U, V, W = [0.0, 0, 3, 3], [0.0, 0, 3, 4], [1.0, 1, 4, 4]  # of lesson 04


# ------------------------------------------------------------------------------------------------------- deltas


def _decode(boxes, deltas, weights, start=0.5, weigh=torch.div, limit=LARGEST, first=inf, grow=torch.exp) -> Tensor:
    """Centre and size, by the equation or by a variant of it; `first` limits dw and dh before they are weighed."""
    size = boxes[:, 2:] - boxes[:, :2]
    d = weigh(torch.cat((deltas[:, :2], deltas[:, 2:].clamp(max=first)), 1), torch.tensor(weights))
    return torch.cat((boxes[:, :2] + start * size + d[:, :2] * size, size * grow(d[:, 2:].clamp(max=limit))), 1)


def _corners(centre_size: Tensor) -> Tensor:
    centre, size = centre_size.chunk(2, 1)
    return torch.cat((centre - size / 2, centre + size / 2), 1)


def _wrong_decodes(*given) -> dict[str, Tensor]:
    by_rule = _decode(*given)
    centre, size = by_rule.chunk(2, 1)
    return {
        "this is the centre and the size of each box; the two corners x0, y0, x1, y1 are asked for": by_rule,
        "this is the upper left corner and the size (xywh); x0, y0, x1, y1 are asked for (xyxy)": torch.cat(
            (centre - size / 2, size), 1
        ),
        "this is what you get when dx and dy move the upper left corner: they move the centre, which lies half a side "
        "further": _corners(_decode(*given, start=0)),
        "this is what you get when the new side is 1 + d times the old: it is e to the power of d times": _corners(
            _decode(*given, grow=lambda d: 1 + d)
        ),
        "the weights were multiplied with the deltas: the deltas are divided by them": _corners(
            _decode(*given, weigh=torch.mul)
        ),
        "the weights are not used: divide the deltas by them first": _corners(_decode(*given, weigh=lambda d, _: d)),
        "dw and dh are not limited: e to the power of a large delta is a box as wide as the world": _corners(
            _decode(*given, limit=inf)
        ),
        "the deltas were limited before they were divided by the weights: divide first": _corners(
            _decode(*given, first=LARGEST)
        ),
    }


def check_decode(decode: Callable) -> None:
    """decode(boxes, deltas, weights) -> boxes: one box by hand, the weights of the box head, a wild delta, no box."""
    one, ones = torch.tensor([[24.0, 24, 40, 44]]), (1.0, 1.0, 1.0, 1.0)
    halves = torch.tensor([[0.5, -0.25, log(2), 0.1]])
    wild = torch.tensor([[5.0, 6, 8, 9]])
    for deltas, weights, what in (
        (halves, ones, "the box of the deltas (0.5, -0.25, log 2, 0.1)"),
        (halves, BOX_HEAD, "the box of the same deltas with the weights (10, 10, 5, 5)"),
        (wild, ones, "the box of the deltas (5, 6, 8, 9)"),
        (5 * wild, BOX_HEAD, "the box of the deltas (25, 30, 40, 45) with the weights (10, 10, 5, 5)"),
    ):
        given = one.clone(), deltas.clone(), weights
        expected = _corners(_decode(one, deltas, weights))
        wrong = {f"{what}: {text}": v for text, v in _wrong_decodes(one, deltas, weights).items()}
        wrong |= {
            f"{what}: dx and dy were limited, too; only dw and dh are": _corners(
                _decode(one, deltas.clamp(max=LARGEST), weights)
            )
        }
        agree(decode(*given), expected, what, "box, corner", wrong)
        _untouched(given, (one, deltas), "decode")
    agree(decode(one[:0], halves[:0], ones), one[:0], "the decoded boxes of no box at all")
    right("decode: by hand, with the weights of the box head, with wild deltas, without a box")


def _untouched(given: tuple, before: tuple, name: str) -> None:
    for now, then in zip(given, before, strict=False):
        if not torch.equal(now, then):
            raise Mistake(f"{name} changed the tensors it was given: compute new ones, without += and [...] = on them")


# ---------------------------------------------------------------------------------------------------------- IoU


def _areas(boxes: Tensor, edge: float = 0) -> Tensor:
    return (boxes[:, 2] - boxes[:, 0] + edge) * (boxes[:, 3] - boxes[:, 1] + edge)


def _both(a: Tensor, b: Tensor, edge: float = 0, least: float = 0) -> Tensor:
    sides = torch.minimum(a[:, None, 2:], b[:, 2:]) - torch.maximum(a[:, None, :2], b[:, :2]) + edge
    return sides.clamp(min=least).prod(2)


def _iou(a: Tensor, b: Tensor, edge: float = 0, least: float = 0) -> Tensor:
    both = _both(a, b, edge, least)
    union = _areas(a, edge)[:, None] + _areas(b, edge) - both
    return torch.where(union > 0, both / union, 0.0)


def _wrong_ious(a: Tensor, b: Tensor) -> dict[str, Tensor]:
    both, areas = _both(a, b), (_areas(a)[:, None], _areas(b))
    sized_a, sized_b = (torch.cat((c[:, :2], c[:, :2] + c[:, 2:]), 1) for c in (a, b))
    return {
        "off by one at the edges: this is what x1 - x0 + 1 gives; here x1 lies one past the last pixel, so a side is "
        "x1 - x0": _iou(a, b, edge=1),
        "boxes that do not touch overlap here: two negative sides were multiplied; clamp each side at 0 first": _iou(
            a, b, least=-inf
        ),
        "the common part is counted twice in the union: subtract the intersection once": both / sum(areas),
        "this is divided by the smaller of the two areas: divide by the union": both / torch.minimum(*areas),
        "this reads the last two numbers as width and height (xywh): they are x1, y1 (xyxy)": _iou(sized_a, sized_b),
        "this is the intersection in pixels: divide by the union": both,
    }


def check_iou(box_iou: Callable) -> None:
    """box_iou(a, b) -> (N, M): the toy boxes, apart, one inside the other, without extent, none."""
    toy = torch.tensor([U, V, W])
    apart = torch.tensor([[4.0, 4, 5, 5], [0, 4, 1, 5]])
    for a, b, what in (
        (toy[:1], toy[1:], "IoU of U with V and W"),
        (toy, apart, "IoU of the toy boxes with two that lie apart from them"),
        (torch.tensor([[-2.0, -2, 6, 6]]), toy, "IoU of a large box with the toy boxes inside of it"),
    ):
        found, expected = box_iou(a.clone(), b.clone()), _iou(a, b)
        wrong = {f"{what}: {text}": v for text, v in _wrong_ious(a, b).items()}
        agree(found, expected, what, "box of a, box of b", wrong)
    nothing = torch.tensor([[2.0, 2, 2, 2], [2, 2, 2, 4]])
    found = box_iou(nothing, nothing)
    if found.isnan().any():
        raise Mistake("IoU of two boxes without extent is nan, 0 / 0: a union of nothing has IoU 0")
    agree(found, torch.zeros(2, 2), "IoU of boxes without extent", "box of a, box of b")
    agree(box_iou(toy[:0], toy), torch.zeros(0, 3), "IoU of no box with three")
    right("box_iou: overlapping, apart, inside, without extent, no box")


# ---------------------------------------------------------------------------------------------------------- NMS


def _nms(boxes, scores, limit, classes=None, equal_goes=False, dropped_count=False, falling=True) -> list[int]:
    """Greedy, by the rule or by a variant of it."""
    iou, kept = _iou(boxes, boxes), []
    order = scores.argsort(descending=falling, stable=True).tolist()
    for n, i in enumerate(order):
        rivals = order[:n] if dropped_count else kept
        rivals = [j for j in rivals if classes is None or classes[i] == classes[j]]
        if not any(iou[i, j] > limit or (equal_goes and iou[i, j] == limit) for j in rivals):
            kept.append(i)
    return kept


def _wrong_nms(*given) -> dict[str, list[int]]:
    boxes, scores, limit, classes = given
    kept, order = _nms(*given), scores.argsort(descending=True).tolist()
    wrong = {
        "a box whose IoU is exactly the limit was dropped: only one above it goes (> and not >=)": _nms(
            *given, equal_goes=True
        ),
        "a box was dropped by one that is dropped itself: only those that stay count": _nms(*given, dropped_count=True),
        "these are places in the sorted list: give the indices that the boxes had before you sorted them": [
            order.index(i) for i in kept
        ],
        "the right boxes in the wrong order: best score first": sorted(kept),
        "it begins with the lowest score: sort in falling order": _nms(*given, falling=False),
        "all boxes are returned: none was dropped": order,
    }
    if classes is None:
        return wrong
    kept_once = [i for c in classes.unique() for i in kept if classes[i] == c]
    return {
        "boxes of different classes suppress each other: with classes, only rivals of the same class do": _nms(
            boxes, scores, limit
        ),
        "the right boxes, class after class: best score first, whatever the class": kept_once,
    } | wrong


def check_nms(nms: Callable) -> None:
    """nms(boxes, scores, limit, classes): toy boxes, a chain, an IoU at the limit, classes, no box."""
    toy = torch.tensor([V, W, U])
    chain = torch.tensor([[0.0, 0, 4, 4], [0, 1, 4, 5], [0, 2, 4, 6], [9, 9, 12, 12]])
    half = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 2]])
    falling, mixed = torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.tensor([0.8, 0.9, 0.5, 0.7])
    pairs = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 4], [0, 0, 4, 5], [9, 9, 12, 12]])
    for boxes, scores, limit, classes, what in (
        (toy, torch.tensor([0.8, 0.7, 0.9]), 0.7, None, "NMS of V, W, U with the scores 0.8, 0.7, 0.9"),
        (chain, falling, 0.5, None, "NMS of a chain: the first overlaps the second, the second the third"),
        (half, falling[:2], 0.5, None, "NMS at 0.5 of two boxes with an IoU of exactly 0.5"),
        (pairs, mixed, 0.5, None, "NMS of four boxes without classes"),
        (pairs, mixed, 0.5, torch.tensor([1, 0, 1, 0]), "NMS of four boxes of the classes 1, 0, 1, 0"),
    ):
        given = boxes.clone(), scores.clone(), limit, classes
        expected = _nms(boxes, scores, limit, classes)
        wrong = {f"{what}: {text}": v for text, v in _wrong_nms(boxes, scores, limit, classes).items()}
        agree(nms(*given), expected, what, "place", wrong)
        _untouched(given, (boxes, scores), "nms")
    agree(nms(toy[:0], falling[:0], 0.5, None), toy[:0, 0].long(), "NMS of no box")
    right("nms: best first, a chain, at the limit, within classes, no box")


# ------------------------------------------------------------------------------------------------------ by hand


def my_boxes(student: str) -> Float[Tensor, "3 4"]:
    """U, V, W of one student: whole pixels of a 5 x 5 grid, V and W overlap U in part."""
    return _boxes(seed(student))


def _boxes(number: int) -> Tensor:
    rng = random.Random(number)
    drawn: list[list[float]] = []
    while len(drawn) < 3:
        (x0, x1), (y0, y1) = (sorted(rng.sample(range(6), 2)) for _ in "xy")
        box = [float(v) for v in (x0, y0, x1, y1)]
        share = _iou(torch.tensor([drawn[0]]), torch.tensor([box])).item() if drawn else (x1 - x0) * (y1 - y0) >= 6
        if share and box not in drawn:
            drawn.append(box)
    return torch.tensor(drawn)


def check_by_hand(ious: Callable, student: str) -> None:
    """ious() -> IoU(U, V) and IoU(U, W) of the student's own boxes."""
    found, boxes, what = ious(), my_boxes(student), "IoU(U, V) and IoU(U, W)"
    if not same(found, _iou(boxes[:1], boxes[1:])[0]):
        for mistake, wrong in _wrong_ious(boxes[:1], boxes[1:]).items():
            if same(found, wrong[0]):
                raise Mistake(f"{what}: {mistake}")
    own(found, lambda number: _iou(_boxes(number)[:1], _boxes(number)[1:])[0], student, what)
    right(f"{what} of the boxes of {student}")
