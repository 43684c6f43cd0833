"""Pictures of lesson 07: curves that grow while training runs, the rate over a run, losses of several networks."""

import math
import time
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from upsnet_lite.engine.clock import Clock
from upsnet_lite.engine.progress import Silent, pace
from upsnet_lite.engine.recipe import Recipe, rate_factor
from upsnet_lite.viz.charts import LINES, RUNS, label
from upsnet_lite.viz.colors import Array, Number, image_rgb
from upsnet_lite.viz.labels import listed
from upsnet_lite.viz.picture import GREY, INK, WIDTH, Picture, heading, img, panels, styled

SHARE = 20  # a redraw may cost a twentieth of the time


class LiveCurves(Silent):
    """`train(options, show=LiveCurves())` in a notebook: the losses of the run as one picture that is drawn again.

    every: seconds between two drawings, more where drawing is slow.
    """

    def __init__(self, every: float = 3.0) -> None:
        self.every, self.drawn, self.cost = every, -math.inf, 0.0
        self.shares: list[float] = []
        self.table: dict[str, list[float]] = {}
        self.note = ""

    def __enter__(self) -> "LiveCurves":
        from IPython.display import display  # only a notebook trains with it

        self.handle = display({"text/plain": "the first iteration runs"}, raw=True, display_id=True)
        return self

    def __exit__(self, *_) -> None:
        if self.shares:
            self.draw()

    def show(self, clock: Clock, iteration: int, losses: dict[str, float], lr: float) -> None:
        self.shares.append(100 * min(1.0, clock.progress(iteration)))
        for name, value in {"total": sum(losses.values()), **losses, "rate × 1000": 1000 * lr}.items():
            self.table.setdefault(name, []).append(value)
        self.note = pace(clock, iteration)
        if time.monotonic() - self.drawn > max(self.every, SHARE * self.cost):
            self.draw()

    def draw(self) -> None:
        begun = time.monotonic()
        figure = run_curves(np.array(self.shares), {k: np.array(v) for k, v in self.table.items()}, self.note)
        self.handle.update({"text/html": img(figure), "text/plain": figure.alt_text}, raw=True)
        self.drawn = time.monotonic()
        self.cost = self.drawn - begun


@styled
def run_curves(shares: Float[np.ndarray, " T"], table: Mapping[str, np.ndarray], note: str = "") -> Picture:
    """A panel for each column over the share of the run in per cent; the curves grow into a frame that stands still."""
    figure, axes, _ = panels(len(table), 5, 0.72, "training", note, ticks=True)
    for n, (ax, (name, values)) in enumerate(zip(axes, table.items(), strict=True)):
        ax.plot(shares, values, color=INK if n == 0 else GREY if name.startswith("rate") else RUNS[0])
        ax.plot(shares[-1], values[-1], "o", ms=4, color=RUNS[1])
        ax.set(xlim=(0, 100), ylim=(0, 1.1 * values.max() or 1))
        ax.locator_params(axis="y", nbins=3)
        share_axis(ax)
        ax.grid(axis="y")
        ax.set_title(name.removeprefix("loss_").replace("_", " "))
        ax.set_title(
            f"{values[-1]:.2f}" if values[-1] >= 0.1 else f"{values[-1]:.3f}", loc="right", color=RUNS[1], size=7.5
        )
    axes[0].set_xlabel("% of the run", loc="right", labelpad=1, size=7.5)
    ends = ", ".join(f"{name.removeprefix('loss_')} {values[-1]:.2g}" for name, values in table.items())
    figure.alt_text = f"Curves of the losses over the run, {shares[-1]:.0f} % of it done. Now: {ends}."
    return figure


def share_axis(axes: Axes) -> None:
    """0, 50 and 100 per cent, the last number inside the frame."""
    axes.set_xticks([0, 50, 100])
    axes.get_xticklabels()[-1].set_ha("right")


