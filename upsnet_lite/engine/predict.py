"""Prediction: image files and folders -> pictures, COCO panoptic PNGs and JSON.

    OUT/NAME_overlay.png      the image under its segments: class colours and names, white borders, unknown hatched
    OUT/NAME_panoptic.png     segment ids, R + 256 G + 256² B; 0 where unknown
    OUT/NAME.json             what the ids mean; written last: where it is, the image's result is whole

NAME is the image's file name without its suffix; below a folder given as input, with the subfolders between them.

Shapes   image (3, H, W) float RGB in [0, 1]      panoptic (H, W) int64 segment ids
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..categories import Categories
from ..datasets.ids import write_ids
from ..datasets.images import read_image
from ..files import UserError, read_json, write_aside
from ..panoptic_quality import rank_of_id
from .evaluate import evaluating

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
PAINT = 0.55  # share of a class's colour in the overlay; the rest is the image
HATCH = ((235, 235, 235), (110, 110, 110))  # greys, which no class should have
STRIPE = 4  # px


def predict(
    model: torch.nn.Module,
    inputs: Iterable[str | os.PathLike],
    out: str | os.PathLike,
    *,
    device: str | torch.device | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Writes three files for each image, one image after the other; returns the paths of the JSONs.

    inputs     image files, and folders whose images are found recursively, by suffix, hidden ones left out
    out        its own results of the same name are replaced; where it lies inside an input, it is not searched itself
    device     the model is moved there and left there; None: where it is
    progress   called with (images done, images in all)

    Raises UserError before anything is written where an input is missing, holds no image, or two images would get the
    same name; and for a broken image, of which nothing is written, while the results of those before it stay.
    """
    out = Path(out)
    jobs = named_images([Path(i) for i in inputs], out)
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; name a folder for the results")
    for name in jobs:
        refuse_foreign(out / name)
    if device is not None:
        model.to(device)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    written = []
    with evaluating(model):
        for name, path in jobs.items():
            image = read_image(path)
            with torch.inference_mode():
                found = model([image.to(device)])[0]
            try:
                written.append(write_result(out / name, path, image, found, model.categories))
            except OSError as error:
                raise UserError(f"cannot write the result of {path} into {out}: {error.strerror or error}") from None
            if progress:
                progress(len(written), len(jobs))
    return written


# ------------------------------------------------------------------------------------------------------ which images


def named_images(inputs: Sequence[Path], out: Path) -> dict[str, Path]:
    """NAME -> image file, in the order given. UserError for what is missing, empty or not to be told apart."""
    found: dict[str, Path] = {}
    names: dict[str, str] = {}  # file systems that do not tell A from a: compare without case
    for given in inputs:
        for path, name in images_of(given, out):
            same = found.get(names.setdefault(name.casefold(), name))
            if same is not None and same.resolve() != path.resolve():
                raise UserError(f"{same} and {path} would both be written as {name}; give them two output folders")
            found.setdefault(name, path)
    if not found:
        raise UserError("no image was given; name an image file or a folder of images")
    return found


def images_of(given: Path, out: Path) -> list[tuple[Path, str]]:
    """The image itself, or the images below a folder by name, each with its NAME."""
    if given.is_file():
        return [(given, given.stem)]
    if not given.is_dir():
        raise UserError(f"{given} does not exist; give an image file or a folder of images")
    if given.resolve() == out.resolve():
        raise UserError(f"{out} is also an input; name another folder for the results")
    below = out.resolve().is_relative_to(given.resolve())
    images = []
    for path in sorted(given.rglob("*")):
        local = path.relative_to(given)
        hidden = any(part.startswith(".") for part in local.parts)
        result = below and path.resolve().is_relative_to(out.resolve())
        if path.suffix.lower() in SUFFIXES and path.is_file() and not hidden and not result:
            images.append((path, local.with_suffix("").as_posix()))
    if not images:
        raise UserError(f"{given} holds no image ({', '.join(sorted(SUFFIXES))})")
    return images


# ------------------------------------------------------------------------------------------------- what is written


