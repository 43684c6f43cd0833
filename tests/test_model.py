"""The whole network: the contract of its input and output, batches, bad input, the trace. Small and untrained."""

import math

import pytest
import torch
from torch import Tensor

from upsnet_lite import UPSNet
from upsnet_lite.categories import IGNORE, Categories
from upsnet_lite.config import LossWeights

S, T, SIDE = 3, 2, 64
LOSSES = [
    "loss_objectness",
    "loss_rpn_box_reg",
    "loss_classifier",
    "loss_box_reg",
    "loss_mask",
    "loss_semantic",
    "loss_roi_semantic",
    "loss_panoptic",
]


def network(seed: int = 0, **overrides) -> UPSNet:
    """`tiny` at 64 px whose detections are many: scores spread, thresholds low, masks on."""
    torch.manual_seed(seed)
    defaults = dict(min_size=SIDE, max_size=SIDE, panoptic_score=0.3, stuff_area=4, detections=30)
    model = UPSNet.from_preset("tiny", S, T, **(defaults | overrides)).eval()
    with torch.no_grad():
        model.instance_head.roi_heads.box_predictor.cls_score.weight.mul_(20)
        model.instance_head.roi_heads.mask_predictor.mask_fcn_logits.bias.fill_(1.0)
        model.semantic_head.score.weight.mul_(50)
    return model


@pytest.fixture(scope="module")
def model() -> UPSNet:
    return network()


def picture(height: int = SIDE, width: int = SIDE, seed: int = 0) -> Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))


def truth(num_inst: int, height: int = SIDE, width: int = SIDE, seed: int = 0) -> dict:
    """Rectangles on three bands of stuff; one corner void, one a crowd (a thing class without instance)."""
    g = torch.Generator().manual_seed(seed)
    semantic = (torch.arange(height) * S // height)[:, None].repeat(1, width)
    semantic[:4, :4], semantic[-6:, -6:] = IGNORE, S
    low = torch.stack(
        (torch.randint(0, width - 9, (num_inst,), generator=g), torch.randint(0, height - 9, (num_inst,), generator=g)),
        1,
    )
    boxes = torch.cat((low, low + torch.randint(3, 9, (num_inst, 2), generator=g)), 1)
    labels = torch.randint(1, T + 1, (num_inst,), generator=g)
    masks = torch.zeros(num_inst, height, width, dtype=torch.bool)
    for mask, (x0, y0, x1, y1), label in zip(masks, boxes.tolist(), labels.tolist(), strict=True):
        mask[y0:y1, x0:x1] = True
        semantic[mask] = S + label - 1
    return dict(boxes=boxes.float(), labels=labels, masks=masks, semantic=semantic, image_id=0)


def check_prediction(found: dict, model: UPSNet, height: int, width: int) -> None:
    """Everything DESIGN's contract says of one prediction."""
    assert list(found) == ["boxes", "labels", "scores", "mask_logits", "semantic", "panoptic", "segments_info"]
    count = len(found["boxes"])
    assert found["boxes"].shape == (count, 4) and found["mask_logits"].shape == (count, 28, 28)
    assert found["labels"].dtype == torch.int64 and found["labels"].shape == found["scores"].shape == (count,)
    if count:
        assert found["labels"].min() >= 1 and found["labels"].max() <= model.config.num_thing
        x, y = found["boxes"][:, 0::2], found["boxes"][:, 1::2]
        assert x.min() >= 0 and y.min() >= 0 and x.max() <= width + 1e-3 and y.max() <= height + 1e-3
        assert (found["scores"].diff() <= 0).all() and found["scores"].min() > model.config.score_threshold
    assert found["semantic"].shape == found["panoptic"].shape == (height, width)
    assert found["semantic"].dtype == found["panoptic"].dtype == torch.int64
    assert found["semantic"].min() >= 0 and found["semantic"].max() < len(model.categories)
    check_segments(found["panoptic"], found["segments_info"], model.categories)


def check_segments(panoptic: Tensor, infos: list[dict], categories: Categories) -> None:
    ids, areas = panoptic.unique(return_counts=True)
    area = dict(zip(ids.tolist(), areas.tolist(), strict=True))
    area.pop(0, None)
    assert {i["id"]: i["area"] for i in infos} == area
    for info in infos:
        assert set(info) == {"id", "category_id", "isthing", "score", "area"}
        assert categories[categories.index(info["category_id"])].isthing is info["isthing"]
        assert 0 <= info["score"] <= 1
    stuff = [i["category_id"] for i in infos if not i["isthing"]]
    assert len(stuff) == len(set(stuff))  # a stuff class is one segment


# ------------------------------------------------------------------------------------------------------- prediction


def test_predictions_keep_the_contract_for_images_of_different_sizes(model) -> None:
    sizes = [(64, 64), (40, 64), (97, 131), (30, 17)]
    with torch.no_grad():
        found = model([picture(*size) for size in sizes])
    assert len(found) == len(sizes)
    for one, size in zip(found, sizes, strict=True):
        check_prediction(one, model, *size)
    assert any(len(one["segments_info"]) > 1 for one in found)
    assert any(i["isthing"] for one in found for i in one["segments_info"])


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (300, 5)])
def test_strange_sizes(model, size) -> None:
    with torch.no_grad():
        check_prediction(model([picture(*size)])[0], model, *size)


