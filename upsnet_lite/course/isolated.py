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
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from upsnet_lite.course.sandbox import PROCESSES, TOO_MANY

START, SHOWN = 180, 50_000_000  # seconds for torch to be imported, on a busy machine; bytes of all outputs
KEPT = ("PATH", "LANG", "LD_LIBRARY_PATH", "UPSNET_COURSE_QUICK")  # of our environment; nothing else is its business


@dataclass(frozen=True)
class Limits:
    """Seconds for a cell and for all of a notebook's attempts; bytes of memory, and of what one cell prints."""

    cell: float = 60
    notebook: float = 600
    memory: int = 4 << 30
    printed: int = 1_000_000


def run(
    cells: Sequence[str], limits: Limits, hidden: Sequence[Path] = (), env: Mapping[str, str] | None = None
) -> list[list[dict]]:
    """The outputs of each cell, as a notebook notes them. hidden: folders that it must not read."""
    lost: dict[int, list[dict]] = {}
    deadline = time.monotonic() + limits.notebook
    while True:
        done, ended, reason = attempt(cells, lost, limits, hidden, env or {}, deadline)
        if ended is None:
            break
        if time.monotonic() > deadline:
            late = error(
                "CellTimeoutError", f"the {limits.notebook:g} s for the whole notebook were over before this cell"
            )
            lost |= {n: [late] for n in range(len(cells)) if n not in done and n not in lost}
        if ended not in done or reason:
            lost[ended] = [error("DeadKernelError", reason)]
        else:
            lost[ended] = done[ended]
        if time.monotonic() > deadline:
            break
    return [(done | lost).get(n, []) for n in range(len(cells))]


def error(name: str, text: str) -> dict:
    return dict(output_type="error", ename=name, evalue=text, traceback=[text])


def attempt(
    cells: Sequence[str],
    lost: Mapping[int, list[dict]],
    limits: Limits,
    hidden: Sequence[Path],
    env: Mapping[str, str],
    deadline: float,
) -> tuple[dict[int, list[dict]], int | None, str]:
    """Outputs of the cells that ended, and the cell with which it all ended (None: none) with the reason.

    The reason is empty where the cell's own outputs tell it.
    """
    job = dict(cells=list(cells), skip=sorted(lost), memory=limits.memory, printed=limits.printed)
    done: dict[int, list[dict]] = {}
    current, since, allowed, told, rest = -1, time.monotonic(), START, 0, b""
    with (
        tempfile.TemporaryDirectory(prefix="upsnet-cells-") as work,
        started(Path(work), hidden, env, job) as (process, pipe),
    ):
        while True:
            left = min(since + allowed, deadline) - time.monotonic()
            if left <= 0:
                return done, max(current, 0), f"it takes longer than {limits.cell:g} s"
            if not select.select([pipe], [], [], min(left, 1))[0]:
                continue
            chunk = os.read(pipe, 1 << 16)
            told += len(chunk)
            if told > SHOWN:
                return done, max(current, 0), f"its outputs take more than {SHOWN / 1e6:g} MB"
            if not chunk:
                process.wait()
                return done, max(current, 0), how_it_ended(process.returncode)
            *lines, rest = (rest + chunk).split(b"\n")
            for line in map(json.loads, lines):
                current, since, allowed = line["cell"], time.monotonic(), limits.cell
                if current < 0:
                    return done, None, ""
                if "outputs" in line:
                    done[current] = line["outputs"]
                if line.get("fatal"):
                    return done, current, ""


class started:
    """The worker in its sandbox, fed with its job; (process, descriptor of its reports). Killed at the end."""

    def __init__(self, work: Path, hidden: Sequence[Path], env: Mapping[str, str], job: dict) -> None:
        self.pipe, reports = os.pipe()
        own = {k: os.environ[k] for k in KEPT if k in os.environ} | {"MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}
        own |= {k: str(work) for k in ("HOME", "TMPDIR", "IPYTHONDIR", "MPLCONFIGDIR")}
        own |= {"PYTHONPATH": str(Path(__file__).resolve().parents[2]), "CUDA_VISIBLE_DEVICES": ""}
        python = [sys.executable, "-B", "-m"]
        command = [*python, "upsnet_lite.course.sandbox", work, *hidden, "--"]
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


def how_it_ended(code: int) -> str:
    if code == TOO_MANY:
        return f"it started more than {PROCESSES} processes"
    if code > 192 or code < 0:
        number = -code if code < 0 else 256 - code
        with suppress(ValueError):
            return f"it ended the Python process ({signal.Signals(number).name})"
    return f"it ended the Python process (exit code {code})"
