"""The semantic head: what it computes coarsely equals the paper's concatenation."""

import torch

from upsnet_lite.config import preset
from upsnet_lite.semantic_head import SEMANTIC_LEVELS, SemanticHead, upsample


def pyramid(channels: int, batch: int = 2, height: int = 16, width: int = 24) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return {
        level: torch.randn(batch, channels, height >> n, width >> n, generator=g)
        for n, level in enumerate(SEMANTIC_LEVELS)
    }


def head(**overrides) -> SemanticHead:
    torch.manual_seed(0)
    made = SemanticHead(preset("tiny", 3, 2, fpn_channels=8, semantic_widths=(16, 12), **overrides))
    torch.nn.init.normal_(made.score.bias)
    return made


def test_shape_and_the_512_channels_of_the_paper() -> None:
    made = head()
    assert made(pyramid(8)).shape == (2, 5, 16, 24)
    assert made.features(pyramid(8)).shape == (2, 4 * 12, 16, 24)
    paper = SemanticHead(preset("resnet50", 53, 80))
    assert paper.score.in_channels == 512 and paper.score.out_channels == 133


def test_convolution_and_upsampling_commute() -> None:
    """X from the coarse maps equals the 1 x 1 convolution of the concatenation, bias included; so do gradients."""
    for made in (head(semantic_norm=False), head(semantic_norm=True)):
        levels = pyramid(8)
        ours, paper = made(levels), made.score(made.features(levels))
        torch.testing.assert_close(ours, paper, rtol=1e-4, atol=1e-5)
        towards = torch.randn_like(ours)
        grads = [torch.autograd.grad((x * towards).sum(), made.parameters()) for x in (ours, paper)]
        for got, expected in zip(*grads, strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


def test_one_subnet_serves_all_levels() -> None:
    """The same map at every level gives the same features: weights are shared."""
    made, maps = head(), torch.randn(1, 8, 6, 6)
    features = made.subnet_features(dict.fromkeys(SEMANTIC_LEVELS, maps))
    assert all(torch.equal(f, features[0]) for f in features)


def test_images_of_a_batch_do_not_see_each_other() -> None:
    made, levels = head(), pyramid(8)
    alone = made({k: v[1:] for k, v in levels.items()})
    torch.testing.assert_close(made(levels)[1:], alone, rtol=1e-4, atol=1e-5)


def test_upsampling_keeps_pixel_centres() -> None:
    """align_corners=False: a ramp over pixel centres stays that ramp away from the border."""
    ramp = (torch.arange(6.0) + 0.5).view(1, 1, 1, 6).expand(1, 1, 6, 6)
    got = upsample(ramp, 4)[0, 0, 12, 2:-2]
    torch.testing.assert_close(got, ((torch.arange(24.0) + 0.5) / 4)[2:-2])
    assert upsample(ramp, 1) is ramp
