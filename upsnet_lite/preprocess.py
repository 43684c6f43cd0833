"""Images as they come -> one padded batch, and back.

    pixel = (RGB − mean) / std, then resized so that the shorter side is min_size and the longer at most max_size,
    then padded with 0 at the right and at the bottom to a common multiple of 32             (torchvision's convention)

Shapes   image (3, H, W) RGB in [0, 1]    batch (B, 3, H', W')    sizes are (H, W)
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Num
from torch import Tensor
from torchvision.models.detection.image_list import ImageList

from .categories import IGNORE
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


def check_targets(images: list[Tensor], image_targets: list[dict], config: Config) -> None:
    """ValueError naming the target and the entry that does not fit its image or the network's classes."""
    if len(images) != len(image_targets):
        raise ValueError(f"{len(images)} images came with {len(image_targets)} targets")
    for n, (image, target) in enumerate(zip(images, image_targets, strict=True)):
        missing = {"boxes", "labels", "masks", "semantic"} - set(target)
        if missing:
            raise ValueError(f"target {n} lacks {', '.join(sorted(missing))}")
        size, count = tuple(image.shape[1:]), len(target["labels"])
        shapes = {"boxes": (count, 4), "masks": (count, *size), "semantic": size}
        for name, shape in shapes.items():
            if tuple(target[name].shape) != shape:
                raise ValueError(f"target {n}: {name} has shape {tuple(target[name].shape)}, expected {shape}")
        labels, boxes, semantic = target["labels"], target["boxes"].float(), target["semantic"]
        if target["masks"].dtype != torch.bool or labels.dtype != torch.int64 or semantic.dtype != torch.int64:
            raise ValueError(f"target {n}: masks must be bool, labels and semantic int64")
        if count and (labels.min() < 1 or labels.max() > config.num_thing):
            raise ValueError(f"target {n}: labels must lie in 1 … {config.num_thing}, found {labels.tolist()}")
        if not (boxes[:, 2:] > boxes[:, :2]).all():  # one would match every anchor that touches no object
            raise ValueError(f"target {n}: every box needs x1 > x0 and y1 > y0, found {boxes.tolist()}")
        if not (boxes.abs() < 1e9).all():  # infinite now or once resized, RoIAlign would read beyond the map, and crash
            raise ValueError(f"target {n}: boxes must be finite, below 1e9, found {boxes.tolist()}")
        known = semantic[semantic != IGNORE]
        if len(known) and (known.min() < 0 or known.max() >= config.num_stuff + config.num_thing):
            classes = config.num_stuff + config.num_thing
            raise ValueError(f"target {n}: semantic must lie in 0 … {classes - 1} or be {IGNORE}, found {known.max()}")


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


def rescale_boxes(boxes: Num[Tensor, "N 4"], old: tuple[int, int], new: tuple[int, int]) -> Float[Tensor, "N 4"]:
    """Boxes of an image of size `old` (H, W) in the same image at size `new`; of any type, as float32."""
    down, across = new[0] / old[0], new[1] / old[1]
    return boxes.float() * torch.tensor([across, down, across, down], device=boxes.device)


def resize_target(target: dict, size: tuple[int, int]) -> dict:
    """boxes, labels, masks and semantic of one image at `size` (H, W); masks and semantic by nearest neighbour."""
    old = tuple(target["semantic"].shape)
    target = {**target, "boxes": rescale_boxes(target["boxes"], old, size)}
    if old == size:
        return target
    nearest = lambda t: F.interpolate(t[None].float(), size, mode="nearest-exact")[0]  # noqa: E731
    return {
        **target,
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
