"""Pictures of lesson 08: thresholds as curves, oracles as a table with bars, differences with their intervals.

Every figure is in per cent of panoptic quality.
"""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from upsnet_lite.viz.charts import LINES, RUNS, label
from upsnet_lite.viz.colors import Number
from upsnet_lite.viz.labels import listed
from upsnet_lite.viz.picture import GREY, INK, WIDTH, Picture, heading, panels, styled

Curve = Mapping[float | int, float | int]  # threshold -> per cent


@styled
def threshold_curves(sweeps: Mapping[str, Mapping[str, Curve]], chosen: Mapping[str, Number]) -> Picture:
    """One panel per threshold, one line per fusion or figure; the value in use is a dashed line.

    sweeps: threshold -> line -> {value: per cent}; chosen: threshold -> the value in use. One scale for all panels.
    """
    figure, axes, _ = panels(
        len(sweeps), 2, 0.62, "PQ against each threshold", "the others stay as they are", ticks=True
    )
    every = [v for lines in sweeps.values() for line in lines.values() for v in line.values()]
    room = 0.08 * (max(every) - min(every) or 1)
    for ax, (name, lines) in zip(axes, sweeps.items(), strict=True):
        ends = []
        for i, (text, line) in enumerate(lines.items()):
            ax.plot(list(line), list(line.values()), color=RUNS[i], ls=LINES[i], marker=".", ms=5)
            ends.append((list(line.values())[-1], text, RUNS[i]))
        ax.axvline(chosen[name], color=GREY, lw=0.8, ls=(0, (4, 3)))
        ax.set_ylim(min(every) - room, max(every) + room)
        ax.set_title(name)
        ax.set_title(f"in use: {chosen[name]:g}", loc="right", color=GREY, size=7.5)
        ax.grid(axis="y")
        _names_at_end(ax, ends, max(max(line) for line in lines.values()))
    best = [
        f"{n}, {t}: best {max(c.values()):.1f} at {max(c, key=c.get):g}"
        for n, ls in sweeps.items()
        for t, c in ls.items()
    ]
    figure.alt_text = f"PQ as curves. {'; '.join(best)}."
    return figure


def _names_at_end(axes: Axes, ends: Sequence[tuple[float, str, str]], right: Number) -> None:
    """Each line's name behind its end, a line's height apart."""
    low, high = axes.get_ylim()
    last = low - high
    for y, text, color in sorted(ends):
        last = max(y, last + 0.08 * (high - low))
        axes.annotate(
            text, (right, last), (5, 0), textcoords="offset points", va="center", color=color, size=7.5, weight="bold"
        )
    left, now = axes.get_xlim()
    axes.set_xlim(left, now + (now - left) * 0.045 * max(len(text) for _, text, _ in ends))
    axes.set_xticks([t for t in axes.get_xticks() if left <= t <= right])


PARTS = ("boxes", "classes", "masks", "semantics")


@styled
def oracle_table(rows: Sequence[tuple[Sequence[str], Mapping[str, Number]]], title: str) -> Picture:
    """As in the paper: a filled dot where the ground truth was put in, and what PQ becomes; things and stuff behind it.

    rows: (parts of PARTS that are true, {"PQ", "PQ_th", "PQ_st"}), the first one without any.
    """
    tall = 0.62 + 0.3 * len(rows)
    figure = Picture(WIDTH, tall)
    heading(figure, title, "filled: from the ground truth; open: from the network")
    axes = figure.add_axes((0.01, 0.03 / tall, 0.98, 0.3 * len(rows) / tall))
    axes.set(xlim=(-5.7, 15.4), ylim=(len(rows) - 0.5, -0.5), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    columns = (-5.1, -3.75, -2.45, -0.95)
    before = rows[0][1]["PQ"]
    for at, (parts, found) in enumerate(rows):
        for x, part in zip(columns, PARTS, strict=True):
            axes.plot(x, at, "o", ms=9, mec=INK, mew=1, mfc=INK if part in parts else "white")
        axes.barh(at, found["PQ"] / 10, 0.66, color=RUNS[0])
        axes.barh(at, min(found["PQ"], before) / 10, 0.66, color="#b9cfe4")
        gain = f"{found['PQ'] - before:+.1f}" if parts else ""
        label(axes, found["PQ"] / 10, at, f"{found['PQ']:.1f}   {gain}", color=INK, weight="bold")
        for x, key in ((13.2, "PQ_th"), (14.8, "PQ_st")):
            axes.text(x, at, f"{found[key]:.1f}", ha="center", va="center", color=GREY)
    look = dict(size=7.5, color=GREY, va="bottom")
    for x, text in zip((*columns, 13.2, 14.8), (*PARTS, "PQ things", "PQ stuff"), strict=True):
        axes.text(x, -0.55, text, ha="center", **look)
    axes.text(0, -0.55, "PQ, and what was gained", **look)
    figure.alt_text = f"{title}. " + "; ".join(
        f"{listed(parts) if parts else 'nothing'} from the ground truth: PQ {f['PQ']:.1f}, things {f['PQ_th']:.1f}, "
        f"stuff {f['PQ_st']:.1f}"
        for parts, f in rows
    )
    return figure


@styled
def difference_chart(rows: Mapping[str, tuple[Number, Number, Number]], title: str, note: str = "") -> Picture:
    """A dot for each difference in PQ, a bar for where it may lie, a line at 0. rows: name -> (value, low, high)."""
    tall = 0.72 + 0.32 * len(rows)
    figure = Picture(WIDTH * 0.8, tall)
    heading(figure, title, note)
    axes = figure.add_axes((0.34, 0.3 / tall, 0.41, 0.32 * len(rows) / tall))
    for at, (name, (value, low, high)) in enumerate(rows.items()):
        axes.plot([low, high], [at, at], "|-", color=RUNS[0], lw=1.6, ms=11, mew=1.6)  # ends that no dot hides
        axes.plot(value, at, "o", ms=4.5, color=RUNS[0])
        text = f"{value:+.1f}  ({low:+.1f} … {high:+.1f})"
        for side, told, ha in ((0, name, "right"), (1, text, "left")):  # beside the bars: no line strikes out a sign
            place = (8 if side else -8, 0)
            axes.annotate(told, (side, at), place, ("axes fraction", "data"), "offset points", ha=ha, va="center")
    reach = 1.15 * max(max(abs(low), abs(high)) for _, low, high in rows.values()) or 1
    axes.set(xlim=(-reach, reach), ylim=(len(rows) - 0.5, -0.62), yticks=[])
    axes.axvline(0, color=INK, lw=0.8)
    axes.spines["left"].set_visible(False)
    figure.alt_text = f"{title}. " + "; ".join(
        f"{n}: {v:+.1f}, between {low:+.1f} and {high:+.1f}" for n, (v, low, high) in rows.items()
    )
    return figure
