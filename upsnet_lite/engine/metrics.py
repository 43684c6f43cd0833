"""What is measured over a data set: sums that ranks can add, and the figures they become.

    Tally.update      one image into the sums          Tally.merge      another rank's sums
    Tally.metrics     the sums -> Metrics              mask_ap          COCO's AP, by pycocotools where installed

    PQ SQ RQ          panoptic_quality.py, over the panoptic maps
    mIoU              mean over the classes that occur of TP / (TP + FP + FN) in pixels, over the semantic maps
    AP_mask           mean over IoU 0.50 ... 0.95 and thing classes; boxes, scores and masks as they are before fusion
    all of them in per cent

Shapes   panoptic (H, W) int64 segment ids, 0 = void      semantic (H, W) int64 class index      confusion (C, C) pixels
         boxes (N, 4) xyxy px   labels (N,) from 1   mask_logits (N, 28, 28)
"""

import importlib.util
import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from math import nan

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from ..categories import Categories
from ..panoptic_head import y_mask
from ..panoptic_quality import PanopticQuality, Quality, mean_known, plain

NO_PYCOCOTOOLS = "pycocotools is not installed; `pip install pycocotools` adds AP_mask"
NO_INSTANCES = "the ground truth has no instance"


@dataclass(frozen=True)
class Metrics:
    """What `evaluate` found; per cent. `metrics["PQ_th"]` reads any name of metrics.json."""

    quality: Quality
    miou: float
    class_iou: tuple[float, ...]  # by class index, nan where the class does not occur
    ap_mask: float | None
    ap_note: str  # why AP_mask is None; "" where it is a number
    confusion: Int[Tensor, "C C"]  # pixels: row truth, column semantic prediction
    images: int
    unknown: float  # share of all pixels that the panoptic maps leave void

    def as_dict(self) -> dict:
        """The content of metrics.json; None for what does not exist."""
        found = self.quality.as_dict()
        rows = [{**row, "IoU": plain(iou)} for row, iou in zip(found.pop("per_class"), self.class_iou, strict=True)]
        counts = {k: sum(row[k] for row in rows) for k in ("TP", "FP", "FN")}
        note = {"AP_mask_note": self.ap_note} if self.ap_note else {}
        return {
            **found,
            "mIoU": plain(self.miou),
            "AP_mask": self.ap_mask,
            **note,
            "unknown": plain(self.unknown),
            "counts": {"images": self.images, **counts},
            "per_class": rows,
        }

    def __getitem__(self, name: str):
        return self.as_dict()[name]


# ---------------------------------------------------------------------------------------------------- sums over images


@dataclass
class Tally:
    """Everything that is summed over images. It holds no map, so it stays small and can be sent between ranks."""

    categories: Categories
    with_masks: bool = field(default_factory=lambda: importlib.util.find_spec("pycocotools") is not None)
    confusion: Int[Tensor, "C C"] = None
    quality: PanopticQuality = None
    images: list[dict] = field(default_factory=list)  # id, height, width
    pixels: int = 0
    unknown: int = 0
    truths: list[dict] = field(default_factory=list)  # COCO instance annotations, masks as run lengths
    detections: list[dict] = field(default_factory=list)
    annotations: list[dict] = field(default_factory=list)  # of panoptic_{split}.json

    def __post_init__(self) -> None:
        self.confusion = torch.zeros(len(self.categories), len(self.categories), dtype=torch.int64)
        self.quality = PanopticQuality(self.categories)

    def update(self, prediction: Mapping, target: Mapping) -> None:
        """Adds one image; both on the CPU. ValueError where map and segments disagree (see PanopticQuality)."""
        panoptic, image_id = prediction["panoptic"], int(target["image_id"])
        self.quality.update(panoptic, prediction["segments_info"], target["panoptic"], target["segments_info"])
        self.confusion += confusion_matrix(prediction["semantic"], target["semantic"], len(self.categories))
        self.pixels += panoptic.numel()
        self.unknown += int((panoptic == 0).sum())
        self.images.append(dict(id=image_id, height=panoptic.shape[0], width=panoptic.shape[1]))
        self.annotations.append(
            dict(image_id=image_id, file_name=f"{image_id:012d}.png", segments_info=list(prediction["segments_info"]))
        )
        if self.with_masks:
            self.truths += true_masks(target, self.categories)
            self.detections += detected_masks(prediction, image_id, self.categories)

    def merge(self, other: "Tally") -> None:
        """Adds the images of another rank."""
        self.quality.merge(other.quality.state())
        self.confusion += other.confusion
        self.pixels += other.pixels
        self.unknown += other.unknown
        for name in ("images", "truths", "detections", "annotations"):
            getattr(self, name).extend(getattr(other, name))

    def metrics(self) -> Metrics:
        hit = self.confusion.diag().double()
        iou = (
            100 * hit / (self.confusion.sum(0) + self.confusion.sum(1) - hit)
        ).tolist()  # 0 / 0 is nan: does not occur
        ap, note = (
            mask_ap(self.truths, self.detections, self.images, self.categories)
            if self.with_masks
            else (None, NO_PYCOCOTOOLS)
        )
        unknown = self.unknown / self.pixels if self.pixels else nan
        return Metrics(
            self.quality.compute(),
            mean_known(iou),
            tuple(iou),
            ap,
            note,
            self.confusion,
            len(self.images),
            100 * unknown,
        )


