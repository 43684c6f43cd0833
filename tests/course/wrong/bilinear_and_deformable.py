"""Wrong solutions of exercise 2, each a mistake that learners make."""

from . import Wrong, variants

BILINEAR = """@shaped
def bilinear(x: Float[Tensor, "C H W"], row: Float[Tensor, "P"], column: Float[Tensor, "P"]) -> Float[Tensor, "C P"]:
    height, width = x.shape[1:]
    r0, c0 = row.floor(), column.floor()
    dr, dc = row - r0, column - c0
    out = 0
    for r, weight_r in ((r0, 1 - dr), (r0 + 1, dr)):
        for c, weight_c in ((c0, 1 - dc), (c0 + 1, dc)):
            inside = (r >= 0) & (r < height) & (c >= 0) & (c < width)
            value = x[:, r.clamp(0, height - 1).long(), c.clamp(0, width - 1).long()]
            out = out + weight_r * weight_c * inside * value
    return out
"""
GRADIENT = """def bilinear_gradient(x, row, column):
    r0, c0 = row.floor(), column.floor()
    by_row = bilinear(x, r0 + 1, column) - bilinear(x, r0, column)
    by_column = bilinear(x, row, c0 + 1) - bilinear(x, row, c0)
    return by_row, by_column
"""
TAPS = """def taps(offset):
    _, height, width = offset.shape
    k = torch.arange(9)[:, None, None]
    rows = torch.arange(height)[:, None] + k // 3 - 1 + offset[0::2]
    columns = torch.arange(width) + k % 3 - 1 + offset[1::2]
    return rows, columns
"""
DEFORM = """def deform_conv(x, offset, weight, bias):
    rows, columns = taps(offset)
    values = bilinear(x, rows.flatten(), columns.flatten()).view(len(x), *rows.shape)
    return torch.einsum("ikhw,oik->ohw", values, weight.flatten(2)) + bias[:, None, None]
"""


