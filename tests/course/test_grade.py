"""A class of twelve, half of it hostile, graded in one go: every part has points and a reason, and nothing is left."""

import csv
import json
import os
import re
import time
from contextlib import suppress
from pathlib import Path

import pytest

from upsnet_lite.course import grade, paths
from upsnet_lite.course.isolated import Limits
from upsnet_lite.course.score import by_id
from upsnet_lite.files import UserError

pytest.importorskip("nbgrader")
EXERCISE = paths.exercise("x_mask_y_mask")
PARTS = ("test_edges", "test_x_mask", "test_y_mask")
FULL = {"test_edges": 2, "test_x_mask": 4, "test_y_mask": 4}
SECONDS = 12  # for a cell; a right one takes one
SLEEP = str(200_000 + os.getpid())  # seconds by which a process that was left over is found


def notebook() -> dict:
    return json.loads(EXERCISE.path("source").read_text(encoding="utf-8"))


def with_code(solution: str, line: str) -> dict:
    """The right notebook, but this line is the first one of that function, or stands before it."""
    made = notebook()
    cell = by_id(made, "solution")[solution]
    text = "".join(cell["source"])
    cell["source"] = text.replace("    ### BEGIN SOLUTION", f"    {line}") if "\n" not in line else f"{line}\n{text}"
    return made


def without(grade_id: str) -> dict:
    made = notebook()
    made["cells"].remove(by_id(made, "grade")[grade_id])
    return made


def edited(grade_id: str) -> dict:
    made = notebook()
    by_id(made, "grade")[grade_id]["source"] = "print('all is well')"
    return made


def like_released(made: dict) -> dict:
    """As a learner has it: without the hidden tests."""
    for cell in by_id(made, "grade").values():
        text = cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])
        cell["source"] = re.sub(r"\n### BEGIN HIDDEN.*### END HIDDEN TESTS", "", text, flags=re.DOTALL)
    return made


LEAVES_PROCESSES = f"""
import os, subprocess
for _ in range(3):
    subprocess.Popen(["setsid", "sleep", "{SLEEP}"])
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execvp("sleep", ["sleep", "{SLEEP}"])
    os._exit(0)
"""

# name -> (notebook, part that is lost, what its reason says)
CLASS = {
    "ada": (notebook(), "", ""),
    "bela": (with_code("x_mask", "boxes = boxes + torch.tensor([0, 0, 1, 1])"), "test_x_mask", "one pixel too far"),
    "cleo": (with_code("y_mask", "mask_logits = mask_logits.sigmoid()"), "test_y_mask", "no sigmoid"),
    "dora": (with_code("y_mask", "while True: pass"), "test_y_mask", f"longer than {SECONDS} s"),
    "emil": (with_code("x_mask", "eaten = [bytearray(10**8) for _ in range(10**6)]"), "test_x_mask", "GB of memory"),
    "fritz": (without("test_y_mask"), "test_y_mask", "its test cell was deleted; the original test passes"),
    "gina": (edited("test_x_mask"), "test_x_mask", "its test cell was edited; the original test passes"),
    "hugo": (with_code("x_mask", "print('a' * 10**9)"), "test_x_mask", "printed more than 1 MB"),
    "ines": ("{ this is no notebook", "all", "the file is no notebook"),
    "jan": (with_code("y_mask", "x = (\n"), "test_y_mask", "NameError.*y_mask.*SyntaxError"),
    "kim": (with_code("x_mask", "import os; os._exit(0)"), "test_x_mask", "ended the Python process"),
    "lena": (with_code("edges", LEAVES_PROCESSES), "", ""),
}


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """(OUT, seconds): the class, graded by the function behind the one command."""
    folder, out = tmp_path_factory.mktemp("class"), tmp_path_factory.mktemp("graded") / "out"
    for name, (made, *_) in CLASS.items():
        (folder / name).mkdir()
        text = made if isinstance(made, str) else json.dumps(like_released(made))
        (folder / name / f"{EXERCISE.name}.ipynb").write_text(text)
    (folder / "lena" / "notes.ipynb").write_text("{}")
    (folder / "ada" / f"{EXERCISE.name}-Copy1.ipynb").write_text("{}")
    start = time.perf_counter()
    grade.grade(folder, out, [EXERCISE], Limits(cell=SECONDS, memory=2 << 30))
    return out, time.perf_counter() - start


@pytest.fixture(scope="module")
def rows(graded) -> list[dict]:
    with (graded[0] / "grades.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", CLASS)
def test_points_and_reasons(rows, name):
    _, lost, says = CLASS[name]
    found = {r["part"]: r for r in rows if r["student"] == name and r["exercise"] == EXERCISE.folder}
    assert sorted(found) == sorted(PARTS)
    for part, row in found.items():
        gone = lost in (part, "all")
        assert (float(row["points"]), float(row["max"])) == (0 if gone else FULL[part], FULL[part]), row
        assert re.search(says, row["reason"]) if gone else row["reason"] == "", row


def test_notebooks_that_were_not_graded_are_named(rows):
    told = {r["student"]: r["reason"] for r in rows if r["exercise"] == "?"}
    assert told["lena"] == "notes.ipynb: which exercise is this?"
    assert told["ada"] == f"{EXERCISE.name}-Copy1.ipynb: a second one; {EXERCISE.name}.ipynb was graded"


def test_in_less_than_ten_minutes(graded):
    assert graded[1] < 600


def test_no_process_is_left(graded):
    commands = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            commands.append(path.read_bytes())
    assert not [c for c in commands if c.startswith(b"sleep\0" + SLEEP.encode())]


def test_feedback_names_the_mistake_and_loads_nothing(graded):
    for name, (_, lost, says) in CLASS.items():
        page = (graded[0] / "feedback" / name / EXERCISE.folder / f"{EXERCISE.name}.html").read_text()
        assert not re.search(r"<(script|link|img)[^>]*(src|href)=.(https?:)?//", page)
        assert not lost or re.search(says.split(".*")[0], page)


def test_report_adds_up(graded):
    head, rows = grade.report(graded[0])
    assert head == ["student", "5", "total"]
    totals = {row[0]: row[-1] for row in rows}
    assert totals == {
        name: f"{10 - (10 if lost == 'all' else FULL.get(lost, 0))} of 10" for name, (_, lost, _) in CLASS.items()
    }


def test_a_gradebook_is_not_graded_over(graded, tmp_path):
    with pytest.raises(UserError, match="holds a gradebook already"):
        grade.grade(tmp_path, graded[0], [EXERCISE], Limits())
    with pytest.raises(UserError, match="holds no submission"):
        grade.grade(tmp_path, tmp_path / "out", [EXERCISE], Limits())
    with pytest.raises(UserError, match="holds no gradebook"):
        grade.report(tmp_path)
