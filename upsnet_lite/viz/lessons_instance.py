"""Pictures of the instance head: crowds of boxes, and masks in their classes' colours.

Shapes   image (3, H, W)    boxes (N, 4) xyxy, pixels of the image    masks (N_inst, H, W) bool    classes (N_inst,)
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float, Int
from matplotlib.patches import Rectangle

from upsnet_lite.categories import Categories
from upsnet_lite.viz.charts import RUNS
from upsnet_lite.viz.colors import Array, array, grey_rgb, image_rgb
from upsnet_lite.viz.labels import class_names, listed, z_colors
from upsnet_lite.viz.picture import INK, Picture, panels, styled
from upsnet_lite.viz.plots import draw_boxes, draw_pixels, named


@styled
def show_box_sets(
    image: Float[Array, "3 H W"],
    sets: Mapping[str, Float[Array, "_ 4"]],
    truth: Float[Array, "N 4"] | None = None,
    title: str = "boxes",
    columns: int = 5,
) -> Picture:
    """Nameless boxes over the picture, one panel for each set, thinner where there are many; the truth in black."""
    pixels = image_rgb(image)
    figure, axes, _ = panels(len(sets), columns, pixels.shape[0] / pixels.shape[1], title, largest=3.0)
    for ax, (name, boxes) in zip(axes, sets.items(), strict=True):
        draw_pixels(ax, np.rint(0.55 * pixels + 0.45 * 255).astype(np.uint8), name, f"{len(array(boxes))}")
        if truth is not None:  # wider than the boxes and below them: neither hides the other
            _draw(ax, truth, ec=INK, lw=3.2, ls=(0, (1.7, 0.9)))
        count = len(array(boxes))
        look = dict(lw=1.8) if count < 12 else dict(lw=1.0, alpha=0.8) if count < 100 else dict(lw=0.7, alpha=0.3)
        _draw(ax, boxes, ec=RUNS[0], **look)
    counts = listed([f"{n} {len(array(b))}" for n, b in sets.items()])
    figure.alt_text = f"{title} over the picture: {counts}" + ("; true boxes dashed." if truth is not None else ".")
    return figure


def _draw(axes, boxes, **look) -> None:
    for x0, y0, x1, y1 in array(boxes) - 0.5:  # continuous coordinates -> imshow, whose pixel centres are integers
        axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, **look))


@styled
def show_masks(
    image: Float[Array, "3 H W"],
    masks: Bool[Array, "N_inst H W"],
    boxes: Float[Array, "N_inst 4"],
    classes: Int[Array, " N_inst"],
    categories: Categories,
    title: str = "masks",
) -> Picture:
    """Masks over the grey picture, each in its instance's colour with its border, box and name."""
    pixels = grey_rgb(image).astype(float)
    tints = z_colors(classes, categories, categories.num_stuff + len(array(classes)))[categories.num_stuff :]
    for mask, color in zip(array(masks), tints, strict=True):
        pixels[mask] = 0.4 * pixels[mask] + 0.6 * np.array(color)
    figure, (axes,), _ = panels(1, 1, pixels.shape[0] / pixels.shape[1], largest=4.8)
    axes.imshow(np.rint(pixels).astype(np.uint8))
    for mask in array(masks):
        if mask.any() and not mask.all():
            axes.contour(mask.astype(float), [0.5], colors="white", linewidths=1.2)
    draw_boxes(axes, boxes, classes, categories)
    named(axes, title, f"{len(array(masks))} instances")
    figure.alt_text = f"{title}: {listed(class_names(classes, categories)) or 'no instance'} over the picture."
    return figure
