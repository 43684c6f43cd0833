"""The model card of a trained checkpoint: what it is, how it was trained, how good it is, what it confuses.

python -m upsnet_lite.engine.card CHECKPOINT --data ROOT --drawn "--train 8000 --val 200" > CARD.md
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

from ..categories import Categories
from ..datasets.coco_panoptic import CocoPanoptic
from ..files import UserError
from ..weights import find, load, read
from .evaluate import evaluate
from .metrics import Metrics

FIGURES = ("PQ", "SQ", "RQ", "PQ_th", "PQ_st", "mIoU", "AP_mask")


def row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def commands(options: Mapping, drawn: str) -> list[str]:
    """The two lines that give this model: its data, then the training that its options describe."""
    length = next((f"--{k} {options[k]}" for k in ("minutes", "epochs", "iterations") if options[k] is not None), "")
    return [
        f"    upsnet-lite data shapes --out DATA {drawn}",
        f"    upsnet-lite train --preset {options['preset']} --data DATA --out RUN {length} --seed {options['seed']}",
    ]


def confusion_table(metrics: Metrics, categories: Categories) -> list[str]:
    """Per cent of each true class's pixels (rows) that X gives to each class (columns); under half a per cent is ·"""
    share = 100 * metrics.confusion / metrics.confusion.sum(1, keepdim=True).clamp(min=1)
    names = [c.name for c in categories]
    cells = [[f"{v:.0f}" if v >= 0.5 else "·" for v in line] for line in share.tolist()]
    return [
        row("truth", *names),
        row(*["---"] * (len(names) + 1)),
        *(row(n, *c) for n, c in zip(names, cells, strict=True)),
    ]


def card(checkpoint: str, root: Path, split: str, drawn: str) -> str:
    """Markdown. Raises UserError where the checkpoint was not written by `upsnet-lite train`."""
    header = read(find(checkpoint))[1]
    if "options" not in header:
        raise UserError(f"{checkpoint} does not say how it was trained; give a model that `upsnet-lite train` wrote")
    model, dataset = load(checkpoint), CocoPanoptic(root, split)
    metrics = evaluate(model, dataset, split=split)
    found = metrics.as_dict()
    parameters = sum(p.numel() for p in model.parameters())
    lines = [
        f"# {find(checkpoint).stem}",
        "",
        f"UPSNet, preset `tiny`, {parameters / 1e6:.2f} M parameters, for images of 128 px; "
        f"{model.config.num_stuff} stuff and {model.config.num_thing} thing classes, all of them drawn.",
        "",
        "## How it was trained",
        "",
        *commands(json.loads(header["options"]), drawn),
        "",
        f"{header['iterations']} iterations in {float(header['minutes']):.0f} minutes.",
        "",
        f"## How good it is: {metrics.images} unseen images (split `{split}`), per cent",
        "",
        row(*FIGURES),
        row(*["---"] * len(FIGURES)),
        row(*(f"{found[k]:.1f}" if found[k] is not None else "–" for k in FIGURES)),
        "",
        row("class", "PQ", "SQ", "RQ"),
        row(*["---"] * 4),
        *(row(c["name"], *(f"{c[k]:.1f}" for k in ("PQ", "SQ", "RQ"))) for c in found["per_class"]),
        "",
        "## What it confuses: per cent of a class's pixels (row) that X calls the column's class",
        "",
        *confusion_table(metrics, dataset.categories),
        "",
        "## What it is for",
        "",
        "Lessons and tests on drawn scenes. It has never seen a photograph and finds nothing sensible in one.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--drawn", required=True, help="options of `upsnet-lite data shapes` for its training data")
    given = parser.parse_args()
    try:
        print(card(given.checkpoint, given.data, given.split, given.drawn))
    except UserError as error:
        raise SystemExit(f"upsnet_lite.engine.card: {error}") from None


if __name__ == "__main__":
    main()
