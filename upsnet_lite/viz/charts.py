"""Bars and lines: one pixel of Z, the losses of training runs, metrics of several models.

softmax_k = exp(z_k) / sum_j exp(z_j),    z_k = x_mask + y_mask for an instance, a channel of X for stuff
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes

from upsnet_lite.categories import Categories
from upsnet_lite.files import UserError
from upsnet_lite.viz.colors import HATCH, Array, Color, Number, array
from upsnet_lite.viz.labels import listed, z_colors, z_names
from upsnet_lite.viz.picture import GREY, INK, WIDTH, Picture, heading, panels, styled

STRIPES = dict(hatch="////", edgecolor=np.array(HATCH[1]) / 255, linewidth=0)  # unknown, as in the maps
RUNS = ("#1e6bb2", "#c75f0e", "#216e5e", "#8a4fa3", "#7a7a7a", "#b0413e")  # of one run after another
LINES = ("-", "--", "-.", ":")  # a second way to tell runs apart


# ----------------------------------------------------------------------------------------------------------- one pixel


@styled
def pixel_bars(
    z: Float[Array, "C H W"],
    x_mask: Float[Array, "N_inst H W"],
    y_mask: Float[Array, "N_inst H W"],
    classes: Int[Array, " N_inst"],
    categories: Categories,
    pixel: tuple[int, int],
    largest: int = 14,
) -> Picture:
    """The logits of one pixel (row, column) of Z as bars, their softmax beside them; the winner is set in bold.

    An instance's bar is split: x_mask, then from its end y_mask, paler, and a stroke at their sum. With more than
    `largest` channels the greatest are shown, and always the unknown one. z: stuff, instances and, where it has one
    more, unknown.
    """
    y, x = pixel
    values = array(z)[:, y, x].astype(float)
    shares = np.exp(values - values.max())
    shares /= shares.sum()
    names, tints = z_names(classes, categories, len(values)), z_colors(classes, categories, len(values))
    parts = {
        categories.num_stuff + i: (float(xm), float(ym))
        for i, (xm, ym) in enumerate(zip(array(x_mask)[:, y, x], array(y_mask)[:, y, x], strict=True))
    }
    unknown = categories.num_stuff + len(parts)
    rows = _rows(values, unknown, largest)
    winner = int(values.argmax())

    figure = Picture(WIDTH, 0.66 + 0.25 * len(rows))
    note = f", the {len(rows)} that matter most" if len(rows) < len(values) else ""
    heading(figure, f"Z at row {y}, column {x}", f"{len(values)} channels{note}")
    bottom, height = 0.06 / figure.get_figheight(), 0.25 * len(rows) / figure.get_figheight()
    left = figure.add_axes((0.16, bottom, 0.52, height))
    right = figure.add_axes((0.74, bottom, 0.25, height))
    for at, k in enumerate(rows):
        weight = dict(weight="bold", color=INK) if k == winner else dict(color=GREY)
        look = dict(color=rgb(tints[k])) | (STRIPES if k == unknown else {})
        end = _bar(left, at, values[k], parts.get(k), look)
        label(left, end, at, f"{values[k]:.1f}", **weight)
        left.annotate(
            names[k], (0, at), (-6, 0), ("axes fraction", "data"), "offset points", ha="right", va="center", **weight
        )
        right.barh(at, shares[k], 0.72, **look)
        label(right, shares[k], at, percent(shares[k]), **weight)
    split = (
        "    instance: x_mask (dark), then y_mask (light), stroke at their sum" if any(k in parts for k in rows) else ""
    )
    _frame(left, "logit" + split, len(rows), (min(0, left.dataLim.x0), max(0, left.dataLim.x1)), 0.12)
    _frame(right, "softmax", len(rows), (0, 1), 0.24)
    figure.alt_text = (
        f"Bar chart of the {len(values)} logits of Z at row {y}, column {x}. Highest: {names[winner]} with "
        f"{values[winner]:.1f}, softmax {percent(shares[winner])}."
    )
    return figure


def _rows(values: np.ndarray, unknown: int, largest: int) -> list[int]:
    """The channels to show, in the order of Z."""
    rows = np.argsort(-values, kind="stable")[:largest].tolist()
    if unknown < len(values) and unknown not in rows:
        rows[-1] = unknown
    return sorted(rows)


def _bar(axes: Axes, at: int, value: Number, parts: tuple[float, float] | None, look: dict) -> float:
    """One channel's bar; where its number belongs: the end that lies farthest out on the side of the value."""
    if parts is None:
        axes.barh(at, value, 0.72, **look)
        return value
    axes.barh(at - 0.18, parts[0], 0.36, **look)
    axes.barh(at + 0.18, parts[1], 0.36, left=parts[0], alpha=0.5, **look)  # goes on where x_mask ends
    axes.plot([value, value], [at - 0.4, at + 0.4], color=INK, lw=2, solid_capstyle="butt")
    return min(value, parts[0]) if value < 0 else max(value, parts[0])


