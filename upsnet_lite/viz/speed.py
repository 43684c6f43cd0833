"""How long each control of the widgets takes to answer: from the value that the browser sends to all that goes back.

A scene of 128 px with 20 instances. What the browser then draws and the way to it are not in these seconds.
"""

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

import torch
from jaxtyping import Float
from torch import Tensor

from upsnet_lite.datasets.coco_panoptic import CocoPanoptic
from upsnet_lite.datasets.shapes import write_shapes
from upsnet_lite.model import UPSNet
from upsnet_lite.preprocess import batch_images
from upsnet_lite.viz.explorer import KNOBS, FusionExplorer
from upsnet_lite.viz.play import Play, seconds
from upsnet_lite.viz.play_backbone import play_levels
from upsnet_lite.viz.play_instance import candidates, play_nms
from upsnet_lite.viz.play_losses import lesson, play_weights
from upsnet_lite.viz.play_semantic import play_taps
from upsnet_lite.viz.play_task import play_pq
from upsnet_lite.viz.play_training import LOG, play_runs
from upsnet_lite.weights import load


def answers(instances: int = 20, images: int = 32, size: int = 128, repeats: int = 5) -> dict[str, float]:
    """Median seconds by widget and control, in the first of so many drawn images with enough instances."""
    model = load("tiny-shapes")
    with tempfile.TemporaryDirectory() as root:
        write_shapes(root, train=1, val=images, size=size)
        explorer = FusionExplorer("tiny-shapes", root, first=0, model=model)
        counts = [len(explorer.scene_of(n).trace.C) for n in range(images)]
        busiest = next((n for n, count in enumerate(counts) if count >= instances), counts.index(max(counts)))
        image, target = CocoPanoptic(root, "val")[busiest]
        explorer.image.value = busiest
        taken = of_explorer(explorer, repeats)
        for widget, play in (plays(model, image, target) | {"runs": play_runs(three_runs(Path(root)))}).items():
            taken |= {f"{widget}: {control}": median(found) for control, found in seconds(play).items() if found}
    return taken


def of_explorer(explorer: FusionExplorer, repeats: int) -> dict[str, float]:
    """Each control there and back, so that every turn has something to do."""
    i, (x0, y0, x1, y1) = explorer.instances.chosen, explorer.canvas.box
    other = next((j for j in explorer.fused.kept if j != i), i)
    clicks = [dict(pixel=[9, j], segment=explorer.fused.segment_of.get(j, 0)) for j in (i, other)]
    far = dict(zip(KNOBS, (0.3, 0.8, 0.9, 2.0, False, float("-inf")), strict=True))
    moves: dict[str, tuple[Callable, list]] = {
        name: (lambda value, control=control: setattr(control, "value", value), [far[name], control.value])
        for name, control in explorer.knobs().items()
    }
    moves |= {
        "an instance off and on": (lambda off: setattr(explorer.instances, "off", off), [[i], []]),
        "another instance": (lambda one: setattr(explorer.instances, "chosen", one), [other, i]),
        "an edge dragged": (lambda x: setattr(explorer.canvas, "box", [x0, y0, x, y1]), [x1 - 3, x1 - 1, x1]),
        "a pixel clicked": (explorer.canvas.set_state, clicks),
        "reset": (lambda _: explorer.reset.click(), [None]),
    }
    return {f"explorer: {name}": middle(call, values, repeats) for name, (call, values) in moves.items()}


def middle(call: Callable, values: list, repeats: int) -> float:
    taken = []
    for _ in range(repeats):
        for value in values:
            begun = time.perf_counter()
            call(value)
            taken.append(time.perf_counter() - begun)
    return median(taken)


def plays(model: UPSNet, image: Float[Tensor, "3 H W"], target: Mapping) -> dict[str, Play]:
    """The forms of lessons 01 to 04 and 06 on the same image."""
    truth, categories = (target["panoptic"], target["segments_info"]), model.categories
    batch = batch_images([image], model.config).tensors
    with torch.no_grad():
        trace = model.trace(image)
    levels = {level: getattr(trace, level)[None] for level in ("P2", "P3", "P4", "P5")}
    things = [categories.things[label - 1].name for label in target["labels"].tolist()]
    modules = {name: [part] for name, part in model.named_children() if any(True for _ in part.parameters())}
    weights = {k: getattr(model.config.weights, k) for k in model.config.weights.__dataclass_fields__}
    pool = candidates(model.instance_head, trace.proposals, tuple(image.shape[1:]), 200)
    return {
        "PQ playground": play_pq(truth, categories, image),
        "levels": play_levels(model.backbone, batch, image),
        "taps": play_taps(model.semantic_head.subnet, levels, image, truth, categories, (64, 64)),
        "NMS": play_nms(pool, target["boxes"], things, image),
        "loss weights": play_weights(lesson(model.losses([image], [target]), modules), weights),
    }


def three_runs(root: Path, rows: int = 1000) -> Path:
    """Logs as long as that of lesson 07's live run."""
    losses = ("total", "loss_classifier", "loss_semantic", "loss_mask")
    for n in range(3):
        lines = [",".join(str(v) for v in (i, *((n + k + 1) / (i + 9) for k in range(4)))) for i in range(1, rows + 1)]
        (root / f"run{n}").mkdir()
        (root / f"run{n}" / LOG).write_text("\n".join([",".join(("iteration", *losses)), *lines]), encoding="utf-8")
    return root
