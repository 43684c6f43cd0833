"""Runs are found, named and compared by their metrics.csv; what is no run yet is passed over."""

from pathlib import Path

import pytest

from upsnet_lite.files import UserError
from upsnet_lite.viz.play_training import columns, find_runs, play_runs, words


def write(folder: Path, head: str, *rows: str) -> None:
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text("\n".join([head, *rows]) + "\n")


@pytest.fixture
def root(tmp_path):
    head = "iteration,seconds,lr,total,loss_mask"
    write(tmp_path / "lesson" / "good", head, *(f"{n},{n / 2},0.01,{4 / n},{1 / n}" for n in range(1, 31)))
    write(tmp_path / "mine", head + ",loss_new", *(f"{n},{n},0.02,2,1,3" for n in range(1, 6)))
    write(tmp_path / "just_begun", head)
    write(tmp_path / "other", "name,value", "a,b")
    return tmp_path


def test_runs_are_named_by_their_folder(root):
    runs = find_runs(root)
    assert list(runs) == ["lesson/good", "mine"] and columns(list(runs.values())) == ["lr", "total", "loss_mask"]


def test_no_run_at_all(tmp_path):
    with pytest.raises(UserError, match="no run below .*upsnet-lite train"):
        find_runs(tmp_path)


def test_the_end_of_each_curve(root):
    told = words(find_runs(root), ["total", "loss_mask"], last=2).splitlines()
    assert told[1] == f"lesson/good, 30 rows: total {(4 / 30 + 4 / 29) / 2:.3g}, mask {(1 / 30 + 1 / 29) / 2:.3g}"
    assert told[2] == "mine, 5 rows: total 2, mask 1"


def test_the_widget_shows_what_is_chosen(root):
    widget = play_runs(root)
    assert widget.state() == dict(runs=("lesson/good", "mine"), keys=("total", "loss_mask"), smooth=9)
    assert widget.live.text == words(find_runs(root), ("total", "loss_mask"))
    before = widget.live.png
    widget.controls["runs"].value = ("mine",)
    assert widget.live.png != before and "lesson/good" not in widget.live.text
    widget.controls["keys"].value = ()
    assert widget.live.text == "choose at least one run and one column"
