"""What learners write for exercise 5."""

from wrong import Wrong

EDGES = """@shaped
def edges(box: Float[Tensor, "4"]) -> tuple[int, int, int, int]:
    x0, y0, x1, y1 = box.tolist()
    {0}
"""

X_MASK = """@shaped
def x_mask(
    x_thing: Float[Tensor, "N_thing H W"], boxes: Float[Tensor, "N_inst 4"], classes: Int[Tensor, " N_inst"]
) -> Float[Tensor, "N_inst H W"]:
    masks = x_thing.new_zeros(len(boxes), *x_thing.shape[1:])
    for i, (box, c) in enumerate(zip(boxes, classes)):
        {0}
    return {1}
"""

Y_MASK = """@shaped
def y_mask(
    mask_logits: Float[Tensor, "N_inst h w"], boxes: Float[Tensor, "N_inst 4"], size: tuple[int, int]
) -> Float[Tensor, "N_inst H W"]:
    masks = mask_logits.new_zeros(len(boxes), *size)
    for y, mask, box in zip(mask_logits.detach() if {detach} else mask_logits, masks, boxes):
        x0, y0, x1, y1 = edges(box)
        l, t, r, b = max(x0, 0), max(y0, 0), min(x1, size[1]), min(y1, size[0])
        if r > l and b > t:
            {0}
    return masks
"""


def edges(name: str, says: str, line: str) -> Wrong:
    return Wrong(name, "edges", "test_edges", says, EDGES.format(line))


def x_mask(name: str, says: str, lines: str, returns: str = "masks") -> Wrong:
    return Wrong(name, "x_mask", "test_x_mask", says, X_MASK.format(lines.replace("\n", "\n        "), returns))


def y_mask(name: str, says: str, lines: str, detach: bool = False) -> Wrong:
    code = Y_MASK.format(lines.replace("\n", "\n            "), detach=detach)
    return Wrong(name, "y_mask", "test_y_mask", says, code)


CUT = "l, t, r, b = (max(e, 0) for e in edges(box))\n"
COPY = "masks[i, t:b, l:r] = x_thing[c, t:b, l:r]"
RESIZE = "F.interpolate(y[None, None], (y1 - y0, x1 - x0), mode={0})[0, 0]"
PASTE = "\nmask[t:b, l:r] = resized[t - y0 : b - y0, l - x0 : r - x0]"
BILINEAR = "resized = " + RESIZE.format('"bilinear"')

WRONG = [
    edges("x1 floored", "ceil, not floor", "return math.floor(x0), math.floor(y0), math.floor(x1), math.floor(y1)"),
    edges(
        "x1 inclusive", "exclusive.*add 1", "return int(x0 // 1), int(y0 // 1), math.ceil(x1) + 1, math.ceil(y1) + 1"
    ),
    edges("rounded", "rounded", "return round(x0), round(y0), round(x1), round(y1)"),
    edges("int()", "int.. cuts towards 0", "return int(x0), int(y0), math.ceil(x1), math.ceil(y1)"),
    edges(
        "no extent forgotten", "without extent", "return math.floor(x0), math.floor(y0), math.ceil(x1), math.ceil(y1)"
    ),
    edges(
        "clipped at 0",
        "keep the edges of the whole box",
        "return max(math.floor(x0), 0), max(math.floor(y0), 0), math.ceil(x1), math.ceil(y1)",
    ),
    edges(
        "a turned box covers something",
        "without extent",
        "whole = math.floor(x0), math.floor(y0), math.ceil(x1), math.ceil(y1)\n"
        "    return whole if x1 != x0 and y1 != y0 else (0, 0, 0, 0)",
    ),
    edges("returns a list", r"returned a list of 4, expected a tuple of 4, \(a, b, c, d\)", "return [0, 0, 1, 1]"),
    x_mask(
        "one pixel too far",
        "one pixel too far",
        CUT + "masks[i, t : b + 1, l : r + 1] = x_thing[c, t : b + 1, l : r + 1]",
    ),
    x_mask("the start alone is cut", "negative end", "l, t, r, b = edges(box)\nl, t = max(l, 0), max(t, 0)\n" + COPY),
    x_mask("class i", "instance i shows", CUT + "c = i\n" + COPY),
    x_mask("class 0", "shows class 0", CUT + "c = 0\n" + COPY),
    x_mask("classes from 1", "class before its own", CUT + "c = c - 1\n" + COPY),
    x_mask(
        "background shift",
        "class after its own",
        CUT + "c = min(c + 1, len(x_thing) - 1)\n" + COPY,
    ),
    x_mask("rows and columns swapped", "swapped", CUT + "l, t, r, b = t, l, b, r\n" + COPY),
    x_mask("negative start", "counts from the end", "l, t, r, b = edges(box)\n" + COPY),
    x_mask("not cut", "nothing is cut", "masks[i] = x_thing[c]"),
    x_mask("-inf outside", "-inf", CUT + "masks[i] = -torch.inf\n" + COPY),
    x_mask("stack of nothing", "no instance at all", CUT + COPY, "torch.stack(list(masks))"),
    y_mask("align_corners", "align_corners=True", BILINEAR.replace("mode=", "align_corners=True, mode=") + PASTE),
    y_mask("nearest", "in blocks", "resized = " + RESIZE.format('"nearest"') + PASTE),
    y_mask(
        "crop before resize",
        "resize to the whole box first",
        'mask[t:b, l:r] = F.interpolate(y[None, None], (b - t, r - l), mode="bilinear")[0, 0]',
    ),
    y_mask("sigmoid", "no sigmoid", BILINEAR + PASTE.replace("resized[", "resized.sigmoid()[")),
    y_mask(
        "whole map", "spread over the whole map", 'mask[:] = F.interpolate(y[None, None], size, mode="bilinear")[0, 0]'
    ),
    y_mask("antialias", "without antialias", BILINEAR.replace("mode=", "antialias=True, mode=") + PASTE),
    y_mask("stray pixels", "outside the box of instance 0.*paste before", BILINEAR + PASTE + "\nmask[:, -1] = 1"),
    y_mask("no gradient", "no gradient reaches mask_logits", BILINEAR + PASTE, detach=True),
]
