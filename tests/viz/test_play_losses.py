"""Moves by the Gram matrix against the gradient of the weighted sum itself."""

import pytest
import torch
from torch import nn

from upsnet_lite.viz.play_losses import balance, lesson, play_weights, words

NAMES = ("loss_mask", "loss_semantic", "loss_roi_semantic")
WEIGHTS = (0.5, 2.0, 0.0)


@pytest.fixture
def parts():
    torch.manual_seed(0)
    return {"trunk": [nn.Linear(4, 4)], "left": [nn.Linear(4, 3), nn.Linear(3, 1)], "right": [nn.Linear(4, 2)]}


@pytest.fixture
def losses(parts):
    shared = parts["trunk"][0](torch.randn(6, 4)).tanh()
    left = parts["left"][1](parts["left"][0](shared)).square().mean()
    right = parts["right"][0](shared).exp().mean()
    return dict(zip(NAMES, (left, right, (left * right).sqrt()), strict=True))


def gradient(loss, modules):
    parameters = [p for m in modules for p in m.parameters()]
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return torch.cat(
        [(torch.zeros_like(p) if g is None else g).flatten() for g, p in zip(found, parameters, strict=True)]
    )


def test_norms_and_moves_are_those_of_the_gradients(parts, losses):
    found = balance(lesson(losses, parts), WEIGHTS)
    whole = sum(w * loss for w, loss in zip(WEIGHTS, losses.values(), strict=True))
    for m, modules in enumerate(parts.values()):
        assert float(found.move[m]) == pytest.approx(float(gradient(whole, modules).norm()), rel=1e-5)
        for k, (w, loss) in enumerate(zip(WEIGHTS, losses.values(), strict=True)):
            assert float(found.taught[k, m]) == pytest.approx(
                float(w * gradient(loss, modules).norm()), rel=1e-5, abs=1e-9
            )


def test_the_total_and_its_shares(parts, losses):
    found = balance(lesson(losses, parts), WEIGHTS)
    assert found.total == pytest.approx(sum(w * float(v) for w, v in zip(WEIGHTS, losses.values(), strict=True)))
    assert float(found.shares.sum()) == pytest.approx(1) and float(found.shares[2]) == 0


def test_a_loss_teaches_only_what_it_reaches(parts, losses):
    found = balance(lesson(losses, parts), (1.0, 1.0, 1.0))
    assert (found.taught == 0).tolist() == [[False, False, True], [False, True, False], [False, False, False]]


def test_all_weights_at_zero(parts, losses):
    found = balance(lesson(losses, parts), (0.0, 0.0, 0.0))
    assert found.total == 0 and not found.shares.any() and not found.move.any()


def test_the_widget_begins_with_the_networks_weights(parts, losses):
    given = lesson(losses, parts)
    widget = play_weights(given, dict(zip(NAMES, WEIGHTS, strict=True)))
    assert widget.live.text == words(given, balance(given, WEIGHTS)) and "roi semantic 0 %" in widget.live.text
    before = widget.live.png
    widget.controls["loss_mask"].value = 3.0
    assert widget.live.text == words(given, balance(given, (3.0, *WEIGHTS[1:]))) and widget.live.png != before
    widget.set(loss_mask=0.0, loss_semantic=0.0)
    assert widget.live.text.startswith("Total 0.00: mask 0 %")
