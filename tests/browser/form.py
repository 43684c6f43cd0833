"""The form of a lesson's widget, under mouse and keyboard."""

import io
import json
import re
from urllib.request import Request, urlopen

import numpy as np
from PIL import Image

from .lab import Server, open_lesson, output, run_all

BYTES = "img => fetch(img.src).then(r => r.arrayBuffer()).then(b => Array.from(new Uint8Array(b)))"


class Form:
    """A `Play` in the page: its controls by name, its picture and its words."""

    def __init__(self, page, source: str) -> None:
        self.page, self.area = page, output(page, source).last
        self.text, self.picture = self.area.locator(".upsnet-text"), self.area.locator(".upsnet-live img")
        self.area.scroll_into_view_if_needed()
        self.area.locator(".upsnet-text", has_text=re.compile(r"\S")).wait_for()

    def control(self, name: str):
        label = self.page.locator(".widget-label", has_text=name)
        return self.area.locator(".jupyter-widgets.widget-inline-hbox", has=label).first

    def handle(self, name: str):
        return self.control(name).locator(".noUi-handle")

    def press(self, name: str, key: str, times: int = 1) -> None:
        self.handle(name).focus()
        for _ in range(times):
            self.page.keyboard.press(key)

    def drag(self, name: str, share: float, steps: int = 10) -> None:
        """The handle to this share of its track, by mouse."""
        self.handle(name).scroll_into_view_if_needed()
        knob, track = self.handle(name).bounding_box(), self.control(name).locator(".noUi-target").bounding_box()
        y = knob["y"] + knob["height"] / 2
        self.page.mouse.move(knob["x"] + knob["width"] / 2, y)
        self.page.mouse.down()
        self.page.mouse.move(track["x"] + share * track["width"], y, steps=steps)
        self.page.mouse.up()

    def value(self, name: str) -> float:
        return float(self.control(name).locator(".widget-readout").inner_text().replace("−", "-"))

    def choose(self, name: str, label: str) -> None:
        self.control(name).locator("select").select_option(label=label)

    def reset(self) -> None:
        self.area.get_by_role("button", name="reset").click()

    def png(self) -> bytes:
        return bytes(self.picture.evaluate(BYTES))


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def opened(lab, lesson: str, source: str) -> Form:
    """Runs a lesson; the form of its first cell that holds this text."""
    open_lesson(lab, lesson)
    run_all(lab)
    return Form(lab, source)


def write_notebook(jupyter: Server, name: str, source: str) -> None:
    """A notebook of one code cell, beside the lessons of the server."""
    cell = dict(cell_type="code", id=name, metadata={}, source=source, outputs=[], execution_count=None)
    kernel = dict(kernelspec=dict(name="python3", display_name="Python 3"))
    book = dict(cells=[cell], metadata=kernel, nbformat=4, nbformat_minor=5)
    head = {"Authorization": f"token {jupyter.token}", "Content-Type": "application/json"}
    body = json.dumps(dict(type="notebook", content=book)).encode()
    urlopen(Request(f"{jupyter.url}/api/contents/notebooks/{name}.ipynb", body, head, method="PUT")).close()
