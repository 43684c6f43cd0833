"""Mistakes of exercise 4. Each variant is the right solution but for what its name says."""

from . import Wrong, changed, variants

DECODE = """
@shaped
def decode(
    boxes: Float[Tensor, "N 4"], deltas: Float[Tensor, "N 4"], weights: tuple[float, float, float, float]
) -> Float[Tensor, "N 4"]:
    size = boxes[:, 2:] - boxes[:, :2]
    d = deltas / torch.tensor(weights)
    centre = boxes[:, :2] + size / 2 + d[:, :2] * size
    size = size * d[:, 2:].clamp(max=4.135166556742356).exp()
    return torch.cat((centre - size / 2, centre + size / 2), 1)
"""

IOU = """
@shaped
def box_iou(a: Float[Tensor, "N 4"], b: Float[Tensor, "M 4"]) -> Float[Tensor, "N M"]:
    sides = torch.minimum(a[:, None, 2:], b[:, 2:]) - torch.maximum(a[:, None, :2], b[:, :2])
    both = sides.clamp(min=0).prod(2)
    area_a, area_b = ((boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (a, b))
    union = area_a[:, None] + area_b - both
    return both / union.clamp(min=1e-12)
"""

NMS = """
@shaped
def nms(
    boxes: Float[Tensor, "N 4"], scores: Float[Tensor, " N"], limit: float, classes: Int[Tensor, " N"] | None = None
) -> Int[Tensor, " K"]:
    iou = box_iou(boxes, boxes)
    kept = []
    for i in scores.argsort(descending=True).tolist():
        rivals = [j for j in kept if classes is None or classes[i] == classes[j]]
        if not any(iou[i, j] > limit for j in rivals):
            kept.append(i)
    return torch.tensor(kept, dtype=torch.int64)
"""

BY_HAND = """
@shaped
def ious() -> tuple[float, float]:
    u, v, w = checks.my_boxes(student).tolist()
    v, w = box_iou(torch.tensor([u]), torch.tensor([v, w]))[0].tolist()
    return v, w
"""

TWICE = """
@shaped
def ious() -> tuple[float, float]:
    u, v, w = (cover(box) for box in checks.my_boxes(student).tolist())
    return tuple(float((u * other).sum() / (u + other).sum()) for other in (v, w))
"""


decode = variants("decode", DECODE)
iou = variants("box_iou", IOU)
nms = variants("nms", NMS)


def by_hand(name: str, says: str, numbers: str) -> Wrong:
    return Wrong(name, "by_hand", "test_by_hand", says, changed(BY_HAND, [("return v, w", f"return {numbers}")]))


CORNERS = "torch.cat((centre - size / 2, centre + size / 2), 1)"
LIMITED = ".clamp(max=4.135166556742356)"
SIZED = "    a, b = (torch.cat((c[:, :2], c[:, :2] + c[:, 2:]), 1) for c in (a, b))\n    sides"
PLACES = "(scores.argsort(descending=True).argsort()[kept].tolist(),"
BY_CLASS = "(kept if classes is None else sorted(kept, key=lambda i: classes[i]),"
COPIED = 'student = "grace"\n' + changed(BY_HAND, [("(student)", '("ada")')])
PLUS_ONE = (
    ("b[:, :2])\n", "b[:, :2]) + 1\n"),
    ("(boxes[:, 2:] - boxes[:, :2])", "(boxes[:, 2:] - boxes[:, :2] + 1)"),
)
BY_SMALLER = "both / union", "both / torch.minimum(area_a[:, None], area_b)"
MEND_FIRST = "box_iou of part 2 is not right"

