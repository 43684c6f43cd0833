"""The page that `upsnet-lite explore` serves, touched by mouse and by keyboard.

The oracle of every move: the three lines that the page offers are executed here, and the canvas must show that map.
"""

import json
import re
import socket
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from upsnet_lite.viz.colors import borders, grey_rgb, hatch, image_rgb
from upsnet_lite.viz.fusion import FusionState, column, fuse, largest, looks, scene
from upsnet_lite.viz.inspector import words

from .lab import SHAPES, cells, eventually, spot

SIZE = 128, 128


@pytest.fixture(scope="module")
def page(watched, explore):
    page = watched.open(explore)
    page.wait_for_selector(".upsnet-canvas canvas")
    page.wait_for_selector(".upsnet-bars")
    return page


@pytest.fixture(autouse=True)
def from_the_start(page) -> Iterator[None]:
    """Every test begins with the network's own fusion, nothing focused, nothing pointed at."""
    page.get_by_role("button", name="reset").click()
    page.mouse.move(5, 5)
    page.evaluate("document.activeElement.blur()")
    assert eventually(page, lambda: code(page).endswith("FusionState())"))
    yield


@pytest.fixture
def canvas(page):
    return page.locator(".upsnet-canvas canvas")


@pytest.fixture(scope="module")
def look(page):
    """What the page looks at, by the code that it offers."""
    own: dict = {}
    exec(code(page), own)
    return own["look"]


def code(page) -> str:
    return page.locator(".upsnet-copy pre").text_content()


def at(canvas, row: float, col: float) -> tuple[float, float]:
    return spot(canvas, *SIZE, row, col)


def expected(fused, look) -> np.ndarray:
    """The map as the canvas should show it: by the formula of colors.overlay, instances in their own colours."""
    categories, own = look.model.categories, looks(look, fused)
    top = hatch(*SIZE)
    instance = {segment: own[i][1] for i, segment in fused.segment_of.items()}
    for s in fused.segments_info:
        color = instance[s["id"]] if s["isthing"] else categories[categories.index(s["category_id"])].color
        top[(fused.panoptic == s["id"]).numpy()] = color
    mixed = 0.65 * top + 0.35 * grey_rgb(look.image)
    edge = borders(fused.panoptic)
    mixed[edge] = 0.15 * mixed[edge] + 0.85 * 255
    return mixed


def differs(canvas, wanted: np.ndarray, boxes: list) -> int:
    """Pixels that look otherwise; what lies under the frames of the box and of the chosen pixel does not count."""
    shown = cells(canvas, *SIZE).astype(float)
    plain = np.ones(SIZE, dtype=bool)
    for x0, y0, x1, y1 in boxes:
        rows, columns = np.mgrid[:128, :128] + 0.5
        outside = (columns < x0 - 1.5) | (columns > x1 + 1.5) | (rows < y0 - 1.5) | (rows > y1 + 1.5)
        within = (columns > x0 + 1.5) & (columns < x1 - 1.5) & (rows > y0 + 1.5) & (rows < y1 - 1.5)
        plain &= outside | within
    return int((np.abs(shown - wanted).max(2) > 1)[plain].sum())


def frames(page) -> list:
    """Box and chosen pixel, as the page tells them."""
    ends = [t.split(" – ") for t in page.locator(".widget-hslider .widget-readout", has_text="–").all_text_contents()]
    (x0, x1), (y0, y1) = ([float(v) for v in pair] for pair in ends)
    row, col = map(int, re.search(r"row (\d+), column (\d+)", page.locator(".upsnet-readout").text_content()).groups())
    return [(x0, y0, x1, y1), (col - 1, row - 1, col + 2, row + 2)]


def shows_what_it_says(page, canvas, look):
    """Executes the page's code; the canvas must show its map. Returns it. The code may still be on its way, too."""
    own, ran = {"look": look}, ""

    def differ() -> int:
        nonlocal ran
        if (now := code(page)) != ran:
            ran, lines = now, now.splitlines()
            exec(lines[0], own)
            exec(lines[2], own)
        return differs(canvas, expected(own["fused"], look), frames(page))

    assert eventually(page, lambda: differ() == 0), differ()
    return own["fused"]


def slider(page, name: str):
    return page.locator(".widget-hslider", has=page.get_by_text(name, exact=True))


# --------------------------------------------------------------------------------------------------- seen untouched


