"""What the widgets of the lessons have in common: a form of controls, and a picture that answers to them.

    play(draw, level=choice("level", LEVELS), row=slider("row", 0, 127, 64))         draw(level=..., row=...) -> Answer

`draw` is a pure function of the controls' values and does all of the thinking: it is tested without a browser. A move
is answered before the next is heard: while the kernel draws, the browser keeps only the latest value of the control
that is dragged, so nothing queues up. An answer that takes longer shows a sign. Where no kernel runs, the first picture
stands as an image.
"""

import html
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import anywidget
import numpy as np
import traitlets
from ipywidgets import Button, Checkbox, Dropdown, FloatSlider, HBox, IntSlider, Layout, SelectMultiple, VBox
from jaxtyping import UInt8

from upsnet_lite.files import UserError
from upsnet_lite.viz.colors import Number
from upsnet_lite.viz.picture import Picture, img_of, quick_png, small_png


class Answer(NamedTuple):
    """pictures: drawn side by side; text: what they say in numbers, shown below them; alt: what there is to see."""

    pictures: Sequence[Picture]
    text: str

    @property
    def alt(self) -> str:
        return " ".join(picture.alt_text for picture in self.pictures)


Draw = Callable[..., Answer]


# --------------------------------------------------------------------------------------------------------- controls


def slider(name: str, low: Number, high: Number, value: Number, step: Number = 1) -> IntSlider | FloatSlider:
    """A slider with its name before it; of whole numbers where all four are."""
    kind = IntSlider if all(isinstance(v, int) for v in (low, high, value, step)) else FloatSlider
    return kind(value, min=low, max=high, step=step, description=name, layout=WIDE, style=NAMED)


def choice(name: str, options: Iterable, value: Any = None) -> Dropdown:
    """One of several; options may be (text, value) pairs. value: None chooses the first."""
    made = Dropdown(options=list(options), description=name, layout=WIDE, style=NAMED)
    if value is not None:
        made.value = value
    return made


def several(name: str, options: Sequence[str], value: Sequence[str]) -> SelectMultiple:
    """Some of a list, with Shift and Control."""
    rows = min(9, max(2, len(options)))
    return SelectMultiple(options=options, value=tuple(value), rows=rows, description=name, layout=WIDE, style=NAMED)


def tick(name: str) -> Checkbox:
    return Checkbox(False, description=name, indent=False, layout=Layout(width="auto", margin="2px 12px 2px 6px"))


WIDE, NAMED = Layout(width="300px"), dict(description_width="96px")
FORM = Layout(flex_flow="row wrap", align_items="center", max_width="960px")
BESIDE = Layout(flex_flow="row wrap", grid_gap="12px")


# ---------------------------------------------------------------------------------------------------------- picture


def pixels(picture: Picture) -> UInt8[np.ndarray, "H W 3"]:
    """The figure as it is drawn."""
    picture.canvas.draw()
    return np.asarray(picture.canvas.buffer_rgba())[..., :3]


