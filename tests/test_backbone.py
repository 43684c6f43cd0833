"""ResNet + FPN: strides, freezing, norms, deformable stages, torchvision's names."""

import pytest
import torch
from torch import nn
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops.misc import FrozenBatchNorm2d

from upsnet_lite.backbone import LEVELS, STRIDES, Backbone, Skip, WithPooledContext, group_norm
from upsnet_lite.config import preset
from upsnet_lite.deform_conv import DeformConv2d


def tiny(**overrides) -> Backbone:
    torch.manual_seed(0)
    return Backbone(preset("tiny", 3, 2, **overrides))


def frozen(backbone: Backbone) -> set[str]:
    return {name.split(".")[1] for name, p in backbone.named_parameters() if not p.requires_grad}


@pytest.mark.parametrize("size", [(64, 96), (32, 32)])
def test_levels_halve(size) -> None:
    pyramid = tiny()(torch.randn(2, 3, *size))
    assert list(pyramid) == list(LEVELS) == ["P2", "P3", "P4", "P5", "P6"]
    for level, maps in pyramid.items():
        expected = [-(-side // STRIDES[level]) for side in size]
        assert list(maps.shape) == [2, 64, *expected]


def test_skip_is_a_strided_convolution() -> None:
    """Also at the shapes at which oneDNN's own strided gradient wrote past its buffer and ended the process."""
    skip, plain = Skip(8, 16, 2), nn.Conv2d(8, 16, 1, 2, bias=False)
    plain.load_state_dict(skip.state_dict())
    skip.to(memory_format=torch.channels_last)
    x = torch.randn(7, 8, 16, 16).contiguous(memory_format=torch.channels_last)
    g = torch.randn(7, 16, 8, 8)
    found = torch.autograd.grad(skip(x), skip.weight, g)
    expected = torch.autograd.grad(plain(x.contiguous()), plain.weight, g)
    torch.testing.assert_close(skip(x), plain(x.contiguous()))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_p6_is_every_second_pixel_of_p5() -> None:
    pyramid = tiny()(torch.randn(1, 3, 128, 192))
    assert torch.equal(pyramid["P6"], pyramid["P5"][:, :, ::2, ::2])


def test_top_down_by_hand() -> None:
    """FPN with identity convolutions: P_l = res_l + nearest upsampling of what lies above."""
    backbone = tiny(widths=(8, 8, 8, 8), fpn_channels=8)
    for conv in [m for m in backbone.fpn.modules() if isinstance(m, nn.Conv2d)]:
        nn.init.dirac_(conv.weight), nn.init.zeros_(conv.bias)
    residual = {str(n): torch.randn(1, 8, 8 >> n, 8 >> n) for n in range(4)}
    pyramid = backbone.pyramid(residual)
    up = lambda t: t.repeat_interleave(2, 2).repeat_interleave(2, 3)  # noqa: E731
    torch.testing.assert_close(pyramid["P5"], residual["3"])
    torch.testing.assert_close(pyramid["P4"], residual["2"] + up(residual["3"]))
    torch.testing.assert_close(pyramid["P2"], residual["0"] + up(residual["1"] + up(pyramid["P4"])))


@pytest.mark.parametrize(
    ("stages", "names"),
    [(0, set()), (1, {"conv1", "bn1"}), (2, {"conv1", "bn1", "layer1"}), (3, {"conv1", "bn1", "layer1", "layer2"})],
)
def test_frozen_stages(stages, names) -> None:
    assert frozen(tiny(frozen_stages=stages)) == names


@pytest.mark.parametrize(
    ("norm", "kind"), [("batch", nn.BatchNorm2d), ("frozen", FrozenBatchNorm2d), ("group", nn.GroupNorm)]
)
def test_norms(norm, kind) -> None:
    backbone = tiny(norm=norm)
    assert isinstance(backbone.body["bn1"], kind)
    assert backbone(torch.randn(1, 3, 64, 64))["P5"].isfinite().all()


def test_group_norm_divides_every_width() -> None:
    assert [group_norm(c).num_groups for c in (8, 16, 48, 64, 256, 512, 2048)] == [1, 1, 3, 4, 16, 32, 32]


def test_deformable_stages() -> None:
    backbone = tiny(deform_stages=(4, 5))
    kinds = {
        name: isinstance(backbone.body[name][0].conv2, DeformConv2d)
        for name in ("layer1", "layer2", "layer3", "layer4")
    }
    assert kinds == {"layer1": False, "layer2": False, "layer3": True, "layer4": True}
    plain = tiny()(x := torch.randn(1, 3, 64, 64))
    assert {k: v.shape for k, v in backbone(x).items()} == {k: v.shape for k, v in plain.items()}


def test_pooled_context_adds_what_the_whole_image_shows() -> None:
    """Offset of P5's lateral map: the same everywhere, a linear map of the mean."""
    context = WithPooledContext(nn.Conv2d(4, 6, 1))
    x = torch.randn(2, 4, 5, 5)
    lateral, linear = context
    added = context(x) - lateral(x)
    expected = x.mean((2, 3)) @ linear.weight.T + linear.bias
    torch.testing.assert_close(added, expected[:, :, None, None].expand(2, 6, 5, 5))
    assert isinstance(tiny(fpn_gap=True).fpn.inner_blocks[3], WithPooledContext)


@pytest.mark.parametrize("name", ["resnet50", "resnet101"])
def test_torchvision_weights_fit_by_name(name) -> None:
    with torch.device("meta"):
        theirs = resnet_fpn_backbone(backbone_name=name, weights=None, trainable_layers=3).state_dict()
        ours = Backbone(preset("resnet50", 3, 2, backbone=name)).state_dict()
    extra = {"fpn.inner_blocks.3.1.weight", "fpn.inner_blocks.3.1.bias"}  # the linear layer of the COCO release
    assert set(ours) - set(theirs) == extra and set(theirs) <= set(ours)
    assert all(ours[k].shape == v.shape for k, v in theirs.items())
