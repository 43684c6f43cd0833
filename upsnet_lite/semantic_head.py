"""Semantic head: one deformable subnet, shared by P2 … P5, gives the logits X.                   UPSNet, section 3.1

    F_l = subnet(P_l)                             two or three deformable 3 x 3 convolutions, each + ReLU
    X   = W · concat(F_2, up2(F_3), up4(F_4), up8(F_5)) + b                       1 x 1 convolution at stride 4

W acts on each pixel and bilinear upsampling on each channel, so they commute: X = Σ_l up(W_l · F_l) + b. That is what
`forward` computes, on the coarse maps; `features` gives the concatenation for those who want to see it.

Shapes   P_l (B, fpn_channels, H / 2^l, W / 2^l)    F_l (B, D, H / 2^l, W / 2^l)    X (B, N_stuff + N_thing, H/4, W/4)
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .backbone import group_norm
from .config import Config
from .deform_conv import DeformConv2d

SEMANTIC_LEVELS = ("P2", "P3", "P4", "P5")


def upsample(x: Float[Tensor, "B C h w"], factor: int) -> Float[Tensor, "B C H W"]:
    return x if factor == 1 else F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


class SemanticHead(nn.Module):
    """{"P2" … "P5"} -> X (B, N_stuff + N_thing, H/4, W/4), logits."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        c_in = config.fpn_channels
        for width in config.semantic_widths:
            layers.append(DeformConv2d(c_in, width))
            if config.semantic_norm:
                layers.append(group_norm(width))
            layers.append(nn.ReLU(inplace=True))
            c_in = width
        self.subnet = nn.Sequential(*layers)
        self.score = nn.Conv2d(len(SEMANTIC_LEVELS) * c_in, config.num_stuff + config.num_thing, 1)
        nn.init.normal_(self.score.weight, std=0.01)
        nn.init.zeros_(self.score.bias)

    def subnet_features(self, pyramid: dict[str, Float[Tensor, "B _ _ _"]]) -> list[Float[Tensor, "B _ _ _"]]:
        """F_2 … F_5, each at its own stride."""
        return [self.subnet(pyramid[level]) for level in SEMANTIC_LEVELS]

    def features(self, pyramid: dict[str, Float[Tensor, "B _ _ _"]]) -> Float[Tensor, "B D4 H W"]:
        """The concatenation at stride 4 (512 channels in the paper): `score` of it is X."""
        return torch.cat([upsample(f, 2**n) for n, f in enumerate(self.subnet_features(pyramid))], 1)

    def forward(self, pyramid: dict[str, Float[Tensor, "B _ _ _"]]) -> Float[Tensor, "B classes H W"]:
        features = self.subnet_features(pyramid)
        shares = self.score.weight.chunk(len(features), 1)  # W_l
        maps = [F.conv2d(f, w) for f, w in zip(features, shares, strict=True)]
        x = self.score.bias[:, None, None] + maps[0]
        return x + sum(upsample(m, 2 ** (n + 1)) for n, m in enumerate(maps[1:]))
