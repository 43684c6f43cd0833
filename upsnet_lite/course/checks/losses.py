"""Visible checks of exercise 7: the RoI loss, the panoptic target, the sum of eight. Each knows the usual mistakes.

Shapes   semantic (H, W) class index or IGNORE    boxes (R, 4) xyxy, pixels of the image    x (C, H/4, W/4) logits
         RoI target (R, S, S)    masks (N_inst, H, W) bool    keep (kept,) indices    panoptic target (H, W), channels
"""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from upsnet_lite.categories import IGNORE
from upsnet_lite.course.feedback import Mistake, agree, right
from upsnet_lite.deform_conv import roi_align
from upsnet_lite.targets import panoptic_target, roi_semantic_target

# The map of lesson 06: 0 sky, 1 grass, 2 ball, 3 crate; in the last row a second ball and a pixel without a label
TOY = torch.tensor(
    [[0, 0, 0, 0, 0], [0, 2, 2, 0, 0], [1, 2, 2, 1, 3], [1, 1, 1, 1, 3], [2, 2, 1, 1, IGNORE]], dtype=torch.int64
)
TOY_MASKS = torch.zeros(3, 5, 5, dtype=torch.bool)  # ball, crate, second ball
TOY_MASKS[0, 1:3, 1:3] = TOY_MASKS[1, 2:4, 4] = TOY_MASKS[2, 4, :2] = True


# --------------------------------------------------------------------------------------------------- RoI target


def _read(semantic, boxes, size, shift=0.5, whole=torch.floor, swapped=False, last=0, edge=torch.clamp) -> Tensor:
    """Nearest class at each cell's place, by the rule or by a variant of it."""
    places = (torch.arange(size) + shift) / size
    x0, y0, x1, y1 = boxes.unbind(1)
    rows = whole(y0[:, None] + (y1 - y0 - last)[:, None] * places).long()
    columns = whole(x0[:, None] + (x1 - x0 - last)[:, None] * places).long()
    if swapped:
        rows, columns = columns, rows
    rows, columns = edge(rows, 0, semantic.shape[0] - 1), edge(columns, 0, semantic.shape[1] - 1)
    return semantic[rows[:, :, None], columns[:, None, :]]


def _around(index: Tensor, low: int, high: int) -> Tensor:
    """What a negative index means in Python: counted from the other end."""
    return torch.where(index < low, index + high + 1, index).clamp(low, high)


def check_roi_target(roi_target: Callable) -> None:
    """roi_target(semantic, boxes, size) -> (R, S, S): the toy map, a numbered one, boxes that stick out, no box."""
    numbered = torch.arange(12 * 16).view(12, 16)  # every pixel its own class: what was read says where
    inside = torch.tensor([[2.0, 1, 14, 9], [3.4, 2.2, 11.6, 10.8]])
    outside = torch.tensor([[-4.0, -2, 6, 5], [9, 6, 21, 15]])
    for semantic, boxes, size, what in (
        (TOY, torch.tensor([[0.5, 1, 4.5, 4]]), 2, "the 2 x 2 target of the box (0.5, 1, 4.5, 4) on the 5 x 5 map"),
        (numbered, inside, 5, "the target of two boxes on a map that numbers its pixels"),
        (numbered, outside, 5, "the target of two boxes that stick out of the map"),
    ):
        given = semantic, boxes, size
        expected = roi_semantic_target(semantic[None], torch.cat((torch.zeros(len(boxes), 1), boxes), 1), size)
        wrong = {
            "rows were read from x and columns from y": _read(*given, swapped=True),
            "rows and columns of the result are swapped": _read(*given).transpose(1, 2),
            "this reads the upper left corner of each cell: its middle is (i + ½) / size": _read(*given, shift=0),
            "the place was rounded: a place at 2.7 lies in pixel 2, so cut the fraction off": _read(
                *given, whole=torch.round
            ),
            "this spans x0 to x1 - 1: boxes are continuous, so the cells divide x0 to x1": _read(*given, last=1),
            "this counts from the other end: a negative index is the far side in Python; clamp to the map first": _read(
                *given, edge=_around
            ),
        }
        wrong = {f"{what}: {text}": v for text, v in wrong.items()}
        try:
            found = roi_target(semantic.clone(), boxes.clone(), size)
        except IndexError as error:
            raise Mistake(f"{what}: a place outside of the map was read ({error}); clamp rows and columns") from None
        agree(found, expected, what, "box, row, column", wrong)
    agree(roi_target(TOY, inside[:0], 28), torch.zeros(0, 28, 28), "the target of no box")
    right("roi_target: 5 x 5 by hand, numbered pixels, boxes over the border, no box")


