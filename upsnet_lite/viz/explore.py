"""`upsnet-lite explore`: the FusionExplorer as a page of its own, on this machine only and behind a token.

check(...)    what is wrong with checkpoint, data or images is said before anything starts
serve(...)    Voila shows one notebook, static/explore.ipynb, and hands out nothing else of the machine
page()        what that notebook calls in a kernel of its own; `serve` tells it through UPSNET_EXPLORE
"""

import json
import os
import secrets
import socket
import threading
import time
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from upsnet_lite.files import UserError

SHAPES = Path("data/shapes")
STATIC = Path(__file__).parent / "static"
NOTEBOOK = STATIC / "explore.ipynb"
EXTENSIONS = ["@voila-dashboards/widgets-manager8", "@jupyter-widgets/jupyterlab-manager", "anywidget"]  # no other
LONGEST = 64_000_000  # bytes of one message from the browser: an upload of MOST and some room
MOST = 40_000_000  # bytes of an uploaded file


def check(checkpoint: str, data: Path | None, images: Sequence[Path], split: str) -> None:
    """UserError for a checkpoint, a data set or an image that the page could not show. Draws missing data/shapes."""
    from upsnet_lite.datasets.shapes import write_shapes
    from upsnet_lite.viz.fusion import scene
    from upsnet_lite.viz.photo import read_photo
    from upsnet_lite.weights import load

    model = load(checkpoint)
    if data == SHAPES:
        if not data.exists():
            print(f"Drawing scenes into {data}, once: half a minute", flush=True)
        write_shapes(data, train=2000, val=200)  # does nothing where they stand already
    for path in images:
        read_photo(path)
    if data is not None:
        scene(checkpoint, data, 0, split, model)


def serve(checkpoint: str, data: Path | None, images: Sequence[Path], split: str, port: int, browser: bool) -> None:
    """Runs until it is interrupted."""
    check(checkpoint, data, images, split)
    told = dict(checkpoint=checkpoint, data=data and str(data), images=[str(i) for i in images], split=split)
    token, port = secrets.token_urlsafe(24), free_port(port)
    os.environ["JUPYTER_TOKEN"] = token  # not an argument, which every user of the machine would see
    os.environ["UPSNET_EXPLORE"] = json.dumps(told | dict(folder=os.getcwd()))
    os.environ["JUPYTER_PATH"] = os.pathsep.join([str(STATIC), *filter(None, [os.environ.get("JUPYTER_PATH")])])
    url = f"http://127.0.0.1:{port}/?token={token}"
    threading.Thread(target=announce, args=(url, port, browser), daemon=True).start()
    run_voila(port)


def run_voila(port: int) -> None:
    try:
        from traitlets.config import Config
        from voila.app import Voila  # reads JUPYTER_PATH as it is imported
    except ImportError:
        raise UserError("the explorer needs Voila; `pip install 'upsnet-lite[lab]'` adds it") from None
    shown = dict(template="explore", file_allowlist=["(?!)"], extension_allowlist=EXTENSIONS)  # no file at all
    shown |= dict(allow_template_override="NO")
    server = dict(ip="127.0.0.1", port=port, port_retries=0, auto_token=True, open_browser=False, log_level="ERROR")
    server |= dict(root_dir=str(STATIC), tornado_settings=dict(websocket_max_message_size=LONGEST))
    app = Voila(config=Config(Voila=server, VoilaConfiguration=shown))
    app.initialize([str(NOTEBOOK)])
    app.start()


def announce(url: str, port: int, browser: bool) -> None:
    """Once the server answers: its address, and the browser."""
    while not answers(port):
        time.sleep(0.1)
    print(f"The explorer is at {url}\nCtrl-C ends it.", flush=True)
    if browser:
        webbrowser.open(url)


def answers(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def free_port(port: int) -> int:
    """This one, or the next that nobody uses."""
    for candidate in range(port, port + 50):
        if not answers(candidate):
            return candidate
    raise UserError(f"the ports {port} to {port + 49} are in use; give another one with --port")


def page() -> None:
    """Displays the explorer. Runs in the page's kernel."""
    from IPython.display import HTML, display

    from upsnet_lite.viz.explorer import FusionExplorer

    told = json.loads(os.environ["UPSNET_EXPLORE"])
    os.chdir(told.pop("folder"))  # the user's: the code that is copied names files as the user did
    look = "font:600 20px var(--jp-ui-font-family,system-ui,sans-serif);color:var(--jp-ui-font-color1,inherit)"
    display(HTML(f'<h1 style="{look}">The panoptic head, by hand</h1>'))
    explorer = FusionExplorer(**told, upload=True)
    explorer.upload.most = MOST
    display(explorer)
