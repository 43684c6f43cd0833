"""Every problem of a COCO panoptic folder in one run: each JSON, each image, each PNG, each segment.

JSON       broken, a list missing, categories or entries malformed, ids or file names twice, no partner
image      missing, truncated, climbing name, size other than its PNG's
PNG        missing, broken, climbing name, size other than the JSON's, segment ids that the JSON lacks
segment    malformed, id twice, unknown category, no pixel, area wrong, box outside the image or around other pixels
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..categories import is_color
from ..files import UserError, inside, read_json
from .coco_panoptic import read_png, splits
from .ids import box_of
from .images import read_image, words

Found = Iterator[tuple[str, str, str]]  # file, what, advice


@dataclass(frozen=True)
class Problem:
    """One row of the table: in which split, in which file (relative to root), what is wrong, what to do."""

    split: str
    file: str
    what: str
    advice: str


def check(root: str | os.PathLike, progress: Callable[[int, int], None] = lambda done, total: None) -> list[Problem]:
    """All problems of all splits, in the order of the files; [] for a sound data set.

    `progress(done, total)` counts images. Raises UserError where root is missing or has no split at all.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"{root} is missing; give the folder that holds annotations/ and the images")
    names = splits(root)
    if not names:
        raise UserError(f"{root} has no annotations/panoptic_*.json; is this the data set's root?")
    problems, jobs = [], []
    for split in names:
        json_file = f"annotations/panoptic_{split}.json"
        try:
            content = read_json(root / json_file)
        except UserError as error:
            what = without_path(error, root / json_file)
            problems.append(Problem(split, json_file, what, "restore the file from its source"))
            continue
        problems += [Problem(split, *found) for found in check_json(json_file, content)]
        jobs += [(split, *job) for job in pairs(content)]

    def run(job: tuple) -> list[Problem]:
        return [Problem(job[0], *found) for found in check_pair(root, *job)]

    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:  # decoding releases Python's lock
        for done, found in enumerate(pool.map(run, jobs), 1):
            problems += found
            progress(done, len(jobs))
    return problems


def without_path(error: UserError, path: Path) -> str:
    """The error's words; the file has its own column."""
    return str(error).removeprefix(str(path)).lstrip(": ")


# ---------------------------------------------------------------------------------------------- the JSON


def entries(content: dict, key: str) -> list[dict]:
    """The usable entries of a list in the JSON."""
    found = content.get(key)
    return [e for e in found if isinstance(e, dict)] if isinstance(found, list) else []


def check_json(file: str, content: dict) -> Found:
    needed = {
        "images": dict(id=int, file_name=str, width=int, height=int),
        "annotations": dict(image_id=int, file_name=str, segments_info=list),
        "categories": dict(id=int, name=str, isthing=int),
    }
    for key, fields in needed.items():
        if not isinstance(content.get(key), list):
            yield file, f"no list {key!r}", "a COCO panoptic JSON has images, annotations and categories"
            continue
        for n, entry in enumerate(content[key]):
            for field in lacking(entry, fields):
                yield file, f"{key}[{n}]: {field}", "write it as in COCO's panoptic JSON"
    for key, field in (
        ("images", "id"),
        ("images", "file_name"),
        ("annotations", "image_id"),
        ("annotations", "file_name"),
        ("categories", "id"),
    ):
        counts = Counter(e[field] for e in entries(content, key) if isinstance(e.get(field), int | str))
        for value, times in counts.items():
            if times > 1:
                yield file, f"{key}: {field} {value!r} stands {times} times", "give each its own"
    for n, entry in enumerate(entries(content, "categories")):
        if "color" in entry and not is_color(entry["color"]):
            yield file, f"categories[{n}]: 'color' is {entry['color']!r}", "write [red, green, blue], each 0 ... 255"
    annotated = {number(a, "image_id") for a in entries(content, "annotations")}
    known = {number(i, "id") for i in entries(content, "images")}
    for image in entries(content, "images"):
        if number(image, "id") not in annotated:
            yield file, f"image {image.get('file_name')!r} has no annotation", "add one or remove the image"
    for annotation in entries(content, "annotations"):
        if number(annotation, "image_id") not in known:
            what = f"annotation {annotation.get('file_name')!r} has no image with id {annotation.get('image_id')!r}"
            yield file, what, "add the image or remove the annotation"


def number(entry: dict, field: str) -> int | None:
    return entry[field] if isinstance(entry.get(field), int) else None


def lacking(entry: object, fields: dict) -> Iterator[str]:
    """What an entry lacks, in words."""
    if not isinstance(entry, dict):
        yield f"is a {type(entry).__name__}, no object"
        return
    for field, kind in fields.items():
        if field not in entry:
            yield f"{field!r} is missing"
        elif not isinstance(entry[field], kind):
            yield f"{field!r} is {entry[field]!r}, not {getattr(kind, '__name__', 'a number')}"


