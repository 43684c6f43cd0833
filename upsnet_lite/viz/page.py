"""One HTML page of pictures that works offline: light and dark, narrow and wide, an alt text on every picture.

A `Tile` is a picture with a caption; marks (boxes, names) are drawn over it as SVG, sharp at every size.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np

from upsnet_lite.categories import Category
from upsnet_lite.files import write_aside
from upsnet_lite.viz.colors import DIVERGING_STOPS, HATCH, Color, Number
from upsnet_lite.viz.labels import short
from upsnet_lite.viz.picture import small_png


@dataclass(frozen=True)
class Tile:
    """pixels (H, W, 3) uint8; marks: SVG in the coordinates of `size` = (width, height), by default the pixels'."""

    name: str
    pixels: np.ndarray
    alt: str
    note: str = ""
    color: Color | None = None
    marks: str = ""
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Row:
    """Tiles under one heading with one sentence on what there is to see."""

    title: str
    text: str
    tiles: Sequence[Tile]
    large: bool = False


@dataclass(frozen=True)
class Scene:
    """Everything about one image."""

    title: str
    rows: Sequence[Row]
    limit: float  # the end of the colour scale of its logits
    categories: frozenset[Category] = field(default_factory=frozenset)


def write_page(out: Path, title: str, scenes: Sequence[Scene], metrics: Mapping[str, Mapping], keys) -> Path:
    """Writes OUT/*.png, then OUT/index.html; returns the latter's path."""
    parts = [scene_html(scene, f"{n:02d}", out) for n, scene in enumerate(scenes, 1)]
    present = sorted({c for scene in scenes for c in scene.categories}, key=lambda c: (c.isthing, c.id))
    contents = "".join(f'<a href="#s{n:02d}">{n}</a>' for n in range(1, len(scenes) + 1))
    body = f"""<header><h1>{escape(title)}</h1><nav aria-label="images">{contents}</nav></header>
{table(metrics, keys)}{legend(present)}{"".join(parts)}"""
    with write_aside(out / "index.html") as aside:
        aside.write_text(PAGE.format(title=escape(title), css=CSS, body=body), encoding="utf-8")
    return out / "index.html"


def scene_html(scene: Scene, number: str, out: Path) -> str:
    rows = []
    for r, row in enumerate(scene.rows):
        tiles = "".join(tile_html(tile, f"{number}_{r}_{t:02d}.png", out) for t, tile in enumerate(row.tiles))
        kind = "large" if row.large else "small"
        rows.append(f'<h3>{escape(row.title)}</h3><p>{escape(row.text)}</p><div class="row {kind}">{tiles}</div>')
    return f'<section id="s{number}"><h2>{escape(scene.title)}{scale(scene.limit)}</h2>{"".join(rows)}</section>\n'


def tile_html(tile: Tile, name: str, out: Path) -> str:
    with write_aside(out / name) as aside:
        aside.write_bytes(small_png(tile.pixels))
    height, width = tile.pixels.shape[:2]
    box = tile.size or (width, height)
    svg = f'<svg viewBox="0 0 {box[0]} {box[1]}" aria-hidden="true">{tile.marks}</svg>' if tile.marks else ""
    dot = chip(tile.color) if tile.color else ""
    crisp = ' class="crisp"' if max(width, height) <= 64 else ""
    note = f"<small>{escape(tile.note)}</small>" if tile.note else ""
    return (
        f'<figure><div><img{crisp} src="{name}" width="{width}" height="{height}" loading="lazy" '
        f'alt="{escape(tile.alt)}">{svg}</div><figcaption>{dot}{escape(tile.name)}{note}</figcaption></figure>'
    )


def svg_text(x: Number, y: Number, text: str, size: Number) -> str:
    """A name with a halo, its centre at x, y."""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:.1f}">{escape(text)}</text>'


def svg_box(box: Iterable[Number], color: Color, width: Number) -> str:
    """A box with a white halo, in image coordinates."""
    x0, y0, x1, y1 = (float(v) for v in box)
    rect = f'<rect x="{x0:.1f}" y="{y0:.1f}" width="{x1 - x0:.1f}" height="{y1 - y0:.1f}" '
    return (
        f'{rect}stroke="#fff" stroke-width="{2 * width:.2f}"/>{rect}stroke="{css(color)}" stroke-width="{width:.2f}"/>'
    )


