"""What the mouse touches: a panoptic map under the pointer, the bars of the pixel that was clicked, lists and buttons.

    PanopticCanvas(image, panoptic, segments_info, categories)     .pixel, .segment: what was clicked; .box: to drag
    PixelInspector()                                               .show(column): Z at one pixel as bars
    inspect_pixels(scene, at=(row, column))                        the two side by side

The browser's part is in static/, one ES module a widget, which is sent along: nothing is fetched. Where no kernel runs,
pictures stand in for the widget.

Shapes   image (3, H, W) float RGB in [0, 1]    panoptic (H, W) segment ids, 0 = unknown    boxes xyxy
"""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import anywidget
import torch
import traitlets
from ipywidgets import HTML, HBox, Layout
from jaxtyping import Float, Int

from upsnet_lite.categories import Categories
from upsnet_lite.panoptic_quality import rank_of_id
from upsnet_lite.viz.charts import pixel_bars
from upsnet_lite.viz.colors import Array, array, hatch_period, image_rgb
from upsnet_lite.viz.fusion import Column, FusionState, Scene, column, fuse
from upsnet_lite.viz.inspector import bars, words
from upsnet_lite.viz.labels import segments_in_words
from upsnet_lite.viz.lessons_panoptic import show_winners
from upsnet_lite.viz.picture import Picture, img
from upsnet_lite.viz.plots import show_panoptic
from upsnet_lite.viz.rows import rows_of

STATIC = Path(__file__).parent / "static"
KEYS = "Arrow keys move a cursor, with Shift ten pixels; Enter selects; plus, minus and 0 zoom."
HINT = "Point at a segment, click a pixel. The wheel zooms, a double click shows all again."


def static(*names: str) -> str:
    """Files of static/, one after another."""
    return "\n".join((STATIC / name).read_text(encoding="utf-8") for name in names)


class Standing:
    """A widget for whose view pictures stand where no kernel runs: a repository's page, a lesson not yet executed."""

    pictures: Callable[[], Sequence[Picture]]

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        live = super()._repr_mimebundle_(**kwargs)
        drawn = self.pictures()
        html = "".join(f"<div>{img(picture)}</div>" for picture in drawn)
        view = live[0] if isinstance(live, tuple) else live
        return view | {"text/html": html, "text/plain": " ".join(picture.alt_text for picture in drawn)}


# -------------------------------------------------------------------------------------------------------------- canvas


class PanopticCanvas(Standing, anywidget.AnyWidget):
    """An image under its panoptic map: hover to learn a segment's name, click to choose a pixel.

    pixel: [row, column] that was clicked, [] before; segment: its segment's id, 0 where unknown, -1 before.
    box: [x0, y0, x1, y1] whose edges can be dragged, [] where there is none.
    """

    _esm = static("pixels.js", "canvas.js")
    _css = static("canvas.css")
    size = traitlets.List(traitlets.Int()).tag(sync=True)
    image = traitlets.Bytes().tag(sync=True)
    labels = traitlets.Bytes().tag(sync=True)
    segments = traitlets.List().tag(sync=True)
    stripes = traitlets.Int(4).tag(sync=True)
    pixel = traitlets.List(traitlets.Int()).tag(sync=True)
    segment = traitlets.Int(-1).tag(sync=True)
    box = traitlets.List(traitlets.Float()).tag(sync=True)
    busy = traitlets.Bool().tag(sync=True)
    alt = traitlets.Unicode().tag(sync=True)
    hint = traitlets.Unicode(HINT).tag(sync=True)

    def __init__(
        self,
        image: Float[Array, "3 H W"],
        panoptic: Int[Array, "H W"],
        segments_info: Sequence[Mapping],
        categories: Categories,
    ) -> None:
        super().__init__()
        rows = rows_of(panoptic, segments_info, categories)
        self.show(
            image,
            rank_of_id(torch.as_tensor(panoptic), segments_info),
            rows,
            segments_in_words(segments_info, categories),
        )
        self.pictures = lambda: [show_panoptic(image, panoptic, segments_info, categories)]

    def show(self, image: Float[Array, "3 H W"], labels: Int[Array, "H W"], rows: Sequence[Mapping], what: str) -> None:
        """Another map. labels: places in `rows`, of which the first is the unknown."""
        height, width = labels.shape
        with self.hold_sync():
            self.size = [height, width]
            self.image = image_rgb(image).tobytes()
            self.labels = array(labels).astype("<u2").tobytes()
            self.segments = list(rows)
            self.stripes = hatch_period(height, width)
            self.alt = f"Panoptic map, {width} by {height} pixels: {what}. {KEYS}"


# ----------------------------------------------------------------------------------------------------------- inspector


class PixelInspector(HTML):
    """Z at one pixel as bars: each instance split into x_mask and y_mask, the softmax beside it, the winner marked."""

    def show(self, column: Column) -> None:
        self.value = f"<div>{heading(words(column))}{bars(column)}</div>"


def heading(text: str) -> str:
    look = "margin:2px 0 6px;color:var(--jp-ui-font-color1,inherit);font:13px/1.4 var(--jp-ui-font-family,system-ui)"
    return f'<div style="{look}">{escape(text)}</div>'


class PixelView(Standing, HBox):
    """A canvas, and beside it the inspector of the pixel that was clicked last."""

    def __init__(self, scene: Scene, at: tuple[int, int]) -> None:
        trace, categories = scene.trace, scene.model.categories
        self.canvas = PanopticCanvas(trace.image, trace.panoptic, trace.segments_info, categories)
        self.inspector = PixelInspector(layout=Layout(width="470px", margin="0 0 0 16px"))
        fused = fuse(scene, FusionState.of(scene.model))
        self.canvas.observe(lambda change: self.inspector.show(column(scene, fused, *change["new"])), "pixel")
        self.canvas.pixel = list(at)
        super().__init__([self.canvas, self.inspector], layout=Layout(flex_flow="row wrap"))
        self.pictures = lambda: [
            show_winners({"Z": trace.winner}, trace.C, categories, trace.image, "one pixel", marks={"": at}),
            pixel_bars(trace.z, trace.x_mask, trace.y_mask, trace.C, categories, at),
        ]


def inspect_pixels(scene: Scene, at: tuple[int, int]) -> PixelView:
    """Click a pixel of the map and see its column of Z. at: (row, column) to begin with."""
    return PixelView(scene, at)


# --------------------------------------------------------------------------------------------------- lists and buttons


class InstanceList(anywidget.AnyWidget):
    """Every detection with a tick for being in Z. off: those switched off; chosen: the one that is looked at."""

    _esm = static("instances.js")
    _css = static("instances.css")
    rows = traitlets.List().tag(sync=True)
    off = traitlets.List(traitlets.Int()).tag(sync=True)
    chosen = traitlets.Int(-1).tag(sync=True)


class CopyCode(anywidget.AnyWidget):
    """A button that copies `code` and shows it."""

    _esm = static("copy.js")
    _css = static("copy.css")
    code = traitlets.Unicode().tag(sync=True)


class Upload(anywidget.AnyWidget):
    """The user's own file: `name` and `content`; `said` is what came of it. `most`: bytes that one message may have."""

    _esm = static("upload.js")
    _css = static("upload.css")
    name = traitlets.Unicode().tag(sync=True)
    content = traitlets.Any(b"").tag(sync=True)  # a memoryview, which traitlets does not take for bytes
    said = traitlets.Unicode().tag(sync=True)
    most = traitlets.Int(8_000_000).tag(sync=True)  # Jupyter's server closes the line at 10 MiB
