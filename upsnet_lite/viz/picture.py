"""What every figure has in common: fonts and margins, panels that line up, alt text, small PNGs.

A `Picture` is a matplotlib Figure that shows itself in a notebook as one <img> with alt text. It never passes through
pyplot, so it is shown once, where its cell ends, and needs no closing. Lengths are in inches.
"""

import base64
import html
import io
from collections.abc import Callable
from functools import wraps
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from PIL import Image

from upsnet_lite.files import write_aside
from upsnet_lite.viz.colors import DIVERGING, NOTHING, SEQUENTIAL, Number

DPI = 90  # of notebooks: sharp enough to read, small enough to commit
WIDTH = 8.0  # of a full figure
MARGIN, GAP = 0.08, 0.12
NAME, TITLE, BAR, TICKS = 0.22, 0.34, 0.75, 0.3  # strips: above a panel, above a figure, right of it, at an axis
INK, GREY = "#1f2328", "#6b7280"
STEP = 4  # of a colour in a stored PNG, of 255: not to be seen

STYLE = {
    "font.family": "DejaVu Sans",  # matplotlib brings it: the same picture on every machine
    "font.size": 8.5,
    "text.color": INK,
    "axes.titlesize": 8.5,
    "axes.titlepad": 4,
    "axes.titlelocation": "left",
    "axes.labelsize": 8.5,
    "axes.labelcolor": GREY,
    "axes.edgecolor": "#c4c8ce",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "grid.color": "#e6e8eb",
    "image.interpolation": "nearest",  # a tensor's pixels are what there is to see
    "figure.dpi": DPI,
    "figure.facecolor": "white",
    "lines.linewidth": 1.6,
    "hatch.linewidth": 1.0,
}


def use_style() -> None:
    """The project's look for figures of your own; the functions of `plots` bring it along."""
    matplotlib.rcParams.update(STYLE)


def styled(draw: Callable) -> Callable:
    """A function that draws in the project's style and leaves the user's settings alone."""

    @wraps(draw)
    def drawn(*args, **kwargs):
        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return drawn


DIVERGING_MAP = ListedColormap(DIVERGING / 255, name="logits").with_extremes(bad=np.array(NOTHING) / 255)
SEQUENTIAL_MAP = ListedColormap(SEQUENTIAL / 255, name="probabilities").with_extremes(bad=np.array(NOTHING) / 255)


# ---------------------------------------------------------------------------------------------------------- figures


class Picture(Figure):
    """A figure with alt text. `.save(path)` writes a PNG."""

    def __init__(self, width: Number, height: Number, text: str = "") -> None:
        super().__init__(figsize=(width, height))
        FigureCanvasAgg(self)
        self.alt_text = text

    def _ipython_display_(self) -> None:
        from IPython.display import display  # only a notebook calls this

        display({"text/html": img(self), "text/plain": self.alt_text}, raw=True)

    def _repr_html_(self) -> str:
        return img(self)

    def save(self, path: str | Path, dpi: int = 2 * DPI) -> None:
        with write_aside(Path(path)) as aside:
            aside.write_bytes(png(self, dpi))


class Shown:
    """A figure that somebody else made, with alt text."""

    def __init__(self, figure: Figure, text: str) -> None:
        self.figure, self.alt_text = figure, text

    def _repr_html_(self) -> str:
        return img(self.figure, self.alt_text)


def alt(figure: Figure, text: str) -> "Picture | Shown":
    """The figure with this alt text, to be the last line of a cell. ValueError: a text that says nothing."""
    if not text.strip():
        raise ValueError("alt text is empty: say in one sentence what there is to see in the figure")
    if isinstance(figure, Picture):
        figure.alt_text = text
        return figure
    from matplotlib import pyplot  # it came from there, which would show it a second time

    pyplot.close(figure)
    return Shown(figure, text)


def img(figure: Figure, text: str | None = None) -> str:
    """An <img> element that carries the PNG itself."""
    return img_of(png(figure), figure.alt_text if text is None else text, round(figure.get_figwidth() * DPI))


def img_of(data: bytes, text: str, width: int, kind: str = "png") -> str:
    """An <img> element that carries a picture file."""
    style = "max-width:100%;height:auto;background:white;border-radius:4px"  # readable in a dark notebook too
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return f'<img alt="{html.escape(text)}" width="{width}" style="{style}" src="{source}">'


