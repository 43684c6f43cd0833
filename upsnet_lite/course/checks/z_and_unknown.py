"""Exercise 6, Z and the unknown channel: the visible checks, and the pixel that each student works out by hand.

Shapes   x_stuff, x_thing (N_stuff, H, W), (N_thing, H, W) logits   x_mask, y_mask (N_inst, H, W), 0 outside the boxes
         z (N_stuff + N_inst + 1, H, W), unknown last   classes (N_inst,), things from 0   inside (N_inst, H, W) bool
"""

import random
from collections.abc import Callable

import torch
from torch import Tensor

from upsnet_lite.categories import IGNORE
from upsnet_lite.course import variant
from upsnet_lite.course.feedback import Mistake, agree, right, same, tried
from upsnet_lite.panoptic_head import z_unknown as package_unknown

# ------------------------------------------------------------------------------------------------- part 1, by hand


def my_pixel(seed: int) -> dict[str, int]:
    """A student's pixel: the logits of X, and y of the instance that covers it."""
    pick = random.Random(seed)
    thing, rival = pick.sample(("ball", "crate"), 2)
    logits = {thing: pick.choice((-3, -2, -1, 1, 2)), rival: pick.randint(1, 5)}
    stuff = {name: pick.randint(-2, 4) for name in ("sky", "grass")}
    return {**stuff, "ball": logits["ball"], "crate": logits["crate"], f"y of the {thing}": pick.randint(2, 6)}


def my_z(seed: int) -> tuple[Tensor, int, int]:
    """Z at a student's pixel: sky, grass, instance here, instance elsewhere, unknown; x of this thing and its rival."""
    pixel = my_pixel(seed)
    sky, grass, ball, crate, y = pixel.values()
    seen, rival = (ball, crate) if "y of the ball" in pixel else (crate, ball)
    return torch.tensor([sky, grass, seen + y, 0, max(ball, crate) - max(seen, 0)]).float(), seen, rival


def my_answer(seed: int) -> tuple[float, float, float]:
    """z of the instance, z_unknown, and the instance's probability in per cent."""
    z, _, _ = my_z(seed)
    return float(z[2]), float(z[4]), 100 * float(z.softmax(0)[2])


def recognised(found: tuple[float, float, float], seed: int) -> str:
    """What was probably done wrong; "" where it is not known."""
    z_inst, unknown, percent = found
    z, seen, rival = my_z(seed)
    right_inst, right_unknown, right_percent = my_answer(seed)
    p = lambda *channels: 100 * z[list(channels)].softmax(0)[channels.index(2)]  # noqa: E731
    for number, wanted, known in (
        (z_inst, right_inst, {
            "z of the instance: x_mask is the logit of the instance's own class, not the highest": rival + z[2] - seen,
            "z of the instance: y_mask is missing": seen}),
        (unknown, right_unknown, {
            "z_unknown: the instance elsewhere has x_mask 0 here, and that is the larger of the two": (
                max(seen, rival) - seen),
            "z_unknown takes x_mask off, not x_mask + y_mask": max(seen, rival) - z[2],
            "z_unknown has the wrong sign": -right_unknown}),
        (percent, right_percent, {
            "the probability is asked in per cent: 100 times what you have": right_percent / 100,
            "the probability is rounded: let Python work it out, and return all digits": round(right_percent, 1),
            "the instance elsewhere is missing in the sum: its logit is 0, and e to the power of 0 is 1": p(0, 1, 2, 4),
            "the unknown channel is missing in the sum of the softmax": p(0, 1, 2, 3),
            "the instance elsewhere and unknown are missing in the sum of the softmax": p(0, 1, 2)}),
    ):  # fmt: skip
        for mistake, wrong in known.items():
            if same(number, wrong) and not same(number, wanted):
                return mistake
    return ""