# ----------------------------------------------------------------------------------------------------- RoI loss


def _cells(logits: Tensor, target: Tensor, axis: int = 1) -> Tensor:
    """Minus the logarithm of what each cell gives its own class, 0 where it is IGNORE."""
    own = logits.log_softmax(axis).gather(1, target.clamp(min=0)[:, None])[:, 0]
    return torch.where(target == IGNORE, 0.0, -own)


def _wrong_losses(x: Tensor, boxes: Tensor, target: Tensor) -> dict[str, Tensor]:
    rois = torch.cat((torch.zeros(len(boxes), 1), boxes), 1)
    crops = roi_align(x[None], rois, 28, 1 / 4, 1, True)
    unscaled, shifted = roi_align(x[None], rois, 28, 1.0, 1, True), roi_align(x[None], rois, 28, 1 / 4, 1, False)
    labelled = target != IGNORE
    cells = _cells(crops, target)

    def mean(cells: Tensor) -> Tensor:
        return cells.sum() / labelled.sum()

    axis, classes = "softmax over the wrong axis: over the", "; the classes are axis 1"
    return {
        "mean over the wrong count: the sum was divided by all cells, with those that are IGNORE": cells.mean(),
        "IGNORE cells were counted as class 0: leave them out of the sum and of the count": _cells(
            crops, target.clamp(min=0)
        ).mean(),
        "this is the sum: divide by the number of cells that are not IGNORE": cells.sum(),
        "every box was averaged on its own: this is the mean over all cells of all boxes together": (
            cells.sum((1, 2)) / labelled.sum((1, 2)).clamp(min=1)
        ).mean(),
        f"{axis} boxes, axis 0{classes}": mean(_cells(crops, target, 0)),
        f"{axis} rows of a crop, axis 2{classes}": mean(_cells(crops, target, 2)),
        f"{axis} columns of a crop, axis 3{classes}": mean(_cells(crops, target, 3)),
        "the wrong sign: the logarithm of a probability is negative, the loss is minus that": -mean(cells),
        "this is softmax twice: cross entropy wants logits, not probabilities": mean(_cells(crops.softmax(1), target)),
        "the scale is missing: boxes count pixels of the image, x has one for each 4 x 4 of them": mean(
            _cells(unscaled, target)
        ),
        "half a pixel off: aligned=True belongs to this loss": mean(_cells(shifted, target)),
    }


def roi_loss_by_torch(x: Tensor, boxes: Tensor, target: Tensor) -> Tensor:
    """The RoI loss by PyTorch's own mean; 0 where every cell is IGNORE."""
    crops = roi_align(x[None], torch.cat((torch.zeros(len(boxes), 1), boxes), 1), 28, 1 / 4, 1, True)
    return F.cross_entropy(crops, target, ignore_index=IGNORE).nan_to_num()


def check_roi_loss(roi_loss: Callable) -> None:
    """roi_loss(x, boxes, target) -> scalar: knowing nothing, some IGNORE, all IGNORE, no box, gradient."""
    g = torch.Generator().manual_seed(7)
    x = torch.randn(4, 10, 12, generator=g)
    boxes = torch.tensor([[4.0, 4, 30, 36], [11, 3, 47, 22], [20, 20, 28, 30]])
    target = torch.randint(0, 4, (3, 28, 28), generator=g)
    some = target.clone()
    some[0, :20] = some[2, :, 5:] = IGNORE
    for wanted, what in ((target, "the RoI loss of three boxes"), (some, "the RoI loss where some cells are IGNORE")):
        expected = roi_loss_by_torch(x, boxes, wanted)
        wrong = {f"{what}: {text}": v for text, v in _wrong_losses(x, boxes, wanted).items()}
        agree(roi_loss(x, boxes, wanted), expected, what, known=wrong)
    nothing = roi_loss(torch.zeros_like(x), boxes, target)
    agree(nothing, torch.tensor(4.0).log(), "the loss of x = 0, four classes (ln 4)")
    for b, t, what in (
        (boxes, torch.full_like(target, IGNORE), "the loss where every cell is IGNORE"),
        (boxes[:0], target[:0], "the loss of no box"),
    ):
        _zero(roi_loss(x, b, t), what)
    _carries_gradient(roi_loss(x.requires_grad_(), boxes, some), "the RoI loss")
    right("roi_loss: ln 4 for x = 0, IGNORE left out of sum and count, 0 where nothing is asked")


