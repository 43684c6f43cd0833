"""source/ → release/: nbgrader takes solutions and hidden tests out, in a scratch course of its own."""

import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from upsnet_lite.course.paths import Exercise
from upsnet_lite.files import UserError, write_aside

STUB = "raise NotImplementedError  # your code here"


def settings(course: Path) -> Any:
    """nbgrader's configuration for a course in this folder."""
    from traitlets.config import Config

    config = Config()
    config.CourseDirectory.root = str(course.resolve())
    config.CourseDirectory.course_id = ""
    config.ClearSolutions.code_stub = {"python": STUB}
    config.ClearSolutions.text_stub = "*Your answer here.*"
    return config


def start(course: Path, chosen: Sequence[Exercise]) -> Any:
    """nbgrader's API on a fresh course: sources copied, assignments in its gradebook, releases generated."""
    try:
        from nbgrader.apps.api import NbGraderAPI
    except ImportError:
        raise UserError("nbgrader is not installed: pip install 'upsnet-lite[course]'") from None
    for e in chosen:
        target = course / "source" / e.folder
        target.mkdir(parents=True)
        shutil.copy(e.path("source"), target)
    api = NbGraderAPI(config=settings(course))
    for e in chosen:
        result = api.generate_assignment(e.folder)
        if not result["success"]:
            raise UserError(f"{e.path('source')}: {last_line(result)}")
    return api


def last_line(result: dict) -> str:
    """The end of what nbgrader logged."""
    return ((result.get("error") or result.get("log") or "nbgrader failed").strip().splitlines() or [""])[-1]


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that is gone afterwards; in it nbgrader finds its helper programs though no environment is activated."""
    path = os.environ.get("PATH", "")
    os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), path))
    try:
        with tempfile.TemporaryDirectory(prefix="upsnet-course-") as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its use of SQLAlchemy is not the user's business
            yield Path(folder).resolve()
    finally:
        os.environ["PATH"] = path


def release(chosen: Sequence[Exercise], out: Path) -> list[Path]:
    """Writes out/{n}_{name}/{name}.ipynb for each, whole or not at all."""
    written = []
    with scratch() as course:
        start(course, chosen)
        for e in chosen:
            made = course / "release" / e.folder / f"{e.name}.ipynb"
            target = Path(out) / e.folder / made.name
            with write_aside(target) as aside:
                shutil.copyfile(made, aside)
            written.append(target)
    return written
