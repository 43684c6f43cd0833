"""The command line: one thin function per command. Torch and the rest are imported when a command runs, not before."""

import io
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from .cli_data import data
from .course import commands
from .files import UserError, read_json
from .terminal import Commands, Out, command, progress_bar, show

Data = Annotated[Path, typer.Option(help="Folder of a data set in COCO's panoptic layout.")]
Checkpoint = Annotated[str, typer.Argument(help="A file, or a shipped name such as tiny-shapes.")]
METRICS = ("PQ", "SQ", "RQ", "PQ_th", "PQ_st", "mIoU", "AP_mask")

app = typer.Typer(
    cls=Commands,
    help="UPSNet, taken apart tensor by tensor.",
    epilog="Example:  upsnet-lite predict tiny-shapes photo.jpg --out out",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(data, name="data")
app.add_typer(commands.exercise, name="exercise")
app.add_typer(commands.course, name="course")


def chosen(device: str) -> str:
    """The device that "auto" means here; UserError where the named one is not to be had."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA asserts
        raise UserError(f"device {device!r} is not available: {str(error).splitlines()[0]}") from None
    return device


@command(app, "train", "train --preset tiny --data data/shapes --out runs/first --minutes 10")
def train(
    data: Data,
    out: Out,
    preset: Annotated[str, typer.Option(help="tiny, resnet50 or resnet101_dcn.")] = "tiny",
    split: Annotated[str, typer.Option(help="Split to train on.")] = "train",
    resume: Annotated[Path | None, typer.Option(help="Go on with this run: its folder or checkpoint.pt.")] = None,
    init: Annotated[
        str | None, typer.Option(help="Start from torchvision (Mask R-CNN), imagenet, a file or a shipped name.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(min=0, help="Train this long, or ...")] = None,
    epochs: Annotated[float | None, typer.Option(min=0, help="... this often through the data, or ...")] = None,
    iterations: Annotated[int | None, typer.Option(min=1, help="... this many steps.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images per step, over all devices.")] = None,
    lr: Annotated[float | None, typer.Option(min=0, help="Learning rate; the preset's otherwise.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed on a CPU gives the same weights.")] = 0,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read images ahead.")] = 0,
    devices: Annotated[str, typer.Option(help="How many devices per node, or auto; each has a process.")] = "auto",
    num_nodes: Annotated[int, typer.Option(min=1, help="How many machines, each with as many devices.")] = 1,
    strategy: Annotated[Literal["auto", "ddp"], typer.Option(help="How they share: one copy each (ddp).")] = "auto",
    accelerator: Annotated[Literal["auto", "cpu", "cuda", "mps"], typer.Option(help="Kind of device.")] = "auto",
    precision: Annotated[
        Literal["32-true", "bf16-mixed", "16-mixed"], typer.Option(help="Of the numbers.")
    ] = "32-true",
    accumulate: Annotated[
        int, typer.Option(min=1, help="Cut each device's share of a batch into this many parts: less memory.")
    ] = 1,
    checkpoint_activations: Annotated[
        bool, typer.Option("--checkpoint-activations", help="Compute activations twice instead of keeping them.")
    ] = False,
    augment: Annotated[bool, typer.Option(help="Flip images and vary their colours.")] = True,
    limit: Annotated[int | None, typer.Option(min=1, help="Use only the first images, to overfit them.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A field of the preset, as min_size=256 or norm=group; repeatable."),
    ] = None,
) -> None:
    """Train a network; prints the eight losses as they fall. Ctrl-C keeps what was learned."""
    options = dict(locals())
    from .engine.ranks import was_first
    from .engine.recipe import TrainOptions, parse_settings
    from .engine.train import train

    overrides = parse_settings(options.pop("settings") or [])
    path = train(TrainOptions(images=options.pop("batch_size"), overrides=overrides, **options))
    if was_first():
        measured = f"--data {data} --split {split.replace('train', 'val')} --out {out}/eval"
        print(f"{path} is trained. Measure it: upsnet-lite eval {out} {measured}")


@command(app, "eval", "eval tiny-shapes --data data/shapes --split val --out runs/eval")
def evaluate(
    checkpoint: Checkpoint,
    data: Data,
    out: Out,
    split: Annotated[str, typer.Option(help="Split to measure on.")] = "val",
    panopticapi: Annotated[bool, typer.Option("--panopticapi", help="Measure the written files with it, too.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 4,
    limit: Annotated[int | None, typer.Option(min=1, help="Measure only the first images.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
    devices: Annotated[int, typer.Option(min=1, help="Processes that share the images, with a device each.")] = 1,
) -> None:
    """Measure PQ, mIoU and mask AP; write predictions and metrics.json (per cent)."""
    from .datasets.coco_panoptic import CocoPanoptic
    from .engine.evaluate import evaluate, panopticapi_quality, refuse_foreign
    from .engine.ranks import is_first, launch, started
    from .weights import load

    model, dataset, device = load(checkpoint), CocoPanoptic(data, split, limit=limit), chosen(device)
    refuse_foreign(out)  # before there are more processes
    fabric = launch(device.split(":")[0], str(devices)) if max(devices, started()) > 1 else None
    device = device if fabric is None else fabric.device
    with progress_bar("evaluating") as progress:
        how = dict(batch_size=batch_size, device=device, checkpoint=checkpoint, progress=progress, fabric=fabric)
        found = evaluate(model, dataset, out, split, **how).as_dict()
    if not is_first(fabric):
        return
    classes = ("name", "PQ", "SQ", "RQ", "IoU")
    show(*classes, rows=[[row[k] for k in classes] for row in found["per_class"]])
    show("evaluation", *METRICS, rows=[[str(out), *map(found.get, METRICS)]])
    if panopticapi:
        quality = panopticapi_quality(dataset.json_path, out / f"panoptic_{split}.json")
        show("panopticapi", *METRICS[:5], rows=[[str(out), *map(quality.as_dict().get, METRICS[:5])]])


@command(app, "predict", "predict tiny-shapes photo.jpg folder/ --out out")
def predict(
    checkpoint: Checkpoint,
    images: Annotated[list[Path], typer.Argument(help="Image files, and folders of them.")],
    out: Out,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
) -> None:
    """Segment images: an overlay, a PNG of segment ids and a JSON for each."""
    from .engine.predict import predict
    from .weights import load

    model = load(checkpoint)
    with progress_bar("predicting") as progress:
        written = predict(model, images, out, device=chosen(device), progress=progress)
    print(f"{len(written)} images segmented, see {out}")


@command(app, "compare", "compare runs/first/eval runs/second/eval")
def compare(evaluations: Annotated[list[Path], typer.Argument(help="Folders that `upsnet-lite eval` wrote.")]) -> None:
    """Put several evaluations side by side (per cent)."""
    show("evaluation", *METRICS, rows=[[str(e), *map(read_json(e / "metrics.json").get, METRICS)] for e in evaluations])


@command(app, "bench", "bench --json runs/bench.json")
def bench(
    only: Annotated[str | None, typer.Option(help="Name of one benchmark; all otherwise.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write the figures to this file, too.")] = None,
) -> None:
    """Time the stages on this machine."""
    from .bench import main

    main(only, json)


@command(app, "lab", "lab --no-browser --port 8890")
def lab(
    port: Annotated[int, typer.Option(help="The next free one is taken if it is in use.")] = 8888,
    browser: Annotated[bool, typer.Option(help="Open the browser.")] = True,
) -> None:
    """Open the lessons in JupyterLab, on this machine only and behind a token."""
    open_lab(Path("notebooks/00_start_here.ipynb"), port, browser)


def open_lab(start: Path, port: int, browser: bool) -> None:
    """Becomes JupyterLab with this notebook, a path in the project's folder."""
    for root in (Path.cwd(), Path(__file__).parents[1]):
        if (root / start).is_file():
            break
    else:
        raise UserError(f"{start} is not here; run this in the folder of the project")
    os.chdir(root)
    flags = ["--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", f"--ServerApp.root_dir={root}"]
    flags += [] if browser else ["--no-browser"]
    flags += ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    flags += ["--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]  # offline
    defaults = Path(__file__).parent / "viz/static/jupyter"  # that there is no news, it need not ask
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join(filter(None, (str(defaults), os.getenv("JUPYTER_CONFIG_PATH"))))
    flags += [f"--LabApp.default_url=/lab/tree/{start.as_posix()}"]  # the printed address leads there, too
    os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", *flags])


@command(app, "explore", "explore tiny-shapes photo.jpg")
def explore(
    checkpoint: Annotated[str, typer.Argument(help="A file, or a shipped name.")] = "tiny-shapes",
    images: Annotated[list[Path] | None, typer.Argument(help="Images of your own, shown first.")] = None,
    data: Annotated[Path | None, typer.Option(help="Data set whose images come with PQ; else data/shapes.")] = None,
    split: Annotated[str, typer.Option(help="Split of it.")] = "val",
    port: Annotated[int, typer.Option(help="The next free one is taken if it is in use.")] = 8866,
    browser: Annotated[bool, typer.Option(help="Open the browser.")] = True,
) -> None:
    """Take the fusion apart in the browser, on this machine only and behind a token."""
    from .viz.explore import SHAPES, serve

    serve(checkpoint, SHAPES if data is None and not images else data, images or [], split, port, browser)


def main() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without █ or × gets ?
    app(prog_name="upsnet-lite")