def beside(parts: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> UInt8[np.ndarray, "H W 3"]:
    """Side by side, tops in line, white below."""
    tall = max(len(part) for part in parts)
    padded = [np.pad(p, ((0, tall - len(p)), (0, 0), (0, 0)), constant_values=255) for p in parts]
    return np.concatenate(padded, 1)


class Live(anywidget.AnyWidget):
    """An <img> that keeps its old picture until the new one is there, with alt text and a caption that is read out."""

    png = traitlets.Bytes().tag(sync=True)
    alt = traitlets.Unicode().tag(sync=True)
    text = traitlets.Unicode().tag(sync=True)
    busy = traitlets.Bool().tag(sync=True)

    _esm = """
    function render({ model, el }) {
      const [img, text, sign] = ["img", "div", "div"].map((tag) => document.createElement(tag));
      el.classList.add("upsnet-live");
      text.className = "upsnet-text";
      text.setAttribute("aria-live", "polite");
      sign.className = "upsnet-sign";
      sign.textContent = "drawing …";
      const show = () => {
        const old = img.src;
        img.onload = () => URL.revokeObjectURL(old);
        img.src = URL.createObjectURL(new Blob([model.get("png")], { type: "image/png" }));
        img.alt = model.get("alt");
      };
      const say = () => { text.textContent = model.get("text"); };
      const wait = () => el.classList.toggle("upsnet-busy", model.get("busy"));
      model.on("change:png", show);
      model.on("change:text", say);
      model.on("change:busy", wait);
      show(); say(); wait();
      el.append(img, text, sign);
      const quiet = () => {
        const form = el.closest(".upsnet-play");
        if (!form || form.dataset.lmSuppressShortcuts) return;
        form.dataset.lmSuppressShortcuts = "true";
        form.addEventListener("keydown", (event) => event.stopPropagation());
      };
      new IntersectionObserver(quiet).observe(el);  // in the page: keys are the controls', no notebook's
    }
    export default { render };
    """
    _css = """
    .upsnet-live { position: relative; width: fit-content; max-width: 100% }
    .upsnet-live img { display: block; max-width: 100%; height: auto; background: white; border-radius: 4px }
    .upsnet-text { white-space: pre-wrap; margin: 4px 2px; max-width: 760px; font-variant-numeric: tabular-nums;
      color: var(--jp-content-font-color1, inherit); font-family: var(--jp-content-font-family, inherit);
      font-size: var(--jp-content-font-size1, 14px); line-height: 1.5 }
    .upsnet-sign { position: absolute; top: 6px; right: 6px; padding: 1px 8px; border-radius: 9px; font-size: 12px;
      background: #1f2328; color: white; visibility: hidden }
    .upsnet-busy .upsnet-sign { animation: 0s linear 250ms forwards upsnet-appear }
    @keyframes upsnet-appear { to { visibility: visible } }
    """


# -------------------------------------------------------------------------------------------------------------- play


class Play(VBox):
    """`controls` above a picture and a sentence, which are `draw` of the controls' values; a button puts them back.

    canvas: a widget with `pictures` of its own that stands to the left of the picture and moves the controls.
    """

    def __init__(self, draw: Draw, controls: Mapping[str, Any], canvas: Any = None) -> None:
        self.draw, self.controls, self.canvas, self.live, self.held = draw, controls, canvas, Live(), False
        self.start = self.state()
        reset = Button(description="reset", layout=Layout(width="80px", margin="2px 0 2px 100px"))
        reset.on_click(lambda _: self.set(**self.start))
        if canvas is not None:
            self.live.layout = Layout(flex="1 1 300px", max_width="420px")  # beside it, not below, on a narrow page
        below = self.live if canvas is None else HBox([canvas, self.live], layout=BESIDE)
        super().__init__([HBox([*controls.values(), reset], layout=FORM), below])
        self.add_class("upsnet-play")
        for control in controls.values():
            control.observe(self.answer, "value")
        self.answer()

    def state(self) -> dict[str, Any]:
        return {name: control.value for name, control in self.controls.items()}

    def set(self, **values: Any) -> None:
        """Moves several controls and draws once."""
        self.held = True
        try:
            for name, value in values.items():
                self.controls[name].value = value
        finally:
            self.held = False
        self.answer()

    def answer(self, _change: Any = None) -> None:
        """Draws the state. What a user got wrong is said where the numbers stand."""
        if self.held:
            return
        self.live.busy = True
        try:
            said = self.draw(**self.state())
            self.image = beside([pixels(picture) for picture in said.pictures])
            with self.live.hold_sync():
                self.live.png, self.live.alt, self.live.text = quick_png(self.image), said.alt, said.text
        except UserError as error:
            self.live.text = str(error)
        finally:
            self.live.busy = False

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        beginning = [] if self.canvas is None else self.canvas.pictures()
        image = beside([*map(pixels, beginning), self.image])
        alt = " ".join([*(picture.alt_text for picture in beginning), self.live.alt])
        live = super()._repr_mimebundle_(**kwargs)
        return live | {"text/html": still(image, alt, self.live.text), "text/plain": self.live.text}


def play(draw: Draw, **controls: Any) -> Play:
    """A form that answers; see the top of this file."""
    return Play(draw, controls)


def still(image: UInt8[np.ndarray, "H W 3"], alt: str, text: str) -> str:
    """The picture and its numbers for a page on which no kernel runs."""
    said = f'<figcaption style="white-space:pre-wrap">{html.escape(text)}</figcaption>'
    return f'<figure style="margin:0">{img_of(small_png(image), alt, image.shape[1])}{said}</figure>'


# ------------------------------------------------------------------------------------------------------------- speed


def moves(control: Any, most: int = 5) -> list[Any]:
    """Values that a user might choose, from one end to the other."""
    if isinstance(control, SelectMultiple):
        return [(option,) for option in control.options[:most]]
    if isinstance(control, Dropdown):
        values = [value for _, value in control._options_full]
        return values[:: max(1, len(values) // most)]
    if isinstance(control, Checkbox):
        return [True, False]
    steps = round((control.max - control.min) / control.step)
    return [control.min + control.step * (steps * n // (most - 1)) for n in range(most)]


def seconds(widget: Play) -> dict[str, list[float]]:
    """How long every move of each control takes, from the value to the bytes of the new picture."""
    taken: dict[str, list[float]] = {}
    for name, control in widget.controls.items():
        taken[name] = []
        for value in moves(control):
            widget.held = True
            control.value = value
            widget.held = False
            begun = time.perf_counter()
            widget.answer()
            taken[name].append(time.perf_counter() - begun)
        widget.set(**widget.start)
    return taken
