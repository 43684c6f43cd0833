"""The cells of a notebook, run where they can do no harm: each gets its outputs, whatever happens.

A cell that never ends, ends the process or takes too much loses; the others still count: they are run again, in a new
process, without it.
"""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upsnet_lite.course.sandbox import PROCESSES, TOO_MANY, TOO_MUCH, allowed
from upsnet_lite.files import UserError

START, SHOWN = 180, 50_000_000  # seconds for torch to be imported, on a busy machine; bytes of all outputs
TORCH = 512 << 20  # bytes that Python and torch take themselves
KEPT = ("PATH", "LANG", "LD_LIBRARY_PATH", "UPSNET_COURSE_QUICK")  # of our environment; nothing else is its business


@dataclass(frozen=True)
class Limits:
    """Seconds for a cell and for all of a notebook's attempts; bytes of memory, also of all that a cell starts
    together, and of what one cell prints."""

    cell: float = 60
    notebook: float = 600
    memory: int = 4 << 30
    printed: int = 1_000_000


def run(
    cells: Sequence[str],
    limits: Limits,
    hidden: Sequence[Path] = (),
    env: Mapping[str, str] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> list[list[dict]]:
    """The outputs of each cell, as a notebook notes them.

    hidden: folders that it must not read. stopped: asked once a second; KeyboardInterrupt when it says so. UserError
    where no process can be started.
    """
    lost: dict[int, list[dict]] = {}
    deadline, starts = time.monotonic() + limits.notebook, 2
    while True:
        done, ended, reason = attempt(cells, lost, limits, hidden, env or {}, deadline, stopped)
        if ended is None:
            break
        over = time.monotonic() > deadline
        if over:
            late = error(
                "CellTimeoutError", f"the {limits.notebook:g} s for the whole notebook were over before this cell"
            )
            lost |= {n: [late] for n in range(len(cells)) if n not in done and n not in lost}
        if ended >= 0:
            lost[ended] = [error("DeadKernelError", reason)] if ended not in done or reason else done[ended]
        elif not over:
            starts -= 1
            if not starts:
                raise UserError(f"no process for its cells can be started here: {reason}")
        if over:
            break
    return [(done | lost).get(n, []) for n in range(len(cells))]


def alone() -> bool:
    """Whether cells get a world of their own here."""
    with tempfile.TemporaryDirectory() as work:
        return allowed(Path(work), [])


def error(name: str, text: str) -> dict:
    return dict(output_type="error", ename=name, evalue=text, traceback=[text])


def attempt(
    cells: Sequence[str],
    lost: Mapping[int, list[dict]],
    limits: Limits,
    hidden: Sequence[Path],
    env: Mapping[str, str],
    deadline: float,
    stopped: Callable[[], bool],
) -> tuple[dict[int, list[dict]], int | None, str]:
    """Outputs of the cells that ended, and the cell with which it all ended (None: none, -1: before the first).

    Then the reason. The reason is empty where the cell's own outputs tell it.
    """
    job = dict(cells=list(cells), skip=sorted(lost), memory=limits.memory, printed=limits.printed)
    done: dict[int, list[dict]] = {}
    current, since, allowed, told, rest = -1, time.monotonic(), START, 0, b""
    with (
        tempfile.TemporaryDirectory(prefix="upsnet-cells-") as work,
        started(Path(work), hidden, env, job) as (process, pipe),
    ):
        while True:
            if stopped():
                raise KeyboardInterrupt
            left = min(since + allowed, deadline) - time.monotonic()
            if left <= 0:
                return done, current, f"it takes longer than {allowed:g} s"
            if not select.select([pipe], [], [], min(left, 1))[0]:
                continue
            chunk = os.read(pipe, 1 << 16)
            told += len(chunk)
            if told > SHOWN:
                return done, current, f"its outputs take more than {SHOWN / 1e6:g} MB"
            if not chunk:
                process.wait()
                return done, current, how_it_ended(process.returncode, limits)
            *lines, rest = (rest + chunk).split(b"\n")
            for line in map(heard, lines):
                if not line or (line["cell"] < 0 and done.keys() | lost.keys() != set(range(len(cells)))):
                    return done, max(current, 0), "it wrote where its results are told"
                if line["cell"] < 0:
                    return done, None, ""
                current, since, allowed = min(line["cell"], len(cells) - 1), time.monotonic(), limits.cell
                if "outputs" in line:
                    done[current] = line["outputs"]
                if line.get("fatal"):
                    return done, current, ""


def heard(line: bytes) -> dict:
    """What the worker tells, or {}: a cell can write there, too, and anything."""
    try:
        told = json.loads(line)
        outputs = told.get("outputs", [])
        fine = type(told["cell"]) is int and isinstance(outputs, list) and all(map(is_output, outputs))
    except (ValueError, KeyError, AttributeError, RecursionError):
        return {}
    return told if fine else {}


def is_output(output: Any) -> bool:
    """Whether a notebook may hold it: printed text, an error, or something shown."""
    try:
        kind = output["output_type"]
        if kind == "display_data":
            return {*map(type, output["data"].values())} <= {str} and isinstance(output["metadata"], dict)
        texts = dict(stream=("name", "text"), error=("ename", "evalue"))[kind]
        traced = output.get("traceback", [])
        return all(isinstance(text, str) for text in (*map(output.get, texts), *traced)) and isinstance(traced, list)
    except (KeyError, TypeError):
        return False


class started:
    """The worker in its sandbox, fed with its job; (process, descriptor of its reports). Killed at the end."""

    def __init__(self, work: Path, hidden: Sequence[Path], env: Mapping[str, str], job: dict) -> None:
        self.pipe, reports = os.pipe()
        own = {k: os.environ[k] for k in KEPT if k in os.environ} | {"MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}
        own |= {k: str(work) for k in ("HOME", "TMPDIR", "IPYTHONDIR", "MPLCONFIGDIR")}
        own |= {"PYTHONPATH": str(Path(__file__).resolve().parents[2]), "CUDA_VISIBLE_DEVICES": ""}
        python = [sys.executable, "-B", "-m"]
        command = [*python, "upsnet_lite.course.sandbox", job["memory"] + TORCH, work, *hidden, "--"]
        command += [*python, "upsnet_lite.course.worker", str(reports)]
        silent = dict(stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        look = dict(cwd=work, env=own | dict(env), pass_fds=[reports], start_new_session=True)
        self.process = subprocess.Popen(list(map(str, command)), **silent, **look)
        os.close(reports)
        with suppress(BrokenPipeError), self.process.stdin as stdin:
            stdin.write(json.dumps(job).encode())

    def __enter__(self) -> tuple[subprocess.Popen, int]:
        return self.process, self.pipe

    def __exit__(self, *_) -> None:
        os.close(self.pipe)
        self.process.terminate()  # it kills what it started
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            with suppress(OSError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def how_it_ended(code: int, limits: Limits) -> str:
    if code == TOO_MUCH:
        return f"it and what it started need more than the {limits.memory / 2**30:g} GB of memory that are allowed"
    if code == TOO_MANY:
        return f"it started more than {PROCESSES} processes"
    if code > 192 or code < 0:
        number = -code if code < 0 else 256 - code
        with suppress(ValueError):
            return f"it ended the Python process ({signal.Signals(number).name})"
    return f"it ended the Python process (exit code {code})"
