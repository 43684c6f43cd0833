"""Each loss against a value computed by hand; nothing to compare gives 0 with a graph."""

import math
from dataclasses import asdict

import pytest
import torch

from upsnet_lite import losses as L
from upsnet_lite.categories import IGNORE
from upsnet_lite.config import LossWeights

LN2 = math.log(2)


def ints(*values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int64)


def test_objectness_by_hand() -> None:
    """-log sigmoid(0) = ln 2 for both, and -log(1 - sigmoid(ln 3)) = ln 4."""
    got = L.loss_objectness(torch.tensor([0.0, 0.0, math.log(3)]), torch.tensor([1.0, 0.0, 0.0]))
    assert got.item() == pytest.approx((2 * LN2 + 2 * LN2) / 3)


def test_smooth_l1_is_quadratic_below_one_ninth_and_divided_by_the_sampled() -> None:
    deltas = torch.tensor([[0.1, 0.0, 2.0, -1.0]])
    expected = 0.5 * 0.1**2 * 9 + (2 - 1 / 18) + (1 - 1 / 18)
    assert L.loss_rpn_box_reg(deltas, torch.zeros(1, 4), 8).item() == pytest.approx(expected / 8)


def test_classifier_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0], [math.log(3), 0.0]])
    assert L.loss_classifier(logits, ints(1, 0)).item() == pytest.approx((LN2 + math.log(4 / 3)) / 2)


def test_box_reg_takes_the_deltas_of_the_own_class_of_positives() -> None:
    deltas = torch.full((3, 12), 9.0)  # background, class 1, class 2
    deltas[1, 8:12] = torch.tensor([1.0, 0, 0, 0])
    got = L.loss_box_reg(deltas, torch.zeros(3, 4), ints(0, 2, 0))
    assert got.item() == pytest.approx((1 - 1 / 18) / 3)


def test_mask_by_hand() -> None:
    logits = torch.tensor([[[0.0, math.log(3)], [0.0, math.log(3)]]])
    target = torch.tensor([[[1.0, 1.0], [0.5, 0.0]]])
    assert L.loss_mask(logits, target).item() == pytest.approx((LN2 + math.log(4 / 3) + LN2 + math.log(4)) / 4)


def test_semantic_by_hand_ignores_void() -> None:
    x = torch.tensor([[[[0.0, math.log(3), 9.0]], [[0.0, 0.0, -9.0]]]])
    semantic = ints(0, 1, IGNORE).view(1, 1, 3)
    assert L.loss_semantic(x, semantic).item() == pytest.approx((LN2 + math.log(4)) / 2)


def test_roi_semantic_by_hand() -> None:
    x = torch.tensor([[[[0.0, math.log(3)], [9.0, 9.0]], [[0.0, 0.0], [-9.0, -9.0]]]])
    target = ints(0, 1, IGNORE, IGNORE).view(1, 2, 2)
    assert L.loss_roi_semantic(x, target).item() == pytest.approx((LN2 + math.log(4)) / 2)


def test_panoptic_is_the_mean_over_images_of_different_sizes_and_channels() -> None:
    """ln 3 on a 2 x 2 image with three channels, ln 2 on one pixel with two: the large image does not weigh more."""
    z = [torch.zeros(3, 2, 2), torch.zeros(2, 1, 1)]
    got = L.loss_panoptic(z, [ints(0, 1, 2, IGNORE).view(2, 2), ints(1).view(1, 1)])
    assert got.item() == pytest.approx((math.log(3) + LN2) / 2)


def test_minus_infinity_in_a_channel_that_is_not_the_target_is_finite() -> None:
    """outside=-inf in training: value and gradient stay finite."""
    z = torch.zeros(3, 1, 1)
    z[1] = -math.inf
    z.requires_grad_()
    loss = L.loss_panoptic([z], [ints(0).view(1, 1)])
    loss.backward()
    assert loss.item() == pytest.approx(LN2) and z.grad.isfinite().all()


EMPTY = {
    "loss_objectness": lambda g: L.loss_objectness(g(0), torch.zeros(0)),
    "loss_rpn_box_reg": lambda g: L.loss_rpn_box_reg(g(0, 4), torch.zeros(0, 4), 0),
    "loss_classifier": lambda g: L.loss_classifier(g(0, 3), ints()),
    "loss_box_reg": lambda g: L.loss_box_reg(g(0, 12), torch.zeros(0, 4), ints()),
    "loss_box_reg, no positive": lambda g: L.loss_box_reg(g(2, 12), torch.zeros(2, 4), ints(0, 0)),
    "loss_mask": lambda g: L.loss_mask(g(0, 28, 28), torch.zeros(0, 28, 28)),
    "loss_semantic, all void": lambda g: L.loss_semantic(g(1, 3, 2, 2), torch.full((1, 2, 2), IGNORE)),
    "loss_roi_semantic": lambda g: L.loss_roi_semantic(g(0, 3, 28, 28), torch.zeros(0, 28, 28, dtype=torch.int64)),
    "loss_panoptic, all void": lambda g: L.loss_panoptic([g(3, 2, 2)], [torch.full((2, 2), IGNORE)]),
    "loss_panoptic, no pixel": lambda g: L.loss_panoptic([g(3, 0, 2)], [torch.zeros(0, 2, dtype=torch.int64)]),
}


@pytest.mark.parametrize("name", EMPTY)
def test_nothing_to_compare_gives_zero_with_a_graph(name) -> None:
    leaves = []
    give = lambda *shape: leaves.append(torch.randn(shape, requires_grad=True)) or leaves[-1]  # noqa: E731
    loss = EMPTY[name](give)
    assert loss.shape == () and loss.item() == 0
    loss.backward()
    assert torch.equal(leaves[0].grad, torch.zeros_like(leaves[0]))


def test_one_image_of_void_does_not_turn_the_others_into_nan() -> None:
    z = [torch.zeros(2, 1, 1), torch.zeros(2, 1, 1)]
    assert L.loss_panoptic(z, [ints(IGNORE).view(1, 1), ints(0).view(1, 1)]).item() == pytest.approx(LN2 / 2)


def test_weighted_by_name() -> None:
    weights = LossWeights()
    ones = {name: torch.tensor(1.0) for name in asdict(weights)}
    got = {name: loss.item() for name, loss in L.weighted(ones, weights).items()}
    assert got == pytest.approx(asdict(weights))
    assert got["loss_semantic"] == pytest.approx(0.2) and got["loss_roi_semantic"] == pytest.approx(0.04)
    assert got["loss_panoptic"] == pytest.approx(0.1) and len(got) == 8