def label(axes: Axes, end: Number, at: Number, text: str, **look) -> None:
    """A value behind the end of its bar, outside on either side of 0."""
    side = dict(xytext=(4, 0), ha="left") if end >= 0 else dict(xytext=(-4, 0), ha="right")
    axes.annotate(text, (end, at), textcoords="offset points", va="center", size=7.5, **side, **look)


def _frame(axes: Axes, title: str, rows: int, ends: tuple[Number, Number], room: Number) -> None:
    """Limits with room for the values behind the bars, a line at 0, no frame."""
    low, high = ends
    air = room * ((high - low) or 1)
    axes.set(xlim=(low - (air if low < 0 else 0), high + air), ylim=(rows - 0.5, -0.5), yticks=[])
    axes.axvline(0, color=GREY, lw=0.8)
    axes.set_title(title, color=GREY, size=7.5)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(bottom=False, labelbottom=False)  # every bar carries its number


# ------------------------------------------------------------------------------------------------------------ training


@styled
def plot_losses(
    runs: Mapping[str, str | Path],
    keys: Sequence[str] | None = None,
    step: str = "iteration",
    smooth: int = 21,
    columns: int = 3,
    title: str = "losses",
) -> Picture:
    """One panel per loss, one line per run with its name at the line's end, from the CSVs that training writes.

    keys: columns to show (None: `total` and every `loss_...` of the first run); smooth: rows in the running median, the
    raw values stand pale behind it. UserError: a CSV that is missing or lacks a column.
    """
    tables = {name: read_csv(path) for name, path in runs.items()}
    keys = list(keys or [k for k in next(iter(tables.values())) if k == "total" or k.startswith("loss_")])
    for name, table in tables.items():
        for key in [step, *keys]:
            if key not in table:
                raise UserError(f"{runs[name]} has no column {key!r}; it has {', '.join(table)}")
    figure, axes, _ = panels(
        len(keys), columns, 0.72, title, f"running median of {smooth}" if smooth > 1 else "", ticks=True
    )
    for ax, key in zip(axes, keys, strict=True):
        lines = {name: (table[step], table[key]) for name, table in tables.items()}
        _lines(ax, lines, smooth)
        ax.set_title(key.removeprefix("loss_").replace("_", " "))
    axes[0].set_xlabel(step, loc="right", labelpad=1, size=7.5)
    ends = {key: ", ".join(f"{t[key][-1]:.2g} ({n})" for n, t in tables.items()) for key in keys}
    figure.alt_text = "Loss curves. At the end: " + listed([f"{k} {v}" for k, v in ends.items()]) + "."
    return figure


