"""Pictures of lesson 07, and the curves that are drawn while training runs."""

import warnings

import numpy as np
import pytest

from upsnet_lite.engine.clock import Clock
from upsnet_lite.engine.progress import display
from upsnet_lite.engine.recipe import RECIPES
from upsnet_lite.viz import lessons_training
from upsnet_lite.viz.lessons_training import LiveCurves, compare_totals, loss_bars, rate_curve, run_curves, show_batch


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


class Handle:
    """Stands for the notebook: keeps what it was told to show."""

    def __init__(self):
        self.shown = []

    def update(self, data, raw):
        self.shown.append(data)


def trained(every: float, steps: int) -> LiveCurves:
    live = LiveCurves(every)
    live.handle = Handle()
    clock = Clock(length=steps, minutes=None)
    for i in range(1, steps + 1):
        live.show(clock, i, {"loss_mask": 2.0 / i, "loss_semantic": 1.0}, 0.002)
    live.__exit__()
    return live


def test_live_curves_keep_every_iteration_and_end_with_the_last(monkeypatch):
    live = trained(every=0, steps=4)
    assert live.shares == [25, 50, 75, 100]
    assert live.table["total"] == [3, 2, pytest.approx(2 / 3 + 1), 1.5]
    assert live.table["rate × 1000"] == [2] * 4
    last = live.handle.shown[-1]
    assert "100 % of it done" in last["text/plain"] and last["text/html"].startswith("<img alt=")


@pytest.mark.parametrize("uptime", [3.0, 1e6])  # monotonic() counts from the start of the machine
def test_live_curves_draw_no_more_often_than_asked(monkeypatch, uptime):
    monkeypatch.setattr(lessons_training.time, "monotonic", lambda: uptime)
    live = trained(every=1000, steps=5)
    assert len(live.handle.shown) == 2  # the first iteration, and the end


def test_slow_drawing_is_done_less_often(monkeypatch):
    now = iter(range(0, 10_000, 7))
    monkeypatch.setattr(lessons_training.time, "monotonic", lambda: float(next(now)))
    live = LiveCurves(every=1)
    live.handle = Handle()
    live.shares, live.table = [1.0], {"total": [1.0]}
    live.draw()
    assert live.cost == 7  # so the next drawing waits for 140 seconds


def test_training_without_an_iteration_draws_nothing():
    live = LiveCurves()
    live.handle = Handle()
    live.__exit__()
    assert not live.handle.shown


def test_training_takes_it_as_a_display():
    live = LiveCurves()
    assert display(live) is live


def test_run_curves_stand_in_a_frame_of_the_whole_run(tmp_path):
    figure = run_curves(np.array([10.0, 20.0]), {"total": np.array([4.0, 3.0]), "rate × 1000": np.array([1.0, 2.0])})
    assert all(ax.get_xlim() == (0, 100) and ax.get_ylim()[0] == 0 for ax in figure.axes)
    assert figure.axes[0].get_ylim()[1] > 4  # the first value, too, is inside
    assert "20 % of it done" in figure.alt_text and "total 3" in figure.alt_text
    figure.save(tmp_path / "a.png")


def test_rate_curve_shows_each_recipe(tmp_path):
    figure = rate_curve({name: RECIPES[name] for name in ("tiny", "resnet50")})
    assert len(figure.axes) == 2 and "tiny: adamw" in figure.alt_text and "resnet50: sgd" in figure.alt_text
    for ax, name in zip(figure.axes, ("tiny", "resnet50"), strict=True):
        assert max(ax.lines[0].get_ydata()) == pytest.approx(RECIPES[name].lr, rel=0.01)
    figure.save(tmp_path / "a.png")


def test_loss_bars_say_every_value(tmp_path):
    runs = {"all": {"loss_mask": 0.5, "loss_box_reg": 0.0}, "off": {"loss_mask": 0.75, "loss_box_reg": 0.1}}
    figure = loss_bars(runs, ["loss_mask", "loss_box_reg"], "two networks")
    assert "all: mask 0.50, box_reg 0.00; off: mask 0.75, box_reg 0.10" in figure.alt_text
    figure.save(tmp_path / "a.png")


def test_show_batch_names_each_image(tmp_path):
    figure = show_batch([np.zeros((3, 8, 8), np.float32)] * 3, ["a", "b", "c"], "three")
    assert figure.alt_text == "three: a, b and c." and len(figure.axes) == 3
    figure.save(tmp_path / "a.png")


def test_compare_totals_is_logarithmic_and_names_each_run(tmp_path):
    figure = compare_totals({"good": np.array([9.0, 6, 5]), "rate": np.array([9.0, 2e6, 7])}, "totals")
    (axes,) = figure.axes
    assert axes.get_yscale() == "log" and {t.get_text() for t in axes.texts} == {"good", "rate"}
    assert "rate: highest 2e+06" in figure.alt_text
    figure.save(tmp_path / "a.png")
