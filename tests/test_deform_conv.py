"""Deformable convolution and RoIAlign against torchvision's operators: values, gradients, corner cases."""

import pytest
import torch
import torch.nn.functional as F
import torchvision.ops
from hypothesis import given, settings
from hypothesis import strategies as st

from upsnet_lite.deform_conv import DeformConv2d, corners, deform_conv2d, gather_sum, roi_align, tap_places

SETTINGS = {
    "plain": dict(),
    "padded": dict(padding=1),
    "strided": dict(stride=2, padding=1),
    "dilated": dict(dilation=2, padding=2),
    "uneven": dict(stride=(1, 2), padding=(2, 0), dilation=(2, 1)),
    "groups": dict(padding=1, split=2),
    "offset groups": dict(padding=1, offset_groups=2),
    "both groups": dict(padding=1, split=2, offset_groups=4),
    "wide kernel": dict(padding=(0, 2), kernel=(1, 5)),
    "modulated": dict(padding=1, masked=True),
    "modulated groups": dict(stride=2, padding=1, offset_groups=2, masked=True),
}


def inputs(
    batch=2, c_in=4, c_out=6, size=(7, 6), kernel=(3, 3), split=1, offset_groups=1, masked=False, reach=2.0, **options
) -> tuple[dict, dict]:
    """float64 tensors with gradients, and the options. Offsets of a few pixels: many taps fall outside of the map."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(batch, c_in, *size, generator=g, dtype=torch.float64)
    weight = torch.randn(c_out, c_in // split, *kernel, generator=g, dtype=torch.float64)
    plain = {k: options[k] for k in ("stride", "padding", "dilation") if k in options}
    out = F.conv2d(x[:, : c_in // split], weight, **plain).shape[2:]
    taps = kernel[0] * kernel[1]
    offset = reach * torch.randn(batch, 2 * taps * offset_groups, *out, generator=g, dtype=torch.float64)
    tensors = dict(x=x, offset=offset, weight=weight, bias=torch.randn(c_out, generator=g, dtype=torch.float64))
    if masked:
        tensors["mask"] = torch.rand(batch, taps * offset_groups, *out, generator=g, dtype=torch.float64)
    return {name: t.requires_grad_() for name, t in tensors.items()}, plain


def torchvision_reference(x, offset, weight, bias, mask=None, **options) -> torch.Tensor:
    return torchvision.ops.deform_conv2d(x, offset, weight, bias, mask=mask, **options)


@pytest.mark.parametrize("name", SETTINGS)
def test_values_and_gradients_against_torchvision(name) -> None:
    tensors, options = inputs(**SETTINGS[name])
    ours, theirs = deform_conv2d(**tensors, **options), torchvision_reference(**tensors, **options)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    towards = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    grads = (torch.autograd.grad((out * towards).sum(), list(tensors.values())) for out in (ours, theirs))
    for argument, got, expected in zip(tensors, *grads, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9, msg=lambda m, a=argument: f"{a}: {m}")


def test_float32_without_bias() -> None:
    tensors, options = inputs(padding=1)
    x, offset, weight = (tensors[k].detach().float() for k in ("x", "offset", "weight"))
    got = deform_conv2d(x, offset, weight, **options)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, torchvision.ops.deform_conv2d(x, offset, weight, **options), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [n for n in SETTINGS if "groups" not in n and "modulated" not in n])
def test_zero_offsets_are_a_convolution(name) -> None:
    tensors, options = inputs(**SETTINGS[name], reach=0.0)
    x, weight, bias = tensors["x"], tensors["weight"], tensors["bias"]
    torch.testing.assert_close(deform_conv2d(**tensors, **options), F.conv2d(x, weight, bias, **options))


def test_an_offset_of_one_pixel_shifts_the_map() -> None:
    """(Δy, Δx) in this order: (0, 1) reads one pixel to the right, zeros where that leaves the map."""
    x = torch.arange(12.0).view(1, 1, 3, 4)
    offset = torch.stack((torch.zeros(3, 4), torch.ones(3, 4)))[None]
    got = deform_conv2d(x, offset, torch.ones(1, 1, 1, 1))
    assert got[0, 0].tolist() == [[1, 2, 3, 0], [5, 6, 7, 0], [9, 10, 11, 0]]
    half = deform_conv2d(x, offset / 2, torch.ones(1, 1, 1, 1))
    assert half[0, 0, 0].tolist() == [0.5, 1.5, 2.5, 1.5]


def test_taps_start_at_the_regular_grid() -> None:
    y, x = tap_places(torch.zeros(1, 18, 2, 2), (3, 3), stride=2, padding=1)
    assert y[0, 1, 0, :, 0].tolist() == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert x[0, 0, 1, :, 0].tolist() == [1, 2, 3] * 3


def test_gradcheck_away_from_integer_places() -> None:
    """Bilinear interpolation has kinks at integers, so offsets stay at 0.2 … 0.8."""
    g = torch.Generator().manual_seed(2)
    draw = lambda *s: torch.randn(s, generator=g, dtype=torch.float64).requires_grad_()  # noqa: E731
    offset = (
        torch.randint(-2, 2, (1, 8, 3, 3), generator=g) + 0.2 + 0.6 * torch.rand(1, 8, 3, 3, generator=g)
    ).double()
    args = draw(1, 2, 4, 4), offset.requires_grad_(), draw(2, 2, 2, 2), draw(2)
    assert torch.autograd.gradcheck(deform_conv2d, args)


def test_offsets_of_any_size_read_zeros_outside() -> None:
    tensors, options = inputs(padding=1, reach=0.0)
    tensors["bias"] = torch.zeros(6, dtype=torch.float64)
    for far in (1e3, -1e3, 1e30, float("inf"), -float("inf")):
        tensors["offset"] = torch.full_like(tensors["offset"], far)
        assert not deform_conv2d(**tensors, **options).any()


def test_a_nan_offset_gives_nan_where_it_is_read() -> None:
    """Not an index error: training must reach its own check, which names the loss."""
    tensors, options = inputs(padding=1, reach=0.0)
    offset = tensors["offset"].detach().clone()
    offset[0, 0, 2, 3] = float("nan")
    got = deform_conv2d(**(tensors | {"offset": offset}), **options).isnan()
    assert got[0, :, 2, 3].all() and got.sum() == got.shape[1]


@pytest.mark.parametrize("shape", [(2, 18, 7, 5), (2, 17, 7, 6), (2, 9, 7, 6)])
def test_an_offset_that_does_not_fit_is_named(shape) -> None:
    with pytest.raises(ValueError, match=r"offset.*expected \(2, a multiple of 18, 7, 6\)"):
        deform_conv2d(torch.zeros(2, 4, 7, 6), torch.zeros(shape), torch.zeros(6, 4, 3, 3), padding=1)


def test_bfloat16_under_autocast() -> None:
    layer, x = DeformConv2d(4, 5), torch.randn(1, 4, 6, 6)
    expected = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = layer(x)
    torch.testing.assert_close(got.float(), expected, rtol=0.05, atol=0.05)
    got.float().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


def test_the_layer_starts_as_a_convolution_and_learns_to_look_elsewhere() -> None:
    layer, x = DeformConv2d(4, 5, stride=2), torch.randn(2, 4, 7, 8)
    torch.testing.assert_close(layer(x), F.conv2d(x, layer.weight, layer.bias, 2, 1))
    layer(x).square().sum().backward()
    assert layer.offset.weight.grad.abs().sum() > 0
    assert DeformConv2d(4, 5, bias=False).bias is None


def test_channels_last_input() -> None:
    tensors, options = inputs(padding=1)
    last = tensors | {"x": tensors["x"].detach().to(memory_format=torch.channels_last)}
    assert torch.equal(deform_conv2d(**last, **options), deform_conv2d(**tensors, **options))


def test_corners_by_hand() -> None:
    index, weight = corners(torch.tensor([0.25, -0.5, 5.0]), torch.tensor([0.5, 3.0, 0.0]), 2, 4)
    assert index[0].tolist() == [0, 1, 4, 5] and weight[0].tolist() == [0.375, 0.375, 0.125, 0.125]
    assert weight[1].tolist() == [0, 0, 0.5, 0]  # its upper row lies outside, its right column too
    assert not weight[2].any() and index.min() >= 0 and index.max() < 8


def test_gather_sum_by_hand() -> None:
    rows = torch.tensor([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
    got = gather_sum(rows, torch.tensor([[0, 2], [1, 1]]), torch.tensor([[1.0, 0.5], [2.0, -1.0]]))
    assert got.tolist() == [[2.5, 25.0], [2.0, 20.0]]


# ---------------------------------------------------------------------------------------------------------- RoIAlign

ROIS = torch.tensor(
    [
        [0.0, 1.3, 2.1, 20.7, 30.2],
        [1.0, -6.0, -7.0, 9.0, 8.0],  # sticks out
        [0.0, 60.0, 60.0, 90.0, 90.0],  # outside
        [1.0, 3.0, 3.0, 3.0, 3.0],  # no extent
        [0.0, 3.2, 3.1, 3.3, 3.5],  # tiny
        [1.0, 0.0, 0.0, 44.0, 36.0],  # all of it
    ],
    dtype=torch.float64,
)


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize(("size", "scale", "samples"), [(7, 0.25, 2), (3, 1.0, 1), (14, 0.5, 2), (28, 0.25, 1)])
def test_roi_align_against_torchvision(size, scale, samples, aligned) -> None:
    maps = torch.randn(2, 3, 9, 11, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    ours = roi_align(maps, ROIS, size, scale, samples, aligned)
    theirs = torchvision.ops.roi_align(maps, ROIS, size, scale, samples, aligned)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    towards = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    grads = [torch.autograd.grad((out * towards).sum(), maps)[0] for out in (ours, theirs)]
    torch.testing.assert_close(*grads, rtol=1e-9, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), aligned=st.booleans())
def test_roi_align_against_torchvision_on_any_boxes(seed, aligned) -> None:
    g = torch.Generator().manual_seed(seed)
    low, extent = 60 * torch.rand(5, 2, generator=g) - 15, 40 * torch.rand(5, 2, generator=g)
    rois = torch.cat((torch.randint(0, 2, (5, 1), generator=g), low, low + extent), 1).double()
    maps = torch.randn(2, 3, 8, 10, generator=g, dtype=torch.float64)
    theirs = torchvision.ops.roi_align(maps, rois, 7, 0.25, 2, aligned)
    torch.testing.assert_close(roi_align(maps, rois, 7, 0.25, 2, aligned), theirs, rtol=1e-9, atol=1e-9)


def test_roi_align_of_nothing_still_carries_a_gradient() -> None:
    maps = torch.randn(2, 3, 8, 8, requires_grad=True)
    pooled = roi_align(maps, torch.zeros(0, 5), 7)
    assert pooled.shape == (0, 3, 7, 7)
    pooled.sum().backward()
    assert torch.equal(maps.grad, torch.zeros_like(maps))


def test_aligned_roi_align_of_whole_pixels_is_the_crop() -> None:
    """One sample to a bin on as many pixels reads the pixels; unaligned, half a pixel down and right of them."""
    maps = torch.arange(30.0).view(1, 1, 5, 6)
    rois = torch.tensor([[0.0, 1, 1, 4, 4]])
    assert torch.equal(roi_align(maps, rois, 3, 1.0, 1, aligned=True)[0, 0], maps[0, 0, 1:4, 1:4])
    assert torch.equal(roi_align(maps, rois, 3, 1.0, 1)[0, 0], maps[0, 0, 1:4, 1:4] + 3.5)


def test_a_batch_of_none_gives_none() -> None:
    x, offset, weight = torch.zeros(0, 4, 6, 5), torch.zeros(0, 18, 6, 5), torch.randn(3, 4, 3, 3)
    assert deform_conv2d(x, offset, weight, padding=1).shape == (0, 3, 6, 5)


@pytest.mark.parametrize(
    ("offset", "weight", "bias", "mask", "said"),
    [
        (0, (3, 4, 3, 3), None, None, "offset"),
        (18, (3, 4, 3, 3), (1,), None, "bias"),
        (18, (3, 3, 3, 3), None, None, "share out"),
        (3 * 18, (3, 4, 3, 3), None, None, "share out"),
        (18, (3, 0, 3, 3), None, None, "weight"),
        (18, (0, 4, 3, 3), None, None, "weight"),
        (18, (3, 4, 3, 3), None, 5, "mask"),
    ],
)
def test_shapes_that_do_not_fit_are_named(offset, weight, bias, mask, said) -> None:
    x = torch.zeros(1, 4, 6, 5)
    given = (
        (None if bias is None else torch.zeros(bias)),
        1,
        1,
        1,
        (None if mask is None else torch.zeros(1, mask, 6, 5)),
    )
    with pytest.raises(Exception, match=said) as error:  # under test the shapes of the signature say it first
        deform_conv2d(x, torch.zeros(1, offset, 6, 5), torch.zeros(weight), *given)
    assert isinstance(error.value, ValueError) or "type" in type(error.value).__name__.lower()
