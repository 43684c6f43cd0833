"""The fusion with its knobs: a scene that the network has seen once, and a state of the knobs -> a panoptic map.

    scene("tiny-shapes", "data/shapes", 7)      what the heads say of an image, and the truth where there is one
    FusionState(off=(2,), score=0.5)            where the knobs stand; instances are numbered as in trace.detections
    fuse(scene, state) -> Fused                 who enters Z, who wins each pixel, the segments, PQ with TP, FP, FN
    column(scene, fused, row, column)           one pixel of Z, each instance split into x_mask and y_mask
    maps(scene, fused, i)                       x_thing[C_i], x_mask, y_mask and z of one instance
    code(scene, state)                          the three lines that give `fused` again

Nothing is computed here that the network does not compute itself: pruning, Z and segments are the package's own.

Shapes   winner, panoptic (H, W)    column: logits (N_stuff + N_inst [+ 1],)    maps (4, H, W)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..boxes import box_edges
from ..datasets.coco_panoptic import CocoPanoptic
from ..engine.refuse import with_fusion
from ..files import UserError
from ..instance_head import Detections
from ..model import Trace, UPSNet
from ..panoptic_quality import PanopticQuality, Quality
from ..segments import prune_masks
from ..weights import load
from .colors import HATCH, Color
from .labels import short, z_colors, z_names
from .photo import read_photo

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class FusionState:
    """Where the knobs stand. As it is made, it is the network's own fusion with the usual thresholds."""

    score: float = 0.6  # a detection needs this score to enter
    nms: float = 0.5  # IoU of two boxes above which the weaker one goes
    overlap: float = 0.3  # share of a mask that a better one of its class may hold
    y_scale: float = 1.0  # Y counts this much against X
    unknown: bool = True
    outside: float = 0.0  # an instance's logit outside its box: 0 or -inf
    off: tuple[int, ...] = ()  # instances left out, after pruning: nobody takes their place
    boxes: tuple[tuple[int, Box], ...] = ()  # instances whose box was moved

    @classmethod
    def of(cls, model: UPSNet) -> "FusionState":
        """The thresholds with which this network was made."""
        c = model.config
        return cls(c.panoptic_score, c.panoptic_nms, c.mask_overlap, unknown=c.unknown, outside=c.outside)


@dataclass(frozen=True)
class Scene:
    """An image, everything the network says of it, the truth (None: there is none), and the words that load it."""

    model: UPSNet
    image: Tensor
    trace: Trace
    truth: Mapping | None
    words: str
    name: str


@dataclass(frozen=True)
class Fused:
    """What a state makes of a scene.

    pruned: the detections that mask pruning keeps, best first; kept: those of them that are not switched off: instance
    k of Z is detection kept[k]. detections: with the boxes as moved. chosen: those kept, with Y as scaled.
    segment_of: detection -> its id in the panoptic map, where it has one. quality: None where there is no truth.
    """

    state: FusionState
    detections: Detections
    pruned: tuple[int, ...]
    kept: tuple[int, ...]
    chosen: Detections
    winner: Tensor
    panoptic: Tensor
    segments_info: list[dict]
    segment_of: dict[int, int]
    quality: Quality | None


@torch.inference_mode()
def scene(
    checkpoint: str | Path,
    source: str | Path,
    index: int | None = None,
    split: str = "val",
    model: UPSNet | None = None,
) -> Scene:
    """An image file, or with an index an image of a data set. UserError where either cannot be read, or does not fit.

    model: what the checkpoint holds, where it is loaded already.
    """
    model = load(checkpoint) if model is None else model
    words = f"scene({str(checkpoint)!r}, {str(source)!r}"
    if index is None:
        return look_at(model, read_photo(Path(source)), f"{words})", Path(source).name)
    data = CocoPanoptic(source, split, limit=index + 1)
    if different := model.categories.difference(data.categories):
        raise UserError(f"{source} has other classes than {checkpoint}: {different}")
    if index >= len(data):
        raise UserError(f"{source} has {len(data)} images in {split!r}, none with the index {index}")
    image, truth = data[index]
    words += f", {index})" if split == "val" else f", {index}, {split!r})"
    return look_at(model, image, words, Path(truth["file_name"]).name, truth)


@torch.inference_mode()
def look_at(model: UPSNet, image: Float[Tensor, "3 H W"], words: str, name: str, truth: Mapping | None = None) -> Scene:
    """The network's look at an image that is there already."""
    return Scene(model, image, model.trace(image), truth, words, name)


