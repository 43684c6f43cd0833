"""Mask pruning, segments and the heuristic merge, by hand."""

import pytest
import torch
from torch import Tensor

from upsnet_lite.categories import Categories
from upsnet_lite.segments import (
    drop_small_stuff,
    heuristic_merge,
    majority_to_stuff,
    panoptic_map,
    prune_masks,
)

SIZE = (20, 20)


def prune(boxes, scores, classes=None, masks: Tensor | None = None, size=SIZE, **options) -> list[int]:
    boxes = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
    classes = torch.tensor(classes if classes is not None else [0] * len(boxes), dtype=torch.int64)
    masks = torch.ones(len(boxes), 28, 28) if masks is None else masks
    kept = prune_masks(boxes, torch.tensor(scores, dtype=torch.float32), classes, masks, size, **options)
    assert kept.dtype == torch.int64
    return kept.tolist()


# -------------------------------------------------------------------------------------------------------- prune_masks

APART = [[0, 0, 4, 4], [5, 5, 9, 9], [10, 10, 14, 14], [15, 15, 19, 19]]


def test_best_first_and_0_6_is_still_in() -> None:
    assert prune(APART, [0.6, 0.9, 0.59999, 0.7]) == [1, 3, 0]


def test_no_detection_and_none_good_enough() -> None:
    assert prune([], []) == []
    assert prune(APART, [0.1, 0.2, 0.3, 0.59]) == []


def test_box_nms_is_class_agnostic_and_needs_more_than_one_half() -> None:
    same, third, two_thirds = [0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 8]
    assert prune([same, two_thirds], [0.8, 0.9], [0, 1]) == [1]  # IoU 0.8: another class does not help
    assert prune([same, third], [0.9, 0.8], [0, 1]) == [0, 1]  # IoU exactly 0.5


