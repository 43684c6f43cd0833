"""The commands `exercise` (for a learner) and `course` (for a teacher): thin, over `learner`, `release` and `grade`."""

import math
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..files import UserError
from ..terminal import command

exercise = typer.Typer(
    help="Exercises: open one, check it, take a hint.",
    epilog="Example:  upsnet-lite exercise open 1",
    no_args_is_help=True,
)
course = typer.Typer(
    help="For teachers: release the exercises, grade a class.",
    epilog="Example:  upsnet-lite course grade submitted/",
    no_args_is_help=True,
)
Number = Annotated[str, typer.Argument(metavar="N", help="Number or name of an exercise.")]


def one(which: str):
    from .paths import exercise

    return exercise(which)


# --------------------------------------------------------------------------------------------------------- learner


@command(exercise, "list", "exercise list")
def list_() -> None:
    """The exercises, their points and yours."""
    from ..terminal import show
    from .learner import standing

    rows = [(str(e.number), e.name, title, f"{got:g} of {most:g}") for e, title, got, most, _ in standing()]
    show("", "exercise", "title", "points", rows=rows)


@command(exercise, "open", "exercise open 1")
def open_(
    n: Number,
    browser: Annotated[bool, typer.Option(help="Open the browser.")] = True,
    port: Annotated[int, typer.Option(help="The next free one is taken if it is in use.")] = 8888,
) -> None:
    """Copy an exercise to notebooks/exercises/mine, once, and open it in JupyterLab."""
    from ..cli import open_lab
    from .learner import opened
    from .paths import root

    open_lab(opened(one(n)).relative_to(root()), port, browser)


@command(exercise, "check", "exercise check 1")
def check(n: Number) -> None:
    """Run your copy and say what each part earns; the exit code is 1 while something is missing."""
    from ..terminal import show
    from .learner import checked, keep, progress

    found = one(n)
    progress()  # what cannot be read is told before minutes are spent
    parts = checked(found)
    rows = [(p.grade_id.removeprefix("test_"), gained(p.points, p.max_points), p.message or "✓") for p in parts]
    rows.append(("all", gained(sum(p.points or 0 for p in parts), sum(p.max_points for p in parts)), ""))
    show("part", "points", "", rows=rows)
    keep(found, parts)
    if any(p.points != p.max_points for p in parts if p.points is not None):
        print(f"A hint: upsnet-lite exercise hint {found.number}")
        raise typer.Exit(1)


def gained(points: float | None, most: float) -> str:
    return f"{'?' if points is None else f'{points:g}'} of {most:g}"


@command(exercise, "hint", "exercise hint 1 match")
def hint(
    n: Number,
    part: Annotated[str | None, typer.Argument(help="Its part; otherwise the first that is not right yet.")] = None,
) -> None:
    """Show the next of a part's three hints."""
    from rich.console import Console
    from rich.markdown import Markdown

    from .learner import next_hint

    found, number, most, text = next_hint(one(n), part)
    print(f"{found}, hint {number} of {most}")
    Console().print(Markdown(text))


@command(exercise, "progress", "exercise progress")
def progress() -> None:
    """How far you are in the course."""
    from ..terminal import bar, show
    from .learner import standing

    table = standing()
    rows = [
        (str(e.number), e.name, bar(got / (most or 1)), f"{got:g} of {most:g}", str(hints) if hints else "")
        for e, _, got, most, hints in table
    ]
    got, most = sum(row[2] for row in table), sum(row[3] for row in table)
    show(
        "",
        "exercise",
        "",
        "points",
        "hints",
        rows=[*rows, ("", "all", bar(got / (most or 1)), f"{got:g} of {most:g}", "")],
    )


@command(exercise, "solution", "exercise solution 1 --yes")
def solution(n: Number, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Show the solution, when you have asked for it."""
    from rich.console import Console
    from rich.syntax import Syntax

    from .learner import solutions

    found = one(n)
    code = solutions(found)
    if not yes:
        typer.confirm(f"There are hints, too. Show the solution of exercise {found.number}?", abort=True)
    for text in code.values():
        Console().print(Syntax(text, "python", background_color="default"))


# --------------------------------------------------------------------------------------------------------- teacher


@command(course, "release", "course release")
def release(
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to, instead of notebooks/exercises/release.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option("--exercise", help="Number or name; repeatable.")] = None,
) -> None:
    """Make the learners' notebooks from the sources: without solutions and hidden tests."""
    from .paths import FOLDER, root
    from .release import release

    written = release(with_source(only), out or root() / FOLDER / "release")
    print(f"{len(written)} exercises written to {written[0].parents[1]}")


def with_source(only: list[str] | None) -> list:
    """The chosen exercises, or all; UserError where a source is missing."""
    from .paths import exercises

    chosen = list(dict.fromkeys(map(one, only))) if only else exercises()
    for e in chosen:
        if not e.path("source").is_file():
            raise UserError(f"{e.path('source')} is missing: exercises are released and graded from their sources")
    return chosen


@command(course, "grade", "course grade submissions/ --out graded")
def grade(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder for each student, named like him.")],
    out: Annotated[Path, typer.Option(help="New folder: grades.csv, feedback, gradebook.")] = Path("graded"),
    only: Annotated[list[str] | None, typer.Option("--exercise", help="Number or name; repeatable.")] = None,
    seconds: Annotated[float, typer.Option(min=1, help="A cell that takes longer loses.")] = 60,
    memory: Annotated[float, typer.Option(min=0.5, help="GB that a submission may use.")] = 4,
    jobs: Annotated[int, typer.Option(min=1, help="Submissions at a time.")] = 2,
) -> None:
    """Grade DIR/STUDENT/*.ipynb, each in a sandbox: CSV, HTML feedback and nbgrader's gradebook."""
    from ..terminal import progress_bar
    from .grade import collect, grade, printable
    from .isolated import Limits, alone

    if not math.isfinite(seconds * memory):
        raise UserError("--seconds and --memory want finite numbers")
    limits = Limits(cell=seconds, notebook=20 * seconds, memory=int(memory * 2**30))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as after Ctrl-C nothing is left
    chosen = with_source(only)
    _, strangers = collect(folder, chosen)
    if not alone():
        print("This system cannot isolate a submission: it can read and delete what you can.", file=sys.stderr)
    with progress_bar("grading") as bar:
        graded = grade(folder, out, chosen, limits, jobs, bar)
    report(out)
    for path, reason in strangers.items():
        print(printable(f"not graded: {folder / path}: {reason}"))
    print(f"{len(graded)} submissions graded: {out / 'grades.csv'}, pages for the students in {out / 'feedback'}")


@command(course, "report", "course report graded")
def report(out: Annotated[Path, typer.Argument(help="Folder that `course grade` wrote.")] = Path("graded")) -> None:
    """Points of everybody, with what was graded by hand meanwhile; `+ ?`: something waits for that."""
    from ..terminal import show
    from .grade import report

    head, rows = report(out)
    show(*head, rows=rows)
