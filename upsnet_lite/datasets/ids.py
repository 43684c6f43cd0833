"""Segment ids in COCO's panoptic PNGs, id = R + 256 G + 256² B, and the box around one."""

import os

import numpy as np
from jaxtyping import Bool, Int
from PIL import Image


def read_ids(path: str | os.PathLike) -> Int[np.ndarray, "H W"]:
    """(H, W) int64 segment ids, 0 = void. Raises what PIL raises; ValueError where the PNG is not RGB(A)."""
    with Image.open(path) as png:
        if png.mode not in ("RGB", "RGBA"):
            raise ValueError(f"mode {png.mode}, a panoptic PNG is RGB")
        rgb = np.asarray(png)[..., :3].astype(np.int64)  # before the sum: uint8 would overflow
    return rgb @ np.array([1, 256, 65536])


def write_ids(path: str | os.PathLike, ids: Int[np.ndarray, "H W"]) -> None:
    """Writes (H, W) ids as a PNG; ValueError where one does not fit into 24 bits."""
    ids = np.asarray(ids)
    if ids.size and (ids.min() < 0 or ids.max() >= 1 << 24):
        raise ValueError(f"segment ids must lie in 0 ... {(1 << 24) - 1}, found {ids.min()} ... {ids.max()}")
    rgb = np.stack([ids & 255, ids >> 8 & 255, ids >> 16 & 255], -1).astype(np.uint8)
    Image.fromarray(rgb).save(path, compress_level=1)


def box_of(mask: Bool[np.ndarray, "H W"]) -> list[int]:
    """COCO's bbox, [x, y, width, height], of a mask that is not empty."""
    rows, columns = (np.flatnonzero(mask.any(axis)).tolist() for axis in (1, 0))
    return [columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0]]
