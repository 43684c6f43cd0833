"""One's own labels -> a folder in COCO's panoptic layout, splits "train" and "val".

from_masks    a PNG per image: each value (or colour) but 0 is one object of one thing class, 0 is the rest
from_coco     a COCO detection JSON (polygons or RLE): small objects lie on large ones, what no object covers is the
              rest, or what a PNG of stuff values per image says of it (0 and 255: void)

Images and masks belong together by their names without suffix. Images are copied as they are.
"""

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int
from PIL import Image

from ..categories import Categories, Category, golden_color
from ..files import UserError, inside, is_free, read_json
from .ids import box_of, write_ids
from .images import words

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}
VOID = (0, 255)  # values of a stuff PNG that mean: not labelled
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Labelled:
    """One image: its file, (H, W) segment ids from 1 (0 = void), and of each id the category and whether a crowd."""

    image: Path
    ids: Int[np.ndarray, "H W"]
    segments: dict[int, tuple[int, bool]]


# ----------------------------------------------------------------------------------------------------- two ways to read


def from_masks(
    images: str | os.PathLike,
    masks: str | os.PathLike,
    thing: str,
    out: str | os.PathLike,
    rest: str = "background",
    val: float = 0.2,
    seed: int = 0,
    progress: Progress = lambda done, total: None,
) -> dict[str, int]:
    """Writes `out`; returns the number of images per split. `val` is the share of the images in the split "val".

    Raises UserError where an image has no mask or a mask no image, where sizes differ, or where `out` is not empty.
    """
    photographs, labels = by_stem(Path(images)), by_stem(Path(masks))
    for here, there, what in ((photographs, labels, masks), (labels, photographs, images)):
        if lone := sorted(set(here) - set(there)):
            raise UserError(f"{here[lone[0]]} has no partner of that name in {what} ({len(lone)} such files)")
    classes = Categories((stuff_class(1, rest), Category(2, thing, golden_color(1), True)))

    def read(stem: str) -> Labelled:
        values = read_values(labels[stem])
        _, ids = np.unique(values, return_inverse=True)
        ids = ids.reshape(values.shape) + (values.min() > 0)  # an image without rest starts at 1, too
        count = int(ids.max())
        covered = np.where(values == 0, count + 1, ids)
        return Labelled(
            photographs[stem], covered, {i: (2, False) for i in range(1, count + 1)} | {count + 1: (1, False)}
        )

    return write(Path(out), sorted(photographs), read, classes, val, seed, progress)


