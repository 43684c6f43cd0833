"""What a cell sees: against a convolution whose field can be counted, and against differences."""

import pytest
import torch
from torch import nn

from upsnet_lite.viz.play_backbone import NORM, cell, field, middle, play_levels, reach, values


class Two(nn.Module):
    """P2 and P3 of 2 channels by mean pooling and a 3 x 3 convolution of ones."""

    def forward(self, batch):
        grey = batch.sum(1, keepdim=True)
        kernel = torch.ones(2, 1, 3, 3) * torch.tensor([1.0, -2.0])[:, None, None, None]
        pooled = {f"P{n}": nn.functional.avg_pool2d(grey, 2**n) for n in (2, 3)}
        return {name: nn.functional.conv2d(p, kernel, padding=1) for name, p in pooled.items()}


@pytest.fixture
def batch():
    torch.manual_seed(0)
    return torch.rand(1, 3, 32, 32).requires_grad_()


def test_a_cell_sees_three_by_three_cells(batch):
    seen = field(Two()(batch), batch, "P3", 0, (17, 9))  # row 2, column 1 of 4 x 4
    expected = torch.zeros(32, 32)
    expected[8:32, 0:24] = 1 / 64
    assert torch.allclose(seen, expected.expand(3, 32, 32))
    assert torch.allclose(field(Two()(batch), batch, "P3", 1, (17, 9)), -2 * seen)


def test_the_norm_and_its_gradient(batch):
    levels = Two()(batch)
    assert torch.allclose(values(levels["P2"], NORM), levels["P2"][0, 0].abs() * 5**0.5)
    seen = field(levels, batch, "P2", NORM, (12, 20))
    moved = batch.detach().clone()
    moved[0, 1, 13, 22] += 0.5  # the cell's own area, all values above 0: the norm is linear there
    rise = values(Two()(moved)["P2"], NORM)[3, 5] - values(levels["P2"], NORM)[3, 5]
    assert float(seen[1, 13, 22]) == pytest.approx(float(rise.detach()) / 0.5, rel=1e-4)


@pytest.mark.parametrize(
    "stride, at, centre", [(4, (0, 0), (1.5, 1.5)), (8, (127, 9), (123.5, 11.5)), (64, (70, 3), (95.5, 31.5))]
)
def test_cells_and_their_centres(stride, at, centre):
    assert middle(at, stride) == centre and cell(at, stride) == (at[0] // stride, at[1] // stride)


def test_reach_by_hand():
    gradient = torch.zeros(3, 9, 9)
    gradient[0, 4, 4], gradient[1, 4, 5], gradient[2, 0, 0] = 1, -2, 3  # rings 0, 1 and 4 around the middle
    assert [reach(gradient, (4, 4), share) for share in (1 / 6, 0.5, 0.51, 1.0)] == [1, 3, 9, 9]
    assert reach(torch.zeros(3, 9, 9), (4, 4)) == 0
    even = torch.zeros(3, 8, 8)
    even[:, 3:5, 3:5] = 1
    assert reach(even, (3.5, 3.5), 1.0) == 2


def test_the_widget_draws_level_channel_and_cell(batch):
    widget = play_levels(Two(), batch, torch.rand(3, 32, 30))  # an image narrower than its padded batch
    assert "P3, stride 8: 4 × 4 cells.   Row 2, column 1" in widget.live.text
    before = widget.live.png
    widget.set(level="P2", channel=1, row=12, column=20)
    assert "P2, stride 4: 8 × 8 cells.   Row 3, column 5" in widget.live.text and widget.live.png != before
    assert f"value {Two()(batch)['P2'][0, 1, 3, 5].item():.2f}" in widget.live.text
    assert widget.controls["channel"].max == 1 and widget.controls["column"].max == 29