def table(metrics: Mapping[str, Mapping], keys: Sequence[str]) -> str:
    """Runs as rows, per cent; the best of each column in bold where there are several."""
    if not metrics:
        return ""
    best = {k: max((m[k] for m in metrics.values() if m.get(k) is not None), default=None) for k in keys}
    rows = ""
    for name, found in metrics.items():
        cells = ""
        for k in keys:
            value = found.get(k)
            text = "–" if value is None else f"{value:.1f}"
            top = value is not None and value == best[k] and any(m.get(k) != value for m in metrics.values())
            cells += f"<td>{f'<b>{text}</b>' if top else text}</td>"
        rows += f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>'
    head = "".join(f'<th scope="col">{escape(k)}</th>' for k in keys)
    return (
        f'<div class="scroll"><table><caption>Per cent, higher is better</caption>'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def legend(categories: Sequence[Category]) -> str:
    """The classes that occur, stuff first, and the hatch."""
    items = "".join(f"<li>{chip(c.color)}{escape(short(c.name))}</li>" for c in categories)
    return f'<ul class="legend">{items}<li><i class="hatch"></i>void, unknown</li></ul>'


def scale(limit: Number) -> str:
    """The colour scale of a scene's logits."""
    stops = ", ".join(css(c) for c in DIVERGING_STOPS)
    text = f"colour scale: blue at {-limit:.0f}, white at 0, orange at {limit:.0f}"
    ramp = f'<i style="background:linear-gradient(90deg, {stops})"></i>'
    return f'<span class="scale" role="img" aria-label="{text}">logit −{limit:.0f}{ramp}+{limit:.0f}</span>'


def chip(color: Color) -> str:
    return f'<i style="background:{css(color)}"></i>'


def css(color: Color) -> str:
    return "#" + "".join(f"{int(v):02x}" for v in color)


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>{title}</title><style>{css}</style></head>
<body>{body}</body></html>
"""

CSS = """
:root { color-scheme: light dark; --bg: #fcfcfb; --ink: #1f2328; --soft: #656d76; --line: #e3e5e8 }
@media (prefers-color-scheme: dark) { :root { --bg: #15181c; --ink: #e6e8ea; --soft: #9aa3ad; --line: #2b3138 } }
* { box-sizing: border-box }
html { scroll-behavior: smooth; scroll-padding-top: 3.5rem }
body { margin: 0 auto; padding: 0 clamp(1rem, 3vw, 2.5rem) 4rem; max-width: 84rem; background: var(--bg);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif }
header { position: sticky; top: 0; z-index: 1; display: flex; gap: 1.5rem; align-items: baseline; flex-wrap: wrap;
  padding: .7rem 0; background: var(--bg); border-bottom: 1px solid var(--line) }
h1 { font-size: 1.15rem; margin: 0 }
nav a { display: inline-block; min-width: 1.7rem; text-align: center; color: inherit; border-radius: 4px;
  text-decoration: none; font-variant-numeric: tabular-nums }
nav a:hover, nav a:focus-visible { background: var(--line) }
h2 { display: flex; flex-wrap: wrap; justify-content: space-between; align-items: baseline; gap: .3rem 2rem;
  font-size: 1.4rem; margin: 3.5rem 0 0 }
h3 { font-size: 1rem; margin: 1.8rem 0 0 }
p { margin: 0 0 .6rem; color: var(--soft); max-width: 54rem }
i { display: inline-block; width: .8em; height: .8em; border-radius: 3px; margin-right: .4em; vertical-align: -.06em;
  box-shadow: 0 0 0 1px #8884 }
.hatch { background: repeating-linear-gradient(135deg, HATCH0 0 3px, HATCH1 3px 6px) }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; list-style: none; padding: 0; margin: 1.2rem 0 0;
  font-size: .9rem }
.scale { font-size: .85rem; font-weight: 400; color: var(--soft); white-space: nowrap;
  font-variant-numeric: tabular-nums }
.scale i { width: 9rem; margin: 0 .5em }
.row { display: grid; gap: 1rem .9rem }
.large { grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr)) }
.small { grid-template-columns: repeat(auto-fill, minmax(min(45%, 8.2rem), 1fr)) }
figure { margin: 0 }
figure div { position: relative }
img { display: block; width: 100%; height: auto; border-radius: 5px }
.crisp { image-rendering: pixelated }
svg { position: absolute; inset: 0; width: 100%; height: 100% }
svg text { font-family: system-ui, sans-serif; font-weight: 650; fill: #1f2328; stroke: #fffd; stroke-width: .28em;
  stroke-linejoin: round; text-anchor: middle; paint-order: stroke; dominant-baseline: central }
svg rect { fill: none }
figcaption { font-size: .88rem; margin-top: .25rem; overflow-wrap: anywhere }
small { color: var(--soft); margin-left: .5em; font-size: inherit }
.scroll { overflow-x: auto }
table { border-collapse: collapse; margin-top: 1.5rem; font-variant-numeric: tabular-nums }
caption { text-align: left; color: var(--soft); font-size: .88rem }
th, td { padding: .3rem .9rem .3rem 0; text-align: right; border-bottom: 1px solid var(--line); font-weight: 400 }
th[scope=row] { text-align: left }
thead th { color: var(--soft) }
@media print { header { position: static } section { break-before: page } }
""".replace("HATCH0", css(HATCH[0])).replace("HATCH1", css(HATCH[1]))
