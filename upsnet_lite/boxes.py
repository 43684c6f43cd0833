"""Boxes as pixels of a map, and masks at the size of their box: what fusing and pruning share.

    box (x0, y0, x1, y1)  ->  pixels floor(x0), floor(y0) up to but not including ceil(x1), ceil(y1)

Shapes   boxes (N_inst, 4) xyxy, pixels of the map, may stick out of it    mask_logits (N_inst, 28, 28)
"""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

Edges = tuple[int, int, int, int]


def box_edges(boxes: Float[Tensor, "N_inst 4"]) -> list[Edges]:
    """Integer (x0, y0, x1, y1) of the pixels that each box covers, x1 and y1 exclusive; (0, 0, 0, 0) covers nothing.

    A box covers floor(x0), floor(y0) up to but not including ceil(x1), ceil(y1). It may stick out of the map.
    """
    return [
        (math.floor(x0), math.floor(y0), math.ceil(x1), math.ceil(y1)) if x1 > x0 and y1 > y0 else (0, 0, 0, 0)
        for x0, y0, x1, y1 in boxes.tolist()
    ]


def clip(edges: Edges, height: int, width: int) -> Edges:
    """The part of the pixel rectangle that lies on the map; (0, 0, 0, 0) where nothing does."""
    x0, y0, x1, y1 = edges
    x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else (0, 0, 0, 0)


def inside(boxes: Float[Tensor, "N_inst 4"], size: tuple[int, int]) -> Bool[Tensor, "N_inst H W"]:
    """True on the pixels that each box covers."""
    edges = boxes.new_tensor(box_edges(boxes)).view(-1, 4, 1)
    columns, rows = torch.arange(size[1], device=boxes.device), torch.arange(size[0], device=boxes.device)
    across = (columns >= edges[:, 0]) & (columns < edges[:, 2])
    down = (rows >= edges[:, 1]) & (rows < edges[:, 3])
    return down[:, :, None] & across[:, None, :]


def resized_mask(mask_logits: Float[Tensor, "h w"], edges: Edges, height: int, width: int) -> Float[Tensor, "h2 w2"]:
    """Y_i at the size of its box, bilinear; what sticks out of the map is cut off after the resize."""
    x0, y0, x1, y1 = edges
    left, top, right, bottom = clip(edges, height, width)
    resized = F.interpolate(mask_logits[None, None], (y1 - y0, x1 - x0), mode="bilinear", align_corners=False)[0, 0]
    return resized[top - y0 : bottom - y0, left - x0 : right - x0]


def patches(
    boxes: Tensor, mask_logits: Tensor, height: int, width: int
) -> Iterator[tuple[Edges, Float[Tensor, "h w"]]]:
    """For each instance, its pixels on the map and y_mask there."""
    for y, edges in zip(mask_logits, box_edges(boxes), strict=True):
        clipped = clip(edges, height, width)
        empty = clipped == (0, 0, 0, 0)
        yield clipped, y.new_zeros(0, 0) if empty else resized_mask(y, edges, height, width)
