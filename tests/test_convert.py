"""Converters: torchvision's own outputs as the oracle; every released entry used once, every parameter set."""

import urllib.error

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet50
from torchvision.models.detection import maskrcnn_resnet50_fpn, maskrcnn_resnet50_fpn_v2
from torchvision.ops.misc import FrozenBatchNorm2d

from upsnet_lite import convert, weights
from upsnet_lite.categories import Categories, Category
from upsnet_lite.config import preset
from upsnet_lite.engine.recipe import TrainOptions
from upsnet_lite.engine.train import make_model
from upsnet_lite.files import UserError
from upsnet_lite.instance_head import centred_anchors
from upsnet_lite.known_categories import CITYSCAPES, COCO
from upsnet_lite.model import UPSNet

UNNAMED = [12, 26, 29, 30, 45, 66, 68, 69, 71, 83]  # COCO ids that no class has; 0 is background
SMALL = dict(min_size=128, max_size=200)
FEW = dict(rpn_pre_nms_top_n_test=200, rpn_post_nms_top_n_test=200, box_detections_per_img=25)  # torchvision's words
OUR_FEW = dict(proposals_test=200, detections=25)


@pytest.fixture(scope="module")
def images() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    sizes = (90, 150), (140, 110)
    coarse = [torch.rand(1, 3, 6, 6, generator=generator) for _ in sizes]
    return [nn.functional.interpolate(c, s, mode="bicubic")[0].clamp(0, 1) for c, s in zip(coarse, sizes, strict=True)]


@pytest.fixture(scope="module")
def theirs(images) -> nn.Module:
    """torchvision's Mask R-CNN with random weights, norms included, sure of itself and of many classes."""
    generator = torch.Generator().manual_seed(0)
    model = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, **SMALL, **FEW).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values, low, high in ((module.weight.data, 0.3, 0.6), (module.running_var, 0.5, 1.5)):
                values.uniform_(low, high, generator=generator)
            module.bias.data.normal_(0, 0.1, generator=generator)
    seen = []
    hook = model.roi_heads.box_predictor.register_forward_hook(lambda module, args, out: seen.append(args[0]))
    with torch.no_grad():
        model(images)
    hook.remove()
    mean = seen[0].mean(0)  # RoIs look alike: what they share must not decide
    score = model.roi_heads.box_predictor.cls_score
    score.weight.data.normal_(0, 0.1 / (seen[0] - mean).std().item(), generator=generator)
    score.bias.data = -score.weight.data @ mean
    score.bias.data[UNNAMED] = -1e4  # never, as after training
    model.roi_heads.mask_predictor.mask_fcn_logits.weight.data.normal_(0, 0.3, generator=generator)
    return model


def their_results(model: nn.Module, images: list[Tensor]) -> list[dict]:
    """Boxes in the image, labels, scores, and the 28 x 28 probabilities before torchvision pastes them."""
    seen = []
    hook = model.roi_heads.mask_predictor.register_forward_hook(lambda module, args, out: seen.append(out))
    with torch.no_grad():
        found = model(images)
    hook.remove()
    masks = seen[0].sigmoid().split([len(f["labels"]) for f in found])
    return [f | {"probabilities": m[range(len(m)), f["labels"]]} for f, m in zip(found, masks, strict=True)]


def in_one_order(found: dict) -> dict:
    """By label and place: equal scores have no order of their own."""
    order = (found["labels"] * 1e5 + found["boxes"] @ torch.tensor([1.0, 3.0, 7.0, 11.0])).argsort()
    return {k: v[order] for k, v in found.items() if k != "masks"}


@pytest.fixture(scope="module")
def ours(theirs) -> UPSNet:
    return weights.from_torchvision_maskrcnn(theirs.state_dict(), **SMALL, **OUR_FEW).eval()


# ---- torchvision -----------------------------------------------------------------------------------------------------