def refuse_foreign(base: Path) -> None:
    """UserError where a file that no prediction wrote stands at one of the three places."""
    picture, ids, described = places(base)
    try:
        ours = described.exists() and read_json(described).get("file_name") == ids.name
    except UserError:
        ours = False
    for path in () if ours else (described, picture, ids):
        if path.exists():
            raise UserError(f"{path} is there already and no prediction of ours; name another folder for the results")


def places(base: Path) -> tuple[Path, Path, Path]:
    """base_overlay.png, base_panoptic.png, base.json."""
    return tuple(base.with_name(f"{base.name}{end}") for end in ("_overlay.png", "_panoptic.png", ".json"))


def write_result(
    base: Path, source: Path, image: Float[Tensor, "3 H W"], found: Mapping, categories: Categories
) -> Path:
    """base_overlay.png, base_panoptic.png and base.json, in this order, each aside and renamed; returns the last."""
    panoptic = found["panoptic"].cpu()
    picture = draw_names(
        overlay(image, panoptic, found["segments_info"], categories), panoptic, found["segments_info"], categories
    )
    at_picture, at_ids, at_json = places(base)
    with write_aside(at_picture) as aside:
        picture.save(aside)
    with write_aside(at_ids) as aside:
        write_ids(aside, panoptic.numpy())
    content = {
        "image": source.name,
        "height": panoptic.shape[0],
        "width": panoptic.shape[1],
        "file_name": at_ids.name,
        "unknown_area": int((panoptic == 0).sum()),
        "segments_info": [{**s, "name": name_of(s, categories)} for s in found["segments_info"]],
    }
    with write_aside(at_json) as aside:
        aside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return at_json


def name_of(segment: Mapping, categories: Categories) -> str:
    return categories[categories.index(segment["category_id"])].name


def overlay(
    image: Float[Tensor, "3 H W"], panoptic: Int[Tensor, "H W"], segments: Sequence[Mapping], categories: Categories
) -> UInt8[np.ndarray, "H W 3"]:
    """The image mixed with its segments' class colours, unknown (id 0) hatched, a white line between segments."""
    rank = rank_of_id(panoptic, segments).numpy()
    colors = [(0, 0, 0), *(categories[categories.index(s["category_id"])].color for s in segments)]
    y, x = np.indices(rank.shape)
    stripes = np.array(HATCH)[(x + y) // STRIPE % 2]
    paint = np.where(rank[..., None] == 0, stripes, np.array(colors)[rank])
    mixed = PAINT * paint + (1 - PAINT) * 255 * image.cpu().permute(1, 2, 0).numpy()
    mixed[borders(rank)] = 255
    return np.rint(mixed).clip(0, 255).astype(np.uint8)


def borders(ids: Int[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """The pixels whose right or lower neighbour belongs to another segment."""
    edge = np.zeros(ids.shape, dtype=bool)
    edge[:, :-1] |= ids[:, :-1] != ids[:, 1:]
    edge[:-1] |= ids[:-1] != ids[1:]
    return edge


def draw_names(
    picture: UInt8[np.ndarray, "H W 3"],
    panoptic: Int[Tensor, "H W"],
    segments: Sequence[Mapping],
    categories: Categories,
) -> Image.Image:
    """The picture with each segment's class name on it, where the segment is wide enough."""
    canvas = Image.fromarray(picture)
    pen = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=max(9, min(canvas.size) / 32))
    for s in segments:
        x, y, width = wide_place((panoptic == s["id"]).numpy())
        if pen.textlength(name_of(s, categories), font=font) <= width:
            look = dict(fill="white", stroke_fill="black", stroke_width=1, anchor="mm", font=font)
            pen.text((x, y), name_of(s, categories), **look)
    return canvas


def wide_place(mask: Bool[np.ndarray, "H W"]) -> tuple[int, int, int]:
    """Middle x, y and width of a run of the mask's pixels in a row: the middle one of those almost as wide as any."""
    steps = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    (y, start), (_, end) = np.nonzero(steps == 1), np.nonzero(steps == -1)
    if not len(y):
        return 0, 0, 0
    wide = np.nonzero(end - start >= 0.7 * (end - start).max())[0]
    k = wide[len(wide) // 2]
    return int(start[k] + end[k]) // 2, int(y[k]), int(end[k] - start[k])
