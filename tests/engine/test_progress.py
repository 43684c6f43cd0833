"""What a run says of itself: its log, its clock, its live table; and when it stops."""

import csv
import io
import signal
import sys
import threading

import pytest

from upsnet_lite.engine import clock as clocks
from upsnet_lite.engine.clock import Clock, StopSignal
from upsnet_lite.engine.log import COLUMNS, Log
from upsnet_lite.engine.progress import Smooth, display, short

LOSSES = ["loss_mask", "loss_semantic"]


@pytest.fixture
def now(monkeypatch):
    """A clock that stands still until it is set: now[0] = seconds."""
    time = [100.0]
    monkeypatch.setattr(clocks.time, "monotonic", lambda: time[0])
    return time


# ---- log -------------------------------------------------------------------------------------------------------------


def write(out, start: int, iterations: range) -> None:
    with Log(out, LOSSES, start, tensorboard=False) as log:
        for n in iterations:
            log.write(n, 0.5 * n, 1e-3, 0.25, {"loss_mask": n, "loss_semantic": 0.5})


def read(out) -> list[list[str]]:
    with (out / "metrics.csv").open(newline="") as file:
        return list(csv.reader(file))


def test_log_has_a_row_per_iteration(tmp_path):
    write(tmp_path, 0, range(1, 3))
    assert read(tmp_path) == [
        [*COLUMNS, *LOSSES],
        ["1", "0.50", "1.000e-03", "0.250", "1.50000", "1.00000", "0.50000"],
        ["2", "1.00", "1.000e-03", "0.250", "2.50000", "2.00000", "0.50000"],
    ]


def test_log_of_a_resumed_run_is_cut_back_to_its_checkpoint(tmp_path):
    write(tmp_path, 0, range(1, 13))
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("1")  # the beginning of row 13: a kill wrote no more
    write(tmp_path, 10, range(11, 12))
    assert [row[0] for row in read(tmp_path)[1:]] == [str(n) for n in range(1, 12)]


def test_log_of_a_new_run_starts_empty(tmp_path):
    write(tmp_path, 0, range(1, 5))
    write(tmp_path, 0, range(1, 2))
    assert len(read(tmp_path)) == 2


# ---- clock -----------------------------------------------------------------------------------------------------------


def test_clock_of_iterations(now):
    clock = Clock(length=20, minutes=None, iteration=10, seconds=50.0)
    now[0] += 4
    assert (clock.seconds(), clock.progress(12), clock.speed(12), clock.left(12)) == (54, 0.6, 0.5, 16)
    assert clock.lap() == 4
    now[0] += 1
    assert clock.lap() == 1


def test_clock_of_minutes(now):
    clock = Clock(length=None, minutes=2, iteration=10, seconds=60.0)
    assert (clock.progress(10), clock.left(10)) == (0.5, 60)
    now[0] += 90
    assert (clock.progress(10), clock.left(10)) == (1.25, 0)


# ---- stopping --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted_and_the_second_stops(number):
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), StopSignal() as stop:
        assert not stop.came
        signal.raise_signal(number)
        assert stop.came
        signal.raise_signal(number)
    assert signal.getsignal(number) == before


def test_in_another_thread_signals_are_left_alone():
    found = []

    def body():
        with StopSignal() as stop:
            found.append((stop.came, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert found == [(False, signal.getsignal(signal.SIGINT))]


# ---- display ---------------------------------------------------------------------------------------------------------


def test_smooth_is_the_mean_at_the_start_and_forgets_later():
    smooth = Smooth(decay=0.5)
    assert smooth.update({"a": 4.0}) == {"a": 4.0}
    assert smooth.update({"a": 1.0}) == {"a": pytest.approx((0.5 * 4 + 1) / 1.5)}
    for _ in range(30):
        found = smooth.update({"a": 1.0})
    assert found["a"] == pytest.approx(1.0)


def test_short():
    assert [short(s) for s in (-3, 0, 59.6, 61, 3725)] == ["0:00", "0:00", "1:00", "1:01", "1:02:05"]


@pytest.mark.parametrize("kind", ["lines", "terminal", "notebook"])
def test_displays_show_the_losses_the_rate_and_the_time_left(kind, now, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    clock = Clock(length=20, minutes=None)
    now[0] += 4
    with display(kind) as screen:
        screen.show(clock, 10, {"loss_mask": 1.25, "loss_semantic": 3.0}, 2e-3)
    captured = capsys.readouterr()
    shown = captured.out + captured.err
    assert "50%" in shown and "it 10" in shown and "0:04 left" in shown
    assert "4.25" in shown, "the total"
    assert "loss_semantic" in shown or "semantic 3.000" in shown


def test_silent_prints_nothing_and_auto_chooses_by_where_it_runs(monkeypatch, capsys, now):
    with display("silent") as screen:
        screen.show(Clock(1, None), 1, {"loss_mask": 1.0}, 1e-3)
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert type(display("auto")).__name__ == "Lines"
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    assert type(display("auto")).__name__ == "Notebook"
