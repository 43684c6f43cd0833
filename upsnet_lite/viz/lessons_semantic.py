"""Pictures of the semantic head: where the taps of a deformable convolution fall, and X as a map of classes.

A pixel (row, column) of a map of stride s stands for the image at s · (row, column) + (s - 1) / 2.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from upsnet_lite.categories import Categories
from upsnet_lite.viz.charts import RUNS
from upsnet_lite.viz.colors import Array, array, image_rgb
from upsnet_lite.viz.labels import listed, short
from upsnet_lite.viz.picture import INK, Picture, panels, styled
from upsnet_lite.viz.plots import draw_panoptic, named


@styled
def show_taps(
    image: Float[Array, "3 H W"],
    mask: Bool[Array, "H W"],
    taps: Mapping[str, Float[Array, "N K 2"]],
    margin: int = 14,
    title: str = "taps",
) -> Picture:
    """For N output pixels the K places that each reads, in image pixels (row, column), one panel for each name.

    The picture is cut to the mask, whose border is a line. A pixel has one colour; lines join its tap in the middle, a
    square, to the others.
    """
    rows, columns = np.nonzero(array(mask))
    height, width = array(mask).shape
    top, bottom = max(rows.min() - margin, 0), min(rows.max() + margin, height)
    left, right = max(columns.min() - margin, 0), min(columns.max() + margin, width)
    figure, axes, _ = panels(len(taps), 3, (bottom - top) / (right - left), title)
    for ax, (name, places) in zip(axes, taps.items(), strict=True):
        ax.imshow(0.35 * image_rgb(image) / 255 + 0.65)  # pale: the taps are what counts
        ax.contour(array(mask).astype(float), [0.5], colors=INK, linewidths=1.4)
        for n, own in enumerate(array(places)):
            color, middle = RUNS[n % len(RUNS)], own[len(own) // 2]
            for tap in own:
                ax.plot([middle[1], tap[1]], [middle[0], tap[0]], color=color, lw=1.1)
            ax.plot(own[:, 1], own[:, 0], "o", color=color, ms=5)
            ax.plot(*own[len(own) // 2, ::-1], "s", color="white", ms=6.5, mec=color, mew=1.8)
        ax.set(xlim=(left - 0.5, right - 0.5), ylim=(bottom - 0.5, top - 0.5))
        named(ax, name)
    count = len(array(next(iter(taps.values()))))
    figure.alt_text = f"{title}: the places that {count} pixels on an object's border read, {listed(list(taps))}."
    return figure


@styled
def show_semantic(
    image: Float[Array, "3 H W"], maps: Mapping[str, Int[Array, "H W"]], categories: Categories, alpha: float = 0.65
) -> Picture:
    """Maps of class indices over the picture, side by side, names on their regions; IGNORE is hatched."""
    height, width = array(image).shape[1:]
    figure, axes, _ = panels(len(maps), 3, height / width)
    said = []
    for ax, (name, semantic) in zip(axes, maps.items(), strict=True):
        ids, segments = as_segments(semantic, categories)
        draw_panoptic(ax, image, ids, segments, categories, alpha)
        named(ax, name, f"{len(segments)} classes")
        said.append(f"{name}: {listed([short(categories[s['id'] - 1].name) for s in segments])}")
    figure.alt_text = "Class maps. " + "; ".join(said) + "."
    return figure


def as_segments(semantic: Int[Array, "H W"], categories: Categories) -> tuple[np.ndarray, Sequence[dict]]:
    """A class map as one segment per class, id = class index + 1; IGNORE becomes 0."""
    ids = np.maximum(array(semantic) + 1, 0)
    return ids, [dict(id=int(i), category_id=categories[int(i) - 1].id) for i in np.unique(ids) if i]