# ------------------------------------------------------------------------------------------------------------- fusion


@torch.inference_mode()
def fuse(scene: Scene, state: FusionState) -> Fused:
    """The scene under these knobs, from mask pruning on."""
    model, x = configured(scene.model, state), scene.trace.X
    found = moved(scene.trace.detections, state.boxes)
    pruned = tuple(prune(found, state, x).tolist())
    kept = tuple(i for i in pruned if i not in state.off)
    chosen = scaled(found, kept, state.y_scale)
    winner = model.panoptic_head.predict(x, chosen.boxes, chosen.classes, chosen.mask_logits)
    panoptic, infos = model.to_segments(winner, x, chosen)
    segment_of = {}
    for k, i in enumerate(kept):
        ids = panoptic[winner == scene.model.config.num_stuff + k]
        if len(ids) and infos[int(ids[0]) - 1]["isthing"] and ids[0]:  # else it won nothing, or became stuff
            segment_of[i] = int(ids[0])
    quality = quality_of(panoptic, infos, scene)
    return Fused(state, found, pruned, kept, chosen, winner, panoptic, infos, segment_of, quality)


def configured(model: UPSNet, state: FusionState) -> UPSNet:
    return with_fusion(model, unknown=state.unknown, outside=state.outside)


def prune(found: Detections, state: FusionState, x: Float[Tensor, "C H W"]) -> Int[Tensor, " kept"]:
    thresholds = state.overlap, state.score, state.nms
    return prune_masks(found.boxes, found.scores, found.classes, found.mask_logits, tuple(x.shape[1:]), *thresholds)


def moved(found: Detections, boxes: Sequence[tuple[int, Box]]) -> Detections:
    """The detections with some boxes put elsewhere; a box that is not of this image's detections is passed over."""
    corners = found.boxes.clone()
    for i, box in boxes:
        if i < len(corners):
            corners[i] = corners.new_tensor(box)
    return Detections(corners, found.classes, found.scores, found.mask_logits)


def scaled(found: Detections, kept: Sequence[int], y_scale: float) -> Detections:
    """The kept detections with y_scale times their mask logits."""
    i = list(kept)
    return Detections(found.boxes[i], found.classes[i], found.scores[i], y_scale * found.mask_logits[i])


def quality_of(panoptic: Int[Tensor, "H W"], segments_info: Sequence[Mapping], scene: Scene) -> Quality | None:
    """PQ of this image alone."""
    if scene.truth is None:
        return None
    quality = PanopticQuality(scene.model.categories)
    quality.update(panoptic, segments_info, scene.truth["panoptic"], scene.truth["segments_info"])
    return quality.compute()


def reasons(scene: Scene, fused: Fused) -> dict[int, str]:
    """Why each detection that is not in Z is not: the first step of the pruning that it does not survive."""
    found, state, x = fused.detections, fused.state, scene.trace.X
    told = {i: "off" for i in fused.pruned if i not in fused.kept}
    told |= {i: "score" for i, score in enumerate(found.scores.tolist()) if score < state.score}
    steps = {"no mask": FusionState(0, 1, 1), "NMS": FusionState(state.score, state.nms, 1), "overlap": state}
    for step, looser in steps.items():
        survivors = {*prune(found, looser, x).tolist(), *told}
        told |= {i: step for i in range(len(found.scores)) if i not in survivors}
    return told


def settled(state: FusionState, scene: Scene) -> FusionState:
    """The state without what says nothing: boxes where the network put them, instances that the scene does not have."""
    own = dict(enumerate(map(tuple, scene.trace.detections.boxes.tolist())))
    boxes = tuple((i, box) for i, box in sorted(state.boxes) if i in own and not near(box, own[i]))
    return replace(state, boxes=boxes, off=tuple(sorted(i for i in set(state.off) if i in own)))


def near(a: Box, b: Box) -> bool:
    """The same to a tenth of a pixel, to which a dragged box is rounded."""
    return all(abs(p - q) < 0.06 for p, q in zip(a, b, strict=True))


# ------------------------------------------------------------------------------------------- one pixel, one instance


@dataclass(frozen=True)
class Column:
    """One pixel of Z, channel by channel. parts: channel -> (x_mask, y_mask), of instances; winner: the channel."""

    row: int
    column: int
    names: list[str]
    colors: list[Color]
    logits: list[float]
    softmax: list[float]
    parts: dict[int, tuple[float, float]]
    unknown: int | None
    winner: int