def check_my_numbers(my_numbers: Callable, student: str) -> None:
    found, what = my_numbers(), "(z of the instance, z_unknown, probability in per cent)"
    variant.own(found, my_answer, student, what, recognised(found, variant.seed(student)))
    right("one pixel by hand")


# ------------------------------------------------------------------------------------------------- part 2, unknown


def example() -> dict[str, Tensor]:
    """Logits on 3 x 4 pixels: 2 stuff, 3 things; two instances, whose boxes are the columns 0, 1 and 1, 2."""
    draw = torch.Generator().manual_seed(4)
    x_stuff, x_thing = 3 * torch.randn(2, 3, 4, generator=draw), 3 * torch.randn(3, 3, 4, generator=draw) - 1
    x_mask, y_mask = torch.zeros(2, 3, 4), torch.zeros(2, 3, 4)
    for i, (c, columns) in enumerate(((1, slice(0, 2)), (0, slice(1, 3)))):
        x_mask[i, :, columns] = x_thing[c, :, columns]
        y_mask[i, :, columns] = 2 * torch.randn(3, 2, generator=draw)
    return dict(x_stuff=x_stuff, x_thing=x_thing, x_mask=x_mask, y_mask=y_mask)


def check_unknown(unknown: Callable) -> None:
    x_thing, x_mask = (example()[k] for k in ("x_thing", "x_mask"))
    strongest, expected = x_thing.amax(0), package_unknown(x_thing, x_mask)
    covered = x_mask.masked_fill(x_mask == 0, -torch.inf).amax(0)
    known = {
        "the sign is wrong: what the instances explain is taken off": -expected,
        "the instances' x_mask were added up; it is their maximum": strongest - x_mask.sum(0),
        "the things' logits were added up; it is their maximum": x_thing.sum(0) - x_mask.amax(0),
        "an instance's 0 outside its box takes part in the maximum; yours left it out": (
            strongest - covered.where(covered.isfinite(), 0)
        ),
        "a 0 of your own takes part in the maximum: where all boxes cover a pixel, it may lie below 0": (
            strongest - x_mask.amax(0).clamp(min=0)
        ),
        "values below 0 were cut off; z_unknown may be negative": expected.clamp(min=0),
        "this is the strongest thing alone; take off what the instances explain": strongest,
        "this is the maximum of the differences; take each maximum first": (
            (x_thing[:, None] - x_mask[None]).flatten(0, 1).amax(0)
        ),
    }
    agree(unknown(x_thing, x_mask), expected, "z_unknown", known=known)
    why = "no instance at all (of nothing there is no maximum: the second term is then 0)"
    agree(tried(unknown, x_thing, x_mask[:0], on=why), strongest, "with no instance, z_unknown")
    if not unknown(x_thing.requires_grad_(), x_mask).requires_grad:
        raise Mistake("z_unknown has lost its gradient, by which the panoptic loss teaches X: no .detach(), no no_grad")
    right("z_unknown, also with no instance")


# ------------------------------------------------------------------------------------------------- part 3, Z


def check_fuse(fuse: Callable) -> None:
    stuff, things, x_mask, y_mask = (parts := example()).values()
    both, unknown = x_mask + y_mask, package_unknown(things, x_mask)[None]
    known = {
        "unknown stands first; it is the last channel": torch.cat((unknown, stuff, both)),
        "unknown stands between stuff and instances; it is the last channel": torch.cat((stuff, unknown, both)),
        "the instances stand first; stuff comes first": torch.cat((both, stuff, unknown)),
        "y_mask is missing in the instances' channels": torch.cat((stuff, x_mask, unknown)),
        "x_mask is missing in the instances' channels": torch.cat((stuff, y_mask, unknown)),
        "x_mask and y_mask were multiplied; logits are added": torch.cat((stuff, x_mask * y_mask, unknown)),
        "probabilities were added; between stages there are logits, without sigmoid": (
            torch.cat((stuff, x_mask.sigmoid() + y_mask.sigmoid(), unknown))
        ),
        "the larger of x_mask and y_mask was taken; they are added": torch.cat(
            (stuff, x_mask.maximum(y_mask), unknown)
        ),
        "z_unknown takes x_mask off, not x_mask + y_mask": torch.cat(
            (stuff, both, package_unknown(things, both)[None])
        ),
        "the channels of all thing classes are in Z; instead of classes it has instances": (
            torch.cat((stuff, things, both, unknown))
        ),
    }
    expected = torch.cat((stuff, both, unknown))
    agree(fuse(**parts), expected, "z", "channel, row, column", known)
    found = tried(fuse, stuff, things, x_mask[:0], y_mask[:0], on="no instance at all")
    agree(found, torch.cat((stuff, things.amax(0)[None])), "with no instance, z", "channel, row, column")
    right("Z: stuff, instances, unknown")


