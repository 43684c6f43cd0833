"""The pictures of lesson 06 draw every box, bar and cell, and say them in words."""

import warnings

import pytest
import torch

from upsnet_lite.categories import Categories
from upsnet_lite.viz import lessons_losses as L


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("categories", [None, Categories.numbered(1, 2)])
@pytest.mark.parametrize("labels, objects", [([0, 2, 1], 2), ([0, 0, 0], 0)])
def test_box_targets_move_only_objects(categories, labels, objects):
    boxes = torch.tensor([[0.0, 0, 9, 9], [2, 3, 12, 14], [5, 5, 15, 15]])
    figure = L.show_box_targets(
        torch.rand(3, 20, 24), boxes, torch.tensor(labels), boxes + 1, "RPN", ("what?", "where?"), categories
    )
    left, right = figure.axes
    assert len(left.patches) == 3 and len(right.patches) == 2 * objects
    assert f"{objects} boxes on objects" in figure.alt_text and f"{3 - objects} on background" in figure.alt_text


def test_box_targets_lead_the_farthest_box_of_each_object():
    boxes = torch.tensor([[0.0, 0, 9, 9], [2, 3, 12, 14], [1, 1, 10, 10]])
    goals = torch.tensor([[1.0, 1, 10, 11], [1, 1, 10, 11], [2, 2, 9, 9]])
    figure = L.show_box_targets(torch.rand(3, 20, 24), boxes, torch.tensor([1, 1, 1]), goals, "RPN", ("a", "b"))
    drawn = [p.get_bbox().extents + 0.5 for p in figure.axes[1].patches]
    assert [d.tolist() for d in drawn] == [g.tolist() for g in (goals[1], boxes[1], goals[2], boxes[2])]
    assert len([t for t in figure.axes[1].texts if t.arrow_patch]) == 2 * 4


def test_bar_table_has_a_scale_for_each_column():
    figure = L.bar_table(["a", "b"], {"loss": [1.0, float("nan")], "weight": [20.0, 10.0]}, "table")
    first, second = figure.axes
    assert [p.get_width() for p in second.patches] == [20, 10]
    assert [t.get_text() for t in first.texts][:2] == ["1", "–"]
    assert first.get_xlim()[1] < 2 < second.get_xlim()[1]
    assert "loss: a 1, b nan; weight: a 20, b 10" in figure.alt_text


@pytest.mark.parametrize("values", [[[0.0, 2.5], [0.001, 0]], [[0.0, 0], [0, 0]]])
def test_matrix_writes_a_dot_for_an_exact_zero(values):
    figure = L.show_matrix(torch.tensor(values), ["a", "b"], ["u", "v"], "matrix")
    written = [t.get_text() for t in figure.axes[0].texts]
    assert [t == "·" for t in written] == [v == 0 for row in values for v in row]
    assert "a: u 0" in figure.alt_text
