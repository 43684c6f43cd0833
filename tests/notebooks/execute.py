"""Every lesson from a clean kernel, offline.                        python tests/notebooks/execute.py OUT [NAME ...]

A lesson passes when no cell fails or writes to stderr, its figures equal the committed ones, and no file appears
outside data/ and runs/. Its seconds are printed beside the minutes it states; a slow machine is no failure.
OUT=notebooks executes in place: a lesson without an error is then written even where its figures are new.

The cell tagged "figures" prints one JSON object. Numbers agree to 1e-6, or to what it states itself:
"tolerance": 0.5 for all, {"pq": 0.5} for some. A key that begins with "~" depends on the machine: present is enough.
"""

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from math import isclose, isnan
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LESSONS = ROOT / "notebooks"
EXACT = 1e-6
SLOW = 2  # times the minutes that a lesson states for two cores: beyond it the table says so
ELSEWHERE = {".git", ".venv", "data", "runs"}  # top folders where files may appear, or that are not ours
CACHES = {"__pycache__", ".ipynb_checkpoints", ".pytest_cache", ".ruff_cache", ".hypothesis"}
WIDGET = "application/vnd.jupyter.widget-view+json"
WORDS = {"half a": 0.5, "a": 1, "one": 1, "two": 2, "three": 3, "four": 4}


def lessons() -> list[Path]:
    return sorted(LESSONS.glob("[0-9][0-9]_*.ipynb"))


# ------------------------------------------------------------------------------------------- what a lesson says


def text(field: str | Sequence[str]) -> str:
    """A notebook's string: JSON may hold it as a list of lines."""
    return field if isinstance(field, str) else "".join(field)


def stated_minutes(notebook: Mapping) -> float | None:
    """`half a minute`, `a minute and a half`, `3–4 min` (the last number) in the first cell; None if there is none."""
    number = r"(\d+(?:\.\d+)?|half a|\ba|one|two|three|four)\s+min\w*( and a half)?"
    found = re.search(number, text(notebook["cells"][0]["source"]), re.IGNORECASE)
    if not found:
        return None
    word = found[1].lower()
    return (WORDS[word] if word in WORDS else float(word)) + 0.5 * bool(found[2])


def printed(cell: Mapping, stream: str = "stdout") -> str:
    return "".join(text(o["text"]) for o in cell["outputs"] if o["output_type"] == "stream" and o["name"] == stream)


def figures(notebook: Mapping) -> dict:
    """What the cell tagged "figures" printed; ValueError where that is not one JSON object."""
    tagged = [c for c in notebook["cells"] if "figures" in c["metadata"].get("tags", ())]
    if len(tagged) != 1:
        raise ValueError(f"{len(tagged)} cells are tagged 'figures', there must be one")
    try:
        found = json.loads(printed(tagged[0]))
    except ValueError:
        found = None
    if not isinstance(found, dict) or not found:
        raise ValueError("the cell tagged 'figures' does not print one JSON object")
    return found


# --------------------------------------------------------------------------------------------------- comparison


def differences(committed: Mapping, found: Mapping) -> list[str]:
    """In words, where two sets of figures disagree; the tolerance is the committed one's."""
    tolerance = committed.get("tolerance", EXACT)
    old, new = (dict(flat({k: v for k, v in f.items() if k != "tolerance"})) for f in (committed, found))
    told = [f"{k} is missing" for k in old if k not in new] + [f"{k} is new" for k in new if k not in old]
    for key in old.keys() & new.keys():
        allowed = tolerance.get(key.split(".")[0], EXACT) if isinstance(tolerance, Mapping) else tolerance
        if not equal(old[key], new[key], allowed):
            told.append(f"{key} was {old[key]}, is {new[key]} (tolerance {allowed:g})")
    return sorted(told)


def flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """(a.b.0, value) for every leaf; below a key that begins with ~ only that it is there."""
    if key.rpartition(".")[2].startswith("~"):
        yield key, None
    elif isinstance(value, (dict, list)):
        for k, v in value.items() if isinstance(value, dict) else enumerate(value):
            yield from flat(v, f"{key}.{k}".lstrip("."))
    else:
        yield key, value


