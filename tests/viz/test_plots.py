"""Every figure draws without a warning, says what it shows, and shows it on the promised scale."""

import csv
import io
import re
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from upsnet_lite.categories import Categories
from upsnet_lite.files import UserError
from upsnet_lite.viz import charts, colors, picture, plots

H, W = 48, 64
CATEGORIES = Categories.from_json(
    [
        {"id": 7, "name": "grass", "color": [140, 165, 90], "isthing": 0},
        {"id": 8, "name": "sky-other-merged", "color": [190, 220, 240], "isthing": 0},
        {"id": 3, "name": "cat", "color": [213, 94, 0], "isthing": 1},
        {"id": 5, "name": "dog", "color": [0, 114, 178], "isthing": 1},
    ]
)


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture
def scene() -> SimpleNamespace:
    """Grass below, sky above, a strip of void, two cats and a dog; logits that fit to it."""
    generator = torch.Generator().manual_seed(0)
    panoptic = torch.full((H, W), 10)
    panoptic[:20], panoptic[20:23] = 11, 0
    panoptic[24:44, 4:30], panoptic[26:40, 34:50], panoptic[5:6, 52:60] = 1, 2, 3
    classes = torch.tensor([0, 0, 1])
    x_mask, y_mask = torch.zeros(3, H, W), torch.zeros(3, H, W)
    for i in range(3):
        x_mask[i][panoptic == i + 1], y_mask[i][panoptic == i + 1] = 4.0, 2.5 - 4 * (i == 1)
    z = torch.cat([torch.randn(2, H, W, generator=generator) - 2, x_mask + y_mask, torch.zeros(1, H, W)])
    segments = [{"id": i, "category_id": c} for i, c in ((10, 7), (11, 8), (1, 3), (2, 3), (3, 5))]
    boxes = torch.tensor([[4.0, 24, 30, 44], [34, 26, 50, 40], [52, 5, 60, 6]])
    image = torch.rand(3, H, W, generator=generator)
    return SimpleNamespace(**locals())


def texts(figure: Figure) -> list[str]:
    found = [t.get_text() for ax in figure.axes for t in [*ax.texts, ax.title, ax._right_title, ax._left_title]]
    return [t for t in found + [t.get_text() for t in [*figure.texts, *figure.artists]] if t]


def test_every_figure_draws_and_says_what_it_shows(scene, tmp_path):
    s = scene
    pair = (s.panoptic, s.segments)
    figures = {
        "64 by 48": plots.show_image(s.image),
        "cat 1, cat 2 and dog": plots.show_boxes(
            s.image, s.boxes, s.classes, CATEGORIES, torch.tensor([0.9, 0.8, 0.7])
        ),
        "2 × cat": plots.show_panoptic(s.image, *pair, CATEGORIES),
        "Prediction: no segment": plots.show_truth_and_prediction(s.image, pair, (s.panoptic * 0, []), CATEGORIES),
        "6 × 48 × 64": plots.show_logits(s.z, title="Z"),
        "2 × 48 × 64": plots.show_tensor(torch.sigmoid(s.z[:2]), ["a", "b"]),
        "Highest: cat 1 with 6.5": plots.pixel_bars(s.z, s.x_mask, s.y_mask, s.classes, CATEGORIES, (30, 10)),
        "PQ 50.0": plots.pq_bars({"one": {"PQ": 50.0, "SQ": None}, "two": {"PQ": float("nan")}}),
    }
    for n, (expected, figure) in enumerate(figures.items()):
        assert isinstance(figure, Figure)
        assert expected in figure.alt_text
        figure.save(tmp_path / f"{n}.png")
        assert (tmp_path / f"{n}.png").read_bytes().startswith(b"\x89PNG")


def test_figures_without_any_instance(scene):
    s = scene
    none = torch.zeros(0, dtype=torch.int64)
    plots.show_boxes(s.image, torch.zeros(0, 4), none, CATEGORIES)._repr_html_()
    z = torch.cat([s.z[:2], s.z[-1:]])
    bars = plots.pixel_bars(z, s.x_mask[:0], s.y_mask[:0], none, CATEGORIES, (30, 10))
    assert "x_mask" not in " ".join(texts(bars))
    assert "no segment" in plots.show_panoptic(s.image, s.panoptic * 0, [], CATEGORIES).alt_text


def test_names_stand_on_their_segments_and_the_tiny_one_has_none(scene):
    figure = plots.show_panoptic(scene.image, scene.panoptic, scene.segments, CATEGORIES)
    labels = {t.get_text(): t.get_position() for t in figure.axes[0].texts}
    assert set(labels) == {"grass", "sky", "cat"}
    assert all(scene.panoptic[round(y), round(x)] != 0 for x, y in labels.values())
    assert scene.panoptic[round(labels["sky"][1]), round(labels["sky"][0])] == 11


