"""The shapes data set: synthetic panoptic scenes on disk in exactly COCO's layout, so one loader serves both.

    root/{split}/000000000001.jpg
    root/annotations/panoptic_{split}/000000000001.png      segment id = R + 256 G + 256² B, 0 = void
    root/annotations/panoptic_{split}.json                  images, annotations, categories, info

Six stuff and six thing classes; occlusion, twins of a class, small and cut things, things textured like stuff, crowds,
void twigs, images without any thing and with 30. Scene i of a split depends on (seed, split, i) alone.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

import numpy as np
from PIL import Image

from ..categories import Categories
from ..files import UserError, read_json
from .ids import box_of, write_ids
from .shapes_scene import draw

VERSION = 1  # of the drawing: raise it when the same arguments give other pixels
SPLITS = ("train", "val")
UNFINISHED = ".shapes-unfinished"  # what a killed run leaves behind; the next one clears it away
FIRST_ID = {"train": 1, "val": 1_000_001}  # no image id stands in both splits

# As in COCO, things have the smaller ids. Any two colours differ clearly for red- and green-blind eyes too (tested).
CATEGORIES = (
    (1, "ball", (165, 68, 20), "thing"),
    (2, "crate", (20, 92, 189), "thing"),
    (3, "star", (250, 236, 30), "thing"),
    (4, "leaf", (10, 150, 115), "thing"),
    (5, "fish", (240, 160, 185), "thing"),
    (6, "mushroom", (45, 22, 96), "thing"),
    (11, "sky", (228, 238, 250), "stuff"),
    (12, "water", (60, 178, 232), "stuff"),
    (13, "sand", (246, 240, 178), "stuff"),
    (14, "grass", (178, 178, 56), "stuff"),
    (15, "brick", (92, 50, 44), "stuff"),
    (16, "stone", (112, 98, 132), "stuff"),
)

# glibc returns large arrays to the system after each use; keeping them saves a drawing process a third of its time.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "100000000", "MALLOC_TRIM_THRESHOLD_": "300000000"}

Progress = Callable[[int, int], None]


def categories() -> Categories:
    """The twelve classes: sky, water, sand, grass, brick, stone; ball, crate, star, leaf, fish, mushroom."""
    return Categories.from_json(
        dict(id=i, name=name, color=color, isthing=kind == "thing", supercategory=kind)
        for i, name, color, kind in CATEGORIES
    )


def write_shapes(
    root: str | os.PathLike,
    train: int,
    val: int,
    size: int = 128,
    seed: int = 0,
    progress: Progress = lambda done, total: None,
    processes: int | None = None,
) -> bool:
    """Draws `train` + `val` images of size x size px under root; False where they already stand there.

    `progress(done, total)` is called after every image. `processes`: None takes one per core and 200 images at least
    for each; the files are the same for any number. An earlier shapes data set with other arguments is replaced.
    Raises UserError where an argument is out of range or root holds anything else.
    """
    root = Path(root)
    wanted = dict(version=VERSION, train=train, val=val, size=size, seed=seed)
    check_arguments(train, val, size, seed)
    try:
        if standing(root) == wanted:
            return False
        with new_work(root) as work:
            entries = {split: [] for split in SPLITS}
            for done, (split, *entry) in enumerate(write_all(work, train, val, size, seed, processes), 1):
                entries[split].append(tuple(entry))
                progress(done, train + val)
            for split in SPLITS:
                write_json(work, split, entries[split], wanted)
        for split in SPLITS:
            install(work, root, split)
        shutil.rmtree(root / UNFINISHED)
    except OSError as error:
        raise UserError(f"shapes cannot be written to {root}: {error.strerror or error}") from None
    return True


def check_arguments(train: int, val: int, size: int, seed: int) -> None:
    if not (0 <= train <= 999_999 and 0 <= val <= 999_999):
        raise UserError(f"shapes: the numbers of images are {train} and {val}; each must lie in 0 ... 999999")
    if not 64 <= size <= 512:
        raise UserError(f"shapes: the size is {size} px; choose one in 64 ... 512")
    if seed < 0:
        raise UserError(f"shapes: the seed is {seed}; it must not be negative")


def standing(root: Path) -> dict | None:
    """Arguments of the shapes data set in root; None where there is none, UserError where root holds other things."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return None
    other = UserError(f"{root} holds something other than a shapes data set; choose a new or an empty folder")
    if not root.is_dir():
        raise other
    if (root / UNFINISHED).is_dir():
        return None
    try:
        found = [read_json(root / "annotations" / f"panoptic_{split}.json")["info"]["shapes"] for split in SPLITS]
    except (UserError, KeyError, TypeError):
        raise other from None
    whole = all(
        folder.is_dir() and sum(1 for _ in folder.iterdir()) == found[0].get(split)
        for split in SPLITS
        for folder in (root / split, root / "annotations" / f"panoptic_{split}")
    )
    return found[0] if whole and found[0] == found[1] else None


# ---------------------------------------------------------------------------------------------- the images


def jobs(train: int, val: int) -> list[tuple[str, int]]:
    return [(split, i) for split, count in zip(SPLITS, (train, val), strict=True) for i in range(count)]


