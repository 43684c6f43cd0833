"""A real JupyterLab and a real Chromium, on this machine only.

    lab      a page of JupyterLab, for the tests of one module: see `lab.py` for what to do with it
    explore  the address of the explorer's own page
    watched  opens pages of which every request and every error is recorded; any that is not allowed fails the test

Without a browser these tests are skipped, and the summary says so; UPSNET_REQUIRE_BROWSER=1 makes that a failure.
"""

import os
import shutil
from collections.abc import Iterator

import pytest

from .lab import Server, Watch, explorer, jupyterlab

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
FLAGS = """
    --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run
    --disable-background-networking --disable-component-update --disable-sync
""".split()  # noqa: SIM905
MISSING = "no Chromium was found (apt-get install chromium), so no browser test ran"
skipped: list[str] = []


@pytest.fixture(scope="package")
def chromium():
    """The browser. Of the package, not of the session: Playwright holds an event loop that other tests would meet."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        if os.environ.get("UPSNET_REQUIRE_BROWSER") == "1":
            pytest.fail(MISSING)
        skipped.append(MISSING)
        pytest.skip(MISSING)
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


def pytest_terminal_summary(terminalreporter) -> None:
    if skipped:
        terminalreporter.write_line(f"browser tests SKIPPED: {skipped[0]}", yellow=True, bold=True)


@pytest.fixture(scope="package")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all: a copy of the lessons beside the project's own data, settings of its own."""
    with jupyterlab(tmp_path_factory.mktemp("lab")) as server:
        yield server


@pytest.fixture(scope="package")
def explore(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running `upsnet-lite explore`."""
    with explorer(tmp_path_factory.mktemp("explore")) as address:
        yield address


@pytest.fixture(scope="module")
def watched(chromium) -> Iterator[Watch]:
    context = chromium.new_context(viewport={"width": 1280, "height": 1000}, accept_downloads=False)
    context.set_default_timeout(120_000)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    watch = Watch(context)
    yield watch
    context.close()


@pytest.fixture(scope="module")
def lab(watched: Watch, jupyter: Server):
    """A page of JupyterLab. What it opened is shut down with it."""
    page = watched.open(f"{jupyter.url}/lab?reset&token={jupyter.token}")
    page.wait_for_selector("#jp-main-dock-panel")
    yield page
    jupyter.shut_kernels()


@pytest.fixture(autouse=True)
def nothing_leaves_and_nothing_fails(request) -> Iterator[None]:
    yield
    if "watched" in request.fixturenames:
        request.getfixturevalue("watched").check()