def test_names_do_not_overlap_as_drawn(scene):
    figure = plots.show_panoptic(scene.image, scene.panoptic, scene.segments, CATEGORIES)
    boxes = [t.get_window_extent() for t in figure.axes[0].texts]
    assert len(boxes) > 2
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def swatches(figure: Figure) -> dict[str, tuple]:
    """Name -> colour, from the legend: a figure's last axes."""
    axes = figure.axes[-1]
    return {t.get_text(): p.get_facecolor()[:3] for t, p in zip(axes.texts, axes.patches, strict=True)}


def test_the_legend_names_the_classes_of_both_maps_in_their_own_colours(scene):
    panoptic = np.where(scene.panoptic == 0, 10, scene.panoptic)
    alone = (np.full((H, W), 1), [{"id": 1, "category_id": 5}])
    figure = plots.show_truth_and_prediction(scene.image, (panoptic, scene.segments[:4]), alone, CATEGORIES)
    assert list(swatches(figure)) == ["grass", "sky", "cat", "dog", "unknown / void"]  # segment 3 is not listed
    assert swatches(figure)["cat"] == pytest.approx((213 / 255, 94 / 255, 0))
    assert figure.axes[-1].patches[-1].get_hatch()
    known = plots.show_truth_and_prediction(scene.image, (panoptic, scene.segments), alone, CATEGORIES)
    assert list(swatches(known)) == ["grass", "sky", "cat", "dog"]
    assert "unknown / void" in swatches(
        plots.show_truth_and_prediction(scene.image, (panoptic * 0, []), alone, CATEGORIES)
    )


def test_a_long_legend_takes_rows_that_overlap_nothing():
    many = Categories.from_json(
        [{"id": i, "name": f"a class of number {i}", "color": [i, 0, 0], "isthing": 0} for i in range(1, 31)]
    )
    panoptic, segments = (
        np.arange(1, 31).repeat(30).reshape(30, 30),
        [{"id": i, "category_id": i} for i in range(1, 31)],
    )
    figure = plots.show_truth_and_prediction(torch.rand(3, 30, 30), *[(panoptic, segments)] * 2, many)
    *maps, legend = figure.axes
    boxes = [a.get_window_extent() for a in [*legend.texts, *legend.patches]]
    assert len(boxes) == 60 and not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert all(b.x0 >= 0 and b.x1 <= figure.bbox.x1 and b.y0 >= 0 for b in boxes)
    assert max(b.y1 for b in boxes) <= min(ax.get_window_extent().y0 for ax in maps)
    assert all(ax.get_window_extent().width == pytest.approx(ax.get_window_extent().height) for ax in maps)


def test_rows_by_hand():
    assert plots.in_rows([10, 20, 30, 50], 50, gap=5) == [(0, 0), (0, 15), (1, 0), (2, 0)]
    assert plots.in_rows([99, 1], 50, gap=5) == [(0, 0), (1, 0)] and plots.in_rows([], 50) == []


def test_logits_share_one_scale_symmetric_around_0(scene):
    logits = torch.tensor([[[-7.0, 1], [float("-inf"), 0]], [[2, 3], [4, 5]]])
    figure = plots.show_logits(logits, ["a", "b"], title="X")
    assert [ax.images[0].get_clim() for ax in figure.axes[:2]] == [(-7, 7), (-7, 7)]
    assert {"a", "b", "X", "2 × 2 × 2"} <= set(texts(figure))
    assert plots.show_logits(logits, limit=3).axes[0].images[0].get_clim() == (-3, 3)
    assert plots.show_tensor(torch.rand(2, 3, 3)).axes[0].images[0].get_clim() == (0, 1)


def test_small_multiples_line_up(scene):
    axes = plots.show_logits(scene.z, columns=3).axes
    places = np.array([ax.get_position().bounds for ax in axes[:6]])
    assert np.allclose(places[:, 2:], places[0, 2:])
    assert np.allclose(places[:3, 1], places[0, 1]) and np.allclose(places[:3, 0], places[3:, 0])


def test_too_few_names_are_refused(scene):
    with pytest.raises(ValueError, match="2 names for 6 channels"):
        plots.show_logits(scene.z, ["a", "b"])


def test_pixel_bars_split_an_instance_and_end_at_its_sum(scene):
    s = scene
    left = plots.pixel_bars(s.z, s.x_mask, s.y_mask, s.classes, CATEGORIES, (30, 40)).axes[0]  # on the second cat
    row = 2 + 1
    bars = sorted((p.get_y(), p.get_x(), p.get_width()) for p in left.patches if abs(p.get_y() + 0.2 - row) < 0.45)
    assert [(x, w) for _, x, w in bars] == [(0, 4.0), (4.0, -1.5)]
    assert any(list(line.get_xdata()) == [2.5, 2.5] for line in left.lines)
    shares = [t.get_text() for t in left.figure.axes[1].texts]
    expected = torch.softmax(s.z[:, 30, 40].double(), 0)[row]
    assert shares[row] == f"{100 * expected:.0f} %"
    assert left.figure.axes[1].patches[-1].get_hatch()  # unknown carries its pattern here too


