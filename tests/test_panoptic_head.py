"""The panoptic head: every equation by hand on 5 x 5 maps, a slow reference for the whole, properties for the rest."""

import math
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from upsnet_lite.boxes import inside
from upsnet_lite.panoptic_head import (
    PanopticHead,
    first_not_covering,
    running_argmax,
    x_mask,
    y_mask,
    z_unknown,
)

RAMP = torch.arange(25.0).view(5, 5)  # pixel (row, column) holds 5 · row + column
Y22 = torch.tensor([[[0.0, 4.0], [8.0, 12.0]]])  # bilinear on 4 x 4: steps 0, 1, 3, 4 across and 0, 2, 6, 8 down
Y44 = torch.tensor([[0.0, 1, 3, 4], [2, 3, 5, 6], [6, 7, 9, 10], [8, 9, 11, 12]])


def boxes_of(*rows) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32).view(-1, 4)


def classes_of(*rows) -> Tensor:
    return torch.tensor(rows, dtype=torch.int64)


# ------------------------------------------------------------------------------------------------- equations by hand


def test_x_mask_by_hand() -> None:
    x_thing = torch.stack((RAMP, -RAMP))
    got = x_mask(x_thing, boxes_of((1, 1, 3, 3), (3.5, 2.2, 9, 4.0), (4, 4, 4, 5)), classes_of(0, 1, 0))
    expected = torch.zeros(3, 5, 5)
    expected[0, 1, 1:3] = torch.tensor([6.0, 7])
    expected[0, 2, 1:3] = torch.tensor([11.0, 12])
    expected[1, 2, 3:5] = torch.tensor([-13.0, -14])
    expected[1, 3, 3:5] = torch.tensor([-18.0, -19])
    assert torch.equal(got, expected)


def test_y_mask_by_hand() -> None:
    expected = torch.zeros(5, 5)
    expected[1:5, 0:4] = Y44
    assert torch.equal(y_mask(Y22, boxes_of((0, 1, 4, 5)), (5, 5))[0], expected)


def test_y_mask_resizes_first_and_crops_afterwards() -> None:
    expected = torch.zeros(5, 5)
    expected[0:3, 0:3] = Y44[1:, 1:]
    assert torch.equal(y_mask(Y22, boxes_of((-1, -1, 3, 3)), (5, 5))[0], expected)
    expected = torch.zeros(5, 5)
    expected[3:, 2:] = Y44[:2, :3]
    assert torch.equal(y_mask(Y22, boxes_of((2, 3, 6, 7)), (5, 5))[0], expected)


def test_y_mask_of_a_fractional_box_has_its_integer_size() -> None:
    whole = y_mask(Y22, boxes_of((0, 1, 4, 5)), (5, 5))
    assert torch.equal(y_mask(Y22, boxes_of((0.9, 1.9, 3.1, 4.1)), (5, 5)), whole)


def test_boxes_that_cover_nothing_give_zeros() -> None:
    boxes = boxes_of((2, 2, 2, 4), (3, 3, 1, 1), (5, 0, 9, 5), (-4, -4, 0, 0))
    assert not y_mask(torch.ones(4, 28, 28), boxes, (5, 5)).any()
    assert not x_mask(torch.ones(1, 5, 5), boxes, classes_of(0, 0, 0, 0)).any()


@pytest.mark.parametrize("box", [(0, 0, 5, 5), (1, 2, 4, 3), (2, 0, 3, 5), (0, 3, 1, 4)])
def test_y_mask_against_interpolate(box) -> None:
    """28 x 28 on boxes of every shape, one pixel included: bilinear, no antialias."""
    y = torch.randn(1, 28, 28, generator=torch.Generator().manual_seed(0))
    x0, y0, x1, y1 = box
    expected = torch.zeros(5, 5)
    expected[y0:y1, x0:x1] = F.interpolate(y[None], (y1 - y0, x1 - x0), mode="bilinear", align_corners=False)[0, 0]
    assert torch.equal(y_mask(y, boxes_of(box), (5, 5))[0], expected)


