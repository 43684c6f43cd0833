"""Pictures of lesson 01: one scene as three tasks see it, and small maps with every pixel's segment written on it.

Shapes   image (3, H, W) in [0, 1]    semantic (H, W) class index or IGNORE    panoptic (H, W) segment ids, 0 = void
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from upsnet_lite.categories import Categories
from upsnet_lite.viz.colors import Array, array, image_rgb, panoptic_rgb
from upsnet_lite.viz.labels import listed, segments_in_words, short
from upsnet_lite.viz.picture import INK, Picture, panels, styled
from upsnet_lite.viz.plots import HALO, draw_panoptic, draw_pixels, named

Answer = tuple[Array, Sequence[Mapping]]  # panoptic (H, W), segments_info
CELL = 24  # pixels that a cell of a small map is drawn with: void needs room for its hatch


@styled
def show_three_tasks(image: Float[Array, "3 H W"], target: Mapping, categories: Categories) -> Picture:
    """The image and what three tasks ask for: a class for each pixel, the objects that can be counted, both."""
    ids, segments = array(target["panoptic"]), target["segments_info"]
    things = [s for s in segments if categories[categories.index(s["category_id"])].isthing and not s.get("iscrowd")]
    classes = array(target["semantic"])
    of_class = [dict(id=int(i) + 1, category_id=categories[int(i)].id) for i in np.unique(classes) if i >= 0]
    answers = {
        "semantic": (np.where(classes < 0, 0, classes + 1), of_class, f"{len(of_class)} classes"),
        "instance": (np.where(np.isin(ids, [s["id"] for s in things]), ids, 0), things, f"{len(things)} objects"),
        "panoptic": (ids, segments, f"{len(segments)} segments"),
    }
    figure, axes, _ = panels(4, 4, image.shape[1] / image.shape[2])
    draw_pixels(axes[0], image_rgb(image), "image")
    told = []
    for ax, (name, (shown, chosen, note)) in zip(axes[1:], answers.items(), strict=True):
        draw_panoptic(ax, image, shown, chosen, categories, alpha=0.8)
        named(ax, name, note)
        told.append(f"{name}, {note}: {segments_in_words(chosen, categories)}")
    figure.alt_text = f"One picture and three answers. {'; '.join(told)}."
    return figure


@styled
def show_answers(answers: Mapping[str, Answer], categories: Categories, title: str = "", columns: int = 4) -> Picture:
    """Small maps side by side: a cell is a pixel, with its segment's id and class; void is 0 and hatched."""
    tallest = max(array(ids).shape[0] / array(ids).shape[1] for ids, _ in answers.values())
    figure, axes, _ = panels(len(answers), columns, tallest, title, largest=2.3)
    told = []
    for ax, (name, (ids, segments)) in zip(axes, answers.items(), strict=True):
        draw_cells(ax, array(ids), segments, categories)
        named(ax, name)
        rows = " / ".join(" ".join(str(i) for i in row) for row in array(ids).tolist())
        meaning = listed([f"{s['id']} is {name_of(s, categories)}" for s in segments])
        told.append(f"{name}, row by row: {rows}, where {meaning}")
    figure.alt_text = f"{title or 'Maps of segment ids'}. {'; '.join(told)}."
    return figure


def draw_cells(axes: Axes, ids: np.ndarray, segments: Sequence[Mapping], categories: Categories) -> None:
    height, width = ids.shape
    pixels = panoptic_rgb(ids.repeat(CELL, 0).repeat(CELL, 1), segments, categories)
    axes.imshow(pixels, extent=(-0.5, width - 0.5, height - 0.5, -0.5))
    for (y, x), i in np.ndenumerate(ids):  # a line at every cell's left and upper edge, strong where the segment ends
        axes.vlines(x - 0.5, y - 0.5, y + 0.5, "white", lw=3.5 if x and ids[y, x - 1] != i else 0.5)
        axes.hlines(y - 0.5, x - 0.5, x + 0.5, "white", lw=3.5 if y and ids[y - 1, x] != i else 0.5)
    names = {s["id"]: name_of(s, categories) for s in segments}
    middle = dict(ha="center", color=INK, path_effects=HALO)
    for (y, x), i in np.ndenumerate(ids):
        axes.text(x, y, str(i), va="bottom" if i in names else "center", size=8.5, weight="bold", **middle)
        name = names.get(int(i), "").replace("crowd of", "crowd\nof")  # a cell is narrow
        axes.text(x, y + 0.04, name, va="top", size=6.5, linespacing=0.85, **middle)


def name_of(segment: Mapping, categories: Categories) -> str:
    name = short(categories[categories.index(segment["category_id"])].name)
    return f"crowd of {name}" if segment.get("iscrowd") else name
