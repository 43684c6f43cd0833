"""The pictures of lesson 05 show what they are given, say it in words, and keep the numbering of Z."""

import io
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from upsnet_lite.categories import IGNORE, Categories
from upsnet_lite.panoptic_head import PanopticHead
from upsnet_lite.viz import lessons_panoptic as L
from upsnet_lite.viz.colors import HATCH

CATEGORIES = Categories.from_json(
    [
        {"id": 7, "name": "grass", "color": [140, 165, 90], "isthing": 0},
        {"id": 8, "name": "sky", "color": [190, 220, 240], "isthing": 0},
        {"id": 3, "name": "cat", "color": [213, 94, 0], "isthing": 1},
        {"id": 5, "name": "dog", "color": [0, 114, 178], "isthing": 1},
    ]
)


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture
def trace() -> SimpleNamespace:
    """Two cats and a dog on 40 x 48 px."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 40, 48, generator=generator)
    boxes, classes = torch.tensor([[2.0, 3, 20, 30], [22, 5, 40, 30], [5, 31, 40, 39]]), torch.tensor([0, 0, 1])
    y = torch.randn(3, 28, 28, generator=generator)
    fused = PanopticHead(2)(x, boxes, classes, y)
    return SimpleNamespace(X=x, x_thing=x[2:], B=boxes, C=classes, winner=fused.z.argmax(0), **vars(fused))


def test_channels_become_segments_and_what_is_none_becomes_void():
    winner = np.array([[0, 1, 2], [3, 4, IGNORE]])
    ids, segments = L.as_segments(winner, np.array([1, 1]), CATEGORIES)
    assert ids.tolist()[0] == [1, 2, 3] and ids[1, 0] == 4
    known = {s["id"] for s in segments}
    assert [s["category_id"] for s in segments] == [7, 8, 5, 5]
    assert ids[1, 1] == 0 and int(ids[1, 2]) not in known  # neither is a segment


def test_unknown_is_hatched_and_what_nobody_labelled_is_white():
    figure = L.show_winners({"target": torch.tensor([[0, 3], [1, IGNORE]])}, torch.tensor([0]), CATEGORIES)
    pixels = np.asarray(figure.axes[0].images[0].get_array())
    unknown, ignored = (
        {tuple(p) for p in part.reshape(-1, 3).tolist()} for part in (pixels[:14, 18:], pixels[18:, 18:])
    )
    assert unknown == set(HATCH) and ignored == {(255, 255, 255)}


def test_instances_of_one_class_carry_their_numbers():
    winner = torch.tensor([2, 3]).repeat_interleave(100).repeat(200, 1)
    figure = L.show_winners({"Z": winner}, torch.tensor([0, 0]), CATEGORIES)
    assert {t.get_text() for t in figure.axes[0].texts} == {"cat 1", "cat 2"}
    narrow = torch.tensor([2, 3]).repeat_interleave(torch.tensor([24, 176])).repeat(200, 1)
    figure = L.show_winners({"Z": narrow}, torch.tensor([0, 0]), CATEGORIES)
    assert {t.get_text() for t in figure.axes[0].texts} == {"cat", "cat 2"}  # no room for the number


def test_show_winners_counts_the_unknown_pixels_of_each_map():
    maps = {"a": torch.tensor([[0, 1], [2, 3]]), "b": torch.zeros(2, 2, dtype=torch.int64)}
    text = L.show_winners(maps, torch.tensor([0]), CATEGORIES, marks={"A": (0, 1)}).alt_text
    assert "a, 1 pixels unknown" in text and "b." in text and "cat" in text


def test_a_coarse_map_is_enlarged_but_keeps_its_coordinates():
    figure = L.show_winners({"five": torch.zeros(5, 5, dtype=torch.int64)}, torch.tensor([0]), CATEGORIES)
    axes = figure.axes[0]
    assert axes.get_xlim() == (-0.5, 4.5) and axes.images[0].get_array().shape[0] == 80
    assert all(-0.5 < v < 4.5 for text in axes.texts for v in text.get_position())


def test_show_numbers_writes_every_number():
    figure = L.show_numbers(torch.tensor([[[1.0, -2], [0.5, 7]]]), ["x"], "numbers", box=(0, 0, 1, 1))
    assert [t.get_text() for t in figure.axes[0].texts] == ["1", "-2", "0.5", "7"]
    assert "1, -2, 0.5, 7" in figure.alt_text


def test_show_instance_puts_four_maps_on_one_scale(trace):
    figure = L.show_instance(torch.rand(3, 40, 48), trace, 1, CATEGORIES)
    maps = [ax.images[0] for ax in figure.axes[1:5]]
    assert len({im.get_clim() for im in maps}) == 1
    shown = [np.asarray(im.get_array()) for im in maps]
    assert np.allclose(shown[1] + shown[2], shown[3]) and "cat 2" in figure.alt_text
    assert [t.get_text() for t in figure.axes[0].texts] == ["cat 2"]


@pytest.mark.parametrize("count", [0, 3])
def test_show_heads_with_and_without_instances(trace, count):
    for name in ("B", "C", "x_mask", "y_mask"):
        setattr(trace, name, getattr(trace, name)[:count])
    trace.winner = trace.winner.clamp(max=1 + count)
    assert ("nothing" in L.show_heads(torch.rand(3, 40, 48), trace, CATEGORIES).alt_text) == (count == 0)


def test_fill_z_has_a_frame_for_each_channel_and_ends_on_the_winner(trace):
    shown = L.fill_z(trace.z, trace.C, CATEGORIES)
    with Image.open(io.BytesIO(shown.data)) as animation:
        assert animation.n_frames == len(trace.z) == 6
    assert len(shown.data) < 300_000
    assert 'alt="Animation' in shown._repr_html_() and "unknown" in shown.alt_text


def test_outcome_bars_are_shares():
    text = L.outcome_bars({"conflict": {"stuff": 1, "instance": 3}, "none": {}}, "who wins").alt_text
    assert "stuff 25 %, instance 75 %, unknown 0 %" in text and "none: stuff 0 %" in text
