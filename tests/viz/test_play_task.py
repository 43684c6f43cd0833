"""A 4 x 4 ball on a 12 x 16 map: what shifting, growing, splitting and erasing it cost can be counted."""

import pytest
import torch

from upsnet_lite.datasets.shapes import categories
from upsnet_lite.viz.play_task import edit, grown, judge, moved, play_pq, shares, words

CATEGORIES = categories()
ID = {c.name: c.id for c in CATEGORIES}
SEGMENTS = [dict(id=i, category_id=ID[name]) for i, name in ((1, "sky"), (2, "grass"), (3, "ball"), (4, "ball"))]


@pytest.fixture
def truth():
    ids = torch.ones(12, 16, dtype=torch.int64)
    ids[7:], ids[2:6, 3:7], ids[8:12, 9:13] = 2, 3, 4
    return ids, SEGMENTS


def judged(truth, **how):
    return judge(edit(truth, 3, **how), truth, 3, CATEGORIES)


def counts(found):
    return tuple(found.count(k) for k in ("tp", "fp", "fn"))


def test_nothing_done_is_the_truth(truth):
    answer, segments = edit(truth, 3)
    assert torch.equal(answer, truth[0]) and segments == SEGMENTS and judged(truth).quality.pq == 100


@pytest.mark.parametrize(
    "how, both, either, counted",
    [
        (dict(right=1), 12, 20, (4, 0, 0)),
        (dict(right=2), 8, 24, (3, 1, 1)),  # a third is no match: missed, and made up
        (dict(down=-1, right=1), 9, 23, (3, 1, 1)),
        (dict(grow=1), 16, 36, (3, 1, 1)),
        (dict(grow=-1), 4, 16, (3, 1, 1)),
        (dict(split=40), 10, 16, (4, 1, 0)),  # 6 px of 16 leave, and are made up
        (dict(split=50), 8, 16, (3, 2, 1)),  # exactly a half is no match
        (dict(split=100), 16, 16, (4, 0, 0)),  # all of it under another id: ids mean nothing
        (dict(erase=True), 0, 16, (3, 0, 1)),  # unknown: missed, but nothing made up
        (dict(right=16), 0, 16, (3, 0, 1)),  # off the map
    ],
)
def test_counted_by_hand(truth, how, both, either, counted):
    found = judged(truth, **how)
    assert (found.both, found.either) == (both, either) and counts(found) == counted


def test_pq_by_hand(truth):
    found = judged(truth, right=1)  # 4 px of sky are lost to the ball
    sky = 1 - 4 / (7 * 16 - 16)
    assert found.quality.pq == pytest.approx(100 * (sky + 1 + (0.6 + 1) / 2) / 3)
    assert "ball: IoU 12 / 20 px = 0.600, a match." in words(found, "ball") and "TP 4   FP 0   FN 0" in words(
        found, "x"
    )
    assert "0.333, no match" in words(judged(truth, right=2), "ball")


def test_what_is_left_behind_is_unknown_and_what_is_covered_is_lost(truth):
    answer, _ = edit(truth, 3, right=1)
    assert (answer[2:6, 3] == 0).all() and (answer[2:6, 7] == 3).all() and int((answer == 1).sum()) == 7 * 16 - 16 - 4


def test_a_split_takes_the_right_part(truth):
    answer, segments = edit(truth, 3, split=25)
    assert (answer[2:6, 6] == 5).all() and (answer[2:6, 3:6] == 3).all()
    assert segments[-1] == dict(id=5, category_id=ID["ball"])


def test_void_of_the_truth_is_in_no_union(truth):
    ids = truth[0].clone()
    ids[2:6, 7:9] = 0
    assert judged((ids, SEGMENTS), right=2).either == 16


def test_growing_and_shrinking():
    mask = torch.zeros(5, 5, dtype=torch.bool)
    mask[2, 2] = True
    assert int(grown(mask, 1).sum()) == 9 and torch.equal(grown(grown(mask, 1), -1), mask)
    assert (
        not grown(mask, -1).any() and grown(torch.ones(5, 5, dtype=torch.bool), -2).all()
    )  # the map's edge is no border


def test_moving():
    mask = torch.zeros(3, 4, dtype=torch.bool)
    mask[0, 0] = True
    assert moved(mask, 2, 3)[2, 3] and int(moved(mask, 2, 3).sum()) == 1
    assert not moved(mask, -1, 0).any() and not moved(mask, 0, 4).any()


def test_three_colours_say_whose_pixels_they_are():
    wanted, given = torch.tensor([[True, True, False, False]]), torch.tensor([[True, False, True, False]])
    drawn = shares(wanted, given, torch.zeros_like(given))
    assert len({tuple(p) for p in drawn[0].tolist()}) == 4


def test_the_widget_says_what_the_functions_say(truth):
    widget = play_pq(truth, CATEGORIES, reach=4)
    assert widget.state()["right"] == 1 and widget.live.text == words(judged(truth, right=1), "ball")
    before = widget.live.png
    widget.controls["right"].value = 2
    assert widget.live.text == words(judged(truth, right=2), "ball") and widget.live.png != before


def test_a_crowd_cannot_be_chosen(truth):
    crowd = [*SEGMENTS[:3], SEGMENTS[3] | dict(iscrowd=1)]
    widget = play_pq((truth[0], crowd), CATEGORIES)
    assert [value for _, value in widget.controls["segment"].options] == [1, 2, 3]


def test_a_photograph_keeps_its_size(truth):
    image = torch.rand(3, 12, 16)
    assert play_pq(truth, CATEGORIES, image).image.shape == play_pq(truth, CATEGORIES).image.shape
