"""Boxes stand half a pixel up and left of their continuous coordinates; masks have their instance's colour."""

import numpy as np
import torch
from matplotlib.patches import Rectangle

from upsnet_lite.datasets.shapes import categories
from upsnet_lite.viz.lessons_instance import show_box_sets, show_masks


def frames(axes) -> list[tuple]:
    return [(p.get_x(), p.get_y(), p.get_width(), p.get_height()) for p in axes.patches if isinstance(p, Rectangle)]


def test_box_sets_show_every_box_and_the_truth_on_each_panel():
    boxes = torch.tensor([[4.0, 5, 10, 9], [-3, 0, 8, 30]])
    truth = torch.tensor([[1.0, 1, 2, 3]])
    figure = show_box_sets(torch.rand(3, 24, 32), {"two": boxes, "none": boxes[:0]}, truth)
    assert frames(figure.axes[0]) == [(0.5, 0.5, 1, 2), (3.5, 4.5, 6, 4), (-3.5, -0.5, 11, 30)]
    assert frames(figure.axes[1]) == [(0.5, 0.5, 1, 2)]
    assert "two 2 and none 0; true boxes dashed" in figure.alt_text


def test_masks_are_coloured_in_place_and_twins_differ():
    masks = torch.zeros(2, 24, 32, dtype=torch.bool)
    masks[0, 2:10, 2:10] = masks[1, 12:20, 18:28] = True
    boxes = torch.tensor([[2.0, 2, 10, 10], [18, 12, 28, 20]])
    figure = show_masks(torch.full((3, 24, 32), 0.5), masks, boxes, torch.tensor([1, 1]), categories())
    pixels = np.asarray(figure.axes[0].images[0].get_array()).astype(int)
    ground, first, second = pixels[0, 31], pixels[5, 5], pixels[15, 20]
    assert np.ptp(ground) == 0 and np.ptp(first) > 0 and (first != second).any()
    expected = 0.4 * ground + 0.6 * np.array(categories().things[1].color)
    np.testing.assert_allclose(first, expected, atol=1)
    assert "crate 1 and crate 2" in figure.alt_text


def test_masks_without_any_instance():
    nothing = torch.zeros(0, 24, 32, dtype=torch.bool)
    figure = show_masks(
        torch.rand(3, 24, 32), nothing, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), categories()
    )
    assert "no instance" in figure.alt_text