# ------------------------------------------------------------------------------------------------- part 4, softmax


def check_softmax(softmax: Callable) -> None:
    z = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(5))
    known = {
        "the softmax runs over the rows of a map; it runs over the channels, axis 0": z.softmax(1),
        "the softmax runs over the columns of a map; it runs over the channels, axis 0": z.softmax(2),
        "the softmax runs over the whole tensor; it runs over the channels, pixel by pixel": z.flatten()
        .softmax(0)
        .view_as(z),
        "the softmax runs over all pixels of a channel; it runs over the channels": z.flatten(1).softmax(1).view_as(z),
        "this is a sigmoid, one channel at a time; here the channels compete": z.sigmoid(),
        "this is the logarithm of the softmax": z.log_softmax(0),
        "this is e to the power of z, not yet divided by the sum": z.exp(),
        "divide by the sum over the channels, not by the largest": (z - z.amax(0)).exp(),
        "z was divided by its sum; the power of e is missing": z / z.sum(0),
    }
    kept = z.clone()
    agree(softmax(z), kept.softmax(0), "the probability", "channel, row, column", known)
    if not torch.equal(z, kept):
        raise Mistake("your function changed the logits it was given: z - ... makes a new tensor, z -= ... does not")
    found = softmax(1000 * z)
    if not found.isfinite().all():
        raise Mistake("with large logits your result is nan: the sum over a pixel became infinite, or 0; take that "
                      "pixel's own largest logit off first, which changes no probability")  # fmt: skip
    agree(found, (1000 * z).softmax(0), "with large logits, the probability", "channel, row, column")
    closed = z.clone()
    closed[2, :2] = -torch.inf
    agree(softmax(closed), closed.softmax(0), "with a logit of −∞, the probability", "channel, row, column")
    right("a softmax over the channels that does not overflow")


# ------------------------------------------------------------------------------------------------- part 5, decide


