"""Evaluation: a model over a data set -> Metrics, and COCO's panoptic result files.

evaluate              the whole of it                      measure    the loop over the images (of one process)
panopticapi_quality   PQ of the written files by the reference implementation, where it is installed

OUT/panoptic_{split}.json     {"annotations": [{image_id, file_name, segments_info}]}
OUT/panoptic_{split}/*.png    segment ids, R + 256 G + 256² B; 0 where unknown
OUT/metrics.json              per cent; written last: where it is, the result is whole
"""

import io
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from math import nan
from pathlib import Path

import torch
from torch import Tensor

from ..categories import Categories
from ..datasets.ids import write_ids
from ..files import UserError, read_json
from ..panoptic_quality import Quality, class_quality
from . import ranks
from .metrics import Metrics, Tally

ASIDE = ".upsnet-eval-"  # a folder of this name in OUT: an evaluation is being written, or was killed meanwhile


# ------------------------------------------------------------------------------------------------------------ the loop


def evaluate(
    model: torch.nn.Module,
    dataset,
    out: str | os.PathLike | None = None,
    split: str = "val",
    *,
    batch_size: int = 4,
    device: str | torch.device | None = None,
    checkpoint: str = "",
    progress: Callable[[int, int], None] | None = None,
    fabric=None,
) -> Metrics:
    """Predicts every image of `dataset`, measures, and writes the result files where `out` is a folder.

    model      in evaluation mode during the call, afterwards as before; moved to `device` where one is given
    dataset    items (image, target) and `categories`, as CocoPanoptic
    split      only names the files; `checkpoint` is only recorded
    progress   called with (images done, images in all), of this process's share
    fabric     the processes that share the images (`ranks.launch`): each writes its PNGs, the first one the rest

    Raises UserError where the categories of data set and model differ, there is no image, a ground truth disagrees
    with its own segments, or `out` holds anything but an earlier evaluation. Nothing half-written stays behind.
    """
    if different := model.categories.difference(dataset.categories):
        what = f"model and data set differ in their categories: {different}; choose the data it was trained for"
        raise ranks.by_all(fabric, UserError(what))
    if not len(dataset):
        raise ranks.by_all(fabric, UserError(f"split {split!r} has no image to evaluate"))
    first = ranks.is_first(fabric)
    with (
        ranks.survivors(fabric),
        result_folder(Path(out), split) if first and out is not None else nullcontext() as folder,
    ):
        folder = ranks.gather(fabric, folder)[0]
        png_folder = folder and folder / f"panoptic_{split}"
        try:
            part = measure(model, dataset, ranks.share(len(dataset), fabric), png_folder, batch_size, device, progress)
        except UserError as error:  # all must hear of it
            part = error
        tally, *others = ranks.gather(fabric, part)
        for other in others:
            tally.merge(other)
        metrics = ranks.gather(fabric, tally.metrics() if first else None)[0]
        if folder and first:
            about = {"checkpoint": checkpoint, "split": split, "unit": "per cent"}
            write_json(folder / f"panoptic_{split}.json", {"annotations": tally.annotations})
            write_json(folder / "metrics.json", {**about, **metrics.as_dict()})
    return metrics


def measure(
    model: torch.nn.Module,
    dataset,
    indices: Sequence[int],
    png_folder: Path | None,
    batch_size: int,
    device: str | torch.device | None,
    progress: Callable[[int, int], None] | None,
) -> Tally:
    """The sums over the images `indices`: one process's share, if several share the work. PNGs go to `png_folder`."""
    if device is not None:
        model.to(device)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    tally = Tally(dataset.categories)
    with evaluating(model):
        for start in range(0, len(indices), batch_size):
            batch = [dataset[i] for i in indices[start : start + batch_size]]
            predictions = predict_each([image.to(device) for image, _ in batch], model)
            for prediction, (_, target) in zip(predictions, batch, strict=True):
                prediction = {k: v.cpu() if isinstance(v, Tensor) else v for k, v in prediction.items()}
                try:
                    tally.update(prediction, target)
                except ValueError as error:
                    raise UserError(f"{target['file_name']}: {error}") from error
                if png_folder:
                    write_ids(png_folder / tally.annotations[-1]["file_name"], prediction["panoptic"].numpy())
                if progress:
                    progress(len(tally.images), len(indices))
    return tally


