"""Visible checks of exercise 4: decode deltas, IoU, NMS. Each knows what the usual mistakes give on its input.

Shapes   boxes (N, 4) xyxy    deltas (N, 4)    iou (N, M)    scores, classes (N,)    kept (K,) indices, best first
"""

import random
from collections.abc import Callable
from math import inf, log

import torch
from jaxtyping import Float
from torch import Tensor

from upsnet_lite.course.feedback import Mistake, agree, known_as, right, said_of, same, tried
from upsnet_lite.course.variant import own, seed

LARGEST = log(1000 / 16)  # torchvision's: no delta stretches a side more than 62.5 times
BOX_HEAD = (10.0, 10.0, 5.0, 5.0)  # deltas are counted in tenths of a side and fifths of a logarithm
U, V, W = [0.0, 0, 3, 3], [0.0, 0, 3, 4], [1.0, 1, 4, 4]  # of lesson 04


# ------------------------------------------------------------------------------------------------------- deltas


def _decode(
    boxes, deltas, weights, weigh=torch.div, least=-inf, limit=LARGEST, grow=torch.exp, step=lambda old, new: old
) -> Tensor:
    """Centre and size, by the equation or by a variant of it; dx and dy count in `step` of the old and new sides."""
    old = boxes[:, 2:] - boxes[:, :2]
    d = weigh(deltas, torch.tensor(weights))
    new = old * grow(d[:, 2:].clamp(least, limit))
    return torch.cat((boxes[:, :2] + old / 2 + d[:, :2] * step(old, new), new), 1)


def _corners(centre_size: Tensor) -> Tensor:
    centre, size = centre_size.chunk(2, 1)
    return torch.cat((centre - size / 2, centre + size / 2), 1)


def _wrong_decodes(boxes, deltas, weights) -> dict[str, Tensor]:
    given, rest = (boxes, deltas, weights), (deltas, weights)
    by_rule = _decode(*given)
    centre, size = by_rule.chunk(2, 1)
    half = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2) / 2
    wider = _decode(boxes + torch.tensor([0, 0, 1, 1]), *rest)
    edge = "off by one: this is what you get with sides of x1 - x0 + 1; a side is x1 - x0"
    limited = deltas.clamp(max=LARGEST)
    return {
        "this is the centre and the size of each box; the two corners x0, y0, x1, y1 are asked for": by_rule,
        "this is the upper left corner and the size (xywh); x0, y0, x1, y1 are asked for (xyxy)": torch.cat(
            (centre - size / 2, size), 1
        ),
        "this is what you get when dx and dy move the upper left corner: they move the centre, which lies half a side "
        "further": _corners(_decode(boxes - half, *rest)),
        "this is what you get when the new side is 1 + d times the old: it is e to the power of d times": _corners(
            _decode(*given, grow=lambda d: 1 + d)
        ),
        "the exponential is missing: the new side is e to the power of d times the old, not d times": _corners(
            _decode(*given, grow=lambda d: d)
        ),
        "the centre was moved by the new sides: dx and dy count in sides of the box as it was before": _corners(
            _decode(*given, step=lambda old, new: new)
        ),
        "dx was counted in heights and dy in widths: dx goes with the width": _corners(
            _decode(*given, step=lambda old, new: old.flip(1))
        ),
        edge: _corners(wider),
        f"{edge} (your centre is right)": _corners(wider - torch.tensor([0.5, 0.5, 0, 0])),
        "small dw and dh were limited, too; only large ones are": _corners(_decode(*given, least=-LARGEST)),
        "the weights were multiplied with the deltas: the deltas are divided by them": _corners(
            _decode(*given, weigh=torch.mul)
        ),
        "the weights are not used: divide the deltas by them first": _corners(_decode(*given, weigh=lambda d, _: d)),
        "dw and dh are not limited: e to the power of a large delta is a box as wide as the world": _corners(
            _decode(*given, limit=inf)
        ),
        "the deltas were limited before they were divided by the weights: divide first": _corners(
            _decode(boxes, torch.cat((deltas[:, :2], limited[:, 2:]), 1), weights)
        ),
        "dx and dy were limited, too; only dw and dh are": _corners(_decode(boxes, limited, weights)),
    }


