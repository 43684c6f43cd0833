"""Mistakes of exercise 4. Each variant is the right solution but for what its name says."""

from . import Wrong, changed

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

TWICE = """
@shaped
def ious() -> tuple[float, float]:
    u, v, w = (cover(box) for box in checks.my_boxes(student).tolist())
    return tuple(float((u * other).sum() / (u + other).sum()) for other in (v, w))
"""


def decode(name: str, says: str, *changes: tuple[str, str]) -> Wrong:
    return Wrong(name, "decode", "test_decode", says, changed(DECODE, changes))


def iou(name: str, says: str, *changes: tuple[str, str]) -> Wrong:
    return Wrong(name, "box_iou", "test_box_iou", says, changed(IOU, changes))


def nms(name: str, says: str, *changes: tuple[str, str]) -> Wrong:
    return Wrong(name, "nms", "test_nms", says, changed(NMS, changes))


CORNERS = "torch.cat((centre - size / 2, centre + size / 2), 1)"
LIMITED = ".clamp(max=4.135166556742356)"
SIZED = "    a, b = (torch.cat((c[:, :2], c[:, :2] + c[:, 2:]), 1) for c in (a, b))\n    sides"
PLACES = "(scores.argsort(descending=True).argsort()[kept].tolist(),"
BY_CLASS = "(kept if classes is None else sorted(kept, key=lambda i: classes[i]),"
COPIED = """
student = "grace"


@shaped
def ious() -> tuple[float, float]:
    u, v, w = checks.my_boxes("ada").tolist()
    return tuple(box_iou(torch.tensor([u]), torch.tensor([v, w]))[0].tolist())
"""

WRONG = [
    decode("the upper left corner moves", "they move the centre", ("+ size / 2 + d", "+ d")),
    decode("1 + d", "e to the power of d times", (f"d[:, 2:]{LIMITED}.exp()", "(1 + d[:, 2:])")),
    decode("weights multiplied", "multiplied with the deltas", ("deltas / torch", "deltas * torch")),
    decode("no limit", "dw and dh are not limited", (LIMITED, "")),
    decode("all four limited, and before", "only dw and dh are", (LIMITED, ""), ("deltas / ", f"deltas{LIMITED} / ")),
    decode("centre and size", "centre and the size", (CORNERS, "torch.cat((centre, size), 1)")),
    decode("xywh", "xywh", (CORNERS, "torch.cat((centre - size / 2, size), 1)")),
    decode("in place", "changed the tensors", ("    d = deltas", "    deltas /= 1.5\n    d = 1.5 * deltas")),
    iou(
        "+ 1 at the edges",
        "off by one",
        ("b[:, :2])\n", "b[:, :2]) + 1\n"),
        ("(boxes[:, 2:] - boxes[:, :2])", "(boxes[:, 2:] - boxes[:, :2] + 1)"),
    ),
    iou("no clamp", "two negative sides", (".clamp(min=0)", "")),
    iou("the common part twice", "counted twice in the union", (" - both", "")),
    iou("xywh", "xywh", ("    sides", SIZED)),
    iou("0 / 0", "nan, 0 / 0", (".clamp(min=1e-12)", "")),
    iou("transposed", r"expected shape \(N, M\) = ", ("min=1e-12)", "min=1e-12).T")),
    nms("at the limit", "exactly the limit", ("> limit", ">= limit")),
    nms("places of the sorted list", "places in the sorted list", ("(kept,", PLACES)),
    nms("ascending indices", "in the wrong order", ("(kept,", "(sorted(kept),")),
    nms("classes ignored", "different classes suppress", ("if classes is None or classes[i] == classes[j]", "")),
    nms("class after class", "class after class", ("(kept,", BY_CLASS)),
    Wrong("copied", "by_hand", "test_by_hand", "yours are those of 'grace'", COPIED),
    Wrong("twos in both", "by_hand", "test_by_hand", "counted twice", TWICE),
]