WRONG = [
    iou("no union below 1", "may be smaller than a pixel", ("min=1e-12", "min=1")),
    decode(
        "one weight an axis",
        r"the weights .10, 8, 5, 4.",
        ("torch.tensor(weights)", "torch.tensor(weights)[[0, 0, 2, 2]]"),
    ),
    nms(
        "classes left unsorted",
        "NMS of four boxes of the classes",
        ("    iou = ", "    order = scores.argsort(descending=True)\n    boxes = boxes[order]\n    iou = "),
        ("in scores.argsort(descending=True).tolist()", "in range(len(boxes))"),
        ("torch.tensor(kept, dtype=torch.int64)", "order[torch.tensor(kept, dtype=torch.int64)]"),
    ),
    nms(
        "a hundred pixels between classes",
        "large boxes",
        ("    iou = ", "    boxes = boxes if classes is None else boxes + 100 * classes[:, None]\n    iou = "),
        (" if classes is None or classes[i] == classes[j]", ""),
    ),
    nms(
        "nothing below 0", "logits below 0", ("    return", "    kept = [i for i in kept if scores[i] > 0]\n    return")
    ),
    decode("the upper left corner moves", "they move the centre", ("+ size / 2 + d", "+ d")),
    decode("1 + d", "e to the power of d times", (f"d[:, 2:]{LIMITED}.exp()", "(1 + d[:, 2:])")),
    decode("no exp", "exponential is missing", (".exp()", "")),
    decode("new sides", "moved by the new sides", ("d[:, :2] * size", f"d[:, :2] * size * d[:, 2:]{LIMITED}.exp()")),
    decode("dx in heights", "dx goes with the width", ("d[:, :2] * size", "d[:, :2] * size.flip(1)")),
    decode("sides + 1", "off by one: .* a side is x1 - x0$", ("- boxes[:, :2]\n", "- boxes[:, :2] + 1\n")),
    decode(
        "sides + 1, but not for the centre",
        "your centre is right",
        ("- boxes[:, :2]\n", "- boxes[:, :2] + 1\n"),
        ("boxes[:, :2] + size / 2", "(boxes[:, :2] + boxes[:, 2:]) / 2"),
    ),
    decode("small ones limited", "small dw and dh were limited", ("clamp(max=4", "clamp(-4.135166556742356, 4")),
    decode("weights multiplied", "multiplied with the deltas", ("deltas / torch", "deltas * torch")),
    decode("no limit", "dw and dh are not limited", (LIMITED, "")),
    decode("all four limited, and before", "only dw and dh are", (LIMITED, ""), ("deltas / ", f"deltas{LIMITED} / ")),
    decode("centre and size", "centre and the size", (CORNERS, "torch.cat((centre, size), 1)")),
    decode("xywh", "xywh", (CORNERS, "torch.cat((centre - size / 2, size), 1)")),
    decode(
        "in place",
        "changed the deltas that it was given",
        ("    d = deltas", "    deltas /= 1.5\n    d = 1.5 * deltas"),
    ),
    iou("+ 1 at the edges", "off by one at the edges: ", *PLUS_ONE),
    iou("+ 1 at the intersection", "edges of the intersection", PLUS_ONE[0]),
    iou("+ 1 at the areas", "edges of both areas", PLUS_ONE[1]),
    iou("the product clamped", "not the product", ("sides.clamp(min=0).prod(2)", "sides.prod(2).clamp(min=0)")),
    iou("by the smaller area", "smaller of the two", BY_SMALLER),
    iou("no clamp", "two negative sides", (".clamp(min=0)", "")),
    iou("the common part twice", "counted twice in the union", (" - both", "")),
    iou("xywh", "xywh", ("    sides", SIZED)),
    iou("0 / 0", "nan, 0 / 0", (".clamp(min=1e-12)", "")),
    iou("transposed", r"expected shape \(N, M\) = ", ("min=1e-12)", "min=1e-12).T")),
    nms("those that overlap kept", "the other way round", ("> limit", "< limit")),
    nms("not sorted", "order they were given", ("scores.argsort(descending=True).tolist()", "range(len(boxes))")),
    nms("lowest first", "lowest score", ("descending=True", "descending=False")),
    nms("classes=None forgotten", r"classes = None \(all are rivals\): TypeError", ("classes is None or ", "")),
    Wrong("nms on a box_iou with + 1", "box_iou", "test_nms", MEND_FIRST, changed(IOU, PLUS_ONE)),
    Wrong("nms on a box_iou by the smaller", "box_iou", "test_nms", MEND_FIRST, changed(IOU, [BY_SMALLER])),
    nms("at the limit", "exactly the limit", ("> limit", ">= limit")),
    nms("places of the sorted list", "places in the sorted list", ("(kept,", PLACES)),
    nms("ascending indices", "in the wrong order", ("(kept,", "(sorted(kept),")),
    nms("classes ignored", "different classes suppress", ("if classes is None or classes[i] == classes[j]", "")),
    nms("class after class", "class after class", ("(kept,", BY_CLASS)),
    Wrong("copied", "by_hand", "test_by_hand", "yours are those of 'grace'", COPIED),
    by_hand("two digits", "4 / 12 and not 0.33", "round(v, 2), round(w, 2)"),
    by_hand("one of them a fraction", "rounded", "v, round(w, 2)"),
    by_hand("per cent", "per cent", "100 * v, 100 * w"),
    by_hand("whole per cent", "per cent", "float(round(100 * v)), float(round(100 * w))"),
    by_hand("exchanged", "exchanged", "w, v"),
    Wrong("twos in both", "by_hand", "test_by_hand", "counted twice", TWICE),
]