bilinear = variants("bilinear", BILINEAR, "bilinear: ")
gradient = variants("bilinear_gradient", GRADIENT, "gradient: ")
taps = variants("taps", TAPS, "taps: ")
deform = variants("deform_conv", DEFORM, "convolution: ")
WRONG = [
    bilinear("rows for columns", "exchanged: x is indexed",
             ("    height, width", "    row, column = column, row\n    height, width")),
    bilinear("nearest", "nearest pixel", ("row - r0, column - c0", "(row - r0).round(), (column - c0).round()")),
    bilinear("no mean", "upper left", ("row - r0, column - c0", "0 * row, 0 * column")),
    bilinear("weights exchanged", "the nearer", ("row - r0, column - c0", "1 - row + r0, 1 - column + c0")),
    bilinear("weights by row exchanged", "here those by row", ("row - r0, column", "1 - row + r0, column")),
    bilinear("weights by column exchanged", "here those by column", ("column - c0", "1 - column + c0")),
    bilinear("dr for dc", "dr and dc are exchanged", ("dr, dc = row", "dc, dr = row")),
    bilinear("rows for columns, unguarded", "exchanged: x is indexed",
             ("x[:, r.clamp(0, height - 1).long(), c.clamp(0, width - 1).long()]", "x[:, c.long(), r.long()]")),
    bilinear("r > 0", "belong to the map", ("(r >= 0)", "(r > 0)"), ("(c >= 0)", "(c > 0)")),
    bilinear("r <= H", "are outside", ("r < height", "r <= height"), ("c < width", "c <= width")),
    bilinear("a place outside is 0", "not the whole place",
             ("    return out", "    at = row.clamp(0, height - 1), column.clamp(0, width - 1)\n"
              "    return out * (row == at[0]) * (column == at[1])")),
    bilinear("lesson 03 without its first clamp", "at row -3, column 2, channel 0: 42, expected 0",
             ("    height, width = x.shape[1:]", "    height, width = x.shape[1:]\n    x = F.pad(x, (1, 1, 1, 1))\n"
              "    row, column = (row + 1).clamp(max=height + 1), (column + 1).clamp(max=width + 1)"),
             ("row.floor(), column.floor()", "row.floor().clamp(max=height), column.floor().clamp(max=width)"),
             (" * inside", ""), ("r.clamp(0, height - 1)", "r"), ("c.clamp(0, width - 1)", "c")),
    bilinear("ceil for the second neighbour", "ceil.r. for r0 . 1",
             ("((r0, 1 - dr), (r0 + 1, dr))", "((r0, 1 - dr), (row.ceil(), dr))"),
             ("((c0, 1 - dc), (c0 + 1, dc))", "((c0, 1 - dc), (column.ceil(), dc))")),
    bilinear("ready-made", "by hand", ("    return out", "    at = torch.stack((column, row), 1) / (width / 2)\n"
             "    return F.grid_sample(x[None], at[None, None] - 1, align_corners=False)[0, :, 0]")),
    bilinear("a shortcut for whole places", "a shortcut for whole places",
             ("    return out", "    if (dr == 0).all() and (dc == 0).all():\n"
              "        return x[:, r0.long(), c0.long()]\n    return out")),
    bilinear("floats for indices", "indices must be whole numbers",
             ("height - 1).long()", "height - 1)")),
    bilinear("no axis for the channels", r"x\[:, r, c\]",
             ("x[:, r.clamp(0, height - 1).long(), c.clamp(0, width - 1).long()]", "x[r.long(), c.long()]")),
    bilinear("the nearest as upper left", "the floor, not the nearest",
             ("row.floor(), column.floor()", "row.round(), column.round()")),
    bilinear("the place overwritten", "changed the row that it was given",
             ("    r0, c0", "    x = F.pad(x, (1, 1, 1, 1))\n    row += 1\n    column += 1\n    r0, c0")),
    bilinear("dr for both axes", "dr was taken for both", ("weight_r * weight_c", "weight_r * weight_c"),
             ("(c0 + 1, dc)", "(c0 + 1, dr)"), ("(c0, 1 - dc)", "(c0, 1 - dr)")),
    bilinear("no weight by column", "weights by column are missing", ("weight_r * weight_c", "weight_r")),
    bilinear("without the last", "last row and column belong",
             ("r < height", "r < height - 1"), ("c < width", "c < width - 1")),
    bilinear("the rest adds up to 1", "keep their weights",
             ("    out = 0", "    out = all_weights = 0"),
             ("            out = out",
              "            all_weights = all_weights + weight_r * weight_c * inside\n            out = out"),
             ("return out", "return out / all_weights.clamp(min=1e-9)")),
    bilinear("height for width", "height and width are exchanged", ("height, width = x", "width, height = x")),
    bilinear("detached", "no gradient flows", ("return out", "return out.detach()")),
    bilinear("the places detached", "no gradient reaches row", ("dr, dc = row", "dr, dc = row.detach()")),
    bilinear("half a pixel", "half a pixel", ("    r0, c0", "    row, column = row - 0.5, column - 0.5\n    r0, c0")),
    bilinear("the border repeated", "repeats the border", (" * inside", "")),
    bilinear("clamped places", "moved onto it",
             ("    r0, c0", "    row, column = row.clamp(0, height - 1), column.clamp(0, width - 1)\n    r0, c0")),
    bilinear("long() cuts", "cut towards 0", ("row.floor(), column.floor()", "row.long(), column.long()")),
    bilinear("no guard at all", "IndexError",
             ("x[:, r.clamp(0, height - 1).long(), c.clamp(0, width - 1).long()]", "x[:, r.long(), c.long()]")),
    bilinear("float32 whatever x is", "x.new_zeros", ("    out = 0", "    out = torch.zeros(len(x), len(row))"),
             ("out = out +", "out +=")),
    bilinear("transposed", r"returned shape \(5, 3\), float32, expected shape \(C, P\) = \(3, 5\)",
             ("return out", "return out.T")),
    gradient("exchanged", "exchanged", ("return by_row, by_column", "return by_column, by_row")),
    gradient("the sign", "sign", ("return by_row, by_column", "return -by_row, -by_column")),
    gradient("not mixed", "step between two pixels",
             ("r0 + 1, column) - bilinear(x, r0, column)", "r0 + 1, c0) - bilinear(x, r0, c0)"),
             ("row, c0 + 1) - bilinear(x, row, c0)", "r0, c0 + 1) - bilinear(x, r0, c0)")),
    gradient("mixed the wrong way", "wrong axis",
             ("r0 + 1, column) - bilinear(x, r0, column)", "r0 + 1, c0 + row - r0) - bilinear(x, r0, c0 + row - r0)"),
             ("row, c0 + 1) - bilinear(x, row, c0)", "r0 + column - c0, c0 + 1) - bilinear(x, r0 + column - c0, c0)")),
    gradient("from the place itself", "from the place itself",
             ("r0 + 1, column) - bilinear(x, r0, column)", "row + 1, column) - bilinear(x, row, column)"),
             ("row, c0 + 1) - bilinear(x, row, c0)", "row, column + 1) - bilinear(x, row, column)")),
    gradient("half a pixel to both sides", "half a pixel to each side",
             ("r0 + 1, column) - bilinear(x, r0, column)", "row + 0.5, column) - bilinear(x, row - 0.5, column)"),
             ("row, c0 + 1) - bilinear(x, row, c0)", "row, column + 0.5) - bilinear(x, row, column - 0.5)")),
    gradient("autograd", "by hand",
             ("    r0, c0", "    row, column = row.clone().requires_grad_(), column.clone().requires_grad_()\n"
              "    value = bilinear(x, row, column).sum()\n    torch.autograd.grad(value, (row, column))\n    r0, c0")),
    gradient("two pixels", "whole pixel to each side",
             ("r0 + 1, column) - bilinear(x, r0, column)", "row + 1, column) / 2 - bilinear(x, row - 1, column) / 2"),
             ("row, c0 + 1) - bilinear(x, row, c0)", "row, column + 1) / 2 - bilinear(x, row, column - 1) / 2")),
    gradient("a small step", "float32 rounds it",
             ("r0 + 1, column) - bilinear(x, r0, column)",
              "row + 1e-3, column) / 2e-3 - bilinear(x, row - 1e-3, column) / 2e-3"),
             ("row, c0 + 1) - bilinear(x, row, c0)",
              "row, column + 1e-3) / 2e-3 - bilinear(x, row, column - 1e-3) / 2e-3")),
    gradient("cut towards 0", "cut towards 0", ("row.floor(), column.floor()", "row.trunc(), column.trunc()")),
    gradient("the border repeated", "repeats the border",
             ("r0 + 1, column) - bilinear(x, r0, column)",
              "(r0 + 1).clamp(0, x.shape[1] - 1), column.clamp(0, x.shape[2] - 1)) - "
              "bilinear(x, r0.clamp(0, x.shape[1] - 1), column.clamp(0, x.shape[2] - 1))"),
             ("row, c0 + 1) - bilinear(x, row, c0)",
              "row.clamp(0, x.shape[1] - 1), (c0 + 1).clamp(0, x.shape[2] - 1)) - "
              "bilinear(x, row.clamp(0, x.shape[1] - 1), c0.clamp(0, x.shape[2] - 1))")),
    gradient("no slope outside", "has a slope, too",
             ("return by_row, by_column", "on = (row >= 0) & (row <= x.shape[1] - 1) & (column >= 0) & "
              "(column <= x.shape[2] - 1)\n    return by_row * on, by_column * on")),
    gradient("the farther step counts more", "the nearer counts more",
             ("r0 + 1, column) - bilinear(x, r0, column)",
              "r0 + 1, 2 * c0 + 1 - column) - bilinear(x, r0, 2 * c0 + 1 - column)"),
             ("row, c0 + 1) - bilinear(x, row, c0)",
              "2 * r0 + 1 - row, c0 + 1) - bilinear(x, 2 * r0 + 1 - row, c0)")),
    taps("columns, rows", "the rows come first", ("return rows, columns", "return columns, rows")),
    taps("clamped", "moved onto the map",
         ("return rows, columns", "return rows.clamp(0, height - 1), columns.clamp(0, width - 1)")),
    taps("height for width", "2 rows and 3 columns", ("_, height, width", "_, width, height")),
    taps("the pixels' own places exchanged", "rows and columns of the pixels are exchanged",
         ("torch.arange(height)[:, None] + k", "torch.arange(width) + k"),
         ("columns = torch.arange(width)", "columns = torch.arange(height)[:, None]")),
    taps("the columns without offsets", "columns alone: the offsets are missing", ("offset[1::2]", "0 * offset[1::2]")),
    taps("Δrow for both axes", "Δrow was taken for both axes", ("offset[1::2]", "offset[0::2]")),
    taps("turned around", "steps are turned around", ("k // 3 - 1", "1 - k // 3"), ("k % 3 - 1", "1 - k % 3")),
    taps("rounded", "were rounded", ("return rows, columns", "return rows.round(), columns.round()")),
    taps("a row for all rows", r"number 1 is shape \(9, 1, 3\), float32, expected shape",
         ("return rows, columns", "return rows[:, :1], columns"),
         ("def taps(offset):", "@shaped\ndef taps(offset: Float[Tensor, '18 H W']) -> tuple[Float[Tensor, '9 H W'], "
          "Float[Tensor, '9 H W']]:")),
    taps("detached", "no gradient flows", ("    _,", "    offset = offset.detach()\n    _,")),
    taps("float32 whatever offset is", "offset.new_zeros",
         ("return rows, columns", "return rows.float(), columns.float()")),
    taps("column first", "of each pair the row comes first",
         ("    _,", "    offset = offset.view(9, 2, *offset.shape[1:]).flip(1).flatten(0, 1)\n    _,")),
    taps("two halves", "nine rows and then nine columns",
         ("offset[0::2]", "offset[:9]"), ("offset[1::2]", "offset[9:]")),
    taps("not centred", "not 0, 1, 2", ("// 3 - 1", "// 3"), ("% 3 - 1", "% 3")),
    taps("down first", "k // 3 goes down", ("k // 3", "k / 3"), ("k % 3", "k // 3"), ("k / 3", "k % 3")),
    taps("subtracted", "subtracted", ("+ offset[0::2]", "- offset[0::2]"), ("+ offset[1::2]", "- offset[1::2]")),
    taps("no pixel", "own place is missing",
         ("torch.arange(height)[:, None] + ", ""), ("torch.arange(width) + ", "")),
    deform("no bias", "bias is missing", (" + bias[:, None, None]", "")),
    deform("bias nine times", "counts nine times", ("+ bias", "+ 9 * bias")),
    deform("ready-made", "from `taps` and `bilinear`",
           ("    rows,", "    from torchvision.ops import deform_conv2d\n"
            "    return deform_conv2d(x[None], offset[None], weight, bias, padding=1)[0]\n    rows,")),
    deform("the package's own", "the package's deform_conv2d does it all",
           ("    rows,", "    return deform_conv2d(x[None], offset[None], weight, bias, padding=1)[0]\n    rows,")),
    deform("columns, rows", r"bilinear\(x, rows, columns\)",
           ("rows.flatten(), columns.flatten()", "columns.flatten(), rows.flatten()")),
    deform("clamped", "moved onto the map", ("    values", "    rows, columns = rows.clamp(0, x.shape[1] - 1), "
           "columns.clamp(0, x.shape[2] - 1)\n    values")),
    deform("eight taps", "tap 8 is left out",
           ("values, weight.flatten(2)", "values[:, :8], weight.flatten(2)[..., :8]")),
    deform("bias without axes", "one for each channel out", ("bias[:, None, None]", "bias")),
    deform("axes mixed", "channel first", (".view(len(x), *rows.shape)", ".view(9, len(x), *rows.shape[1:])"),
           ("ikhw", "kihw")),
    deform("turned around", "turned around", ("weight.flatten(2)", "weight.flatten(2).flip(2)")),
    deform("kernel transposed", "kernel is transposed", ("weight.flatten", "weight.transpose(2, 3).flatten")),
    deform("channels exchanged", "second axis", ("oik->", "iok->")),
    deform("mean of the taps", "averaged", ("values, weight", "values / 9, weight")),
    deform("offsets ignored", "change nothing", ("taps(offset)", "taps(0 * offset)")),
    deform("rounded", "rounded", ("taps(offset)", "taps(offset.round())")),
    deform("offsets detached", "no gradient reaches offset", ("taps(offset)", "taps(offset.detach())")),
    deform("float32 whatever x is", "x.new_zeros", ("    return torch", "    return 1.0 * torch"),
           ("bias[:, None, None]", "bias[:, None, None]).float()"), ("1.0 * torch", "(torch")),
    Wrong("convolution: on wrong taps", "deform_conv", "test_deform_conv", "part 3 is not right yet",
          TAPS.replace(" - 1", "") + DEFORM),
    deform("no gradient", "no gradient flows at all",
           ("values, weight", "values.detach(), weight.detach()"), ("+ bias", "+ bias.detach()")),
]  # fmt: skip