@torch.inference_mode()
def predict_each(images: list[Tensor], model: torch.nn.Module) -> list[dict]:
    """The model's predictions. Images of one size share a batch, others would be padded: an image's result must not
    depend on its neighbours."""
    found: dict[int, dict] = {}
    for size in {image.shape for image in images}:
        same = [n for n, image in enumerate(images) if image.shape == size]
        found |= zip(same, model([images[n] for n in same]), strict=True)
    return [found[n] for n in range(len(images))]


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode inside; the mode of before afterwards, also after an error."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


# ----------------------------------------------------------------------------------------------------------- the files


@contextmanager
def result_folder(out: Path, split: str) -> Iterator[Path]:
    """Yields a folder beside the results in `out`; what it holds replaces them only if the block succeeds."""
    if Path(split).name != split:
        raise UserError(f"{split!r} cannot name a split: it would lead out of {out}")
    refuse_foreign(out)
    made = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        for leftover in out.glob(f"{ASIDE}*"):
            shutil.rmtree(leftover)
        aside = out / f"{ASIDE}{secrets.token_hex(4)}"
        (aside / f"panoptic_{split}").mkdir(parents=True)
    except OSError as error:
        raise UserError(f"cannot write into {out}: {error.strerror or error}") from None
    try:
        yield aside
        publish(aside, out, [f"panoptic_{split}", f"panoptic_{split}.json", "metrics.json"])
    finally:
        shutil.rmtree(aside)
        if made and not any(out.iterdir()):
            out.rmdir()


def publish(aside: Path, out: Path, names: Sequence[str]) -> None:
    """Moves the new results onto the old ones. The last name goes first and comes last: without it nothing is whole."""
    for name in reversed(names):
        if os.path.lexists(out / name):
            os.replace(out / name, aside / f"old_{name}")  # moved, not deleted: a symlink's target stays
    for name in names:
        os.replace(aside / name, out / name)


def refuse_foreign(out: Path) -> None:
    """UserError unless `out` is missing, empty or an evaluation; a data set's annotations have no metrics.json."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; name a folder for the results")
    names = sorted(p.name for p in out.iterdir()) if out.exists() else []
    foreign = [n for n in names if n != "metrics.json" and not n.startswith((ASIDE, "panoptic_"))]
    ours = any(n.startswith(ASIDE) for n in names) or (
        "metrics.json" in names and "PQ" in read_json(out / "metrics.json")
    )
    if names and (foreign or not ours):
        raise UserError(f"{out} holds {(foreign or names)[0]}, which no evaluation wrote; name a new or empty folder")


def write_json(path: Path, content: Mapping) -> None:
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def panopticapi_quality(truth_json: str | os.PathLike, result_json: str | os.PathLike) -> Quality:
    """The same figures by panopticapi from the files on disk; each JSON has its PNGs in the folder of its own name.

    Raises UserError where panopticapi is not installed or an image of the truth has no result.
    """
    try:
        from panopticapi.evaluation import pq_compute_single_core  # in this process: its pool is never closed
    except ImportError:
        raise UserError("panopticapi is not installed; `pip install --no-deps panopticapi-lite` adds it") from None
    truth, result = read_json(Path(truth_json)), read_json(Path(result_json))
    found = {a["image_id"]: a for a in result["annotations"]}
    if missing := [a["image_id"] for a in truth["annotations"] if a["image_id"] not in found]:
        raise UserError(f"{result_json} has no result for image {missing[0]} ({len(missing)} images in all)")
    pairs = [(a, found[a["image_id"]]) for a in truth["annotations"]]
    table = {c["id"]: c for c in truth["categories"]}
    folders = [Path(p).with_suffix("") for p in (truth_json, result_json)]
    with redirect_stdout(io.StringIO()):  # it prints its progress
        stat = pq_compute_single_core(0, pairs, *folders, table)
    means = {}
    for end, isthing in (("", None), ("_th", True), ("_st", False)):
        try:
            mean, _ = stat.pq_average(table, isthing)
        except ZeroDivisionError:  # no such class occurs
            mean = dict.fromkeys(("pq", "sq", "rq"), nan)
        means |= {f"{k}{end}": 100 * float(mean[k]) for k in ("pq", "sq", "rq")}
    sums = [(stat[c.id], c) for c in Categories.from_json(truth["categories"])]
    per_class = tuple(class_quality(c, [float(v) for v in (s.iou, s.tp, s.fp, s.fn)]) for s, c in sums)
    return Quality(**means, per_class=per_class)
