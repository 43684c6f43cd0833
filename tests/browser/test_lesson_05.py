"""Lesson 05 in JupyterLab: the canvas, the column of a pixel, and the explorer where a lesson has it."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

from upsnet_lite.viz.colors import overlay
from upsnet_lite.viz.fusion import FusionState, column, fuse, largest, looks, scene
from upsnet_lite.viz.inspector import words

from .lab import SHAPES, cells, eventually, open_lesson, output, run_all, spot

SIZE = 128, 128


@pytest.fixture(scope="module")
def lesson(lab):
    """The lesson, run from top to bottom."""
    open_lesson(lab, "05_panoptic_head")
    run_all(lab)
    return lab


def part(lesson, source: str) -> SimpleNamespace:
    """A cell's widget, scrolled into view."""
    area = output(lesson, source).first
    area.scroll_into_view_if_needed()
    canvas, readout = area.locator("canvas"), area.locator(".upsnet-readout")
    canvas.wait_for()
    return SimpleNamespace(page=lesson, area=area, canvas=canvas, readout=readout)


def of_code(text: str):
    """The scene that the explorer's code names, and what it makes of it, computed here."""
    index = int(re.search(r"scene\('tiny-shapes', '\.\./data/shapes', (\d+)\)", text)[1])
    look = scene("tiny-shapes", SHAPES, index)
    own: dict = {"look": look}
    lines = text.splitlines()
    exec(lines[0], own)
    exec(lines[2], own)
    return look, own["fused"]


def test_the_canvas_shows_the_map_and_names_what_is_under_the_pointer(lesson):
    shown = part(lesson, "PanopticCanvas(image")
    for n in range(24):  # the lesson's own rule
        look = scene("tiny-shapes", SHAPES, n)
        fused = fuse(look, FusionState())
        if 3 <= len(look.trace.C) <= 6 and max(s["area"] for s in fused.segments_info if s["isthing"]) >= 800:
            break
    wanted = overlay(look.image, fused.panoptic, fused.segments_info, look.model.categories)
    seen = cells(shown.canvas, *SIZE).astype(int)
    assert (np.abs(seen - wanted).max(2) <= 1).all(), "the picture of the other lessons, pixel by pixel"
    i = largest(fused)
    row, col = np.argwhere((fused.panoptic == fused.segment_of[i]).numpy())[200]
    lesson.mouse.move(*spot(shown.canvas, *SIZE, row, col))
    name = looks(look, fused)[i][0]
    assert eventually(lesson, lambda: shown.readout.text_content().startswith(f"{name} · thing · score"))
    assert eventually(lesson, lambda: not (cells(shown.canvas, *SIZE) == seen).all())


def test_a_pixels_column_by_mouse_and_by_keyboard(lesson):
    shown = part(lesson, "inspect_pixels(look")
    text = shown.area.locator(".upsnet-bars").get_attribute("aria-label")
    row, col = map(int, re.search(r"row (\d+), column (\d+)", text).groups())
    wins = [text]
    for move in ("click", "keys"):
        if move == "click":
            lesson.mouse.click(*spot(shown.canvas, *SIZE, 40, 64))
            row, col = 40, 64
        else:
            shown.canvas.focus()
            for key in ("ArrowDown", "Shift+ArrowRight", "Enter"):
                lesson.keyboard.press(key)
            row, col = row + 1, col + 10
        bars = shown.area.locator(f".upsnet-bars[aria-label*='row {row}, column {col}:']")
        bars.wait_for()
        wins.append(bars.get_attribute("aria-label"))
    assert len(set(wins)) == 3
    assert lesson.locator(".jp-Notebook .jp-mod-selected").count() <= 1, "arrows move the cursor, not the lesson"


