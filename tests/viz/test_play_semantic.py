"""What nine taps bring adds up to what the layer gives; a fresh layer looks where a plain convolution does."""

import pytest
import torch
from torch import nn

from upsnet_lite.datasets.shapes import categories
from upsnet_lite.deform_conv import DeformConv2d
from upsnet_lite.viz.play_semantic import brought, layers, offsets, play_taps, words


def learned(c_in: int, c_out: int) -> DeformConv2d:
    layer = DeformConv2d(c_in, c_out)
    nn.init.normal_(layer.offset.weight, std=0.3)
    nn.init.normal_(layer.bias)
    return layer


@pytest.fixture
def subnet():
    torch.manual_seed(0)
    return nn.Sequential(learned(4, 6), nn.GroupNorm(2, 6), nn.ReLU(inplace=True), learned(6, 5), nn.ReLU(inplace=True))


def test_taps_add_up_to_the_layer(subnet):
    x = torch.randn(1, 4, 6, 7)
    _, values = brought(subnet[0], x)
    out = values.sum(2).permute(2, 0, 1) + subnet[0].bias[:, None, None]
    assert torch.allclose(out, subnet[0](x)[0], atol=1e-5)


def test_the_second_layer_reads_what_the_first_gives(subnet):
    x = torch.randn(1, 4, 6, 7)
    before = x.clone()
    found = layers(subnet, x)
    places, values = brought(subnet[3], subnet[:3](x))
    assert torch.equal(x, before) and len(found) == 2
    assert torch.allclose(found[1].places, places, atol=1e-5)
    strength = values.norm(dim=-1)
    assert torch.allclose(found[1].shares, strength / strength.sum(-1, keepdim=True), atol=1e-5)


def test_a_fresh_layer_is_a_plain_grid():
    torch.manual_seed(0)
    (taps,) = layers(nn.Sequential(DeformConv2d(3, 4)), torch.randn(1, 3, 5, 5))
    assert torch.equal(offsets(taps, (2, 3)), torch.zeros(9, 2))
    assert taps.places[2, 3].tolist() == [[r, c] for r in (1, 2, 3) for c in (2, 3, 4)]
    assert torch.allclose(taps.shares.sum(-1), torch.ones(5, 5))
    corner = taps.shares[0, 0].view(3, 3)
    assert (corner[0] == 0).all() and (corner[:, 0] == 0).all(), "outside of the map there is nothing to bring"


def test_words_say_shares_and_the_longest_way(subnet):
    found = layers(subnet, torch.randn(1, 4, 6, 7))
    told = words(found, (2, 3), 8, "P3").splitlines()
    assert "row 2, column 3" in told[0] and len(told) == 3
    rows = (100 * found[0].shares[2, 3]).round().int().tolist()
    assert [int(v) for v in told[1].split(":")[1].replace("|", " ").split()[:9]] == rows
    assert f"{8 * float(offsets(found[0], (2, 3)).norm(dim=-1).max()):.1f} px" in told[1]


LEVELS = {"P2": torch.rand(1, 4, 8, 8), "P3": torch.rand(1, 4, 4, 4)}
TRUTH = torch.ones(32, 32, dtype=torch.int64), [dict(id=1, category_id=categories()[0].id)]


@pytest.fixture
def widget(subnet):
    return play_taps(subnet, LEVELS, torch.rand(3, 32, 32), TRUTH, categories(), (9, 30))


def test_the_widget_takes_a_pixel_and_a_level(widget, subnet):
    assert widget.live.text == words(layers(subnet, LEVELS["P2"]), (2, 7), 4, "P2") and widget.canvas.pixel == [9, 30]
    before = widget.live.png
    widget.controls["level"].value = "P3"
    assert widget.live.text == words(layers(subnet, LEVELS["P3"]), (1, 3), 8, "P3") and widget.live.png != before


def test_a_click_moves_the_sliders_and_they_move_the_mark_one_drawing_each(widget):
    drawn = []
    widget.live.observe(lambda change: drawn.append(widget.state()), "busy")
    widget.canvas.pixel = [20, 4]  # what a click sends
    assert drawn[::2] == [dict(level="P2", row=20, column=4)] and "row 5, column 1" in widget.live.text
    widget.controls["row"].value = 3
    assert widget.canvas.pixel == [3, 4] and len(drawn) == 4
    widget.set(**widget.start)
    assert widget.canvas.pixel == [9, 30] and len(drawn) == 6


def test_the_page_without_a_kernel_shows_canvas_and_taps(widget):
    html = widget._repr_mimebundle_()["text/html"]
    assert html.count("<img") == 1 and "segments" not in widget.live.alt
    assert widget.canvas.pictures()[0].alt_text in html and widget.live.alt in html
