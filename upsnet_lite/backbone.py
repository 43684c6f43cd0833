"""Backbone: a residual network and, on it, a feature pyramid.             He et al. 2016; Lin et al. 2017; UPSNet, 3.1

    res2 … res5 = residual stages at strides 4, 8, 16, 32
    top_l = lateral_l(res_l) + upsample(top_{l+1})          P_l = conv3x3(top_l)          P6 = P5 at every 2nd pixel

Shapes   image (B, 3, H, W), normalised    P_l (B, fpn_channels, H / 2^l, W / 2^l), l = 2 … 6
Modules are named as torchvision's `resnet_fpn_backbone` (body, fpn), so that its weights fit.
"""

from collections import OrderedDict

import torchvision.models
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.resnet import BasicBlock
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool
from torchvision.ops.misc import FrozenBatchNorm2d

from .config import Config
from .deform_conv import DeformConv2d

LEVELS = ("P2", "P3", "P4", "P5", "P6")
STRIDES = {level: 2 ** int(level[1]) for level in LEVELS}


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm of 16 channels a group, at most 32 groups: no statistics across images."""
    return nn.GroupNorm(min(32, max(1, channels // 16)), channels)


NORMS = {"frozen": FrozenBatchNorm2d, "batch": nn.BatchNorm2d, "group": group_norm}


class Skip(nn.Conv2d):
    """A 1 x 1 convolution of every stride-th pixel, taken before it: the same numbers.

    Left to oneDNN, the stride lets its AVX-512 kernel for the gradient of the weights write past its buffer where the
    input has fewer than 16 channels (torch 2.14: channels last, batch 7, 8 -> 16 channels).
    """

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__(c_in, c_out, 1, stride, bias=False)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B _ _ _"]:
        return nn.functional.conv2d(x[:, :, :: self.stride[0], :: self.stride[1]], self.weight)


class Narrow(nn.Module):
    """A small residual network for a CPU: one BasicBlock per stage, a 5 x 5 stem; stages named as torchvision's."""

    def __init__(self, widths: tuple[int, ...], norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 5, 2, 2, bias=False)
        self.bn1 = norm(widths[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        c_in = widths[0]
        for stage, c_out in enumerate(widths, start=1):
            stride = 1 if stage == 1 else 2
            skip = None
            if stride != 1 or c_in != c_out:
                skip = nn.Sequential(Skip(c_in, c_out, stride), norm(c_out))
            block = BasicBlock(c_in, c_out, stride, skip, norm_layer=norm)
            self.add_module(f"layer{stage}", nn.Sequential(block))
            c_in = c_out


class WithPooledContext(nn.Sequential):
    """A lateral convolution plus a linear layer on the globally pooled input: P5 learns what the whole image shows."""

    def __init__(self, lateral: nn.Conv2d) -> None:
        super().__init__(lateral, nn.Linear(lateral.in_channels, lateral.out_channels))

    def forward(self, x: Tensor) -> Tensor:
        lateral, linear = self
        return lateral(x) + linear(x.mean((2, 3)))[:, :, None, None]


def stride_in_1x1(body: nn.Module) -> None:
    """Moves the stride of each stage's first bottleneck from its 3 x 3 to its first 1 x 1 convolution."""
    for stage in ("layer2", "layer3", "layer4"):
        block = getattr(body, stage)[0]
        block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride


def make_deformable(body: nn.Module, stages: tuple[int, ...]) -> None:
    """Replaces the 3 x 3 convolution of every block of the given residual stages (3, 4, 5)."""
    for stage in stages:
        for block in getattr(body, f"layer{stage - 1}"):
            old = block.conv2
            block.conv2 = DeformConv2d(old.in_channels, old.out_channels, old.stride[0], bias=False)


class Backbone(nn.Module):
    """Normalised images (B, 3, H, W), H and W multiples of 32 -> {"P2": …, …, "P6": …}."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        norm = NORMS[config.norm]
        if config.backbone == "narrow":
            body, widths = Narrow(config.widths, norm), config.widths
        else:
            body = getattr(torchvision.models, config.backbone)(weights=None, norm_layer=norm)
            widths = (256, 512, 1024, 2048)
            if config.stride_in_1x1:
                stride_in_1x1(body)
        make_deformable(body, config.deform_stages)
        frozen = ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")  # the stem counts as the first stage
        for name in frozen[: config.frozen_stages + 1] if config.frozen_stages else ():
            getattr(body, name).requires_grad_(False)
        self.body = IntermediateLayerGetter(body, {f"layer{n}": str(n - 1) for n in range(1, 5)})
        self.fpn = FeaturePyramidNetwork(list(widths), config.fpn_channels, extra_blocks=LastLevelMaxPool())
        if config.fpn_gap:
            self.fpn.inner_blocks[3] = WithPooledContext(self.fpn.inner_blocks[3][0])

    def forward(self, x: Float[Tensor, "B 3 H W"]) -> dict[str, Float[Tensor, "B _ _ _"]]:
        return self.pyramid(self.body(x))

    def pyramid(self, residual: dict[str, Float[Tensor, "B _ _ _"]]) -> dict[str, Float[Tensor, "B _ _ _"]]:
        """{"0": res2, …, "3": res5} -> {"P2", …, "P6"}."""
        return OrderedDict(zip(LEVELS, self.fpn(residual).values(), strict=True))
