"""A page of pictures: image, X, Y, Z, panoptic, unknown and ground truth of some images.

python -m upsnet_lite.viz.gallery --checkpoint tiny-shapes --data data/shapes --split val --out runs/gallery
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from upsnet_lite.categories import Categories
from upsnet_lite.files import UserError, read_json
from upsnet_lite.viz import colors
from upsnet_lite.viz.colors import Number, array
from upsnet_lite.viz.labels import class_names, listed, place_labels, segments_in_words, short, z_colors, z_names
from upsnet_lite.viz.page import Row, Scene, Tile, svg_box, svg_text, write_page

METRICS = ("PQ", "SQ", "RQ", "PQ_th", "PQ_st", "mIoU", "AP_mask")
LONGEST = 384  # px of a picture's longer side: at least for thin lines between segments, at most for logits
MOST = 7  # channels of X, Y and Z that are shown: with the map before them, one row of a wide page


def scene(trace, target: Mapping, categories: Categories, title: str) -> Scene:
    """The rows of one image. trace: `UPSNet.trace`'s; target: a data set's, with `panoptic` and `segments_info`."""
    limit = colors.symmetric_limit(trace.X, trace.Y, trace.z, share=0.999)
    infos = [*target["segments_info"], *trace.segments_info]
    return Scene(
        title,
        [result_row(trace, target, categories), x_row(trace, categories, limit), y_row(trace, categories, limit),
         z_row(trace, categories, limit), unknown_row(trace, categories, limit)],
        limit,
        frozenset(categories[categories.index(s["category_id"])] for s in infos),
    )  # fmt: skip


def result_row(trace, target: Mapping, categories: Categories) -> Row:
    truth, found = (target["panoptic"], target["segments_info"]), (trace.panoptic, trace.segments_info)
    differs = class_map(*truth, categories) != class_map(*found, categories)
    differs &= np.isin(array(truth[0]), [s["id"] for s in truth[1]])  # what nobody labelled is nobody's mistake
    pixels = colors.grey_rgb(trace.image)
    pixels[differs] = (0.15 * pixels[differs] + 0.85 * np.array(colors.DIVERGING_STOPS[5])).astype(np.uint8)
    share = f"{100 * differs.mean():.1f}\u00a0%"
    tiles = [
        Tile("image", colors.image_rgb(trace.image), "The image as the network gets it."),
        panoptic_tile("ground truth", trace.image, *truth, categories),
        panoptic_tile("panoptic", trace.image, *found, categories),
        Tile("differs", enlarged(pixels), f"Orange where the classes differ: {share} of the pixels.", share),
    ]
    return Row("Image and result", "What goes in, what it should become, what it becomes.", tiles, large=True)


def x_row(trace, categories: Categories, limit: Number) -> Row:
    x = array(trace.X)
    winner = x.argmax(0)
    tiles = [
        Tile("argmax of X", colors.semantic_rgb(winner, categories), "Each pixel in the colour of its highest class.")
    ]
    for k in most_frequent(winner, len(x)):
        c = categories[k]
        tiles.append(logit_tile(short(c.name), x[k], limit, "thing" if c.isthing else "stuff", c.color))
    return Row(f"X  {dimensions(x)}", "The semantic head: a logit for every class at every pixel.", tiles)


def y_row(trace, categories: Categories, limit: Number) -> Row:
    boxes, classes, y = array(trace.B), array(trace.C), array(trace.Y)
    names, tints = class_names(classes, categories), z_colors(classes, categories, 10**6)[categories.num_stuff :]
    height, width = array(trace.image).shape[1:]
    thin = max(height, width) / 130
    marks = "".join(svg_box(box, tint, thin) for box, tint in zip(boxes, tints, strict=False))
    tiles = [
        Tile("B", colors.grey_rgb(trace.image), f"Boxes around {listed(names) or 'nothing'}.", marks=marks,
             note=f"{len(boxes)} boxes")
    ]  # fmt: skip
    for i in range(min(len(y), MOST)):
        tiles.append(logit_tile(names[i], y[i], limit, f"{float(array(trace.scores)[i]):.2f}", tints[i]))
    return Row(f"B, C and Y  {dimensions(y)}", "The instance head: boxes, classes, and a mask for every box.", tiles)


def z_row(trace, categories: Categories, limit: Number) -> Row:
    z = array(trace.z)
    winner, names = z.argmax(0), z_names(trace.C, categories, len(z))
    tints = z_colors(trace.C, categories, len(z))
    table = np.array(tints, dtype=np.uint8)
    unknown = categories.num_stuff + len(array(trace.C))
    pixels = np.where((winner == unknown)[..., None], colors.hatch(*winner.shape), table[winner])
    tiles = [Tile("argmax of Z", pixels, "Each pixel in the colour of its highest channel, unknown hatched.")]
    for k in most_frequent(winner, unknown):
        kind = "stuff" if k < categories.num_stuff else "instance"
        tiles.append(logit_tile(names[k], z[k], limit, kind, tints[k]))
    text = "The panoptic head: stuff as in X, x_mask + y_mask for every instance, unknown. It has no parameters."
    return Row(f"Z  {dimensions(z)}", text, tiles)


def unknown_row(trace, categories: Categories, limit: Number) -> Row:
    z, x_thing, x_mask = array(trace.z), array(trace.x_thing), array(trace.x_mask)
    if trace.z_unknown is None:
        return Row("Unknown", "This network was built without the unknown channel.", [])
    wins = z.argmax(0) == len(z) - 1
    pixels = np.where(wins[..., None], colors.hatch(*wins.shape), colors.grey_rgb(trace.image))
    share = f"{100 * wins.mean():.1f}\u00a0%"
    best = x_mask.max(0) if len(x_mask) else np.zeros(x_thing.shape[1:], dtype=np.float32)
    tiles = [
        logit_tile("max x_thing", x_thing.max(0), limit, "seen"),
        logit_tile("max x_mask", best, limit, "found"),
        logit_tile("z_unknown", trace.z_unknown, limit, "rest"),
        Tile("unknown wins", pixels, f"Hatched where unknown is the highest channel: {share} of the pixels.", share),
    ]
    return Row("Unknown", "High where X sees a thing, of whatever class, that no instance accounts for.", tiles)


# --------------------------------------------------------------------------------------------------------------- tiles


def panoptic_tile(name: str, image, panoptic, segments_info: Sequence[Mapping], categories: Categories) -> Tile:
    """The overlay with names as SVG."""
    panoptic = array(panoptic)
    height, width = panoptic.shape
    size = max(height, width) / 24
    texts = {s["id"]: short(categories[categories.index(s["category_id"])].name) for s in segments_info}
    places = place_labels(panoptic, list(texts), [(0.6 * size * len(t), 1.1 * size) for t in texts.values()])
    marks = "".join(svg_text(x + 0.5, y + 0.5, texts[i], size) for i, (x, y) in places.items())
    times = zoom(height, width)
    big = enlarged(colors.image_rgb(image)).transpose(2, 0, 1) / 255
    pixels = colors.overlay(big, panoptic.repeat(times, 0).repeat(times, 1), segments_info, categories, 0.65)
    text = f"{name}: {segments_in_words(segments_info, categories)}."
    return Tile(name, pixels, text, f"{len(segments_info)} segments", marks=marks, size=(width, height))


def logit_tile(name: str, logits, limit: Number, note: str, color: colors.Color | None = None) -> Tile:
    values = array(logits)
    finite = values[np.isfinite(values)]
    ends = f"from {finite.min():.1f} to {finite.max():.1f}" if finite.size else "no finite value"
    step = -(-max(values.shape) // LONGEST)  # small pictures: more pixels than these are not seen
    return Tile(name, colors.logits_rgb(values[::step, ::step], limit), f"Logits of {name}, {ends}.", note, color)


def class_map(panoptic, segments_info: Sequence[Mapping], categories: Categories) -> np.ndarray:
    """(H, W) class indices, -1 where there is no segment."""
    panoptic = array(panoptic)
    found = np.full(panoptic.shape, -1)
    for s in segments_info:
        found[panoptic == s["id"]] = categories.index(s["category_id"])
    return found


def most_frequent(winner: np.ndarray, channels: int) -> list[int]:
    """The channels below `channels` that win the most pixels, at most MOST, in channel order."""
    counts = np.bincount(winner.ravel(), minlength=channels)[:channels]
    return sorted(int(k) for k in np.argsort(-counts, kind="stable")[:MOST] if counts[k])


def zoom(height: int, width: int) -> int:
    return max(1, -(-LONGEST // max(height, width)))


def enlarged(pixels: np.ndarray) -> np.ndarray:
    """A whole number of times larger, smooth, so that a line of one pixel is thin."""
    from PIL import Image

    height, width = pixels.shape[:2]
    times = zoom(height, width)
    return np.array(Image.fromarray(pixels).resize((times * width, times * height), Image.Resampling.BICUBIC))


def dimensions(x: np.ndarray) -> str:
    return " × ".join(str(n) for n in x.shape)


# -------------------------------------------------------------------------------------------------------- command line


def read_metrics(given: Sequence[str]) -> dict[str, dict]:
    """`name=path/metrics.json` -> the object in it, by name. UserError: no `=`, or a file that is not one."""
    found = {}
    for entry in given:
        name, equals, path = entry.partition("=")
        if not (name and equals and path):
            raise UserError(f"--metrics {entry!r} is not of the form name=path/to/metrics.json")
        found[name] = read_json(Path(path))
    return found


def write_gallery(
    checkpoint: str, data: Path, split: str, out: Path, images: int, metrics: Mapping[str, Mapping]
) -> Path:
    """Writes OUT/index.html about `images` images spread evenly over the split; returns its path."""
    import torch

    import upsnet_lite
    from upsnet_lite.datasets.coco_panoptic import CocoPanoptic

    dataset, model = CocoPanoptic(data, split), upsnet_lite.load(checkpoint)
    difference = model.categories.difference(dataset.categories)
    if difference:
        raise UserError(f"{checkpoint} was trained on other classes than those of {data}: {difference}")
    picked = np.unique(np.linspace(0, len(dataset) - 1, min(images, len(dataset))).round().astype(int))
    scenes = []
    for n, i in enumerate(picked, 1):
        image, target = dataset[int(i)]
        print(f"{n}/{len(picked)} {target['file_name']}", file=sys.stderr)
        with torch.no_grad():
            scenes.append(scene(model.trace(image), target, dataset.categories, target["file_name"]))
    return write_page(out, "UPSNet-lite, tensor by tensor", scenes, metrics, METRICS)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m upsnet_lite.viz.gallery", description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", required=True, help="a path or a shipped name such as tiny-shapes")
    parser.add_argument("--data", required=True, type=Path, help="a folder in COCO's panoptic layout")
    parser.add_argument("--split", default="val")
    parser.add_argument("--out", required=True, type=Path, help="the folder that index.html is written to")
    parser.add_argument("--images", type=int, default=6, help="how many images (default 6)")
    parser.add_argument("--metrics", nargs="*", default=[], metavar="NAME=PATH", help="metrics.json of runs to compare")
    given = parser.parse_args(arguments)
    try:
        metrics = read_metrics(given.metrics)
        if given.images < 1:
            raise UserError(f"--images {given.images}: show at least one image")
        print(write_gallery(given.checkpoint, given.data, given.split, given.out, given.images, metrics))
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:  # --out is a file, disk full, no permission
        sys.exit(f"error: {error.filename or given.out}: {error.strerror or error}")


if __name__ == "__main__":
    main()
