"""Pictures of lesson 01: what they show, as alt text and as drawn text."""

import numpy as np
import pytest
import torch

from upsnet_lite.categories import IGNORE, Categories
from upsnet_lite.viz.colors import HATCH
from upsnet_lite.viz.lessons_task import show_answers, show_three_tasks

CATEGORIES = Categories.from_json(
    [
        dict(id=1, name="ball", isthing=1, color=[165, 68, 20]),
        dict(id=11, name="sky-other-merged", isthing=0, color=[228, 238, 250]),
    ]
)
IDS = torch.tensor([[7, 7, 7], [7, 3, 4], [0, 5, 5]])  # sky, two balls that touch, a crowd of balls, void
SEGMENTS = [
    dict(id=7, category_id=11),
    dict(id=3, category_id=1, iscrowd=0),
    dict(id=4, category_id=1, iscrowd=0),
    dict(id=5, category_id=1, iscrowd=1),
]


def large(x):
    return x.repeat_interleave(20, -1).repeat_interleave(20, -2)


@pytest.fixture
def three():
    semantic = torch.tensor([[0, 0, 0], [0, 1, 1], [IGNORE, 1, 1]])
    target = dict(panoptic=large(IDS), semantic=large(semantic), segments_info=SEGMENTS)
    return show_three_tasks(torch.rand(3, 60, 60), target, CATEGORIES)


def test_three_tasks_count_classes_objects_and_segments(three):
    assert "semantic, 2 classes: sky and ball" in three.alt_text
    assert "instance, 2 objects: 2 × ball" in three.alt_text  # the crowd is none
    assert "panoptic, 4 segments: sky and 3 × ball" in three.alt_text


def test_semantic_joins_what_panoptic_keeps_apart(three):
    _, semantic, instance, panoptic = (np.asarray(axes.images[0].get_array()) for axes in three.axes)

    def has_line(pixels):  # between the balls 3 and 4, at column 40 of row 30: white and bright
        return bool((pixels[30, 40] > 200).all())

    assert not has_line(semantic) and has_line(instance) and has_line(panoptic)


def test_every_cell_says_its_id_and_class():
    figure = show_answers({"truth": (IDS, SEGMENTS), "nothing": (torch.zeros_like(IDS), [])}, CATEGORIES, "two maps")
    texts = [t.get_text() for t in figure.axes[0].texts]
    assert texts[::2] == [str(i) for i in IDS.flatten().tolist()]
    assert texts[1::2] == ["sky", "sky", "sky", "sky", "ball", "ball", "", "crowd\nof ball", "crowd\nof ball"]
    assert "7 7 7 / 7 3 4 / 0 5 5, where 7 is sky, 3 is ball, 4 is ball and 5 is crowd of ball" in figure.alt_text
    colors = {tuple(c) for c in np.asarray(figure.axes[1].images[0].get_array()).reshape(-1, 3).tolist()}
    assert colors == set(HATCH)