def from_coco(
    json_file: str | os.PathLike,
    images: str | os.PathLike,
    out: str | os.PathLike,
    semantic: str | os.PathLike | None = None,
    stuff: Sequence[str] = (),
    val: float = 0.2,
    seed: int = 0,
    progress: Progress = lambda done, total: None,
) -> dict[str, int]:
    """Writes `out`; returns the number of images per split. Needs pycocotools.

    semantic    a folder of PNGs whose values 1, 2, … are the classes named in `stuff`, in that order
    without it  one stuff class, "background" or the name in `stuff`
    Things keep their category ids; stuff ids follow the largest of these. Raises UserError for malformed input.
    """
    try:
        import pycocotools.mask  # noqa: F401
    except ImportError:
        raise UserError("a COCO JSON needs pycocotools to be read: pip install pycocotools") from None
    content = read_json(Path(json_file))
    try:
        things = {int(c["id"]): str(c["name"]) for c in content["categories"] if c.get("isthing", 1)}
        entries = {int(i["id"]): str(i["file_name"]) for i in content["images"]}
        sizes = {int(i["id"]): (int(i["height"]), int(i["width"])) for i in content["images"]}
        objects: dict[int, list[dict]] = {i: [] for i in entries}
        for n, annotation in enumerate(content["annotations"]):
            if annotation["category_id"] not in things or annotation["image_id"] not in objects:
                raise UserError(f"{json_file}: annotations[{n}] names a category or an image that the JSON lacks")
            objects[annotation["image_id"]].append(annotation)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{json_file} is not a COCO detection JSON ({error!r})") from None
    if semantic is None and len(stuff) > 1:
        raise UserError("several stuff classes need a folder of PNGs that says which pixel is which (--semantic)")
    if semantic is not None and not stuff:
        raise UserError("name the values 1, 2, … of the stuff PNGs, in this order (--stuff sky,water)")
    first, maps = max(things, default=0), by_stem(Path(semantic)) if semantic is not None else {}
    classes = [stuff_class(first + n, name) for n, name in enumerate(stuff or ["background"], 1)]
    classes += [Category(i, name, golden_color(n + len(classes)), True) for n, (i, name) in enumerate(things.items())]

    def read(image_id: int) -> Labelled:
        path = inside(Path(images), entries[image_id])
        ids = np.ones(sizes[image_id], int)
        if semantic is not None:
            if path.stem not in maps:
                raise UserError(f"{path} has no PNG of that name in {semantic}")
            ids = read_values(maps[path.stem])
            ids[np.isin(ids, VOID)] = 0
            if ids.max() > len(stuff):
                raise UserError(
                    f"{maps[path.stem]} holds the value {ids.max()}, but --stuff names {len(stuff)} classes"
                )
        segments = {int(v): (first + int(v), False) for v in np.unique(ids) if v}
        found = [(a, mask_of(a, ids.shape, json_file)) for a in objects[image_id]]
        # crowds below everything, then large below small
        found.sort(key=lambda pair: (not pair[0].get("iscrowd"), -int(pair[1].sum())))
        for new, (annotation, mask) in enumerate(found, len(stuff or [0]) + 1):
            ids[mask] = new
            segments[new] = (int(annotation["category_id"]), bool(annotation.get("iscrowd")))
        return Labelled(path, ids, segments)

    return write(Path(out), sorted(entries), read, Categories(tuple(classes)), val, seed, progress)


def stuff_class(category_id: int, name: str) -> Category:
    return Category(category_id, name, golden_color(category_id + 4), False)


def by_stem(folder: Path) -> dict[str, Path]:
    """The images of a folder by their name without suffix."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder")
    found: dict[str, Path] = {}
    for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES):
        if path.stem in found:
            raise UserError(f"{found[path.stem]} and {path.name} have the same name; keep one of them")
        found[path.stem] = path
    if not found:
        raise UserError(f"{folder} holds no image ({', '.join(sorted(SUFFIXES))})")
    return found


def read_values(path: Path) -> Int[np.ndarray, "H W"]:
    """Pixel values of a label image: grey of 8 or 16 bits, palette indices, or colours as one number each."""
    if path.suffix.lower() in (".jpg", ".jpeg"):
        raise UserError(f"{path} is a JPEG, which blurs labels; save masks as PNG")
    try:
        with Image.open(path) as image:
            pixels = np.asarray(
                image if image.mode in ("L", "P", "1", "RGB") or image.mode[0] == "I" else image.convert("RGB")
            )
    except Exception as error:  # a broken file makes PIL raise almost anything
        raise UserError(f"{path} cannot be read as a mask: {error or type(error).__name__}") from None
    pixels = pixels.astype(np.int64)
    return pixels if pixels.ndim == 2 else pixels @ np.array([1, 256, 65536])


def size_of(path: Path) -> tuple[int, int]:
    """(H, W) of an image as it is stored."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except FileNotFoundError:
        raise UserError(f"{path} is missing") from None
    except Exception as error:
        raise UserError(f"{path} cannot be read as an image: {error or type(error).__name__}") from None


