"""Lessons 01, 03 and 04 under mouse and keyboard: what the page shows is what the pure functions give.

Each lesson is run once in a real JupyterLab. The expected words come from the same functions, called here.
"""

import numpy as np
import pytest
import torch

from upsnet_lite import load
from upsnet_lite.datasets.coco_panoptic import CocoPanoptic
from upsnet_lite.viz.play_instance import candidates, thin_out
from upsnet_lite.viz.play_instance import words as nms_words
from upsnet_lite.viz.play_semantic import layers
from upsnet_lite.viz.play_semantic import words as tap_words
from upsnet_lite.viz.play_task import edit, judge, play_pq
from upsnet_lite.viz.play_task import words as pq_words

from .form import Form, opened, pixels, write_notebook
from .lab import ROOT

expect = pytest.importorskip("playwright.sync_api").expect
expect.set_options(timeout=30_000)  # a busy machine is no failure


@pytest.fixture(scope="module")
def val():
    return CocoPanoptic(ROOT / "data" / "shapes", "val")


@pytest.fixture(scope="module")
def model():
    return load("tiny-shapes")


# ------------------------------------------------------------------------------------------------------- lesson 01


@pytest.fixture(scope="module")
def toy(lab, val):
    return opened(lab, "01_panoptic_task", "play_pq(toy")


@pytest.fixture(scope="module")
def truth(val):
    ids = torch.ones(12, 16, dtype=torch.int64)
    ids[7:], ids[2:6, 3:7], ids[8:12, 9:13] = 2, 3, 4
    of = {c.name: c.id for c in val.categories}
    return ids, [dict(id=n, category_id=of[name]) for n, name in enumerate(("sky", "grass", "ball", "ball"), 1)]


@pytest.fixture
def says(toy, truth, val):
    """Asserts that words and picture are those of the answer in which segment 3 is spoiled so."""
    here = play_pq(truth, val.categories, reach=4)

    def check(segment: int = 3, name: str = "ball", **how) -> None:
        found = judge(edit(truth, segment, **how), truth, segment, val.categories)
        expect(toy.text).to_have_text(pq_words(found, name))
        here.set(**dict(segment=segment, grow=0, down=0, right=0, split=0, erase=False) | how)
        expect(toy.picture).to_have_attribute("alt", here.live.alt)
        assert np.array_equal(pixels(toy.png()), here.image)

    toy.reset()
    yield check


def test_01_begins_with_a_figure_worth_seeing(says):
    says(right=1)


def test_01_sliders_by_key(toy, says):
    toy.press("shift right", "ArrowRight")
    says(right=2)
    toy.press("grow", "ArrowLeft")
    says(right=2, grow=-1)
    toy.press("shift down", "End")
    says(right=2, grow=-1, down=4)


def test_01_sliders_by_mouse(toy, says):
    toy.drag("shift right", 0.5)
    says(right=0)
    toy.drag("split", 1.0)
    says(right=0, split=100)
    toy.drag("split", 0.5)
    assert toy.value("split") == 50
    says(right=0, split=50)


def test_01_erase_and_segment_by_mouse_and_key(toy, says):
    toy.area.get_by_label("erase").click()
    says(right=1, erase=True)
    toy.area.get_by_label("erase").focus()
    toy.page.keyboard.press("Space")
    says(right=1)
    toy.choose("segment", "grass, 64 px")
    says(2, "grass", right=1)
    toy.control("segment").locator("select").focus()
    toy.page.keyboard.press("ArrowUp")
    says(1, "sky", right=1)


def test_01_the_scene_answers_too(lab, toy, val):
    crowded = next(i for i, a in enumerate(val.annotations) if any(s["iscrowd"] for s in a["segments_info"]))
    target = val[crowded][1]
    whole = target["panoptic"], target["segments_info"]
    form = Form(lab, "play_pq(whole")
    objects = [s for s in whole[1] if val.categories[val.categories.index(s["category_id"])].isthing]
    largest = max((s for s in objects if not s["iscrowd"]), key=lambda s: s["area"])
    name = val.categories[val.categories.index(largest["category_id"])].name
    form.drag("shift right", 1.0, steps=40)
    found = judge(edit(whole, largest["id"], right=12), whole, largest["id"], val.categories)
    expect(form.text).to_have_text(pq_words(found, name))


# ------------------------------------------------------------------------------------------------------- lesson 03


@pytest.fixture(scope="module")
def taps(lab):
    return opened(lab, "03_semantic_head", "play_taps(head")