def test_pixel_bars_of_many_channels_keep_the_unknown_one(scene):
    s = scene
    z, many = torch.cat([s.z[:2], torch.ones(40, H, W), torch.full((1, H, W), -9.0)]), torch.zeros(40, H, W)
    figure = plots.pixel_bars(z, many, many, torch.zeros(40, dtype=torch.int64), CATEGORIES, (0, 0), largest=6)
    assert "unknown" in texts(figure) and sum("cat" in t for t in texts(figure)) == 5


def write_csv(path, losses):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([["iteration", "note", "loss_mask"], *([i, "x", v] for i, v in enumerate(losses))])
    return path


def test_loss_curves_carry_their_runs_names(tmp_path):
    runs = {
        "slow": write_csv(tmp_path / "a.csv", np.linspace(2, 1, 50)),
        "fast": write_csv(tmp_path / "b.csv", np.geomspace(2, 0.1, 50)),
    }
    figure = plots.plot_losses(runs)
    assert {"slow", "fast", "mask"} <= set(texts(figure))
    assert "1 (slow)" in figure.alt_text and "0.1 (fast)" in figure.alt_text
    figure._repr_html_()


def test_a_csv_that_cannot_be_plotted_gives_one_line(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        plots.plot_losses({"a": tmp_path / "none.csv"})
    with pytest.raises(UserError, match="holds no rows"):
        plots.plot_losses({"a": write_csv(tmp_path / "empty.csv", [])})
    with pytest.raises(UserError, match="no column 'loss_box'"):
        plots.plot_losses({"a": write_csv(tmp_path / "a.csv", [1.0])}, keys=["loss_box"])


def test_running_median_by_hand():
    assert charts.median(np.array([1.0, 9, 2, 3, 4]), 3).tolist() == [5, 2, 3, 3, 3.5]
    assert charts.median(np.array([1.0, 9]), 1).tolist() == [1, 9]


def test_alt_text_reaches_the_notebook_escaped_and_may_not_be_empty(scene):
    figure = plots.alt(plots.show_image(scene.image), 'a "small" <image>')
    html = figure._repr_html_()
    assert 'alt="a &quot;small&quot; &lt;image&gt;"' in html and "data:image/png;base64," in html
    with pytest.raises(ValueError, match="alt text is empty"):
        plots.alt(figure, "  ")


def test_alt_takes_figures_of_pyplot_and_closes_them():
    from matplotlib import pyplot

    own = pyplot.figure(figsize=(1, 1))
    shown = plots.alt(own, "nothing yet")
    assert re.search('<img alt="nothing yet"', shown._repr_html_())
    assert not pyplot.fignum_exists(own.number)


def test_a_notebook_shows_the_image_once(scene, monkeypatch):
    display = pytest.importorskip("IPython.display")
    calls = []
    monkeypatch.setattr(display, "display", lambda data, raw: calls.append(data))
    plots.show_image(scene.image)._ipython_display_()
    assert len(calls) == 1 and calls[0]["text/html"].startswith("<img alt=")


def test_small_pngs_keep_few_colours_and_move_many_by_two_at_most():
    flat = np.zeros((40, 40, 3), dtype=np.uint8)
    flat[10:20] = (213, 94, 0)
    noise = np.random.default_rng(0).integers(0, 256, (80, 80, 3)).astype(np.uint8)
    noise[0] = 255
    pngs = [picture.small_png(p) for p in (flat, noise)]
    assert [p[25] for p in pngs] == [3, 2]  # the PNG header's colour type: with a palette, without
    again = [np.asarray(Image.open(io.BytesIO(p)).convert("RGB"), dtype=int) for p in pngs]
    assert (again[0] == flat).all()
    assert np.abs(again[1] - noise).max() == 2 and (again[1][0] == 255).all()
    assert len(pngs[1]) < len(full_png(noise))


def full_png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return file.getvalue()


def test_style_is_used_and_the_users_settings_survive(scene):
    import matplotlib

    with matplotlib.rc_context({"font.size": 23}):
        plots.show_image(scene.image)
        assert matplotlib.rcParams["font.size"] == 23
        plots.use_style()
        assert matplotlib.rcParams["font.size"] == picture.STYLE["font.size"]


def test_maps_and_arrays_give_the_same_colors():
    assert (picture.DIVERGING_MAP(np.array([0, 127, 254]))[:, :3] * 255 == colors.DIVERGING[[0, 127, 254]]).all()
