"""What a learner hands in, made safe to grade: the tests are the teacher's again, and nothing else is believed.

A submission keeps its code and its answers. Points, locks and tests come from the master, the source notebook.
"""

import base64
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from upsnet_lite.course.isolated import error
from upsnet_lite.course.score import Part, about, because, by_id, joined, source

LARGEST = 50_000_000  # bytes of a file: with a few pictures it has a hundredth


def read(path: Path) -> tuple[dict, str]:
    """The notebook, or an empty one and what is wrong with the file."""
    empty: dict = {"cells": []}
    if path.is_symlink():
        return empty, "the file is a link, not a notebook"
    try:
        if not path.is_file():  # a pipe would be waited for
            return empty, "it is no file"
        if path.stat().st_size > LARGEST:
            return empty, f"the file has more than {LARGEST / 1e6:g} MB"
        found = json.loads(path.read_text(encoding="utf-8"))
        return {"cells": [plain(cell) for cell in found["cells"]]}, ""
    except OSError as reason:
        return empty, f"the file cannot be read: {reason.strerror}"
    except ValueError as reason:  # not JSON, not UTF-8
        return empty, f"the file is no notebook: {' '.join(str(reason).split())}"
    except (KeyError, TypeError, AttributeError, RecursionError):
        return empty, "the file is no notebook: it has no list of cells"


def plain(cell: Mapping) -> dict:
    """Source, kind, nbgrader's mark and harmless outputs of a cell; TypeError or KeyError where it is none."""
    kind = cell["cell_type"] if cell["cell_type"] in ("code", "markdown") else "raw"
    marked = about(cell)
    grade_id = marked.get("grade_id") if isinstance(marked, dict) else None
    metadata = {"nbgrader": marked} if isinstance(grade_id, str) else {}
    code = {"outputs": shown(cell), "execution_count": None} if kind == "code" else {}
    return {"cell_type": kind, "metadata": metadata, "source": whole(source(cell))} | code


def whole(text: str) -> str:
    """Half a character, which JSON can hold, becomes `?`: no file can hold it."""
    return text.encode("utf-8", "replace").decode()


def shown(cell: Mapping) -> list[dict]:
    """What a cell had printed and drawn when it was handed in: text and PNG alone, nothing that a browser runs."""
    kept, outputs = [], cell.get("outputs")
    for output in outputs if isinstance(outputs, list) else []:
        with suppress(KeyError, TypeError, AttributeError, ValueError):
            if output["output_type"] == "stream":
                kept.append(printed(joined(output["text"])))
            elif picture := output["data"].get("image/png"):
                picture = "".join(joined(picture).split())
                base64.b64decode(picture, validate=True)
                kept.append(dict(output_type="display_data", data={"image/png": picture}, metadata={}))
            else:
                kept.append(printed(joined(output["data"]["text/plain"])))
    return kept


def printed(text: str) -> dict:
    return dict(output_type="stream", name="stdout", text=whole(text))


def mended(submitted: Mapping, master: Mapping, released: Mapping) -> tuple[dict, dict[str, str]]:
    """The submission with the master's tests, and grade_id -> what had been done to a test.

    An edited test is put back where it stood, a deleted one comes last. Of two cells with one grade_id the last counts.
    """
    tests, visible = by_id(master, "grade"), by_id(released, "grade")
    wanted = by_id(master, "solution") | tests
    cells, seen, reasons = [], set(), {}
    for number, cell in reversed(list(enumerate(submitted["cells"]))):
        grade_id, cell = about(cell).get("grade_id"), {**cell, "metadata": {}}
        if grade_id in wanted and grade_id not in seen:
            seen.add(grade_id)
            ours = wanted[grade_id]
            cell["metadata"] = {"nbgrader": about(ours)}
            if grade_id in tests and not about(ours).get("solution"):
                if lines(source(cell)) not in (lines(source(visible[grade_id])), lines(source(ours))):
                    reasons[grade_id] = "its test cell was edited"
                cell = plain(ours)
            elif cell["cell_type"] != ours["cell_type"]:
                cell = {**plain(ours), "source": source(cell)}
        cells.append({"id": f"cell-{number}", **cell})
    cells.reverse()
    for grade_id, ours in tests.items():
        if grade_id not in seen:
            answer = about(ours).get("solution")
            reasons[grade_id] = "its cell was deleted" if answer else "its test cell was deleted"
            cells.append({"id": f"deleted-{len(cells)}", **plain(ours), **({"source": ""} if answer else {})})
    notebook = {"cells": cells, "metadata": master["metadata"], "nbformat": 4, "nbformat_minor": 5}
    return notebook, reasons


def lines(text: str) -> list[str]:
    """White space at the ends of lines and empty lines do not count."""
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def code_cells(notebook: Mapping) -> list[dict]:
    return [c for c in notebook["cells"] if c["cell_type"] == "code"]


def marked(notebook: dict, outputs: list[list[dict]], reasons: Mapping[str, str]) -> list[Part]:
    """Writes the outputs into the code cells and says what each part earns.

    Where a person grades a part, what was shown when it was handed in stays below: a capstone is graded in a rehearsal.
    A part for which there is a reason earns nothing; the reason stands in its cell as an error, which is how nbgrader
    knows, together with what the teacher's test says.
    """
    parts, earlier = [], ""
    by_hand = any(about(c).get("grade") and about(c).get("solution") for c in notebook["cells"])
    for cell, found in zip(code_cells(notebook), outputs, strict=True):
        failed = next((o["evalue"] or "an error without a word" for o in found if o["output_type"] == "error"), "")
        grade_id = about(cell).get("grade_id")
        handed = cell["outputs"] if by_hand and not about(cell).get("grade") else []
        cell["outputs"] = [*found, printed("- - - when it was handed in: - - -\n"), *handed] if handed else found
        if not about(cell).get("grade"):
            earlier = failed or earlier
        elif not about(cell).get("solution"):
            told = because(failed, earlier)
            if grade_id in reasons:
                told = f"{reasons[grade_id]}; the original test {f'says: {told}' if told else 'passes'}"
                cell["outputs"] = [*found, error("Mistake", told)]
            parts.append(Part(grade_id, 0 if told else about(cell)["points"], about(cell)["points"], told))
    for cell in notebook["cells"]:
        if about(cell).get("grade") and about(cell).get("solution"):
            grade_id, points = about(cell)["grade_id"], about(cell)["points"]
            parts.append(Part(grade_id, None, points, reasons.get(grade_id, "a person grades this one")))
    return parts
