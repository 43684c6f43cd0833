"""What the usual mistakes of exercise 7 would give: {what to say: the wrong result} on a check's own input.

Shapes as in `losses`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from upsnet_lite.categories import IGNORE
from upsnet_lite.deform_conv import roi_align

# --------------------------------------------------------------------------------------------------- RoI target


def _read(semantic, boxes, places, whole=torch.floor, swapped=False, last=0, edge=torch.clamp) -> Tensor:
    """Nearest class at the places of the cells, shares of the box, by the rule or by a variant of it."""
    x0, y0, x1, y1 = boxes.unbind(1)
    rows = whole(y0[:, None] + (y1 - y0 - last)[:, None] * places).long()
    columns = whole(x0[:, None] + (x1 - x0 - last)[:, None] * places).long()
    if swapped:
        rows, columns = columns, rows
    rows, columns = edge(rows, 0, semantic.shape[0] - 1), edge(columns, 0, semantic.shape[1] - 1)
    return semantic[rows[:, :, None], columns[:, None, :]]


def _around(index: Tensor, low: int, high: int) -> Tensor:
    """What a negative index means in Python: counted from the other end."""
    return torch.where(index < low, index + high + 1, index).clamp(low, high)


def targets_of_rois(semantic: Tensor, boxes: Tensor, size: int) -> dict[str, Tensor]:
    middles = (torch.arange(size) + 0.5) / size
    given, (height, width) = (semantic, boxes, middles), semantic.shape
    framed = torch.nn.functional.pad(semantic, (99, 99, 99, 99), value=IGNORE)
    cut = boxes.clamp(torch.zeros(4), torch.tensor([width, height, width, height]))
    return {
        "rows were read from x and columns from y": _read(*given, swapped=True),
        "rows and columns of the result are swapped": _read(*given).transpose(1, 2),
        "this reads the upper left corner of each cell: its middle is (i + ½) / size": _read(
            semantic, boxes, middles - 0.5 / size
        ),
        "the places run from edge to edge of the box; asked are the middles of its cells, (i + ½) / size": _read(
            semantic, boxes, torch.linspace(0, 1, size)
        ),
        "the place was rounded: a place at 2.7 lies in pixel 2, so cut the fraction off": _read(
            *given, whole=torch.round
        ),
        "this spans x0 to x1 - 1: boxes are continuous, so the cells divide x0 to x1": _read(*given, last=1),
        "this counts from the other end: a negative index is the far side in Python; clamp to the map first": _read(
            *given, edge=_around
        ),
        "outside of the map stands IGNORE; a middle there reads the nearest pixel of the border": _read(
            framed, boxes + 99, middles
        ),
        "the box was cut at the border of the map and then divided; divide it whole, then clamp the middles": _read(
            semantic, cut, middles
        ),
    }


# ----------------------------------------------------------------------------------------------------- RoI loss


def _cells(logits: Tensor, target: Tensor, axis: int = 1) -> Tensor:
    """Minus the logarithm of what each cell gives its own class, 0 where it is IGNORE."""
    own = logits.log_softmax(axis).gather(1, target.clamp(min=0)[:, None])[:, 0]
    return torch.where(target == IGNORE, 0.0, -own)


def roi_losses(x: Tensor, boxes: Tensor, target: Tensor) -> dict[str, Tensor]:
    rois = torch.cat((torch.zeros(len(boxes), 1), boxes), 1)
    crops = roi_align(x[None], rois, 28, 1 / 4, 1, True)
    unscaled, turned = (roi_align(x[None], rois, 28, scale, 1, True) for scale in (1.0, 4.0))
    shifted = roi_align(x[None], rois, 28, 1 / 4, 1, False)
    labelled = target != IGNORE
    cells = _cells(crops, target)

    def mean(cells: Tensor) -> Tensor:
        return cells.sum() / labelled.sum()

    axis, classes = "softmax over the wrong axis: over the", "; the classes are axis 1"
    return {
        "mean over the wrong count: the sum was divided by all cells, with those that are IGNORE": cells.mean(),
        "IGNORE cells were counted as class 0: leave them out of the sum and of the count": _cells(
            crops, target.clamp(min=0)
        ).mean(),
        "cells of class 0 were left out, too: IGNORE is −100, and 0 is a class": cells[target > 0].mean(),
        "this is the sum: divide by the number of cells that are not IGNORE": cells.sum(),
        "every box was averaged on its own: this is the mean over all cells of all boxes together": (
            cells.sum((1, 2)) / labelled.sum((1, 2)).clamp(min=1)
        ).mean(),
        f"{axis} boxes, axis 0{classes}": mean(_cells(crops, target, 0)),
        f"{axis} rows of a crop, axis 2{classes}": mean(_cells(crops, target, 2)),
        f"{axis} columns of a crop, axis 3{classes}": mean(_cells(crops, target, 3)),
        "the wrong sign: the logarithm of a probability is negative, the loss is minus that": -mean(cells),
        "this is softmax twice: cross entropy wants logits, not probabilities": mean(_cells(crops.softmax(1), target)),
        "the scale is missing: boxes count pixels of the image, x has one for each 4 x 4 of them": mean(
            _cells(unscaled, target)
        ),
        "the scale is turned over: x is smaller than the image, so it is 1 / 4": mean(_cells(turned, target)),
        "half a pixel off: aligned=True belongs to this loss": mean(_cells(shifted, target)),
    }


# ----------------------------------------------------------------------------------------------- panoptic target


def _numbered(semantic, masks, keep, num_stuff, unknown=None, ignored=IGNORE, place=None, mask=None) -> Tensor:
    """The target by the rule, or with another unknown channel, void, place or mask of the j-th one, instance i."""
    place, mask = place or (lambda j, i: j), mask or (lambda j, i: masks[i])
    unknown = num_stuff + len(keep) if unknown is None else unknown
    target = torch.where(semantic >= num_stuff, unknown, semantic)
    target[semantic == IGNORE] = ignored
    for j, i in enumerate(keep.tolist()):
        target[mask(j, i)] = num_stuff + place(j, i)
    return target


def panoptic_targets(semantic: Tensor, masks: Tensor, keep: Tensor, num_stuff: int) -> dict[str, Tensor]:
    given = semantic, masks, keep, num_stuff
    by_rule, last = _numbered(*given), num_stuff + len(keep)
    left_out = torch.tensor([i not in keep.tolist() for i in range(len(masks))])
    unknown = by_rule == last
    crowd = unknown & ~masks[left_out].any(0)
    first = semantic == num_stuff
    over = torch.where((by_rule == semantic) & (semantic >= num_stuff), last, by_rule)
    return {
        "the mask of the j-th kept instance is masks[keep[j]], not masks[j]": _numbered(
            *given, mask=lambda j, i: masks[j]
        ),
        "the first class of things was taken for stuff: things begin at num_stuff (>= and not >)": torch.where(
            unknown & first, semantic, by_rule
        ),
        "unknown was written over a kept instance whose channel equals its class index: write unknown first": over,
        "left-out instances and crowds keep the class index of the semantic map, which in Z is the channel of some "
        "instance: they are unknown": torch.where(unknown, semantic, by_rule),
        "crowds keep their class index: thing pixels that no kept instance covers are unknown, whoever they belong "
        "to": torch.where(crowd, semantic, by_rule),
        "crowds are IGNORE here: thing pixels that no kept instance covers are unknown": torch.where(
            crowd, IGNORE, by_rule
        ),
        "left-out instances are IGNORE here: then nothing would ever teach the unknown channel": torch.where(
            unknown, IGNORE, by_rule
        ),
        "the unknown channel is num_stuff + the number of ALL instances here: Z holds the kept ones only": _numbered(
            *given, unknown=num_stuff + len(masks)
        ),
        "off by one: counted from 0, the unknown channel is num_stuff + len(keep)": _numbered(*given, unknown=last + 1),
        "instances are numbered as before some were left out: the j-th kept one is num_stuff + j": _numbered(
            *given, place=lambda j, i: i
        ),
        "instances are counted from 1 here: the first kept one is num_stuff": _numbered(
            *given, place=lambda j, i: j + 1
        ),
        "unlabelled pixels became unknown: IGNORE stays IGNORE, nothing is asked there": _numbered(
            *given, ignored=last
        ),
        "things keep their class here: Z has no channel per class of things, but one per kept instance": semantic,
    }


# -------------------------------------------------------------------------------------------------------- total


def added(losses: Mapping[str, float], weights: Mapping[str, float]) -> float:
    return sum(weights[name] * loss for name, loss in losses.items())


def totals(losses: Mapping[str, float], weights: Mapping[str, float]) -> dict[str, float]:
    twice = {**weights, "loss_roi_semantic": weights["loss_semantic"] * weights["loss_roi_semantic"]}
    return {
        "the weights are missing": sum(losses.values()),
        "this is the mean of the weighted losses: the total is their sum": added(losses, weights) / len(losses),
        "this is divided by the sum of the weights: the total is a plain sum": added(losses, weights)
        / sum(weights.values()),
        "losses and weights were matched by position: match them by name": sum(
            w * v for w, v in zip(weights.values(), losses.values(), strict=True)
        ),
        "the RoI loss was scaled twice: 0.04 is 0.2 x 0.2 already": added(losses, twice),
    }
