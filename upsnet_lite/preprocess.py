"""Images as they come -> one padded batch, and back.

    pixel = (RGB − mean) / std, then resized so that the shorter side is min_size and the longer at most max_size,
    then padded with 0 at the right and at the bottom to a common multiple of 32             (torchvision's convention)

Shapes   image (3, H, W) RGB in [0, 1]    batch (B, 3, H', W')    sizes are (H, W)
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torchvision.models.detection.image_list import ImageList

from .config import Config

DIVISOR = 32  # P5 has stride 32: every level then divides the next exactly


def check_images(images: list[Tensor]) -> None:
    """ValueError where `images` is not a list of (3, H, W) float tensors, saying which one is wrong."""
    if not isinstance(images, list | tuple) or not all(isinstance(i, Tensor) for i in images):
        raise ValueError("images must be a list of (3, H, W) float tensors, one per image; wrap a single one in [ ]")
    if not images:
        raise ValueError("images is empty; give at least one")
    for n, image in enumerate(images):
        if image.dim() != 3 or image.shape[0] != 3 or 0 in image.shape or not image.is_floating_point():
            raise ValueError(f"image {n} is {tuple(image.shape)} {image.dtype}, expected (3, H, W) float in [0, 1]")


def resized_size(height: int, width: int, config: Config) -> tuple[int, int]:
    """(H, W) after resizing; rounded down, as torchvision's, so that its weights see the same pixels."""
    scale = min(config.min_size / min(height, width), config.max_size / max(height, width))
    return max(1, int(height * scale)), max(1, int(width * scale))


def normalise(image: Float[Tensor, "3 H W"], config: Config) -> Float[Tensor, "3 H W"]:
    image = image.flip(0) if config.bgr else image
    mean, std = image.new_tensor(config.image_mean), image.new_tensor(config.image_std)
    return (image - mean[:, None, None]) / std[:, None, None]


def batch_images(images: list[Float[Tensor, "3 _ _"]], config: Config) -> ImageList:
    """`.tensors` (B, 3, H, W) padded, channels last in memory; `.image_sizes` before padding."""
    resized = []
    for image in images:
        size = resized_size(*image.shape[1:], config)
        image = normalise(image, config)
        if size != tuple(image.shape[1:]):
            image = F.interpolate(image[None], size, mode="bilinear", align_corners=False)[0]
        resized.append(image)
    sizes = [tuple(image.shape[1:]) for image in resized]
    height, width = (-(-max(side) // DIVISOR) * DIVISOR for side in zip(*sizes, strict=True))
    batch = torch.stack([F.pad(i, (0, width - i.shape[2], 0, height - i.shape[1])) for i in resized])
    return ImageList(batch.to(memory_format=torch.channels_last), sizes)


def rescale_boxes(boxes: Float[Tensor, "N 4"], old: tuple[int, int], new: tuple[int, int]) -> Float[Tensor, "N 4"]:
    """Boxes of an image of size `old` (H, W) in the same image at size `new`."""
    down, across = new[0] / old[0], new[1] / old[1]
    return boxes * boxes.new_tensor([across, down, across, down])


def resize_target(target: dict, size: tuple[int, int]) -> dict:
    """boxes, labels, masks and semantic of one image at `size` (H, W); masks and semantic by nearest neighbour."""
    old = tuple(target["semantic"].shape)
    if old == size:
        return target
    nearest = lambda t: F.interpolate(t[None].float(), size, mode="nearest-exact")[0]  # noqa: E731
    return {
        **target,
        "boxes": rescale_boxes(target["boxes"], old, size),
        "masks": nearest(target["masks"]).bool() if len(target["masks"]) else target["masks"].new_zeros(0, *size),
        "semantic": nearest(target["semantic"][None])[0].long(),
    }


def upsample_to_image(
    x: Float[Tensor, "C h w"], stride: int, resized: tuple[int, int], original: tuple[int, int]
) -> Float[Tensor, "C H W"]:
    """Logits at `stride` of the padded, resized image -> bilinear at the original image's pixels, in one step."""
    x = F.pad(x[None], (0, 1, 0, 1), mode="replicate")  # so that a rounded-down scale cannot lose the last row
    scale = [stride * o / r for o, r in zip(original, resized, strict=True)]
    up = F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False, recompute_scale_factor=False)
    return up[0, :, : original[0], : original[1]]
