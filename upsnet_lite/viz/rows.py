"""What the browser is told of each segment and of each detection, in plain words and numbers.

rows_of(panoptic, segments_info, categories)     any panoptic map; names and colours as in the other pictures
map_rows(scene, fused)                           the explorer's map: an instance keeps its own when another is gone
instance_rows(scene, fused)                      every detection, those in Z first, and why the others are not
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int

from upsnet_lite.categories import Categories
from upsnet_lite.viz.colors import HATCH, Array, Color, array, segment_colors
from upsnet_lite.viz.fusion import Fused, Scene, looks, reasons
from upsnet_lite.viz.labels import class_names, short


def rows_of(panoptic: Int[Array, "H W"], segments_info: Sequence[Mapping], categories: Categories) -> list[dict]:
    """The unknown first, then in the order of `segments_info`."""
    colors = segment_colors(segments_info, categories)
    index = {s["id"]: categories.index(s["category_id"]) for s in segments_info}
    things = [i for i, c in index.items() if c >= categories.num_stuff]
    counted = class_names(np.array([index[i] - categories.num_stuff for i in things], dtype=int), categories)
    names = {i: short(categories[c].name) for i, c in index.items()} | dict(zip(things, counted, strict=True))
    share = {i: float((array(panoptic) == i).mean()) for i in [0, *index]}
    scores = {s["id"]: s.get("score") for s in segments_info}
    rows = [row(names[i], colors[i], share[i], i in things, scores[i]) for i in index]
    return [row("unknown", HATCH[0], share[0]), *rows]


def map_rows(scene: Scene, fused: Fused) -> list[dict]:
    """The unknown first, then by segment id."""
    categories, own = scene.model.categories, looks(scene, fused)
    detection = {segment: i for i, segment in fused.segment_of.items()}
    total = fused.panoptic.numel()
    rows = [row("unknown", HATCH[0], int((fused.panoptic == 0).sum()) / total)]
    for info in fused.segments_info:
        stuff = categories[categories.index(info["category_id"])]
        name, color = own[detection[info["id"]]] if info["isthing"] else (short(stuff.name), stuff.color)
        rows.append(row(name, color, info["area"] / total, info["isthing"], info["score"]))
    return rows


def row(name: str, color: Color, share: float, isthing: bool | None = None, score: float | None = None) -> dict:
    kind = "" if isthing is None else "thing" if isthing else "stuff"
    return dict(name=name, kind=kind, color=list(color), share=share, score=score)


def instance_rows(scene: Scene, fused: Fused) -> list[dict]:
    """id, name, color, score and note of each detection; the note is empty for those in Z."""
    notes, own, scores = reasons(scene, fused), looks(scene, fused), fused.detections.scores.tolist()
    order = sorted(own, key=lambda i: i not in fused.pruned)
    return [dict(id=i, name=own[i][0], color=list(own[i][1]), score=scores[i], note=notes.get(i, "")) for i in order]