def _zero(found: Tensor, what: str) -> None:
    if bool(torch.as_tensor(found).isnan()):
        raise Mistake(f"{what} is nan: 0 cells were counted, and 0 / 0 is no number; divide by at least 1")
    agree(found, 0.0, what)


def _carries_gradient(loss: Tensor, what: str) -> None:
    if not (isinstance(loss, Tensor) and loss.requires_grad):
        raise Mistake(
            f"{what} has lost its gradient: nothing could learn from it; no .item(), .detach() or torch.tensor()"
        )


# ----------------------------------------------------------------------------------------------- panoptic target


def _numbered(semantic, masks, keep, num_stuff, unknown=None, ignored=IGNORE, place=lambda j, i: j) -> Tensor:
    """The target by the rule, or with another unknown channel, another value for void, another place of instance i."""
    unknown = num_stuff + len(keep) if unknown is None else unknown
    target = torch.where(semantic >= num_stuff, unknown, semantic)
    target[semantic == IGNORE] = ignored
    for j, i in enumerate(keep.tolist()):
        target[masks[i]] = num_stuff + place(j, i)
    return target


def _wrong_targets(semantic: Tensor, masks: Tensor, keep: Tensor, num_stuff: int) -> dict[str, Tensor]:
    given = semantic, masks, keep, num_stuff
    by_rule, last = _numbered(*given), num_stuff + len(keep)
    left_out = torch.tensor([i not in keep.tolist() for i in range(len(masks))])
    unknown = by_rule == last
    crowd = unknown & ~masks[left_out].any(0)
    return {
        "left-out instances and crowds keep the class index of the semantic map, which in Z is the channel of some "
        "instance: they are unknown": torch.where(unknown, semantic, by_rule),
        "crowds keep their class index: thing pixels that no kept instance covers are unknown, whoever they belong "
        "to": torch.where(crowd, semantic, by_rule),
        "crowds are IGNORE here: thing pixels that no kept instance covers are unknown": torch.where(
            crowd, IGNORE, by_rule
        ),
        "left-out instances are IGNORE here: then nothing would ever teach the unknown channel": torch.where(
            unknown, IGNORE, by_rule
        ),
        "the unknown channel is num_stuff + the number of ALL instances here: Z holds the kept ones only": _numbered(
            *given, unknown=num_stuff + len(masks)
        ),
        "off by one: counted from 0, the unknown channel is num_stuff + len(keep)": _numbered(*given, unknown=last + 1),
        "instances are numbered as before some were left out: the j-th kept one is num_stuff + j": _numbered(
            *given, place=lambda j, i: i
        ),
        "instances are counted from 1 here: the first kept one is num_stuff": _numbered(
            *given, place=lambda j, i: j + 1
        ),
        "unlabelled pixels became unknown: IGNORE stays IGNORE, nothing is asked there": _numbered(
            *given, ignored=last
        ),
        "things keep their class here: Z has no channel per class of things, but one per kept instance": semantic,
    }