def test_it_shows_the_networks_map_the_bars_and_pq(page, canvas, look):
    fused = shows_what_it_says(page, canvas, look)
    assert fused.state == FusionState() and len(fused.kept) >= 3
    i = largest(fused)
    assert page.locator(f".upsnet-instances [data-id='{i}'] .look").is_checked()
    row, col = map(int, re.search(r"row (\d+), column (\d+)", page.locator(".upsnet-readout").text_content()).groups())
    assert page.get_by_text(words(column(look, fused, row, col))).is_visible()
    table = page.locator(".upsnet-measures tbody tr").all_text_contents()
    assert f"{fused.quality.pq:.1f}" in table[0] and table[0].replace("as trained", "") == table[1].replace("now", "")
    assert page.locator(".upsnet-maps img").count() == 4


# ----------------------------------------------------------------------------------------------------- the canvas


def test_hovering_lights_up_and_names_a_segment(page, canvas, look):
    fused = fuse(look, FusionState())
    i = largest(fused)
    name, share = looks(look, fused)[i][0], float((fused.panoptic == fused.segment_of[i]).float().mean())
    own = (fused.panoptic == fused.segment_of[i]).numpy()
    before = cells(canvas, *SIZE).astype(int)
    row, col = np.argwhere(own)[own.sum() // 2]
    page.mouse.move(*at(canvas, row, col))
    readout = page.locator(".upsnet-readout")
    assert eventually(page, lambda: readout.text_content().startswith(f"{name} · thing · score"))
    assert f"{round(100 * share)} % of the picture · row {row}, column {col}" in readout.text_content()
    assert page.locator(".upsnet-tip").text_content() == name
    assert eventually(page, lambda: (cells(canvas, *SIZE) != before)[own].any(-1).mean() > 0.9), "it lights up"
    assert (cells(canvas, *SIZE) == before)[~own].all(), "nothing else does"
    page.mouse.move(5, 5)
    assert eventually(page, lambda: (cells(canvas, *SIZE) == before).all())


def test_a_click_shows_the_pixels_column(page, canvas, look):
    fused = fuse(look, FusionState())
    i = min(fused.segment_of)
    row, col = np.argwhere((fused.panoptic == fused.segment_of[i]).numpy())[20]
    page.mouse.click(*at(canvas, row, col))
    found = column(look, fused, int(row), int(col))
    page.get_by_text(words(found)).wait_for()
    assert page.locator(f".upsnet-instances [data-id='{i}'] .look").is_checked()
    numbers = page.locator(".upsnet-bars .number").all_text_contents()
    assert numbers[::2] == [f"{v:.1f}" for v in found.logits]
    won = page.locator(".upsnet-bars .name.won").text_content()
    assert won == f"{found.names[found.winner]} ◂"
    x, y = found.parts[found.winner]
    low, high = min(0, *found.logits), max(found.logits)
    bars = page.locator(f".upsnet-bars [data-channel='{found.winner}'] i").evaluate_all(
        "bars => bars.map(bar => bar.getBoundingClientRect().width / bar.parentElement.getBoundingClientRect().width)"
    )
    assert bars == pytest.approx([abs(x) / (high - low), abs(y) / (high - low)], abs=0.01), "x_mask and y_mask"


def test_layers_switch_in_the_browser_alone(page, canvas, look):
    fused, rgb = fuse(look, FusionState()), image_rgb(look.image).astype(float)
    sent = []
    page.on("request", lambda request: sent.append(request.url))
    for layer in ("overlay", "borders", "unknown"):
        page.locator(f".upsnet-layers input[name={layer}]").click()
    assert eventually(page, lambda: differs(canvas, rgb, frames(page)) == 0), "the image in its own colours"
    page.locator(".upsnet-layers input[name=image]").click()
    assert eventually(page, lambda: differs(canvas, np.full_like(rgb, 245), frames(page)) == 0)
    page.locator(".upsnet-layers input[name=unknown]").focus()
    page.keyboard.press("Space")
    blank = np.full_like(rgb, 245)
    blank[(fused.panoptic == 0).numpy()] = hatch(*SIZE)[(fused.panoptic == 0).numpy()]
    assert eventually(page, lambda: differs(canvas, blank, frames(page)) == 0), "the unknown alone"
    for layer in ("overlay", "borders", "image"):
        page.locator(f".upsnet-layers input[name={layer}]").click()
    shows_what_it_says(page, canvas, look)
    assert not sent


def test_wheel_zooms_and_a_double_click_shows_all(page, canvas):
    data = "canvas => canvas.toDataURL()"
    before = canvas.evaluate(data)
    page.mouse.move(*at(canvas, 64, 64))
    page.mouse.wheel(0, -600)
    page.mouse.move(5, 5)
    assert eventually(page, lambda: canvas.evaluate(data) != before)
    page.mouse.dblclick(*at(canvas, 3, 3))
    page.mouse.move(5, 5)
    page.get_by_role("button", name="reset").click()
    canvas.evaluate("canvas => canvas.blur()")
    assert eventually(page, lambda: cells(canvas, *SIZE).std() > 0 and zoomed(page, canvas) == 1)


def zoomed(page, canvas) -> float:
    """How far the canvas is zoomed in, from two pixels that it names."""
    names = []
    for col in (10, 110):
        page.mouse.move(*at(canvas, 64, col))
        page.wait_for_timeout(80)
        names.append(int(re.search(r"column (\d+)", page.locator(".upsnet-readout").text_content())[1]))
    return 100 / (names[1] - names[0])


def test_the_canvas_by_keyboard(page, canvas, look):
    fused = fuse(look, FusionState())
    canvas.focus()
    start = re.search(r"row (\d+), column (\d+)", page.locator(".upsnet-readout").text_content())
    row, col = map(int, start.groups())
    for key in ("ArrowUp", "ArrowLeft", "Shift+ArrowUp", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    row, col = row - 11, col + 1
    spoken = page.locator(".upsnet-spoken")
    assert eventually(page, lambda: f"row {row}, column {col}" in spoken.text_content())
    page.keyboard.press("Enter")
    page.get_by_text(words(column(look, fused, row, col))).wait_for()
    page.keyboard.press("+")
    page.keyboard.press("+")
    assert eventually(page, lambda: zoomed(page, canvas) == pytest.approx(2.25, rel=0.05))
    page.keyboard.press("0")
    assert eventually(page, lambda: zoomed(page, canvas) == 1)
    label = canvas.get_attribute("aria-label")
    assert label.startswith("Panoptic map, 128 by 128 pixels: ") and "Arrow keys" in label
    assert canvas.get_attribute("tabindex") == "0"


# ------------------------------------------------------------------------------------------------------ the fusion


@pytest.mark.parametrize("by", ["mouse", "keyboard"])
def test_a_removed_instance_leaves_a_hole_and_comes_back_exactly(page, canvas, look, by):
    before = fuse(look, FusionState())
    i = largest(before)
    own = (before.panoptic == before.segment_of[i]).numpy()
    seen = canvas.evaluate("canvas => canvas.toDataURL()")
    tick = page.locator(f".upsnet-instances [data-id='{i}'] .in")

    def toggle():
        if by == "mouse":
            tick.click()
        else:
            tick.focus()
            page.keyboard.press("Space")

    toggle()
    assert eventually(page, lambda: f"off=({i},)" in code(page))
    fused = shows_what_it_says(page, canvas, look)
    assert (fused.panoptic.numpy()[own] == 0).mean() > 0.5
    grey = cells(canvas, *SIZE)[own].astype(int)
    assert (np.ptp(grey, axis=1) <= 1).mean() > 0.5, "the majority of its pixels is seen hatched"
    assert page.locator(f".upsnet-instances [data-id='{i}'] .note").text_content() == "off"
    now = page.locator(".upsnet-measures tbody tr").nth(1).text_content()
    assert f"{fused.quality.pq:.1f}" in now
    toggle()
    assert eventually(page, lambda: canvas.evaluate("canvas => canvas.toDataURL()") == seen), "exactly the same map"


SLIDERS = [("score ≥", "score", "ArrowLeft"), ("NMS IoU", "nms", "ArrowRight"), ("overlap ≤", "overlap", "ArrowRight")]


@pytest.mark.parametrize("name, field, key", [*SLIDERS, ("Y ×", "y_scale", "ArrowLeft")])
def test_a_slider_by_keyboard_and_by_mouse(page, canvas, look, name, field, key):
    one = slider(page, name)
    handle, readout = one.locator(".noUi-handle"), one.locator(".widget-readout")
    handle.focus()
    page.keyboard.press(key)
    assert eventually(page, lambda: f"{field}={float(readout.text_content())}" in code(page))
    shows_what_it_says(page, canvas, look)
    track = one.locator(".noUi-target").bounding_box()
    start = handle.bounding_box()
    middle = start["y"] + start["height"] / 2
    page.mouse.move(start["x"] + start["width"] / 2, middle)
    page.mouse.down()
    for k in range(1, 26):
        page.mouse.move(start["x"] + (track["x"] + 0.95 * track["width"] - start["x"]) * k / 25, middle)
    page.mouse.up()
    assert eventually(page, lambda: f"{field}={float(readout.text_content())}" in code(page), 5), "nothing queues up"
    assert float(readout.text_content()) > 0.8
    shows_what_it_says(page, canvas, look)


def test_unknown_off_and_minus_infinity(page, canvas, look):
    page.get_by_text("unknown channel").click()
    assert eventually(page, lambda: "unknown=False" in code(page))
    fused = shows_what_it_says(page, canvas, look)
    assert fused.winner.max() < look.model.config.num_stuff + len(fused.kept)
    page.locator(".widget-toggle-buttons").get_by_text("−∞").focus()
    page.keyboard.press("Enter")
    assert eventually(page, lambda: 'outside=float("-inf")' in code(page))
    shows_what_it_says(page, canvas, look)


def test_an_edge_of_the_box_by_mouse_and_by_keyboard(page, canvas, look):
    i = page.locator(".upsnet-instances div", has=page.locator(".look:checked")).get_attribute("data-id")
    (x0, y0, x1, y1), _ = frames(page)
    middle = (y0 + y1) / 2 - 0.5
    left, right = at(canvas, middle, (x0 + x1) / 2 - 0.5), at(canvas, middle, x1 - 0.5)
    page.mouse.move(*right)
    assert eventually(page, lambda: canvas.evaluate("canvas => canvas.style.cursor") == "ew-resize")
    page.mouse.down()
    page.mouse.move(*left, steps=20)
    page.mouse.up()
    page.mouse.move(5, 5)
    half = x1 - (x1 - x0) / 2
    assert eventually(page, lambda: frames(page)[0][2] == pytest.approx(half, abs=1)), "the slider follows"
    moved = lambda: f"boxes=(({i}, ({x0}, {y0}, {frames(page)[0][2]}, {y1})),)"  # noqa: E731
    assert eventually(page, lambda: moved() in code(page)), (moved(), code(page))
    fused = shows_what_it_says(page, canvas, look)
    assert len(fused.state.boxes) == 1
    handle = slider(page, "box, y").locator(".noUi-handle").first
    handle.focus()
    page.keyboard.press("ArrowRight")
    assert eventually(page, lambda: frames(page)[0][1] > y0)
    assert eventually(page, lambda: f", {frames(page)[0][1]}, " in code(page))
    shows_what_it_says(page, canvas, look)


def test_copy_as_code(page):
    page.get_by_role("button", name="copy as code").click()
    page.get_by_role("button", name="copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == code(page)
    assert page.locator(".upsnet-copy pre").is_visible()


# ------------------------------------------------------------------------------------------------------- own images


def test_a_broken_upload_and_a_huge_one_leave_the_page_alone(page, canvas, look, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    Image.new("1", (12000, 9000)).save(tmp_path / "huge.png")
    for name, said in (("broken.png", "cannot be read as an image"), ("huge.png", "12000 x 9000 px")):
        page.locator(".upsnet-upload input").set_input_files(tmp_path / name)
        page.get_by_text(re.compile(f"^{name} .*{said}")).wait_for()
    shows_what_it_says(page, canvas, look)


def test_an_own_image_has_no_pq(page, tmp_path):
    Image.fromarray(image_rgb(scene("tiny-shapes", SHAPES, 3).image)).resize((192, 96)).save(tmp_path / "mine.png")
    page.locator(".upsnet-upload input").set_input_files(tmp_path / "mine.png")
    assert eventually(page, lambda: "scene('tiny-shapes', 'mine.png')" in code(page))
    assert "PQ" not in page.locator(".upsnet-measures").text_content()
    choice = page.locator("select").first
    assert choice.locator("option").last.text_content() == "mine.png"
    choice.select_option(index=0)
    assert eventually(page, lambda: "'mine.png'" not in code(page))
    assert "PQ" in page.locator(".upsnet-measures").text_content()


# ------------------------------------------------------------------------------------------------------- the kernel


def handshake(address: str, kernel: str, query: str) -> int:
    """The status with which the server answers who wants to talk to the page's kernel."""
    host, port = re.search(r"//([\d.]+):(\d+)", address).groups()
    lines = [f"GET /api/kernels/{kernel}/channels{query} HTTP/1.1", f"Host: {host}:{port}", "Upgrade: websocket"]
    lines += ["Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg=="]
    with socket.create_connection((host, int(port)), timeout=20) as line:
        line.sendall("\r\n".join([*lines, "", ""]).encode())
        return int(line.recv(64).split()[1])


def test_the_kernel_listens_to_nobody_without_the_token(page, explore):
    kernel = json.loads(page.locator("#jupyter-config-data").text_content())["kernelId"]
    assert handshake(explore, kernel, "") == 403
    assert handshake(explore, kernel, "?token=guess") == 403
    assert handshake(explore, kernel, "?" + explore.split("?")[1]) == 101
