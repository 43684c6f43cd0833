"""Grids show every number once, one scale for all, and mark only the map that is named."""

import numpy as np
import torch
from matplotlib.patches import Rectangle

from upsnet_lite.viz.lessons_grid import number_grids


def numbers(axes) -> list[str]:
    return [t.get_text() for t in axes.texts]


def test_every_cell_carries_its_number():
    grid = 10 * torch.arange(5.0)[:, None] + torch.arange(5.0)
    figure = number_grids({"grid": grid, "third": torch.tensor([[1 / 3, -2.0]])}, title="numbers")
    assert numbers(figure.axes[0]) == [str(10 * r + c) for r in range(5) for c in range(5)]
    assert numbers(figure.axes[1]) == ["0.333", "-2"]
    assert "grid (5 × 5)" in figure.alt_text and "marked" not in figure.alt_text


def test_one_scale_that_is_symmetric_only_where_something_is_negative():
    ends = lambda figure: [(i.norm.vmin, i.norm.vmax) for ax in figure.axes for i in ax.images]  # noqa: E731
    signed = ends(number_grids({"a": np.array([[1.0, -4.0]]), "b": np.array([[2.0, 0.0]])}))
    assert signed[0] == signed[1] and signed[0][0] == -signed[0][1] < -4
    assert ends(number_grids({"a": np.array([[1.0, 4.0]])}))[0][0] == 0


def test_points_and_box_stand_on_the_named_map_alone():
    maps = {"map": torch.zeros(5, 5), "out": torch.zeros(2, 2)}
    figure = number_grids(maps, {"map": torch.tensor([[1.25, 2.5]])}, {"map": (0.5, 1, 4.5, 4)})
    marked, plain = figure.axes
    dots = [line for line in marked.lines if line.get_marker() == "o"]
    assert [d.get_xydata().tolist() for d in dots] == [[[2.5, 1.25]]]  # x, y
    frame = next(p for p in marked.patches if isinstance(p, Rectangle))
    assert (frame.get_x(), frame.get_y(), frame.get_width(), frame.get_height()) == (0.5, 1, 4, 3)
    assert not [line for line in plain.lines if line.get_marker() == "o"] and not plain.patches
    assert figure.alt_text.endswith("places are marked on map.")


def test_rows_and_columns_have_names_where_they_are_given():
    named, plain = (
        number_grids({"a": torch.eye(2, 3)}, names=n).axes[0] for n in ((["x", "y"], ["p", "q", "r"]), None)
    )
    assert [t.get_text() for t in named.get_yticklabels()] == ["x", "y"]
    assert [t.get_text() for t in named.get_xticklabels()] == ["p", "q", "r"]
    assert not plain.get_xticklabels() and not plain.get_yticklabels()


def test_numbers_beyond_the_limit_look_like_it_and_are_written_in_full():
    axes = number_grids({"a": torch.tensor([[1.0, 300, 65536]])}, limit=300).axes[0]
    assert axes.images[0].get_array().tolist() == [[1, 300, 300]] and numbers(axes) == ["1", "300", "65536"]