def test_detections_equal_torchvisions(ours, theirs, images):
    with torch.no_grad():
        found = ours(images)
    things = {k + 1: c.id for k, c in enumerate(ours.categories.things)}
    for mine, other in zip(found, their_results(theirs, images), strict=True):
        mine = {k: mine[k] for k in ("boxes", "labels", "scores", "mask_logits")}
        mine["labels"].apply_(things.get)
        mine, other = in_one_order(mine), in_one_order(other)
        assert len(other["labels"]) > 20 and len(set(other["labels"].tolist())) > 2
        assert torch.equal(mine["labels"], other["labels"])
        torch.testing.assert_close(mine["boxes"], other["boxes"], atol=2e-3, rtol=1e-4)
        torch.testing.assert_close(mine["scores"], other["scores"], atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(mine["mask_logits"].sigmoid(), other["probabilities"], atol=1e-3, rtol=1e-3)


def test_names_of_the_published_file_are_understood(ours, theirs, tmp_path):
    """Written by torchvision 0.2, with other names; norms without counters, whose eps torchvision then sets to 0."""
    old = {}
    for name, tensor in theirs.state_dict().items():
        if name.startswith("backbone.fpn."):
            name = name.replace(".0.weight", ".weight").replace(".0.bias", ".bias")
        name = name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        for n in range(4):
            name = name.replace(f"mask_head.{n}.0.", f"mask_head.mask_fcn{n + 1}.")
        old[name] = tensor
    assert {"backbone.fpn.inner_blocks.0.weight", "roi_heads.mask_head.mask_fcn4.bias"} <= set(old)
    torch.save(old, tmp_path / "mask.pth")
    model = weights.initial(str(tmp_path / "mask.pth"), "resnet50", COCO)
    assert model.training and not model.config.mask_agnostic
    for name, tensor in model.state_dict().items():
        assert name.startswith("semantic_head.") or torch.equal(tensor, ours.state_dict()[name]), name
    with pytest.raises(UserError, match="fits --preset resnet50, not tiny"):
        weights.initial(str(tmp_path / "mask.pth"), "tiny", COCO)


@pytest.mark.parametrize(("counters", "eps"), [(False, 0.0), (True, 1e-5)])
def test_eps_of_the_source_is_absorbed(counters, eps):
    source = nn.Sequential(FrozenBatchNorm2d(4, eps=eps))
    state = dict(
        weight=[1.0, 2, 3, 4], bias=[0.0, 1, 2, 3], running_mean=[1.0, 0, -1, 2], running_var=[1e-6, 1e-4, 1, 2]
    )
    source.load_state_dict({f"0.{name}": torch.tensor(v) for name, v in state.items()})
    given = source.state_dict() | ({"0.num_batches_tracked": torch.tensor(7)} if counters else {})
    ours = nn.Sequential(FrozenBatchNorm2d(4))
    ours.load_state_dict(convert.absorb_eps(given, None))
    x = torch.randn(1, 4, 3, 3)
    torch.testing.assert_close(ours(x), source(x), rtol=1e-5, atol=1e-5)


def test_all_80_classes_find_their_row(ours, theirs):
    names = convert.PUBLISHED["maskrcnn"].meta["categories"]
    ids = [names.index(c.name) for c in ours.categories.things]
    assert len(set(ids)) == 80 and ids == [c.id for c in ours.categories.things]
    features, pooled = torch.randn(5, 1024), torch.randn(2, 256, 14, 14)
    mine, other = ours.instance_head.roi_heads, theirs.roi_heads
    logits, deltas = mine.box_predictor(features)
    their_logits, their_deltas = other.box_predictor(features)
    torch.testing.assert_close(logits, their_logits[:, [0, *ids]])
    torch.testing.assert_close(deltas.view(5, 81, 4), their_deltas.view(5, 91, 4)[:, [0, *ids]])
    torch.testing.assert_close(mine.mask_predictor(pooled), other.mask_predictor(pooled)[:, ids])


def test_things_of_ones_own_are_matched_by_name(theirs):
    own = Categories((Category(4, "grass", (0, 0, 0), False), Category(7, "dog", (1, 1, 1), True),
                      Category(9, "unicorn", (2, 2, 2), True)))  # fmt: skip
    ours = weights.from_torchvision_maskrcnn(theirs.state_dict(), own)
    score, source = (m.roi_heads.box_predictor.cls_score.weight for m in (ours.instance_head, theirs))
    assert torch.equal(score[:2], source[[0, 18]]) and not (score[2] == source).any()
    assert ours.categories == own


def test_what_is_no_mask_rcnn_v1_is_refused():
    with torch.device("meta"):
        v2 = maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None).state_dict()
    with pytest.raises(UserError, match="v2 has other heads"):
        weights.from_torchvision_maskrcnn(v2)
    with pytest.raises(UserError, match="no box predictor"):
        weights.from_torchvision_maskrcnn({})


