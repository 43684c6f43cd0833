"""Augmentation of (image, target), and batches. All chance comes from the generator that is passed in.

A sample is a function of (seed, epoch, index) alone: `augment(*dataset[index], sample_generator(seed, epoch, index))`
gives the same numbers in any process and after any restart.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Image = Float[Tensor, "3 H W"]
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601: what a colour weighs as grey


def sample_generator(seed: int, epoch: int, index: int) -> torch.Generator:
    """A generator for one sample; neighbouring seeds, epochs and indices are unrelated."""
    mixed = np.random.SeedSequence((seed, epoch, index)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(mixed[0] >> np.uint64(1)))  # manual_seed takes 63 bits


def augment(image: Image, target: dict, generator: torch.Generator) -> tuple[Image, dict]:
    """Flips half of the samples left to right and changes the colours of all. Inputs stay as they are."""
    if torch.rand((), generator=generator) < 0.5:
        image, target = flip(image, target)
    return jitter_color(image, generator), target


def flip(image: Image, target: dict) -> tuple[Image, dict]:
    """Left to right: image, boxes, masks, semantic, panoptic, and the boxes of segments_info."""
    width = image.shape[-1]
    x0, y0, x1, y1 = target["boxes"].unbind(1)
    turned = {key: target[key].flip(-1) for key in ("masks", "semantic", "panoptic") if key in target}
    turned["boxes"] = torch.stack([width - x1, y0, width - x0, y1], 1)
    if "segments_info" in target:
        turned["segments_info"] = [flip_segment(s, width) for s in target["segments_info"]]
    return image.flip(-1), target | turned


def flip_segment(segment: dict, width: int) -> dict:
    if "bbox" not in segment:
        return segment
    x, y, w, h = segment["bbox"]
    return segment | {"bbox": [width - x - w, y, w, h]}


def jitter_color(image: Image, generator: torch.Generator, strength: float = 0.2) -> Image:
    """Brightness, contrast and saturation within 1 ± strength, each channel within 1 ± strength / 3, then clipped."""
    brightness, contrast, saturation, *channels = 2 * torch.rand(6, generator=generator) - 1
    grey = torch.einsum("chw,c->hw", image, image.new_tensor(LUMA))
    image = grey + (image - grey) * (1 + strength * saturation)
    image = grey.mean() + (image - grey.mean()) * (1 + strength * contrast)
    gain = (1 + strength * brightness) * (1 + strength / 3 * torch.stack(channels))
    return (image * gain[:, None, None]).clamp(0, 1)


def collate(batch: list[tuple[Image, dict]]) -> tuple[list[Image], list[dict]]:
    """Lists, because images of a batch may differ in size."""
    images, targets = zip(*batch, strict=True)
    return list(images), list(targets)