def check_decode(decode: Callable) -> None:
    """decode(boxes, deltas, weights) -> boxes: by hand, the weights of the box head, wild and small deltas, no box."""
    one, ones = torch.tensor([[24.0, 24, 40, 44]]), (1.0, 1.0, 1.0, 1.0)
    halves = torch.tensor([[0.5, -0.25, log(2), 0.1]])
    wild, small = torch.tensor([[5.0, 6, 8, 9]]), torch.tensor([[0.5, 0, -9, -6]])
    for deltas, weights, what in (
        (halves, ones, "the box of the deltas (0.5, -0.25, log 2, 0.1)"),
        (halves, BOX_HEAD, "the box of the same deltas with the weights (10, 10, 5, 5)"),
        (halves, (10.0, 8.0, 5.0, 4.0), "the box of the same deltas with the weights (10, 8, 5, 4)"),
        (wild, ones, "the box of the deltas (5, 6, 8, 9)"),
        (5 * wild, BOX_HEAD, "the box of the deltas (25, 30, 40, 45) with the weights (10, 10, 5, 5)"),
        (small, ones, "the box of the deltas (0.5, 0, -9, -6)"),
    ):
        given = one.clone(), deltas.clone(), weights
        expected = _corners(_decode(one, deltas, weights))
        wrong = _wrong_decodes(one, deltas, weights)
        agree(tried(decode, *given, on=what), expected, what, "box, corner", said_of(what, wrong))
    found = tried(decode, one[:0], halves[:0], ones, on="no box at all")
    agree(found, one[:0], "the decoded boxes of no box at all")
    right("decode: by hand, with the weights of the box head, with wild and with small deltas, without a box")


# ---------------------------------------------------------------------------------------------------------- IoU


def _areas(boxes: Tensor, edge: float = 0) -> Tensor:
    return (boxes[:, 2] - boxes[:, 0] + edge) * (boxes[:, 3] - boxes[:, 1] + edge)


def _both(a: Tensor, b: Tensor, edge: float = 0, least: float = 0) -> Tensor:
    sides = torch.minimum(a[:, None, 2:], b[:, 2:]) - torch.maximum(a[:, None, :2], b[:, :2]) + edge
    return sides.clamp(min=least).prod(2)


def _iou(a: Tensor, b: Tensor, edge: float = 0, both: Tensor | None = None) -> Tensor:
    """By the rule, or with a wrong intersection."""
    both = _both(a, b, edge) if both is None else both
    union = _areas(a, edge)[:, None] + _areas(b, edge) - both
    return torch.where(union > 0, both / union, 0.0)


def _wrong_ious(a: Tensor, b: Tensor) -> dict[str, Tensor]:
    both, areas = _both(a, b), (_areas(a)[:, None], _areas(b))
    sized_a, sized_b = (torch.cat((c[:, :2], c[:, :2] + c[:, 2:]), 1) for c in (a, b))
    negative, edge = _both(a, b, least=-inf), "x1 lies one past the last pixel, so a side is x1 - x0"
    return {
        "a union below 1 was taken for 1, but a box may be smaller than a pixel; only 0 is to be avoided": both
        / (areas[0] + areas[1] - both).clamp(min=1),
        f"off by one at the edges: this is what x1 - x0 + 1 gives; here {edge}": _iou(a, b, edge=1),
        f"off by one at the edges of the intersection; here {edge}": _iou(a, b, both=_both(a, b, edge=1)),
        f"off by one at the edges of both areas; here {edge}": _iou(a, b, edge=1, both=both),
        "boxes that do not touch overlap here: two negative sides were multiplied; clamp each side at 0 first": _iou(
            a, b, both=negative
        ),
        "boxes that do not touch overlap here: two negative sides give a positive product; clamp each side at 0, "
        "not the product": _iou(a, b, both=negative.clamp(min=0)),
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
        (toy / 8, toy / 8, "IoU of boxes smaller than a pixel"),
    ):
        found, expected = tried(box_iou, a.clone(), b.clone(), on=what), _iou(a, b)
        agree(found, expected, what, "box of a, box of b", said_of(what, _wrong_ious(a, b)))
    nothing = torch.tensor([[2.0, 2, 2, 2], [2, 2, 2, 4]])
    found = tried(box_iou, nothing, nothing, on="boxes without extent")
    if found.isnan().any():
        raise Mistake("IoU of two boxes without extent is nan, 0 / 0: a union of nothing has IoU 0")
    agree(found, torch.zeros(2, 2), "IoU of boxes without extent", "box of a, box of b")
    found = tried(box_iou, toy[:0], toy, on="no box and three")
    agree(found, torch.zeros(0, 3), "IoU of no box with three")
    right("box_iou: overlapping, apart, inside, without extent, no box")


# ---------------------------------------------------------------------------------------------------------- NMS