@pytest.mark.parametrize("boxes", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("scores", [torch.float32, torch.float64, torch.float16])
def test_boxes_and_scores_may_differ_in_precision(boxes, scores) -> None:
    box, score = torch.tensor(APART, dtype=boxes), torch.tensor([0.5, 0.9, 0.8, 0.7], dtype=scores)
    kept = prune_masks(box, score, torch.zeros(4, dtype=torch.int64), torch.ones(4, 28, 28), SIZE)
    assert kept.tolist() == [1, 2, 3]


def test_overlap_of_exactly_30_per_cent_is_kept() -> None:
    """The second mask has 10 x 10 pixels; 3 columns of it, then 4, already belong to the first."""
    for shared, kept in ((3, [0, 1]), (4, [0])):
        boxes = [[0, 0, 10, 10], [10 - shared, 0, 20 - shared, 10]]
        assert prune(boxes, [0.9, 0.8]) == kept


def test_overlap_counts_only_within_a_class() -> None:
    boxes = [[0, 0, 10, 10], [5, 0, 15, 10]]
    assert prune(boxes, [0.9, 0.8], [0, 0]) == [0]
    assert prune(boxes, [0.9, 0.8], [0, 1]) == [0, 1]


def test_overlap_is_of_the_masks_not_of_the_boxes() -> None:
    """Boxes share half, masks nothing: left half of the first, right half of the second."""
    masks = torch.full((2, 28, 28), -1.0)
    masks[0, :, :14], masks[1, :, 14:] = 1.0, 1.0
    assert prune([[0, 0, 10, 10], [5, 0, 15, 10]], [0.9, 0.8], masks=masks) == [0, 1]


def test_what_is_dropped_occupies_nothing() -> None:
    """The second falls to the first; the third overlaps only the second and stays."""
    assert prune([[0, 0, 10, 10], [6, 0, 16, 10], [11, 0, 20, 10]], [0.9, 0.8, 0.7]) == [0, 2]


def test_kept_masks_add_up() -> None:
    """20 % from the left neighbour and 20 % from the right one together are too much."""
    assert prune([[0, 0, 7, 10], [13, 0, 20, 10], [5, 0, 15, 10]], [0.9, 0.8, 0.7]) == [0, 1]


def test_empty_masks_and_boxes_are_dropped() -> None:
    masks = torch.ones(4, 28, 28)
    masks[0] = -1.0
    masks[1] = 0.0  # probability one half is not more likely than not
    boxes = [[0, 0, 4, 4], [5, 5, 9, 9], [30, 30, 40, 40], [15, 15, 15, 19]]
    assert prune(boxes, [0.9, 0.9, 0.9, 0.9], masks=masks) == []


def test_thresholds_can_be_set() -> None:
    boxes = [[0, 0, 10, 10], [5, 0, 15, 10]]
    assert prune(boxes, [0.3, 0.2], overlap=0.5, min_score=0.2) == [0, 1]
    assert prune(boxes, [0.9, 0.8], [0, 1], nms_iou=0.3) == [0]


# ----------------------------------------------------------------------------------------------- winner -> segments

WINNER = torch.tensor(  # stuff 0 and 1, instances 2 and 3, unknown 4
    [
        [0, 0, 0, 0, 0],
        [0, 0, 2, 2, 1],
        [0, 0, 2, 2, 3],
        [4, 4, 3, 3, 3],
        [4, 4, 3, 3, 3],
    ]
)


def test_small_stuff_becomes_void_and_instances_do_not() -> None:
    assert torch.equal(drop_small_stuff(WINNER, 2, 2, 1), WINNER)
    got = drop_small_stuff(WINNER, 2, 2, 2)
    assert got[1, 4] == 4 and (got == 0).sum() == 9
    assert torch.equal(drop_small_stuff(WINNER, 2, 2, 9), got)  # exactly 9 pixels are enough
    gone = drop_small_stuff(WINNER, 2, 2, 10)
    assert not (gone < 2).any() and torch.equal(gone[WINNER > 1], WINNER[WINNER > 1])


def test_majority_rule_flips_at_one_half() -> None:
    """Instance 2 has 4 pixels, 2 of which X calls stuff 1; instance 3 has 7, 3 stuff 0 and 4 a thing class."""
    semantic = torch.full((5, 5), 2)
    semantic[1, 2:4] = 1
    semantic[3, 2:] = 0
    got = majority_to_stuff(WINNER, semantic, 2, 2)
    assert torch.equal(got, torch.where(WINNER == 2, 1, WINNER))
    semantic[1, 3] = 2  # 1 of 4
    assert torch.equal(majority_to_stuff(WINNER, semantic, 2, 2), WINNER)


def test_majority_is_of_one_stuff_class_not_of_all() -> None:
    semantic = torch.full((5, 5), 2)
    semantic[1, 2], semantic[2, 2] = 0, 1  # 1 + 1 of 4
    assert torch.equal(majority_to_stuff(WINNER, semantic, 2, 2), WINNER)


def test_majority_leaves_stuff_and_unknown_alone() -> None:
    got = majority_to_stuff(WINNER, torch.ones_like(WINNER), 2, 2)
    assert torch.equal(got, torch.where((WINNER == 2) | (WINNER == 3), 1, WINNER))


def test_majority_without_stuff_classes() -> None:
    assert torch.equal(majority_to_stuff(WINNER, WINNER, 0, 4), WINNER)


def logits(semantic: Tensor, channels: int) -> Tensor:
    return torch.nn.functional.one_hot(semantic, channels).permute(2, 0, 1).float() * 3


def test_panoptic_map_by_hand() -> None:
    categories = Categories.numbered(2, 2)  # ids 0 and 1 stuff, 2 and 3 things
    x = logits(torch.where(WINNER < 2, WINNER, 2), 4)
    panoptic, infos = panoptic_map(WINNER, x, torch.tensor([1, 0]), torch.tensor([0.75, 0.5]), categories, 2)
    by_channel = torch.tensor([1, 0, 2, 3, 0])  # stuff 1 is too small, unknown is 0
    assert torch.equal(panoptic, by_channel[WINNER]) and panoptic.dtype == torch.int64
    probability = 1 / (1 + 3 * torch.tensor(-3.0).exp().item())
    assert infos == [
        {"id": 1, "category_id": 0, "isthing": False, "score": pytest.approx(probability), "area": 9},
        {"id": 2, "category_id": 3, "isthing": True, "score": 0.75, "area": 4},
        {"id": 3, "category_id": 2, "isthing": True, "score": 0.5, "area": 7},
    ]
    assert sum(i["area"] for i in infos) == int((panoptic > 0).sum())


def test_panoptic_map_with_majority() -> None:
    """X calls all of instance 2 stuff 1: it joins the stuff segment, which is then large enough to see."""
    categories = Categories.numbered(2, 2)
    semantic = torch.where(WINNER == 2, 1, torch.where(WINNER < 2, WINNER, 2))
    args = WINNER, logits(semantic, 4), torch.tensor([1, 0]), torch.tensor([0.75, 0.5]), categories
    panoptic, infos = panoptic_map(*args, stuff_area=1)
    assert [(i["category_id"], i["area"]) for i in infos] == [(0, 9), (1, 5), (2, 7)]
    assert (panoptic[WINNER == 2] == panoptic[1, 4]).all()
    assert len(panoptic_map(*args, stuff_area=1, majority=False)[1]) == 4


def test_panoptic_map_of_nothing_but_unknown() -> None:
    panoptic, infos = panoptic_map(
        torch.full((5, 5), 2),
        torch.zeros(3, 5, 5),
        torch.zeros(0, dtype=torch.int64),
        torch.zeros(0),
        Categories.numbered(2, 1),
    )
    assert not panoptic.any() and infos == []


def test_an_instance_that_wins_nowhere_is_no_segment() -> None:
    categories, two = Categories.numbered(2, 2), torch.tensor([0, 1])
    winner = torch.where(WINNER == 3, 0, WINNER)
    infos = panoptic_map(winner, logits(winner.clamp(max=3), 4), two, torch.tensor([0.9, 0.8]), categories, 1)[1]
    assert [i["category_id"] for i in infos] == [0, 1, 2] and [i["id"] for i in infos] == [1, 2, 3]


# ---------------------------------------------------------------------------------------------------- heuristic merge


def merge(scores, fill="semantic", **options) -> tuple[Tensor, list[int]]:
    """Two boxes that share the middle column of 5 x 5; X says stuff 1 in the top row, a thing (class 2) below."""
    semantic = torch.full((5, 5), 2)
    semantic[0] = 1
    x = logits(semantic, 3) + torch.tensor([0.5, 0.0, 0.0])[:, None, None]
    boxes = torch.tensor([[0.0, 1, 3, 4], [2, 1, 5, 4]])
    winner, kept = heuristic_merge(
        x, boxes, torch.tensor(scores), torch.tensor([0, 0]), torch.ones(2, 28, 28), 2, fill=fill, **options
    )
    return winner, kept.tolist()


def test_heuristic_merge_by_hand() -> None:
    """Higher score takes the shared column; gaps get the stuff X sees, and void where X sees a thing."""
    winner, kept = merge([0.7, 0.9])
    rows = [[3, 3, 2, 2, 2]] * 3
    assert kept == [1, 0]
    assert winner.tolist() == [[1] * 5, *rows, [4] * 5]


def test_heuristic_merge_can_fill_with_the_best_stuff() -> None:
    winner, _ = merge([0.9, 0.7], fill="stuff")
    assert winner.tolist() == [[1] * 5, *[[2, 2, 2, 3, 3]] * 3, [0] * 5]


def test_heuristic_merge_drops_what_is_mostly_taken_or_unsure() -> None:
    assert merge([0.9, 0.7], overlap=0.3)[1] == [0]  # a third of the second is taken
    assert merge([0.9, 0.49])[1] == [0]
    winner, kept = merge([0.1, 0.2])
    assert kept == [] and winner.tolist() == [[1] * 5, *[[2] * 5] * 4]  # channel 2 is void now