def write_all(root: Path, train: int, val: int, size: int, seed: int, processes: int | None) -> Iterator[tuple]:
    """Draws and writes every image; yields (split, image entry, annotation entry) in order of `jobs`."""
    if processes is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        processes = min(cores, 8, (train + val) // 200)
    if processes < 2:
        for split, i in jobs(train, val):
            yield write_one(root, size, seed, split, i)
        return
    with ExitStack() as stack:  # no pool: it would run a user's script a second time, or fork torch's threads
        workers = [start_worker(stack, root, train, val, size, seed, k, processes) for k in range(processes)]
        for n in range(train + val):
            line = workers[n % processes].stdout.readline()
            found = json.loads(line or '"a drawing process was ended from outside"')
            if isinstance(found, str):
                raise OSError(found)
            yield tuple(found)


def start_worker(stack: ExitStack, *arguments) -> subprocess.Popen:
    """A process that draws job k, k + n, ... and prints a line for each, or why not; it ends with the `stack`."""
    code = "import sys; from upsnet_lite.datasets.shapes import worker; worker(*sys.argv[1:])"
    package = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {**os.environ, **KEEP_MEMORY, "PYTHONPATH": path}
    process = subprocess.Popen(  # in a session of its own: Ctrl-C is for the parent, which ends it
        command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    stack.enter_context(process)
    stack.callback(process.terminate)
    return process


def worker(root: str, *numbers: str) -> None:
    train, val, size, seed, k, n = map(int, numbers)
    try:
        for split, i in jobs(train, val)[k::n]:
            tell(write_one(Path(root), size, seed, split, i))
    except OSError as error:
        tell(error.strerror or str(error))


def tell(found: tuple | str) -> None:
    try:
        print(json.dumps(found), flush=True)
    except BrokenPipeError:  # the parent is gone
        os._exit(1)


def write_one(root: Path, size: int, seed: int, split: str, i: int) -> tuple[str, dict, dict]:
    """Image and PNG of one scene; returns the split and their entries for the JSON."""
    rng = np.random.default_rng((seed, SPLITS.index(split), i))
    scene = draw(rng, size, i)
    image_id = FIRST_ID[split] + i
    name = f"{image_id:012d}"
    by_name = {c.name: c for c in categories()}
    colors = {0: 0}
    segments = []
    for number, (kind, iscrowd) in enumerate(scene.segments, 1):
        mask = scene.ids == number
        if not mask.any():
            continue
        category = by_name[kind]
        colors[number] = segment_color(rng, category.color, set(colors.values()))
        segments.append(
            dict(
                id=colors[number],
                category_id=category.id,
                iscrowd=int(iscrowd),
                bbox=box_of(mask),
                area=int(mask.sum()),
            )
        )
    table = np.zeros(len(scene.segments) + 1, np.int64)
    for number, color in colors.items():
        table[number] = color
    Image.fromarray(scene.image).save(root / split / f"{name}.jpg", quality=95, subsampling=0)
    write_ids(root / "annotations" / f"panoptic_{split}" / f"{name}.png", table[scene.ids])
    image = dict(id=image_id, file_name=f"{name}.jpg", width=size, height=size)
    return split, image, dict(image_id=image_id, file_name=f"{name}.png", segments_info=segments)


def segment_color(rng: np.random.Generator, color: tuple[int, int, int], taken: set[int]) -> int:
    """An id whose colour is close to the category's, so that the PNG can be read by eye."""
    while True:
        red, green, blue = (int(v) for v in np.clip(np.array(color) + rng.integers(-18, 19, 3), 0, 255))
        if (found := red + 256 * green + 65536 * blue) not in taken:
            return found


# ---------------------------------------------------------------------------------------------- the folder


@contextmanager
def new_work(root: Path) -> Iterator[Path]:
    """A folder below UNFINISHED with the empty folders of both splits; all of it goes again where the block fails.

    A killed run's drawing processes live until their next image. So its folder is moved before it is removed, and no
    two runs' folders share a name: what such a process still writes has no place to go.
    """
    unfinished = root / UNFINISHED
    unfinished.mkdir(parents=True, exist_ok=True)
    for left in list(unfinished.iterdir()):
        left.rename(unfinished / uuid4().hex)
    shutil.rmtree(unfinished)
    work = unfinished / uuid4().hex
    try:
        for split in SPLITS:
            (work / split).mkdir(parents=True)
            (work / "annotations" / f"panoptic_{split}").mkdir(parents=True)
        yield work
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def write_json(root: Path, split: str, entries: list[tuple[dict, dict]], arguments: dict) -> None:
    content = dict(
        info=dict(description="UPSNet-lite shapes: synthetic panoptic scenes", shapes=arguments),
        licenses=[],
        images=[image for image, _ in entries],
        annotations=[annotation for _, annotation in entries],
        categories=categories().to_json(),
    )
    (root / "annotations" / f"panoptic_{split}.json").write_text(json.dumps(content), encoding="utf-8")


def install(work: Path, root: Path, split: str) -> None:
    """Moves a finished split into place. The JSON goes first and comes last: what has a JSON is whole."""
    panoptic = Path("annotations") / f"panoptic_{split}"
    (root / panoptic.with_suffix(".json")).unlink(missing_ok=True)
    (root / "annotations").mkdir(exist_ok=True)
    for part in (Path(split), panoptic):
        shutil.rmtree(root / part, ignore_errors=True)
        os.replace(work / part, root / part)
    os.replace(work / panoptic.with_suffix(".json"), root / panoptic.with_suffix(".json"))
