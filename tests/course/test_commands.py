"""`exercise` and `course` as they are typed, in a project with one exercise."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from upsnet_lite import cli
from upsnet_lite.course import commands, learner, paths
from upsnet_lite.course.score import by_id, source
from upsnet_lite.files import read_json

EXERCISE = paths.exercise("x_mask_y_mask")
GROUPS = {"exercise": commands.exercise, "course": commands.course}
COMMANDS = [f"{group} {c.name}" for group, typer in GROUPS.items() for c in typer.registered_commands]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Exercise 5 alone, in a folder of its own, which is the current one."""
    pytest.importorskip("nbgrader")
    made = EXERCISE.path("source")
    target = tmp_path / paths.FOLDER / "source" / EXERCISE.folder
    target.mkdir(parents=True)
    shutil.copy(made, target)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(capfd, monkeypatch):
    """run("exercise list") -> (exit code, stdout, stderr), in this process."""
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("TERM", "dumb")

    def call(line: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["upsnet-lite", *line.split()])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capfd.readouterr()
        return stop.value.code or 0, captured.out, captured.err

    return call


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(run, command):
    code, out, _ = run(f"{command} --help")
    assert code == 0 and f"Example:  upsnet-lite {command}" in out


def test_the_commands_of_the_issue_exist():
    wanted = {f"exercise {c}" for c in ("list", "open", "check", "hint", "progress", "solution")}
    assert set(COMMANDS) == wanted | {f"course {c}" for c in ("release", "grade", "report")}


def test_a_learner_from_the_first_look_to_full_points(run, project, monkeypatch):
    assert run("course release")[0] == 0
    mine = EXERCISE.path("mine")
    code, _, err = run("exercise check 5")
    assert code == 1 and "exercise open 5" in err

    started = []
    monkeypatch.setattr(cli, "open_lab", lambda *arguments: started.append(arguments))
    assert run("exercise open 5 --no-browser")[0] == 0
    assert started == [(mine.relative_to(project), 8888, False)] and mine.is_file()

    code, out, _ = run("exercise check 5")
    assert code == 1 and out.count("not done yet") == 3 and "0 of 4" in out

    made = json.loads(mine.read_text())
    solved = by_id(read_json(EXERCISE.path("source")), "solution")
    for name in ("edges", "x_mask"):
        by_id(made, "solution")[name]["source"] = source(solved[name])
    mine.write_text(json.dumps(made))
    code, out, _ = run("exercise check 5")
    assert code == 1 and "4 of 4" in out and "6 of 10" in out and out.count("not done yet") == 1
    assert re.search(r"x_mask_y_mask.*█.*6 of 10", run("exercise progress")[1])

    run("exercise open 5 --no-browser")
    assert json.loads(mine.read_text()) == made, "the learner's work is never overwritten"

    by_id(made, "solution")["y_mask"]["source"] = source(solved["y_mask"])
    mine.write_text(json.dumps(made))
    assert run("exercise check 5")[0] == 0
    assert "10 of 10" in run("exercise list")[1]


def test_hints_come_one_at_a_time(run, project):
    told = [run("exercise hint 5 y_mask")[1] for _ in range(4)]
    assert ["hint 1 of 3" in told[0], "hint 2 of 3" in told[1], "hint 3 of 3" in told[2]] == [True] * 3
    assert told[3] == told[2] and len(set(told)) == 3
    assert "edges, hint 1 of 3" in run("exercise hint 5")[1], "the first part that is not right yet"
    assert learner.progress()[EXERCISE.folder]["hints"] == {"y_mask": 3, "edges": 1}
    assert "no part 'z'; it has edges, x_mask, y_mask" in run("exercise hint 5 z")[2]


def test_every_exercise_has_three_hints_for_each_part_that_is_written():
    for e in paths.exercises():
        for part, hints in learner.hints(e).items():
            assert len(hints) == 3 and all(len(h) > 10 for h in hints), (e.name, part)
        automatic = {n for n, c in by_id(learner.notebook(e, "source"), "solution").items() if c["cell_type"] == "code"}
        assert automatic <= set(learner.hints(e)), e.name