def confusion_matrix(pred: Int[Tensor, "H W"], gt: Int[Tensor, "H W"], num_classes: int) -> Int[Tensor, "C C"]:
    """Pixels by true and predicted class index; IGNORE in the truth is left out."""
    known = gt >= 0
    pairs = gt[known] * num_classes + pred[known]
    return pairs.bincount(minlength=num_classes**2).view(num_classes, num_classes)


# ------------------------------------------------------------------------------------------------------------- mask AP


def run_lengths(mask: np.ndarray) -> dict:
    from pycocotools import mask as coco_mask

    return coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))


def true_masks(target: Mapping, categories: Categories) -> list[dict]:
    """COCO instance annotations of one image: its things, crowds marked as such."""
    panoptic = target["panoptic"].numpy()
    found = []
    for s in target["segments_info"]:
        mask = panoptic == s["id"]
        if categories[categories.index(s["category_id"])].isthing and mask.any():
            found.append(
                dict(
                    image_id=int(target["image_id"]),
                    category_id=s["category_id"],
                    iscrowd=int(s.get("iscrowd", 0)),
                    segmentation=run_lengths(mask),
                    area=int(mask.sum()),
                )
            )
    return found


def detected_masks(prediction: Mapping, image_id: int, categories: Categories) -> list[dict]:
    """COCO instance results of one image: Y pasted into its box, the pixels where it is above 0."""
    size = tuple(prediction["panoptic"].shape)
    found = []
    for box, label, score, y in zip(
        *(prediction[k] for k in ("boxes", "labels", "scores", "mask_logits")), strict=True
    ):
        mask = (
            y_mask(y[None].float(), box[None], size)[0] > 0
        )  # one at a time: 100 of them at full size would take 0.3 GB
        category_id = categories.things[int(label) - 1].id
        found.append(
            dict(image_id=image_id, category_id=category_id, score=float(score), segmentation=run_lengths(mask.numpy()))
        )
    return found


def mask_ap(
    truths: Sequence[Mapping], detections: Sequence[Mapping], images: Sequence[Mapping], categories: Categories
) -> tuple[float | None, str]:
    """COCO's mask AP (mean over IoU 0.50 ... 0.95 and thing classes) in per cent, or None and why."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    if not any(not t["iscrowd"] for t in truths):
        return None, NO_INSTANCES
    if not detections:
        return 0.0, ""  # pycocotools cannot load an empty result
    with redirect_stdout(io.StringIO()):  # it prints its progress
        coco = COCO()
        coco.dataset = dict(
            info={},
            images=list(images),
            annotations=[dict(t, id=n) for n, t in enumerate(truths, start=1)],
            categories=[dict(id=c.id, name=c.name) for c in categories.things],
        )
        coco.createIndex()
        scored = COCOeval(coco, coco.loadRes([dict(d) for d in detections]), "segm")
        scored.evaluate()
        scored.accumulate()
        scored.summarize()
    return 100 * float(scored.stats[0]), ""
