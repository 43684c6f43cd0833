"""FusionExplorer: every knob of the fusion beside the map that it changes.

    FusionExplorer("tiny-shapes", "data/shapes", first=1)

All arithmetic is `fusion.fuse` of a `FusionState`; here it is bound to controls. A move is answered before the next is
heard: while the kernel computes, the browser keeps only the latest value of the control that is dragged, so nothing
queues up. An answer that takes longer shows a sign on the map.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any

import torch
from ipywidgets import (
    HTML,
    Button,
    Checkbox,
    Dropdown,
    FloatRangeSlider,
    FloatSlider,
    HBox,
    Label,
    Layout,
    ToggleButtons,
    VBox,
)
from torch import Tensor

from upsnet_lite.boxes import box_edges, clip
from upsnet_lite.datasets.coco_panoptic import CocoPanoptic
from upsnet_lite.files import UserError
from upsnet_lite.model import UPSNet
from upsnet_lite.viz.colors import array, symmetric_limit
from upsnet_lite.viz.figures import maps_html, measures_html
from upsnet_lite.viz.fusion import (
    FusionState,
    Scene,
    code,
    column,
    fuse,
    largest,
    look_at,
    looks,
    maps,
    scene,
    settled,
    surest,
)
from upsnet_lite.viz.labels import segments_in_words
from upsnet_lite.viz.lessons_panoptic import show_instance
from upsnet_lite.viz.photo import read_upload
from upsnet_lite.viz.picture import Picture
from upsnet_lite.viz.plots import show_panoptic
from upsnet_lite.viz.rows import instance_rows, map_rows
from upsnet_lite.viz.widgets import CopyCode, InstanceList, PanopticCanvas, PixelInspector, Standing, Upload
from upsnet_lite.weights import load

MOST = 300  # images of a data set in the list
WORTH, TRIED = 3, 10  # instances that make an image worth beginning with; among the first so many images
KNOBS = ("score", "nms", "overlap", "y_scale", "unknown", "outside")  # fields of FusionState that have a control each
NAMED, WIDE = dict(description_width="92px"), Layout(width="400px")
WRAP, BESIDE = Layout(flex_flow="row wrap"), Layout(width="92px", justify_content="flex-end")
OUTSIDE = ["an instance's logit outside its box is 0: no opinion", "an instance cannot win outside its box"]


class FusionExplorer(Standing, VBox):
    """Choose an image, an instance, a pixel; move a threshold: the map, the four maps of the instance and PQ answer.

    checkpoint   what `load` takes; `model` where it is loaded already
    data         root of a data set; its images come with PQ        images   files, without
    first        index in `data` to begin with; None takes the first with some instances, images first
    upload       offers to read the user's own file
    """

    def __init__(
        self,
        checkpoint: str | Path = "tiny-shapes",
        data: str | Path | None = None,
        images: Sequence[str | Path] = (),
        first: int | None = None,
        split: str = "val",
        model: UPSNet | None = None,
        upload: bool = False,
    ) -> None:
        self.checkpoint, self.model, self.split = checkpoint, load(checkpoint) if model is None else model, split
        self.sources = sources(data, images, split)
        self.held, self.boxes = False, {}
        self.build()
        super().__init__(self.arranged(upload))
        self.image.value = self.worth_seeing() if first is None else len(images) + first
        self.look()
        self.listen()
        self.pictures = self.still

    # ------------------------------------------------------------------------------------------------- the controls

    def build(self) -> None:
        names = [(name, n) for n, (name, *_) in enumerate(self.sources)]
        self.image = Dropdown(options=names, description="image", layout=WIDE, style=NAMED)
        self.score, self.nms = slider("score ≥", 1, 0.01), slider("NMS IoU", 1, 0.01)
        self.overlap, self.y_scale = slider("overlap ≤", 1, 0.01), slider("Y ×", 3, 0.05)
        tick = Layout(width="auto", margin="0 0 0 98px")
        self.unknown = Checkbox(description="unknown channel", indent=False, layout=tick)
        outside = [("0", 0.0), ("−∞", float("-inf"))]
        self.outside = ToggleButtons(options=outside, tooltips=OUTSIDE, style=dict(button_width="52px"))
        self.across, self.down = edge_slider("box, x"), edge_slider("box, y")
        self.reset = Button(description="reset", layout=Layout(width="90px", margin="0 8px 0 98px"))
        self.canvas = PanopticCanvas(torch.zeros(3, 1, 1), torch.zeros(1, 1, dtype=int), [], self.model.categories)
        self.instances, self.inspector, self.copy, self.upload = InstanceList(), PixelInspector(), CopyCode(), Upload()
        self.maps, self.measures, self.said = HTML(), HTML(), HTML()

    def arranged(self, upload: bool) -> list:
        """At the left the map and its instances, at the right knobs, PQ and the pixel; below, one instance's maps."""
        outside = HBox([Label("outside boxes", layout=BESIDE), self.outside])
        knobs = [self.score, self.nms, self.overlap, self.y_scale, self.unknown, outside]
        knobs += [HBox([self.reset, self.copy], layout=WRAP), self.measures, self.inspector]
        left = VBox([self.canvas, self.instances], layout=Layout(margin="0 18px 0 0"))
        boxes = HBox([self.across, self.down], layout=WRAP)
        head = HBox([self.image, self.upload] if upload else [self.image], layout=WRAP)
        return [head, self.said, HBox([left, VBox(knobs)], layout=WRAP), self.maps, boxes]

    def listen(self) -> None:
        """What each control starts when it is moved."""
        calls = {(self.image, "value"): self.look, (self.instances, "off"): self.answer}
        calls |= {(control, "value"): self.answer for control in self.knobs().values()}
        calls |= {(control, "value"): self.slide for control in (self.across, self.down)}
        calls |= {(self.canvas, "segment"): self.click, (self.canvas, "pixel"): self.inspect}
        calls |= {(self.canvas, "box"): self.drag, (self.upload, "content"): self.receive}
        calls |= {(self.instances, "chosen"): self.draw_instance}
        for (control, name), call in calls.items():
            control.observe(lambda _, call=call: None if self.held else call(), name)
        self.reset.on_click(lambda _: self.set(FusionState.of(self.model)))

    def knobs(self) -> dict[str, Any]:
        """FusionState's field -> the control that sets it."""
        return {name: getattr(self, name) for name in KNOBS}

    @property
    def state(self) -> FusionState:
        """Where the knobs stand."""
        values = {name: control.value for name, control in self.knobs().items()}
        values |= dict(off=tuple(self.instances.off), boxes=tuple(self.boxes.items()))
        return settled(FusionState(**values), self.scene)

    def set(self, state: FusionState) -> None:
        """Moves every knob, and answers once."""
        with self.quiet():
            for name, control in self.knobs().items():
                control.value = getattr(state, name)
            self.instances.off, self.boxes = list(state.off), dict(state.boxes)
        self.answer()

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """A control that is set here, not by the user, starts nothing."""
        held, self.held = self.held, True
        try:
            yield
        finally:
            self.held = held

    # ---------------------------------------------------------------------------------------------------- an image

    def look(self) -> None:
        """Lets the network see the chosen image; everything else begins anew."""
        with self.working():
            try:
                self.scene = self.scene_of(self.image.value)
            except UserError as error:
                return self.say(str(error))
            self.say("")
            self.before = self.fused = fuse(self.scene, FusionState.of(self.model))
            with self.quiet():
                (height, width), self.boxes = self.fused.winner.shape, {}
                self.across.max, self.down.max = width, height
                self.instances.chosen = i = largest(self.fused)
                self.canvas.pixel = list(surest(self.scene, self.fused, i))
        self.set(FusionState.of(self.model))

    def scene_of(self, n: int) -> Scene:
        name, source, index = self.sources[n]
        if isinstance(source, Tensor):
            return look_at(self.model, source, f"scene({str(self.checkpoint)!r}, {name!r})", name)
        return scene(self.checkpoint, source, index, self.split, self.model)

    def worth_seeing(self) -> int:
        """The first image with some instances; the first of all where there is none."""
        for n in range(min(TRIED, len(self.sources))):
            if len(self.scene_of(n).trace.C) >= WORTH:
                return n
        return 0

    def receive(self) -> None:
        """The user's own file joins the list, and is looked at."""
        content = bytes(self.upload.content)
        with self.quiet():
            self.upload.content = b""  # else the same file, sent again, would be no change
        try:
            image = read_upload(content, self.upload.name)
        except UserError as error:
            self.upload.said = str(error)
            return
        self.sources.append((self.upload.name, image, None))
        with self.quiet():
            self.image.options = [*self.image.options, (self.upload.name, len(self.sources) - 1)]
        self.image.value = len(self.sources) - 1
        self.upload.said = f"{image.shape[2]} x {image.shape[1]} px"

    # ----------------------------------------------------------------------------------------------------- answers

    @contextmanager
    def working(self) -> Iterator[None]:
        self.canvas.busy = True
        try:
            yield
        finally:
            self.canvas.busy = False

    def answer(self) -> None:
        """Fuses again, and shows everything that follows."""
        with self.working():
            self.fused = fuse(self.scene, self.state)
            self.draw_map()
            self.measures.value = measures_html(self.before, self.fused)
            self.draw_instance()
            self.inspect()
            self.copy.code = code(self.scene, self.state)

    def draw_map(self) -> None:
        fused = self.fused
        what = segments_in_words(fused.segments_info, self.model.categories)
        with self.quiet():
            self.canvas.show(self.scene.image, fused.panoptic, map_rows(self.scene, fused), what)
            self.canvas.segment = int(fused.panoptic[tuple(self.canvas.pixel)])
            self.instances.rows = instance_rows(self.scene, fused)

    def draw_instance(self) -> None:
        """The four maps of the chosen instance, and its box."""
        i, fused = self.instances.chosen, self.fused
        self.across.disabled = self.down.disabled = i < 0
        if i < 0:
            self.maps.value, self.canvas.box = "", []
            return
        limit = symmetric_limit(maps(self.scene, self.before, i))  # of before: a smaller Y looks paler
        k = fused.kept.index(i) if i in fused.kept else None
        channel = "not in Z" if k is None else f"channel {self.model.config.num_stuff + k}"
        edges = clip(box_edges(fused.detections.boxes[i : i + 1])[0], *fused.winner.shape)
        name = looks(self.scene, fused)[i][0]
        self.maps.value = maps_html(array(maps(self.scene, fused, i)), limit, name, channel, edges)
        x0, y0, x1, y1 = (round(v, 1) for v in fused.detections.boxes[i].tolist())
        with self.quiet():
            self.canvas.box, self.across.value, self.down.value = [x0, y0, x1, y1], (x0, x1), (y0, y1)

    def inspect(self) -> None:
        self.inspector.show(column(self.scene, self.fused, *self.canvas.pixel))

    def click(self) -> None:
        """A click on a thing looks at it."""
        for i, segment in self.fused.segment_of.items():
            if segment == self.canvas.segment:
                self.instances.chosen = i

    def drag(self) -> None:
        self.move(tuple(self.canvas.box))

    def slide(self) -> None:
        (x0, x1), (y0, y1) = self.across.value, self.down.value
        self.move((x0, y0, x1, y1))

    def move(self, box: tuple[float, ...]) -> None:
        """The chosen instance's box is put elsewhere."""
        if self.instances.chosen >= 0:
            self.boxes[self.instances.chosen] = tuple(round(float(v), 1) for v in box)
            self.answer()

    def say(self, text: str) -> None:
        look = "color:var(--jp-error-color1,#b3261e);font:13px var(--jp-ui-font-family,system-ui)"
        self.said.value = f'<div role="alert" style="{look}">{escape(text)}</div>' if text else ""

    def still(self) -> list[Picture]:
        """What stands where no kernel runs: the map, and the largest instance's way into it."""
        trace, categories, i = self.scene.trace, self.model.categories, largest(self.before)
        shown = [show_panoptic(trace.image, trace.panoptic, trace.segments_info, categories)]
        return shown + ([show_instance(trace.image, trace, self.before.kept.index(i), categories)] if i >= 0 else [])


# ------------------------------------------------------------------------------------------------------------- helpers


def sources(data: str | Path | None, images: Sequence[str | Path], split: str) -> list[tuple]:
    """(name, file or root, index or None) of each image to choose from. UserError where there is none."""
    found: list[tuple] = [(Path(path).name, path, None) for path in images]
    if data is not None:
        names = (entry["file_name"] for entry in CocoPanoptic(data, split, limit=MOST).images)
        found += [(name, data, n) for n, name in enumerate(names)]
    if not found:
        raise UserError("there is no image to explore; give a data set or image files")
    return found


def slider(name: str, high: float, step: float) -> FloatSlider:
    return FloatSlider(value=0, min=0, max=high, step=step, description=name, layout=WIDE, style=NAMED)


def edge_slider(name: str) -> FloatRangeSlider:
    """For the keyboard what dragging an edge is for the mouse; a number can be typed, too."""
    look = dict(readout_format=".1f", description=name, layout=WIDE, style=NAMED)
    return FloatRangeSlider(value=(0, 1), min=0, max=1, step=0.1, **look)  # to which boxes are rounded
