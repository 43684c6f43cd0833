"""What the widgets tell the browser, and make of what it tells them; the browser itself is in tests/browser."""

import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("anywidget")

from upsnet_lite.categories import Categories, Category
from upsnet_lite.datasets.shapes import write_shapes
from upsnet_lite.files import UserError
from upsnet_lite.viz import explorer as module
from upsnet_lite.viz.colors import panoptic_rgb
from upsnet_lite.viz.explorer import FusionExplorer
from upsnet_lite.viz.figures import maps_html, measures_html
from upsnet_lite.viz.fusion import Column, FusionState, column, fuse
from upsnet_lite.viz.inspector import bars, words
from upsnet_lite.viz.widgets import STATIC, PanopticCanvas, inspect_pixels

TOY = Categories((Category(1, "sky", (90, 160, 220), False), Category(2, "ball", (200, 60, 60), True)))
MAP = torch.tensor([[7, 7, 3], [0, 9, 9]])
SEGMENTS = [
    dict(id=7, category_id=2, isthing=True, score=0.9),
    dict(id=3, category_id=1, isthing=False),
    dict(id=9, category_id=2, isthing=True, score=0.8),
]
IMAGE = torch.rand(3, 2, 3)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    write_shapes(folder, train=1, val=3, size=128, seed=0)
    return folder


@pytest.fixture
def explorer(root):
    return FusionExplorer("tiny-shapes", root)


@pytest.fixture
def fusions(monkeypatch):
    """Every state that was fused."""
    states = []
    monkeypatch.setattr(module, "fuse", lambda scene, state: states.append(state) or fuse(scene, state))
    return states


# ------------------------------------------------------------------------------------------------------------- canvas


def test_the_canvas_gets_places_names_and_shares():
    canvas = PanopticCanvas(IMAGE, MAP, SEGMENTS, TOY)
    assert canvas.size == [2, 3] and len(canvas.image) == 18
    assert np.frombuffer(canvas.labels, "<u2").tolist() == [1, 1, 2, 0, 3, 3]
    assert [s["name"] for s in canvas.segments] == ["unknown", "ball 1", "sky", "ball 2"]
    assert [s["kind"] for s in canvas.segments] == ["", "thing", "stuff", "thing"]
    assert [s["score"] for s in canvas.segments] == [None, 0.9, None, 0.8]
    assert [s["share"] for s in canvas.segments] == pytest.approx([1 / 6, 1 / 3, 1 / 6, 1 / 3])
    rgb = panoptic_rgb(MAP, SEGMENTS, TOY)
    assert [s["color"] for s in canvas.segments[1:]] == [rgb[0, 0].tolist(), rgb[0, 2].tolist(), rgb[1, 1].tolist()]
    assert "2 × ball" in canvas.alt and "sky" in canvas.alt and "Arrow keys" in canvas.alt


def test_more_than_256_segments_keep_their_places():
    ids = torch.arange(1, 401).view(20, 20)
    canvas = PanopticCanvas(torch.zeros(3, 20, 20), ids, [dict(id=i, category_id=2) for i in range(1, 401)], TOY)
    assert np.frombuffer(canvas.labels, "<u2").tolist() == list(range(1, 401))


def test_a_picture_stands_where_no_kernel_runs(explorer):
    look = explorer.scene
    for widget in (PanopticCanvas(IMAGE, MAP, SEGMENTS, TOY), inspect_pixels(look, (3, 4)), explorer):
        bundle = widget._repr_mimebundle_()
        assert "application/vnd.jupyter.widget-view+json" in bundle and bundle["text/plain"]
        assert re.findall(r'<img alt="[^"]{10,}"', bundle["text/html"])


def test_static_files_fetch_nothing():
    for path in STATIC.rglob("*"):
        if path.is_file():
            found = re.findall(r"https?://(?!127\.0\.0\.1)[^\s'\"]*|@import|\bimport\s*\(", path.read_text("utf-8"))
            assert found in ([], ["https://"]), path  # the page's template names what it leaves out


# ----------------------------------------------------------------------------------------------------------- inspector


def by_hand(**changes) -> Column:
    made = dict(row=1, column=2, names=["sky", "ball 1", "ball <2>", "unknown"], colors=[(9, 9, 9)] * 4)
    made |= dict(logits=[2.0, 6.0, -4.0, 0.0], softmax=[0.02, 0.97, 0.0, 0.01], parts={1: (4.0, 2.0), 2: (-1.0, -3.0)})
    return Column(**(made | dict(unknown=3, winner=1) | changes))