def test_no_detection_at_all() -> None:
    model = network(score_threshold=1.1)
    with torch.no_grad():
        found = model([picture(), picture(40, 64)])
    for one, size in zip(found, ((64, 64), (40, 64)), strict=True):
        check_prediction(one, model, *size)
        assert len(one["boxes"]) == 0 and not any(i["isthing"] for i in one["segments_info"])


@pytest.mark.parametrize("count", [1, 300])
def test_one_and_300_instances_in_z(count) -> None:
    """All detections pass: no threshold, no suppression, every mask on."""
    model = network(
        detections=count, score_threshold=0.0, panoptic_score=0.0, box_nms=1.0, panoptic_nms=1.0, mask_overlap=1.0,
        proposals_test=400, rpn_nms=0.99,
    )  # fmt: skip
    with torch.no_grad():
        trace = model.trace(picture())
        found = model([picture()])[0]
    assert len(found["boxes"]) == len(trace.B) == count and trace.z.shape == (S + count + 1, SIDE, SIDE)
    check_prediction(found, model, SIDE, SIDE)
    assert torch.equal(trace.panoptic, found["panoptic"])


def test_a_batch_of_equal_padding_gives_what_single_images_give(model) -> None:
    """40 x 64 and 64 x 64 are both padded to 64 x 64, so nothing of one image reaches the other."""
    images = [picture(64, 64, 1), picture(40, 64, 2), picture(64, 64, 3)]
    with torch.no_grad():
        together, alone = model(images), [model([i])[0] for i in images]
    for batched, single in zip(together, alone, strict=True):
        assert len(batched["boxes"]) == len(single["boxes"])
        for key in ("boxes", "scores", "mask_logits"):
            torch.testing.assert_close(batched[key], single[key], rtol=1e-3, atol=1e-3)
        assert torch.equal(batched["labels"], single["labels"])
        assert (batched["semantic"] == single["semantic"]).float().mean() > 0.999
        assert (batched["panoptic"] == single["panoptic"]).float().mean() > 0.999


def test_the_same_image_gives_the_same_prediction(model) -> None:
    with torch.no_grad():
        first, second = model([picture()])[0], model([picture()])[0]
    assert torch.equal(first["panoptic"], second["panoptic"]) and torch.equal(first["boxes"], second["boxes"])


def test_coordinates_are_those_of_the_image_not_of_the_network() -> None:
    """An image at twice the size, nearest-neighbour, is the same to the network: boxes double, maps too."""
    model, small = network(), picture(64, 64, 4)
    large = small.repeat_interleave(2, 1).repeat_interleave(2, 2)
    with torch.no_grad():
        one, two = model([small])[0], model([large])[0]
    torch.testing.assert_close(two["boxes"], 2 * one["boxes"], rtol=1e-3, atol=0.05)
    same = two["semantic"][::2, ::2] == one["semantic"]
    assert two["semantic"].shape == (128, 128) and same.float().mean() > 0.9


@pytest.mark.parametrize(
    "options",
    [
        dict(mask_agnostic=False),
        dict(unknown=False),
        dict(outside=-math.inf),
        dict(majority=False),
        dict(norm="group"),
        dict(norm="frozen", frozen_stages=2),
        dict(bgr=True),
    ],
    ids=str,
)
def test_options_predict_and_train(options) -> None:
    model = network(**options)
    with torch.no_grad():
        check_prediction(model([picture()])[0], model, SIDE, SIDE)
    total = sum(model.train()([picture()], [truth(3)]).values())
    total.backward()
    assert total.isfinite()


# ---------------------------------------------------------------------------------------------------------- training


