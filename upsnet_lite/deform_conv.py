"""Deformable convolution: a convolution that looks where its offsets point.        Dai et al. 2017; UPSNet, section 3.1

    out(p) = sum_k  w_k · x(p + p_k + Δp_k)         x at a fractional place: the bilinear mean of its four neighbours

On a GPU torchvision's kernels run. On a CPU the sum is written as what it is: gather the four corner rows of the
channels-last map, weigh them, add them up (one embedding bag), then multiply by w (one matrix product). RoIAlign is
the same gather-and-sum with fixed places, so it lives here too. Both match torchvision in values and gradients.

Shapes   x (B, C, H, W)   offset (B, 2·K, H', W'), (Δy, Δx) per tap, pixels of x   weight (C_out, C, kh, kw), K = kh·kw
"""

import torch
import torch.nn.functional as F
import torchvision.ops
from jaxtyping import Float, Int
from torch import Tensor, nn


def corners(
    y: Float[Tensor, "*points"], x: Float[Tensor, "*points"], height: int, width: int
) -> tuple[Int[Tensor, "*points 4"], Float[Tensor, "*points 4"]]:
    """The four pixels around each place (y, x): their index in the flattened map and their bilinear weight.

    A corner outside of the map has weight 0 (and some valid index), so the map is as if padded with zeros.
    """
    y0, x0 = y.detach().floor(), x.detach().floor()
    dy, dx = y - y0, x - x0
    y0, x0 = y0.nan_to_num(0.0), x0.nan_to_num(0.0)  # a NaN place must give NaN, which training reports, not an index
    rows = torch.stack((y0, y0, y0 + 1, y0 + 1), -1)
    columns = torch.stack((x0, x0 + 1, x0, x0 + 1), -1)
    weights = torch.stack(((1 - dy) * (1 - dx), (1 - dy) * dx, dy * (1 - dx), dy * dx), -1)
    within = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    index = rows.clamp(0, height - 1).long() * width + columns.clamp(0, width - 1).long()
    return index, torch.where(within, weights, 0.0)


def gather_sum(
    rows: Float[Tensor, "R C"], index: Int[Tensor, "P M"], weight: Float[Tensor, "P M"]
) -> Float[Tensor, "P C"]:
    """out[p] = sum over m of weight[p, m] · rows[index[p, m]], without ever holding the gathered rows."""
    return F.embedding_bag(index, rows.contiguous(), mode="sum", per_sample_weights=weight)


def pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def tap_places(
    offset: Float[Tensor, "B offsets H W"],
    kernel: tuple[int, int],
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
) -> tuple[Float[Tensor, "B H W K G"], Float[Tensor, "B H W K G"]]:
    """Where each output pixel's taps fall in x, (y, x) in pixels: the regular grid plus the learned offsets."""
    (kh, kw), (sy, sx), (py, px), (dy, dx) = kernel, pair(stride), pair(padding), pair(dilation)
    batch, _, height, width = offset.shape
    groups = offset.shape[1] // (2 * kh * kw)
    shift = offset.reshape(batch, groups, kh * kw, 2, height, width).permute(0, 4, 5, 2, 1, 3)  # B H W K G 2
    steps = lambda n, by, start: torch.arange(n, device=offset.device, dtype=offset.dtype) * by + start  # noqa: E731
    tap_y, tap_x = torch.meshgrid(steps(kh, dy, -py), steps(kw, dx, -px), indexing="ij")
    y = steps(height, sy, 0)[:, None, None, None] + tap_y.reshape(-1, 1)
    x = steps(width, sx, 0)[:, None, None] + tap_x.reshape(-1, 1)
    return y + shift[..., 0], x + shift[..., 1]