@styled
def rate_curve(recipes: Mapping[str, Recipe]) -> Picture:
    """The learning rate over a run, one panel for each recipe, with its highest value."""
    shares = np.linspace(0, 1, 400)
    figure, axes, _ = panels(len(recipes), 3, 0.5, "learning rate over the run", ticks=True, largest=2.8)
    for ax, (name, recipe) in zip(axes, recipes.items(), strict=True):
        ax.plot(100 * shares, [recipe.lr * rate_factor(recipe, float(s)) for s in shares], color=RUNS[0])
        ax.axvspan(0, 100 * recipe.warmup, color=RUNS[1], alpha=0.25, lw=0)
        ax.annotate("warm-up", (100 * recipe.warmup, 0), (4, 4), textcoords="offset points", color=RUNS[1], size=7.5)
        at = dict(xytext=(0, 3), textcoords="offset points", va="bottom", weight="bold")
        ax.annotate(f"{recipe.lr:g}", (100 * recipe.warmup, recipe.lr), **at)
        ax.set(xlim=(0, 100), ylim=(0, 1.2 * recipe.lr), yticks=[])
        share_axis(ax)
        ax.set_title(name)
        ax.set_title(f"{recipe.optimizer}, {recipe.images} images a step", loc="right", color=GREY, size=7.5)
    axes[0].set_xlabel("% of the run", loc="right", labelpad=1, size=7.5)
    figure.alt_text = "Learning rate over a run. " + "; ".join(
        f"{n}: {r.optimizer}, up to {r.lr:g}, warm-up of {100 * r.warmup:.1f} per cent, then {r.schedule}"
        for n, r in recipes.items()
    )
    return figure


@styled
def show_batch(images: Sequence[Float[Array, "3 H W"]], names: Sequence[str], title: str) -> Picture:
    """Images of one size side by side."""
    pixels = [image_rgb(image) for image in images]
    figure, axes, _ = panels(len(pixels), 5, pixels[0].shape[0] / pixels[0].shape[1], title)
    for ax, rgb, name in zip(axes, pixels, names, strict=True):
        ax.imshow(rgb)
        ax.set_title(name)
    figure.alt_text = f"{title}: {listed(names)}."
    return figure


@styled
def compare_totals(runs: Mapping[str, Float[np.ndarray, " T"]], title: str) -> Picture:
    """The total of each run by iteration; logarithmic, so that one that explodes does not hide the others."""
    figure, (axes,), _ = panels(1, 1, 0.38, title, "logarithmic scale", names=False, ticks=True, largest=6.4)
    ends = []
    for n, (name, totals) in enumerate(runs.items()):
        axes.semilogy(np.arange(1, len(totals) + 1), totals, color=RUNS[n], ls=LINES[n])
        ends.append((np.log10(totals[-5:].mean()), len(totals), name, RUNS[n]))
    low, high = np.log10(axes.get_ylim())
    last = -np.inf
    for end, x, name, color in sorted(ends):  # names a line's height apart
        last = max(end, last + 0.08 * (high - low))
        at = dict(xytext=(5, 0), textcoords="offset points", va="center")
        axes.annotate(name, (x, 10**last), **at, color=color, weight="bold")
    axes.set_xlim(0, 1.2 * max(len(totals) for totals in runs.values()))
    axes.grid(axis="y")
    axes.set_xlabel("iteration", loc="right", labelpad=1, size=7.5)
    figure.alt_text = f"{title}, logarithmic. " + "; ".join(
        f"{name}: highest {totals.max():.3g}, at the end {totals[-5:].mean():.3g}" for name, totals in runs.items()
    )
    return figure


@styled
def loss_bars(runs: Mapping[str, Mapping[str, Number]], keys: Sequence[str], title: str, note: str = "") -> Picture:
    """Losses of several networks side by side: a group for each key, a bar for each run with its value and name."""
    tall = len(keys) * (0.2 * len(runs) + 0.1)
    figure = Picture(WIDTH * 0.8, tall + 0.5)
    heading(figure, title, note)
    axes = figure.add_axes((0.2, 0.06 / (tall + 0.5), 0.76, tall / (tall + 0.5)))
    top = max(max(run[k] for k in keys) for run in runs.values())
    for g, key in enumerate(keys):
        for r, (name, losses) in enumerate(runs.items()):
            at = g + (r - (len(runs) - 1) / 2) * 0.8 / len(runs)
            axes.barh(at, losses[key], 0.72 / len(runs), color=RUNS[r])
            label(axes, losses[key], at, f"{losses[key]:.2f}" + (f"  {name}" if g == 0 else ""), color=INK)
        axes.text(-0.012 * top, g, key.removeprefix("loss_").replace("_", " "), ha="right", va="center")
    axes.set(xlim=(0, 1.35 * top), ylim=(len(keys) - 0.5, -0.5), xticks=[], yticks=[])
    axes.spines[["bottom"]].set_visible(False)
    figure.alt_text = f"{title}. " + "; ".join(
        f"{n}: " + ", ".join(f"{k.removeprefix('loss_')} {run[k]:.2f}" for k in keys) for n, run in runs.items()
    )
    return figure