def finite_gradients(model: UPSNet, images: list[Tensor], targets: list[dict]) -> dict[str, Tensor]:
    """Losses of the contract; every trainable parameter has a finite gradient (none unused: DDP would wait for it)."""
    model.zero_grad()
    losses = model(images, targets)
    assert list(losses) == LOSSES
    assert all(loss.shape == () and loss.isfinite() and loss >= 0 for loss in losses.values())
    sum(losses.values()).backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not without
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
    return losses


def test_training_step_on_images_of_different_sizes() -> None:
    model = network().train()
    images = [picture(64, 64), picture(40, 64), picture(90, 70)]
    losses = finite_gradients(model, images, [truth(4), truth(1, 40, 64), truth(0, 90, 70)])
    assert all(loss > 0 for loss in losses.values())
    still = [n for n, p in model.named_parameters() if not p.grad.any()]
    assert len(still) <= 2, still  # nothing is cut off from the losses (a ReLU or two may sleep)


@pytest.mark.parametrize("counts", [(0,), (0, 0), (1,), (300,), (0, 300)])
def test_training_with_none_one_and_300_instances(counts) -> None:
    images = [picture(seed=n) for n in range(len(counts))]
    losses = finite_gradients(network().train(), images, [truth(n, seed=n) for n in counts])
    if not any(counts):
        assert losses["loss_mask"] == losses["loss_box_reg"] == losses["loss_roi_semantic"] == 0
        assert losses["loss_panoptic"] > 0  # stuff and the crowd


def test_an_image_of_nothing_but_void() -> None:
    target = truth(0) | {"semantic": torch.full((SIDE, SIDE), IGNORE)}
    losses = finite_gradients(network().train(), [picture()], [target])
    assert losses["loss_semantic"] == losses["loss_panoptic"] == losses["loss_roi_semantic"] == 0


@pytest.mark.parametrize("size", [(3, 200), (200, 3)])
def test_training_on_an_image_that_shrinks_to_a_line(size) -> None:
    """After resizing, one side has less than a cell of stride 4: the panoptic loss has no pixel and is 0."""
    target = truth(0, 64, 64) | {"masks": torch.zeros(0, *size, dtype=torch.bool), "semantic": torch.zeros(size).long()}
    assert finite_gradients(network().train(), [picture(*size)], [target])["loss_panoptic"] == 0


def test_losses_are_weighted_by_the_configuration() -> None:
    image, target = [picture()], [truth(3)]
    weights = LossWeights(*range(1, 9))
    plain, doubled = (network(weights=w) for w in (LossWeights(*[1.0] * 8), weights))
    torch.manual_seed(1)
    one = plain(image, target)
    torch.manual_seed(1)
    many = doubled(image, target)
    for n, name in enumerate(LOSSES, 1):
        torch.testing.assert_close(many[name], n * one[name])


def test_eval_mode_with_targets_gives_losses(model) -> None:
    with torch.no_grad():
        assert list(model([picture()], [truth(2)])) == LOSSES
    assert not model.training


def test_targets_are_not_changed(model) -> None:
    target = truth(3, 90, 70)
    before = {k: v.clone() for k, v in target.items() if isinstance(v, Tensor)}
    with torch.no_grad():
        model([picture(90, 70)], [target])
    assert all(torch.equal(v, target[k]) for k, v in before.items())


# --------------------------------------------------------------------------------------------------------- bad input


def test_train_mode_needs_targets() -> None:
    with pytest.raises(ValueError, match=r"needs targets; call model.eval\(\)"):
        network().train()([picture()])


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ([torch.rand(1, 9, 9)], "image 0 is"),
        ([torch.rand(3, 9, 9), torch.rand(3, 9)], "image 1 is"),
        ([torch.zeros(3, 9, 9, dtype=torch.uint8)], "uint8"),
        ([torch.rand(3, 0, 9)], "image 0 is"),
        ([], "empty"),
    ],
)
def test_malformed_images(model, images, said) -> None:
    with pytest.raises(ValueError, match=said):
        model(images)


