"""A class, graded: submissions run isolated, nbgrader keeps the points and writes the feedback.

    DIR/STUDENT/*.ipynb  ->  OUT/grades.csv  OUT/gradebook.db  OUT/feedback/STUDENT/…html

OUT is a course in nbgrader's layout: `nbgrader formgrader` opens it for what a person has to grade.
"""

import csv
import json
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from upsnet_lite.course import isolated, submission
from upsnet_lite.course.paths import Exercise, data_root
from upsnet_lite.course.release import last_line, scratch, settings, start
from upsnet_lite.course.score import Part, about, source
from upsnet_lite.files import UserError, write_aside

COLUMNS = ("student", "exercise", "part", "points", "max", "reason")
LINKED = re.compile(r"<(script|link)\b[^>]*\b(?:src|href)=[\"'](?:https?:)?//[^>]*>(?:\s*</script>)?", re.IGNORECASE)


@dataclass(frozen=True)
class Submitted:
    student: str
    exercise: Exercise
    path: Path


def collect(folder: Path, exercises: Sequence[Exercise]) -> tuple[list[Submitted], dict[Path, str]]:
    """DIR/STUDENT/[anything/]name.ipynb, by the name of an exercise; and what is not graded, with why."""
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; it should hold one folder for each student")
    found: dict[tuple[str, Exercise], Submitted] = {}
    strangers = {}
    for path in sorted(folder.glob("*/**/*.ipynb"), reverse=True):  # name.ipynb comes before name-Copy1.ipynb
        inside = path.relative_to(folder).parts
        if any(part.startswith(".") for part in inside):
            continue  # .ipynb_checkpoints
        named = next((e for e in exercises if re.match(rf"({e.number}_)?{e.name}\b", path.stem)), None)
        if named is None:
            strangers[path] = f"{path.name}: which exercise is this?"
        elif (inside[0], named) in found:
            strangers[path] = f"{path.name}: a second one; {found[inside[0], named].path.name} was graded"
        else:
            found[inside[0], named] = Submitted(inside[0], named, path)
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
    """Grades every submission of these exercises into a new folder `out`; nothing that one does stops the others."""
    if (out / "gradebook.db").exists():
        raise UserError(f"{out} holds a gradebook already: give another --out, or remove it")
    found, strangers = collect(folder, exercises)
    chosen = [e for e in exercises if any(s.exercise == e for s in found)]
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    data_root()  # drawn now, if ever: a submission could not
    with scratch():
        api = start(out, chosen)
        masters = {e: json.loads(e.path("source").read_text(encoding="utf-8")) for e in chosen}
        releases = {e: json.loads((out / "release" / e.folder / f"{e.name}.ipynb").read_text("utf-8")) for e in chosen}
        students = sorted({s.student for s in found})
        hidden = [sources_of(chosen[0]), folder.resolve(), out]

        def run(s: Submitted) -> tuple[dict, list[Part]]:
            return executed(s, masters[s.exercise], releases[s.exercise], limits, hidden, students)

        graded = {}
        with ThreadPoolExecutor(jobs) as pool:
            for s, (notebook, parts) in zip(found, pool.map(run, found), strict=True):
                graded[s] = record(api, out, s, notebook, parts)
                progress(len(graded), len(found))
    write_csv(out / "grades.csv", graded, strangers)
    return graded


def sources_of(exercise: Exercise) -> Path:
    return exercise.path("source").parents[1]


def executed(
    s: Submitted, master: dict, released: dict, limits: isolated.Limits, hidden: Sequence[Path], students: Sequence[str]
) -> tuple[dict, list[Part]]:
    """The notebook with its outputs, and what each part earns."""
    submitted, broken = submission.read(s.path)
    notebook, reasons = submission.mended(submitted, master, released)
    cells = submission.code_cells(notebook)
    if broken:
        outputs: list[list[dict]] = [
            [isolated.error("Mistake", broken)] if about(c).get("grade") else [] for c in cells
        ]
        parts = submission.marked(notebook, outputs, {})
        return notebook, [replace(p, message=broken) for p in parts]
    env = {"UPSNET_STUDENT": s.student, "UPSNET_CLASS": "\n".join(students)}
    outputs = isolated.run([source(c) for c in cells], limits, hidden, env)
    return notebook, submission.marked(notebook, outputs, reasons)


# ------------------------------------------------------------------------------------------------------ nbgrader


def bookkeeping() -> dict[str, list[Any]]:
    """nbgrader's autograde without what is done already: its own execution has no limits that hold."""
    from nbgrader import preprocessors as p

    return {
        "sanitize_preprocessors": [p.DeduplicateIds, p.OverwriteKernelspec, p.OverwriteCells, p.CheckCellMetadata],
        "autograde_preprocessors": [p.LimitOutput, p.SaveAutoGrades, p.CheckCellMetadata],
    }


def record(api: Any, out: Path, s: Submitted, notebook: dict, parts: list[Part]) -> list[Part]:
    """Points into the gradebook, feedback as HTML; the parts as the gradebook has them."""
    student = re.sub(r"[*?\[\]]", "_", s.student)  # nbgrader takes names for patterns
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
        page.write_text(LINKED.sub("", page.read_text("utf-8")), "utf-8")  # nothing is loaded from elsewhere
    return [replace(p, points=points[p.grade_id]) for p in parts]


def write_csv(path: Path, graded: dict[Submitted, list[Part]], strangers: dict[Path, str]) -> None:
    with write_aside(path) as aside, aside.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for s, parts in graded.items():
            for p in parts:
                points = "" if p.points is None else f"{p.points:g}"
                reason = "" if p.points == p.max_points else p.message
                table.writerow((s.student, s.exercise.folder, p.grade_id, points, f"{p.max_points:g}", reason))
        for stranger, reason in strangers.items():
            table.writerow((stranger.parts[-2], "?", "", "", "", reason))


def report(out: Path) -> tuple[list[str], list[list[str]]]:
    """Head and rows of a table: student, points in each exercise by its number, total; with those given by hand."""
    if not (out / "gradebook.db").is_file():
        raise UserError(f"{out} holds no gradebook; grade first: upsnet-lite course grade DIR --out {out}")
    with scratch():
        from nbgrader.apps.api import NbGraderAPI

        with NbGraderAPI(config=settings(out)).gradebook as book:
            names = sorted(a.name for a in book.assignments)
            rows = []
            for student in sorted(book.students, key=lambda s: s.id):
                handed = {s.name: s for s in book.student_submissions(student.id)}
                cells = [points_of(handed[n]) if n in handed else "-" for n in names]
                total = sum(s.score for s in handed.values()), sum(a.max_score for a in book.assignments)
                rows.append([student.id, *cells, f"{total[0]:g} of {total[1]:g}"])
    return ["student", *(n.partition("_")[0] for n in names), "total"], rows


def points_of(handed: Any) -> str:
    return f"{handed.score:g} of {handed.max_score:g}" + " + ?" * handed.needs_manual_grade
