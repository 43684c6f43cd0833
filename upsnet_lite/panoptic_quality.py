"""Panoptic quality: one figure for stuff and things.          Kirillov et al. 2019, Panoptic Segmentation, section 4

    p, g match    <=>  same class  and  IoU(p, g) > 1/2                  (so a segment has at most one match)
    PQ(class)     =    sum of IoU over matches / (TP + FP/2 + FN/2)  =  SQ * RQ
    SQ(class)     =    sum of IoU over matches / TP                      how well the found ones are outlined
    RQ(class)     =    TP / (TP + FP/2 + FN/2)                           how many are found: an F1 score
    PQ            =    mean over the classes that occur, in the truth or in a prediction that counts

Void pixels of the truth belong to no union. A crowd can neither be found nor missed. An unmatched prediction is no
false positive when more than half of it lies on void and on the crowd of its own class. Where an image has several
crowds of one class, the last counts, as in panopticapi, with which these figures agree to rounding.

Shapes   pred, gt (H, W) integer segment ids, 0 = void        overlap (G + 1, P + 1) px, row and column 0 void
         state (C, 4) float64: sum of IoU, TP, FP, FN
Units    every figure named PQ, SQ or RQ is in per cent; nan where no class occurs
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from .categories import Categories

VOID = 0
MATCH_IOU = 0.5  # above it a match is unique; exactly at it, it is none
IGNORED_SHARE = 0.5  # of an unmatched prediction on void and crowd; more of it, and it is no error
FIGURES = ("pq", "sq", "rq", "tp", "fp", "fn")


@dataclass(frozen=True)
class ClassQuality:
    """One class; pq, sq and rq in per cent, nan where the class does not occur."""

    id: int
    name: str
    isthing: bool
    pq: float
    sq: float
    rq: float
    tp: int
    fp: int
    fn: int


@dataclass(frozen=True)
class Quality:
    """Means over the classes that occur (all, `_th` things, `_st` stuff) in per cent, and the classes themselves."""

    pq: float
    sq: float
    rq: float
    pq_th: float
    sq_th: float
    rq_th: float
    pq_st: float
    sq_st: float
    rq_st: float
    per_class: tuple[ClassQuality, ...]

    def as_dict(self) -> dict:
        """Ready for json.dump: PQ, SQ, RQ, PQ_th ... RQ_st and per_class; nan, which JSON lacks, becomes None."""
        means = {heading(k): plain(v) for k, v in vars(self).items() if k != "per_class"}
        return {**means, "per_class": [{heading(k): plain(v) for k, v in vars(c).items()} for c in self.per_class]}


class PanopticQuality:
    """Sums IoU, TP, FP and FN over images, class by class.

    quality = PanopticQuality(categories)          Categories, or COCO's list of dicts
    quality.update(pred, pred_segments, gt, gt_segments)
    quality.compute().pq
    """

    def __init__(self, categories: Categories | Iterable[Mapping]) -> None:
        self.categories = categories if isinstance(categories, Categories) else Categories.from_json(categories)
        self._state = torch.zeros(len(self.categories), 4, dtype=torch.float64)

    def update(
        self,
        pred: Int[Tensor, "H W"],
        pred_segments: Sequence[Mapping],
        gt: Int[Tensor, "H_gt W_gt"],
        gt_segments: Sequence[Mapping],
    ) -> None:
        """Adds one image. Segments are dicts with id and category_id, those of the truth with iscrowd where it is 1.

        Raises ValueError where the maps differ in shape, an id of a map has no segment, a predicted segment no pixel,
        a segment has the id 0, another's id or an unknown category. A true segment without pixels is a miss.
        """
        if pred.shape != gt.shape:
            raise ValueError(f"the prediction is {tuple(pred.shape)} px (H, W), the ground truth {tuple(gt.shape)}")
        pred_class, gt_class = self._classes(pred_segments, "prediction"), self._classes(gt_segments, "ground truth")
        rows = rank_of_id(gt, gt_segments, "ground truth")
        columns = rank_of_id(pred, pred_segments, "prediction")
        size = (len(gt_segments) + 1, len(pred_segments) + 1)
        overlap = (rows * size[1] + columns).flatten().bincount(minlength=size[0] * size[1]).view(size).cpu()
        if empty := [s["id"] for s, area in zip(pred_segments, overlap.sum(0)[1:].tolist(), strict=True) if not area]:
            raise ValueError(f"prediction: segments {empty[:5]} have no pixel in the map; leave them out of the list")

        crowd = torch.tensor([bool(s.get("iscrowd", 0)) for s in gt_segments], dtype=torch.bool)
        iou = pairwise_iou(overlap)
        match = (iou > MATCH_IOU) & (gt_class[:, None] == pred_class) & ~crowd[:, None]
        missed = ~match.any(1) & ~crowd
        spurious = ~match.any(0) & (ignored_share(overlap, gt_class, pred_class, crowd) <= IGNORED_SHARE)

        self._state[:, 0].index_add_(0, gt_class, (iou * match).sum(1))
        for column, classes in ((1, gt_class[match.any(1)]), (2, pred_class[spurious]), (3, gt_class[missed])):
            self._state[:, column] += classes.bincount(minlength=len(self.categories))

    def state(self) -> Float64[Tensor, "C 4"]:
        """A copy of the sums, by class index: of IoU, TP, FP, FN. Sums of states are states: ranks can add them."""
        return self._state.clone()

    def merge(self, state: Float64[Tensor, "C 4"]) -> None:
        """Adds another's state()."""
        self._state += state.to(self._state.device)

    def compute(self) -> Quality:
        """Everything in per cent; see Quality."""
        per_class = tuple(
            class_quality(category, sums) for category, sums in zip(self.categories, self._state.tolist(), strict=True)
        )
        groups = {
            "": per_class,
            "_th": [c for c in per_class if c.isthing],
            "_st": [c for c in per_class if not c.isthing],
        }
        means = {
            f"{k}{end}": mean_known(getattr(c, k) for c in group)
            for end, group in groups.items()
            for k in ("pq", "sq", "rq")
        }
        return Quality(**means, per_class=per_class)

    def _classes(self, segments: Sequence[Mapping], whose: str) -> Int[Tensor, " N"]:
        ids = [s["id"] for s in segments]
        if len(set(ids)) != len(ids) or VOID in ids:
            raise ValueError(f"{whose}: segment ids must differ and not be {VOID}, got {sorted(ids)}")
        for s in segments:
            if s["category_id"] not in self.categories:
                raise ValueError(f"{whose}: segment {s['id']} has the unknown category_id {s['category_id']}")
        return torch.tensor([self.categories.index(s["category_id"]) for s in segments], dtype=torch.int64)