def deform_conv2d_gather(x, offset, weight, bias=None, stride=1, padding=0, dilation=1, mask=None):
    """`deform_conv2d` as gather, weigh, sum, multiply, in plain PyTorch on any device. Same arguments and result."""
    batch, channels, height, width = x.shape
    c_out, c_group, kh, kw = weight.shape
    y_place, x_place = tap_places(offset, (kh, kw), stride, padding, dilation)
    _, h_out, w_out, taps, groups = y_place.shape

    index, corner_weight = corners(y_place, x_place, height, width)
    if mask is not None:  # modulation: one factor per tap (Deformable ConvNets v2)
        factor = mask.reshape(batch, groups, taps, h_out, w_out).permute(0, 3, 4, 2, 1)
        corner_weight = corner_weight * factor[..., None]
    # Rows of x: one per image, pixel and offset group, so that each group reads only its own channels.
    image = torch.arange(batch, device=x.device).view(-1, 1, 1, 1, 1, 1)
    group = torch.arange(groups, device=x.device).view(-1, 1)
    index = (image * (height * width) + index) * groups + group
    rows = x.permute(0, 2, 3, 1).reshape(-1, channels // groups)
    columns = gather_sum(rows, index.reshape(-1, 4), corner_weight.reshape(-1, 4).to(rows.dtype))

    if c_group == channels:
        out = columns.view(batch * h_out * w_out, taps * channels) @ weight.permute(2, 3, 1, 0).reshape(-1, c_out)
    else:
        split = channels // c_group
        columns = columns.view(-1, taps, split, c_group)
        out = torch.einsum("pksc,sock->pso", columns, weight.view(split, -1, c_group, taps)).reshape(-1, c_out)
    if bias is not None:
        out = out + bias
    return out.view(batch, h_out, w_out, c_out).permute(0, 3, 1, 2)


def deform_conv2d(
    x: Float[Tensor, "B C H W"],
    offset: Float[Tensor, "B offsets H_out W_out"],
    weight: Float[Tensor, "C_out C_group kh kw"],
    bias: Float[Tensor, " C_out"] | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    mask: Float[Tensor, "B modulation H_out W_out"] | None = None,
) -> Float[Tensor, "B C_out H_out W_out"]:
    """Deformable convolution with the meaning of `torchvision.ops.deform_conv2d`.

    `offset` holds (Δy, Δx) in pixels of x for each of the K taps (times the offset groups), rows first. Zero offsets
    give a plain convolution. Raises ValueError where the shapes do not fit.
    """
    if not weight.numel():
        raise ValueError(f"weight is {tuple(weight.shape)}, no dimension may be 0")
    (kh, kw), (sy, sx), (py, px), (dy, dx) = weight.shape[2:], pair(stride), pair(padding), pair(dilation)
    h_out = (x.shape[2] + 2 * py - dy * (kh - 1) - 1) // sy + 1
    w_out = (x.shape[3] + 2 * px - dx * (kw - 1) - 1) // sx + 1
    groups = offset.shape[1] // (2 * kh * kw)
    if not groups or offset.shape[1] % (2 * kh * kw) or (len(offset), *offset.shape[2:]) != (len(x), h_out, w_out):
        raise ValueError(
            f"offset is {tuple(offset.shape)}, expected ({len(x)}, a multiple of {2 * kh * kw}, {h_out}, {w_out})"
        )
    if x.shape[1] % groups or x.shape[1] % weight.shape[1] or len(weight) % (x.shape[1] // weight.shape[1]):
        raise ValueError(
            f"{x.shape[1]} channels do not share out to weight {tuple(weight.shape)}, {groups} offset groups"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias is {tuple(bias.shape)}, expected ({len(weight)},)")
    if mask is not None and mask.shape != (len(x), groups * kh * kw, h_out, w_out):
        raise ValueError(f"mask is {tuple(mask.shape)}, expected {(len(x), groups * kh * kw, h_out, w_out)}")
    if x.is_cuda:
        return torchvision.ops.deform_conv2d(x, offset, weight, bias, stride, padding, dilation, mask)
    with torch.autocast("cpu", enabled=False):  # embedding_bag knows no bf16 weights
        dtype = torch.promote_types(weight.dtype, torch.float32)
        arguments = [None if t is None else t.to(dtype) for t in (x, offset, weight, bias)]
        mask = None if mask is None else mask.to(dtype)
        return deform_conv2d_gather(*arguments, stride, padding, dilation, mask).to(weight.dtype)


class DeformConv2d(nn.Module):
    """A 3 x 3 deformable convolution that predicts its own offsets; these start at 0, as a plain convolution."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1, bias: bool = True) -> None:
        super().__init__()
        self.stride = stride
        self.offset = nn.Conv2d(c_in, 18, 3, stride, 1)
        self.weight = nn.Parameter(torch.empty(c_out, c_in, 3, 3))
        self.bias = nn.Parameter(torch.zeros(c_out)) if bias else None
        nn.init.kaiming_normal_(self.weight)
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C_out H_out W_out"]:
        return deform_conv2d(x, self.offset(x), self.weight, self.bias, self.stride, padding=1)


def roi_align(
    x: Float[Tensor, "B C H W"],
    rois: Float[Tensor, "R 5"],
    output_size: int,
    spatial_scale: float = 1.0,
    sampling_ratio: int = 2,
    aligned: bool = False,
) -> Float[Tensor, "R C S S"]:
    """RoIAlign (He et al. 2017) with the meaning of `torchvision.ops.roi_align`.

    rois: (index in the batch, x0, y0, x1, y1), image coordinates. Each of the S x S bins is the mean of
    sampling_ratio² bilinear samples of x. No RoI gives an empty result that still carries gradient 0.

    A pixel's centre lies at +0.5 in image coordinates: aligned=True reads there, aligned=False half a pixel of x
    further down and right, as Mask R-CNN's weights expect.
    """
    if x.is_cuda:
        return torchvision.ops.roi_align(x, rois, output_size, spatial_scale, sampling_ratio, aligned)
    batch, channels, height, width = x.shape
    with torch.autocast("cpu", enabled=False):
        dtype = torch.promote_types(x.dtype, torch.float32)
        x, rois = x.to(dtype), rois.to(dtype)
        samples = output_size * sampling_ratio
        places = (torch.arange(samples, device=x.device, dtype=dtype) + 0.5) / samples
        x0, y0, x1, y1 = (rois[:, 1:] * spatial_scale - 0.5 * aligned).unbind(1)
        across, down = x1 - x0, y1 - y0
        if not aligned:  # at least one pixel: torchvision's rule
            across, down = across.clamp(min=1), down.clamp(min=1)
        y, x_ = y0[:, None] + down[:, None] * places, x0[:, None] + across[:, None] * places
        index, weight = edge_corners(y, height), edge_corners(x_, width)
        return gather_bins(x, rois[:, 0].long(), index, weight, output_size, sampling_ratio)


def edge_corners(place: Float[Tensor, "R S"], length: int) -> tuple[Int[Tensor, "R S 2"], Float[Tensor, "R S 2"]]:
    """The two neighbours of each place along one axis and their weights; the border is repeated up to one pixel out."""
    within = (place >= -1) & (place <= length)
    place = place.clamp(0, length - 1)
    low = place.floor()
    high_weight = place - low
    index = torch.stack((low, (low + 1).clamp(max=length - 1)), -1).long()
    return index, torch.stack((1 - high_weight, high_weight), -1) * within[..., None]


def gather_bins(x, image, rows, columns, bins: int, samples: int):
    """Mean over each bin's samples: the outer product of the rows' and the columns' two neighbours."""
    (row, row_weight), (column, column_weight) = rows, columns
    batch, channels, height, width = x.shape
    per_axis = lambda t: t.reshape(len(image), bins, samples * 2)  # noqa: E731
    row, column, row_weight, column_weight = map(per_axis, (row, column, row_weight, column_weight))
    index = (image[:, None, None] * height + row)[:, :, None, :, None] * width + column[:, None, :, None, :]
    weight = row_weight[:, :, None, :, None] * column_weight[:, None, :, None, :] / samples**2
    flat = x.permute(0, 2, 3, 1).reshape(-1, channels)
    if len(image) == 0:  # an empty bag has no gradient of its own
        return flat.sum() * 0 + flat.new_zeros(0, channels, bins, bins)
    pooled = gather_sum(flat, index.reshape(-1, (samples * 2) ** 2), weight.reshape(-1, (samples * 2) ** 2))
    return pooled.view(len(image), bins, bins, channels).permute(0, 3, 1, 2)
