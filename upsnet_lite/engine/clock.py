"""Time and its end: how far a run is, how long it still takes, and whether someone asked it to stop."""

import signal
import threading
import time


class Clock:
    """Of a run of `length` iterations or, where that is None, of `minutes`; goes on where a resumed run stopped."""

    def __init__(self, length: int | None, minutes: float | None, iteration: int = 0, seconds: float = 0.0) -> None:
        self.length, self.limit = length, None if minutes is None else 60 * minutes
        self.first, self.begun = iteration, time.monotonic()
        self.started, self.last = self.begun - seconds, self.begun

    def seconds(self) -> float:
        """Since the start of the run, pauses between kill and resume not counted."""
        return time.monotonic() - self.started

    def progress(self, iteration: int) -> float:
        """Share of the run that is done; 1 or more: it is over."""
        return iteration / self.length if self.length else self.seconds() / self.limit

    def speed(self, iteration: int) -> float:
        """Iterations per second since the start or resume."""
        return (iteration - self.first) / max(1e-9, time.monotonic() - self.begun)

    def left(self, iteration: int) -> float:
        """Seconds until the end, at the present speed."""
        if self.length:
            return (self.length - iteration) / max(1e-9, self.speed(iteration))
        return max(0.0, self.limit - self.seconds())

    def lap(self) -> float:
        """Seconds since the last call."""
        before, self.last = self.last, time.monotonic()
        return self.last - before


class StopSignal:
    """Inside, Ctrl-C and SIGTERM only set `came`, because half an iteration could not be resumed.

    The second one stops at once.
    """

    came = False

    def __enter__(self) -> "StopSignal":
        self.before = {}
        if threading.current_thread() is threading.main_thread():  # Python hands signals to no other
            self.before = {s: signal.signal(s, self.note) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def note(self, *_) -> None:
        if self.came:
            raise KeyboardInterrupt
        self.came = True

    def __exit__(self, *_) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