def mask_of(annotation: dict, size: tuple[int, int], json_file: str | os.PathLike) -> Bool[np.ndarray, "H W"]:
    """The mask of a COCO annotation: polygons, or RLE as text or as counts."""
    from pycocotools import mask as rle

    where = f"{json_file}: annotation {annotation.get('id')}"
    shape = annotation.get("segmentation")
    if isinstance(shape, dict) and isinstance(shape.get("size"), list) and tuple(shape["size"]) != size:
        raise UserError(f"{where} has a mask of {words(tuple(shape['size']))}, its image {words(size)}")
    try:
        packed = isinstance(shape, dict) and isinstance(shape["counts"], str)
        found = shape if packed else rle.frPyObjects(shape, *size)
        return rle.decode(rle.merge(found) if isinstance(found, list) else found).astype(bool)
    except Exception:  # pycocotools raises nothing more precise
        raise UserError(f"{where} has no mask (polygons or RLE); boxes alone are not enough") from None


# ----------------------------------------------------------------------------------------------------- one way to write


def write(
    out: Path, keys: list, read: Callable[..., Labelled], classes: Categories, val: float, seed: int, progress: Progress
) -> dict[str, int]:
    """Everything into a folder beside `out`, renamed onto it when whole."""
    if not 0 <= val < 1:
        raise UserError(f"the share of the split val is {val}; it must lie in 0 … 1, 1 excluded")
    if not keys:
        raise UserError("there is no image to write")
    if not is_free(out):
        raise UserError(f"{out} is not empty; choose a new folder")
    aside = out.with_name(f".{out.name}.unfinished")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        splits = shared(keys, val, seed)
        progress(0, len(keys))
        done = 0
        for split, chosen in splits.items():
            entries = []
            for number, key in enumerate(chosen, 1 if split == "train" else 1_000_001):
                entries.append(write_one(aside, split, number, read(key)))
                progress(done := done + 1, len(keys))
            content = dict(images=[e[0] for e in entries], annotations=[e[1] for e in entries])
            content["categories"] = classes.to_json()
            (aside / "annotations" / f"panoptic_{split}.json").write_text(json.dumps(content), encoding="utf-8")
        if out.is_dir():
            out.rmdir()
        os.replace(aside, out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return {split: len(chosen) for split, chosen in splits.items()}


def shared(keys: list, val: float, seed: int) -> dict[str, list]:
    """The keys of each split; "val" has at least one where its share is not 0, and leaves one for "train"."""
    count = min(max(1, round(val * len(keys))), len(keys) - 1) if val else 0
    chosen = set(random.Random(seed).sample(range(len(keys)), count))
    parts = {"train": [k for n, k in enumerate(keys) if n not in chosen], "val": [keys[n] for n in sorted(chosen)]}
    return {split: part for split, part in parts.items() if part}


def write_one(root: Path, split: str, number: int, found: Labelled) -> tuple[dict, dict]:
    """Image and PNG of one entry; returns what the JSON says of them. A segment without a pixel is left out."""
    folder, pngs = root / split, root / "annotations" / f"panoptic_{split}"
    for path in (folder, pngs):
        path.mkdir(parents=True, exist_ok=True)
    size = size_of(found.image)
    if found.ids.shape not in (size, size[::-1]):  # turned by EXIF: the loader knows
        raise UserError(f"{found.image} has {words(size)}, its mask {words(found.ids.shape)}; scale one of them")
    name, (height, width) = f"{number:07d}", found.ids.shape
    shutil.copyfile(found.image, folder / f"{name}{found.image.suffix}")
    write_ids(pngs / f"{name}.png", found.ids)
    image = dict(id=number, file_name=f"{name}{found.image.suffix}", height=height, width=width)
    image["source"] = found.image.name
    return image, dict(image_id=number, file_name=f"{name}.png", segments_info=list(described(found)))


def described(found: Labelled) -> Iterator[dict]:
    for segment, (category, iscrowd) in found.segments.items():
        mask = found.ids == segment
        if mask.any():
            area = int(mask.sum())
            yield dict(id=segment, category_id=category, iscrowd=int(iscrowd), bbox=box_of(mask), area=area)
