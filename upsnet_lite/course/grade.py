"""A class, graded: submissions run isolated, nbgrader keeps the points and writes the feedback.

    DIR/STUDENT/*.ipynb  ->  OUT/grades.csv  OUT/gradebook.db  OUT/feedback/STUDENT/…html

OUT is a course in nbgrader's layout: `nbgrader formgrader` opens it for what a person has to grade.
"""

import csv
import json
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from upsnet_lite.course import isolated, submission
from upsnet_lite.course.feedback import one_line
from upsnet_lite.course.paths import Exercise, data_root, root
from upsnet_lite.course.release import last_line, scratch, settings, start
from upsnet_lite.course.score import Part, about, source
from upsnet_lite.files import UserError, is_free, write_aside

COLUMNS = ("student", "exercise", "part", "points", "max", "reason")
LINKED = re.compile(
    r"<(script|link|img|iframe)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>(?:\s*</script>)?"
    r"|<meta\b[^>]*\bhttp-equiv\b[^>]*>",
    re.IGNORECASE,
)
# what a submission shows may hold scripts: a browser that obeys this runs none and loads nothing
POLICY = (
    "default-src 'none'; img-src data:; font-src data:; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'"
)
NAMES = str.maketrans("*?[]", "＊？［］")  # nbgrader takes names for patterns


@dataclass(frozen=True)
class Submitted:
    student: str
    exercise: Exercise
    path: Path


def collect(folder: Path, exercises: Sequence[Exercise]) -> tuple[list[Submitted], dict[Path, str]]:
    """DIR/STUDENT/[anything/]name.ipynb, by the name of an exercise; and what is not graded (path in DIR), with why."""
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; it should hold one folder for each student")
    found: dict[tuple[str, Exercise], Submitted] = {}
    strangers = {}
    paths = sorted(folder.glob("**/*.ipynb"), reverse=True)  # name.ipynb comes before name-Copy1.ipynb
    for path in sorted(paths, key=lambda p: len(p.parts)):
        inside = path.relative_to(folder)
        student, home = inside.parts[0], folder / inside.parts[0]
        if any(part.startswith(".") for part in inside.parts) or (home / "gradebook.db").exists():
            continue  # .ipynb_checkpoints; the results of an earlier run
        named = next((e for e in exercises if re.match(rf"({e.number}_)?{e.name}\b", path.stem)), None)
        if path == home:
            strangers[inside] = f"{path.name}: whose is it? it lies in no student's folder"
        elif not student.isprintable():
            strangers[inside] = f"{path.relative_to(home)}: the folder's name holds what cannot be written; rename it"
        elif named is None:
            strangers[inside] = f"{path.relative_to(home)}: which exercise is this?"
        elif first := found.get((student, named)):
            ours, theirs = first.path.relative_to(home), path.relative_to(home)
            strangers[inside] = f"{theirs}: a second one; {ours} was graded"
        else:
            found[student, named] = Submitted(student, named, path)
    if not found:
        raise UserError(f"{folder} holds no submission; expected STUDENT/{exercises[0].name}.ipynb or the like")
    return sorted(found.values(), key=lambda s: (s.student, s.exercise.number)), strangers


