"""The explorer's figures as HTML, quick to make and in the colours of the page around them.

maps_html        x_thing[C], x_mask, y_mask and z of one instance, on one scale, with its box
measures_html    before and after: segments, unknown pixels and, where the truth is known, PQ with TP, FP and FN
"""

import base64
from html import escape

import numpy as np
from jaxtyping import Float, UInt8

from upsnet_lite.boxes import Edges
from upsnet_lite.viz.colors import DIVERGING_STOPS, Number, array, logits_rgb
from upsnet_lite.viz.fusion import Fused
from upsnet_lite.viz.picture import quick_png

FONT = "font:13px/1.4 var(--jp-ui-font-family,system-ui,sans-serif);color:var(--jp-ui-font-color1,inherit)"
LOOK = f"""<style>
.upsnet-maps {{ {FONT}; max-width: 880px }}
.upsnet-maps .four {{ display: flex; flex-wrap: wrap; gap: 4px 10px; margin: 4px 0 }}
.upsnet-maps figure {{ margin: 0; flex: 1 1 150px; max-width: 208px }}
.upsnet-maps figcaption {{ white-space: nowrap }}
.upsnet-maps .map {{ position: relative; overflow: hidden; border-radius: 3px }}
.upsnet-maps img {{ display: block; width: 100%; image-rendering: pixelated }}
.upsnet-maps .box {{ position: absolute; box-sizing: border-box; outline: 1px solid white;
  border: 1.5px dashed #1f2328 }}
.upsnet-maps .scale {{ display: flex; align-items: center; gap: 8px; font-variant-numeric: tabular-nums }}
.upsnet-maps .scale i {{ width: 180px; height: 10px; border-radius: 2px;
  background: linear-gradient(90deg,{",".join(f"rgb{c}" for c in DIVERGING_STOPS)}) }}
.upsnet-measures {{ {FONT}; border-collapse: collapse; margin: 10px 0 4px; font-variant-numeric: tabular-nums }}
.upsnet-measures th, .upsnet-measures td {{ padding: 1px 9px; text-align: right; font-weight: 400; border: 0 }}
.upsnet-measures thead th {{ color: var(--jp-ui-font-color2,inherit);
  border-bottom: 1px solid var(--jp-border-color1,#bbb) }}
.upsnet-measures .now td {{ font-weight: 700 }}
</style>"""


def maps_html(maps: Float[np.ndarray, "4 H W"], limit: Number, name: str, channel: str, edges: Edges) -> str:
    """Four maps of one instance. channel: its number in Z, in words; edges: of the pixels that its box covers."""
    names = ("x_thing[C]", "x_mask: cut out", "+ y_mask: pasted", f"= z, {channel}")
    shown = "".join(figure(values, limit, text, edges) for values, text in zip(maps, names, strict=True))
    ends = f"<span>−{limit:.1f}</span><i></i><span>{limit:.1f}</span><span>logit; grey: −∞</span>"
    scale = f'<div class="scale">{ends}</div>'
    return f'{LOOK}<div class="upsnet-maps"><b>{escape(name)}</b><div class="four">{shown}</div>{scale}</div>'


def figure(values: Float[np.ndarray, "H W"], limit: Number, text: str, edges: Edges) -> str:
    height, width = values.shape
    x0, y0, x1, y1 = edges
    place = f"left:{x0 / width:.2%};top:{y0 / height:.2%};width:{(x1 - x0) / width:.2%};height:{(y1 - y0) / height:.2%}"
    known = values[np.isfinite(values)]
    ends = f"from {known.min():.1f} to {known.max():.1f}" if known.size else "minus infinity"
    picture = f'<img alt="{escape(text)}, {ends}" src="{data_url(logits_rgb(values, limit))}">'
    box = f'<div class="box" style="{place}"></div>' if x1 > x0 else ""
    return f'<figure><figcaption>{escape(text)}</figcaption><div class="map">{picture}{box}</div></figure>'


def data_url(pixels: UInt8[np.ndarray, "H W 3"]) -> str:
    return "data:image/png;base64," + base64.b64encode(quick_png(pixels)).decode()


def measures_html(before: Fused, after: Fused) -> str:
    """A table of two lines. Without a ground truth there is no PQ to show."""
    lines = {"as trained": measures(before), "now": measures(after)}
    head = "".join(f"<th>{name}</th>" for name in lines["now"])
    cells = {name: "".join(f"<td>{value}</td>" for value in line.values()) for name, line in lines.items()}
    body = "".join(f'<tr class="{name.split()[0]}"><th>{name}</th>{found}</tr>' for name, found in cells.items())
    return (
        f'{LOOK}<table class="upsnet-measures" aria-live="polite"><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )


def measures(fused: Fused) -> dict[str, str]:
    """What is counted; TP, FP and FN over all classes."""
    found = {"segments": f"{len(fused.segments_info)}", "unknown px": f"{int((array(fused.panoptic) == 0).sum())}"}
    if fused.quality is None:
        return found
    quality = fused.quality
    found |= {"PQ": f"{quality.pq:.1f}", "SQ": f"{quality.sq:.1f}", "RQ": f"{quality.rq:.1f}"}
    return found | {k.upper(): f"{sum(getattr(c, k) for c in quality.per_class)}" for k in ("tp", "fp", "fn")}
