"""A class of twelve, half of it hostile, graded in one go: every part has points and a reason, and nothing is left."""

import csv
import json
import os
import re
import time
from contextlib import suppress
from pathlib import Path

import pytest

from upsnet_lite.course import grade, isolated, paths, submission
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


SHOWS = """
from IPython.display import HTML
display(HTML("<script>document.title = 'mine'</script><img src='https://elsewhere.example/a.png'>"))
print(chr(0xD800))
"""
SPIES = f"""
import os
print("sees", os.listdir({str(EXERCISE.path("source").parents[1])!r}))
try: open({{path!r}}, "w").write("x")
except OSError as error: print("cannot write", error.errno)
"""


@pytest.fixture(scope="module")
def awkward(tmp_path_factory):
    """(DIR, OUT in it): names, files and outputs that are awkward, not wrong."""
    folder = tmp_path_factory.mktemp("awkward")

    def hand_in(student: str, made: dict, *deeper: str) -> Path:
        path = folder.joinpath(student, *deeper, f"{EXERCISE.name}.ipynb")
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(like_released(made)))
        return path

    ada = hand_in("a_b", notebook())
    hand_in("a_b", without("test_y_mask"), "old")
    hand_in("a*b", {"cells": []})
    hand_in("=shows", with_code("edges", SHOWS))
    hand_in("spies", with_code("edges", SPIES.format(path=str(ada))))
    (folder / "pipe").mkdir()
    os.mkfifo(folder / "pipe" / f"{EXERCISE.name}.ipynb")
    (folder / os.fsdecode(b"m\xe9l")).mkdir()
    (folder / os.fsdecode(b"m\xe9l") / f"{EXERCISE.name}.ipynb").write_text("{}")
    (folder / "a_b" / "week4").mkdir()
    (folder / "a_b" / "week4" / "notes.ipynb").write_text("{}")
    (folder / "loose.ipynb").write_text("{}")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder.parent)  # relative paths, as they are typed
        here = Path(folder.name)
        grade.grade(here, here / "out", [EXERCISE], Limits(cell=SECONDS, memory=2 << 30))
    return folder, folder / "out"


def test_awkward_submissions_have_their_points(awkward):
    with (awkward[1] / "grades.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    points = {name: [r["points"] for r in rows if r["student"] == name] for name in ("a*b", "pipe", "'=shows")}
    assert points == {"a*b": ["0"] * 3, "pipe": ["0"] * 3, "'=shows": ["2", "4", "4"]}
    told = {(r["student"], r["reason"]) for r in rows if r["exercise"] == "?"}
    assert told == {
        ("m?l", f"{EXERCISE.name}.ipynb: the folder's name holds what cannot be written; rename it"),
        ("a_b", "week4/notes.ipynb: which exercise is this?"),
        ("a_b", f"old/{EXERCISE.name}.ipynb: a second one; {EXERCISE.name}.ipynb was graded"),
        ("?", "loose.ipynb: whose is it? it lies in no student's folder"),
    }
    totals = {row[0]: row[1] for row in grade.report(awkward[1])[1]}
    assert totals == dict.fromkeys(("a＊b", "pipe"), "0 of 10") | dict.fromkeys(("a_b", "=shows", "spies"), "10 of 10")


def test_results_of_an_earlier_run_are_no_submission(awkward):
    assert "out" not in {s.student for s in grade.collect(awkward[0], [EXERCISE])[0]}


def page_of(out: Path, student: str) -> str:
    return (out / "feedback" / student / EXERCISE.folder / f"{EXERCISE.name}.html").read_text("utf-8")


def test_a_page_runs_no_script_and_loads_nothing(awkward):
    page = page_of(awkward[1], "=shows")
    assert page.index("default-src 'none'") < page.index("<script>document.title = 'mine'</script>")
    assert "<img src='https" not in page


def test_the_sandbox_holds_where_the_results_lie_among_the_submissions(awkward):
    if not isolated.alone():
        pytest.skip("this kernel allows no user namespaces")
    assert "sees []" in page_of(awkward[1], "spies") and "cannot write" in page_of(awkward[1], "spies")


def test_nothing_is_left_of_a_run_that_was_stopped(tmp_path):
    (tmp_path / "class" / "ada").mkdir(parents=True)
    (tmp_path / "class" / "ada" / f"{EXERCISE.name}.ipynb").write_text(json.dumps({"cells": []}))

    def stop(*_) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        grade.grade(tmp_path / "class", tmp_path / "out", [EXERCISE], Limits(cell=SECONDS), progress=stop)
    assert os.listdir(tmp_path) == ["class"]


def test_a_page_keeps_what_a_person_grades(tmp_path):
    """A capstone is graded in a rehearsal: the table of the report stands in what was handed in."""
    made = paths.exercise("capstone")
    master, released = (json.loads(made.path(step).read_text("utf-8")) for step in ("source", "release"))
    handed = json.loads(json.dumps(released))
    shown = [c for c in handed["cells"] if c["cell_type"] == "code" and "nbgrader" not in c["metadata"]][-1]
    shown["outputs"] = [
        dict(output_type="stream", name="stdout", text=["my table\n"]),
        dict(output_type="display_data", data={"image/png": "aGk=", "text/html": "<script>"}, metadata={}),
        dict(output_type="display_data", data={"image/png": "not base64 <script>"}, metadata={}),
        5,
    ]
    (tmp_path / "a.ipynb").write_text(json.dumps(handed))
    submitted, _ = submission.read(tmp_path / "a.ipynb")
    notebook, reasons = submission.mended(submitted, master, released)
    submission.marked(notebook, [[] for _ in submission.code_cells(notebook)], reasons)
    text = json.dumps(notebook)
    assert "when it was handed in" in text and "my table" in text and "aGk=" in text and "<script>" not in text


@pytest.mark.parametrize("content", [b"junk", b""])
def test_a_broken_gradebook_is_one_line(tmp_path, content):
    (tmp_path / "gradebook.db").write_bytes(content)
    with pytest.raises(UserError, match="gradebook.db (is no gradebook|holds no exercise).*another --out"):
        grade.report(tmp_path)


def test_a_folder_that_holds_the_project_is_refused(tmp_path):
    with pytest.raises(UserError, match="which grading needs: put the submissions"):
        grade.refuse_what_it_needs(paths.root())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes").write_text("mine")
    with pytest.raises(UserError, match="is no empty folder"):
        grade.grade(tmp_path, tmp_path / "full", [EXERCISE], Limits())


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
