"""Visible checks of exercise 7: the RoI loss, the panoptic target, the sum of eight. Each knows the usual mistakes.

Shapes   semantic (H, W) class index or IGNORE    boxes (R, 4) xyxy, pixels of the image    x (C, H/4, W/4) logits
         RoI target (R, S, S)    masks (N_inst, H, W) bool    keep (kept,) indices    panoptic target (H, W), channels
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from upsnet_lite.categories import IGNORE
from upsnet_lite.course.checks import losses_known as known
from upsnet_lite.course.feedback import Mistake, agree, right, said_of, tried
from upsnet_lite.deform_conv import roi_align
from upsnet_lite.targets import panoptic_target, roi_semantic_target

# The map of lesson 06: 0 sky, 1 grass, 2 ball, 3 crate; in the last row a second ball and a pixel without a label
TOY = torch.tensor(
    [[0, 0, 0, 0, 0], [0, 2, 2, 0, 0], [1, 2, 2, 1, 3], [1, 1, 1, 1, 3], [2, 2, 1, 1, IGNORE]], dtype=torch.int64
)
TOY_MASKS = torch.zeros(3, 5, 5, dtype=torch.bool)  # ball, crate, second ball
TOY_MASKS[0, 1:3, 1:3] = TOY_MASKS[1, 2:4, 4] = TOY_MASKS[2, 4, :2] = True


# --------------------------------------------------------------------------------------------------- RoI target


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
        try:
            found = roi_target(semantic.clone(), boxes.clone(), size)
        except IndexError as error:
            raise Mistake(f"{what}: a place outside of the map was read ({error}); clamp rows and columns") from None
        agree(found, expected, what, "box, row, column", said_of(what, known.targets_of_rois(*given)))
    agree(roi_target(TOY, inside[:0], 28), torch.zeros(0, 28, 28), "the target of no box")
    right("roi_target: 5 x 5 by hand, numbered pixels, boxes over the border, no box")


# ----------------------------------------------------------------------------------------------------- RoI loss


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
        found = tried(roi_loss, x, boxes, wanted, on=what)
        agree(found, expected, what, known=said_of(what, known.roi_losses(x, boxes, wanted)))
    steep = roi_loss(200 * x, boxes, target)
    if steep.isnan() or steep.isinf():
        raise Mistake(
            f"with logits of some hundreds the loss is {steep:g}: e to the power of 200 is too large for a float; "
            "log_softmax and cross_entropy take care of that"
        )
    agree(steep, roi_loss_by_torch(200 * x, boxes, target), "the RoI loss of logits of some hundreds")
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


def check_panoptic_target(target: Callable) -> None:
    """target(semantic, masks, keep, num_stuff) -> (H, W): the toy map, all or some kept, a crowd, no instance."""
    crowd = TOY.clone()
    crowd[0, 3:] = 2  # balls that nobody outlined: no mask covers them
    for semantic, keep, what in (
        (TOY, [0, 1, 2], "the target of the 5 x 5 map, all three kept"),
        (
            torch.where(TOY == 3, 5, TOY),
            [0],
            "the target where the crate is of class 5 and only the first ball was kept",
        ),
        (TOY, [1], "the target of the 5 x 5 map, only the crate kept"),
        (TOY, [0, 1], "the target of the 5 x 5 map, the second ball left out"),
        (TOY, [1, 2], "the target of the 5 x 5 map, the first ball left out"),
        (crowd, [1], "the target of the 5 x 5 map with a crowd of balls above, only the crate kept"),
    ):
        given = semantic, TOY_MASKS, torch.tensor(keep), 2
        found = target(semantic.clone(), TOY_MASKS.clone(), torch.tensor(keep), 2)
        agree(found, panoptic_target(*given), what, "row, column", said_of(what, known.panoptic_targets(*given)))
    before = TOY.clone()
    target(before, TOY_MASKS, torch.tensor([0]), 2)
    if not torch.equal(before, TOY):
        raise Mistake("the semantic map was changed: it is also the target of X; write into a copy")
    none = tried(target, TOY, TOY_MASKS[:0], torch.zeros(0, dtype=torch.int64), 2, on="no instance at all")
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
        given = dict(losses), dict(weights)
        found = total(*given)
        agree(found, known.added(values, COCO), what, known=said_of(what, known.totals(values, weights)))
        if given != (losses, weights):
            raise Mistake("your function changed a dict that it was given (pop, del, update); it is still needed")
    _carries_gradient(total(losses, COCO), "the total")
    lacking = {name: v for name, v in losses.items() if name != "loss_mask"}
    for found, weights, why in (
        (lacking, COCO, "loss_mask is missing in the losses and stands in the weights"),
        (
            losses,
            {name: COCO[name] for name in lacking},
            "loss_mask is missing in the weights and stands in the losses",
        ),
        (
            lacking | {"loss_masks": losses["loss_mask"]},
            COCO,
            "the losses call loss_masks what the weights call loss_mask",
        ),
    ):
        _refused(total, dict(found), dict(weights), why)
    right("total: COCO's weights, by name in any order, a name that one side lacks is refused")


def _refused(total: Callable, losses: dict, weights: dict, why: str) -> None:
    try:
        found = total(losses, weights)
    except ValueError as error:
        text = str(error)
        if "loss_mask" not in text:
            raise Mistake(f"{why}: the ValueError does not name it, it says {text!r}") from None
        if common := [name for name in losses if name in weights and name in text]:
            raise Mistake(
                f"{why}: the ValueError names {common[0]}, too, which both sides hold: who would find it?"
            ) from None
        return
    except KeyError:
        raise Mistake(f"{why}: raise a ValueError that says so; a bare KeyError explains nothing") from None
    raise Mistake(
        f"{why}: the total came out as {float(found.detach()):.3g}, as if nothing were wrong; raise a ValueError"
    )
