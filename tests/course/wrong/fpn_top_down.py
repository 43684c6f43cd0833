"""Wrong solutions of exercise 3, each a mistake that learners make."""

from . import Wrong, changed

LATERAL = """@shaped
def lateral(
    res: Float[Tensor, "C_in H W"], weight: Float[Tensor, "C C_in"], bias: Float[Tensor, "C"]
) -> Float[Tensor, "C H W"]:
    return torch.einsum("oi,ihw->ohw", weight, res) + bias[:, None, None]
"""
ENLARGE = """@shaped
def enlarge(coarse: Float[Tensor, "C h w"], size: tuple[int, int]) -> Float[Tensor, "C H W"]:
    (_, h, w), (height, width) = coarse.shape, size
    rows = torch.arange(height) * h // height
    columns = torch.arange(width) * w // width
    return coarse[:, rows][:, :, columns]
"""
TOP_DOWN = """@shaped
def top_down(laterals: list[Float[Tensor, "C _ _"]]) -> list[Float[Tensor, "C _ _"]]:
    top = [laterals[-1]]
    for finer in reversed(laterals[:-1]):
        top.insert(0, finer + enlarge(top[0], tuple(finer.shape[1:])))
    return top
"""
LEVEL = """@shaped
def roi_level(boxes: Float[Tensor, "R 4"], canonical: float) -> Int[Tensor, "R"]:
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    side = (width * height).sqrt()
    return (4 + torch.log2(side / canonical)).floor().clamp(2, 5).long()
"""
PARTS = {"lateral": LATERAL, "enlarge": ENLARGE, "top_down": TOP_DOWN, "roi_level": LEVEL}
ROUNDED = """def enlarge(coarse, size):
    rows, columns = ((torch.arange(m) * n / m).round().long().clamp(max=n - 1) for m, n in zip(size, coarse.shape[1:]))
    return coarse[:, rows][:, :, columns]
"""
NEIGHBOURS = """def top_down(laterals):
    pairs = zip(laterals, laterals[1:])
    return [a + enlarge(b, tuple(a.shape[1:])) for a, b in pairs] + laterals[-1:]
"""
FROM_THE_TOP = """def top_down(laterals):
    return [a + enlarge(laterals[-1], tuple(a.shape[1:])) for a in laterals[:-1]] + laterals[-1:]
"""
CUT = """def enlarge(coarse, size):
    many = [-(-m // n) for m, n in zip(size, coarse.shape[1:])]  # rounded up
    return coarse.repeat_interleave(many[0], 1).repeat_interleave(many[1], 2)[:, : size[0], : size[1]]
"""
UPWARD = """def top_down(laterals):
    top = laterals[:1]
    for coarser in laterals[1:]:
        top.append(coarser + enlarge(top[-1], tuple(coarser.shape[1:])))
    return top
"""
IN_THE_LIST = """def top_down(laterals):
    for i in range(len(laterals) - 2, -1, -1):
        laterals[i] = laterals[i] + enlarge(laterals[i + 1], tuple(laterals[i].shape[1:]))
    return laterals
"""
IN_PLACE = """def top_down(laterals):
    for i in range(len(laterals) - 2, -1, -1):
        laterals[i] += enlarge(laterals[i + 1], tuple(laterals[i].shape[1:]))
    return laterals
"""


def wrong(part: str, name: str, says: str, *changes: tuple[str, str]) -> Wrong:
    return Wrong(f"{part}: {name}", part, f"test_{part}", says, changed(PARTS[part], changes))


def resized(name: str, says: str, options: str) -> Wrong:
    code = f"    return torch.nn.functional.interpolate(coarse[None], {options})[0]\n"
    return Wrong(f"enlarge: {name}", "enlarge", "test_enlarge", says, ENLARGE[: ENLARGE.index("    (_")] + code)


def viewed(name: str, says: str, code: str) -> Wrong:
    head = LATERAL[: LATERAL.index("    return")]
    return Wrong(f"lateral: {name}", "lateral", "test_lateral", says, f"{head}    return {code}\n")


def walk(name: str, says: str, code: str) -> Wrong:
    return Wrong(f"top_down: {name}", "top_down", "test_top_down", says, code)


