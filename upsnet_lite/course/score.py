"""Points of a notebook: its code cells run in one fresh namespace, in this process, without Jupyter and nbgrader.

A graded cell that raises gives 0 and its message; any other cell that raises is passed over, as in nbgrader. Nothing
here limits time or memory: `exercise check` runs it in a process of its own.
"""

import io
import re
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upsnet_lite.course.feedback import one_line
from upsnet_lite.files import read_json


@dataclass(frozen=True)
class Part:
    """A graded cell. points: None where a person decides; message: what was right, or the one line on what is not."""

    grade_id: str
    points: float | None
    max_points: float
    message: str


def joined(text: Any) -> str:
    """A text as JSON holds it, in one piece or as a list of lines."""
    return text if isinstance(text, str) else "".join(text)


def source(cell: Mapping) -> str:
    """A cell's text."""
    return joined(cell["source"])


def about(cell: Mapping) -> dict:
    """What nbgrader notes on a cell: grade_id, grade, solution, points; {} for an ordinary one."""
    return cell.get("metadata", {}).get("nbgrader", {})


def by_id(notebook: Mapping, kind: str) -> dict[str, dict]:
    """grade_id -> cell. kind: "grade" or "solution"."""
    return {about(c)["grade_id"]: c for c in notebook["cells"] if about(c).get(kind)}


def score(notebook: Mapping | Path) -> list[Part]:
    """The parts in the notebook's order."""
    if isinstance(notebook, Path):
        notebook = read_json(notebook)
    namespace: dict = {"__name__": "exercise"}
    parts, earlier = [], ""
    for cell in notebook["cells"]:
        graded = bool(about(cell).get("grade"))
        if graded and about(cell).get("solution"):
            parts.append(Part(about(cell)["grade_id"], None, about(cell)["points"], "a person grades this one"))
        elif cell["cell_type"] == "code":
            printed, error = run(source(cell), namespace)
            if graded:
                points = about(cell)["points"]
                told = because(error, earlier) if error else "; ".join(re.findall(r"✓ (.+)", printed))
                parts.append(Part(about(cell)["grade_id"], 0 if error else points, points, told))
            elif error:
                earlier = error
    return parts


def because(error: str, earlier: str) -> str:
    """A name that is missing is missing because its cell failed, or is gone."""
    if not error.startswith("NameError"):
        return error
    if not earlier:
        return error + " (no cell before it defines it)" * error.endswith("is not defined")
    return f"{error} (a cell before it failed: {earlier})"


def run(code: str, namespace: dict) -> tuple[str, str]:
    """What a cell printed, and the one line on its error ("" where there is none)."""
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            exec(compile(code, "<cell>", "exec"), namespace)
    except (Exception, SystemExit) as error:  # a learner's code can raise anything
        return printed.getvalue(), one_line(error)
    return printed.getvalue(), ""
