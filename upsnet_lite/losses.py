"""The eight losses, unweighted; `weighted` multiplies them by the config's weights. The total is their sum.

    RPN         loss_objectness       loss_rpn_box_reg                                  Ren et al. 2015
    box head    loss_classifier       loss_box_reg                                      He et al. 2017
    mask head   loss_mask
    semantic    loss_semantic         loss_roi_semantic                                 UPSNet, section 3.1
    panoptic    loss_panoptic                                                           UPSNet, section 3.2

Each is a scalar and 0, still attached to the graph, where there is nothing to compare (no instance, only void).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from .categories import IGNORE
from .config import LossWeights

Scalar = Float[Tensor, ""]


def cross_entropy(logits: Float[Tensor, "B C *places"], target: Int[Tensor, "B *places"]) -> Scalar:
    """Mean over what is not IGNORE; 0 where everything is."""
    total = F.cross_entropy(logits.float(), target, ignore_index=IGNORE, reduction="sum")
    return total / (target != IGNORE).sum().clamp(min=1)


def smooth_l1(deltas: Float[Tensor, "R 4"], target: Float[Tensor, "R 4"], count: int) -> Scalar:
    """Sum over the positives divided by the number of all sampled boxes, so that few positives weigh little."""
    return F.smooth_l1_loss(deltas, target, beta=1 / 9, reduction="sum") / max(1, count)


def loss_objectness(objectness: Float[Tensor, " A"], is_object: Float[Tensor, " A"]) -> Scalar:
    """Binary cross entropy of the sampled anchors: object or background."""
    total = F.binary_cross_entropy_with_logits(objectness, is_object, reduction="sum")
    return total / max(1, len(objectness))


def loss_rpn_box_reg(deltas: Float[Tensor, "P 4"], target: Float[Tensor, "P 4"], sampled: int) -> Scalar:
    """Deltas of the positive anchors towards their objects; `sampled` counts positive and negative anchors."""
    return smooth_l1(deltas, target, sampled)


def loss_classifier(class_logits: Float[Tensor, "R C"], labels: Int[Tensor, " R"]) -> Scalar:
    """Cross entropy of the sampled RoIs over background (0) and the thing classes."""
    return cross_entropy(class_logits, labels)


def loss_box_reg(deltas: Float[Tensor, "R C4"], target: Float[Tensor, "R 4"], labels: Int[Tensor, " R"]) -> Scalar:
    """The deltas of each positive RoI's own class towards its object."""
    positive = torch.where(labels > 0)[0]
    own = deltas.unflatten(1, (-1, 4))[positive, labels[positive]]
    return smooth_l1(own, target[positive], len(labels))


def loss_mask(mask_logits: Float[Tensor, "R S S"], target: Float[Tensor, "R S S"]) -> Scalar:
    """Binary cross entropy of Y, pixel by pixel, on positive RoIs."""
    total = F.binary_cross_entropy_with_logits(mask_logits, target, reduction="sum")
    return total / max(1, mask_logits.numel())


def loss_semantic(x: Float[Tensor, "B C H W"], semantic: Int[Tensor, "B H W"]) -> Scalar:
    """Cross entropy of X at the image's resolution."""
    return cross_entropy(x, semantic)


def loss_roi_semantic(x_roi: Float[Tensor, "R C S S"], target: Int[Tensor, "R S S"]) -> Scalar:
    """Cross entropy of X cropped to the objects: pixels inside of instances count once more.    UPSNet, section 3.1"""
    return cross_entropy(x_roi, target)


def loss_panoptic(z: list[Float[Tensor, "_ _ _"]], target: list[Int[Tensor, "_ _"]]) -> Scalar:
    """Cross entropy over the channels of each Z (N_stuff + N_inst + 1, H, W); every image counts the same."""
    return torch.stack([cross_entropy(a[None], b[None]) for a, b in zip(z, target, strict=True)]).mean()


def weighted(losses: dict[str, Scalar], weights: LossWeights) -> dict[str, Scalar]:
    """Each loss times its weight, by name."""
    return {name: loss * getattr(weights, name) for name, loss in losses.items()}