def check_decide(decide: Callable) -> None:
    winner, num_stuff, classes = torch.tensor([[0, 1, 2, 3], [4, 5, 6, 3], [5, 0, 4, 6]]), 3, torch.tensor([1, 0, 1])
    z = torch.zeros(7, 3, 4).scatter(0, winner[None], 2.0)

    def by_table(*channels: int) -> Tensor:
        return torch.tensor(channels)[winner]

    semantic, instance = decide(z, classes, num_stuff)
    known = {
        "things are one class too high: C counts things from 0; only torchvision's labels begin with background": (
            by_table(0, 1, 2, 5, 4, 5, IGNORE)
        ),
        "things are one class too low: C counts things from 0, no background is among them": (
            by_table(0, 1, 2, 3, 2, 3, IGNORE)
        ),
        "a thing's class index comes after all stuff: N_stuff + C": by_table(0, 1, 2, 1, 0, 1, IGNORE),
        "these are channels of Z, not classes: channel N_stuff + i belongs to instance i, whose class is C_i": winner,
        "these are channels of Z for instances; instance i has the class N_stuff + C_i": by_table(
            0, 1, 2, 3, 4, 5, IGNORE
        ),
        "unknown has no class: IGNORE, not the number of its channel": by_table(0, 1, 2, 4, 3, 4, 6),
        "unknown has no class: IGNORE is −100, not 255 (a channel of Z may have that number)": by_table(
            0, 1, 2, 4, 3, 4, 255
        ),
        "unknown was given the class of the last instance": by_table(0, 1, 2, 4, 3, 4, 4),
        "unknown has no class: IGNORE (−100), not −1": by_table(0, 1, 2, 4, 3, 4, -1),
        "unknown has no class: IGNORE, not 0, which is the first kind of stuff": by_table(0, 1, 2, 4, 3, 4, 0),
    }
    agree(semantic, by_table(0, 1, 2, 4, 3, 4, IGNORE), "the class", known=known)
    known = {
        "these are channels of Z; instance i stands in channel N_stuff + i": by_table(-1, -1, -1, 3, 4, 5, -1),
        "unknown was taken for one more instance": by_table(-1, -1, -1, 0, 1, 2, 3),
        "instances count from 0": by_table(-1, -1, -1, 1, 2, 3, -1),
        "stuff and unknown belong to no instance: −1; 0 is the first instance": by_table(0, 0, 0, 0, 1, 2, 0),
        "below 0 there is one number alone: −1": by_table(-3, -2, -1, 0, 1, 2, -1),
        "stuff and unknown belong to no instance: −1, not IGNORE": by_table(*[IGNORE] * 3, 0, 1, 2, IGNORE),
    }
    agree(instance, by_table(-1, -1, -1, 0, 1, 2, -1), "the instance", known=known)
    alone = torch.zeros(4, 1, 4).scatter(0, torch.tensor([[[0, 1, 2, 3]]]), 2.0)
    semantic, instance = tried(decide, alone, classes[:0], 3, on="no instance at all")
    agree(semantic, [[0, 1, 2, IGNORE]], "with no instance, the class")
    agree(instance, [[-1, -1, -1, -1]], "with no instance, the instance")
    right("class and instance of every pixel")


# ------------------------------------------------------------------------------------------------- part 6, strays


def check_strays(strays: Callable) -> None:
    # winner 0, 1 stuff, 2, 3 instances, 4 unknown. Boxes: columns 0 to 2 and 2 to 4
    winner = torch.tensor([[2, 2, 2, 2, 2, 0, 4], [3, 3, 3, 3, 3, 1, 3]])
    inside = torch.zeros(2, 2, 7, dtype=torch.bool)
    inside[0, :, :3] = inside[1, :, 2:5] = True
    z = torch.zeros(5, 2, 7)
    z[:2] = -1  # where a box does not reach, an instance's 0 is above all stuff
    z = z.scatter(0, winner[None], 2.0)
    won = winner == torch.tensor([2, 3])[:, None, None]
    expected = (won & ~inside).any(0)
    anyone = won.any(0)
    known = {
        "yours tells where an instance wins outside of every box; its own box is meant": anyone & ~inside.any(0),
        "yours tells where an instance is above all stuff; ask who wins the pixel: argmax over all channels": (
            (z[2:-1] > z[:2].amax(0)) & ~inside
        ).any(0),
        "yours tells where some instance wins outside some box; it is its own box that counts": (
            anyone & (~inside).any(0)
        ),
        "yours tells where an instance wins inside its box": (won & inside).any(0),
        "yours tells every pixel outside of the boxes, whoever wins there": ~inside.any(0),
        "unknown is no instance, it has no box": expected | ((winner == 4) & ~inside.any(0)),
        "yours tells every pixel that an instance wins": anyone,
        "yours tells every pixel that some box does not cover": (~inside).any(0),
    }
    agree(strays(z, inside, 2), expected, "stray", known=known)
    none = tried(strays, z[[0, 1, 4]], inside[:0], 2, on="no instance at all")
    agree(none, torch.zeros(2, 7, dtype=torch.bool), "with no instance, stray")
    right("where an instance wins outside its own box")
