"""A folder in COCO's panoptic layout -> images and targets.

root/{split}/*.jpg
root/annotations/panoptic_{split}.json      images, annotations (segments_info), categories
root/annotations/panoptic_{split}/*.png     segment id = R + 256 G + 256² B, 0 = void

pixel of                 semantic       instance
thing, iscrowd 0         its class      boxes, labels, masks
thing, iscrowd 1         its class      none
stuff                    its class      none
void (id 0)              IGNORE         none
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.data import Dataset

from ..categories import IGNORE, Categories
from ..files import UserError, inside, read_json
from .ids import read_ids, write_ids
from .images import read_image, words

__all__ = ["CocoPanoptic", "read_ids", "splits", "write_ids"]

Target = dict
Transform = Callable[[Tensor, Target], tuple[Tensor, Target]]


class CocoPanoptic(Dataset):
    """`dataset[index] -> (image, target)`.

    image         (3, H, W) float32 RGB in [0, 1]
    target        boxes (N, 4) float32 xyxy, tight, x1 and y1 one past the last pixel;  labels (N,) int64 = C + 1;
                  masks (N, H, W) bool;  semantic (H, W) int64 class index or IGNORE;  image_id int;
                  for evaluation: panoptic (H, W) int64 segment ids, segments_info as in the JSON, file_name
                  N counts thing segments that are no crowd and have a pixel; 0 gives (0, 4), (0,), (0, H, W).
    limit         keeps the first images only
    categories    Categories;  images: the JSON's entries, images[index] belongs to dataset[index]
    annotations   the JSON's, in the order of images;  json_path, png_folder: where they lie

    Raises UserError, one line that names the file, for anything missing, broken or contradictory: the structure when
    it is made, an image or a PNG when it is read. `upsnet_lite.datasets.check` finds all problems at once.
    """

    def __init__(
        self, root: str | os.PathLike, split: str, transform: Transform | None = None, limit: int | None = None
    ) -> None:
        self.root, self.split, self.transform = Path(root), split, transform
        self.json_path = find_json(self.root, split)
        self.png_folder = self.json_path.with_suffix("")
        self.image_folder = self.root / split
        content = read_json(self.json_path)
        for key in ("images", "annotations", "categories"):
            if not isinstance(content.get(key), list):
                raise UserError(f"{self.json_path} has no list {key!r}; a COCO panoptic JSON is needed")
        try:
            self.categories = Categories.from_json(content["categories"])
        except ValueError as error:
            raise UserError(f"{self.json_path}: {error}") from None
        annotations = paired(self.json_path, content["images"], content["annotations"])
        self.images: list[dict] = content["images"][:limit]
        self.annotations = annotations[:limit]
        for folder in (self.image_folder, self.png_folder):
            if not folder.is_dir():
                raise UserError(f"{folder} is missing; the split {split!r} needs this folder")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Float[Tensor, "3 H W"], Target]:
        entry, annotation = self.images[index], self.annotations[index]
        png = inside(self.png_folder, annotation["file_name"])
        ids = read_png(png)
        image = read_image(inside(self.image_folder, entry["file_name"]), ids.shape)
        said = (entry.get("height", ids.shape[0]), entry.get("width", ids.shape[1]))
        if said != ids.shape:
            raise UserError(f"{png} has {words(ids.shape)}, {self.json_path.name} says {words(said)}")
        target = target_of(ids, annotation["segments_info"], self.categories, png)
        target |= dict(image_id=entry["id"], file_name=entry["file_name"])
        return (image, target) if self.transform is None else self.transform(image, target)


# ---------------------------------------------------------------------------------------------- the JSON


def splits(root: Path) -> list[str]:
    """Names of the splits whose JSON stands in root."""
    return sorted(p.stem.removeprefix("panoptic_") for p in (Path(root) / "annotations").glob("panoptic_*.json"))


def find_json(root: Path, split: str) -> Path:
    if not root.is_dir():
        raise UserError(f"{root} is missing; give the folder that holds annotations/ and the images")
    found = splits(root)
    if split not in found:
        known = f"it has {', '.join(found)}" if found else "it has no annotations/panoptic_*.json at all"
        raise UserError(f"{root} has no split {split!r}; {known}")
    return root / "annotations" / f"panoptic_{split}.json"


def paired(json_path: Path, images: list, annotations: list) -> list[dict]:
    """The annotations in the order of the images; UserError where one has no partner or lacks a key."""
    try:
        by_image = {a["image_id"]: a for a in annotations}
        lone = next((i for i in images if i["id"] not in by_image), None)
        if lone is not None:
            raise UserError(f"{json_path}: image {lone['file_name']} has no annotation; run the data check")
        ids = {i["id"] for i in images}
        lone = next((a for a in annotations if a["image_id"] not in ids), None)
        if lone is not None:
            raise UserError(f"{json_path}: annotation {lone['file_name']} has no image; run the data check")
        if len(ids) < len(images) or len(by_image) < len(annotations):
            raise UserError(f"{json_path}: an image id stands twice; run the data check")
        for entry in images:
            if not isinstance(entry["id"], int):
                raise TypeError(f"id {entry['id']!r}")
            for side in ("height", "width"):
                if not isinstance(entry.get(side, 0), int):
                    raise TypeError(f"{side} {entry[side]!r}")
            for part in (entry, by_image[entry["id"]]):
                if not isinstance(part["file_name"], str):
                    raise TypeError(f"file_name {part['file_name']!r}")
            if not isinstance(by_image[entry["id"]]["segments_info"], list):
                raise TypeError("segments_info is no list")
    except (KeyError, TypeError, OverflowError) as error:
        raise UserError(f"{json_path}: an image or annotation is malformed ({error!r}); run the data check") from None
    return [by_image[i["id"]] for i in images]


# ---------------------------------------------------------------------------------------------- the PNG


def read_png(path: Path) -> Int[np.ndarray, "H W"]:
    """read_ids with every failure as a UserError that names the file."""
    try:
        return read_ids(path)
    except FileNotFoundError:
        raise UserError(f"{path} is missing") from None
    except Exception as error:  # a broken file makes PIL raise almost anything
        raise UserError(f"{path} cannot be read as a panoptic PNG: {error or type(error).__name__}") from None


def target_of(ids: Int[np.ndarray, "H W"], segments: list, categories: Categories, png: Path) -> Target:
    """Segment ids and what the JSON says of them -> semantic map, instances and the raw segments."""
    try:
        known = sorted((int(s["id"]), int(s["category_id"]), bool(s.get("iscrowd", 0))) for s in segments)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(f"{png}: its segments_info is malformed ({error!r}); run the data check") from None
    class_of = np.full(len(known) + 1, IGNORE)
    for position, (_, category_id, _) in enumerate(known, 1):
        if category_id not in categories:
            raise UserError(f"{png}: its segments_info names category {category_id}, which the JSON's categories lack")
        class_of[position] = categories.index(category_id)

    sorted_ids = np.array([0, *(k[0] for k in known)])  # position 0 is void
    if (np.diff(sorted_ids) <= 0).any():
        raise UserError(f"{png}: its segments_info has an id twice or one below 1; run the data check")
    position = np.searchsorted(sorted_ids, ids).clip(max=len(known))
    strange = ids[sorted_ids[position] != ids]
    if strange.size:
        raise UserError(f"{png} holds segment id {strange[0]}, which its segments_info lacks")

    present = np.bincount(position.ravel(), minlength=len(known) + 1) > 0
    instances = [
        p
        for p, (_, _, iscrowd) in enumerate(known, 1)
        if present[p] and not iscrowd and class_of[p] >= categories.num_stuff
    ]
    masks = torch.from_numpy(position[None] == np.array(instances, int)[:, None, None])
    return dict(
        boxes=boxes_of(masks),
        labels=torch.tensor([class_of[p] - categories.num_stuff + 1 for p in instances], dtype=torch.int64),
        masks=masks,
        semantic=torch.from_numpy(class_of[position]),
        panoptic=torch.from_numpy(ids),
        segments_info=segments,
    )


def boxes_of(masks: Bool[Tensor, "N H W"]) -> Float[Tensor, "N 4"]:
    """Tight xyxy around each mask, x1 and y1 one past the last pixel; an empty mask gives zeros."""
    edges = []
    for axis in (1, 2):  # over rows: which columns are covered; over columns: which rows
        hit = masks.any(axis)
        length = hit.shape[1]
        place = torch.arange(length)
        first = torch.where(hit, place, length).amin(1) if length else hit.sum(1)
        last = torch.where(hit, place + 1, 0).amax(1) if length else hit.sum(1)
        edges.append((torch.where(hit.any(1), first, 0), last))
    (x0, x1), (y0, y1) = edges
    return torch.stack([x0, y0, x1, y1], 1).float()
