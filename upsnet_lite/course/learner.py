"""A learner's own copies and how far the course is, in notebooks/exercises/mine/: progress.json remembers it."""

import json
import math
import re
import shutil
from pathlib import Path

from upsnet_lite.course.paths import FOLDER, Exercise, exercises, root
from upsnet_lite.course.score import Part, about, by_id, source
from upsnet_lite.files import UserError, read_json, write_aside

HINT = re.compile(r"<details>\s*<summary>Hint \d+</summary>\s*(.*?)\s*</details>", re.DOTALL)


def notebook(exercise: Exercise, step: str = "release") -> dict:
    found = read_json(exercise.path(step))
    if not found.get("cells"):
        raise UserError(f"{exercise.path(step)} has no cells; get it anew: git checkout, or upsnet-lite course release")
    return found


def title(exercise: Exercise) -> str:
    """`x_mask and y_mask`, from the first line of its notebook."""
    return source(notebook(exercise, given(exercise))["cells"][0]).partition("\n")[0].rpartition("· ")[2]


def given(exercise: Exercise) -> str:
    """The step that exists: a teacher may hand out the releases without the sources."""
    return "release" if exercise.path("release").is_file() else "source"


def points(exercise: Exercise) -> dict[str, float]:
    """Part -> its points, also of those that a person grades."""
    return {name: about(cell)["points"] for name, cell in by_id(notebook(exercise, given(exercise)), "grade").items()}


def opened(exercise: Exercise) -> Path:
    """The learner's copy, made where there is none; it is never written again."""
    mine = exercise.path("mine")
    if not is_there(exercise):
        if not exercise.path("release").is_file():
            raise UserError(f"{exercise.path('release')} is missing; make it: upsnet-lite course release")
        with write_aside(mine) as aside:
            shutil.copyfile(exercise.path("release"), aside)
    return mine


def is_there(exercise: Exercise) -> bool:
    """Whether there is a learner's copy; UserError where something else has its name."""
    mine = exercise.path("mine")
    if mine.exists() and not mine.is_file():
        raise UserError(f"{mine} is no file; {anew(exercise)}")
    return mine.exists()


def anew(exercise: Exercise) -> str:
    return f"to begin again, move it away and run: upsnet-lite exercise open {exercise.number}"


# --------------------------------------------------------------------------------------------------- progress.json


def progress_file() -> Path:
    return root() / FOLDER / "mine" / "progress.json"


def progress() -> dict[str, dict]:
    """Exercise -> {"points": {part: points}, "hints": {part: how many were shown}}; UserError where it is not that."""
    path, again = progress_file(), "move it away: points come back with the next check"
    if not path.exists():
        return {}
    try:
        found = read_json(path)
    except UserError as error:
        raise UserError(f"{error}; {again}") from None
    for folder, known in found.items():
        if not (isinstance(known, dict) and known.keys() <= {"points", "hints"} and all(map(counts, known.values()))):
            raise UserError(f"{path} says of {folder!r} what no check or hint has written; mend that, or {again}")
    return found


def counts(known: object) -> bool:
    """Whether it is {part: a number from 0}."""
    return isinstance(known, dict) and all(type(n) in (int, float) and 0 <= n < math.inf for n in known.values())


def remember(exercise: Exercise, kind: str, news: dict[str, float]) -> None:
    known = progress()
    known.setdefault(exercise.folder, {}).setdefault(kind, {}).update(news)
    with write_aside(progress_file()) as aside:
        aside.write_text(json.dumps(known, indent=1), encoding="utf-8")


def keep(exercise: Exercise, parts: list[Part]) -> None:
    """The points of the last check."""
    remember(exercise, "points", {p.grade_id: p.points for p in parts if p.points is not None})


def standing() -> list[tuple[Exercise, str, float, float, int]]:
    """Each exercise with its title, points so far, points in all and hints taken."""
    known, table = progress(), []
    for e in exercises():
        mine = known.get(e.folder, {})
        got, most = mine.get("points", {}), points(e)
        reached = sum(min(got.get(part, 0), full) for part, full in most.items())
        table.append((e, title(e), reached, sum(most.values()), int(sum(mine.get("hints", {}).values()))))
    return table


# ----------------------------------------------------------------------------------------------------------- hints


def hints(exercise: Exercise) -> dict[str, list[str]]:
    """Part -> its hints, from nudge to almost the line."""
    cells = notebook(exercise, given(exercise))["cells"]
    return {c["metadata"]["hints_for"]: HINT.findall(source(c)) for c in cells if c["metadata"].get("hints_for")}


def next_hint(exercise: Exercise, part: str | None) -> tuple[str, int, int, str]:
    """Part, number of the hint, how many there are, its text. Without a part: the first that is not right yet.

    When all were shown, the last is shown again.
    """
    known, mine = hints(exercise), progress().get(exercise.folder, {})
    if part is None:
        part = next((p for p in known if not mine.get("points", {}).get(f"test_{p}")), next(iter(known), ""))
    if part not in known:
        raise UserError(f"exercise {exercise.number} has no part {part!r}; it has {', '.join(known) or 'none'}")
    number = min(int(mine.get("hints", {}).get(part, 0)) + 1, len(known[part]))
    remember(exercise, "hints", {part: number})
    return part, number, len(known[part]), known[part][number - 1]


# --------------------------------------------------------------------------------------------------------- solution


def solutions(exercise: Exercise) -> dict[str, str]:
    """Part -> the code of its solution cell; UserError where the teacher keeps them to himself."""
    if not exercise.path("source").is_file():
        raise UserError(f"the solution of exercise {exercise.number} is not here: your teacher has it")
    cells = by_id(notebook(exercise, "source"), "solution")
    return {name: re.sub(r"\n *### (BEGIN|END) SOLUTION", "", source(c)) for name, c in cells.items()}


def checked(exercise: Exercise) -> list[Part]:
    """The learner's copy, run in a process of its own: with the tests of the source where it is there."""
    from upsnet_lite.course import isolated, submission

    mine = exercise.path("mine")
    if not is_there(exercise):
        raise UserError(f"{mine} is not there yet: upsnet-lite exercise open {exercise.number}")
    submitted, broken = submission.read(mine)
    if broken:
        raise UserError(f"{mine}: {broken}; {anew(exercise)}")
    released = notebook(exercise, given(exercise))
    master = notebook(exercise, "source") if exercise.path("source").is_file() else released
    made, reasons = submission.mended(submitted, master, released)
    seconds = 600 if exercise.name == "capstone" else 60  # it trains
    cells = [source(c) for c in submission.code_cells(made)]
    outputs = isolated.run(cells, isolated.Limits(cell=seconds, notebook=20 * seconds))
    return submission.marked(made, outputs, reasons)