def test_half_a_network_is_refused():
    model = UPSNet.from_preset("tiny", 1, 1)
    state = model.state_dict()
    with pytest.raises(UserError, match="the file does not fit: it has also extra"):
        convert.fill(model, state | {"extra": torch.zeros(1)}, "the file")
    del state["semantic_head.score.bias"]
    convert.fill(model, state, "the file", fresh="semantic_head.")
    with pytest.raises(UserError, match="the file does not fit: it lacks semantic_head.score.bias"):
        convert.fill(model, state, "the file")
    with pytest.raises(UserError, match="size mismatch for semantic_head.score.bias"):
        convert.fill(model, state | {"semantic_head.score.bias": torch.zeros(9)}, "the file")


# ---- UPSNet's release ------------------------------------------------------------------------------------------------


def released(blocks, dcn: bool, gap: bool, layers: int, things: int, classes: int) -> dict[str, Tensor]:
    """Names and shapes as the released model definition gives them; entry k holds k everywhere."""
    shapes: dict[str, tuple] = {}

    def layer(name: str, *shape: int, bias: bool = True) -> None:
        shapes[f"{name}.weight"] = shape
        if bias:
            shapes[f"{name}.bias"] = shape[:1]

    def norm(name: str, width: int) -> None:
        layer(name, width)
        shapes[f"{name}.running_mean"] = shapes[f"{name}.running_var"] = (width,)
        shapes[f"{name}.num_batches_tracked"] = ()

    layer("resnet_backbone.conv1.conv1", 64, 3, 7, 7, bias=False)
    norm("resnet_backbone.conv1.bn1", 64)
    c_in = 64
    for stage, count in zip((2, 3, 4, 5), blocks, strict=True):
        planes = 64 * 2 ** (stage - 2)
        for n in range(count):
            block = f"resnet_backbone.res{stage}.layers.{n}"
            layer(f"{block}.conv1", planes, c_in, 1, 1, bias=False)
            norm(f"{block}.bn1", planes)
            if dcn and stage > 2:
                layer(f"{block}.conv2_offset", 18, planes, 3, 3)
            layer(f"{block}.conv2", planes, planes, 3, 3, bias=False)
            norm(f"{block}.bn2", planes)
            layer(f"{block}.conv3", 4 * planes, planes, 1, 1, bias=False)
            norm(f"{block}.bn3", 4 * planes)
            if n == 0:
                layer(f"{block}.downsample.0", 4 * planes, c_in, 1, 1, bias=False)
                norm(f"{block}.downsample.1", 4 * planes)
            c_in = 4 * planes
    if gap:
        layer("fpn.fpn_gap", 256, 2048)
    for level in (2, 3, 4, 5):
        layer(f"fpn.fpn_p{level}_1x1", 256, 64 * 2**level, 1, 1)
        layer(f"fpn.fpn_p{level}", 256, 256, 3, 3)
    layer("rpn.conv_proposal.0", 256, 256, 3, 3)
    layer("rpn.cls_score", 3, 256, 1, 1)
    layer("rpn.bbox_pred", 12, 256, 1, 1)
    layer("rcnn.fc6.0", 1024, 256 * 49)
    layer("rcnn.fc7.0", 1024, 1024)
    layer("rcnn.cls_score", things + 1, 1024)
    layer("rcnn.bbox_pred", 4 * (things + 1), 1024)
    for n in (1, 2, 3, 4):
        layer(f"mask_branch.mask_conv{n}.0", 256, 256, 3, 3)
    layer("mask_branch.mask_deconv1.0", 256, 256, 2, 2)
    layer("mask_branch.mask_score", things + 1, 256, 1, 1)
    for n in range(layers):
        name = f"fcn_head.fcn_subnet.conv.{n}.0"
        width_in, width_out = (256, 256) if n < layers - 2 else (256, 128) if n == layers - 2 else (128, 128)
        layer(f"{name}.conv_offset", 18, width_in, 3, 3)
        layer(f"{name}.conv", width_out, width_in, 3, 3)
    layer("fcn_head.score", classes, 512, 1, 1)
    return {name: torch.tensor(float(k + 1)).expand(shape) for k, (name, shape) in enumerate(shapes.items())}


