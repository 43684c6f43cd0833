"""COCO panoptic from the network: a small public subset, or a choice of images from the official splits.

coco128    the 100 + 100 images that lightly-ai/coco128_yolo publishes with their panoptic annotations
coco       the official annotations once (into a cache), then only the chosen images, by their coco_url

The annotations are COCO's, CC BY 4.0; each photograph has its own licence (images[].license in the JSON).
"""

import json
import random
import re
import shutil
from collections import Counter
from difflib import get_close_matches
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from ..files import UserError, inside, read_json, write_aside
from .download import Progress, fetch, fetch_all, nothing, opened, unpack
from .images import read_image

COCO128 = "https://github.com/lightly-ai/coco128_yolo/releases/download/v0.0.2"
ANNOTATIONS = "http://images.cocodataset.org/annotations/panoptic_annotations_trainval2017.zip"
ANNOTATIONS_HASH = "sha256:c05f76d2129b6b561eb70efe16e7006df62f73fb92889132d373b9d90e31a370"  # of 860 725 834 bytes
SPLITS = ("train2017", "val2017")


def cache() -> Path:
    """Where archives are kept between runs: the user's cache folder."""
    import pooch

    return Path(pooch.os_cache("upsnet-lite"))


def coco128(out: Path, base: str | None = None, progress: Progress = nothing) -> Path:
    """Downloads and unpacks both zips into `out`; the zips are removed when all is there, and then it is done."""
    base, folder = base or COCO128, out / ".download"
    if not folder.exists() and all((out / "annotations" / f"panoptic_{s}.json").exists() for s in SPLITS):
        return out
    places = {
        "images.zip": r"(?:.+/)?((?:train|val)2017/[^/]+\.jpg)",
        "panoptic_segmentation.zip": r"(?:.+/)?(annotations/panoptic_(?:train|val)2017(?:\.json|/[^/]+\.png))",
    }
    zips = [fetch(f"{base}/{name}", folder / name, valid=is_zip, progress=progress) for name in places]
    for path, pattern in zip(zips, places.values(), strict=True):
        with opened(path) as archive:
            found = list(unpack(archive, out, lambda n, p=pattern: (m := re.fullmatch(p, n)) and m[1], progress))
        if not found:
            raise UserError(f"{path} does not hold what it should; see {base}")
    shutil.rmtree(folder)
    return out


def is_zip(path: Path) -> None:
    try:
        with ZipFile(path):
            pass
    except (BadZipFile, OSError):
        raise UserError(
            f"what arrived as {path.name.strip('.').removesuffix('.part')} is no zip; try again later"
        ) from None


def coco(
    out: Path,
    images: int,
    split: str,
    classes: list[str] | None = None,
    seed: int = 0,
    annotations: str = ANNOTATIONS,
    kept: Path | None = None,
    progress: Progress = nothing,
) -> Path:
    """`images` images of an official split in `out`, with their panoptic annotations; other splits in it stay.

    The choice is reproducible and balanced (`choose`). Ids of images, segments and categories stay as they are.
    A run that broke off is resumed by the same call; the JSON is written last, so a split that has one is whole.
    Raises UserError for an unknown split or class, too few images, a split of another choice, and as `fetch`.
    """
    if split not in SPLITS:
        raise UserError(f"COCO has panoptic annotations for {' and '.join(SPLITS)}, not for {split!r}")
    wanted = dict(images=images, split=split, classes=classes, seed=seed)
    json_path = out / "annotations" / f"panoptic_{split}.json"
    if json_path.exists():
        if read_json(json_path).get("info", {}).get("subset") == wanted:
            return out
        raise UserError(f"{json_path} holds another choice of images; give another --out")
    known = ANNOTATIONS_HASH if annotations == ANNOTATIONS else None
    path = fetch(annotations, (kept or cache()) / Path(annotations).name, known, is_zip, progress)
    with opened(path) as archive:
        content = json_of(archive, f"panoptic_{split}.json", path)
        chosen = choose(content, images, classes, seed)
        content["images"] = [i for i in content["images"] if i["id"] in chosen]
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] in chosen]
        pngs = {f"panoptic_{split}/{a['file_name']}" for a in content["annotations"]}
        inner = member(archive, f"panoptic_{split}.zip", path)
        with archive.open(inner) as file, nested_zip(file, path) as nested:
            written = unpack(nested, out / "annotations", lambda name: name if name in pngs else None, progress)
            if len(list(written)) < len(pngs):
                raise UserError(f"{path} lacks PNGs that its JSON names; remove it and run the command again")
    jobs = [(i["coco_url"], inside(out / split, i["file_name"]), fits(i)) for i in content["images"]]
    fetch_all(jobs, progress=progress)
    content["info"] = dict(content.get("info") or {}) | dict(subset=wanted)
    with write_aside(json_path) as aside:
        aside.write_text(json.dumps(content), encoding="utf-8")
    return out


def member(archive: ZipFile, name: str, path: Path):
    found = [i for i in archive.infolist() if i.filename.rsplit("/", 1)[-1] == name and "__MACOSX" not in i.filename]
    if len(found) != 1:
        raise UserError(f"{path} does not hold {name}; remove it and run the command again")
    return found[0]


def nested_zip(file, path: Path) -> ZipFile:
    try:
        return ZipFile(file)
    except BadZipFile as error:
        raise UserError(f"{file.name} in {path} is damaged ({error}); remove it and run the command again") from None


def json_of(archive: ZipFile, name: str, path: Path) -> dict:
    try:
        return json.loads(archive.read(member(archive, name, path)))
    except (ValueError, BadZipFile):
        raise UserError(f"{name} in {path} is damaged; remove the file and run the command again") from None


def fits(image: dict):
    """A check that a file decodes and has the size that the JSON says."""

    def valid(path: Path) -> None:
        try:
            read_image(path, (image["height"], image["width"]))
        except UserError:
            raise UserError(f"{image['coco_url']} gave something other than the image it should; try again") from None

    return valid


def choose(content: dict, count: int, classes: list[str] | None, seed: int) -> set[int]:
    """Ids of `count` images: again and again one more for the class that has fewest so far.

    Only images with at least one of `classes` (None: of all) are taken. The same arguments give the same images.
    """
    ids = {c["name"]: c["id"] for c in content["categories"]}
    for name in classes or ():
        if name not in ids:
            near = ", ".join(get_close_matches(name, ids, 3, 0.5)) or "see the README's list of classes"
            raise UserError(f"COCO has no class {name!r}; close are: {near}")
    wanted = {ids[name] for name in classes or ids}
    holds = {a["image_id"]: {s["category_id"] for s in a["segments_info"]} & wanted for a in content["annotations"]}
    pool = sorted(i["id"] for i in content["images"] if holds.get(i["id"]))
    if count < 1 or count > len(pool):
        raise UserError(f"{count} images were asked for; {len(pool)} have one of these classes")
    random.Random(seed).shuffle(pool)
    waiting = {c: [i for i in reversed(pool) if c in holds[i]] for c in sorted(wanted)}  # taken from the end
    chosen: set[int] = set()
    shown = Counter({c: 0 for c in wanted if waiting[c]})
    while len(chosen) < count:
        rarest = min(shown, key=lambda c: (shown[c], c))
        while waiting[rarest] and waiting[rarest][-1] in chosen:
            waiting[rarest].pop()
        if not waiting[rarest]:
            del shown[rarest]  # every image that has it is chosen
            continue
        image = waiting[rarest].pop()
        chosen.add(image)
        shown.update(c for c in holds[image] if c in shown)
    return chosen