def grade(
    folder: Path,
    out: Path,
    exercises: Sequence[Exercise],
    limits: isolated.Limits,
    jobs: int = 2,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[Submitted, list[Part]]:
    """Grades every submission of these exercises into a new folder `out`; nothing that one does stops the others.

    The folder appears when all are graded.
    """
    if (out / "gradebook.db").exists():
        raise UserError(f"{out} holds a gradebook already: give another --out, or remove it")
    if not is_free(out):
        raise UserError(f"{out} is no empty folder: give another --out")
    folder = folder.resolve()  # nbgrader changes the current folder while the next submissions are read
    found, strangers = collect(folder, exercises)
    refuse_what_it_needs(folder)
    chosen = [e for e in exercises if any(s.exercise == e for s in found)]
    data_root()  # drawn now, if ever: a submission could not
    with write_aside(out.resolve()) as out, scratch():
        out.mkdir()
        api = start(out, chosen)
        masters = {e: json.loads(e.path("source").read_text(encoding="utf-8")) for e in chosen}
        releases = {e: json.loads((out / "release" / e.folder / f"{e.name}.ipynb").read_text("utf-8")) for e in chosen}
        students = sorted({s.student for s in found})
        hidden = [sources_of(chosen[0]), folder, out, root() / ".git", root() / "tests"]
        stop = threading.Event()

        def run(s: Submitted) -> tuple[dict, list[Part]]:
            master, released = masters[s.exercise], releases[s.exercise]
            try:
                return executed(s, master, released, limits, hidden, students, stop.is_set)
            except Exception as error:  # whatever it is: the others are graded
                return lost(master, released, f"it could not be run: {one_line(error)}")

        graded = {}
        with ThreadPoolExecutor(jobs) as pool:
            try:
                for s, (notebook, parts) in zip(found, pool.map(run, found), strict=True):
                    graded[s] = recorded(api, out, s, notebook, parts)
                    progress(len(graded), len(found))
            except BaseException:  # Ctrl-C: nobody waits for what is running
                stop.set()
                raise
        write_csv(out / "grades.csv", graded, strangers)
    return graded


def sources_of(exercise: Exercise) -> Path:
    return exercise.path("source").parents[1]


def refuse_what_it_needs(folder: Path) -> None:
    """A submission sees nothing of this folder: it must not hold what it is run with."""
    for needed in (sys.prefix, sys.base_prefix, Path(__file__).parents[2], tempfile.gettempdir()):
        if Path(needed).resolve().is_relative_to(folder.resolve()):
            raise UserError(
                f"{folder} holds {needed}, which grading needs: put the submissions into a folder of their own"
            )


def executed(
    s: Submitted,
    master: dict,
    released: dict,
    limits: isolated.Limits,
    hidden: Sequence[Path],
    students: Sequence[str],
    stopped: Callable[[], bool],
) -> tuple[dict, list[Part]]:
    """The notebook with its outputs, and what each part earns."""
    submitted, broken = submission.read(s.path)
    if broken:
        return lost(master, released, broken)
    notebook, reasons = submission.mended(submitted, master, released)
    env = {"UPSNET_STUDENT": s.student, "UPSNET_CLASS": "\n".join(students)}
    cells = [source(c) for c in submission.code_cells(notebook)]
    outputs = isolated.run(cells, limits, hidden, env, stopped)
    return notebook, submission.marked(notebook, outputs, reasons)


def lost(master: dict, released: dict, reason: str) -> tuple[dict, list[Part]]:
    """A notebook of which nothing counts, with the reason at each part."""
    notebook, _ = submission.mended({"cells": []}, master, released)
    cells = submission.code_cells(notebook)
    outputs: list[list[dict]] = [[isolated.error("Mistake", reason)] if about(c).get("grade") else [] for c in cells]
    return notebook, [replace(p, message=reason) for p in submission.marked(notebook, outputs, {})]


# ------------------------------------------------------------------------------------------------------ nbgrader


def bookkeeping() -> dict[str, list[Any]]:
    """nbgrader's autograde without what is done already: its own execution has no limits that hold."""
    from nbgrader import preprocessors as p

    return {
        "sanitize_preprocessors": [p.DeduplicateIds, p.OverwriteKernelspec, p.OverwriteCells, p.CheckCellMetadata],
        "autograde_preprocessors": [p.LimitOutput, p.SaveAutoGrades, p.CheckCellMetadata],
    }


def recorded(api: Any, out: Path, s: Submitted, notebook: dict, parts: list[Part]) -> list[Part]:
    """As `record`; what nbgrader cannot take earns nothing, and the others are graded."""
    try:
        return record(api, out, s, notebook, parts)
    except Exception as error:
        return [replace(p, points=0, message=f"nbgrader: {one_line(error)}") for p in parts]


def record(api: Any, out: Path, s: Submitted, notebook: dict, parts: list[Part]) -> list[Part]:
    """Points into the gradebook, feedback as HTML; the parts as the gradebook has them."""
    student = s.student.translate(NAMES)
    path = out / "submitted" / student / s.exercise.folder / f"{s.exercise.name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(notebook), encoding="utf-8")
    api.config.Autograde.update(bookkeeping())
    api.update_config(api.config)
    result = api.autograde(s.exercise.folder, student)
    if not result["success"]:
        return [replace(p, points=0, message=f"nbgrader: {last_line(result)}") for p in parts]
    with api.gradebook as book:
        grades = book.find_submission_notebook(s.exercise.name, s.exercise.folder, student).grades
        points = {g.name: None if g.needs_manual_grade else g.auto_score for g in grades}
    api.generate_feedback(s.exercise.folder, student)
    for page in (out / "feedback" / student / s.exercise.folder).glob("*.html"):
        page.chmod(0o644)
        page.write_text(harmless(page.read_text("utf-8")), "utf-8")
    return [replace(p, points=points[p.grade_id]) for p in parts]


def harmless(page: str) -> str:
    """The page, which loads nothing from elsewhere and runs no script."""
    head = f'<head><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    return LINKED.sub("", page).replace("<head>", head, 1)


def write_csv(path: Path, graded: dict[Submitted, list[Part]], strangers: dict[Path, str]) -> None:
    with write_aside(path) as aside, aside.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for s, parts in graded.items():
            for p in parts:
                points = "" if p.points is None else f"{p.points:g}"
                reason = "" if p.points == p.max_points else p.message
                table.writerow(
                    (cell(s.student), s.exercise.folder, p.grade_id, points, f"{p.max_points:g}", cell(reason))
                )
        for stranger, reason in strangers.items():
            student = stranger.parts[0] if len(stranger.parts) > 1 else "?"
            table.writerow((cell(student), "?", "", "", "", cell(reason)))


def cell(text: str) -> str:
    """One line; what a spreadsheet would take for a formula begins with an apostrophe."""
    text = printable(text)
    return f"'{text}" if text[:1] in tuple("=+-@") else text


def printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def report(out: Path) -> tuple[list[str], list[list[str]]]:
    """Head and rows of a table: student, points in each exercise by its number, total; with those given by hand."""
    if not (out / "gradebook.db").is_file():
        raise UserError(f"{out} holds no gradebook; grade first: upsnet-lite course grade DIR --out {out}")
    again = "grade anew, with another --out"
    with scratch():
        from nbgrader.apps.api import NbGraderAPI
        from sqlalchemy.exc import DatabaseError

        try:
            with NbGraderAPI(config=settings(out)).gradebook as book:
                names, rows = points_in(book)
        except DatabaseError as error:
            raise UserError(f"{out / 'gradebook.db'} is no gradebook ({error.orig}); {again}") from None
    if not names:
        raise UserError(f"{out / 'gradebook.db'} holds no exercise; {again}")
    return ["student", *(n.partition("_")[0] for n in names), "total"], rows


def points_in(book: Any) -> tuple[list[str], list[list[str]]]:
    """The exercises' names, and a row for each student."""
    names, rows = sorted(a.name for a in book.assignments), []
    for student in sorted(book.students, key=lambda s: s.id):
        handed = {s.name: s for s in book.student_submissions(student.id)}
        cells = [points_of(handed[n]) if n in handed else "-" for n in names]
        total = sum(s.score for s in handed.values()), sum(a.max_score for a in book.assignments)
        rows.append([student.id, *cells, f"{total[0]:g} of {total[1]:g}"])
    return names, rows


def points_of(handed: Any) -> str:
    return f"{handed.score:g} of {handed.max_score:g}" + " + ?" * handed.needs_manual_grade
