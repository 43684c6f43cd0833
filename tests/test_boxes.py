"""Boxes as pixels of a map: the edges by hand. Masks at the size of their box are tested as y_mask."""

import pytest
import torch
from torch import Tensor

from upsnet_lite.boxes import box_edges, clip, inside


def boxes_of(*rows) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32).view(-1, 4)


@pytest.mark.parametrize(
    ("box", "edges"),
    [
        ((1, 2, 3, 4), (1, 2, 3, 4)),
        ((1.2, 0.9, 3.1, 2.0), (1, 0, 4, 2)),  # floor, floor, ceil, ceil
        ((0.4, 0.4, 0.6, 0.6), (0, 0, 1, 1)),  # a fraction of a pixel covers it
        ((-1.5, -0.5, 2.5, 7.5), (-2, -1, 3, 8)),  # may stick out
        ((2, 2, 2, 4), (0, 0, 0, 0)),  # no width
        ((2.3, 2.6, 4, 2.6), (0, 0, 0, 0)),  # no height, although floor and ceil differ
        ((3.7, 1, 3.2, 4), (0, 0, 0, 0)),  # turned around within a pixel
    ],
)
def test_box_edges(box, edges) -> None:
    assert box_edges(boxes_of(box)) == [edges]


def test_clip_to_map() -> None:
    assert clip((-2, -1, 3, 8), 5, 4) == (0, 0, 3, 5)
    assert clip((4, 0, 6, 3), 5, 4) == (0, 0, 0, 0)
    assert clip((-3, 0, 0, 3), 5, 4) == (0, 0, 0, 0)


def test_inside_is_the_edges_drawn() -> None:
    covered = inside(boxes_of((1.2, 0.9, 3.1, 2.0), (2, 2, 2, 4), (3, -9, 99, 99), (7, 7, 9, 9)), (5, 4))
    assert covered[0].nonzero().tolist() == [[0, 1], [0, 2], [0, 3], [1, 1], [1, 2], [1, 3]]
    assert covered[2].sum(0).tolist() == [0, 0, 0, 5]
    assert not covered[1].any() and not covered[3].any()
    assert inside(boxes_of(), (5, 4)).shape == (0, 5, 4)
