"""Runs a submission's cells in the sandbox and reports each.             python -m upsnet_lite.course.worker DESCRIPTOR

The job comes as JSON on stdin: cells (sources), skip (numbers of cells not to run), memory and printed (bytes). On the
descriptor one JSON line announces each cell, and one says what came of it: outputs as in a notebook, the last of them
an error where there was one. Whoever listens keeps the time. A cell that ran out of memory ends it all: what it still
holds would be missing for the next one.
"""

import io
import json
import os
import resource
import sys
from base64 import b64encode
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from upsnet_lite.course.feedback import one_line
from upsnet_lite.course.sandbox import limit


class Printed(BaseException):
    """Too much. Not an Exception: a bare `except Exception` in a loop is not to catch it."""


class Paper(io.TextIOBase):
    """Takes what a cell prints, up to a number of characters."""

    def __init__(self, most: int) -> None:
        self.parts: list[str] = []
        self.most = self.left = most

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.left -= len(text)
        if self.left < 0:
            raise Printed(f"it printed more than {self.most / 1e6:g} MB")
        self.parts.append(text)
        return len(text)


def output(error: BaseException, memory: int) -> dict:
    """An error as a notebook notes it; the learner's line takes the place of a traceback through our checks."""
    text, name = one_line(error), type(error).__name__
    if isinstance(error, MemoryError) or "can't allocate memory" in text:
        text, name = f"it needs more than the {memory / 2**30:g} GB of memory that are allowed", "MemoryError"
    if isinstance(error, Printed):
        text = str(error)
    return dict(output_type="error", ename=name, evalue=text, traceback=[text])


def run(shell: Any, code: str, memory: int, most: int) -> list[dict]:
    """The outputs of one cell."""
    from IPython.utils.capture import capture_output

    paper, values = Paper(most), []
    shell.displayhook.write_format_data = lambda data, metadata=None: values.append((data, metadata or {}))
    shell.displayhook.write_output_prompt = shell.displayhook.finish_displayhook = lambda: None
    shell.showtraceback = shell.showsyntaxerror = lambda *_, **__: None  # an error is told below, in one line
    with capture_output(stdout=False, stderr=False) as shown, redirect_stdout(paper), redirect_stderr(paper):
        result = shell.run_cell(code, store_history=False)
    error = result.error_before_exec or result.error_in_exec
    outputs = [dict(output_type="stream", name="stdout", text="".join(paper.parts))] if paper.parts else []
    values = [*((o.data, o.metadata or {}) for o in shown.outputs), *values]
    outputs += [dict(output_type="display_data", data=texts(data), metadata=metadata) for data, metadata in values]
    return outputs if error is None else [*outputs, output(error, memory)]


def texts(data: dict) -> dict[str, str]:
    """What is shown as a notebook holds it: text, and pictures in base64; the rest is left out."""
    as_text = {kind: b64encode(v).decode() if isinstance(v, bytes) else v for kind, v in data.items()}
    return {kind: v for kind, v in as_text.items() if isinstance(v, str)}


def memory_used() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def main(descriptor: int) -> None:
    job = json.load(sys.stdin)
    sys.stdin = io.StringIO()
    for standard in (0, 1, 2):  # a program that a cell starts prints into nothing
        os.dup2(os.open(os.devnull, os.O_RDWR), standard)
    import torch
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    torch.set_num_threads(1)
    shell, here = InteractiveShell.instance(config=Config(HistoryManager=dict(enabled=False))), os.getpid()
    limit(resource.RLIMIT_AS, memory_used() + job["memory"])
    os.set_inheritable(descriptor, False)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as report:  # half a character is none

        def tell(number: int, **what) -> None:
            print(json.dumps(dict(cell=number, **what), default=str, ensure_ascii=False), file=report, flush=True)

        for number, code in enumerate(job["cells"]):
            if number not in job["skip"]:
                tell(number)
                outputs = run(shell, code, job["memory"], job["printed"])
                if os.getpid() != here:
                    os._exit(0)  # a copy of us that a cell forked: its cell is over
                fatal = bool(outputs) and outputs[-1].get("ename") == "MemoryError"
                tell(number, outputs=outputs, fatal=fatal)
                if fatal:
                    os._exit(0)
        tell(-1)
    os._exit(0)  # whatever a cell left running or registered for the end


if __name__ == "__main__":
    main(int(sys.argv[1]))
