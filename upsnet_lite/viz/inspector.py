"""One pixel of Z as bars, in HTML: quick enough to follow the pointer, and in the colours of the page around it.

Each row is a channel. An instance's bar is split as in `charts.pixel_bars`: x_mask, and below it, paler, y_mask from
where that one ends; a stroke at their sum. Beside it the softmax. The winner is bold and marked.
"""

from html import escape

import numpy as np

from .charts import _rows, percent
from .colors import Color, Number
from .fusion import Column

STRIPES = "repeating-linear-gradient(135deg,#ececec 0 3px,#808080 3px 6px)"
LOOK = """<style>
.upsnet-bars { display: grid; gap: 3px 8px; align-items: center;
  grid-template-columns: max-content minmax(120px, 3fr) max-content minmax(50px, 1fr) max-content;
  font: 12.5px/1.35 var(--jp-ui-font-family, system-ui, sans-serif);
  color: var(--jp-ui-font-color2, inherit); font-variant-numeric: tabular-nums; max-width: 460px }
.upsnet-bars .head { font-size: 11.5px }
.upsnet-bars .name, .upsnet-bars .number { text-align: right }
.upsnet-bars .won { font-weight: 700; color: var(--jp-ui-font-color0, inherit) }
.upsnet-bars .track { position: relative; height: 15px }
.upsnet-bars .track i { position: absolute; box-sizing: border-box; outline: 0.5px solid rgba(128,128,128,.55) }
.upsnet-bars .track b { position: absolute; width: 2px; top: 0; height: 100%; background: currentColor }
.upsnet-bars .zero { position: absolute; top: -3px; bottom: -3px; width: 1px; background: currentColor; opacity: .45 }
</style>"""


def bars(column: Column, largest: int = 14) -> str:
    """One pixel's channels as HTML; of more than `largest` those with the highest logits, and unknown."""
    shown = _rows(np.array(column.logits), len(column.logits) if column.unknown is None else column.unknown, largest)
    low, high = reach(column, shown)
    rows = "".join(row(column, k, low, high) for k in shown)
    rest = len(column.logits) - len(shown)
    said = f"{len(column.logits)} channels" + (f", {rest} low ones left out" if rest else "")
    head = "".join(f'<span class="head">{text}</span>' for text in ("", f"logit; {said}", "", "softmax", ""))
    return f'{LOOK}<div class="upsnet-bars" role="img" aria-label="{escape(words(column))}">{head}{rows}</div>'


def words(column: Column) -> str:
    """The winner, its logit and its probability."""
    k = column.winner
    told = f"{column.names[k]} wins with {column.logits[k]:.1f}, softmax {percent(column.softmax[k])}"
    if k in column.parts:
        told += f" (x_mask {column.parts[k][0]:.1f} + y_mask {column.parts[k][1]:.1f})"
    return f"Z at row {column.row}, column {column.column}: {told}."


def reach(column: Column, shown: list[int]) -> tuple[float, float]:
    """The logits from which to which the bars go; 0 lies between them."""
    ends = [0.0, *(column.logits[k] for k in shown), *(column.parts[k][0] for k in shown if k in column.parts)]
    ends = [v for v in ends if np.isfinite(v)]
    return min(ends), max(ends) or 1.0


def row(column: Column, k: int, low: Number, high: Number) -> str:
    """Name, bar, logit, softmax bar, per cent."""
    won = " won" if k == column.winner else ""
    fill = STRIPES if k == column.unknown else css(column.colors[k])
    value = column.logits[k]
    if k in column.parts and np.isfinite(value):
        x, y = column.parts[k]
        drawn = bar(0, x, low, high, fill, "top:0;height:50%", f"x_mask {x:.1f}")
        drawn += bar(x, x + y, low, high, css(paler(column.colors[k])), "top:50%;height:50%", f"y_mask {y:.1f}")
        drawn += f'<b style="left:{at(x + y, low, high):.2f}%"></b>'
    else:
        drawn = bar(0, value, low, high, fill, "top:2px;bottom:2px") if np.isfinite(value) else ""
    share = f'<i style="left:0;width:{100 * column.softmax[k]:.2f}%;top:2px;bottom:2px;background:{fill}"></i>'
    zero = f'<span class="zero" style="left:{at(0, low, high):.2f}%"></span>'
    number = f"{value:.1f}" if np.isfinite(value) else "−∞"
    return (
        f'<span class="name{won}">{escape(column.names[k])}{" ◂" * bool(won)}</span>'
        f'<span class="track" data-channel="{k}">{drawn}{zero}</span><span class="number{won}">{number}</span>'
        f'<span class="track">{share}</span><span class="number{won}">{percent(column.softmax[k])}</span>'
    )


def at(value: Number, low: Number, high: Number) -> float:
    """Per cent of the way from low to high."""
    return 100 * (value - low) / ((high - low) or 1)


def bar(start: Number, end: Number, low: Number, high: Number, fill: str, place: str, title: str = "") -> str:
    left, right = sorted((at(start, low, high), at(end, low, high)))
    look = f"left:{left:.2f}%;width:{right - left:.2f}%;{place};background:{fill}"
    return f'<i style="{look}" title="{title}"></i>'


def paler(color: Color) -> Color:
    """Half way to white: on a dark page, too, it is the lighter of the two."""
    return tuple((v + 255) // 2 for v in color)


def css(color: Color) -> str:
    return f"rgb{tuple(color)}".replace(" ", "")
