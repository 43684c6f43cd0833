"""Resizing, padding and the way back, against torchvision's transform and by hand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from upsnet_lite.categories import IGNORE
from upsnet_lite.config import preset
from upsnet_lite.preprocess import (
    batch_images,
    normalise,
    rescale_boxes,
    resize_target,
    resized_size,
    upsample_to_image,
)

CONFIG = preset("tiny", 3, 2)


def torchvisions(config=CONFIG) -> GeneralizedRCNNTransform:
    return GeneralizedRCNNTransform(config.min_size, config.max_size, config.image_mean, config.image_std).eval()


@pytest.mark.parametrize("sizes", [[(128, 128)], [(96, 128), (200, 150)], [(37, 411), (500, 333), (640, 480)]])
def test_the_batch_is_torchvisions(sizes) -> None:
    images = [torch.rand(3, *size) for size in sizes]
    ours, theirs = batch_images(images, CONFIG), torchvisions()([i.clone() for i in images])[0]
    assert ours.image_sizes == theirs.image_sizes
    torch.testing.assert_close(ours.tensors, theirs.tensors)
    assert ours.tensors.is_contiguous(memory_format=torch.channels_last)


@settings(max_examples=100, deadline=None)
@given(height=st.integers(1, 3000), width=st.integers(1, 3000))
def test_resized_size(height, width) -> None:
    """Shorter side min_size unless the longer would pass max_size; at least one pixel; within a pixel of the ratio."""
    h, w = resized_size(height, width, CONFIG)
    scale = min(128 / min(height, width), 192 / max(height, width))
    assert h >= 1 and w >= 1 and max(h, w) <= 192
    assert h >= height * scale - 1.01 and w >= width * scale - 1.01
    assert h <= max(1, height * scale + 0.01) and w <= max(1, width * scale + 0.01)


def test_images_at_their_size_are_not_resampled() -> None:
    image = torch.rand(3, 128, 160)
    got = batch_images([image], CONFIG)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (CONFIG.image_mean, CONFIG.image_std))
    torch.testing.assert_close(got.tensors[0], (image - mean) / std)


def test_padding_is_zero_after_normalising_and_to_multiples_of_32() -> None:
    got = batch_images([torch.rand(3, 128, 130), torch.rand(3, 150, 128)], CONFIG)
    assert got.tensors.shape == (2, 3, 160, 160) and got.image_sizes == [(128, 130), (150, 128)]
    assert not got.tensors[0, :, 128:].any() and not got.tensors[1, :, :, 128:].any()


def test_blue_first() -> None:
    config = preset("tiny", 3, 2, bgr=True, image_mean=(0.1, 0.2, 0.3), image_std=(1.0, 1.0, 0.5))
    got = normalise(torch.tensor([1.0, 0.5, 0.25]).view(3, 1, 1), config)
    torch.testing.assert_close(got.flatten(), torch.tensor([0.15, 0.3, 1.4]))


def test_rescale_boxes_by_hand_and_back() -> None:
    boxes = torch.tensor([[1.0, 2, 3, 4]])
    assert rescale_boxes(boxes, (10, 10), (20, 5)).tolist() == [[0.5, 4, 1.5, 8]]
    torch.testing.assert_close(rescale_boxes(rescale_boxes(boxes, (7, 9), (31, 20)), (31, 20), (7, 9)), boxes)


def target(height: int, width: int, count: int) -> dict:
    semantic = torch.randint(0, 5, (height, width))
    semantic[0, 0] = IGNORE
    masks = torch.zeros(count, height, width, dtype=torch.bool)
    masks[:, : height // 2, : width // 2] = True
    boxes = torch.tensor([[0.0, 0, width // 2, height // 2]] * count).view(-1, 4)
    return dict(boxes=boxes, labels=torch.ones(count).long(), masks=masks, semantic=semantic, image_id=3)


@pytest.mark.parametrize("count", [0, 2])
def test_resize_target(count) -> None:
    """Doubling repeats every pixel, halving the double gives the original back: labels are never mixed."""
    small = target(6, 8, count)
    large = resize_target(small, (12, 16))
    assert torch.equal(large["semantic"], small["semantic"].repeat_interleave(2, 0).repeat_interleave(2, 1))
    assert torch.equal(large["masks"], small["masks"].repeat_interleave(2, 1).repeat_interleave(2, 2))
    assert torch.equal(large["boxes"], 2 * small["boxes"]) and large["image_id"] == 3
    assert large["masks"].dtype == torch.bool and large["semantic"].dtype == torch.int64
    back = resize_target(large, (6, 8))
    assert all(torch.equal(back[k], small[k]) for k in ("semantic", "masks", "boxes", "labels"))
    same = resize_target(small, (6, 8))
    assert all(torch.equal(same[k], small[k]) for k in ("semantic", "masks", "boxes", "labels"))


@pytest.mark.parametrize("dtype", [torch.int64, torch.float64, torch.float16])
@pytest.mark.parametrize("size", [(6, 8), (9, 12)])
def test_boxes_of_any_type_are_resized_as_float32(dtype, size) -> None:
    """Whole numbers, too: a scale of 1.5 made whole would leave them where they were, one of 0.5 at 0."""
    given = target(6, 8, 2)
    got = resize_target(given | {"boxes": given["boxes"].to(dtype)}, size)["boxes"]
    assert got.dtype == torch.float32 and torch.equal(got, given["boxes"] * size[0] / 6)


# ------------------------------------------------------------------------------------------------------- the way back


@settings(max_examples=40, deadline=None)
@given(height=st.integers(5, 400), width=st.integers(5, 400))
def test_upsampled_logits_have_the_size_of_the_image(height, width) -> None:
    resized = resized_size(height, width, CONFIG)
    cells = [-(-side // 32) * 8 for side in resized]
    up = upsample_to_image(torch.zeros(2, *cells), 4, resized, (height, width))
    assert up.shape == (2, height, width)


@pytest.mark.parametrize("original", [(128, 160), (64, 80), (301, 377), (90, 113)])
def test_upsampled_logits_lie_where_their_pixels_were(original) -> None:
    """A ramp over the image, sampled at the centres of stride-4 cells, comes back as it was: no shift, no stretch."""
    resized = resized_size(*original, CONFIG)
    cells = [-(-side // 32) * 8 for side in resized]
    at = [(torch.arange(n) + 0.5) * 4 / r for n, r in zip(cells, resized, strict=True)]  # cell centres, 0 … 1
    x = torch.stack((at[0][:, None].expand(*cells), at[1].expand(*cells)))
    up = upsample_to_image(x, 4, resized, original)
    rows, columns = ((torch.arange(n) + 0.5) / n for n in original)
    inner = [slice(-(-3 * o // r), o - -(-3 * o // r)) for o, r in zip(original, resized, strict=True)]
    torch.testing.assert_close(up[0, inner[0], 5], rows[inner[0]], rtol=0, atol=2e-5)
    torch.testing.assert_close(up[1, 5, inner[1]], columns[inner[1]], rtol=0, atol=2e-5)


def test_at_its_own_size_it_is_plain_bilinear_upsampling() -> None:
    """What training compares with the labels and what inference shows are the same numbers."""
    x = torch.randn(3, 32, 40)
    plain = torch.nn.functional.interpolate(x[None], scale_factor=4, mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(upsample_to_image(x, 4, (128, 160), (128, 160)), plain)