RELEASES = {
    "resnet50 coco": dict(blocks=(3, 4, 6, 3), dcn=False, gap=True, layers=3, things=80, classes=133),
    "resnet50 cityscapes": dict(blocks=(3, 4, 6, 3), dcn=False, gap=False, layers=2, things=8, classes=19),
    "resnet101 dcn coco": dict(blocks=(3, 4, 23, 3), dcn=True, gap=True, layers=3, things=80, classes=133),
}


@pytest.mark.parametrize("name", RELEASES)
def test_every_released_entry_is_used_once_and_every_parameter_set(name, tmp_path):
    state = released(**RELEASES[name])
    rows = 1 + RELEASES[name]["things"]
    state["mask_branch.mask_score.bias"] = -torch.arange(1.0, rows + 1)  # row 0 is the background
    prefix = "module." if "101" in name else ""  # as saved by DataParallel
    torch.save({prefix + n: t for n, t in state.items()}, tmp_path / "release.pth")
    model = weights.load(tmp_path / "release.pth")  # knows the format

    holds = {}
    masks = "instance_head.roi_heads.mask_predictor.mask_fcn_logits.bias"
    assert model.get_parameter(masks).tolist() == [-float(n) for n in range(2, rows + 1)]
    for entry, tensor in model.state_dict().items():
        if entry == masks:
            continue
        assert tensor.min() == tensor.max(), f"{entry} is not set, or from two sources"
        assert tensor.max().item() not in holds, f"{entry} and {holds[tensor.max().item()]} come from one source"
        holds[tensor.max().item()] = entry
    needed = {
        v.flatten()[0].item() for n, v in state.items() if "num_batches" not in n and n != "mask_branch.mask_score.bias"
    }
    assert set(holds) == needed
    assert model.categories == (COCO if "coco" in name else CITYSCAPES) and not model.training
    known = {n: t.flatten()[0].item() for n, t in state.items() if t.numel()}
    assert holds[known["resnet_backbone.res4.layers.2.conv2.weight"]] == "backbone.body.layer3.2.conv2.weight"
    assert holds[known["fpn.fpn_p3_1x1.bias"]] == "backbone.fpn.inner_blocks.1.0.bias"
    assert holds[known["fcn_head.fcn_subnet.conv.1.0.conv.weight"]] == "semantic_head.subnet.2.weight"
    assert holds[known["mask_branch.mask_conv4.0.bias"]] == "instance_head.roi_heads.mask_head.3.0.bias"
    block = model.backbone.body.layer2[0]
    assert (block.conv1.stride[0], model.config.deform_stages) == (2, (3, 4, 5) if "dcn" in name else ())
    assert block.conv2.stride in (1, (1, 1))
    assert (model.config.min_size, model.config.stuff_area) == ((800, 4096) if "coco" in name else (1024, 2048))