def test_the_explorer_of_the_lesson_makes_a_hole_and_mends_it(lesson):
    shown = part(lesson, "FusionExplorer(")
    code = shown.area.locator(".upsnet-copy pre")
    look, before = of_code(code.text_content())
    i = largest(before)
    lesson.mouse.move(5, 5)
    seen = shown.canvas.evaluate("canvas => canvas.toDataURL()")
    own = (before.panoptic == before.segment_of[i]).numpy()
    tick = shown.area.locator(f".upsnet-instances [data-id='{i}'] .in")
    tick.click()
    assert eventually(lesson, lambda: f"off=({i},)" in code.text_content())
    _, fused = of_code(code.text_content())
    grey = cells(shown.canvas, *SIZE)[own].astype(int)
    assert (np.ptp(grey, axis=1) <= 1).mean() > 0.5 and (fused.panoptic.numpy()[own] == 0).mean() > 0.5
    assert f"{fused.quality.pq:.1f}" in shown.area.locator(".upsnet-measures tbody tr").nth(1).text_content()
    tick.focus()
    lesson.keyboard.press("Space")
    assert eventually(lesson, lambda: code.text_content().endswith("FusionState())"))
    assert eventually(lesson, lambda: shown.canvas.evaluate("canvas => canvas.toDataURL()") == seen)


def test_a_slider_of_the_explorer(lesson):
    shown = part(lesson, "FusionExplorer(")
    code = shown.area.locator(".upsnet-copy pre")
    one = shown.area.locator(".widget-hslider", has=lesson.get_by_text("score ≥", exact=True))
    one.locator(".noUi-handle").focus()
    for _ in range(10):
        lesson.keyboard.press("ArrowLeft")
    assert eventually(lesson, lambda: "score=0.5" in code.text_content() and one.text_content().endswith("0.50"))
    look, fused = of_code(code.text_content())
    told = shown.area.locator(".upsnet-bars").get_attribute("aria-label")
    row, col = map(int, re.search(r"row (\d+), column (\d+)", told).groups())
    assert told == words(column(look, fused, row, col))
    shown.area.get_by_role("button", name="reset").click()
    assert eventually(lesson, lambda: code.text_content().endswith("FusionState())"))


IN_KERNEL = """async (code) => {
    const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
    const asked = kernel.requestExecute({ code });
    let text = "";
    asked.onIOPub = (message) => { text += message.content.text ?? ""; };
    await asked.done;
    return text;
}"""
SLOW = """
import time
import upsnet_lite.viz.explorer as slowed
quick, fused_at = slowed.fuse, []
def slowly(scene, state):
    time.sleep(0.6)
    fused_at.append(state.score)
    return quick(scene, state)
slowed.fuse = slowly
"""


def test_nothing_queues_up_while_a_slow_kernel_is_dragged_along(lesson):
    shown = part(lesson, "FusionExplorer(")
    code, sign = shown.area.locator(".upsnet-copy pre"), shown.area.locator(".upsnet-sign")
    one = shown.area.locator(".widget-hslider", has=lesson.get_by_text("score ≥", exact=True))
    lesson.evaluate(IN_KERNEL, SLOW)
    try:
        one.scroll_into_view_if_needed()
        start, track = one.locator(".noUi-handle").bounding_box(), one.locator(".noUi-target").bounding_box()
        x, y = start["x"] + start["width"] / 2, start["y"] + start["height"] / 2
        lesson.mouse.move(x, y)
        lesson.mouse.down()
        seen = []
        for k in range(1, 31):
            lesson.mouse.move(x - k * 0.015 * track["width"], y)
            lesson.wait_for_timeout(40)
            seen.append(sign.is_visible())
        lesson.mouse.up()
        wanted = f"score={float(one.locator('.widget-readout').text_content())}"
        assert any(seen), "it shows that it works"
        assert eventually(lesson, lambda: wanted in code.text_content(), 10)
        answers = int(lesson.evaluate(IN_KERNEL, "print(len(fused_at))"))
        assert 2 <= answers <= 12, f"{answers} answers to 30 moves: the newest, not each"
        assert eventually(lesson, lambda: not sign.is_visible())
    finally:
        lesson.evaluate(IN_KERNEL, "slowed.fuse = quick")
    shown.area.get_by_role("button", name="reset").click()
    assert eventually(lesson, lambda: code.text_content().endswith("FusionState())"))
