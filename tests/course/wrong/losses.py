"""Mistakes of exercise 7. Each variant is the right solution but for what its name says."""

from . import variants

CROP = """
@shaped
def roi_target(semantic: Int[Tensor, "H W"], boxes: Float[Tensor, "R 4"], size: int) -> Int[Tensor, "R S S"]:
    height, width = semantic.shape
    places = (torch.arange(size) + 0.5) / size
    x0, y0, x1, y1 = boxes.unbind(1)
    rows = (y0[:, None] + (y1 - y0)[:, None] * places).floor().long().clamp(0, height - 1)
    columns = (x0[:, None] + (x1 - x0)[:, None] * places).floor().long().clamp(0, width - 1)
    return semantic[rows[:, :, None], columns[:, None, :]]
"""

LOSS = """
@shaped
def roi_loss(
    x: Float[Tensor, "C h w"], boxes: Float[Tensor, "R 4"], target: Int[Tensor, "R 28 28"]
) -> Float[Tensor, ""]:
    rois = torch.cat((torch.zeros(len(boxes), 1), boxes), 1)
    crops = roi_align(x[None], rois, 28, 0.25, sampling_ratio=1, aligned=True)
    own = crops.log_softmax(1).gather(1, target.clamp(min=0)[:, None])[:, 0]
    own = torch.where(target == IGNORE, 0.0, own)
    return -own.sum() / (target != IGNORE).sum().clamp(min=1)
"""

TARGET = """
@shaped
def panoptic_target(
    semantic: Int[Tensor, "H W"], masks: Bool[Tensor, "N_inst H W"], keep: Int[Tensor, " N_kept"], num_stuff: int
) -> Int[Tensor, "H W"]:
    target = semantic.clone()
    target[semantic >= num_stuff] = num_stuff + len(keep)
    for j, i in enumerate(keep.tolist()):
        target[masks[i]] = num_stuff + j
    return target
"""

TOTAL = """
@shaped
def total(losses: dict[str, Float[Tensor, ""]], weights: dict[str, float]) -> Float[Tensor, ""]:
    for name in set(losses) ^ set(weights):
        raise ValueError(f"{name} has no counterpart")
    return sum(weights[name] * losses[name] for name in losses)
"""


crop = variants("roi_target", CROP)
loss = variants("roi_loss", LOSS)
target = variants("panoptic_target", TARGET)
total = variants("total", TOTAL)
ALL_THINGS, UNKNOWN = "target[semantic >= num_stuff] = ", "num_stuff + len(keep)"
NAMED = """    for name in set(losses) ^ set(weights):
        raise ValueError(f"{name} has no counterpart")
"""
ADDED = "sum(weights[name] * losses[name] for name in losses)"