def changed(**entries) -> dict:
    return truth(2) | entries


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ({k: v for k, v in truth(2).items() if k != "masks"}, "target 0 lacks masks"),
        (changed(boxes=torch.zeros(3, 4)), "boxes has shape"),
        (changed(masks=torch.zeros(2, 9, 9, dtype=torch.bool)), "masks has shape"),
        (changed(semantic=torch.zeros(9, 9).long()), "semantic has shape"),
        (changed(labels=torch.tensor([0, 1])), r"labels must lie in 1 … 2, found \[0, 1\]"),
        (changed(labels=torch.tensor([1, 3])), "labels must lie in 1 … 2"),
        (changed(masks=torch.zeros(2, SIDE, SIDE)), "masks must be bool"),
        (changed(boxes=torch.tensor([[1.0, 1, 5, 5], [7, 7, 7, 9]])), "every box needs x1 > x0"),
        (changed(boxes=torch.tensor([[1.0, 1, 5, 5], [7, 7, math.inf, 9]])), "target 0: boxes must be finite, .*inf"),
        (changed(boxes=torch.tensor([[-math.inf, 1, 5, 5], [7, 7, 9, 9]])), "target 0: boxes must be finite, .*-inf"),
        (changed(boxes=torch.tensor([[1.0, 1, 5, 5], [7, 7, 3e38, 9]])), "boxes must be finite"),  # once resized
        (changed(boxes=torch.tensor([[1.0, 1, 5, 5], [7, 7, math.nan, 9]])), "every box needs x1 > x0"),
        (changed(semantic=torch.full((SIDE, SIDE), 5)), "semantic must lie in 0 … 4"),
        (changed(semantic=torch.full((SIDE, SIDE), -1)), "semantic must lie in 0 … 4"),
    ],
)
def test_malformed_targets(model, target, said) -> None:
    with pytest.raises(ValueError, match=said):
        model([picture()], [target])
    with pytest.raises(ValueError, match=said):
        model.trace(picture(), target)


@pytest.mark.parametrize("size", [(SIDE, SIDE), (48, 90)])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.float64, torch.float16])
def test_boxes_of_any_type_train_as_float_ones(model, dtype, size) -> None:
    """A scale below 1 made whole would be 0."""
    target = truth(3, *size)
    for losses in (model, lambda images, targets: model.trace(images[0], targets[0]).losses):
        torch.manual_seed(0)
        expected = losses([picture(*size)], [target])
        torch.manual_seed(0)
        assert losses([picture(*size)], [target | {"boxes": target["boxes"].to(dtype)}]) == expected


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_images_of_any_precision_enter_in_that_of_the_weights(model, dtype) -> None:
    """np.asarray(image) / 255 is float64."""
    image = picture().to(dtype)
    (found,), (expected,) = model([image]), model([image.float()])
    assert torch.equal(found["panoptic"], expected["panoptic"]) and torch.equal(found["scores"], expected["scores"])
    torch.manual_seed(0)
    losses = model([image], [truth(3)])
    torch.manual_seed(0)
    assert losses == model([image.float()], [truth(3)])
    assert torch.equal(model.trace(image).z, model.trace(image.float()).z)


def test_a_network_in_double_precision_takes_any_image() -> None:
    single, double = picture(), picture().double()
    results = network().double()([single, double])
    assert torch.equal(*(found["scores"] for found in results)) and torch.equal(*(f["semantic"] for f in results))


def test_as_many_targets_as_images(model) -> None:
    with pytest.raises(ValueError, match="2 images came with 1 targets"):
        model([picture(), picture()], [truth(1)])


def test_unknown_preset_and_option() -> None:
    with pytest.raises(ValueError, match="unknown preset 'huge'.*tiny"):
        UPSNet.from_preset("huge", 1, 1)
    with pytest.raises(TypeError, match="unknown option 'sise'.*min_size"):
        UPSNet.from_preset("tiny", 1, 1, sise=3)
    with pytest.raises(ValueError, match="at least one thing class"):
        UPSNet.from_preset("tiny", 3, 0)
    with pytest.raises(ValueError, match="categories hold 2 stuff and 2 thing"):
        UPSNet.from_preset("tiny", 3, 2, categories=Categories.numbered(2, 2))


# ------------------------------------------------------------------------------------------------------------- trace


