"""Lesson 04: of all candidates of the RPN, which have the score, and which does NMS leave.

    passed = those with sigmoid(objectness) >= score
    kept   = NMS within each level: the best, without all that overlap it by more than `iou`, and so on; `most` at most

Shapes   anchors, boxes (N, 4) xyxy in pixels of the image    scores (N,) in [0, 1]    levels (N,) 2 … 6    truth (T, 4)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from torch import Tensor
from torchvision.ops import batched_nms, box_iou, clip_boxes_to_image, remove_small_boxes

from upsnet_lite.instance_head import InstanceHead, Proposals
from upsnet_lite.viz.charts import RUNS
from upsnet_lite.viz.colors import image_rgb
from upsnet_lite.viz.picture import Picture, panels, styled
from upsnet_lite.viz.play import Answer, Play, choice, play, slider
from upsnet_lite.viz.plots import draw_pixels

ALL = 0  # the level that stands for all of them
FOUND = 0.5  # IoU above which a box has found an object: the box head's own limit


@dataclass(frozen=True)
class Candidates:
    """The best of each level before NMS, with the anchors that they came from."""

    anchors: Float[Tensor, "N 4"]
    boxes: Float[Tensor, "N 4"]
    scores: Float[Tensor, " N"]
    levels: Int[Tensor, " N"]


@torch.no_grad()
def candidates(head: InstanceHead, proposals: Proposals, size: tuple[int, int], most: int) -> Candidates:
    """`most` per level by objectness, decoded and clipped to the image: what the RPN hands to NMS."""
    anchors, objectness = proposals.anchors[0], proposals.objectness[0]
    boxes = clip_boxes_to_image(head.rpn.box_coder.decode(proposals.deltas[0], [anchors])[:, 0], size)
    counts = torch.tensor(proposals.per_level)
    levels = torch.repeat_interleave(torch.arange(2, 2 + len(counts)), counts)
    starts = (counts.cumsum(0) - counts).tolist()
    best = [
        p.topk(min(most, len(p))).indices + n for p, n in zip(objectness.split(counts.tolist()), starts, strict=True)
    ]
    chosen = torch.cat(best)
    chosen = chosen[remove_small_boxes(boxes[chosen], 1e-3)]
    return Candidates(anchors[chosen], boxes[chosen], objectness[chosen].sigmoid(), levels[chosen])


@dataclass(frozen=True)
class Left:
    """Indices of the candidates that have the score, of those that NMS leaves, best first; which objects are found."""

    passed: Int[Tensor, " P"]
    kept: Int[Tensor, " K"]
    best: Float[Tensor, " T"]

    @property
    def found(self) -> int:
        return int((self.best > FOUND).sum())


def thin_out(
    all_: Candidates, truth: Float[Tensor, "T 4"], score: float, iou: float, level: int = ALL, most: int = 100
) -> Left:
    """Score, then NMS. best: the IoU of each true box with the kept box that fits it best."""
    passed = torch.where((all_.scores >= score) & ((all_.levels == level) | (level == ALL)))[0]
    order = batched_nms(all_.boxes[passed], all_.scores[passed], all_.levels[passed], iou)[:most]
    kept = passed[order]
    best = box_iou(truth, all_.boxes[kept]).amax(1) if len(kept) else torch.zeros(len(truth))
    return Left(passed, kept, best)


@styled
def show_thinned(image: Float[Tensor, "3 H W"], all_: Candidates, left: Left, truth: Float[Tensor, "T 4"]) -> Picture:
    """Anchors with the score, their boxes, what NMS leaves; true boxes: found green, missed orange and dashed."""
    figure, axes, _ = panels(3, 3, image.shape[1] / image.shape[2], largest=2.5)
    ground = np.rint(0.55 * image_rgb(image) + 0.45 * 255).astype(np.uint8)
    sets = {"anchors": all_.anchors[left.passed], "their boxes": all_.boxes[left.passed], "kept": all_.boxes[left.kept]}
    for ax, (name, boxes) in zip(axes, sets.items(), strict=True):
        draw_pixels(ax, ground, name, str(len(boxes)))
        ends = dict(xlim=ax.get_xlim(), ylim=ax.get_ylim())
        few = len(boxes) < 12
        draw_outlines(ax, boxes, RUNS[0], 1.8 if few else 1.0, 1.0 if few else 0.8 if len(boxes) < 60 else 0.35)
        ax.set(**ends)
    for mask, color, style in ((left.best > FOUND, RUNS[2], "-"), (left.best <= FOUND, RUNS[1], "--")):
        draw_outlines(axes[2], truth[mask], color, 2.2, 1.0, style)
    axes[2].set_title(f"found {left.found} of {len(truth)}", loc="center", color=RUNS[2], size=7.5, weight="bold")
    figure.alt_text = (
        f"{len(left.passed)} anchors whose score is high enough, their boxes, and the {len(left.kept)} boxes that NMS "
        f"leaves, over the image; {left.found} of {len(truth)} true boxes are found."
    )
    return figure


def draw_outlines(
    axes: Axes, boxes: Float[Tensor, "N 4"], color: str, width: float, alpha: float, style: str = "-"
) -> None:
    """Many frames at once: a patch for each would take its time."""
    if len(boxes):
        corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].view(-1, 4, 2).numpy() - 0.5  # imshow: pixel centres are integers
        look = dict(facecolors="none", edgecolors=color, linewidths=width, alpha=alpha, linestyles=style)
        axes.add_collection(PolyCollection(corners, **look))


def words(all_: Candidates, left: Left, names: Sequence[str], score: float, iou: float) -> str:
    missed = [name for name, fit in zip(names, left.best.tolist(), strict=True) if fit <= FOUND]
    return (
        f"{len(all_.scores)} candidates   score at least {score:.2f}: {len(left.passed)}   "
        f"kept by NMS at IoU {iou:.2f}: {len(left.kept)}   things found (IoU above ½): {left.found} of {len(names)}"
        + (f"   missed: {', '.join(missed)}" if missed else "")
    )


def play_nms(
    all_: Candidates, truth: Float[Tensor, "T 4"], names: Sequence[str], image: Float[Tensor, "3 H W"]
) -> Play:
    """Move the score and the IoU. names: of the true boxes."""

    def draw(score: float, iou: float, level: int) -> Answer:
        left = thin_out(all_, truth, score, iou, level)
        return Answer([show_thinned(image, all_, left, truth)], words(all_, left, names, score, iou))

    return play(
        draw,
        score=slider("score at least", 0.0, 1.0, 0.5, 0.02),
        iou=slider("NMS, IoU", 0.0, 1.0, 0.7, 0.05),
        level=choice("level", [("all", ALL), *((f"P{n}", n) for n in all_.levels.unique().tolist())]),
    )
