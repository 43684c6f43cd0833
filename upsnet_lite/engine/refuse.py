"""What the heads say of an image, computed once, and fused again: other thresholds, other rules, true parts put in.

    heads_of           image -> Heads                                  the slow part: the network
    with_fusion        the same weights, other options of the fusion   panoptic_score, unknown, stuff_area, ...
    by_heuristic       Heads -> prediction without a panoptic head     Kirillov et al. 2019
    with_truth         Heads -> Heads with true boxes, classes, masks or semantics in their place    (oracles)
    image_states       predictions -> what each image adds to PQ, so that sums over any choice of images are cheap
    quality_of, pq_of  sums -> every figure, or PQ alone
    bootstrap          how far a difference in PQ moves when other images are drawn

Shapes   Heads.x (N_stuff + N_thing, H, W) logits and Heads.found: in pixels of the image; pyramid: of the resized one
         states (images, classes, 4) float64: sum of IoU, TP, FP, FN (see PanopticQuality)
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torchvision.ops
from jaxtyping import Float, Float64, Int
from torch import Tensor

from .. import segments
from ..categories import IGNORE, Categories
from ..instance_head import Detections
from ..model import UPSNet
from ..panoptic_head import PanopticHead
from ..panoptic_quality import PanopticQuality, Quality
from ..preprocess import rescale_boxes, resized_size
from ..targets import mask_target

SURE = 10.0  # of a true logit: ± 10 where a trained head says about ± 5
MATCH = 0.5  # IoU from which a detected box means a true object, as in AP_50


@dataclass(frozen=True)
class Heads:
    """X and the detections of one image, before any choice of the fusion; the pyramid, for boxes put in by hand."""

    x: Tensor
    found: Detections
    pyramid: dict[str, Tensor]


@torch.no_grad()
def heads_of(model: UPSNet, image: Float[Tensor, "3 H W"]) -> Heads:
    """Everything that takes time; `model.fuse(heads.x, heads.found)` then gives the prediction."""
    trace = model.trace(image)
    pyramid = {level: getattr(trace, level)[None] for level in ("P2", "P3", "P4", "P5", "P6")}
    return Heads(trace.X, trace.detections, pyramid)


def with_fusion(model: UPSNet, **options) -> UPSNet:
    """The same weights (shared, not copied) with other fields of Config; TypeError for an unknown one."""
    other = copy.copy(model)
    other._modules = dict(model._modules)  # else the new head would be the model's, too
    other.config = replace(model.config, **options)
    other.panoptic_head = PanopticHead(other.config.num_stuff, other.config.unknown, other.config.outside)
    return other


def by_heuristic(heads: Heads, model: UPSNet, **options) -> dict:
    """A prediction by `segments.heuristic_merge`; options are its own. Small stuff becomes void as in the model."""
    found, categories = heads.found, model.categories
    one = found.boxes, found.scores, found.classes, found.mask_logits
    winner, kept = segments.heuristic_merge(heads.x, *one, categories.num_stuff, **options)
    chosen = found.classes[kept], found.scores[kept]
    panoptic, infos = segments.panoptic_map(
        winner, heads.x, *chosen, categories, model.config.stuff_area, majority=False
    )
    return {"panoptic": panoptic, "segments_info": infos, "semantic": heads.x.argmax(0)}


# -------------------------------------------------------------------------------------------------------- oracles


@torch.no_grad()
def with_truth(
    heads: Heads,
    model: UPSNet,
    target: Mapping,
    boxes: bool = False,
    classes: bool = False,
    masks: bool = False,
    semantics: bool = False,
) -> Heads:
    """The heads with parts replaced by the ground truth; the others follow from what they are given.

    boxes       true boxes, none missed and none too many; the box head names them, the mask head outlines them
    classes     a box with IoU > 1/2 to a true one gets its class and a score of 1; the others were no object: they go
    masks       such a box gets the true mask, cut out and resized to 28 x 28, in place of Y; the others keep theirs
    semantics   X is SURE at each pixel's true class and 0 at the others; void keeps what the network says
    """
    found = at_true_boxes(heads, model, target) if boxes else heads.found
    matched, iou = match(found.boxes, target["boxes"])
    hit = iou > MATCH
    if classes:
        named = torch.where(hit)[0]
        true_class = target["labels"][matched[named]] - 1
        found = Detections(found.boxes[named], true_class, torch.ones(len(named)), found.mask_logits[named])
        matched, hit = matched[named], hit[named]
    if masks:
        true = SURE * (2 * mask_target(target["masks"], found.boxes[hit], matched[hit]) - 1)
        y = found.mask_logits.clone()
        y[hit] = true
        found = replace(found, mask_logits=y)
    return replace(heads, x=true_logits(heads.x, target["semantic"]) if semantics else heads.x, found=found)


def at_true_boxes(heads: Heads, model: UPSNet, target: Mapping) -> Detections:
    """What box and mask head say at the true boxes: the best thing class, for there is an object; score 1."""
    size = tuple(heads.x.shape[1:])
    boxes = rescale_boxes(target["boxes"], size, resized_size(*size, model.config))
    logits, _ = model.instance_head.box_logits(heads.pyramid, [boxes])
    classes = logits[:, 1:].argmax(1)
    y = model.instance_head.mask_logits(heads.pyramid, [boxes], classes)
    return Detections(target["boxes"], classes, torch.ones(len(classes)), y)


def match(boxes: Float[Tensor, "N 4"], true: Float[Tensor, "M 4"]) -> tuple[Int[Tensor, " N"], Float[Tensor, " N"]]:
    """For each box the true one that it covers best, and the IoU; 0 and 0 where there is none."""
    if not len(true):
        return torch.zeros(len(boxes), dtype=torch.int64), torch.zeros(len(boxes))
    iou, matched = torchvision.ops.box_iou(boxes, true).max(1)
    return matched, iou


def true_logits(x: Float[Tensor, "C H W"], semantic: Int[Tensor, "H W"]) -> Float[Tensor, "C H W"]:
    known = semantic != IGNORE
    one_hot = torch.nn.functional.one_hot(semantic.clamp(min=0), len(x)).permute(2, 0, 1)
    return torch.where(known, SURE * one_hot, x)


# ------------------------------------------------------------------------------------------- figures over images


def image_states(
    predictions: Sequence[Mapping], targets: Sequence[Mapping], categories: Categories
) -> Float64[Tensor, "images classes 4"]:
    """What each image adds to the sums of PanopticQuality."""
    states = []
    for prediction, target in zip(predictions, targets, strict=True):
        one = PanopticQuality(categories)
        one.update(prediction["panoptic"], prediction["segments_info"], target["panoptic"], target["segments_info"])
        states.append(one.state())
    return torch.stack(states)


def quality_of(states: Float64[Tensor, "images classes 4"], categories: Categories) -> Quality:
    """All figures over these images, as `evaluate` finds them."""
    total = PanopticQuality(categories)
    total.merge(states.sum(0))
    return total.compute()


def pq_of(state: Float64[Tensor, "*n classes 4"]) -> Float64[Tensor, "*n"]:
    """PQ in per cent from sums: the mean over the classes that occur; nan where none does."""
    iou, tp, fp, fn = state.unbind(-1)
    return 100 * (iou / (tp + fp / 2 + fn / 2)).nanmean(-1)


def bootstrap(
    a: Float64[Tensor, "images classes 4"], b: Float64[Tensor, "images classes 4"], draws: int = 1000, seed: int = 0
) -> tuple[float, float, float]:
    """PQ(a) − PQ(b) on the same images and the middle 95 % of it over `draws` random choices of as many images."""
    counts = torch.randint(len(a), (draws, len(a)), generator=torch.Generator().manual_seed(seed))
    weights = torch.nn.functional.one_hot(counts, len(a)).sum(1).double()
    difference = pq_of(torch.einsum("dn,nck->dck", weights, a)) - pq_of(torch.einsum("dn,nck->dck", weights, b))
    low, high = difference.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return float(pq_of(a.sum(0)) - pq_of(b.sum(0))), low, high
