"""Likeness against cosines worked by hand; the frame of a receptive field encloses what is not 0."""

import numpy as np
import pytest
import torch
from matplotlib.patches import Rectangle

from upsnet_lite.viz.lessons_backbone import cost_bars, likeness, show_fields, show_likeness


def test_likeness_is_the_cosine_from_the_mean():
    # two channels on 2 x 2 pixels whose mean is (0, 0): right, up, left, down
    features = torch.tensor([[[1.0, 0], [-3, 2]], [[0, 5], [0, -5]]])
    v = features.numpy().reshape(2, 4)
    assert v.mean(1).tolist() == [0, 0]
    found = likeness(features, (0.0, 0.0))
    np.testing.assert_allclose(found, [[1, 0], [-1, 2 / np.sqrt(29)]], atol=1e-6)


def test_likeness_does_not_see_a_shift_or_a_scale():
    features = torch.randn(8, 4, 6, generator=torch.Generator().manual_seed(0))
    shifted = 3 * features + torch.arange(8.0)[:, None, None]
    np.testing.assert_allclose(likeness(features, (0.6, 0.3)), likeness(shifted, (0.6, 0.3)), atol=1e-5)
    assert likeness(features, (0.6, 0.3))[2, 1] == pytest.approx(1, abs=1e-6)
    assert np.isfinite(likeness(torch.ones(3, 2, 2), (0.5, 0.5))).all()  # nothing differs from the mean


def test_the_cross_stands_at_the_same_place_of_every_map():
    maps = {"P2": torch.randn(4, 8, 8), "P5": torch.randn(4, 1, 1)}
    figure = show_likeness(maps, torch.rand(3, 32, 32), (16, 24))
    crosses = [ax.lines[-1].get_xydata()[0] for ax in figure.axes[:3]]
    shares = [(xy + 0.5) / side for xy, side in zip(crosses, (32, 8, 1), strict=True)]
    for share in shares:
        np.testing.assert_allclose(share, [0.75, 0.5])
    assert "P2 (4 × 8 × 8)" in figure.alt_text


def test_the_frame_encloses_the_gradient():
    gradient = torch.zeros(3, 32, 40)
    gradient[1, 5:12, 8:11] = -2
    figure = show_fields(torch.rand(3, 32, 40), {"res2": gradient}, (8, 9))
    frame = next(p for p in figure.axes[0].patches if isinstance(p, Rectangle))
    assert (frame.get_x(), frame.get_y(), frame.get_width(), frame.get_height()) == (7.5, 4.5, 3, 7)
    assert "res2 7 by 3 pixels" in figure.alt_text


def test_cost_bars_are_as_long_as_their_numbers():
    figure = cost_bars({"parameters": {"res5": 0.9, "P2": 0.03}, "cost": {"res5": 14.7, "P2": 37.7}})
    widths = [[p.get_width() for p in ax.patches] for ax in figure.axes]
    assert widths == [[0.9, 0.03], [14.7, 37.7]]
    assert "parameters: most in res5; cost: most in P2" in figure.alt_text
