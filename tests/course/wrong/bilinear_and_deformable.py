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
    bilinear("half a pixel", "half a pixel", ("    r0, c0", "    row, column = row - 0.5, column - 0.5\n    r0, c0")),
    bilinear("the border repeated", "repeats the border", (" * inside", "")),
    bilinear("clamped places", "moved onto it",
             ("    r0, c0", "    row, column = row.clamp(0, height - 1), column.clamp(0, width - 1)\n    r0, c0")),
    bilinear("long() cuts", "cut towards 0", ("row.floor(), column.floor()", "row.long(), column.long()")),
    bilinear("no guard at all", "IndexError",
             ("x[:, r.clamp(0, height - 1).long(), c.clamp(0, width - 1).long()]", "x[:, r.long(), c.long()]")),
    bilinear("float32 whatever x is", "x.new_zeros", ("    out = 0", "    out = torch.zeros(len(x), len(row))"),
             ("out = out +", "out +=")),
    bilinear("transposed", r"returned shape \(4, 2\), float32, expected shape \(C, P\) = \(2, 4\)",
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
    gradient("half a pixel to both sides", "step of a pixel around",
             ("r0 + 1, column) - bilinear(x, r0, column)", "row + 0.5, column) - bilinear(x, row - 0.5, column)"),
             ("row, c0 + 1) - bilinear(x, row, c0)", "row, column + 0.5) - bilinear(x, row, column - 0.5)")),
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
