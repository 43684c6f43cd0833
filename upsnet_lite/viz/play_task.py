"""Lesson 01: one segment of an answer is spoiled, and PQ is watched.

    grow      > 0: every pixel within so many steps joins;  < 0: every pixel within so many steps of another leaves
    down, right   moves it;  what it leaves behind is unknown (0), what it comes to lie on is lost to the others
    split     per cent of its pixels, those farthest right, become a segment of their own of the same class
    erase     all of it is unknown

Shapes   panoptic (H, W) segment ids, 0 = void in the truth and unknown in an answer
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from matplotlib.axes import Axes
from torch import Tensor

from upsnet_lite.categories import Categories
from upsnet_lite.panoptic_quality import MATCH_IOU, PanopticQuality, Quality
from upsnet_lite.viz.charts import known, rgb
from upsnet_lite.viz.colors import hatch
from upsnet_lite.viz.labels import short
from upsnet_lite.viz.picture import GREY, INK, Picture, panels, styled
from upsnet_lite.viz.play import Answer, Play, choice, play, slider, tick
from upsnet_lite.viz.plots import draw_panoptic, named

Map = tuple[Int[Tensor, "H W"], Sequence[Mapping]]  # panoptic, segments_info
BOTH, ANSWER, TRUTH = (33, 126, 116), (199, 95, 14), (30, 107, 178)  # of one segment's pixels: colour-blind safe


# ------------------------------------------------------------------------------------------------------ arithmetic


def grown(mask: Bool[Tensor, "H W"], steps: int) -> Bool[Tensor, "H W"]:
    """Within |steps| of it, diagonals included; negative: not within |steps| of what lies outside of it."""
    if steps < 0:
        return ~grown(~mask, -steps)
    return F.max_pool2d(mask[None].float(), 2 * steps + 1, 1, steps)[0] > 0


def moved(mask: Bool[Tensor, "H W"], down: int, right: int) -> Bool[Tensor, "H W"]:
    """What leaves the map is gone."""
    height, width = mask.shape
    far = F.pad(mask, (width, width, height, height))
    return far[height - down : 2 * height - down, width - right : 2 * width - right]


def edit(
    truth: Map, segment: int, grow: int = 0, down: int = 0, right: int = 0, split: int = 0, erase: bool = False
) -> Map:
    """The truth as an answer in which one segment is spoiled."""
    panoptic, segments = truth
    before = panoptic == segment
    after = moved(grown(before, grow), down, right) & (not erase)
    answer = torch.where(after, segment, torch.where(before, 0, panoptic))
    part = after.T.nonzero()  # column after column
    part = part[len(part) - round(len(part) * split / 100) :]
    other = max(s["id"] for s in segments) + 1
    answer[part[:, 1], part[:, 0]] = other
    own = next(s for s in segments if s["id"] == segment)
    known = [s for s in (*segments, own | dict(id=other)) if (answer == s["id"]).any()]
    return answer, known


@dataclass(frozen=True)
class Judged:
    """quality: of the answer; both, either: pixels of the chosen segment and of the part that fits it best."""

    quality: Quality
    both: int
    either: int

    @property
    def iou(self) -> float:
        return self.both / self.either

    def count(self, what: str) -> int:
        return sum(getattr(c, what) for c in self.quality.per_class)


def judge(answer: Map, truth: Map, segment: int, categories: Categories) -> Judged:
    measure = PanopticQuality(categories)
    measure.update(*answer, *truth)
    wanted, void = truth[0] == segment, truth[0] == 0
    parts = [answer[0] == i for i in (segment, max(s["id"] for s in truth[1]) + 1)]
    pixels = [(int((wanted & part).sum()), int((wanted | part & ~void).sum())) for part in parts]
    return Judged(measure.compute(), *max(pixels, key=lambda p: p[0] / p[1]))


def words(found: Judged, name: str) -> str:
    verdict = "a match" if found.iou > MATCH_IOU else "no match"
    counts = "   ".join(f"{k.upper()} {found.count(k)}" for k in ("tp", "fp", "fn"))
    q = found.quality
    return (
        f"{name}: IoU {found.both} / {found.either} px = {found.iou:.3f}, {verdict}.   All segments: {counts}   "
        f"SQ {q.sq:.1f}   RQ {q.rq:.1f}   PQ {q.pq:.1f}"
    )


# --------------------------------------------------------------------------------------------------------- picture


@styled
def show_edit(
    truth: Map, answer: Map, segment: int, found: Judged, categories: Categories, image: Float[Tensor, "3 H W"]
) -> Picture:
    """Truth, answer, the pixels that make the chosen segment's IoU, and PQ class by class."""
    scale = -(-COARSE // min(truth[0].shape))
    (wanted, segments), (given, said) = ((enlarged(ids, scale), s) for ids, s in (truth, answer))
    image = image.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    figure, axes, _ = panels(4, 4, wanted.shape[0] / wanted.shape[1])
    for ax, name, ids, infos in ((axes[0], "truth", wanted, segments), (axes[1], "answer", given, said)):
        draw_panoptic(ax, image, ids, infos, categories, 0.8, names=False)
        mask = wanted == segment
        ax.contour(mask.float().numpy(), [0.5], colors=INK, linewidths=1.6, linestyles="-" if ax is axes[0] else ":")
        named(ax, name, f"{len(infos)} segments")
    axes[2].imshow(shares(wanted == segment, given == segment, wanted == 0))
    zoom(axes[2], (wanted == segment) | (given == segment))
    for place, name, color in (
        ("left", "both", BOTH),
        ("center", "answer only", ANSWER),
        ("right", "truth only", TRUTH),
    ):
        axes[2].set_title(name, loc=place, color=rgb(color), size=7, weight="bold")
    draw_classes(axes[3], found.quality)
    figure.alt_text = (
        f"Truth, an answer, the chosen segment's pixels in both, in the answer only and in the truth only (IoU "
        f"{found.iou:.2f}), and PQ of each class, {found.quality.pq:.1f} on average."
    )
    return figure


COARSE = 96  # a map with fewer pixels a side is enlarged, so that lines and stripes stay thin


def enlarged(ids: Int[Tensor, "H W"], scale: int) -> Int[Tensor, "H_large W_large"]:
    return ids.repeat_interleave(scale, 0).repeat_interleave(scale, 1)


def shares(
    wanted: Bool[Tensor, "H W"], given: Bool[Tensor, "H W"], void: Bool[Tensor, "H W"]
) -> UInt8[np.ndarray, "H W 3"]:
    """Pixels of one segment: in both, in the answer only, in the truth only; hatched where nobody is judged."""
    drawn = np.full((*wanted.shape, 3), 244, dtype=np.uint8)
    for mask, color in ((wanted & given, BOTH), (given & ~wanted, ANSWER), (wanted & ~given, TRUTH)):
        drawn[mask.numpy()] = color
    return np.where(void.numpy()[..., None], hatch(*wanted.shape), drawn)


def zoom(axes: Axes, mask: Bool[Tensor, "H W"]) -> None:
    """To what is there, in the panel's proportions."""
    rows, columns = mask.nonzero(as_tuple=True)
    aspect = mask.shape[0] / mask.shape[1]
    half = 0.65 * max(float(columns.max() - columns.min()) + 1, (float(rows.max() - rows.min()) + 1) / aspect)
    x, y = float(columns.max() + columns.min()) / 2, float(rows.max() + rows.min()) / 2
    axes.set(xlim=(x - half, x + half), ylim=(y + half * aspect, y - half * aspect))


def draw_classes(axes: Axes, quality: Quality) -> None:
    """PQ of every class that occurs, a bar as long as it is good, in the class's place from stuff to things."""
    classes = [c for c in quality.per_class if known(c.pq)]
    values = [c.pq for c in classes]
    axes.barh(range(len(classes)), values, 0.78, color=rgb((190, 224, 190)))
    for row, c in enumerate(classes):
        axes.text(2, row, short(c.name), va="center", size=7.5)
        axes.text(99, row, f"{c.pq:.0f}", va="center", ha="right", size=7.5, weight="bold" if c.pq < 99.95 else None)
    axes.set(xlim=(0, 100), ylim=(len(classes) - 0.5, -0.5))
    axes.set_title(f"PQ {quality.pq:.1f}", weight="bold")
    axes.set_title("by class", loc="right", color=GREY, size=7.5)


# ---------------------------------------------------------------------------------------------------------- widget


def play_pq(truth: Map, categories: Categories, image: Float[Tensor, "3 H W"] | None = None, reach: int = 12) -> Play:
    """Spoil a segment of the truth and see what it costs. reach: how far it can be moved, px."""
    ground = torch.full((3, *truth[0].shape), 0.8) if image is None else image
    segments = [s for s in truth[1] if not s.get("iscrowd")]
    things = [s for s in segments if categories[categories.index(s["category_id"])].isthing]
    names = {s["id"]: short(categories[categories.index(s["category_id"])].name) for s in segments}
    listed = [(f"{names[s['id']]}, {int((truth[0] == s['id']).sum())} px", s["id"]) for s in segments]

    def draw(segment: int, **how) -> Answer:
        answer = edit(truth, segment, **how)
        found = judge(answer, truth, segment, categories)
        return Answer([show_edit(truth, answer, segment, found, categories, ground)], words(found, names[segment]))

    largest = max(things or segments, key=lambda s: int((truth[0] == s["id"]).sum()))
    return play(
        draw,
        segment=choice("segment", listed, largest["id"]),
        grow=slider("grow", -reach // 2, reach // 2, 0),
        down=slider("shift down", -reach, reach, 0),
        right=slider("shift right", -reach, reach, reach // 3),
        split=slider("split, %", 0, 100, 0, 5),
        erase=tick("erase"),
    )