WRONG = [
    wrong("enlarge", "one channel for all", "shows the first one",
          ("coarse[:, rows]", "coarse[:1].expand_as(coarse)[:, rows]")),
    wrong("enlarge", "h and w exchanged", "are exchanged", ("(_, h, w)", "(_, w, h)"),
          ("rows]", "rows.clamp(max=w - 1)]")),
    wrong("enlarge", "h for both", "they have w", ("* w // width", "* h // width")),
    wrong("lateral", "no bias", "bias is missing", (" + bias[:, None, None]", "")),
    wrong("lateral", "transposed", "transposed", ('"oi,', '"io,')),
    wrong("lateral", "a ReLU", "ReLU",
            ("    return torch", "    return torch.relu(torch"), ("None, None]", "None, None])")),
    wrong("lateral", "the bias summed over the inputs", "once per input channel", ("+ bias", "+ len(res) * bias")),
    wrong("lateral", "no mixing", "weighted by itself",
            ('torch.einsum("oi,ihw->ohw", weight, res)', "weight.diagonal()[:, None, None] * res")),
    viewed("viewed on the way in", "channels last, before you view",
            "(res.reshape(-1, len(res)) @ weight.T + bias).T.reshape(-1, *res.shape[1:])"),
    viewed("viewed on the way in and out", r"permute\(2, 0, 1\) at the end",
            "(res.reshape(-1, len(res)) @ weight.T + bias).reshape(-1, *res.shape[1:])"),
    viewed("viewed on the way out", "transpose first",
            "(res.permute(1, 2, 0) @ weight.T + bias).reshape(-1, *res.shape[1:])"),
    wrong("lateral", "the last axes in the wrong order", r"expected shape \(C, H, W\) = \(3, 5, 4\)",
            ("->ohw", "->owh")),
    wrong("enlarge", "tiles", "as tiles", ("* h // height", "% h"), ("* w // width", "% w")),
    resized("bilinear", "this is bilinear, which", 'size, mode="bilinear"'),
    resized("align_corners", "align_corners=True", 'size, mode="bilinear", align_corners=True'),
    resized("nearest-exact", "nearest-exact", 'size, mode="nearest-exact"'),
    resized("always twice", "which is 6 × 6", 'scale_factor=2, mode="nearest"'),
    resized("width before height", "height and width are exchanged", 'size[::-1], mode="nearest"'),
    Wrong("enlarge: repeated and cut", "enlarge", "test_enlarge", "copied equally often", CUT),
    Wrong("enlarge: rounded up", "enlarge", "test_enlarge", "source was rounded up", ROUNDED.replace("round", "ceil")),
    Wrong("enlarge: rounded", "enlarge", "test_enlarge", "source was rounded;", ROUNDED),
    walk("only the neighbour", r"the next coarser \*sum\*", NEIGHBOURS),
    walk("only the coarsest", "walk down level by level", FROM_THE_TOP),
    walk("upwards", "you walked up", UPWARD),
    walk("into the list", "changed the list", IN_THE_LIST),
    walk("in place", "adds in place", IN_PLACE),
    wrong("top_down", "coarsest first", "begin with the finest", ("return top", "return top[::-1]")),
    wrong("top_down", "without the coarsest", "coarsest is one of them", ("return top", "return top[:-1]")),
    wrong("top_down", "nothing added", "the lateral alone", ("finer + enlarge", "finer + 0 * enlarge")),
    wrong("top_down", "no lateral", "without the lateral", ("finer + enlarge", "enlarge")),
    wrong("top_down", "the coarsest twice", "nothing to add", ("= [laterals[-1]]", "= [2 * laterals[-1]]")),
    wrong("roi_level", "rounded", "nearest level", (".floor()", ".round()")),
    wrong("roi_level", "rounded up", "ceil", (".floor()", ".ceil()")),
    wrong("roi_level", "no root", "square root", (".sqrt()", "")),
    wrong("roi_level", "natural logarithm", "log2", ("torch.log2", "torch.log")),
    wrong("roi_level", "xywh", "x0, y0, x1, y1", (" - boxes[:, 0]", ""), (" - boxes[:, 1]", "")),
    wrong("roi_level", "always 224", "224", ("side / canonical", "side / 224")),
    wrong("roi_level", "the longer side", "longer side", ("(width * height).sqrt()", "torch.maximum(width, height)")),
    wrong("roi_level", "the mean side", "mean of both", ("(width * height).sqrt()", "(width + height) / 2")),
    wrong("roi_level", "no limits", "above 5 do not exist", (".clamp(2, 5)", "")),
    wrong("roi_level", "a place in the list", "2 more", ("clamp(2, 5).long()", "clamp(2, 5).long() - 2")),
    wrong("roi_level", "the wrong way", "sign is wrong", ("4 + torch", "4 - torch")),
    wrong("roi_level", "canonical for P2", "not to level 2", ("4 + torch", "2 + torch")),
    wrong("roi_level", "floats", r"expected shape \(R,\) = \(10,\), an int tensor", (".long()", "")),
]  # fmt: skip
