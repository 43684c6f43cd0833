"""`upsnet-lite data ...`: draw, download, convert or check a data set."""

from pathlib import Path
from typing import Annotated

import typer

from .terminal import Out, command, fail, progress_bar, show

data = typer.Typer(
    help="Draw, download, convert or check a data set.",
    epilog="Example:  upsnet-lite data check data/shapes",
    no_args_is_help=True,
)


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
    fail(f"{len(problems)} {'problem' if len(problems) == 1 else 'problems'} in {root}")