def test_what_is_no_release_is_refused(tmp_path):
    path = tmp_path / "some.pth"
    for content in ({"weight": torch.zeros(1)}, {}, {"fcn_head.score.weight": torch.tensor(1.0)}):
        torch.save(content, path)
        with pytest.raises(UserError, match="some.pth is not a checkpoint that UPSNet's authors released"):
            weights.load(path)
    state = released(**RELEASES["resnet50 cityscapes"])
    torch.save(state | {"fpn.strange.weight": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="entry 'fpn.strange.weight' is unknown"):
        weights.load(path)
    torch.save({"weight": pytest.raises}, path)
    with pytest.raises(UserError, match="not a readable file"):
        weights.load(path)


def test_anchors_are_the_releases():
    """Faster R-CNN's table for stride 16, scale 8 (its boxes end on the last pixel, ours one past it)."""
    expected = [[-84, -40, 99 + 1, 55 + 1], [-56, -56, 71 + 1, 71 + 1], [-36, -80, 51 + 1, 95 + 1]]
    assert centred_anchors(16, 128, (0.5, 1.0, 2.0)).tolist() == expected


def test_strides_of_the_pyramid_are_exact_with_centred_anchors():
    from torchvision.models.detection.image_list import ImageList

    from upsnet_lite.instance_head import CentredAnchors

    maps = [torch.zeros(1, 1, -(-160 // s), -(-160 // s)) for s in (4, 8, 16, 32, 64)]
    boxes = CentredAnchors((32, 64, 128, 256, 512), (1.0,))(ImageList(torch.zeros(1, 3, 160, 160), [(160, 160)]), maps)
    centres = (boxes[0][-9:, :2] + boxes[0][-9:, 2:]) / 2  # P6: 3 x 3 cells of 64 px over 160 px
    assert centres.tolist() == [[32 + 64 * x, 32 + 64 * y] for y in range(3) for x in range(3)]


def test_caffes_input_is_reproduced():
    """0 ... 255, blue first, the mean subtracted, nothing divided."""
    from upsnet_lite.preprocess import normalise

    _, fields = convert.released_config({"fcn_head.score.weight": torch.zeros(133)})
    fields = {k: fields[k] for k in ("bgr", "image_mean", "image_std")}
    image = torch.tensor([10.0, 20.0, 30.0]).view(3, 1, 1)
    pixel = normalise(image / 255, preset("resnet50", 53, 80, **fields)).flatten()
    torch.testing.assert_close(pixel, torch.tensor([30 - 102.9801, 20 - 115.9465, 10 - 122.7717]), atol=1e-3, rtol=0)


# ---- train --init ----------------------------------------------------------------------------------------------------


def test_imagenet_fills_the_body_alone(tmp_path):
    classifier = resnet50(weights=None)
    torch.save(classifier.state_dict(), tmp_path / "resnet.pth")
    options = TrainOptions(tmp_path, tmp_path, preset="resnet50", init=str(tmp_path / "resnet.pth"))
    model = make_model(options, COCO)  # where `train --init` ends up
    body = {n: t for n, t in classifier.state_dict().items() if "num_batches" not in n and not n.startswith("fc.")}
    assert body.keys() == model.backbone.body.state_dict().keys()
    assert all(torch.equal(t, body[n]) for n, t in model.backbone.body.state_dict().items())
    with pytest.raises(UserError, match="resnet50 or resnet101_dcn"):
        weights.initial(str(tmp_path / "resnet.pth"), "tiny", COCO)


@pytest.mark.parametrize("source", ["torchvision", "imagenet"])
def test_without_a_network_one_line_says_where_the_file_belongs(source, tmp_path, monkeypatch):
    def unreachable(*arguments, **how):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    with pytest.raises(UserError) as caught:
        weights.initial(source, "resnet50", COCO)
    line = str(caught.value)
    name = {"torchvision": "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth", "imagenet": "resnet50-0676ba61.pth"}[source]
    assert name in line and str(tmp_path / "checkpoints" / name) in line and "--init FILE" in line and "\n" not in line