def test_a_solution_is_shown_on_request_alone(run, project, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    code, out, _ = run("exercise solution 5")
    assert code == 1 and "math.floor" not in out
    code, out, _ = run("exercise solution 5 --yes")
    assert code == 0 and "math.floor" in out and "SOLUTION" not in out


@pytest.mark.parametrize(
    "state",
    [
        "{",
        "[]",
        '{"version": 2, "exercises": {}}',
        '{"5_x_mask_y_mask": []}',
        '{"5_x_mask_y_mask": {"points": {"test_edges": null}}}',
        '{"5_x_mask_y_mask": {"points": []}}',
        '{"5_x_mask_y_mask": {"hints": {"edges": -5}}}',
    ],
)
@pytest.mark.parametrize("command", ["progress", "list", "hint 5", "check 5"])
def test_a_broken_state_is_one_line_that_says_what_to_do(run, project, state, command):
    file = learner.progress_file()
    file.parent.mkdir(parents=True)
    file.write_text(state)
    code, out, err = run(f"exercise {command}")
    assert code == 1 and not out and err.count("\n") == 1
    assert str(file) in err and "move it away" in err
    assert file.read_text() == state


def test_points_are_no_more_than_there_are(run, project):
    learner.remember(EXERCISE, "points", {"test_edges": 1000, "test_gone": 5})
    assert "2 of 10" in run("exercise progress")[1]


def test_what_cannot_be_kept_is_shown_all_the_same(run, project, monkeypatch):
    run("course release")
    learner.opened(EXERCISE)
    learner.progress_file().mkdir()
    monkeypatch.setattr(learner, "progress", dict)  # it appears while the check runs
    code, out, err = run("exercise check 5")
    assert code == 1 and "0 of 10" in out and "progress.json: Is a directory" in err


@pytest.mark.parametrize("columns", [30, 40, 60, 100])
def test_bars_of_a_narrow_terminal_say_the_same(run, project, monkeypatch, columns):
    def full(points: float) -> tuple[int, int]:
        learner.remember(EXERCISE, "points", {"test_x_mask": points})
        monkeypatch.setenv("COLUMNS", str(columns))
        row = [line for line in run("exercise progress")[1].splitlines() if "█" in line or "░" in line][0]
        return row.count("█"), row.count("░")

    widths = {full(n) for n in (0, 2, 4)}
    assert len({a + b for a, b in widths}) == 1 and (len(widths) == 3 or columns < 40)
    assert all(b for _, b in widths), "4 of 10 is not all"


def test_where_there_is_no_exercise_one_line_says_so(run, tmp_path, monkeypatch):
    (tmp_path / paths.FOLDER).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for line in ("exercise list", "exercise progress", "exercise open 1", "course release", "course grade ."):
        code, out, err = run(line)
        assert code == 1 and not out and "holds no exercise" in err and err.count("\n") == 1


def test_other_folders_do_no_harm(run, project):
    source = project / paths.FOLDER / "source"
    shutil.copytree(source / EXERCISE.folder, source / f"{EXERCISE.folder} - Copy")
    (source / "3b_x").mkdir()
    (source / "3b_x" / "x.ipynb").write_text("{}")
    assert [e.folder for e in paths.exercises()] == [EXERCISE.folder]
    assert run("course release --exercise 5 --exercise x_mask_y_mask") == (
        0,
        f"1 exercises written to {project / paths.FOLDER / 'release'}\n",
        "",
    )


def test_a_copy_that_is_none_says_how_to_begin_again(run, project):
    run("course release")
    EXERCISE.path("mine").mkdir(parents=True)
    for command in ("check", "open"):
        assert (
            "is no file; to begin again, move it away and run: upsnet-lite exercise open 5"
            in (run(f"exercise {command} 5")[2])
        )
    EXERCISE.path("release").write_text('{"cells": []}')
    assert "has no cells" in run("exercise progress")[2]


def test_a_terminal_without_bars_gets_something(project):
    env = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(Path(cli.__file__).parents[1])}
    code = "import sys; from upsnet_lite.cli import main; sys.argv[1:] = ['exercise', 'progress']; main()"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0 and "0 of 10" in done.stdout and not done.stderr


def test_what_a_user_gets_wrong_is_one_line(run, project, tmp_path):
    for line, says in [
        ("exercise open 9", "no exercise '9'; there are 5_x_mask_y_mask"),
        ("course grade nowhere", "nowhere is no folder"),
        ("course report nowhere", "no gradebook"),
    ]:
        code, _, err = run(line)
        (told,) = [t for t in err.splitlines() if t.strip()]
        assert code == 1 and says in told
    EXERCISE.path("mine").parent.mkdir(parents=True)
    EXERCISE.path("mine").write_text("{")
    run("course release")
    assert "is no notebook" in run("exercise check 5")[2]
    shutil.rmtree(tmp_path / paths.FOLDER / "source")
    assert "your teacher has it" in run("exercise solution 5 --yes")[2]
    assert "released and graded from their sources" in run("course release")[2]
