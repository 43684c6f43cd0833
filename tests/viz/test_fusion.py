"""The state of the knobs and what it makes of a scene. Oracles: the network's own trace, its heads, maps by hand."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from upsnet_lite.datasets.shapes import write_shapes
from upsnet_lite.files import UserError
from upsnet_lite.instance_head import Detections
from upsnet_lite.panoptic_head import PanopticHead
from upsnet_lite.viz.fusion import (
    FusionState,
    channels,
    code,
    column,
    fuse,
    largest,
    look_at,
    maps,
    reasons,
    scene,
    settled,
    surest,
)

TOP_LEFT = (1.0, 2.0, 30.0, 40.5)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    write_shapes(folder, train=1, val=4, size=128, seed=0)
    return folder


@pytest.fixture(scope="module")
def look(root):
    """The shipped model and the first drawn image in which it finds several instances."""
    for n in range(4):
        found = scene("tiny-shapes", root, n)
        if len(found.trace.C) >= 3:
            return found
    raise AssertionError("no image with three instances")


@pytest.fixture(scope="module")
def before(look):
    return fuse(look, FusionState.of(look.model))


# ------------------------------------------------------------------------------------------------ the network's own


def test_untouched_it_is_the_network(look, before):
    trace = look.trace
    assert torch.equal(before.winner, trace.winner) and torch.equal(before.panoptic, trace.panoptic)
    assert before.segments_info == trace.segments_info
    assert torch.equal(before.chosen.boxes, trace.B) and torch.equal(before.chosen.mask_logits, trace.Y)
    assert before.kept == before.pruned and settled(before.state, look) == before.state


def test_pq_is_that_of_the_image(look, before):
    counted = {k: sum(getattr(c, k) for c in before.quality.per_class) for k in ("tp", "fp", "fn")}
    assert counted["tp"] + counted["fn"] == len([s for s in look.truth["segments_info"] if not s.get("iscrowd")])
    perfect = replace(look, truth=dict(panoptic=before.panoptic, segments_info=before.segments_info))
    assert fuse(perfect, before.state).quality.pq == pytest.approx(100)
    assert fuse(replace(look, truth=None), before.state).quality is None


# ------------------------------------------------------------------------------------------------------- the knobs


def test_a_removed_instance_leaves_unknown_and_comes_back_exactly(look, before):
    for k, i in enumerate(before.kept):
        own = before.winner == look.model.config.num_stuff + k
        without = fuse(look, replace(before.state, off=(i,)))
        assert (without.panoptic[own] == 0).float().mean() > 0.5, f"instance {i}"
        assert without.kept == tuple(j for j in before.kept if j != i), "nobody takes its place"
        assert without.quality.pq < before.quality.pq
        back = fuse(look, replace(without.state, off=()))
        assert torch.equal(back.panoptic, before.panoptic) and back.segments_info == before.segments_info


def test_without_the_unknown_channel_nothing_is_unknown(look, before):
    i = largest(before)
    without = fuse(look, replace(before.state, off=(i,), unknown=False))
    assert without.winner.max() < look.model.config.num_stuff + len(without.kept)
    assert (fuse(look, replace(without.state, unknown=True)).winner == without.winner.max() + 1).any()


def test_thresholds_let_in_and_keep_out(look, before):
    found = before.detections
    all_in = fuse(look, replace(before.state, score=0.0, nms=1.0, overlap=1.0))
    assert len(all_in.kept) == sum(bool((y > 0).any()) for y in found.mask_logits)
    none = fuse(look, replace(before.state, score=1.01))
    assert none.kept == () and not any(s["isthing"] for s in none.segments_info)
    for score in (0.05, 0.3, 0.9):
        assert all(found.scores[i] >= score for i in fuse(look, replace(before.state, score=score)).kept)


def test_reasons_name_the_step_that_drops(look):
    """Four boxes by hand: a good one, its double (NMS), one over it of the same class (overlap), a weak one (score)."""
    y = torch.full((5, 28, 28), 5.0)
    y[4] = -5
    boxes = torch.tensor([[0.0, 0, 40, 40], [1, 1, 40, 40], [0, 20, 40, 60], [80, 80, 99, 99], [60, 10, 90, 30]])
    scores = torch.tensor([0.9, 0.8, 0.7, 0.5, 0.95])
    trace = replace(look.trace, detections=Detections(boxes, torch.zeros(5, dtype=torch.int64), scores, y))
    by_hand = replace(look, trace=trace)
    fused = fuse(by_hand, FusionState(off=(0,)))
    assert reasons(by_hand, fused) == {0: "off", 1: "NMS", 2: "overlap", 3: "score", 4: "no mask"}
    assert fused.pruned == (0,) and fused.kept == ()


def test_y_scale_0_leaves_x_alone(look, before):
    fused = fuse(look, replace(before.state, y_scale=0.0))
    assert fused.kept == before.kept
    head, trace = look.model.panoptic_head, look.trace
    assert torch.equal(fused.winner, head.predict(trace.X, trace.B, trace.C, 0 * trace.Y))


def test_a_moved_box_moves_the_instance(look, before):
    i = largest(before)
    fused = fuse(look, replace(before.state, boxes=((i, TOP_LEFT),), outside=float("-inf")))
    won = torch.nonzero(fused.winner == look.model.config.num_stuff + fused.kept.index(i))
    assert i in fused.kept
    if len(won):
        assert won[:, 0].min() >= 2 and won[:, 0].max() < 41 and won[:, 1].min() >= 1 and won[:, 1].max() < 30
    assert not torch.equal(fused.winner, before.winner)
    assert torch.equal(look.trace.detections.boxes, before.detections.boxes), "the scene itself is left alone"


def test_what_says_nothing_is_dropped_from_the_state(look):
    own = tuple(round(v, 1) for v in look.trace.detections.boxes[0].tolist())
    loud = FusionState(off=(99, 1, 1), boxes=((99, TOP_LEFT), (1, TOP_LEFT), (0, own)))
    assert settled(loud, look) == FusionState(off=(1,), boxes=((1, TOP_LEFT),))


# ------------------------------------------------------------------------------------------------ pixel and instance


@pytest.mark.parametrize("outside", [0.0, float("-inf")])
@pytest.mark.parametrize("unknown", [True, False])
def test_a_column_is_z_at_the_pixel(look, before, outside, unknown):
    i = before.kept[0]
    state = replace(before.state, outside=outside, unknown=unknown, y_scale=1.5, boxes=((i, TOP_LEFT),))
    fused = fuse(look, state)
    chosen = fused.chosen
    head = PanopticHead(look.model.config.num_stuff, unknown, outside)
    whole = head(look.trace.X, chosen.boxes, chosen.classes, chosen.mask_logits)
    for row, col in [(0, 0), (127, 127), (2, 1), (40, 29), (41, 29), (40, 30), (64, 64), (20, 15)]:
        found = column(look, fused, row, col)
        assert torch.allclose(torch.tensor(found.logits), whole.z[:, row, col], atol=1e-5)
        assert found.winner == int(fused.winner[row, col]) and sum(found.softmax) == pytest.approx(1)
        parts = torch.tensor(list(found.parts.values()))
        assert torch.allclose(parts[:, 0], whole.x_mask[:, row, col], atol=1e-5)
        assert torch.allclose(parts[:, 1], whole.y_mask[:, row, col], atol=1e-5)
        assert len(found.names) == len(found.colors) == len(found.logits)
        assert (found.names[-1] == "unknown") == unknown == (found.unknown is not None)


def test_maps_of_an_instance_in_z_and_out_of_it(look, before):
    stuff, trace = look.model.config.num_stuff, look.trace
    for k, i in enumerate(before.kept):
        expected = torch.stack([trace.x_thing[trace.C[k]], trace.x_mask[k], trace.y_mask[k], trace.z[stuff + k]])
        assert torch.equal(maps(look, before, i), expected)
        off = fuse(look, replace(before.state, off=(i,)))
        assert torch.equal(maps(look, off, i), expected)


def test_names_and_colours_stay_when_another_goes(look, before):
    names, colors = channels(look, before)
    stuff = look.model.config.num_stuff
    assert len(set(names)) == len(names)
    for k, i in enumerate(before.kept):
        fewer = channels(look, fuse(look, replace(before.state, off=(i,))))
        assert fewer[0] == names[: stuff + k] + names[stuff + k + 1 :]
        assert fewer[1] == colors[: stuff + k] + colors[stuff + k + 1 :]


def test_where_to_begin(look, before):
    i = largest(before)
    row, col = surest(look, before, i)
    assert before.panoptic[row, col] == before.segment_of[i]
    empty = fuse(look, replace(before.state, score=1.01))
    assert largest(empty) == -1 and surest(look, empty, -1) == (64, 64)


# ------------------------------------------------------------------------------------------------------------ as code


@pytest.mark.parametrize(
    "state",
    [
        FusionState(),
        FusionState(off=(1,), unknown=False),
        FusionState(0.3, 0.7, 0.5, 1.5, outside=float("-inf"), boxes=((0, TOP_LEFT),)),
    ],
    ids=["untouched", "instance and unknown", "the others"],
)
def test_three_lines_give_the_same_map(look, state):
    lines = code(look, state)
    assert len(lines.splitlines()) == 3
    own: dict = {}
    exec(lines, own)
    expected = fuse(look, state)
    assert own["fused"].state == state and torch.equal(own["fused"].panoptic, expected.panoptic)
    assert own["fused"].segments_info == expected.segments_info


def test_three_lines_for_a_file(tmp_path, look):
    path = tmp_path / "mine.png"
    Image.fromarray((255 * look.image).permute(1, 2, 0).byte().numpy()).save(path)
    own: dict = {}
    exec(code(scene("tiny-shapes", path), FusionState(score=0.5)), own)
    assert own["look"].truth is None and own["look"].name == "mine.png" and own["fused"].quality is None


# ---------------------------------------------------------------------------------------------------------- mistakes


def test_mistakes_are_one_line(root, tmp_path, look):
    with pytest.raises(UserError, match="4 images in 'val', none with the index 9"):
        scene("tiny-shapes", root, 9)
    with pytest.raises(UserError, match="missing.png is missing"):
        scene("tiny-shapes", tmp_path / "missing.png")
    with pytest.raises(UserError, match="no such checkpoint"):
        scene("huge-shapes", root, 0)


def test_an_image_without_any_instance(look):
    blank = look_at(look.model, torch.full((3, 96, 80), 0.5), "", "blank")
    fused = fuse(blank, FusionState(score=1.01))
    found = column(blank, fused, 95, 79)
    assert fused.kept == () and found.parts == {} and len(found.logits) == look.model.config.num_stuff + 1
