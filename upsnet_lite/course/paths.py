"""Where the exercises stand, in the layout of nbgrader: source and release are the course, mine is the learner's.

notebooks/exercises/{source,release,mine}/{number}_{name}/{name}.ipynb
"""

import re
from dataclasses import dataclass
from pathlib import Path

from upsnet_lite.files import UserError

FOLDER = Path("notebooks/exercises")


def root() -> Path:
    """The project's folder: the current one or that of the package, whichever has the exercises."""
    for path in (Path.cwd(), Path(__file__).resolve().parents[2]):
        if (path / FOLDER).is_dir():
            return path
    raise UserError(f"{FOLDER} is not here; run this in the folder of the project")


def data_root() -> Path:
    """The drawn data set, data/shapes in the project's folder; drawn at the first call."""
    from upsnet_lite.datasets.shapes import write_shapes

    path = root() / "data" / "shapes"
    write_shapes(path, train=2000, val=200)  # does nothing where they stand already
    return path


@dataclass(frozen=True)
class Exercise:
    """One of the course's exercises and its three notebooks."""

    number: int
    name: str

    @property
    def folder(self) -> str:
        return f"{self.number}_{self.name}"

    def path(self, step: str) -> Path:
        """step: source, release or mine."""
        return root() / FOLDER / step / self.folder / f"{self.name}.ipynb"


def exercises() -> list[Exercise]:
    """All that have a source or a release, by number; UserError where there is none. Other folders do no harm."""
    folder = root() / FOLDER
    there = [p for step in ("source", "release") for p in (folder / step).glob("*/*.ipynb")]
    named = {m for p in there if (m := re.fullmatch(r"([0-9]+)_(.+)/\2\.ipynb", f"{p.parent.name}/{p.name}"))}
    found = {Exercise(int(m[1]), m[2]) for m in named}
    if not found:
        raise UserError(f"{folder} holds no exercise; run this in the folder of the project")
    return sorted(found, key=lambda e: (e.number, e.name))


def exercise(which: str) -> Exercise:
    """By number or name; UserError where there is none."""
    for e in exercises():
        if which in (str(e.number), e.name, e.folder):
            return e
    raise UserError(f"no exercise {which!r}; there are {', '.join(e.folder for e in exercises())}")