def pairs(content: dict) -> Iterator[tuple[dict, dict | None, set]]:
    """(image, annotation, category ids): every image and every annotation occurs, one that is alone with {} or None."""
    category_ids = {number(c, "id") for c in entries(content, "categories")}
    by_image: dict[int | None, list[dict]] = {}
    for annotation in entries(content, "annotations"):
        by_image.setdefault(number(annotation, "image_id"), []).append(annotation)
    for image in entries(content, "images"):
        for annotation in by_image.pop(number(image, "id"), [None]):
            yield image, annotation, category_ids
    for annotation in sum(by_image.values(), []):
        yield {}, annotation, category_ids


# ---------------------------------------------------------------------------------------------- the files


def check_pair(root: Path, split: str, image: dict, annotation: dict | None, category_ids: set) -> Found:
    """One image, its PNG and their segments."""
    ids = None
    if annotation is not None and isinstance(annotation.get("file_name"), str):
        folder = f"annotations/panoptic_{split}"
        file = f"{folder}/{annotation['file_name']}"
        try:
            ids = read_png(inside(root / folder, annotation["file_name"]))
        except UserError as error:
            yield file, without_path(error, root / file), "restore the PNG from its source, inside its folder"
        said = (number(image, "height"), number(image, "width"))
        if ids is not None and None not in said and said != ids.shape:
            yield file, f"{words(ids.shape)}, the JSON says {words(said)}", "scale the PNG (nearest) or mend the JSON"
        for what, advice in check_segments(annotation.get("segments_info"), ids, category_ids):
            yield file, what, advice
    if isinstance(image.get("file_name"), str):
        file = f"{split}/{image['file_name']}"
        try:
            read_image(inside(root / split, image["file_name"]), None if ids is None else ids.shape)
        except UserError as error:
            yield file, without_path(error, root / file), "restore the image from its source, inside its folder"


def check_segments(segments: object, ids: np.ndarray | None, category_ids: set) -> Iterator[tuple[str, str]]:
    """What is wrong with segments_info, alone (ids None) and against its PNG."""
    if not isinstance(segments, list):
        return  # said already, of the JSON
    areas: dict[int, int] = {}
    if ids is not None:
        values, counts = np.unique(ids, return_counts=True)
        areas = dict(zip(values.tolist(), counts.tolist(), strict=True))
    fields = dict(id=int, category_id=int, iscrowd=int, bbox=list, area=int | float)
    whole = []
    for n, segment in enumerate(segments):
        wrong = list(lacking(segment, fields))
        for what in wrong:
            yield f"segments_info[{n}]: {what}", "write it as in COCO's panoptic JSON"
        if isinstance(segment, dict) and isinstance(segment.get("id"), int):
            whole.append(segment)
    for value, times in Counter(s["id"] for s in whole).items():
        if times > 1:
            yield f"segment id {value} stands {times} times", "give each segment its own id"
    for segment in whole:
        for what, advice in check_segment(segment, ids, areas, category_ids):
            yield f"segment {segment['id']}: {what}", advice
    strange = sorted(set(areas) - {s["id"] for s in whole} - {0})
    if strange:
        more = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
        yield f"holds id {strange[0]}{more}, which segments_info lacks", "describe the segment or paint it void (0)"


def check_segment(segment: dict, ids: np.ndarray | None, areas: dict, category_ids: set) -> Iterator[tuple[str, str]]:
    if isinstance(segment.get("category_id"), int) and segment["category_id"] not in category_ids:
        yield f"category {segment['category_id']} is unknown", "add it to the categories or mend the segment"
    if not 0 < segment["id"] < 1 << 24:
        yield "its id does not fit into a PNG", "use 1 ... 16777215; 0 is void"
    if ids is None:
        return
    pixels = areas.get(segment["id"], 0)
    if not pixels:
        yield "no pixel of the PNG has this id", "remove the segment from the JSON"
    elif isinstance(segment.get("area"), int | float) and segment["area"] != pixels:
        yield f"area {segment['area']}, the PNG has {pixels} pixels", "write the number of pixels"
    box = segment.get("bbox")
    if isinstance(box, list):
        try:
            x, y, w, h = map(float, box)
        except (TypeError, ValueError, OverflowError):
            yield f"box {box} is not [x, y, width, height]", "write four numbers"
            return
        if not (x >= 0 and y >= 0 and w >= 0 and h >= 0 and x + w <= ids.shape[1] and y + h <= ids.shape[0]):
            yield f"box {box} leaves the image of {words(ids.shape)}", "write [x, y, width, height] in pixels"
        elif pixels:
            left, top, width, height = tight = box_of(ids == segment["id"])
            off = (x - left, y - top, x + w - left - width, y + h - top - height)
            if max(map(abs, off)) > 1:  # COCO's own are off by one here and there
                yield f"box {box}, its pixels span {tight}", "write [x, y, width, height] of its pixels"