@pytest.mark.parametrize("size", [(64, 64), (48, 90)])
@pytest.mark.parametrize("options", [dict(), dict(unknown=False), dict(outside=-math.inf)], ids=str)
def test_trace_agrees_with_itself_and_with_the_prediction(size, options) -> None:
    model, image = network(**options), picture(*size)
    with torch.no_grad():
        t, found = model.trace(image), model([image])[0]
    assert len(t.B) > 1
    assert t.X.shape == (S + T, *size) and torch.equal(torch.cat((t.x_stuff, t.x_thing)), t.X)
    assert t.B.shape == (len(t.B), 4) and t.Y.shape == (len(t.B), 28, 28) and len(t.C) == len(t.scores) == len(t.B)
    assert t.C.min() >= 0 and t.C.max() < T and (t.scores >= model.config.panoptic_score).all()
    assert t.x_mask.shape == t.y_mask.shape == (len(t.B), *size)
    assert (t.z_unknown is None) == (not model.config.unknown)
    assert t.Z is t.z and len(t.z) == S + len(t.B) + model.config.unknown
    assert torch.equal(t.winner, t.z.argmax(0))
    assert torch.equal(t.winner, model.panoptic_head.predict(t.X, t.B, t.C, t.Y))
    assert torch.equal(t.panoptic, found["panoptic"]) and t.segments_info == found["segments_info"]
    assert torch.equal(t.detections.boxes, found["boxes"]) and torch.equal(t.X.argmax(0), found["semantic"])
    assert t.losses is None and t.image is image
    for n, level in enumerate((t.P2, t.P3, t.P4, t.P5, t.P6), 2):
        assert len(level) == model.config.fpn_channels and level.shape[2] == max(1, SIDE // 2**n)
    check_segments(t.panoptic, t.segments_info, model.categories)


def test_trace_is_differentiable(model) -> None:
    """From Z back to the image and to both heads."""
    image = picture().requires_grad_()
    t = model.trace(image)
    grads = torch.autograd.grad(t.z.logsumexp(0).mean(), [image, t.x_stride4, t.Y, t.P2])
    assert all(g.isfinite().all() and g.abs().sum() > 0 for g in grads)


def test_trace_with_a_target_fuses_ground_truth(model) -> None:
    target = truth(3, 48, 90)
    torch.manual_seed(0)
    t = model.trace(picture(48, 90), target)
    assert torch.equal(t.B, target["boxes"]) and torch.equal(t.C, target["labels"] - 1)
    assert (t.scores == 1).all() and t.z.shape == (S + 3 + 1, 48, 90)
    assert torch.equal(t.winner, t.z.argmax(0)) and list(t.losses) == LOSSES
    weights = model.config.weights
    sum(loss * getattr(weights, name) for name, loss in t.losses.items()).backward()
    model.zero_grad()


def test_the_losses_of_a_trace_are_those_of_its_tensors(model) -> None:
    trace = model.trace(picture(), truth(3))
    total = sum(trace.losses.values())
    for name in ("P2", "P5", "x_stride4"):
        (gradient,) = torch.autograd.grad(total, getattr(trace, name), retain_graph=True)
        assert gradient.isfinite().all() and gradient.abs().sum() > 0, name


def test_trace_of_an_image_without_instances(model) -> None:
    t = model.trace(picture(), truth(0))
    assert t.z.shape == (S + 1, SIDE, SIDE) and t.x_mask.shape == (0, SIDE, SIDE)
    torch.testing.assert_close(t.z_unknown, t.x_thing.amax(0))


# ----------------------------------------------------------------------------------------------------------- presets


def test_fusion_has_no_weights(model) -> None:
    assert {name.split(".")[0] for name in model.state_dict()} == {"backbone", "semantic_head", "instance_head"}


def test_resnet50_runs_on_a_small_image() -> None:
    torch.manual_seed(0)
    model = UPSNet.from_preset("resnet50", 53, 80, min_size=64, max_size=64, box_hidden=64).eval()
    with torch.no_grad():
        check_prediction(model([picture(50, 64)])[0], model, 50, 64)
    assert model.backbone(torch.zeros(1, 3, 64, 64))["P2"].shape == (1, 256, 16, 16)


@pytest.mark.parametrize("name", ["resnet50", "resnet101_dcn"])
def test_published_presets_have_their_size(name) -> None:
    """Built without memory. 512-channel concatenation, 133 classes, stem and res2 frozen."""
    with torch.device("meta"):
        model = UPSNet.from_preset(name, 53, 80)
    assert model.semantic_head.score.weight.shape == (133, 512, 1, 1)
    frozen = {".".join(n.split(".")[:3]) for n, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {"backbone.body.conv1", "backbone.body.layer1"}
    offsets = [n for n in model.state_dict() if n.startswith("backbone") and "offset.weight" in n]
    assert len(offsets) == {"resnet50": 0, "resnet101_dcn": 4 + 23 + 3}[name]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mask_widths", ()),
        ("image_mean", (0.5, 0.5)),
        ("fpn_channels", -4),
        ("deform_stages", (7,)),
        ("widths", (16, 16)),
        ("min_size", 0),
        ("frozen_stages", 9),
    ],
)
def test_numbers_that_make_no_network_are_named(field, value) -> None:
    with pytest.raises(ValueError, match=f"^{field}="):
        UPSNet.from_preset("tiny", 3, 2, **{field: value})
