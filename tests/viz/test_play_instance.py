"""NMS on lesson 04's toy boxes, and candidates that give the RPN's own proposals."""

import pytest
import torch

from upsnet_lite import UPSNet
from upsnet_lite.viz.play_instance import ALL, Candidates, candidates, play_nms, thin_out, words

BOXES = torch.tensor(
    [[0.0, 0, 3, 3], [0, 0, 3, 4], [1, 1, 4, 4], [0, 0, 3, 3]]
)  # IoU of 0 and 1: 9/12, of 0 and 2: 4/14
TRUTH = torch.tensor([[0.0, 0, 3, 3], [1, 1, 4, 5], [20, 20, 24, 24]])  # the second: 9/12 with box 2


@pytest.fixture
def toy():
    return Candidates(BOXES + 1, BOXES, torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.tensor([2, 2, 2, 3]))


@pytest.mark.parametrize(
    "score, iou, level, passed, kept, found",
    [
        (0.0, 0.7, ALL, [0, 1, 2, 3], [0, 2, 3], 2),  # box 3 is box 0 again, on another level
        (0.0, 0.8, ALL, [0, 1, 2, 3], [0, 1, 2, 3], 2),
        (0.0, 0.2, ALL, [0, 1, 2, 3], [0, 3], 1),
        (0.8, 0.8, ALL, [0, 1], [0, 1], 1),
        (0.75, 0.5, ALL, [0, 1], [0], 1),
        (0.0, 0.7, 3, [3], [3], 1),
        (0.95, 0.7, ALL, [], [], 0),
    ],
)
def test_score_then_nms_by_hand(toy, score, iou, level, passed, kept, found):
    left = thin_out(toy, TRUTH, score, iou, level)
    assert (left.passed.tolist(), left.kept.tolist(), left.found) == (passed, kept, found)


def test_at_most_so_many(toy):
    assert thin_out(toy, TRUTH, 0.0, 1.0, most=2).kept.tolist() == [0, 1]


def test_the_fit_of_each_true_box(toy):
    best = thin_out(toy, TRUTH, 0.0, 0.7).best
    assert best.tolist() == pytest.approx([1, 9 / 12, 0])
    told = words(toy, thin_out(toy, TRUTH, 0.0, 0.7), ("a", "b", "c"), 0.0, 0.7)
    assert told.endswith("things found (IoU above ½): 2 of 3   missed: c") and "kept by NMS at IoU 0.70: 3 " in told


def test_candidates_lead_to_the_proposals():
    torch.manual_seed(0)
    model = UPSNet.from_preset("tiny", 3, 2).eval()
    with torch.no_grad():
        trace = model.trace(torch.rand(3, 128, 128))
    limit, c = model.config.proposals_test, model.config
    found = candidates(model.instance_head, trace.proposals, (128, 128), limit)
    kept = thin_out(found, TRUTH, 0.0, c.rpn_nms, most=limit).kept
    assert torch.allclose(found.boxes[kept], trace.proposals.boxes[0], atol=1e-3)
    assert found.levels.bincount(minlength=7).tolist()[2:] == [100, 100, 100, 48, 12]


def test_the_widget_says_what_the_functions_say(toy):
    names = ("a", "b", "c")
    widget = play_nms(toy, TRUTH, names, torch.rand(3, 32, 32))
    assert widget.live.text == words(toy, thin_out(toy, TRUTH, 0.5, 0.7), names, 0.5, 0.7)
    before = widget.live.png
    widget.set(score=1.0)
    assert "score at least 1.00: 0   kept by NMS at IoU 0.70: 0" in widget.live.text and widget.live.png != before
    assert [label for label, _ in widget.controls["level"].options] == ["all", "P2", "P3"]


def test_an_image_without_things(toy):
    assert "0 of 0" in play_nms(toy, TRUTH[:0], (), torch.rand(3, 32, 32)).live.text
