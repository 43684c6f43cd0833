"""What the browser tests do: start a server, open a lesson, run its cells, and watch what the page asks for.

server   jupyterlab(folder) -> Server(url, token)
page     open_lesson(page, "05_panoptic_head"); run_all(page); output(page, "a text of its cell")
watch    Watch(context).open(url) -> page; .check() fails on a request that leaves the machine and on any error
"""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
from jaxtyping import UInt8

from upsnet_lite.datasets.shapes import write_shapes

ROOT = Path(__file__).parents[2]
SHAPES = ROOT / "data" / "shapes"
LESSON = 400  # seconds that a lesson may take: a minute where the machine is quiet
HERE = re.compile(r"(https?|wss?)://127\.0\.0\.1[:/]|(data|blob|about):")
KNOWN = "Could not restore the debugger state"  # JupyterLab's own, where a kernel ends while it asks
SHIPPED = ROOT / "upsnet_lite/viz/static/jupyter/labconfig/default_setting_overrides.json"  # what `make lab` sets
SETTINGS = json.loads(SHIPPED.read_text()) | {
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},  # every cell is in the page, seen or not
    "@jupyterlab/docmanager-extension:plugin": {"autosave": False},
}
# The kernel is named: before it knows which there are, JupyterLab would ask. What may never end is not waited for here.
OPEN = """async (path) => {
    await window.jupyterapp.serviceManager.ready;
    const widget = await window.jupyterapp.commands.execute("docmanager:open", { path, kernel: { name: "python3" } });
    widget.sessionContext.ready.then(() => { widget.node.dataset.ready = "yes"; });
}"""
RUN = """() => {
    const commands = window.jupyterapp.commands;
    commands.execute("notebook:clear-all-cell-outputs").then(() => commands.execute("notebook:run-all-cells"));
}"""
DONE = """() => {
    const cells = [...document.querySelectorAll(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-CodeCell")];
    const failed = document.querySelector('.jp-RenderedText[data-mime-type="application/vnd.jupyter.error"]');
    if (failed) return failed.textContent;
    const counted = cells.every(c => /\\[\\d+\\]/.test(c.querySelector(".jp-InputPrompt").textContent));
    return cells.length && counted ? "done" : "";
}"""


# ------------------------------------------------------------------------------------------------------- servers


@dataclass(frozen=True)
class Server:
    url: str
    token: str

    def ask(self, path: str, method: str = "GET") -> bytes:
        request = Request(f"{self.url}/{path}", method=method, headers={"Authorization": f"token {self.token}"})
        with urlopen(request, timeout=30) as answer:
            return answer.read()

    def shut_kernels(self) -> None:
        for session in json.loads(self.ask("api/sessions")):
            self.ask(f"api/sessions/{session['id']}", "DELETE")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def own_settings(folder: Path) -> dict[str, str]:
    """Variables with which Jupyter reads and writes nothing of the user's."""
    names = {f"JUPYTER_{kind}_DIR": kind.lower() for kind in ("CONFIG", "DATA", "RUNTIME")} | {"IPYTHONDIR": "ipython"}
    return os.environ | {k: str(folder / v) for k, v in names.items()} | {"OMP_NUM_THREADS": "2"}


@contextmanager
def process(command: list[str], log: Path, ready: str, **popen) -> Iterator[subprocess.Popen]:
    """A server that runs while the block does; `ready` is an address that answers once it is up."""
    with log.open("w") as file:
        server = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, **popen)
    try:
        for _ in range(600):
            assert server.poll() is None, f"{command[:3]} ended:\n{log.read_text()[-2000:]}"
            try:
                urlopen(ready, timeout=5).close()
                break
            except OSError as error:
                if hasattr(error, "code"):  # it answers, if only to refuse
                    break
                time.sleep(0.2)
        else:
            raise AssertionError(f"{ready} did not answer:\n{log.read_text()[-2000:]}")
        yield server
    finally:
        server.terminate()  # a server that is asked shuts its kernels down
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