def rank_of_id(ids: Int[Tensor, "H W"], segments: Sequence[Mapping], whose: str = "map") -> Int[Tensor, "H W"]:
    """Each pixel's place in the list of segments, from 1; 0 where it is void. ValueError for an id not in the list."""
    listed = torch.tensor([VOID, *(s["id"] for s in segments)], dtype=torch.int64, device=ids.device)
    ascending, order = listed.sort()
    rank = order[torch.searchsorted(ascending, ids.long()).clamp_(max=len(listed) - 1)]
    if (lost := listed[rank] != ids).any():
        raise ValueError(f"{whose}: ids {ids[lost].unique()[:5].tolist()} of the map are not among its segments")
    return rank


def pairwise_iou(overlap: Int[Tensor, "G_void P_void"]) -> Float[Tensor, "G P"]:
    """IoU of each true with each predicted segment; pixels whose truth is void (row 0) are in no union."""
    gt_area, pred_area = overlap.sum(1)[1:, None], overlap.sum(0)[1:] - overlap[VOID, 1:]
    both = overlap[1:, 1:].double()
    return both / (gt_area + pred_area - both).clamp(min=1)


def ignored_share(
    overlap: Int[Tensor, "G_void P_void"],
    gt_class: Int[Tensor, " G"],
    pred_class: Int[Tensor, " P"],
    crowd: Bool[Tensor, " G"],
) -> Float[Tensor, " P"]:
    """The share of each predicted segment on void and on the last crowd of its class."""
    ignored = overlap[VOID, 1:].clone()
    crowd_of_class = {int(gt_class[g]): g for g in crowd.nonzero()[:, 0].tolist()}
    for c, g in crowd_of_class.items():
        ignored += overlap[g + 1, 1:] * (pred_class == c)
    return ignored.double() / overlap.sum(0)[1:]


def class_quality(category, sums: Sequence[float]) -> ClassQuality:
    iou, tp, fp, fn = sums
    counted = tp + fp / 2 + fn / 2
    pq, sq, rq = (100 * iou / counted, 100 * iou / max(tp, 1), 100 * tp / counted) if counted else (nan, nan, nan)
    return ClassQuality(category.id, category.name, category.isthing, pq, sq, rq, int(tp), int(fp), int(fn))


def mean_known(values: Iterable[float]) -> float:
    """Mean of those that are not nan; nan where none is left."""
    known = [v for v in values if not isnan(v)]
    return sum(known) / len(known) if known else nan


def heading(field: str) -> str:
    """The name a figure has in papers and in metrics.json: PQ_th for pq_th; id, name and isthing stay."""
    return field[:2].upper() + field[2:] if field[:2] in FIGURES else field


def plain(value):
    """None for nan, which JSON lacks."""
    return None if isinstance(value, float) and isnan(value) else value
