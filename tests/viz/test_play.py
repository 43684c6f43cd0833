"""A form that answers: what is drawn, when, how often, and what stands where no kernel runs."""

import io

import numpy as np
import pytest
from PIL import Image

from upsnet_lite.files import UserError
from upsnet_lite.viz.picture import Picture, styled
from upsnet_lite.viz.play import Answer, beside, choice, moves, play, quick_png, seconds, several, slider, tick


@styled
def picture(width=1.0, height=0.5):
    return Picture(width, height, 'a figure with "quotes" to see')


@pytest.fixture
def asked():
    """What was drawn, in order."""
    return []


@pytest.fixture
def widget(asked):
    def draw(number, name):
        asked.append((number, name))
        if number == 13:
            raise UserError("not 13, choose another")
        return Answer([picture()], f"{name} & {number}")

    return play(draw, number=slider("number", 0, 20, 4), name=choice("name", ["a", "b"], "b"))


def shown(widget) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(widget.live.png)).convert("RGB"))


def test_the_first_picture_is_there_before_anything_is_touched(widget, asked):
    assert asked == [(4, "b")] and widget.live.text == "b & 4" and not widget.live.busy
    assert (shown(widget) == widget.image).all() and shown(widget).shape == (45, 90, 3)


def test_every_move_is_answered_once_and_reset_draws_once(widget, asked):
    widget.controls["number"].value = 7
    widget.controls["name"].value = "a"
    assert asked[1:] == [(7, "b"), (7, "a")] and widget.live.text == "a & 7"
    button = widget.children[0].children[-1]
    button.click()
    assert asked[3:] == [(4, "b")] and widget.state() == dict(number=4, name="b")


def test_it_says_that_it_works_only_while_it_works(widget, asked):
    seen = []
    widget.live.observe(lambda change: seen.append((change["new"], len(asked))), "busy")
    widget.controls["number"].value = 5
    assert seen == [(True, 1), (False, 2)]


def test_a_mistake_is_said_and_the_picture_stays(widget):
    before = widget.live.png
    widget.controls["number"].value = 13
    assert widget.live.text == "not 13, choose another" and widget.live.png == before and not widget.live.busy
    widget.controls["number"].value = 12
    assert widget.live.text == "b & 12"


def test_a_page_without_a_kernel_has_the_picture(widget):
    bundle = widget._repr_mimebundle_()
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == widget.model_id
    assert 'alt="a figure with &quot;quotes&quot; to see"' in bundle["text/html"]
    assert "b &amp; 4" in bundle["text/html"] and bundle["text/plain"] == "b & 4"


def test_pictures_stand_side_by_side():
    low, high = np.zeros((2, 3, 3), dtype=np.uint8), np.full((4, 1, 3), 7, dtype=np.uint8)
    both = beside([low, high])
    assert (
        both.shape == (4, 4, 3)
        and (both[:2, :3] == 0).all()
        and (both[2:, :3] == 255).all()
        and (both[:, 3] == 7).all()
    )


def test_quick_png_loses_nothing():
    pixels = np.random.default_rng(0).integers(256, size=(5, 6, 3), dtype=np.uint8)
    assert (np.asarray(Image.open(io.BytesIO(quick_png(pixels)))) == pixels).all()


def test_whole_numbers_and_fractions():
    assert type(slider("n", 0, 3, 1).value) is int and type(slider("x", 0.0, 3.0, 1.0, 0.5).value) is float


def test_moves_reach_both_ends():
    assert moves(slider("n", -2, 6, 1)) == [-2, 0, 2, 4, 6] and moves(tick("t")) == [True, False]
    assert moves(choice("c", [("one", 1), ("two", 2)])) == [1, 2]
    assert moves(several("s", ["a", "b"], ["a"])) == [("a",), ("b",)]


def test_the_stopwatch_moves_every_control_and_puts_it_back(widget, asked):
    taken = seconds(widget)
    assert {name: len(t) for name, t in taken.items()} == dict(number=5, name=2)
    assert {number for number, _ in asked} == {0, 5, 10, 15, 20, 4} and widget.state() == dict(number=4, name="b")
    assert min(min(t) for t in taken.values()) > 0
