"""bench at tiny sizes: tables name their contenders, report whether they agree, and add up. No time is judged."""

import json

import pytest
import torch

from upsnet_lite import bench
from upsnet_lite.files import UserError


@pytest.fixture
def tiny(monkeypatch):
    """The benchmarks at sizes that take a moment."""
    sizes = {
        "deform": lambda: bench.deform((1, 4, 6, 7), 5, repeats=2),
        "roi_align": lambda: bench.roi((2, 3, 9, 8), rois=5, size=3, repeats=2),
        "fusion": lambda: bench.fusion((31, 45), stuff=3, things=4, instances=6, repeats=2),
        "import": lambda: bench.imports(repeats=1),  # six processes: the only one that takes seconds
        "iteration": lambda: bench.iteration(images=1, size=64, repeats=1),
        "widgets": lambda: bench.widgets(instances=1, images=2, repeats=1),
    }
    assert list(sizes) == list(bench.BENCHMARKS)
    monkeypatch.setattr(bench, "BENCHMARKS", sizes)


@pytest.mark.parametrize("name, agreeing", [("deform", 5), ("roi_align", 2), ("fusion", 1)])
def test_contenders_agree(tiny, name, agreeing):
    result = bench.BENCHMARKS[name]()
    first, last = result.seconds.values()
    assert result.value == pytest.approx(first / last)
    assert len(result.agreement) == agreeing and max(result.agreement.values()) < 1e-4
    if name == "fusion":
        assert result.agreement == {"pixels that differ": 0}


def test_a_difference_would_be_reported(monkeypatch):
    monkeypatch.setattr(
        bench, "deform_conv2d", lambda x, *rest, **named: 2 * bench.torchvision.ops.deform_conv2d(x, *rest, **named)
    )
    assert min(bench.deform((1, 4, 6, 7), 5, repeats=1).agreement.values()) > 0.1
    monkeypatch.setattr(bench.PanopticHead, "predict", lambda self, x, *_: torch.full(x.shape[1:], -1))
    assert bench.fusion((31, 45), 3, 4, 6, repeats=1).agreement["pixels that differ"] == 31 * 45


def test_contenders_take_turns_after_one_that_does_not_count():
    order = []
    seconds = bench.side_by_side({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, repeats=2)
    assert order == ["a", "b"] * 3 and list(seconds) == ["a", "b"]


def test_a_stage_within_another_counts_as_its_own(monkeypatch):
    now = iter([0.0, 1.0, 3.0, 6.0, 10.0, 15.0])  # made, outer begins, inner begins and ends, outer ends
    monkeypatch.setattr(bench.time, "perf_counter", lambda: next(now))
    watch = bench.Stopwatch()
    with watch.stage("outer"), watch.stage("inner"):
        pass
    assert dict(watch.seconds) == {"outer": 2.0 + 4.0, "inner": 3.0}


def test_every_stage_of_an_iteration_is_seen(tiny):
    result = bench.BENCHMARKS["iteration"]()
    stages = {"backbone", "semantic", "rpn", "box", "mask", "panoptic", "backward", "optimiser", "the rest"}
    assert set(result.seconds) == stages and min(result.seconds.values()) > 0
    assert result.value == pytest.approx(1 / sum(result.seconds.values()))


def test_every_control_of_the_explorer_is_timed(tiny):
    pytest.importorskip("anywidget")
    from upsnet_lite.viz.explorer import KNOBS

    result = bench.BENCHMARKS["widgets"]()
    assert {f"explorer: {knob}" for knob in KNOBS} < set(result.seconds) and min(result.seconds.values()) > 0
    assert result.value == pytest.approx(1000 * max(result.seconds.values())) and result.goal == "<= 150"


def test_the_tables_name_the_machine_and_are_written_as_json(tiny, tmp_path, capsys):
    bench.main(json=tmp_path / "new" / "bench.json")
    out = capsys.readouterr().out
    assert all(word in out for word in ("processor", "cores", "torch", "command", "date", "goal"))
    content = json.loads((tmp_path / "new" / "bench.json").read_text())
    assert set(content) == {"machine", "results"} and list(content["results"]) == list(bench.BENCHMARKS)
    assert all(f"{1000 * s:.1f} ms" in out for r in content["results"].values() for s in r["seconds"].values())


def test_only_one_and_none_that_is_unknown(tiny, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["upsnet-lite"])  # the table prints the command
    (result,) = bench.main(only="roi_align")
    out = capsys.readouterr().out
    assert "roi_align" in out and "fusion" not in out and result.title.startswith("roi_align")
    with pytest.raises(UserError, match="unknown benchmark 'speed'; choose one of deform, roi_align, fusion"):
        bench.main(only="speed")
