"""From fused logits to segments, and the choice of instances before.                       UPSNet, sections 3.2 and 4

    prune_masks       detections -> the instances that enter Z
    panoptic_map      argmax of Z -> segment ids and their list: small stuff to void, the majority rule
    heuristic_merge   the classical fusion without a panoptic head, as baseline          Kirillov et al. 2019, section 6

Shapes   winner (H, W): channel of Z that won; stuff 0 …, instance i at N_stuff + i, N_stuff + N_inst is unknown
         panoptic (H, W) int64 segment ids, 0 where unknown or void
"""

from collections import defaultdict
from typing import Literal

import torch
import torchvision.ops
from jaxtyping import Float, Int
from torch import Tensor

from .boxes import patches
from .categories import Categories


def instance_patches(boxes: Tensor, mask_logits: Tensor, size: tuple[int, int]):
    """For each instance, the slice of the map its box covers and where its mask is there (Y > 0)."""
    for (left, top, right, bottom), patch in patches(boxes, mask_logits, *size):
        yield (slice(top, bottom), slice(left, right)), patch > 0


def prune_masks(
    boxes: Float[Tensor, "N 4"],
    scores: Float[Tensor, " N"],
    classes: Int[Tensor, " N"],
    mask_logits: Float[Tensor, "N h w"],
    size: tuple[int, int],
    overlap: float = 0.3,
    min_score: float = 0.6,
    nms_iou: float = 0.5,
) -> Int[Tensor, " kept"]:
    """Indices of the instances that enter Z, best first.                               UPSNet, section 3.2

    Scores of at least `min_score`, class-agnostic box NMS at IoU `nms_iou`; then, by falling score, an instance is
    dropped when its mask is empty or more than `overlap` of it belongs to kept instances of its own class.
    boxes: xyxy in pixels of `size` = (H, W).
    """
    candidates = torch.where(scores >= min_score)[0]
    dtype = torch.promote_types(torch.promote_types(boxes.dtype, scores.dtype), torch.float32)  # nms wants one for both
    candidates = candidates[torchvision.ops.nms(boxes[candidates].to(dtype), scores[candidates].to(dtype), nms_iou)]
    taken = defaultdict(lambda: torch.zeros(size, dtype=torch.bool, device=boxes.device))  # by class
    kept = []
    patches = instance_patches(boxes[candidates], mask_logits[candidates], size)
    for i, c, (here, mask) in zip(candidates.tolist(), classes[candidates].tolist(), patches, strict=True):
        occupied = taken[c][here]
        area = int(mask.sum())
        if area == 0 or int((mask & occupied).sum()) > overlap * area:
            continue
        occupied |= mask
        kept.append(i)
    return torch.tensor(kept, dtype=torch.int64, device=boxes.device)


def drop_small_stuff(winner: Int[Tensor, "H W"], num_stuff: int, num_inst: int, area: int) -> Int[Tensor, "H W"]:
    """Stuff segments of fewer than `area` pixels become void."""
    total = torch.bincount(winner.flatten(), minlength=num_stuff + num_inst + 1)
    becomes = torch.arange(len(total), device=winner.device)
    becomes[:num_stuff][total[:num_stuff] < area] = num_stuff + num_inst
    return becomes[winner]


def majority_to_stuff(
    winner: Int[Tensor, "H W"], semantic: Int[Tensor, "H W"], num_stuff: int, num_inst: int, share: float = 0.5
) -> Int[Tensor, "H W"]:
    """An instance becomes the stuff class that X gives to at least `share` of its pixels; otherwise it stays."""
    if num_stuff == 0:
        return winner
    channels = num_stuff + num_inst + 1
    is_stuff = semantic < num_stuff
    votes = torch.bincount((winner * num_stuff + semantic)[is_stuff], minlength=channels * num_stuff)
    most, stuff = votes.view(channels, num_stuff).max(1)
    area = torch.bincount(winner.flatten(), minlength=channels)
    flips = (most >= share * area) & (area > 0)
    flips[:num_stuff] = flips[-1] = False
    becomes = torch.where(flips, stuff, torch.arange(channels, device=winner.device))
    return becomes[winner]


def panoptic_map(
    winner: Int[Tensor, "H W"],
    x: Float[Tensor, "channels H W"],
    classes: Int[Tensor, " N_inst"],
    scores: Float[Tensor, " N_inst"],
    categories: Categories,
    stuff_area: int = 4096,
    majority: bool = True,
) -> tuple[Int[Tensor, "H W"], list[dict]]:
    """Segment ids (0 = unknown or void) and COCO's `segments_info` for them.

    winner: channels of Z, from `PanopticHead.predict`; x: logits X at the same size. An instance's score is its
    detection's; a stuff segment's is the mean probability that X gives to its class there.
    """
    num_stuff, num_inst = categories.num_stuff, len(classes)
    winner = drop_small_stuff(winner, num_stuff, num_inst, stuff_area)
    if majority:
        winner = majority_to_stuff(winner, x.argmax(0), num_stuff, num_inst)

    area = torch.bincount(winner.flatten(), minlength=num_stuff + num_inst + 1)
    log_total = x.logsumexp(0) if area[:num_stuff].any() else None
    ids = torch.zeros_like(area)
    infos = []
    for channel in torch.where(area[:-1] > 0)[0].tolist():
        ids[channel] = len(infos) + 1
        isthing = channel >= num_stuff
        if isthing:
            class_index = num_stuff + int(classes[channel - num_stuff])
            score = float(scores[channel - num_stuff])
        else:
            class_index, here = channel, winner == channel
            score = float((x[channel][here] - log_total[here]).exp().mean())
        infos.append(
            {
                "id": len(infos) + 1,
                "category_id": categories[class_index].id,
                "isthing": isthing,
                "score": score,
                "area": int(area[channel]),
            }
        )
    return ids[winner], infos


def heuristic_merge(
    x: Float[Tensor, "channels H W"],
    boxes: Float[Tensor, "N 4"],
    scores: Float[Tensor, " N"],
    classes: Int[Tensor, " N"],
    mask_logits: Float[Tensor, "N h w"],
    num_stuff: int,
    overlap: float = 0.5,
    min_score: float = 0.5,
    fill: Literal["stuff", "semantic"] = "semantic",
) -> tuple[Int[Tensor, "H W"], Int[Tensor, " kept"]]:
    """Winner map and kept instances without a panoptic head: instances by falling score, then semantics in the gaps.

    An instance keeps only what is still free, and is dropped when more than `overlap` of its mask is taken. Gaps:
    fill="stuff" takes the best stuff channel; "semantic" the argmax of X, where a thing class leaves void.
    """
    size = tuple(x.shape[1:])
    order = scores.argsort(descending=True, stable=True)
    order = order[scores[order] >= min_score]
    owner = torch.full(size, -1, dtype=torch.int64, device=x.device)
    kept: list[int] = []
    for i, (here, mask) in zip(order.tolist(), instance_patches(boxes[order], mask_logits[order], size), strict=True):
        free = mask & (owner[here] < 0)
        if not mask.any() or int(free.sum()) < (1 - overlap) * int(mask.sum()):
            continue
        owner[here][free] = len(kept)
        kept.append(i)
    semantic = x[:num_stuff].argmax(0) if fill == "stuff" else x.argmax(0)
    void = num_stuff + len(kept)
    gap = torch.where(semantic < num_stuff, semantic, void)
    return torch.where(owner >= 0, owner + num_stuff, gap), torch.tensor(kept, dtype=torch.int64, device=x.device)
