"""The live table of a training run: eight losses, rate, speed, time left. rich in a terminal, tqdm in a notebook."""

import math
import sys
import time

from .clock import Clock


def in_notebook() -> bool:
    return "ipykernel" in sys.modules


def short(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, seconds = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def pace(clock: Clock, iteration: int) -> str:
    return f"it {iteration}  {clock.speed(iteration):.2f} it/s  {short(clock.left(iteration))} left"


class Smooth:
    """Exponential mean of each loss, corrected for its start."""

    def __init__(self, decay: float = 0.95) -> None:
        self.decay, self.steps, self.sums = decay, 0, {}

    def update(self, values: dict[str, float]) -> dict[str, float]:
        self.steps += 1
        for name, value in values.items():
            self.sums[name] = self.decay * self.sums.get(name, 0.0) + (1 - self.decay) * value
        return {name: total / (1 - self.decay**self.steps) for name, total in self.sums.items()}


class Silent:
    """No display: other processes than the first, and tests."""

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None: ...

    def show(self, clock: Clock, iteration: int, losses: dict[str, float], lr: float) -> None: ...


class Lines(Silent):
    """Where the output is no terminal: one line every few seconds."""

    def __init__(self, every: float = 10.0) -> None:
        self.every, self.last = every, -math.inf

    def show(self, clock, iteration, losses, lr) -> None:
        progress = clock.progress(iteration)
        if time.monotonic() - self.last > self.every or progress >= 1:
            self.last = time.monotonic()
            terms = "  ".join(f"{name.removeprefix('loss_')} {value:.3f}" for name, value in losses.items())
            head = f"{min(1, progress):4.0%}  {pace(clock, iteration)}  total {sum(losses.values()):.3f}"
            print(f"{head}  {terms}", flush=True)


class Terminal(Silent):
    """A rich table that is redrawn in place."""

    def __enter__(self):
        from rich.live import Live

        self.live = Live(refresh_per_second=4)
        self.live.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self.live.__exit__(*error)

    def show(self, clock, iteration, losses, lr) -> None:
        from rich.table import Table

        done = f"{min(1, clock.progress(iteration)):.0%} done, {pace(clock, iteration)}"
        table = Table(title=done, title_justify="left")
        table.add_column("loss (weighted)")
        table.add_column("mean", justify="right")
        table.add_column("share", justify="right")
        total = sum(losses.values()) or 1.0
        for name, value in losses.items():
            table.add_row(name, f"{value:.4f}", f"{value / total:.0%}")
        table.add_section()
        table.add_row("total", f"{total:.4f}", f"rate {lr:.2e}")
        self.live.update(table)


class Notebook(Silent):
    """tqdm's bar, with the total and the largest loss beside it."""

    def __enter__(self):
        from tqdm.auto import tqdm

        self.bar = tqdm(total=100, unit="%", bar_format="{desc} {percentage:3.0f}% |{bar}| {postfix}")
        return self

    def __exit__(self, *_) -> None:
        self.bar.close()

    def show(self, clock, iteration, losses, lr) -> None:
        self.bar.n = round(100 * min(1, clock.progress(iteration)))
        largest = max(losses, key=losses.get)
        total = f"total {sum(losses.values()):.3f}, most {largest} {losses[largest]:.3f}"
        self.bar.set_postfix_str(f"{pace(clock, iteration)}, {total}")


def display(kind: str | Silent = "auto") -> Silent:
    """By name: "auto", "terminal", "notebook", "lines", "silent"; or one of your own, derived from Silent."""
    if isinstance(kind, Silent):
        return kind
    if kind == "auto":
        kind = "notebook" if in_notebook() else "terminal" if sys.stderr.isatty() and sys.stdout.isatty() else "lines"
    return {"terminal": Terminal, "notebook": Notebook, "lines": Lines, "silent": Silent}[kind]()