@pytest.fixture(scope="module")
def found(val, model):
    image = next(i for i, t in val if 4 <= len(t["boxes"]) <= 7 and (t["masks"].sum((1, 2)) > 1200).any())
    with torch.no_grad():
        trace = model.trace(image)
    return {level: layers(model.semantic_head.subnet, getattr(trace, level)[None]) for level in ("P2", "P4")}


def test_03_a_click_shows_the_taps_of_that_pixel(taps, found):
    before = taps.png()
    canvas = taps.area.locator("canvas")
    side = canvas.bounding_box()["width"]
    canvas.click(position=dict(x=(50.5 / 128) * side, y=(90.5 / 128) * side))
    expect(taps.text).to_have_text(tap_words(found["P2"], (22, 12), 4, "P2"))
    assert (taps.value("row"), taps.value("column")) == (90, 50)
    assert taps.png() != before


def test_03_the_canvas_by_key(taps, found):
    canvas = taps.area.locator("canvas")
    canvas.focus()
    for key in ("ArrowUp", "ArrowUp", "Shift+ArrowRight", "Enter"):
        taps.page.keyboard.press(key)
    expect(taps.text).to_have_text(tap_words(found["P2"], (22, 15), 4, "P2"))
    assert (taps.value("row"), taps.value("column")) == (88, 60)


def test_03_level_and_sliders(taps, found):
    taps.choose("level", "P4")
    expect(taps.text).to_have_text(tap_words(found["P4"], (5, 3), 16, "P4"))
    taps.press("row", "Home")
    expect(taps.text).to_have_text(tap_words(found["P4"], (0, 3), 16, "P4"))
    taps.drag("column", 1.0, steps=40)
    expect(taps.text).to_have_text(tap_words(found["P4"], (0, 7), 16, "P4"))
    taps.reset()
    expect(taps.text).to_contain_text("P2: cell in row 25, column 10")


# ------------------------------------------------------------------------------------------------------- lesson 04


@pytest.fixture(scope="module")
def nms(lab):
    return opened(lab, "04_instance_head", "play_nms(pool")


@pytest.fixture(scope="module")
def left(val, model):
    """(score, iou, level) -> what the page should say."""
    with torch.no_grad():
        some = ((t, model.trace(i)) for i, t in val if 4 <= len(t["boxes"]) <= 7)
        target, trace = next(found for found in some if len(found[1].B) >= 3)
    names = [val.categories.things[c - 1].name for c in target["labels"]]
    pool = candidates(model.instance_head, trace.proposals, (128, 128), model.config.proposals_test)

    def said(score: float, iou: float, level: int = 0) -> str:
        return nms_words(pool, thin_out(pool, target["boxes"], score, iou, level), names, score, iou)

    return said


def test_04_score_and_iou_by_mouse_and_key(nms, left):
    expect(nms.text).to_have_text(left(0.5, 0.7))
    before = nms.png()
    nms.press("NMS, IoU", "ArrowLeft", 8)
    expect(nms.text).to_have_text(left(0.5, 0.3))
    assert nms.png() != before
    nms.drag("score at least", 1.0)
    expect(nms.text).to_have_text(left(1.0, 0.3))
    nms.drag("score at least", 0.0)
    expect(nms.text).to_have_text(left(0.0, 0.3))


def test_04_level_and_reset(nms, left):
    nms.reset()
    expect(nms.text).to_have_text(left(0.5, 0.7))
    nms.choose("level", "P2")
    expect(nms.text).to_have_text(left(0.5, 0.7, 2))
    nms.choose("level", "all")
    expect(nms.text).to_have_text(left(0.5, 0.7))


# ------------------------------------------------------------------------------------------------- when it is slow

SLOW = """import time
from upsnet_lite.viz.picture import Picture
from upsnet_lite.viz.play import Answer, play, slider
drawn = []
def draw(number):
    drawn.append(number)
    time.sleep(0.6)
    return Answer([Picture(1, 1, "nothing to see")], f"{len(drawn)} drawn, now {number}")
play(draw, number=slider("number", 0, 100, 0))"""


@pytest.fixture(scope="module")
def slow(lab, jupyter):
    write_notebook(jupyter, "slow", SLOW)
    return opened(lab, "slow", "play(draw")


def test_a_slow_answer_shows_that_it_works_and_a_drag_does_not_queue(slow):
    sign = slow.area.locator(".upsnet-sign")
    expect(sign).to_be_hidden()
    slow.drag("number", 1.0, steps=60)
    expect(sign).to_be_visible()
    expect(slow.text).to_contain_text("now 100")
    expect(sign).to_be_hidden()
    answers = int(slow.text.inner_text().split()[0])
    assert answers <= 5, f"{answers} drawings for one drag"