WRONG = [
    crop("corners of the cells", "upper left corner of each cell", ("+ 0.5", "+ 0.0")),
    crop("rounded", "was rounded", (".floor()", ".round()")),
    crop("x and y swapped", "rows were read from x", ("x0, y0, x1, y1 = ", "y0, x0, y1, x1 = ")),
    crop("not clamped below", "counts from the other end", (".clamp(0, ", ".clamp(-9, ")),
    crop("not clamped", "clamp rows and columns", (".clamp(0, height - 1)", "")),
    crop("from edge to edge", "from edge to edge", ("(torch.arange(size) + 0.5) / size", "torch.linspace(0, 1, size)")),
    crop(
        "IGNORE outside",
        "outside of the map stands IGNORE",
        (
            "    height, width = semantic.shape\n",
            "    semantic, boxes = torch.nn.functional.pad(semantic, (50, 50, 50, 50), value=IGNORE), boxes + 50\n"
            "    height, width = semantic.shape\n",
        ),
    ),
    crop(
        "the box cut first",
        "divide it whole",
        ("boxes.unbind(1)", "boxes.clamp(torch.zeros(4), torch.tensor([width, height] * 2)).unbind(1)"),
    ),
    loss(
        "e to the power",
        "too large for a float",
        ("crops.log_softmax(1)", "(crops.exp() / crops.exp().sum(1, True)).log()"),
    ),
    loss("the scale turned over", "turned over", ("28, 0.25", "28, 4.0")),
    loss("class 0 left out", "0 is a class", ("target == IGNORE", "target <= 0"), ("target != IGNORE", "target > 0")),
    loss(
        "the number of the image at the end",
        "fails on the RoI loss of three boxes",
        ("(torch.zeros(len(boxes), 1), boxes)", "(boxes, torch.zeros(len(boxes), 1))"),
    ),
    loss("divided by all cells", "wrong count", ("(target != IGNORE).sum().clamp(min=1)", "target.numel()")),
    loss(
        "IGNORE as class 0",
        "counted as class 0",
        ("target == IGNORE, 0.0, own", "target == IGNORE, own, own"),
        ("(target != IGNORE).sum().clamp(min=1)", "max(1, target.numel())"),
    ),
    loss("softmax over the boxes", "wrong axis: over the boxes", ("log_softmax(1)", "log_softmax(0)")),
    loss("softmax over the columns", "wrong axis: over the columns", ("log_softmax(1)", "log_softmax(-1)")),
    loss("softmax twice", "softmax twice", ("crops.log", "crops.softmax(1).log")),
    loss("0 / 0", "is nan", (".clamp(min=1)\n", "\n")),
    loss("no scale", "scale is missing", ("28, 0.25", "28, 1.0")),
    loss("not aligned", "half a pixel off", ("aligned=True", "aligned=False")),
    loss("no gradient", "lost its gradient", ("return -own.sum()", "return -own.sum().detach()")),
    target("the unknown channel of all instances", "number of ALL instances", (UNKNOWN, "num_stuff + len(masks)")),
    target("numbered before leaving out", "before some were left out", ("num_stuff + j", "num_stuff + i")),
    target("left out, and no target", "teach the unknown channel", (UNKNOWN, "IGNORE")),
    target("left out, and its class stays", "keep the class index", (f"{ALL_THINGS}{UNKNOWN}", "pass")),
    target(
        "unlabelled becomes unknown",
        "IGNORE stays IGNORE",
        ("[semantic >= num_stuff]", "[(semantic >= num_stuff) | (semantic < 0)]"),
    ),
    target("unknown off by one", "off by one", (UNKNOWN, "num_stuff + len(keep) + 1")),
    target("the first masks", "not masks.j.", ("target[masks[i]]", "target[masks[j]]")),
    target("things begin too late", ">= and not >", (ALL_THINGS, "target[semantic > num_stuff] = ")),
    target(
        "unknown at the end",
        "write unknown first",
        (f"    {ALL_THINGS}{UNKNOWN}\n", ""),
        ("    return", f"    target[(target == semantic) & (semantic >= num_stuff)] = {UNKNOWN}\n    return"),
    ),
    target("in place", "semantic map was changed", ("semantic.clone()", "semantic")),
    target("bytes", "expected shape", ("return target", "return target.to(torch.uint8)")),
    total(
        "counted, not compared",
        "bare KeyError",
        ("for name in set(losses) ^ set(weights):", "if len(losses) != len(weights):"),
        ("{name} has", "loss_mask has"),
    ),
    total("all names", "both sides hold", ("{name} has no counterpart", "{set(losses)} {set(weights)}")),
    total("emptied", "changed a dict", (ADDED, "sum(weights[name] * losses.pop(name) for name in list(losses))")),
    total("a mean", "mean of the weighted", (ADDED, f"{ADDED} / 8")),
    total("by position", "by position", (ADDED, "sum(w * v for w, v in zip(weights.values(), losses.values()))")),
    total(
        "a missing loss is 0",
        "as if nothing were wrong",
        (NAMED, ""),
        ("for name in losses", "for name in weights if name in losses"),
    ),
    total("the RoI loss twice scaled", "scaled twice", (ADDED, f'{ADDED} - 0.8 * 0.04 * losses["loss_roi_semantic"]')),
]