def png(figure: Figure, dpi: int = DPI) -> bytes:
    """The figure as a small PNG."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dpi)
    return small_png(np.array(Image.open(file).convert("RGB")))


def quick_png(pixels: np.ndarray) -> bytes:
    """(H, W, 3) uint8 as PNG in a few milliseconds; `small_png` takes its time to make it small."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def small_png(pixels: np.ndarray) -> bytes:
    """(H, W, 3) uint8 as PNG; more than 256 colours are rounded to steps of `STEP`: a third smaller, no colour moves.

    (A palette of 256 would be smaller still, but gives a small object of a colour of its own its neighbours' colour.)
    """
    flat = pixels.reshape(-1, 3).astype(int) @ (1, 256, 65536)
    colors, index = np.unique(flat, return_inverse=True)
    if len(colors) <= 256:
        image = Image.fromarray(index.reshape(pixels.shape[:2]).astype(np.uint8))
        image.putpalette((colors[:, None] >> (0, 8, 16) & 255).astype(np.uint8).tobytes())
    else:
        steps = (255 - pixels.astype(int) + STEP // 2) // STEP * STEP  # counted from white, which stays white
        image = Image.fromarray((255 - steps).clip(0).astype(np.uint8))
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


# ----------------------------------------------------------------------------------------------------------- panels


def panels(
    count: int,
    columns: int,
    aspect: Number,
    title: str = "",
    note: str = "",
    *,
    bar: bool = False,
    names: bool = True,
    ticks: bool = False,
    largest: Number = 3.6,
) -> tuple[Picture, list[Axes], Axes | None]:
    """Equal panels in rows: the figure, one axes per panel, the axes of the colour bar.

    aspect: height / width of a panel; largest: its width at most; names, ticks: room for them at every panel (without
    ticks it is bare); bar: room for one colour bar. `note` follows the title in grey.
    """
    columns = min(columns, count)
    rows = -(-count // columns)
    side, below, above = TICKS * ticks, TICKS * ticks, NAME * names
    width = min((WIDTH - 2 * MARGIN - BAR * bar - (columns - 1) * GAP) / columns - side, largest)
    height = width * aspect
    step_x, step_y = side + width + GAP, above + height + below + GAP / 2
    top = TITLE if title else 0
    wide = max(2 * MARGIN + columns * step_x - GAP + BAR * bar, 3.2)
    tall = top + rows * step_y - GAP / 2 + MARGIN
    figure = Picture(wide, tall)
    if title:
        heading(figure, title, note)

    def place(x: Number, y: Number, w: Number, h: Number) -> Axes:
        return figure.add_axes((x / wide, 1 - (y + h) / tall, w / wide, h / tall))

    axes = []
    for i in range(count):
        row, column = divmod(i, columns)
        panel = place(MARGIN + side + column * step_x, top + above + row * step_y, width, height)
        axes.append(panel if ticks else bare(panel))
    length = min(rows * step_y - GAP / 2 - above, 1.6)
    bar_axes = place(MARGIN + columns * step_x, top + NAME, 0.11, length - (NAME - above)) if bar else None
    return figure, axes, bar_axes


def heading(figure: Figure, title: str, note: str = "") -> None:
    """Title in the upper left corner, the note behind it in grey."""
    x, y = MARGIN / figure.get_figwidth(), 1 - 0.09 / figure.get_figheight()
    text = figure.text(x, y, title, size=10.5, weight="bold", va="top")
    if note:  # placed against the title's box, whatever its width
        behind = dict(xy=(1, 0), xycoords=text, xytext=(7, 0.6), textcoords="offset points")
        figure.add_artist(Annotation(note, **behind, size=8.5, color=GREY, va="bottom"))


def bare(axes: Axes) -> Axes:
    """No ticks, no frame."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    return axes


def scale_bar(figure: Figure, axes: Axes, image, label: str) -> None:
    """One colour bar for all panels."""
    bar = figure.colorbar(image, cax=axes)
    bar.outline.set_visible(False)
    axes.tick_params(length=2, width=0.6)
    axes.set_title(label, size=7.5, color=GREY, pad=5)