@torch.inference_mode()
def column(scene: Scene, fused: Fused, row: int, column: int) -> Column:
    """A pixel is a map of 1 × 1: the boxes are moved by its place, and the head does the rest."""
    head, chosen = configured(scene.model, fused.state).panoptic_head, fused.chosen
    x = scene.trace.X[:, row : row + 1, column : column + 1]
    edges = x.new_tensor(box_edges(chosen.boxes)).view(-1, 4) - x.new_tensor([column, row, column, row])
    found = head(x, edges, chosen.classes, chosen.mask_logits)
    z, stuff = found.z[:, 0, 0], scene.model.config.num_stuff
    names, colors = channels(scene, fused)
    parts = zip(found.x_mask[:, 0, 0].tolist(), found.y_mask[:, 0, 0].tolist(), strict=True)
    unknown = len(z) - 1 if fused.state.unknown else None
    split = {stuff + k: part for k, part in enumerate(parts)}
    names, colors = names[: len(z)], colors[: len(z)]
    return Column(row, column, names, colors, z.tolist(), z.softmax(0).tolist(), split, unknown, int(z.argmax()))


def channels(scene: Scene, fused: Fused) -> tuple[list[str], list[Color]]:
    """A name and a colour for stuff, the instances of Z and unknown."""
    own, categories = looks(scene, fused), scene.model.categories
    names = [short(c.name) for c in categories.stuff] + [own[i][0] for i in fused.kept] + ["unknown"]
    return names, [c.color for c in categories.stuff] + [own[i][1] for i in fused.kept] + [HATCH[0]]


def looks(scene: Scene, fused: Fused) -> dict[int, tuple[str, Color]]:
    """Name and colour of each detection: those that survive pruning are counted, and keep both when one is left out."""
    categories, stuff = scene.model.categories, scene.model.config.num_stuff
    classes = fused.detections.classes
    plain = {i: (short(c.name), c.color) for i, c in enumerate(categories.things[c] for c in classes.tolist())}
    own, count = classes[list(fused.pruned)], stuff + len(fused.pruned)
    counted = list(zip(z_names(own, categories, count), z_colors(own, categories, count), strict=True))[stuff:]
    return plain | dict(zip(fused.pruned, counted, strict=True))


@torch.inference_mode()
def maps(scene: Scene, fused: Fused, i: int) -> Float[Tensor, "4 H W"]:
    """x_thing[C_i], x_mask, y_mask and the channel of Z of detection i, also where it is not in Z."""
    found, num_stuff = scaled(fused.detections, [i], fused.state.y_scale), scene.model.config.num_stuff
    head = configured(scene.model, fused.state).panoptic_head
    own = head(scene.trace.X, found.boxes, found.classes, found.mask_logits)
    x_thing = scene.trace.x_thing[found.classes]
    return torch.cat([x_thing, own.x_mask, own.y_mask, own.z[num_stuff : num_stuff + 1]])


# ------------------------------------------------------------------------------------------------------------ as code


def code(scene: Scene, state: FusionState) -> str:
    """Three lines that give the same `fused` in a Python of their own."""
    said = [(f.name, getattr(state, f.name)) for f in fields(state) if getattr(state, f.name) != f.default]
    arguments = ", ".join(f"{name}={literal(value)}" for name, value in said)
    return (
        "from upsnet_lite.viz.fusion import FusionState, fuse, scene\n"
        f"look = {scene.words}\n"
        f"fused = fuse(look, FusionState({arguments}))"
    )


def literal(value: object) -> str:
    return 'float("-inf")' if value == float("-inf") else repr(value)


# -------------------------------------------------------------------------------------------------- where to begin


def largest(fused: Fused) -> int:
    """The detection that wins most pixels; -1 where there is none."""
    area = {segment["id"]: segment["area"] for segment in fused.segments_info}
    return max(fused.segment_of, key=lambda i: area[fused.segment_of[i]], default=-1)


def surest(scene: Scene, fused: Fused, i: int) -> tuple[int, int]:
    """(row, column) at which detection i is highest in Z among the pixels it wins; the middle of the image for -1."""
    height, width = fused.winner.shape
    if i < 0:
        return height // 2, width // 2
    won = fused.panoptic == fused.segment_of[i]
    return divmod(int(maps(scene, fused, i)[3].where(won, torch.tensor(-torch.inf)).argmax()), width)