def _nms(boxes, scores, limit, classes=None, drops=torch.gt, dropped_count=False, iou=None) -> list[int]:
    """Greedy, by the rule or by a variant of it."""
    iou, kept = _iou(boxes, boxes) if iou is None else iou, []
    order = scores.argsort(descending=True, stable=True).tolist()
    for n, i in enumerate(order):
        rivals = order[:n] if dropped_count else kept
        rivals = [j for j in rivals if classes is None or classes[i] == classes[j]]
        if not any(drops(iou[i, j], limit) for j in rivals):
            kept.append(i)
    return kept


def _wrong_nms(*given) -> dict[str, list[int]]:
    boxes, scores, limit, classes = given
    kept, order = _nms(*given), scores.argsort(descending=True).tolist()
    wrong = {
        "a box whose IoU is exactly the limit was dropped: only one above it goes (> and not >=)": _nms(
            *given, drops=torch.ge
        ),
        "the boxes that overlap the best were kept and the others dropped: it is the other way round": _nms(
            *given, drops=torch.le
        ),
        "a box was dropped by one that is dropped itself: only those that stay count": _nms(*given, dropped_count=True),
        "these are places in the sorted list: give the indices that the boxes had before you sorted them": [
            order.index(i) for i in kept
        ],
        "the right boxes in the wrong order: best score first": sorted(kept),
        "it begins with the lowest score: sort in falling order": _nms(boxes, -scores, limit, classes),
        "it goes through the boxes in the order they were given: begin with the best score": _nms(
            boxes, -torch.arange(len(boxes)), limit, classes
        ),
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


def _with_their_ious(box_iou: Callable, boxes, *rest) -> dict[str, list[int]]:
    """What a right NMS gives with the learner's own box_iou, where that one is wrong."""
    try:
        iou = box_iou(boxes, boxes)
        kept = _nms(boxes, *rest, iou=iou)
    except Exception:  # not written yet, or broken: an NMS that uses it has failed by itself
        return {}
    told = "box_iou of part 2 is not right yet, and nms builds on it: mend that first"
    return {} if same(iou, _iou(boxes, boxes)) else {told: kept}


def check_nms(nms: Callable, box_iou: Callable) -> None:
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
        (pairs, mixed, 0.5, torch.tensor([0, 1, 2, 0]), "NMS of four boxes of the classes 0, 1, 2, 0"),
        (pairs, mixed - 2, 0.5, None, "NMS of four boxes whose scores are logits below 0"),
        (1000 * pairs, mixed, 0.5, torch.tensor([1, 0, 1, 0]), "NMS of four large boxes of the classes 1, 0, 1, 0"),
        (torch.zeros(2, 4), falling[:2], 0.5, None, "NMS of two boxes without extent"),
    ):
        given = boxes.clone(), scores.clone(), limit, classes
        expected = _nms(boxes, scores, limit, classes)
        wrong = _with_their_ious(box_iou, *given) | _wrong_nms(*given)
        on = f"{what}, called with classes = {'None (all are rivals)' if classes is None else classes.tolist()}"
        agree(tried(nms, *given, on=on), expected, what, "place", said_of(what, wrong))
    found = tried(nms, toy[:0], falling[:0], 0.5, None, on="no box at all")
    agree(found, toy[:0, 0].long(), "NMS of no box")
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


def _rounded(found, exact: Tensor) -> bool:
    """Each number is right, or right in the 2 to 4 digits that it has."""
    return all(
        same(number, value) or any(number == round(number, n) and abs(number - value) < 0.1**n for n in (2, 3, 4))
        for number, value in zip(found, exact.tolist(), strict=True)
    )


def check_by_hand(ious: Callable, student: str) -> None:
    """ious() -> IoU(U, V) and IoU(U, W) of the student's own boxes."""
    found, boxes, what = ious(), my_boxes(student), "IoU(U, V) and IoU(U, W)"
    exact = _iou(boxes[:1], boxes[1:])
    if not same(found, exact[0]):
        wrong = _wrong_ious(boxes[:1], boxes[1:]) | {"the two are exchanged: IoU(U, V) comes first": exact.flip(1)}
        if mistake := known_as([found], wrong):
            raise Mistake(f"{what}: {mistake}")
        if _rounded([number / 100 for number in found], exact[0]):
            raise Mistake(f"{what}: these are per cent; an IoU lies between 0 and 1. Write the fraction, as 4 / 12")
        if _rounded(found, exact[0]):
            raise Mistake(f"{what}: rounded. Write the fraction, as 4 / 12 and not 0.33: Python divides")
    own(found, lambda number: _iou(_boxes(number)[:1], _boxes(number)[1:])[0], student, what)
    right(f"{what} of the boxes of {student}")
