"""Taps are drawn where they fall, class maps keep their classes, void stays void."""

import numpy as np
import torch

from upsnet_lite.categories import IGNORE
from upsnet_lite.datasets.shapes import categories
from upsnet_lite.viz.lessons_semantic import as_segments, show_semantic, show_taps


def test_as_segments_numbers_classes_from_one_and_leaves_void_at_zero():
    semantic = torch.tensor([[0, 0, 7], [IGNORE, 7, 3]])
    ids, segments = as_segments(semantic, categories())
    assert ids.tolist() == [[1, 1, 8], [0, 8, 4]]
    assert [s["id"] for s in segments] == [1, 4, 8]
    assert [s["category_id"] for s in segments] == [categories()[i].id for i in (0, 3, 7)]


def test_show_semantic_names_the_classes_of_each_map():
    semantic = torch.full((24, 32), 1)
    semantic[8:20, 4:28] = 6
    only_void = torch.full((24, 32), IGNORE)
    figure = show_semantic(torch.rand(3, 24, 32), {"truth": semantic, "nothing": only_void}, categories())
    names = [categories()[i].name for i in (1, 6)]
    assert f"truth: {' and '.join(names)}" in figure.alt_text
    assert {t.get_text() for t in figure.axes[0].texts} == set(names) and not figure.axes[1].texts


def test_taps_stand_at_column_row_and_the_picture_is_cut_to_the_object():
    mask = torch.zeros(64, 80, dtype=torch.bool)
    mask[20:40, 30:50] = True
    taps = torch.tensor([[[19.5 + r, 31.5 + c] for r in (-4, 0, 4) for c in (-4, 0, 4)]])
    figure = show_taps(torch.rand(3, 64, 80), mask, {"plain": taps, "moved": taps + 2}, margin=10)
    plain, moved = ([line for line in ax.lines if line.get_marker() == "o"][0].get_xydata() for ax in figure.axes)
    np.testing.assert_allclose(plain, taps[0].flip(-1))
    np.testing.assert_allclose(moved, taps[0].flip(-1) + 2)
    assert figure.axes[0].get_xlim() == (19.5, 58.5) and figure.axes[0].get_ylim() == (48.5, 9.5)
    assert "plain and moved" in figure.alt_text
