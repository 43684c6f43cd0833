"""Names and where they stand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upsnet_lite.categories import Categories
from upsnet_lite.viz.colors import segment_colors
from upsnet_lite.viz.labels import class_names, depth, listed, place_labels, segments_in_words, short, z_colors, z_names

CATEGORIES = Categories.from_json(
    [
        {"id": 7, "name": "wall-other-merged", "color": [1, 2, 3], "isthing": 0},
        {"id": 3, "name": "cat", "color": [213, 94, 0], "isthing": 1},
        {"id": 5, "name": "dog", "color": [0, 114, 178], "isthing": 1},
    ]
)


def test_depth_by_hand():
    mask = np.ones((5, 5), dtype=bool)
    expected = [[1, 1, 1, 1, 1], [1, 2, 2, 2, 1], [1, 2, 3, 2, 1], [1, 2, 2, 2, 1], [1, 1, 1, 1, 1]]
    assert (depth(mask) == expected).all()
    mask[2, 2] = False
    assert depth(mask)[1, 1] == pytest.approx(2**0.5)
    assert depth(mask)[2, 2] == 0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.5, 6))
def test_depth_is_the_distance_to_the_nearest_outside_pixel(seed, aspect):
    mask = np.random.default_rng(seed).random((7, 9)) < 0.8
    outside = np.argwhere(~np.pad(mask, 1)) - 1
    for y, x in np.argwhere(mask):
        nearest = np.sqrt((outside[:, 0] - y) ** 2 + ((outside[:, 1] - x) / aspect) ** 2).min()
        assert depth(mask, aspect)[y, x] == pytest.approx(nearest)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_points_lie_inside_their_segments_and_texts_apart(seed):
    rng = np.random.default_rng(seed)
    ys, xs = np.mgrid[:60, :80]
    seeds = rng.random((8, 2)) * (60, 80)
    panoptic = 1 + ((ys[..., None] - seeds[:, 0]) ** 2 + (xs[..., None] - seeds[:, 1]) ** 2).argmin(-1)
    ids = list(range(1, 9))
    sizes = [(float(rng.uniform(5, 30)), 5.0) for _ in ids]
    placed = place_labels(panoptic, ids, sizes)
    for i, (x, y) in placed.items():
        assert panoptic[round(y), round(x)] == i
        for j, (other_x, other_y) in placed.items():
            near_x = abs(x - other_x) < (sizes[i - 1][0] + sizes[j - 1][0]) / 2
            assert i == j or not (near_x and abs(y - other_y) < 5)


def test_a_ring_is_named_on_itself_and_not_in_its_hole():
    ys, xs = np.mgrid[-20:21, -20:21]
    radius = np.hypot(ys, xs)
    ring = ((radius > 8) & (radius < 20)).astype(np.int64)
    ((x, y),) = place_labels(ring, [1], [(6, 4)]).values()
    assert ring[round(y), round(x)] == 1


def test_segments_without_room_and_without_pixels_stay_without_a_name():
    panoptic = np.zeros((40, 40), dtype=np.int64)
    panoptic[10:13, 10:13] = 1
    panoptic[20:40] = 2
    assert set(place_labels(panoptic, [1, 2, 3], [(10, 8)] * 3)) == {2}


def test_a_second_name_gives_way_to_the_first():
    panoptic = np.ones((40, 60), dtype=np.int64)
    panoptic[15:25, 20:40] = 2
    both = place_labels(panoptic, [1, 2], [(20, 6), (12, 6)])
    assert set(both) == {1, 2}
    assert abs(both[1][1] - both[2][1]) >= 6 or abs(both[1][0] - both[2][0]) >= 16


def test_large_segments_are_measured_on_a_coarser_grid():
    panoptic = np.zeros((500, 700), dtype=np.int64)
    panoptic[100:400, 200:600] = 1
    assert place_labels(panoptic, [1], [(80, 20)])[1] == pytest.approx((400, 250), abs=6)


def test_names_and_colors_of_the_channels_of_z():
    classes = np.array([0, 1, 0])
    assert class_names(classes, CATEGORIES) == ["cat 1", "dog", "cat 2"]
    assert z_names(classes, CATEGORIES, 5) == ["wall", "cat 1", "dog", "cat 2", "unknown"]
    assert z_names(classes, CATEGORIES, 4) == ["wall", "cat 1", "dog", "cat 2"]
    segments = [{"id": i, "category_id": c} for i, c in ((1, 7), (2, 3), (3, 5), (4, 3))]
    assert z_colors(classes, CATEGORIES, 4) == list(segment_colors(segments, CATEGORIES).values())


def test_words():
    assert short("wall-other-merged") == "wall" and short("sky-other-merged") == "sky" and short("cat") == "cat"
    assert listed(["a"]) == "a" and listed(["a", "b", "c"]) == "a, b and c" and listed([]) == ""
    assert listed([str(i) for i in range(5)], most=2) == "0, 1 and 3 more"
    segments = [{"id": i, "category_id": c} for i, c in ((1, 3), (2, 3), (3, 7))]
    assert segments_in_words(segments, CATEGORIES) == "wall and 2 × cat"
    assert segments_in_words([], CATEGORIES) == "no segment"