def test_bars_lie_where_the_numbers_say():
    """From -4 to 6: a tenth of the width is one logit."""
    html = bars(by_hand())
    tracks = re.findall(r'data-channel="(\d)">(.*?)</span></span>', html)
    place = {int(k): re.findall(r"left:([\d.]+)%;width:([\d.]+)%", track) for k, track in tracks}
    assert place == {0: [("40.00", "20.00")], 1: [("40.00", "40.00"), ("80.00", "20.00")],
                     2: [("30.00", "10.00"), ("0.00", "30.00")], 3: [("40.00", "0.00")]}  # fmt: skip
    assert html.count("◂") == 1 and "ball 1 ◂" in html and "ball &lt;2&gt;" in html
    assert words(by_hand()) == "Z at row 1, column 2: ball 1 wins with 6.0, softmax 97 % (x_mask 4.0 + y_mask 2.0)."


def test_minus_infinity_and_many_channels():
    html = bars(by_hand(logits=[2.0, 6.0, float("-inf"), 0.0], parts={1: (4.0, 2.0), 2: (0.0, 0.0)}))
    assert "−∞" in html and "nan" not in html and "inf%" not in html
    logits = [float(k) for k in range(30)] + [-9.0]
    many = by_hand(names=["a"] * 30 + ["unknown"], colors=[(1, 1, 1)] * 31, logits=logits,
                   softmax=[1 / 31] * 31, parts={}, unknown=30, winner=29)  # fmt: skip
    shown = re.findall(r'data-channel="(\d+)"', bars(many))
    assert len(shown) == 14 and shown[-1] == "30" and "17 low ones left out" in bars(many)


# ------------------------------------------------------------------------------------------------------------ explorer


def test_it_begins_with_something_to_see(explorer):
    assert len(explorer.fused.kept) >= 3 and explorer.instances.chosen in explorer.fused.kept
    assert explorer.state == FusionState.of(explorer.model) and explorer.canvas.box
    assert explorer.canvas.segment == explorer.fused.segment_of[explorer.instances.chosen]
    assert "wins with" in explorer.inspector.value and explorer.maps.value.count("<img") == 4


MOVES = [
    ("score", 0.3),
    ("nms", 0.9),
    ("overlap", 0.9),
    ("y_scale", 2.0),
    ("unknown", False),
    ("outside", float("-inf")),
]


@pytest.mark.parametrize("name, value", MOVES)
def test_a_knob_is_one_fusion_and_reset_undoes_it(explorer, fusions, name, value):
    start = explorer.canvas.labels
    getattr(explorer, name).value = value
    assert [getattr(s, name) for s in fusions] == [value] and getattr(explorer.state, name) == value
    assert f"{name}=" in explorer.copy.code
    explorer.reset.click()
    assert explorer.state == FusionState() and explorer.canvas.labels == start and len(fusions) == 2


def test_a_sign_says_that_it_works(explorer):
    signs = []
    explorer.canvas.observe(lambda change: signs.append((change["new"], len(explorer.copy.code))), "busy")
    explorer.score.value = 0.3
    assert [sign for sign, _ in signs] == [True, False] and signs[0][1] < signs[1][1] == len(explorer.copy.code)


def test_a_hole_and_back(explorer, fusions):
    start, i = explorer.canvas.labels, explorer.instances.chosen
    own = np.frombuffer(start, "<u2") == explorer.canvas.segment
    explorer.instances.off = [i]
    without = np.frombuffer(explorer.canvas.labels, "<u2")
    assert (without[own] == 0).mean() > 0.5
    assert next(r for r in explorer.instances.rows if r["id"] == i)["note"] == "off"
    assert explorer.canvas.segment == 0 and "unknown" in explorer.inspector.value
    explorer.instances.off = []
    assert explorer.canvas.labels == start and len(fusions) == 2


