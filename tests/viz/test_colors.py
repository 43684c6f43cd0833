"""Colours: hand-made 5 x 5 maps, and what an eye with deuteranopia makes of the scales."""

import numpy as np
import pytest
import torch

from upsnet_lite.categories import IGNORE, Categories
from upsnet_lite.viz import colors

CATEGORIES = Categories.from_json(
    [
        {"id": 7, "name": "grass", "color": [140, 165, 90], "isthing": 0},
        {"id": 3, "name": "cat", "color": [213, 94, 0], "isthing": 1},
        {"id": 5, "name": "dog", "color": [0, 114, 178], "isthing": 1},
    ]
)
PANOPTIC = np.array(
    [
        [0, 0, 9, 9, 9],
        [1, 1, 9, 9, 9],
        [1, 1, 9, 2, 2],
        [4, 4, 9, 2, 2],
        [4, 4, 9, 9, 77],
    ]
)
SEGMENTS = [
    {"id": 9, "category_id": 7},
    {"id": 1, "category_id": 3},
    {"id": 2, "category_id": 3},
    {"id": 4, "category_id": 5},
]


def deuteranopia(rgb: np.ndarray) -> np.ndarray:
    """What is left of the colours without the green cones (Machado 2009, severity 1)."""
    matrix = np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]])
    s = rgb / 255
    linear = np.where(s <= 0.04045, s / 12.92, ((s + 0.055) / 1.055) ** 2.4) @ matrix.T
    linear = np.clip(linear, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def test_stuff_and_first_instance_have_exactly_their_class_color():
    rgb = colors.panoptic_rgb(PANOPTIC, SEGMENTS, CATEGORIES)
    assert rgb.dtype == np.uint8
    assert (rgb[PANOPTIC == 9] == (140, 165, 90)).all()
    assert (rgb[PANOPTIC == 1] == (213, 94, 0)).all()
    assert (rgb[PANOPTIC == 4] == (0, 114, 178)).all()


def test_second_instance_is_another_shade_of_the_same_hue():
    first, second = (colors.oklab(np.array(colors.segment_colors(SEGMENTS, CATEGORIES)[i])) for i in (1, 2))
    hue = [np.arctan2(lab[2], lab[1]) for lab in (first, second)]
    assert abs(first[0] - second[0]) > 0.05
    assert abs(hue[0] - hue[1]) < 0.15


@pytest.mark.parametrize("color", [(213, 94, 0), (240, 228, 66), (250, 250, 250), (8, 8, 8), (0, 114, 178)])
def test_neighbouring_instances_differ_for_light_and_dark_classes(color):
    lightness = [colors.oklab(np.array(colors.shade(color, n)))[0] for n in range(6)]
    assert min(abs(a - b) for a, b in zip(lightness, lightness[1:], strict=False)) > 0.04


def test_the_map_does_not_depend_on_the_ids():
    renamed = [{**s, "id": s["id"] + 1000} for s in SEGMENTS]
    moved = np.where(np.isin(PANOPTIC, [0, 77]), PANOPTIC, PANOPTIC + 1000)
    expected = colors.panoptic_rgb(PANOPTIC, SEGMENTS, CATEGORIES)
    assert (colors.panoptic_rgb(torch.from_numpy(moved), renamed, CATEGORIES) == expected).all()


def test_void_and_ids_without_a_segment_carry_the_hatch_and_nothing_else_does():
    hatch = colors.hatch(5, 5)
    assert [tuple(v) for v in hatch[0]] == [colors.HATCH[k] for k in (0, 0, 1, 1, 0)]
    rgb = colors.panoptic_rgb(PANOPTIC, SEGMENTS, CATEGORIES)
    assert ((rgb == hatch).all(-1) == np.isin(PANOPTIC, [0, 77])).all()
    everything = colors.panoptic_rgb(np.zeros((5, 5), dtype=np.int64), [], CATEGORIES)
    assert (everything == hatch).all()


def test_semantic_map_hatches_ignored_pixels_only():
    semantic = np.array([[0, 1, IGNORE], [2, 2, 0]])
    rgb = colors.semantic_rgb(semantic, CATEGORIES)
    assert tuple(rgb[0, 1]) == (213, 94, 0)
    assert tuple(rgb[1, 2]) == (140, 165, 90)
    assert (rgb[0, 2] == colors.hatch(2, 3)[0, 2]).all()


def test_an_unknown_category_is_named():
    with pytest.raises(KeyError, match="42"):
        colors.panoptic_rgb(PANOPTIC, [{"id": 9, "category_id": 42}], CATEGORIES)


def test_borders_by_hand():
    expected = np.array(
        [
            [0, 0, 1, 0, 0],
            [1, 1, 1, 0, 0],
            [0, 0, 1, 1, 1],
            [1, 1, 1, 1, 0],
            [0, 0, 1, 1, 1],
        ],
        dtype=bool,
    )
    assert (colors.borders(PANOPTIC) == expected).all()
    assert not colors.borders(np.ones((4, 6), dtype=np.int64)).any()


def test_overlay_keeps_the_picture_at_alpha_0_and_hides_it_at_1():
    image = torch.rand(3, 5, 5, generator=torch.Generator().manual_seed(0))
    inner = ~colors.borders(PANOPTIC)
    shown, hidden = (colors.overlay(image, PANOPTIC, SEGMENTS, CATEGORIES, alpha) for alpha in (0.0, 1.0))
    assert (shown[inner] == colors.grey_rgb(image)[inner]).all()
    assert (hidden[inner] == colors.panoptic_rgb(PANOPTIC, SEGMENTS, CATEGORIES)[inner]).all()
    assert hidden[~inner].min() > 200


def test_limit_is_symmetric_and_ignores_what_is_not_finite():
    assert colors.symmetric_limit(torch.tensor([[-3.0, 2.0]]), np.array([float("-inf"), float("nan"), 1])) == 3
    assert colors.symmetric_limit(np.zeros((2, 2))) == 1
    assert colors.symmetric_limit(np.zeros((0, 3))) == 1


def test_zero_is_white_and_both_signs_are_equally_far_from_it():
    values = np.array([[0.0, -2.0, 2.0, -9.0, 9.0, -np.inf, np.nan]])
    rgb = colors.logits_rgb(values, 2.0)[0]
    assert tuple(rgb[0]) == colors.DIVERGING_STOPS[3]
    assert tuple(rgb[1]) == tuple(rgb[3]) == colors.DIVERGING_STOPS[0]
    assert tuple(rgb[2]) == tuple(rgb[4]) == colors.DIVERGING_STOPS[-1]
    assert tuple(rgb[5]) == tuple(rgb[6]) == colors.NOTHING
    lightness = colors.oklab(colors.DIVERGING)[:, 0]
    assert np.abs(lightness - lightness[::-1]).max() < 0.09


def test_signs_stay_apart_without_green_cones():
    lab = colors.oklab(deuteranopia(colors.DIVERGING))
    apart = np.linalg.norm(lab - lab[::-1], axis=1)
    assert (apart[:90] > 0.1).all()  # from about 30 % of the limit outwards


def test_probabilities_only_get_darker_also_without_green_cones():
    for ramp in (colors.SEQUENTIAL, deuteranopia(colors.SEQUENTIAL)):
        lightness = colors.oklab(ramp)[:, 0]
        assert (np.diff(lightness[::8]) < 0).all()


def test_oklab_is_undone():
    rgb = np.random.default_rng(0).integers(0, 256, (200, 3))
    assert np.abs(colors.from_oklab(colors.oklab(rgb)).astype(int) - rgb).max() <= 1
    assert colors.oklab(np.array([255, 255, 255])) == pytest.approx([1, 0, 0], abs=1e-3)


def test_tensors_of_any_precision_become_arrays():
    half = torch.tensor([1.5, -2.0], dtype=torch.bfloat16, requires_grad=True)
    assert colors.array(half).tolist() == [1.5, -2.0]