def test_z_unknown_by_hand() -> None:
    """max over things minus max over instances; an instance that does not cover the pixel counts with its 0."""
    x_thing = torch.stack((RAMP, torch.full((5, 5), 3.0)))
    masks = torch.zeros(2, 5, 5)
    masks[0, 4, 4], masks[1, 4, 4], masks[0, 0, 0], masks[1, 0, 0], masks[0, 0, 1] = 24.0, 3.0, -2.0, -5.0, -7.0
    got = z_unknown(x_thing, masks)
    assert got[4, 4] == 24 - 24  # explained
    assert got[0, 0] == 3 + 2  # both cover it and both deny it: more unknown than x_thing alone
    assert got[0, 1] == 3 - 0  # the second does not cover it
    assert got[2, 0] == 10 and got[0, 4] == 4


def test_z_unknown_without_instance_is_the_highest_thing_logit() -> None:
    x_thing = torch.stack((RAMP - 12, 12 - RAMP))
    assert torch.equal(z_unknown(x_thing, torch.zeros(0, 5, 5)), (RAMP - 12).abs())


def test_z_by_hand() -> None:
    """One stuff class at 1, one thing class at 2, one instance with Y = 3 in the middle."""
    x = torch.stack((torch.full((5, 5), 1.0), torch.full((5, 5), 2.0)))
    out = PanopticHead(1)(x, boxes_of((1, 1, 4, 4)), classes_of(0), torch.full((1, 28, 28), 3.0))
    middle = torch.zeros(5, 5, dtype=torch.bool)
    middle[1:4, 1:4] = True
    assert out.z.shape == (3, 5, 5)
    assert torch.equal(out.z[0], x[0])
    assert torch.equal(out.z[1], torch.where(middle, 5.0, 0.0))
    assert torch.equal(out.z[2], torch.where(middle, 0.0, 2.0))
    assert torch.equal(out.z[1:2], out.x_mask + out.y_mask) and torch.equal(out.z[2], out.z_unknown)
    assert torch.equal(out.z.argmax(0), torch.where(middle, 1, 2))


def test_without_unknown_z_ends_with_the_instances() -> None:
    x, boxes, y = torch.randn(3, 5, 5), boxes_of((1, 1, 4, 4), (0, 0, 2, 2)), torch.randn(2, 28, 28)
    with_it, without = (PanopticHead(1, unknown)(x, boxes, classes_of(0, 1), y) for unknown in (True, False))
    assert torch.equal(without.z, with_it.z[:-1]) and without.z_unknown is None


def test_no_instance() -> None:
    x = torch.stack((RAMP - 12, 12 - RAMP, RAMP * 0))
    out = PanopticHead(1)(x, boxes_of(), classes_of(), torch.zeros(0, 28, 28))
    assert out.x_mask.shape == out.y_mask.shape == (0, 5, 5)
    assert torch.equal(out.z, torch.stack((RAMP - 12, (12 - RAMP).clamp(min=0))))


def test_zero_outside_lets_an_instance_win_outside_its_box() -> None:
    """The original's rule where every stuff logit is negative; outside=-inf forbids it and leaves z_unknown alone."""
    x = torch.stack((torch.full((5, 5), -1.0), torch.full((5, 5), -3.0)))
    args = x, boxes_of((0, 0, 2, 5)), classes_of(0), torch.full((1, 28, 28), 4.0)
    zero, minus_inf = PanopticHead(1)(*args), PanopticHead(1, outside=-math.inf)(*args)
    assert (zero.z.argmax(0) == 1).all()
    assert torch.equal(minus_inf.z.argmax(0), torch.tensor([1, 1, 0, 0, 0]).expand(5, 5))
    assert torch.equal(zero.z_unknown, minus_inf.z_unknown)
    assert torch.equal(zero.z[:, :, :2], minus_inf.z[:, :, :2])