def equal(old: Any, new: Any, tolerance: float) -> bool:
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in (old, new))
    if not numbers:
        return type(old) is type(new) and old == new
    return isclose(old, new, rel_tol=0, abs_tol=tolerance) or (isnan(old) and isnan(new))


# ---------------------------------------------------------------------------------------------------- execution


def files(out: Path) -> set[Path]:
    """Every file of the project that a lesson has no business to write."""
    found = set()
    for folder, below, names in os.walk(ROOT):
        here = Path(folder)
        below[:] = [b for b in below if b not in CACHES and not (here == ROOT and b in ELSEWHERE) and here / b != out]
        found.update(here / name for name in names)
    return found


def execute(path: Path, out: Path) -> tuple[float, list[str]]:
    """Runs one lesson and writes it to `out`: seconds and problems."""
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellControlSignal, CellTimeoutError, DeadKernelError

    notebook = nbformat.read(path, as_version=4)
    committed = json.loads(path.read_text(encoding="utf-8"))
    before, start = files(out), time.perf_counter()
    client = NotebookClient(
        notebook,
        timeout=1200,
        kernel_name="python3",
        resources={"metadata": {"path": str(LESSONS)}},
        record_timing=False,
        store_widget_state=False,
        extra_arguments=["--IPKernelApp.log_level=40"],  # the kernel's own greetings
    )
    try:
        client.execute()
        failed = []
    except (CellControlSignal, CellTimeoutError, DeadKernelError) as error:
        last = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        failed = [re.sub(r"\x1b\[[\d;]*m", "", *last)]  # without the traceback's colours
    seconds = time.perf_counter() - start
    if not failed or out != LESSONS:
        pictures_for_widgets(notebook)
        notebook.metadata["language_info"] = {"name": "python"}  # no version: the same file on every machine
        nbformat.write(notebook, out / path.name)
    return seconds, failed or [*problems(notebook, committed), *stray(files(out) - before)]


def pictures_for_widgets(notebook: Mapping) -> None:
    """Where a picture stands beside a widget, only the picture is kept: a page without the kernel cannot show more."""
    for output in (o for c in notebook["cells"] if c["cell_type"] == "code" for o in c["outputs"]):
        if "text/html" in output.get("data", {}):
            output["data"].pop(WIDGET, None)


def problems(notebook: Mapping, committed: Mapping) -> Iterator[str]:
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code" and (noise := printed(cell, "stderr").strip()):
            yield f"stderr: {noise.splitlines()[-1]}"
    found = []
    for which, version in (("committed", committed), ("now", notebook)):
        try:
            found.append(figures(version))
        except ValueError as error:
            yield f"figures, {which}: {error}"
    if len(found) == 2:
        yield from (f"figures: {line}" for line in differences(*found))


def stray(new: set[Path]) -> Iterator[str]:
    yield from (f"left {path.relative_to(ROOT)} behind" for path in sorted(new))


def main(out: Path, names: Sequence[str]) -> int:
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    chosen = [p for p in lessons() if not names or p.stem in names]
    passed = 0
    for path in chosen:
        seconds, found = execute(path, out)
        minutes = stated_minutes(json.loads(path.read_text(encoding="utf-8")))
        stated = "states no minutes" if minutes is None else f"states {60 * minutes:3.0f} s"
        slow = minutes is not None and seconds > 60 * minutes * SLOW
        passed += not found
        print(f"{'FAIL' if found else 'ok':4}  {path.stem:20} {seconds:5.0f} s   {stated}{', slow' * slow}", flush=True)
        for line in found:
            print(f"      {line}", flush=True)
    print(f"{passed} passed, {len(chosen) - passed} failed")
    return int(passed < len(chosen) or not chosen)


def named(name: str) -> str:
    """`choices` would do, but for Python 3.10, where it refuses that there is none."""
    if name not in (known := [p.stem for p in lessons()]):
        raise argparse.ArgumentTypeError(f"there is no lesson {name!r}, there are {', '.join(known)}")
    return name


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("  ")[0])
    parser.add_argument("out", metavar="OUT", type=Path, help="a folder; `notebooks` executes in place")
    parser.add_argument("names", metavar="NAME", type=named, nargs="*", help="for example 03_semantic_head")
    given = parser.parse_args()
    sys.exit(main(given.out, given.names))
