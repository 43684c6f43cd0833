"""Pictures of lesson 08: every figure draws without a warning and its alt text says the figures."""

import warnings

import pytest

from upsnet_lite.viz.lessons_evaluation import difference_chart, oracle_table, threshold_curves


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_threshold_curves_share_one_scale_and_mark_the_value_in_use(tmp_path):
    sweeps = {
        "score": {"head": {0.2: 50.0, 0.8: 70.0}, "merge": {0.2: 49.0, 0.8: 60.0}},
        "area": {"head": {1: 65, 9: 66}},
    }
    figure = threshold_curves(sweeps, {"score": 0.6, "area": 4})
    assert "score, head: best 70.0 at 0.8" in figure.alt_text and "area, head: best 66.0 at 9" in figure.alt_text
    first, second = figure.axes
    assert first.get_ylim() == second.get_ylim()
    assert first.get_ylim()[0] < 49 and first.get_ylim()[1] > 70
    assert [line.get_xdata()[0] for line in second.lines][-1] == 4
    assert {t.get_text() for t in first.texts} == {"head", "merge"}
    figure.save(tmp_path / "a.png")


def test_flat_curves_draw(tmp_path):
    threshold_curves({"score": {"head": {0.2: 50.0, 0.8: 50.0}}}, {"score": 0.6}).save(tmp_path / "a.png")


def test_oracle_table_fills_what_is_true(tmp_path):
    rows = [((), dict(PQ=50.0, PQ_th=40.0, PQ_st=60.0)), (("boxes", "masks"), dict(PQ=45.0, PQ_th=30.0, PQ_st=60.0))]
    figure = oracle_table(rows, "oracles")
    assert "nothing from the ground truth: PQ 50.0" in figure.alt_text
    assert "boxes and masks from the ground truth: PQ 45.0" in figure.alt_text
    dots = [line.get_markerfacecolor() != "white" for line in figure.axes[0].lines]
    assert dots == [False] * 4 + [True, False, True, False]
    assert any("-5.0" in t.get_text() for t in figure.axes[0].texts)
    figure.save(tmp_path / "a.png")


def test_differences_have_zero_in_the_middle(tmp_path):
    figure = difference_chart({"a": (1.0, -0.5, 2.0), "b": (-3.0, -4.0, -1.0)}, "gain")
    low, high = figure.axes[0].get_xlim()
    assert low == -high and high > 4
    assert "a: +1.0, between -0.5 and +2.0" in figure.alt_text
    told = {t.get_text(): t.get_window_extent() for t in figure.axes[0].texts}
    assert set(told) == {"a", "b", "+1.0  (-0.5 … +2.0)", "-3.0  (-4.0 … -1.0)"}
    bars = figure.axes[0].get_window_extent()
    assert all(box.x1 <= bars.x0 or bars.x1 <= box.x0 and box.x1 <= figure.bbox.x1 for box in told.values())
    figure.save(tmp_path / "a.png")
    difference_chart({"same": (0.0, 0.0, 0.0)}, "gain").save(tmp_path / "b.png")