def check_panoptic_target(target: Callable) -> None:
    """target(semantic, masks, keep, num_stuff) -> (H, W): the toy map, all or some kept, a crowd, no instance."""
    crowd = TOY.clone()
    crowd[0, 3:] = 2  # balls that nobody outlined: no mask covers them
    for semantic, keep, what in (
        (TOY, [0, 1, 2], "the target of the 5 x 5 map, all three kept"),
        (TOY, [1], "the target of the 5 x 5 map, only the crate kept"),
        (TOY, [0, 1], "the target of the 5 x 5 map, the second ball left out"),
        (TOY, [1, 2], "the target of the 5 x 5 map, the first ball left out"),
        (crowd, [1], "the target of the 5 x 5 map with a crowd of balls above, only the crate kept"),
    ):
        given = semantic, TOY_MASKS, torch.tensor(keep), 2
        found = target(semantic.clone(), TOY_MASKS.clone(), torch.tensor(keep), 2)
        wrong = {f"{what}: {text}": v for text, v in _wrong_targets(*given).items()}
        agree(found, panoptic_target(*given), what, "row, column", wrong)
    before = TOY.clone()
    target(before, TOY_MASKS, torch.tensor([0]), 2)
    if not torch.equal(before, TOY):
        raise Mistake("the semantic map was changed: it is also the target of X; write into a copy")
    none = target(TOY, TOY_MASKS[:0], torch.zeros(0, dtype=torch.int64), 2)
    agree(none, torch.where(TOY >= 2, 2, TOY), "the target without any instance", "row, column")
    right("panoptic_target: all kept, some left out, a crowd, no instance; IGNORE stays")


# -------------------------------------------------------------------------------------------------------- total

COCO = dict(
    loss_objectness=1.0,
    loss_rpn_box_reg=1.0,
    loss_classifier=1.0,
    loss_box_reg=1.0,
    loss_mask=1.0,
    loss_semantic=0.2,
    loss_roi_semantic=0.04,  # 0.2 x 0.2
    loss_panoptic=0.1,
)


def check_total(total: Callable) -> None:
    """total(losses, weights) -> scalar: COCO's weights, another order, a missing name, gradient."""
    values = dict(zip(COCO, (0.7, 0.1, 1.9, 0.2, 0.7, 2.4, 2.5, 2.3), strict=True))
    losses = {name: torch.tensor(v, requires_grad=True) for name, v in values.items()}
    for weights, what in (
        (COCO, "the total"),
        (dict(reversed(COCO.items())), "the total, with the weights listed in another order"),
    ):
        found = total(dict(losses), dict(weights))
        agree(
            found,
            _sum(values, COCO),
            what,
            known={f"{what}: {k}": v for k, v in _wrong_totals(values, weights).items()},
        )
    _carries_gradient(total(losses, COCO), "the total")
    for missing, other in (("losses", "weights"), ("weights", "losses")):
        given = {"losses": dict(losses), "weights": dict(COCO)}
        del given[missing]["loss_mask"]
        _refused(total, given, f"loss_mask is missing in the {missing} and stands in the {other}")
    right("total: COCO's weights, by name in any order, a name that one side lacks is refused")


def _sum(losses: Mapping[str, float], weights: Mapping[str, float]) -> float:
    return sum(weights[name] * loss for name, loss in losses.items())


def _wrong_totals(losses: Mapping[str, float], weights: Mapping[str, float]) -> dict[str, float]:
    twice = {**weights, "loss_roi_semantic": weights["loss_semantic"] * weights["loss_roi_semantic"]}
    return {
        "the weights are missing": sum(losses.values()),
        "this is the mean of the weighted losses: the total is their sum": _sum(losses, weights) / len(losses),
        "this is divided by the sum of the weights: the total is a plain sum": _sum(losses, weights)
        / sum(weights.values()),
        "losses and weights were matched by position: match them by name": sum(
            w * v for w, v in zip(weights.values(), losses.values(), strict=True)
        ),
        "the RoI loss was scaled twice: 0.04 is 0.2 x 0.2 already": _sum(losses, twice),
    }


def _refused(total: Callable, given: dict[str, dict], why: str) -> None:
    try:
        found = total(**given)
    except ValueError as error:
        if "loss_mask" in str(error):
            return
        raise Mistake(f"{why}: the ValueError does not name it, it says {str(error)!r}") from None
    except KeyError:
        raise Mistake(f"{why}: raise a ValueError that says so; a bare KeyError explains nothing") from None
    raise Mistake(
        f"{why}: the total came out as {float(found.detach()):.3g}, as if nothing were wrong; raise a ValueError"
    )