def test_fusion_works_on_numbers_it_does_not_change() -> None:
    """Same result twice, and inputs as they were: nothing is learned, stored or written in place."""
    scene = random_scene(0, 2, 2, 4, 6, 7)
    before = [t.clone() for t in (scene.x, scene.boxes, scene.classes, scene.y)]
    head = PanopticHead(2)
    first, winner = head(*scene.args), head.predict(*scene.args)
    assert torch.equal(first.z, head(*scene.args).z) and torch.equal(winner, head.predict(*scene.args))
    assert all(torch.equal(a, b) for a, b in zip(before, scene.args, strict=True))
    assert not any(isinstance(value, Tensor) for value in vars(head).values())


# ------------------------------------------------------------------------------------------------ scenes and references


@dataclass
class Scene:
    x: Tensor
    boxes: Tensor
    classes: Tensor
    y: Tensor
    num_stuff: int

    @property
    def args(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.x, self.boxes, self.classes, self.y

    def take(self, index: list[int] | Tensor) -> "Scene":
        return Scene(self.x, self.boxes[index], self.classes[index], self.y[index], self.num_stuff)


def random_scene(
    seed: int, num_stuff: int, num_thing: int, num_inst: int, height: int, width: int, ties: bool = True, side: int = 3
) -> Scene:
    """Boxes in quarter pixels that overlap, stick out, lie outside or are empty. Ties: logits are small integers."""
    g = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randint(-2, 3, shape, generator=g).double()  # noqa: E731
    if not ties:
        draw = lambda *shape: torch.randn(shape, generator=g, dtype=torch.float64)  # noqa: E731
    low = torch.randint(-8, 4 * max(height, width), (num_inst, 2), generator=g) / 4
    extent = torch.randint(-1, 4 * max(height, width), (num_inst, 2), generator=g) / 4
    y = draw(num_inst, side, side)
    if ties:  # half of the masks are flat, so that even after resizing their logits tie with others
        flat = torch.rand(num_inst, generator=g) < 0.5
        y[flat] = y[flat][:, :1, :1]
    classes = torch.randint(0, num_thing, (num_inst,), generator=g)
    boxes = torch.cat((low, low + extent), 1).double()
    return Scene(draw(num_stuff + num_thing, height, width), boxes, classes, y, num_stuff)


@st.composite
def scenes(draw, min_stuff=0, min_inst=0, ties=True) -> Scene:
    return random_scene(
        draw(st.integers(0, 2**32)),
        draw(st.integers(min_stuff, 3)),
        draw(st.integers(1, 3)),
        draw(st.integers(min_inst, 5)),
        draw(st.integers(1, 7)),
        draw(st.integers(1, 7)),
        ties,
    )


def slow_resize(y: list[list[float]], height: int, width: int) -> list[list[float]]:
    """Bilinear, align_corners=False, written out: a target pixel's centre lies at (i + 0.5) · in / out − 0.5."""

    def neighbours(i: int, n_in: int, n_out: int) -> tuple[int, int, float]:
        place = min(max((i + 0.5) * n_in / n_out - 0.5, 0.0), n_in - 1.0)
        low = math.floor(place)
        return low, min(low + 1, n_in - 1), place - low

    out = []
    for i in range(height):
        r0, r1, dr = neighbours(i, len(y), height)
        row = []
        for j in range(width):
            c0, c1, dc = neighbours(j, len(y[0]), width)
            top = y[r0][c0] * (1 - dc) + y[r0][c1] * dc
            bottom = y[r1][c0] * (1 - dc) + y[r1][c1] * dc
            row.append(top * (1 - dr) + bottom * dr)
        out.append(row)
    return out


def slow_fusion(scene: Scene, unknown: bool, outside: float) -> Tensor:
    """DESIGN's definition of z, pixel by pixel in plain Python."""
    x, boxes, classes, ys = (t.tolist() for t in scene.args)
    things = x[scene.num_stuff :]
    height, width = scene.x.shape[1:]
    masks = []
    for (x0, y0, x1, y1), y in zip(boxes, ys, strict=True):
        rows, columns = math.ceil(y1) - math.floor(y0), math.ceil(x1) - math.floor(x0)
        masks.append(slow_resize(y, rows, columns) if x1 > x0 and y1 > y0 else None)
    z = [[[0.0] * width for _ in range(height)] for _ in range(scene.num_stuff + len(boxes) + unknown)]
    for r in range(height):
        for c in range(width):
            seen = []
            for s in range(scene.num_stuff):
                z[s][r][c] = x[s][r][c]
            for i, (x0, y0, x1, y1) in enumerate(boxes):
                left, top = math.floor(x0), math.floor(y0)
                covers = masks[i] is not None and left <= c < math.ceil(x1) and top <= r < math.ceil(y1)
                seen.append(things[classes[i]][r][c] if covers else 0.0)
                z[scene.num_stuff + i][r][c] = seen[i] + masks[i][r - top][c - left] if covers else outside
            if unknown:
                z[-1][r][c] = max(t[r][c] for t in things) - (max(seen) if seen else 0.0)
    return torch.tensor(z, dtype=torch.float64).view(-1, height, width)


@settings(max_examples=25, deadline=None)
@given(scene=scenes(ties=False), unknown=st.booleans(), outside=st.sampled_from([0.0, -math.inf, 0.5]))
def test_fusion_against_loops(scene, unknown, outside) -> None:
    out = PanopticHead(scene.num_stuff, unknown, outside)(*scene.args)
    torch.testing.assert_close(out.z, slow_fusion(scene, unknown, outside), rtol=0, atol=1e-12)


# ------------------------------------------------------------------------------------------------------------ predict


@settings(max_examples=150, deadline=None)
@given(
    scene=scenes(),
    unknown=st.booleans(),
    outside=st.sampled_from([0.0, -math.inf, 1.0, -1.0]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_predict_is_argmax_of_z_on_every_pixel(scene, unknown, outside, dtype) -> None:
    """Integer logits and flat masks: on most pixels several channels tie, and the lowest must win in both."""
    head = PanopticHead(scene.num_stuff, unknown, outside)
    args = (scene.x.to(dtype), scene.boxes.to(dtype), scene.classes, scene.y.to(dtype))
    z = head(*args).z
    winner = head.predict(*args)
    assert winner.dtype == torch.int64 and winner.shape == scene.x.shape[1:]
    if len(z):  # neither stuff nor instance nor unknown: nothing can win
        assert torch.equal(winner, z.argmax(0))


@pytest.mark.parametrize("num_inst", [0, 1, 300])
@pytest.mark.parametrize("unknown", [True, False])
@pytest.mark.parametrize("outside", [0.0, -math.inf])
@pytest.mark.parametrize("ties", [True, False])
def test_predict_with_none_one_and_300_instances(num_inst, unknown, outside, ties) -> None:
    scene = random_scene(7, 53, 80, num_inst, 40, 56, ties, side=28)
    head = PanopticHead(53, unknown, outside)
    args = (scene.x.float(), scene.boxes.float(), scene.classes, scene.y.float())
    assert torch.equal(head.predict(*args), head(*args).z.argmax(0))


def test_predict_takes_tensors_that_require_gradients() -> None:
    scene = random_scene(3, 2, 2, 3, 6, 6)
    scene.x.requires_grad_(), scene.y.requires_grad_()
    head = PanopticHead(2)
    assert torch.equal(head.predict(*scene.args), head(*scene.args).z.argmax(0))


@settings(max_examples=150, deadline=None)
@given(
    scene=scenes(),
    unknown=st.booleans(),
    outside=st.sampled_from([0.0, -math.inf]),
    strange=st.sampled_from([-math.inf, math.inf, math.nan]),
    where=st.sampled_from(["x", "y"]),
    share=st.sampled_from([0.05, 0.5, 1.0]),
)
def test_predict_is_argmax_of_z_where_logits_are_infinite_or_nan(
    scene, unknown, outside, strange, where, share
) -> None:
    """argmax takes a NaN for the highest: -inf - (-inf) of the unknown channel, or -inf resized, is one."""
    logits = getattr(scene, where)
    logits[torch.rand(logits.shape, generator=torch.Generator().manual_seed(0)) < share] = strange
    head = PanopticHead(scene.num_stuff, unknown, outside)
    z = head(*scene.args).z
    if len(z):
        assert torch.equal(head.predict(*scene.args), z.argmax(0))


@pytest.mark.parametrize("halved", ["x", "y"])
def test_predict_is_argmax_of_z_where_x_and_y_differ_in_precision(halved) -> None:
    """z has the finer of the two: in the coarser one, neighbours would tie."""
    scene = random_scene(5, 2, 3, 40, 30, 30, ties=False)
    scene.x, scene.y = scene.x.float(), scene.y.float()
    setattr(scene, halved, getattr(scene, halved).bfloat16())
    head = PanopticHead(2)
    assert torch.equal(head.predict(*scene.args), head(*scene.args).z.argmax(0))


def test_running_argmax_takes_the_first_of_ties() -> None:
    x = torch.tensor([[[1.0, 2.0]], [[1.0, 3.0]], [[0.0, 3.0]]])
    best, winner = running_argmax(x)
    assert best.tolist() == [[1, 3]] and winner.tolist() == [[0, 1]]


def test_first_not_covering_by_hand() -> None:
    boxes = boxes_of((0, 0, 3, 2), (1, 0, 3, 2), (0, 0, 0, 0), (0, 0, 3, 2))
    got = first_not_covering(boxes, 2, 4, boxes.device)
    assert got.tolist() == [[1, 2, 2, 0]] * 2
    assert (first_not_covering(boxes_of((0, 0, 4, 2)), 2, 4, boxes.device) == 1).all()  # all cover: N_inst


# ---------------------------------------------------------------------------------------------------------- gradients


def test_gradcheck() -> None:
    """In x and in Y, boxes that overlap, stick out and are fractional; z holds all three derived tensors."""
    g = torch.Generator().manual_seed(1)
    x = torch.randn(4, 5, 5, generator=g, dtype=torch.float64, requires_grad=True)
    y = torch.randn(3, 4, 4, generator=g, dtype=torch.float64, requires_grad=True)
    boxes, classes = boxes_of((0.5, 1, 3.2, 4), (-1, -2, 2.5, 3), (2, 2, 7, 9)).double(), classes_of(0, 1, 1)
    for head in (PanopticHead(2), PanopticHead(2, unknown=False)):
        assert torch.autograd.gradcheck(lambda x, y, head=head: head(x, boxes, classes, y).z, (x, y))


# --------------------------------------------------------------------------------------------------------- properties


@settings(max_examples=60, deadline=None)
@given(scene=scenes(min_stuff=1, min_inst=2), seed=st.integers(0, 1000), outside=st.sampled_from([0.0, -math.inf]))
def test_order_of_instances_does_not_matter_up_to_ties(scene, seed, outside) -> None:
    order = torch.randperm(len(scene.boxes), generator=torch.Generator().manual_seed(seed))
    head, s = PanopticHead(scene.num_stuff, True, outside), scene.num_stuff
    z, shuffled = head(*scene.args).z, head(*scene.take(order).args).z
    channel = torch.cat((torch.arange(s), order + s, torch.tensor([len(z) - 1])))  # of the shuffled z, in the first
    assert torch.equal(shuffled, z[channel])
    unique = (z == z.amax(0)).sum(0) == 1
    winner, moved = head.predict(*scene.args), head.predict(*scene.take(order).args)
    assert torch.equal(winner[unique], channel[moved][unique])


@settings(max_examples=60, deadline=None)
@given(scene=scenes(min_stuff=1, min_inst=1))
def test_an_instance_never_wins_outside_its_box_when_a_stuff_logit_is_positive(scene) -> None:
    scene.x[0] = scene.x[0].abs() + 0.5
    winner = PanopticHead(scene.num_stuff).predict(*scene.args)
    for i, covered in enumerate(inside(scene.boxes, tuple(winner.shape))):
        assert not ((winner == scene.num_stuff + i) & ~covered).any()


@settings(max_examples=60, deadline=None)
@given(scene=scenes(min_stuff=1, min_inst=1))
def test_with_minus_infinity_outside_no_instance_ever_wins_outside_its_box(scene) -> None:
    winner = PanopticHead(scene.num_stuff, outside=-math.inf).predict(*scene.args)
    for i, covered in enumerate(inside(scene.boxes, tuple(winner.shape))):
        assert not ((winner == scene.num_stuff + i) & ~covered).any()


def drop(scene: Scene, i: int, head: PanopticHead) -> tuple[Tensor, Tensor]:
    """Winners with every instance and without instance i, both in the channels of the first."""
    rest = [j for j in range(len(scene.boxes)) if j != i]
    back = torch.tensor(
        [*range(scene.num_stuff), *(scene.num_stuff + j for j in rest), scene.num_stuff + len(rest) + 1]
    )
    return head.predict(*scene.args), back[head.predict(*scene.take(rest).args)]


@settings(max_examples=80, deadline=None)
@given(scene=scenes(min_stuff=1, min_inst=1), outside=st.sampled_from([0.0, -math.inf]))
def test_dropping_an_instance_moves_only_its_own_pixels(scene, outside) -> None:
    """Without the unknown channel this holds exactly: no other channel depends on instance i."""
    for i in range(len(scene.boxes)):
        before, after = drop(scene, i, PanopticHead(scene.num_stuff, unknown=False, outside=outside))
        assert torch.equal(before[before != scene.num_stuff + i], after[before != scene.num_stuff + i])


@settings(max_examples=120, deadline=None)
@given(scene=scenes(min_stuff=1, min_inst=2), outside=st.sampled_from([0.0, -math.inf]))
def test_dropping_an_instance_can_only_move_other_pixels_to_unknown(scene, outside) -> None:
    """z_unknown is the one channel that looks at all instances, and with one less it can only rise.

    So a pixel that i had not won stays or becomes unknown, and the latter only where i had explained it: inside its
    box, or where i's 0 outside was the highest x_mask because every other box covers the pixel with a negative logit.
    """
    head, size = PanopticHead(scene.num_stuff, outside=outside), tuple(scene.x.shape[1:])
    covered = inside(scene.boxes, size)
    for i in range(len(scene.boxes)):
        before, after = drop(scene, i, head)
        moved = (before != after) & (before != scene.num_stuff + i)
        others = torch.arange(len(covered)) != i
        masks = x_mask(scene.x[scene.num_stuff :], scene.boxes, scene.classes)[others]
        denied = covered[others].all(0) & (masks.amax(0) < 0)
        assert (after[moved] == scene.num_stuff + len(scene.boxes)).all()
        assert not (moved & ~covered[i] & ~denied).any()


@settings(max_examples=60, deadline=None)
@given(scene=scenes(min_stuff=1, min_inst=1))
def test_dropping_the_only_instance_changes_nothing_outside_its_box(scene) -> None:
    """Nothing but its own pixels there; inside, z_unknown's second term goes from x_mask to 0 and so to either side."""
    only = scene.take([0])
    before, after = drop(only, 0, PanopticHead(only.num_stuff))
    elsewhere = ~inside(only.boxes, tuple(before.shape))[0] & (before != only.num_stuff)
    assert torch.equal(before[elsewhere], after[elsewhere])
    seen = x_mask(only.x[only.num_stuff :], only.boxes, only.classes)[0]
    moved = (before != after) & (before != only.num_stuff)
    assert (after[moved & (seen > 0)] == only.num_stuff + 1).all()  # no longer explained: becomes unknown
    assert (before[moved & (seen < 0)] == only.num_stuff + 1).all()  # no longer denied: was unknown
