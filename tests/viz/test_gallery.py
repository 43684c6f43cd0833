"""The page of pictures: complete, offline, with alt texts, and one clear line on bad input."""

import html.parser
import json

import pytest
import torch

from upsnet_lite import UPSNet
from upsnet_lite.datasets.coco_panoptic import CocoPanoptic
from upsnet_lite.files import UserError
from upsnet_lite.viz import gallery


class Page(html.parser.HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.images, self.links, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if tag == "img":
            self.images.append(found)
        self.links += [found[k] for k in ("src", "href") if k in found]

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def model(shapes_root, monkeypatch):
    categories = CocoPanoptic(shapes_root, "val").categories
    torch.manual_seed(0)
    model = UPSNet.from_preset("tiny", categories.num_stuff, categories.num_thing).eval()
    model.categories = categories
    monkeypatch.setattr("upsnet_lite.weights.load", lambda name: model)
    return model


def run(shapes_root, out, *more):
    gallery.main(["--checkpoint", "x", "--data", str(shapes_root), "--split", "val", "--out", str(out), *more])


def test_page_is_complete_and_stands_alone(model, shapes_root, tmp_path, capsys):
    metrics = tmp_path / "metrics.json"
    metrics.write_text(json.dumps({"PQ": 81.25, "SQ": 85.0, "AP_mask": None}))
    run(shapes_root, tmp_path / "out", "--images", "2", "--metrics", f"<first>={metrics}")
    assert capsys.readouterr().out.strip().endswith("index.html")
    page = Page((tmp_path / "out" / "index.html").read_text(encoding="utf-8"))
    assert len(page.images) >= 2 * 8
    assert all(image["alt"].strip() for image in page.images)
    for link in page.links:  # nothing but files beside it and places in it
        assert link.startswith("#s") or (tmp_path / "out" / link).is_file()
    assert {image["src"] for image in page.images} == {p.name for p in (tmp_path / "out").glob("*.png")}
    for expected in ("<first>", "81.2", "–", "ground truth", "argmax of X", "argmax of Z", "z_unknown", "unknown wins"):
        assert expected in page.text


def test_an_image_agrees_with_itself(model, shapes_root):
    """Ground truth given as the result: no pixel has another class."""
    dataset = CocoPanoptic(shapes_root, "val")
    image, target = dataset[0]
    with torch.no_grad():
        trace = model.trace(image)
    trace.panoptic, trace.segments_info = target["panoptic"], target["segments_info"]
    row = gallery.result_row(trace, target, dataset.categories)
    assert row.tiles[-1].note == "0.0\u00a0%"


def test_bad_input_is_one_line(model, shapes_root, tmp_path):
    with pytest.raises(SystemExit, match=r"^error: --metrics 'x' is not of the form"):
        run(shapes_root, tmp_path / "out", "--metrics", "x")
    with pytest.raises(SystemExit, match=r"^error: .*missing"):
        run(shapes_root, tmp_path / "out", "--metrics", f"a={tmp_path}/none.json")
    with pytest.raises(SystemExit, match="at least one image"):
        run(shapes_root, tmp_path / "out", "--images", "0")
    model.categories = type(model.categories).numbered(2, 3)
    with pytest.raises(UserError, match="trained on other classes"):
        gallery.write_gallery("x", shapes_root, "val", tmp_path / "out", 1, {})
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_a_file_is_one_line(model, tmp_path, shapes_root):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(SystemExit, match=r"^error: .*out: File exists$"):
        run(shapes_root, tmp_path / "out", "--images", "1")
    assert (tmp_path / "out").read_text() == "mine"