@contextmanager
def jupyterlab(folder: Path) -> Iterator[Server]:
    """Serves a copy of the lessons from `folder`, with the project's data beside them."""
    write_shapes(SHAPES, train=2000, val=200)  # does nothing where they stand already
    root = folder / "project"
    shutil.copytree(ROOT / "notebooks", root / "notebooks", ignore=shutil.ignore_patterns(".*"))
    (root / "data").symlink_to(ROOT / "data", target_is_directory=True)
    overrides = folder / "config" / "labconfig" / "default_setting_overrides.json"
    overrides.parent.mkdir(parents=True)
    overrides.write_text(json.dumps(SETTINGS))
    port, token = free_port(), secrets.token_hex(16)
    flags = ["--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0", "--no-browser"]
    flags += [f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={root}", "--allow-root"]
    flags += ["--LabApp.expose_app_in_browser=True", "--LabApp.news_url=None"]
    flags += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    command = [sys.executable, "-m", "jupyterlab", *flags]
    ready = f"http://127.0.0.1:{port}/api"
    with process(command, folder / "log", ready, cwd=root, env=own_settings(folder)):
        yield Server(f"http://127.0.0.1:{port}", token)


@contextmanager
def explorer(folder: Path) -> Iterator[str]:
    """Runs `upsnet-lite explore` on the project's data; the address that it prints."""
    write_shapes(SHAPES, train=2000, val=200)
    port, log = free_port(), folder / "log"
    command = [sys.executable, "-m", "upsnet_lite", "explore", "--no-browser", f"--port={port}", f"--data={SHAPES}"]
    env = own_settings(folder) | {"PYTHONPATH": str(ROOT)}
    with process(command, log, f"http://127.0.0.1:{port}/", cwd=folder, env=env):
        while not (found := re.search(r"http://127\.0\.0\.1:\d+/\?token=\S+", log.read_text())):
            time.sleep(0.1)
        yield found[0]


# --------------------------------------------------------------------------------------------------------- pages


class Watch:
    """Every request of a browser context's pages, and every error in their consoles."""

    def __init__(self, context) -> None:
        self.context, self.requests, self.errors = context, [], []
        context.on("request", lambda request: self.requests.append(request.url))
        context.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        context.on("weberror", lambda error: self.errors.append(str(error.error)))

    def open(self, url: str):
        page = self.context.new_page()
        page.on("websocket", lambda socket: self.requests.append(socket.url))
        page.goto(url, wait_until="commit")
        return page

    def check(self) -> None:
        """AssertionError naming what left the machine, and what went wrong."""
        outside = [r for r in self.requests if not HERE.match(r)]
        errors = [e for e in self.errors if not e.startswith(KNOWN)]
        self.requests.clear()
        self.errors.clear()
        assert not outside, f"left the machine: {outside}"
        assert not errors, f"errors in the browser's console: {errors}"


def open_lesson(page, name: str) -> None:
    """Opens a lesson in the lab and waits for its kernel."""
    page.evaluate(OPEN, f"notebooks/{name}.ipynb")
    shown = ".jp-NotebookPanel:not(.lm-mod-hidden)"  # another lesson may lie behind it
    page.wait_for_selector(f"{shown}[data-ready] .jp-Cell")
    page.wait_for_selector(f'{shown} .jp-Notebook-ExecutionIndicator[data-status="idle"]')


def run_all(page) -> None:
    """Runs the open lesson from top to bottom; AssertionError with the traceback of a cell that fails."""
    page.evaluate(RUN)
    told = page.wait_for_function(DONE, polling=300, timeout=1000 * LESSON).json_value()
    assert told == "done", told


def output(page, source: str):
    """The output of the first cell whose source holds this text."""
    return page.locator(".jp-CodeCell", has=page.locator(".jp-InputArea", has_text=source)).first.locator(
        ".jp-OutputArea-output"
    )


def theme(page, dark: bool) -> None:
    name = "JupyterLab Dark" if dark else "JupyterLab Light"
    page.evaluate("theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", name)
    page.wait_for_selector(f"body[data-jp-theme-light='{str(not dark).lower()}']", state="attached")


# ------------------------------------------------------------------------------------------------------- what is seen

CELLS = """(canvas, [height, width]) => {
    const k = canvas.width / width, pen = canvas.getContext("2d");
    const pixels = pen.getImageData(0, 0, canvas.width, canvas.height).data;
    const found = [];
    for (let row = 0; row < height; row++)
        for (let column = 0; column < width; column++) {
            const at = 4 * (Math.floor((row + 0.5) * k) * canvas.width + Math.floor((column + 0.5) * k));
            found.push(pixels[at], pixels[at + 1], pixels[at + 2]);
        }
    return found;
}"""


def cells(canvas, height: int, width: int) -> UInt8[np.ndarray, "H W 3"]:
    """The colour in the middle of each of the map's pixels, as the canvas shows it unzoomed."""
    return np.array(canvas.evaluate(CELLS, [height, width]), dtype=np.uint8).reshape(height, width, 3)


def spot(canvas, height: int, width: int, row: float, column: float) -> tuple[float, float]:
    """Where on the page the middle of a pixel of the map lies; the canvas is scrolled into view."""
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    return box["x"] + (column + 0.5) * box["width"] / width, box["y"] + (row + 0.5) * box["height"] / height


def eventually(page, holds: Callable[[], bool], seconds: float = 30) -> bool:
    """True as soon as it holds; False where it does not within the time."""
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            return False
        page.wait_for_timeout(60)
    return True
