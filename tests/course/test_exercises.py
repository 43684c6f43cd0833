"""Every exercise: the stub scores 0, the solution full points, and a planted mistake is named.

For one exercise alone: pytest tests/course/test_exercises.py -k x_mask_y_mask
"""

import json
import re
import subprocess
import sys
from copy import deepcopy
from importlib import import_module

import pytest

from upsnet_lite.course import paths
from upsnet_lite.course.score import about, by_id, score, source
from upsnet_lite.course.submission import mended

pytest.importorskip("nbgrader")
EXERCISES = [e for e in paths.exercises() if e.path("source").is_file()]


def planted(name: str) -> list:
    try:
        return import_module(f"wrong.{name}").WRONG
    except ModuleNotFoundError:
        return []


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setenv("UPSNET_COURSE_QUICK", "1")


@pytest.fixture(params=EXERCISES, ids=lambda e: e.name)
def exercise(request) -> paths.Exercise:
    return request.param


@pytest.fixture
def master(exercise) -> dict:
    return json.loads(exercise.path("source").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def generated(tmp_path_factory):
    """generated(exercise) -> the release that nbgrader makes of the source now."""
    from upsnet_lite.course.release import release

    made: dict = {}

    def get(exercise) -> dict:
        if exercise not in made:
            (path,) = release([exercise], tmp_path_factory.mktemp("release"))
            made[exercise] = json.loads(path.read_text(encoding="utf-8"))
        return deepcopy(made[exercise])

    return get


def automatic(parts):
    return [p for p in parts if p.points is not None]


def test_the_stub_scores_nothing(master, generated, exercise):
    released = generated(exercise)
    for notebook in (released, mended(released, master, released)[0]):
        parts = automatic(score(notebook))
        assert parts and [p.points for p in parts] == [0] * len(parts), parts
        assert all(p.message for p in parts)


def test_the_solution_scores_everything(master):
    parts = automatic(score(master))
    assert [p.points for p in parts] == [p.max_points for p in parts], parts


@pytest.mark.parametrize(
    "exercise, wrong", [pytest.param(e, w, id=f"{e.name}: {w.name}") for e in EXERCISES for w in planted(e.name)]
)
def test_a_planted_mistake_loses_points_and_is_named(exercise, wrong):
    notebook = json.loads(exercise.path("source").read_text(encoding="utf-8"))
    by_id(notebook, "solution")[wrong.solution]["source"] = wrong.code
    at = next(i for i, c in enumerate(notebook["cells"]) if about(c).get("grade_id") == wrong.loses)
    lost = score({"cells": notebook["cells"][: at + 1]})[-1]
    assert lost.points == 0, "it was not noticed"
    assert re.search(wrong.says, lost.message), lost.message


def test_at_least_three_mistakes_are_planted(exercise):
    assert len(planted(exercise.name)) >= 3


def test_points(exercise, master):
    points = [about(c)["points"] for c in master["cells"] if about(c).get("grade")]
    assert sum(points) == (20 if exercise.name == "capstone" else 10) and all(points)


def test_the_committed_release_is_the_generated_one(exercise, generated):
    committed = json.loads(exercise.path("release").read_text(encoding="utf-8"))
    assert committed == generated(exercise), "upsnet-lite course release"


REGION = r"### BEGIN (?:SOLUTION|HIDDEN TESTS)\n(.*?)### END (?:SOLUTION|HIDDEN TESTS)"


def code(notebook: dict) -> str:
    return "\n".join(source(c) for c in notebook["cells"] if c["cell_type"] == "code")  # a hint may tell a line


def lines(text: str) -> set[str]:
    return {line.strip() for line in text.splitlines() if len(line.strip()) > 20}


def test_no_solution_and_no_hidden_test_is_released(exercise, master, generated):
    released = code(generated(exercise))
    assert "SOLUTION" not in released and "HIDDEN" not in released
    secret = lines("\n".join(re.findall(REGION, code(master), re.DOTALL)))
    secret -= lines(re.sub(REGION, "", code(master), flags=re.DOTALL))
    assert secret and not secret & lines(released)


ELSEWHERE = """
import json, sys
from importlib.machinery import PathFinder
class Hide(PathFinder):  # as if these were not installed
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        hidden = name.split(".")[0] in ("nbgrader", "nbconvert", "IPython")
        return None if hidden else super().find_spec(name, path, target)
sys.meta_path = [Hide if finder is PathFinder else finder for finder in sys.meta_path]
from upsnet_lite.course.score import score
print("@", json.dumps([(p.grade_id, p.points, p.max_points, p.message) for p in score(json.load(sys.stdin))]))
"""


def test_visible_checks_run_where_nbgrader_is_missing(exercise, master, generated):
    made = generated(exercise)
    for name, cell in by_id(made, "solution").items():
        cell["source"] = source(by_id(master, "solution")[name])
    command = [sys.executable, "-c", ELSEWHERE]
    result = subprocess.run(command, input=json.dumps(made), capture_output=True, text=True, cwd=paths.root())
    assert "@" in result.stdout, result.stderr
    parts = json.loads(result.stdout.rpartition("@")[2])
    assert parts and all(points in (None, most) for _, points, most, _ in parts), parts
