"""nbgrader's Validate button on a released exercise: the stub fails part by part, the solved copy passes."""

import json

import pytest

from upsnet_lite.course import paths
from upsnet_lite.course.score import by_id, source

from .lab import open_lesson

pytest.importorskip("nbgrader")
EXERCISE = paths.exercise("x_mask_y_mask")
RELEASED = f"exercises/release/{EXERCISE.folder}/{EXERCISE.name}"
SAVE = "([path, content]) => window.jupyterapp.serviceManager.contents.save(path, {type: 'notebook', content})"


def validated(page, name: str) -> str:
    """What the dialog says after a click on the button of this notebook."""
    open_lesson(page, name)
    page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Toolbar").get_by_text("Validate", exact=True).click()
    dialog = page.locator(".jp-Dialog", has_text="Validation")
    dialog.wait_for(timeout=180_000)  # a kernel of its own runs the notebook
    told = dialog.inner_text()
    dialog.locator("button").last.click()
    dialog.wait_for(state="detached")
    page.evaluate("() => window.jupyterapp.commands.execute('application:close-all')")
    return told


def solved() -> dict:
    made, right = (json.loads(EXERCISE.path(step).read_text(encoding="utf-8")) for step in ("release", "source"))
    for name, cell in by_id(made, "solution").items():
        cell["source"] = source(by_id(right, "solution")[name])
    return made


def test_the_stub_fails_in_every_part(lab):
    told = validated(lab, RELEASED)
    for part in ("edges", "x_mask", "y_mask"):
        assert f"checks.check_{part}({part})" in told
    assert "NotImplementedError" in told


def test_a_solved_copy_passes(lab):
    lab.evaluate(SAVE, ["notebooks/solved.ipynb", solved()])
    assert "passes all the tests" in validated(lab, "solved")
