"""RPN, box and mask head: levels, order of RoIs, empty lists, per-class masks, agreement with torchvision."""

import pytest
import torch
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import concat_box_prediction_layers
from torchvision.ops import MultiScaleRoIAlign

from upsnet_lite.backbone import LEVELS
from upsnet_lite.config import preset
from upsnet_lite.instance_head import InstanceHead, batch_rois, pyramid_roi_align, roi_level

CHANNELS, SIDE = 8, 128


def head(**overrides) -> InstanceHead:
    torch.manual_seed(0)
    return InstanceHead(preset("tiny", 3, 4, **(dict(fpn_channels=CHANNELS) | overrides))).eval()


def pyramid(batch: int = 2) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return {
        level: torch.randn(batch, CHANNELS, SIDE // 4 >> n, SIDE // 4 >> n, generator=g)
        for n, level in enumerate(LEVELS)
    }


def images(batch: int = 2, sizes=None) -> ImageList:
    return ImageList(torch.zeros(batch, 3, SIDE, SIDE), sizes or [(SIDE, SIDE)] * batch)


def boxes(count: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    low = 90 * torch.rand(count, 2, generator=g)
    return torch.cat((low, low + 1 + 37 * torch.rand(count, 2, generator=g)), 1)


def test_batch_rois_by_hand() -> None:
    got = batch_rois([torch.tensor([[1.0, 2, 3, 4]]), torch.zeros(0, 4), torch.tensor([[5.0, 6, 7, 8]])])
    assert got.tolist() == [[0, 1, 2, 3, 4], [2, 5, 6, 7, 8]]
    assert batch_rois([torch.zeros(0, 4)]).shape == (0, 5)


@pytest.mark.parametrize(
    ("side", "level"), [(224, 4), (223, 3), (112, 3), (111, 2), (448, 5), (1000, 5), (10, 2), (0, 2), (447, 4)]
)
def test_roi_level_by_hand(side, level) -> None:
    assert roi_level(torch.tensor([[3.0, 5.0, 3.0 + side, 5.0 + side]]), 224.0).tolist() == [level]


def test_pyramid_roi_align_is_torchvisions_multi_scale_roi_align() -> None:
    """Same level for each RoI, same order, same values."""
    levels, rois = pyramid(), [boxes(9), boxes(7, 1)]
    rois[0][0] = torch.tensor([0.0, 0, 120, 120])
    pool = MultiScaleRoIAlign(["P2", "P3", "P4", "P5"], 7, 2, canonical_scale=64, canonical_level=4)
    theirs = pool(levels, rois, [(SIDE, SIDE)] * 2)
    torch.testing.assert_close(pyramid_roi_align(levels, batch_rois(rois), 7, 64.0), theirs, rtol=1e-4, atol=1e-5)


def test_proposals_of_a_batch() -> None:
    made, levels = head(), pyramid()
    found = made.propose(levels, images(sizes=[(128, 128), (100, 60)]))
    anchors = 3 * sum((SIDE // 4 >> n) ** 2 for n in range(5))
    assert found.objectness.shape == (2, anchors) and found.deltas.shape == (2, anchors, 4)
    assert sum(found.per_level) == anchors == len(found.anchors[0])
    for (height, width), one, scores in zip([(128, 128), (100, 60)], found.boxes, found.scores, strict=True):
        assert 0 < len(one) <= made.rpn.post_nms_top_n() and (scores.diff() <= 0).all()
        assert one.min() >= 0 and one[:, 2].max() <= width and one[:, 3].max() <= height


def test_proposals_carry_no_gradient_but_their_logits_do() -> None:
    made = head()
    found = made.propose(pyramid(), images())
    assert not found.boxes[0].requires_grad
    assert found.objectness.requires_grad and found.deltas.requires_grad


def test_objectness_stands_in_the_order_of_the_anchors() -> None:
    """Row n of the logits belongs to anchor n: torchvision's own flattening."""
    made, levels = head(), pyramid()
    found = made.propose(levels, images())
    objectness, deltas = concat_box_prediction_layers(*made.rpn.head(list(levels.values())))
    torch.testing.assert_close(found.objectness.flatten(), objectness.flatten())
    torch.testing.assert_close(found.deltas.flatten(0, 1), deltas)


def test_masks_per_class_gather_that_of_the_class() -> None:
    made, levels, rois = head(mask_agnostic=False), pyramid(), [boxes(3), boxes(2, 1)]
    every = torch.stack([made.mask_logits(levels, rois, torch.full((5,), c)) for c in range(4)])
    classes = torch.tensor([3, 0, 2, 2, 1])
    assert torch.equal(made.mask_logits(levels, rois, classes), every[classes, torch.arange(5)])
    assert not torch.equal(every[0], every[1])


def test_one_mask_whatever_the_class() -> None:
    made, levels, rois = head(), pyramid(), [boxes(3), boxes(2, 1)]
    masks = made.mask_logits(levels, rois, torch.tensor([3, 0, 2, 2, 1]))
    assert masks.shape == (5, 28, 28) and torch.equal(masks, made.mask_logits(levels, rois, torch.zeros(5).long()))


def test_no_roi_at_all() -> None:
    made, none = head(), [torch.zeros(0, 4)] * 2
    assert made.mask_logits(pyramid(), none, torch.zeros(0).long()).shape == (0, 28, 28)
    logits, deltas = made.box_logits(pyramid(), none)
    assert logits.shape == (0, 5) and deltas.shape == (0, 20)
    proposals = made.propose(pyramid(), images())
    proposals.boxes = none
    found = made.detect(pyramid(), proposals, [(SIDE, SIDE)] * 2)
    assert [len(f.boxes) for f in found] == [0, 0] and found[0].mask_logits.shape == (0, 28, 28)


def test_detections() -> None:
    """Classes count from 0, scores fall, masks belong to their boxes; at most `detections` per image."""
    made, levels = head(detections=7, score_threshold=0.0), pyramid()
    found = made.detect(levels, made.propose(levels, images()), [(SIDE, SIDE)] * 2)
    assert [len(f.boxes) for f in found] == [7, 7]
    for f in found:
        assert f.classes.min() >= 0 and f.classes.max() < 4 and (f.scores.diff() <= 0).all()
    again = made.mask_logits(levels, [f.boxes for f in found], torch.cat([f.classes for f in found]))
    torch.testing.assert_close(torch.cat([f.mask_logits for f in found]), again)


def test_y_starts_undecided() -> None:
    """Untrained masks hover around 0: the panoptic head begins with X alone."""
    masks = head().mask_logits(pyramid(), [boxes(4), boxes(1)], torch.zeros(5).long())
    assert masks.abs().max() < 1
