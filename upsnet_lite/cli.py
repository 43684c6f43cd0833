"""The command line: one thin function per command. Torch and the rest are imported when a command runs, not before.

Exit codes: 0 done, 1 the user's input or machine was at fault (one line on stderr), 2 wrong options, 130 interrupted.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from .course import commands
from .files import UserError, read_json

Out = Annotated[Path, typer.Option(help="Folder to write to.")]
Data = Annotated[Path, typer.Option(help="Folder of a data set in COCO's panoptic layout.")]
Checkpoint = Annotated[str, typer.Argument(help="A file, or a shipped name such as tiny-shapes.")]
METRICS = ("PQ", "SQ", "RQ", "PQ_th", "PQ_st", "mIoU", "AP_mask")


class Commands(typer.core.TyperGroup):
    """What a user can meet becomes one line and an exit code; anything else is our mistake and keeps its traceback."""

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except UserError as error:
            fail(str(error))
        except BrokenPipeError:  # the reader of our output went away: `upsnet-lite ... | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None
        except OSError as error:  # disk full, no permission
            fail(f"{error.filename or 'a file'}: {error.strerror or error}")
        except KeyboardInterrupt:
            fail("interrupted", 130)


def fail(line: str, code: int = 1) -> None:
    print(f"upsnet-lite: {' '.join(line.split())}", file=sys.stderr)
    raise typer.Exit(code) from None


def command(group: typer.Typer, name: str, example: str) -> Callable:
    """Registers a command whose --help ends with an example."""
    return group.command(name, epilog=f"Example:  upsnet-lite {example}", no_args_is_help=False)


app = typer.Typer(
    cls=Commands,
    help="UPSNet, taken apart tensor by tensor.",
    epilog="Example:  upsnet-lite predict tiny-shapes photo.jpg --out out",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
data = typer.Typer(help="Draw, download, convert or check a data set.", no_args_is_help=True)
app.add_typer(data, name="data")
app.add_typer(commands.exercise, name="exercise")
app.add_typer(commands.course, name="course")


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, where that is a terminal; yields progress(done, total)."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def show(*head: str, rows: Iterable[Sequence]) -> None:
    """A table on stdout; numbers with one decimal, None as a dash."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*head)
    for row in rows:
        table.add_row(*(Text(v if isinstance(v, str) else "-" if v is None else f"{v:.1f}") for v in row))
    Console().print(table)


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


@command(data, "shapes", "data shapes --out data/shapes --train 2000 --val 200")
def data_shapes(
    out: Out,
    train: Annotated[int, typer.Option(help="Images in the split 'train'.")] = 2000,
    val: Annotated[int, typer.Option(help="Images in the split 'val'.")] = 200,
    size: Annotated[int, typer.Option(help="Pixels per side.")] = 128,
    seed: Annotated[int, typer.Option(help="The same seed draws the same images.")] = 0,
) -> None:
    """Draw the embedded data set: synthetic scenes in COCO's panoptic layout."""
    from .datasets.shapes import write_shapes

    with progress_bar("drawing") as progress:
        drawn = write_shapes(out, train, val, size, seed, progress)
    print(f"{train} + {val} images {'written to' if drawn else 'stand already in'} {out}")


@command(data, "from-masks", "data from-masks photos/ masks/ --thing leaf --out data/leaves")
def data_from_masks(
    images: Annotated[Path, typer.Argument(help="Folder of photographs.")],
    masks: Annotated[Path, typer.Argument(help="Folder of PNGs of the same names: each value but 0 is one object.")],
    thing: Annotated[str, typer.Option(help="What the objects are.")],
    out: Out,
    rest: Annotated[str, typer.Option(help="What the rest is, the value 0.")] = "background",
    val: Annotated[float, typer.Option(help="Share of the images in the split 'val'.")] = 0.2,
    seed: Annotated[int, typer.Option(help="The same seed gives the same split.")] = 0,
) -> None:
    """Turn instance-id PNGs into a data set, and check it."""
    from .datasets.own import from_masks

    with progress_bar("converting") as progress:
        counts = from_masks(images, masks, thing, out, rest, val, seed, progress)
    written(out, counts)


@command(data, "from-coco", "data from-coco instances.json photos/ --out data/mine")
def data_from_coco(
    json_file: Annotated[Path, typer.Argument(help="COCO detection JSON with polygons or RLE.")],
    images: Annotated[Path, typer.Argument(help="Folder of its images.")],
    out: Out,
    semantic: Annotated[Path | None, typer.Option(help="Folder of PNGs of stuff values; 0 and 255 are void.")] = None,
    stuff: Annotated[str, typer.Option(help="Names of the values 1, 2, ...: sky,water")] = "",
    val: Annotated[float, typer.Option(help="Share of the images in the split 'val'.")] = 0.2,
    seed: Annotated[int, typer.Option(help="The same seed gives the same split.")] = 0,
) -> None:
    """Turn a COCO detection JSON into a data set, and check it."""
    from .datasets.own import from_coco

    with progress_bar("converting") as progress:
        counts = from_coco(json_file, images, out, semantic, names(stuff), val, seed, progress)
    written(out, counts)


@command(data, "coco128", "data coco128 --out data/coco128")
def data_coco128(out: Out) -> None:
    """Download a small public subset of COCO (42 MB), and check it."""
    from .datasets.coco_subset import coco128

    with progress_bar("fetching") as progress:
        data_root = coco128(out, progress=progress)
    data_check(data_root)


@command(data, "coco", "data coco --images 500 --split train2017 --classes person,dog --out data/coco")
def data_coco(
    out: Out,
    images: Annotated[int, typer.Option(min=1, help="How many images.")] = 500,
    split: Annotated[str, typer.Option(help="train2017 or val2017.")] = "train2017",
    classes: Annotated[str, typer.Option(help="Only images that show one of these: person,dog")] = "",
    seed: Annotated[int, typer.Option(help="The same seed chooses the same images.")] = 0,
) -> None:
    """Download a balanced choice of COCO's images (its annotations, 0.8 GB, once), and check it."""
    from .datasets.coco_subset import coco

    with progress_bar("fetching") as progress:
        coco(out, images, split, names(classes) or None, seed, progress=progress)
    data_check(out)


def names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def written(out: Path, counts: dict[str, int]) -> None:
    print(" + ".join(f"{count} {split}" for split, count in counts.items()), f"images written to {out}")
    data_check(out)


@command(data, "check", "data check data/shapes")
def data_check(root: Annotated[Path, typer.Argument(help="Folder in COCO's panoptic layout.")]) -> None:
    """Read every file and list every problem; the exit code is 1 if there is one."""
    from .datasets.check import check

    with progress_bar("checking") as progress:
        problems = check(root, progress)
    if not problems:
        print(f"{root}: no problem found")
        return
    show("split", "file", "problem", "what to do", rows=[(p.split, p.file, p.what, p.advice) for p in problems])
    fail(f"{len(problems)} problems in {root}")


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
    app(prog_name="upsnet-lite")
