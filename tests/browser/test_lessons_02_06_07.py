"""The widgets of lessons 02, 06 and 07 under mouse and keyboard: the page shows what the pure functions give."""

import pytest

from upsnet_lite import load
from upsnet_lite.datasets.coco_panoptic import CocoPanoptic
from upsnet_lite.preprocess import batch_images
from upsnet_lite.viz.play_backbone import play_levels
from upsnet_lite.viz.play_training import find_runs, words

from .form import opened, pixels, write_notebook
from .lab import ROOT, eventually

expect = pytest.importorskip("playwright.sync_api").expect
expect.set_options(timeout=30_000)  # a busy machine is no failure

# ------------------------------------------------------------------------------------------------------- lesson 02


@pytest.fixture(scope="module")
def levels(lab):
    return opened(lab, "02_backbone", "play_levels(model")


@pytest.fixture(scope="module")
def here():
    """The same widget in this process."""
    val, model = CocoPanoptic(ROOT / "data" / "shapes", "val"), load("tiny-shapes")
    image = next(i for i, t in val if 4 <= len(t["boxes"]) <= 7 and (t["masks"].sum((1, 2)) > 1200).any())
    return play_levels(model.backbone, batch_images([image], model.config).tensors, image)


def test_02_level_channel_and_pixel(levels, here):
    def says(**state) -> None:
        here.set(**here.start | state)
        expect(levels.text).to_have_text(here.live.text)
        expect(levels.picture).to_have_attribute("alt", here.live.alt)

    says()
    levels.choose("level", "P5")
    says(level="P5")
    levels.press("channel", "ArrowRight", 3)
    says(level="P5", channel=2)
    levels.drag("row, px", 1.0, steps=40)
    levels.press("column, px", "Home")
    says(level="P5", channel=2, row=127, column=0)
    assert pixels(levels.png()).shape == here.image.shape
    levels.reset()
    says()


# ------------------------------------------------------------------------------------------------------- lesson 06


@pytest.fixture(scope="module")
def weights(lab):
    return opened(lab, "06_losses", "play_weights(taught")


def test_06_a_weight_of_0_takes_a_loss_out_and_reset_brings_it_back(weights):
    begun, before = weights.text.inner_text(), weights.png()
    assert begun.startswith("Total ") and "mask 0 %" not in begun
    weights.press("mask", "Home")
    expect(weights.text).to_contain_text(" mask 0 %")
    assert weights.png() != before
    weights.reset()
    expect(weights.text).to_have_text(begun)
    assert (pixels(weights.png()) == pixels(before)).all()


def test_06_all_weights_at_0_teach_nothing(weights):
    handles = weights.area.locator(".noUi-handle")
    assert handles.count() == 8
    for n in range(8):
        handles.nth(n).focus()
        weights.page.keyboard.press("Home")
    expect(weights.text).to_contain_text("Total 0.00: ")
    said = weights.text.inner_text().splitlines()[1]
    assert said.startswith("All together move: ") and {part.split()[-1] for part in said[:-1].split(", ")} == {"0"}
    weights.reset()


# ------------------------------------------------------------------------------------- lesson 07, which takes minutes

RUNS = """from upsnet_lite.viz.play_training import play_runs
play_runs({!r})"""


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    for name, rate in (("good", 0.01), ("off", 0.0)):
        (root / name).mkdir()
        rows = [f"{n},{n / 2},{rate},{4 / n + (rate == 0)},{1 / n}" for n in range(1, 41)]
        (root / name / "metrics.csv").write_text("\n".join(["iteration,seconds,lr,total,loss_mask", *rows]) + "\n")
    return root


def test_07_runs_and_columns(lab, jupyter, logs):
    write_notebook(jupyter, "runs", RUNS.format(str(logs)))
    form, found = opened(lab, "runs", "play_runs("), find_runs(logs)
    expect(form.text).to_have_text(words(found, ["total", "loss_mask"]))
    before = form.png()
    form.control("runs").locator("select").select_option(label="off")
    expect(form.text).to_have_text(words({"off": found["off"]}, ["total", "loss_mask"]))
    form.control("columns").locator("select").select_option(label=["lr"])
    expect(form.text).to_have_text(words({"off": found["off"]}, ["lr"]))
    assert form.png() != before
    drawn = form.png()
    form.choose("columns", "total")
    expect(form.text).to_have_text(words({"off": found["off"]}, ["total"]))
    form.drag("smooth, rows", 1.0)
    assert eventually(lab, lambda: form.png() != drawn)
    form.reset()
    expect(form.text).to_have_text(words(found, ["total", "loss_mask"]))
