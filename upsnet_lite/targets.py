"""What each head is trained towards. Everything here is ground truth cut, resized and numbered; nothing is learned.

    semantic        (H, W) class index, IGNORE where void                           -> X
    RoI semantic    its nearest-resized crop to 28 x 28 at each ground-truth box    -> X inside objects
    mask            each matched instance cut out by its RoI, 28 x 28               -> Y
    panoptic        channel of Z: stuff, kept instances, unknown                    -> Z        UPSNet, section 3.2

Shapes   semantic (H, W) int64    masks (N_inst, H, W) bool    rois (R, 5) index in the batch, then xyxy in pixels
"""

import torch
import torch.nn.functional as F
import torchvision.ops
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .categories import IGNORE


def downsample(labels: Tensor, stride: int) -> Tensor:
    """Every stride-th pixel of (…, H, W) labels or masks, the one nearest to the centre of its cell."""
    return labels[..., stride // 2 :: stride, stride // 2 :: stride]


def roi_semantic_target(
    semantic: Int[Tensor, "B H W"], rois: Float[Tensor, "R 5"], size: int = 28
) -> Int[Tensor, "R S S"]:
    """Class index at the centre of each of the size x size cells of each RoI."""
    _, height, width = semantic.shape
    places = (torch.arange(size, device=rois.device) + 0.5) / size
    image, x0, y0, x1, y1 = rois.unbind(1)
    rows = (y0[:, None] + (y1 - y0)[:, None] * places).long().clamp(0, height - 1)
    columns = (x0[:, None] + (x1 - x0)[:, None] * places).long().clamp(0, width - 1)
    return semantic[image.long()[:, None, None], rows[:, :, None], columns[:, None, :]]


def mask_target(
    masks: Bool[Tensor, "N_inst H W"], boxes: Float[Tensor, "R 4"], matched: Int[Tensor, " R"], size: int = 28
) -> Float[Tensor, "R S S"]:
    """The matched instance's mask as each box sees it: RoIAlign of 0 and 1, so borders lie in between.

    Aligned, so that `y_mask` pastes it back onto the very pixels it was cut from.
    """
    if len(boxes) == 0:
        return boxes.new_zeros(0, size, size)
    rois = torch.cat((matched[:, None].to(boxes), boxes), 1)
    return torchvision.ops.roi_align(masks[:, None].to(boxes), rois, size, 1.0, sampling_ratio=2, aligned=True)[:, 0]


def kept_instances(num_inst: int, share: float) -> Int[Tensor, " kept"]:
    """A random `share` of the instances, at least one, in ascending order. Uses PyTorch's global generator."""
    count = max(1, round(num_inst * share)) if num_inst else 0
    return torch.randperm(num_inst)[:count].sort().values


def panoptic_target(
    semantic: Int[Tensor, "H W"],
    masks: Bool[Tensor, "N_inst H W"],
    keep: Int[Tensor, " kept"] | Bool[Tensor, " N_inst"] | None,
    num_stuff: int,
) -> Int[Tensor, "H W"]:
    """The channel of Z that should win at each pixel.                              UPSNet, section 3.2

    Stuff keeps its class index; kept instance j (the j-th of `keep`: indices or a boolean mask) is num_stuff + j;
    thing pixels that no kept instance covers — left-out instances, crowds — are unknown, num_stuff + len(keep).
    keep=None: every instance is kept and there is no unknown channel; what it would hold is IGNORE.
    """
    if keep is None:
        kept, unknown = masks, IGNORE
    else:
        kept = masks[keep.to(masks.device)]
        unknown = num_stuff + len(kept)
    target = torch.where(semantic >= num_stuff, unknown, semantic)
    for j, mask in enumerate(kept):
        target[mask] = num_stuff + j
    return target


def pad_stack(labels: list[Int[Tensor, "_ _"]], size: tuple[int, int]) -> Int[Tensor, "B H W"]:
    """A batch of label maps, padded with IGNORE at the right and at the bottom."""
    height, width = size
    return torch.stack([F.pad(t, (0, width - t.shape[1], 0, height - t.shape[0]), value=IGNORE) for t in labels])