def test_a_dragged_edge_moves_the_sliders_and_the_other_way_round(explorer, fusions):
    i, (x0, y0, x1, y1) = explorer.instances.chosen, explorer.canvas.box
    explorer.canvas.box = [x0, y0, x1 - 3.24, y1]
    assert explorer.across.value == (x0, round(x1 - 3.24, 1)) and len(fusions) == 1
    assert explorer.state.boxes == ((i, (x0, y0, round(x1 - 3.24, 1), y1)),)
    explorer.down.value = (y0, y1 - 2)
    assert explorer.canvas.box[3] == pytest.approx(y1 - 2) and len(fusions) == 2
    explorer.reset.click()
    assert explorer.canvas.box == [x0, y0, x1, y1] and explorer.state.boxes == ()


def test_a_click_chooses_pixel_and_instance(explorer, fusions):
    i = next(i for i in explorer.fused.segment_of if i != explorer.instances.chosen)
    row, col = torch.nonzero(explorer.fused.panoptic == explorer.fused.segment_of[i])[0].tolist()
    explorer.canvas.set_state(dict(pixel=[row, col], segment=explorer.fused.segment_of[i]))
    assert explorer.instances.chosen == i and not fusions, "looking computes nothing anew"
    assert words(column(explorer.scene, explorer.fused, row, col)).split(":")[1].strip() in explorer.inspector.value
    box = explorer.fused.detections.boxes[i].tolist()
    assert explorer.canvas.box == pytest.approx(box, abs=0.06)


def test_another_image_begins_anew(explorer):
    explorer.score.value, explorer.instances.off = 0.3, [explorer.instances.chosen]
    explorer.image.value = 1 - explorer.image.value
    assert explorer.state == FusionState() and explorer.scene.name == explorer.sources[explorer.image.value][0]


def test_before_and_after_in_figures(explorer):
    assert explorer.measures.value == measures_html(explorer.before, explorer.before)
    cells = re.findall(r"<td>([\d.]+)</td>", explorer.measures.value)
    quality = explorer.before.quality
    assert float(cells[2]) == pytest.approx(quality.pq, abs=0.05) and cells[:8] == cells[8:]
    explorer.instances.off = [explorer.instances.chosen]
    cells = re.findall(r"<td>([\d.]+)</td>", explorer.measures.value)
    assert float(cells[10]) < float(cells[2]) and int(cells[15]) == int(cells[7]) + 1, "PQ falls, one more is missed"


def test_maps_name_their_range():
    html = maps_html(np.full((4, 2, 4), -np.inf, dtype=np.float32), 3.0, "a <b>", "not in Z", (1, 0, 3, 2))
    assert html.count("minus infinity") == 4 and "a &lt;b&gt;" in html
    assert "left:25.00%;top:0.00%;width:50.00%;height:100.00%" in html


# ------------------------------------------------------------------------------------------------ the user's own image


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def send(explorer, name: str, content: bytes) -> str:
    explorer.upload.said = ""
    explorer.upload.set_state(dict(name=name, content=memoryview(content)))  # as the browser's message
    return explorer.upload.said


def test_an_upload_is_looked_at_without_pq(explorer):
    assert send(explorer, "mine.png", png(Image.effect_noise((90, 70), 80))) == "90 x 70 px"
    assert explorer.scene.name == "mine.png" and explorer.canvas.size == [70, 90]
    assert "PQ" not in re.sub("<style>.*?</style>", "", explorer.measures.value, flags=re.DOTALL)
    assert "scene('tiny-shapes', 'mine.png')" in explorer.copy.code


def test_the_same_file_can_be_sent_again(explorer):
    for _ in range(2):
        assert send(explorer, "mine.jpg", b"nothing").startswith("mine.jpg cannot be read as an image")


def test_what_is_no_image_or_huge_is_said_and_the_page_stays(explorer):
    start = explorer.canvas.labels
    assert "mine.jpg cannot be read as an image" in send(explorer, "mine.jpg", b"nothing")
    assert "12000 x 9000 px" in send(explorer, "huge.png", png(Image.new("1", (12000, 9000))))
    assert explorer.canvas.labels == start and len(explorer.image.options) == 3


def test_images_of_the_user_come_first(tmp_path, root):
    path = tmp_path / "own.png"
    path.write_bytes(png(Image.effect_noise((64, 64), 80)))
    both = FusionExplorer("tiny-shapes", root, images=[path], first=None)
    assert [name for name, _ in both.image.options][0] == "own.png" and len(both.image.options) == 4
    with pytest.raises(UserError, match="no image to explore"):
        FusionExplorer("tiny-shapes")
