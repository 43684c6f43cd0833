"""Panoptic head: fuse X and (B, C, Y) into Z. It has no parameters.                             UPSNet, section 3.1

    x_mask[i]         = x_thing[C_i] inside B_i, 0 outside
    y_mask[i]         = Y_i resized to the integer size of B_i, 0 outside
    z[N_stuff + i]    = x_mask[i] + y_mask[i]
    z_unknown         = max over things of x_thing − max over instances of x_mask
    Z                 = concat(x_stuff, z_inst, z_unknown);   a softmax over its channels decides class and instance

0 outside is the original's choice: where every stuff logit is negative, an instance can win outside its own box.

Shapes   x (N_stuff + N_thing, H, W) logits    boxes (N_inst, 4) xyxy, pixels of x    classes (N_inst,) in [0, N_thing)
         mask_logits (N_inst, 28, 28)          z (N_stuff + N_inst + 1, H, W), unknown last
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from .boxes import box_edges, clip, inside, patches


@dataclass(frozen=True)
class PanopticLogits:
    """z (N_stuff + N_inst [+ 1], H, W); x_mask and y_mask (N_inst, H, W); z_unknown (H, W), None where switched off."""

    z: Tensor
    x_mask: Tensor
    y_mask: Tensor
    z_unknown: Tensor | None


def x_mask(
    x_thing: Float[Tensor, "N_thing H W"], boxes: Float[Tensor, "N_inst 4"], classes: Int[Tensor, " N_inst"]
) -> Float[Tensor, "N_inst H W"]:
    """x_thing[C_i] inside B_i, 0 outside."""
    return torch.where(inside(boxes, tuple(x_thing.shape[1:])), x_thing[classes], 0.0)


def y_mask(
    mask_logits: Float[Tensor, "N_inst h w"], boxes: Float[Tensor, "N_inst 4"], size: tuple[int, int]
) -> Float[Tensor, "N_inst H W"]:
    """Y_i resized to B_i and pasted there, 0 outside. `size` is (H, W)."""
    height, width = size
    pasted = [
        F.pad(patch, (left, width - right, top, height - bottom))
        for (left, top, right, bottom), patch in patches(boxes, mask_logits, height, width)
    ]
    return torch.stack(pasted) if pasted else mask_logits.new_zeros(0, height, width)


def z_unknown(x_thing: Float[Tensor, "N_thing H W"], x_mask: Float[Tensor, "N_inst H W"]) -> Float[Tensor, "H W"]:
    """max over things of x_thing − max over instances of x_mask: high where no instance explains the thing seen."""
    explained = x_mask.amax(0) if len(x_mask) else 0.0
    return x_thing.amax(0) - explained


class PanopticHead(nn.Module):
    """(x, boxes, classes, mask_logits) -> Z. `unknown=False` leaves its channel out. A module, but nothing to learn.

    `outside` is the value of an instance's channel outside its box: 0 as in the original, float("-inf") to forbid
    that an instance wins there. z_unknown always uses the 0 of its definition.
    """

    def __init__(self, num_stuff: int, unknown: bool = True, outside: float = 0.0) -> None:
        super().__init__()
        self.num_stuff, self.unknown, self.outside = num_stuff, unknown, outside

    def forward(
        self,
        x: Float[Tensor, "classes H W"],
        boxes: Float[Tensor, "N_inst 4"],
        classes: Int[Tensor, " N_inst"],
        mask_logits: Float[Tensor, "N_inst h w"],
    ) -> PanopticLogits:
        """Every tensor of the fusion; differentiable in x and mask_logits. No instance gives Z of stuff and unknown."""
        x_stuff, x_thing = x[: self.num_stuff], x[self.num_stuff :]
        x_masks = x_mask(x_thing, boxes, classes)
        y_masks = y_mask(mask_logits, boxes, tuple(x.shape[1:]))
        z_inst = x_masks + y_masks
        if self.outside != 0:
            z_inst = torch.where(inside(boxes, tuple(x.shape[1:])), z_inst, self.outside)
        if not self.unknown:
            return PanopticLogits(torch.cat((x_stuff, z_inst)), x_masks, y_masks, None)
        unknown = z_unknown(x_thing, x_masks)
        return PanopticLogits(torch.cat((x_stuff, z_inst, unknown[None])), x_masks, y_masks, unknown)

    @torch.no_grad()
    def predict(
        self,
        x: Float[Tensor, "classes H W"],
        boxes: Float[Tensor, "N_inst 4"],
        classes: Int[Tensor, " N_inst"],
        mask_logits: Float[Tensor, "N_inst h w"],
    ) -> Int[Tensor, "H W"]:
        """argmax of z over its channels without building z; equal to it on every pixel, ties included.

        A running maximum: each instance is visited only inside its box. Outside, all instances share one value, so
        of these only the first that does not cover the pixel can win. Where z holds a NaN (such as −inf − (−inf) of
        the unknown channel), which argmax takes for the highest, z is built after all.
        """
        x_stuff, x_thing = x[: self.num_stuff], x[self.num_stuff :]
        best, winner = running_argmax(x_stuff)
        value, instance, explained = self.best_instance(x_thing, boxes, classes, mask_logits)
        winner = torch.where(value > best, instance + self.num_stuff, winner)  # a tie goes to the lower channel
        best = torch.maximum(best, value)
        if self.unknown:
            unknown = x_thing.amax(0) - explained
            winner.masked_fill_(unknown > best, self.num_stuff + len(boxes))
            best = torch.maximum(best, unknown)
        if best.isnan().any():  # maximum hands every NaN on
            return self(x, boxes, classes, mask_logits).z.argmax(0)
        return winner.long()

    def best_instance(
        self, x_thing: Tensor, boxes: Tensor, classes: Tensor, mask_logits: Tensor
    ) -> tuple[Float[Tensor, "H W"], Int[Tensor, "H W"], Float[Tensor, "H W"]]:
        """Highest z_inst, the instance that has it, and the highest x_mask (0 where there is no instance)."""
        height, width = x_thing.shape[1:]
        explained = x_thing.new_full((height, width), -torch.inf)
        value = explained.to(torch.promote_types(x_thing.dtype, mask_logits.dtype), copy=True)
        instance = torch.zeros(height, width, dtype=torch.int32, device=x_thing.device)
        pasted = patches(boxes, mask_logits, height, width)
        for i, (c, (edges, patch)) in enumerate(zip(classes.tolist(), pasted, strict=True)):
            left, top, right, bottom = edges
            here = (slice(top, bottom), slice(left, right))
            seen = x_thing[c][here]
            torch.maximum(explained[here], seen, out=explained[here])
            z = seen + patch
            instance[here].masked_fill_(z > value[here], i)
            torch.maximum(value[here], z, out=value[here])
        first = first_not_covering(boxes, height, width, x_thing.device)
        open_here = first < len(boxes)  # some instance does not cover this pixel
        explained = torch.where(open_here, explained.clamp(min=0), explained)
        wins = open_here & ((value < self.outside) | ((value == self.outside) & (first < instance)))
        value = torch.where(wins, self.outside, value)
        instance = torch.where(wins, first, instance)
        return value, instance, explained if len(boxes) else torch.zeros_like(explained)


def running_argmax(x: Float[Tensor, "C H W"]) -> tuple[Float[Tensor, "H W"], Int[Tensor, "H W"]]:
    """(x.amax(0), x.argmax(0)); on a CPU several times faster than asking for both. No channel: -inf everywhere."""
    best = x.new_full(x.shape[1:], -torch.inf)
    winner = torch.zeros(x.shape[1:], dtype=torch.int32, device=x.device)
    for channel, logits in enumerate(x):
        winner.masked_fill_(logits > best, channel)
        torch.maximum(best, logits, out=best)
    return best, winner


def first_not_covering(
    boxes: Float[Tensor, "N_inst 4"], height: int, width: int, device: torch.device
) -> Int[Tensor, "H W"]:
    """The lowest i whose box does not cover the pixel; N_inst where all do. Boxes are rectangles, so is each step."""
    first = torch.zeros(height, width, dtype=torch.int32, device=device)
    left, top, right, bottom = 0, 0, width, height
    for i, edges in enumerate(box_edges(boxes)):
        x0, y0, x1, y1 = clip(edges, height, width)
        left, top, right, bottom = max(left, x0), max(top, y0), min(right, x1), min(bottom, y1)
        if right <= left or bottom <= top:
            break
        first[top:bottom, left:right] = i + 1
    return first