def _lines(axes: Axes, lines: Mapping[str, tuple[np.ndarray, np.ndarray]], smooth: int) -> None:
    top = 0.0
    ends = []
    for i, (name, (x, y)) in enumerate(lines.items()):
        look, calm = dict(color=RUNS[i % len(RUNS)], ls=LINES[i // len(RUNS) % len(LINES)]), median(y, smooth)
        if smooth > 1:
            axes.plot(x, y, color=look["color"], lw=0.5, alpha=0.25)
        axes.plot(x, calm, **look)
        ends.append((float(calm[-1]), float(x[-1]), name, look["color"]))
        top = max(top, np.nanquantile(y, 0.98), np.nanmax(calm[len(calm) // 20 :]))
    axes.set_ylim(0, 1.08 * top or 1)
    axes.grid(axis="y")
    axes.locator_params(nbins=4)
    axes.margins(x=0)
    apart, last = 0.09 * axes.get_ylim()[1], -np.inf
    for end, x, name, color in sorted(ends):  # names keep a line's distance, lowest first
        last = max(end, last + apart)
        if len(lines) > 1:
            at = dict(xytext=(4, 0), textcoords="offset points", ha="left", va="center")
            axes.annotate(name, (x, last), **at, color=color, size=7.5, weight="bold")
    if len(lines) > 1:  # room for the longest name, none for ticks where there is no data
        end = max(x for _, x, _, _ in ends)
        ticks = [t for t in axes.get_xticks() if 0 <= t <= end]
        axes.set_xlim(0, end * (1.06 + 0.031 * max(len(name) for name in lines)))
        axes.set_xticks(ticks)


def median(values: np.ndarray, window: int) -> np.ndarray:
    """Running median over `window` rows, shorter at both ends: a spike stays out, a step stays sharp."""
    half = window // 2
    padded = np.pad(values.astype(float), half, constant_values=np.nan)
    return np.nanmedian(np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1), axis=1)


def read_csv(path: str | Path) -> dict[str, np.ndarray]:
    """The numeric columns of a CSV with a header. UserError: missing, empty, or no number where one belongs."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    if not rows:
        raise UserError(f"{path} holds no rows; train for at least one iteration first")
    table = {}
    for key in rows[0]:
        try:
            table[key] = np.array([float(row[key]) for row in rows])
        except (TypeError, ValueError):
            continue  # a column of text
    return table


# ---------------------------------------------------------------------------------------------------------- evaluation


@styled
def pq_bars(
    runs: Mapping[str, Mapping],
    keys: Sequence[str] = ("PQ", "SQ", "RQ", "PQ_th", "PQ_st"),
    categories: Categories | None = None,
    title: str = "panoptic quality",
) -> Picture:
    """A group of bars for each key, a bar for each run, per cent written at its end.

    runs: run -> {key: per cent}. With `categories` the keys are class names and one run's bars have their colours.
    """
    own = {c.name: rgb(c.color) for c in categories} if categories else {}
    tall = len(keys) * (0.2 * len(runs) + 0.1)
    figure = Picture(WIDTH * 0.7, tall + 0.5)
    heading(figure, title, "per cent")
    axes = figure.add_axes((0.2, 0.06 / (tall + 0.5), 0.74, tall / (tall + 0.5)))
    for g, key in enumerate(keys):
        for r, (name, metrics) in enumerate(runs.items()):
            at, value = g + (r - (len(runs) - 1) / 2) * 0.8 / len(runs), metrics.get(key)
            if not known(value):
                label(axes, 0, at, "not measured", color=GREY)
                continue
            color = own.get(key, RUNS[0]) if len(runs) == 1 else RUNS[r % len(RUNS)]
            axes.barh(at, value, 0.72 / len(runs), color=color)
            label(axes, value, at, f"{value:.1f}" + (f"  {name}" if len(runs) > 1 and g == 0 else ""), color=INK)
        axes.annotate(key.replace("PQ_th", "PQ things").replace("PQ_st", "PQ stuff"), (0, g), (-6, 0),
                      ("axes fraction", "data"), "offset points", ha="right", va="center")  # fmt: skip
    _frame(axes, "", len(keys), (0, 100), 0.14)
    figure.alt_text = f"{title}, per cent. " + "; ".join(
        f"{name}: " + ", ".join(f"{k} {m[k]:.1f}" for k in keys if known(m.get(k))) for name, m in runs.items()
    )
    return figure


# --------------------------------------------------------------------------------------------------------------- words


def rgb(color: Color) -> tuple[float, ...]:
    """0-255 -> matplotlib's 0-1."""
    return tuple(v / 255 for v in color)


def known(value: Number | None) -> bool:
    """A metric that was measured: None and nan mean that it was not."""
    return value is not None and bool(np.isfinite(value))


def percent(share: Number) -> str:
    return f"{100 * share:.0f} %" if share >= 0.01 else ("< 1 %" if share > 0 else "0 %")
