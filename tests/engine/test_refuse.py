"""Heads fused again: the same as the model where nothing is changed, perfect where everything is the truth."""

import pytest
import torch

from upsnet_lite.categories import IGNORE, Categories
from upsnet_lite.datasets.coco_panoptic import CocoPanoptic
from upsnet_lite.engine import refuse
from upsnet_lite.instance_head import Detections
from upsnet_lite.model import UPSNet
from upsnet_lite.panoptic_quality import PanopticQuality

TINY = Categories.numbered(1, 2)


@pytest.fixture(scope="module")
def scenes(shapes_root):
    return CocoPanoptic(shapes_root, "val")


@pytest.fixture(scope="module")
def model(scenes) -> UPSNet:
    """Untrained, and sure of itself, so that some of its many wrong detections reach Z."""
    torch.manual_seed(0)
    sizes = scenes.categories.num_stuff, scenes.categories.num_thing
    small = dict(widths=(8, 16, 16, 16), fpn_channels=16, semantic_widths=(16, 16), box_hidden=16, panoptic_score=0.1)
    return UPSNet.from_preset("tiny", *sizes, scenes.categories, **small).eval()


@pytest.fixture(scope="module")
def heads(model, scenes):
    return [refuse.heads_of(model, image) for image, _ in scenes]


def same(a: dict, b: dict) -> bool:
    return bool((a["panoptic"] == b["panoptic"]).all()) and a["segments_info"] == b["segments_info"]


def test_heads_fused_again_give_the_models_own_prediction(model, scenes, heads):
    assert any(len(h.found.boxes) for h in heads)
    for (image, _), h in zip(scenes, heads, strict=True):
        with torch.no_grad():
            assert same(model([image])[0], model.fuse(h.x, h.found))


def test_other_options_share_the_weights_and_leave_the_model_alone(model, heads):
    before = model.config
    other = refuse.with_fusion(model, unknown=False, panoptic_score=0.9)
    assert other.config.panoptic_score == 0.9 and not other.panoptic_head.unknown
    assert model.config is before and model.panoptic_head.unknown
    assert next(other.parameters()) is next(model.parameters())
    assert not any(s["isthing"] for s in other.fuse(heads[0].x, heads[0].found)["segments_info"])
    with pytest.raises(TypeError):
        refuse.with_fusion(model, no_such=1)


def test_everything_true_gives_everything(model, scenes, heads):
    targets = [t for _, t in scenes]
    parts = dict(boxes=True, classes=True, masks=True, semantics=True)
    true = [refuse.with_truth(h, model, t, **parts) for h, t in zip(heads, targets, strict=True)]
    states = refuse.image_states([model.fuse(h.x, h.found) for h in true], targets, scenes.categories)
    assert refuse.pq_of(states.sum(0)) > 97
    nothing = [refuse.with_truth(h, model, t) for h, t in zip(heads, targets, strict=True)]
    assert all(same(model.fuse(a.x, a.found), model.fuse(b.x, b.found)) for a, b in zip(heads, nothing, strict=True))


def scene() -> tuple[refuse.Heads, dict]:
    """6 x 6 px; one true object of class 1 in columns 0-3; a box on it (class 0) and a box that meets nothing."""
    masks = torch.zeros(1, 6, 6, dtype=torch.bool)
    masks[:, :4, :4] = True
    semantic = torch.where(masks[0], 2, 0)
    semantic[5, 5] = IGNORE
    target = dict(boxes=torch.tensor([[0.0, 0, 4, 4]]), labels=torch.tensor([2]), masks=masks, semantic=semantic)
    boxes = torch.tensor([[0.0, 0, 4, 3], [4, 4, 6, 6]])
    found = Detections(boxes, torch.tensor([0, 1]), torch.tensor([0.7, 0.2]), -torch.ones(2, 28, 28))
    return refuse.Heads(torch.full((3, 6, 6), 0.5), found, {}), target


def test_true_classes_name_what_is_there_and_drop_what_is_not(model):
    heads, target = scene()
    found = refuse.with_truth(heads, model, target, classes=True).found
    assert found.boxes.tolist() == [[0, 0, 4, 3]]
    assert found.classes.tolist() == [1] and found.scores.tolist() == [1]


def test_true_masks_replace_those_of_matched_boxes_only(model):
    heads, target = scene()
    y = refuse.with_truth(heads, model, target, masks=True).found.mask_logits
    assert (y[0] > 0).all() and y[0, 14, 14] == refuse.SURE  # the object fills this box
    assert (y[1] == -1).all()
    assert (heads.found.mask_logits == -1).all()  # the heads themselves stay


def test_true_semantics_are_one_hot_and_void_stays(model):
    heads, target = scene()
    x = refuse.with_truth(heads, model, target, semantics=True).x
    assert x[:, 0, 0].tolist() == [0, 0, refuse.SURE] and x[:, 0, 5].tolist() == [refuse.SURE, 0, 0]
    assert x[:, 5, 5].tolist() == [0.5] * 3


@pytest.mark.parametrize("part", ["boxes", "classes", "masks", "semantics"])
def test_an_image_without_objects(model, heads, part):
    size = tuple(heads[0].x.shape[1:])
    nothing = dict(boxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64))
    nothing |= dict(masks=torch.zeros(0, *size, dtype=torch.bool), semantic=torch.full(size, 0))
    found = refuse.with_truth(heads[0], model, nothing, **{part: True})
    assert len(found.found.boxes) == (0 if part in ("boxes", "classes") else len(heads[0].found.boxes))
    model.fuse(found.x, found.found)


def test_heuristic_segments_cover_what_they_say(model, scenes, heads):
    for h, (_, target) in zip(heads, scenes, strict=True):
        found = refuse.by_heuristic(h, model, min_score=0.1)
        areas = {s["id"]: s["area"] for s in found["segments_info"]}
        assert areas == {i: int((found["panoptic"] == i).sum()) for i in areas}
        refuse.image_states([found], [target], scenes.categories)


def test_pq_from_states_is_that_of_panoptic_quality():
    generator = torch.Generator().manual_seed(0)
    states = torch.randint(0, 5, (4, 3, 4), generator=generator).double()
    states[:, 1] = 0  # a class that does not occur
    states[..., 0] = 0.7 * states[..., 1]
    one = PanopticQuality(TINY)
    one.merge(states.sum(0))
    assert float(refuse.pq_of(states.sum(0))) == pytest.approx(one.compute().pq)
    assert refuse.quality_of(states, TINY).pq == one.compute().pq


def test_bootstrap_by_hand():
    """One class, every image alike: PQ 80 against PQ 40 on any choice of images."""
    state = lambda iou: torch.tensor([[[iou, 1, 0, 0]]], dtype=torch.float64).repeat(5, 1, 1)  # noqa: E731
    assert refuse.bootstrap(state(0.8), state(0.4), draws=20) == pytest.approx((40, 40, 40))
    a = state(0.8) * torch.tensor([1, 1, 1, 1, 0.5], dtype=torch.float64)[:, None, None]
    a[4, 0, 1] = 1
    value, low, high = refuse.bootstrap(a, state(0.4), draws=200)
    assert value == pytest.approx(100 * 3.6 / 5 - 40) and low < value < high == pytest.approx(40)
    assert refuse.bootstrap(a, state(0.4), draws=200) == (value, low, high)
