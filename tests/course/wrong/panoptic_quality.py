"""Wrong solutions of exercise 1, each a mistake that learners make."""

from . import Wrong

IOU = """@shaped
def pairwise_iou(overlap: Int[Tensor, "G_void P_void"]) -> Float[Tensor, "G P"]:
    both, g = overlap[1:, 1:], overlap.sum(1)[1:, None]
    p, all_p, seen = overlap[1:].sum(0)[1:], overlap.sum(0)[1:], both.sum(1)[:, None]
    return {}
"""
MATCH = """@shaped
def match(
    iou: Float[Tensor, "G P"], gt_class: Int[Tensor, "G"], pred_class: Int[Tensor, "P"], crowd: Bool[Tensor, "G"]
) -> Bool[Tensor, "G P"]:
    return {}
"""
EXCUSED = """def excused(overlap, gt_class, pred_class, crowd):
    same = gt_class[:, None] == pred_class
    void, on, size = overlap[0, 1:], overlap[1:, 1:], overlap.sum(0)[1:]
    return {}
"""
QUALITY = """def quality(iou, match, excused, gt_class, pred_class, crowd, num_classes):
    {begin}
    rows, half = [], {half}
    for c in range(num_classes):
        true, predicted = (gt_class == c) & {no_crowd}, pred_class == c
        tp = {tp}
        fn = int((true & {missed}).sum())
        fp = int((predicted & {unmatched} & {counts}).sum()){less}
        total = float(({iou})[true].sum())
        if {occurs}:
            sq, rq = {sq}, {rq}
            rows.append((sq * rq, sq, rq))
    mean = {mean} if rows else {empty}
    return {result}
"""
RIGHT = dict(
    no_crowd="~crowd", less="", counts="~excused", unmatched="~match.any(0)", missed="~match.any(1)", iou="iou * match",
    occurs="tp + fp + fn",
    begin="", tp="int(match[true].sum())", rq="tp / max(tp + half * (fp + fn), 1e-9)",
    mean="torch.tensor(rows).mean(0)", sq="total / max(tp, 1)", half="0.5", empty="torch.full((3,), torch.nan)",
    result="100 * mean",
)  # fmt: skip


def ids(name: str, says: str, returned: str) -> Wrong:
    code = f"def segment_ids(rgb):\n    r, g, b = rgb.unbind(-1)\n    return {returned}"
    return Wrong(name, "segment_ids", "test_segment_ids", says, code)


def one(part: str, template: str, name: str, says: str, returned: str) -> Wrong:
    return Wrong(name, part, f"test_{part}", says, template.format(returned))


def quality(name: str, says: str, **wrong: str) -> Wrong:
    return Wrong(name, "quality", "test_quality", says, QUALITY.format(**{**RIGHT, **wrong}))


def by_hand(name: str, says: str, returned: str) -> Wrong:
    code = f"def my_pq():\n    q = checks.my_quality(variant.seed({returned[1]!r}))\n    return {returned[0]}"
    return Wrong(name, "my_pq", "test_my_pq", says, code)


COPIED = """student = "grace"  # hers, with the answer of ada


def my_pq():
    return checks.my_quality(variant.seed("ada")).pq
"""

WRONG = [
    Wrong("by hand: copied", "my_pq", "test_my_pq", "yours are those of 'grace'", COPIED),
    by_hand("by hand: rounded", "let Python divide", ("round(q.pq, 1)", "ada")),
    by_hand("by hand: a share, not per cent", "per cent is asked", ("q.pq / 100", "ada")),
    by_hand("by hand: mean SQ times mean RQ", "class by class", ("q.sq * q.rq / 100", "ada")),
    by_hand("by hand: the mean over all twelve classes", "you divide by 12", ("q.pq * 5 / 12", "ada")),
    by_hand("by hand: the mean over the classes of the truth", "you divide by 4", ("q.pq * 5 / 4", "ada")),
    by_hand("by hand: void in the unions", "void counts in your unions",
            ("checks.pq_of(checks.my_maps(variant.seed('ada')), void_counts=True)", "ada")),
    by_hand("by hand: whatever overlaps matches", "one FP and one FN",
            ("checks.pq_of(checks.my_maps(variant.seed('ada')), least=0.3)", "ada")),
    ids("ids: summed in bytes", "taken in bytes .uint8", "r + 256 * g + 65536 * b"),
    ids("ids: int16 is too short", "int16 ends", "r.short() + 256 * g.short() + 65536 * b.int().short()"),
    ids("ids: no blue", "blue got lost", "r.int() + 256 * g.int()"),
    ids("ids: colours on the first axis", "colours are its last axis", "rgb[0].int() + 256 * rgb[1] + 65536 * rgb[2]"),
    ids("ids: blue 256 times", "256² · B", "r.int() + 256 * g.int() + 256 * b.int()"),
    ids("ids: blue first", "red and blue are exchanged", "b.int() + 256 * g.int() + 65536 * r.int()"),
    ids("ids: base 255", "base 255", "r.int() + 255 * g.int() + 255 ** 2 * b.int()"),
    one("pairwise_iou", IOU, "IoU: void in the union", "void counts in your unions", "both / (g + all_p - both)"),
    one("pairwise_iou", IOU, "IoU: share of the truth", "intersection / true segment", "both / g"),
    one("pairwise_iou", IOU, "IoU: share of the answer", "intersection / predicted segment", "both / all_p"),
    one("pairwise_iou", IOU, "IoU: the intersection twice", "twice in your unions", "both / (g + p)"),
    one("pairwise_iou", IOU, "IoU: Dice", "Dice", "2 * both / (g + p)"),
    one("pairwise_iou", IOU, "IoU: with void and unknown", "leave row 0 and column 0 out",
        "overlap / (overlap.sum(1, True) + overlap.sum(0) - overlap).clamp(min=1)"),
    one("pairwise_iou", IOU, "IoU: the table overwritten", "changed the overlap that it was given",
        "both / (g + p - both).clamp(min=1) + 0 * overlap[0].zero_().sum()"),
    one("pairwise_iou", IOU, "IoU: turned around", "turned around", "(both / (g + p - both).clamp(min=1)).T"),
    one("pairwise_iou", IOU, "IoU: sizes on the wrong axes", r"rows want the axes \(G, 1\)",
        "both / (g.T + p[:, None] - both).clamp(min=1)"),
    one("pairwise_iou", IOU, "IoU: an empty union", "0 / 0", "both / (g + p - both)"),
    one("pairwise_iou", IOU, "IoU: the unknown pixels left out", "unknown pixels .column 0. belong to",
        "both / (seen + p - both).clamp(min=1)"),
    one("pairwise_iou", IOU, "IoU: row 0 in, column 0 out", "the other way round",
        "both / (seen + all_p - both).clamp(min=1)"),
    one("match", MATCH, "match: classes by place", "place by place",
        "(iou > 0.5) & (gt_class == pred_class) & ~crowd[:, None]"),
    one("match", MATCH, "match: crowd along the columns", "the rows",
        "(iou > 0.5) & (gt_class[:, None] == pred_class) & ~crowd"),
    one("match", MATCH, "match: classes and crowd by place", "place by place",
        "(iou > 0.5) & (gt_class == pred_class) & ~crowd"),
    one("match", MATCH, "match: the best of each row", "best of its row is not enough",
        "(iou == iou.amax(1, True)) & (iou > 0) & (gt_class[:, None] == pred_class) & ~crowd[:, None]"),
    one("match", MATCH, "match: turned around", "the rows are the truth",
        "(iou > 0.5) & (gt_class == pred_class[:, None]) & ~crowd[:, None]"),
    one("match", MATCH, "match: no class that has a crowd", "because its class has a crowd, too",
        "(iou > 0.5) & (gt_class[:, None] == pred_class) & ~torch.isin(pred_class, gt_class[crowd])"),
    one("match", MATCH, "match: iou overwritten", "changed the iou that it was given",
        "iou.mul_(~crowd[:, None]).gt(0.5) & (gt_class[:, None] == pred_class)"),
    one("match", MATCH, "match: no brackets", "binds more tightly", "iou > 0.5 & (gt_class[:, None] == pred_class)"),
    one("match", MATCH, "match: only as many as the other", "fails on 10 true and 4 predicted",
        "(iou > 0.5) & torch.stack([gt_class == c for c in pred_class]).T[: len(pred_class)] & ~crowd[:, None]"),
    one("match", MATCH, "match: at exactly a half", "exactly 0.5",
        "(iou >= 0.5) & (gt_class[:, None] == pred_class) & ~crowd[:, None]"),
    one("match", MATCH, "match: whatever the class", "same class", "(iou > 0.5) & ~crowd[:, None]"),
    one("match", MATCH, "match: crowds too", "a crowd was matched", "(iou > 0.5) & (gt_class[:, None] == pred_class)"),
    one("excused", EXCUSED, "excused: on any crowd", "has the crowd's class",
        "2 * (void + (on * crowd[:, None]).sum(0)) > size"),
    one("excused", EXCUSED, "excused: the size without void", "counts all its pixels",
        "2 * (void + (on * (same & crowd[:, None])).sum(0)) > size - void"),
    one("excused", EXCUSED, "excused: at exactly half", "exactly half",
        "2 * (void + (on * (same & crowd[:, None])).sum(0)) >= size"),
    one("excused", EXCUSED, "excused: void or crowd, not both together", "count together",
        "(2 * void > size) | (2 * (on * (same & crowd[:, None])).sum(0) > size)"),
    one("excused", EXCUSED, "excused: only those without a match", "matched or not",
        "(2 * (void + (on * (same & crowd[:, None])).sum(0)) > size) & ~match(pairwise_iou(overlap), gt_class, "
        "pred_class, crowd).any(0)"),
    one("excused", EXCUSED, "excused: the first true segment of the class", "which is the second ball",
        "2 * (void + (on * (same & crowd[:, None] & (same.cumsum(0) == 1))).sum(0)) > size"),
    one("excused", EXCUSED, "excused: from column 0 on", "begin at column 1",
        "2 * (overlap[0, :-1] + (overlap[1:, :-1] * (same & crowd[:, None])).sum(0)) > overlap.sum(0)[:-1]"),
    one("excused", EXCUSED, "excused: the table overwritten", "changed the overlap that it was given",
        "2 * (void + on.mul_(same & crowd[:, None]).sum(0)) > size"),
    one("excused", EXCUSED, "excused: crowds forgotten", "on the crowd of fish is excused", "2 * void > size"),
    one("excused", EXCUSED, "excused: on any segment of the class", "which is no crowd",
        "2 * (void + (on * same).sum(0)) > size"),
    quality("quality: the mean over all classes", "over all 8 classes", occurs="True"),
    quality("quality: only classes with a match", "that have a match", occurs="tp"),
    quality("quality: only classes of the truth", "only the answer has", occurs="tp + fn"),
    quality("quality: only classes of the answer", "only the truth has", occurs="tp + fp"),
    quality("quality: without the last class", "last class is missing", occurs="c < num_classes - 1 and tp + fp + fn"),
    quality("quality: without class 0", "class 0 is missing", occurs="c and tp + fp + fn"),
    quality("quality: a crowd is missed", "counted as missed: it is no FN", no_crowd="(gt_class == c)"),
    quality("quality: whatever class stands in a map", "a class without TP, FP and FN was counted",
            occurs="(gt_class == c).any() or predicted.any()"),
    quality("quality: the match of an excused one", "a match is a TP", tp="int((match & ~excused)[true].sum())",
            iou="iou * (match & ~excused)"),
    quality("quality: 0 / 0", "divide by max", sq="total / tp"),
    quality("quality: 0 / 0 of a class that does not occur", "leave it out before you divide", occurs="True",
            rq="tp / (tp + half * (fp + fn))"),
    quality("quality: SQ is a sum", "SQ is a sum", sq="total"),
    quality("quality: SQ is the largest IoU", "largest IoU", sq="float((iou * match)[true].max()) if tp else 0.0"),
    quality("quality: SQ over the true segments", "number of true segments", sq="total / max(tp + fn, 1)"),
    quality("quality: TP is 0 or 1", "yours is 0 or 1", tp="int(match[true].any())"),
    quality("quality: a class with a crowd has no FN", "lost its FN",
            missed="~match.any(1) & ~torch.isin(gt_class, gt_class[crowd])"),
    quality("quality: a class with a crowd has no FP", "lost its FP",
            counts="(~excused & ~torch.isin(pred_class, gt_class[crowd]))"),
    quality("quality: one excused, all excused", "lost its FP", less=" * int(not (predicted & excused).any())"),
    quality("quality: PQ, RQ, SQ", "yours is PQ, RQ, SQ", result="100 * mean[[0, 2, 1]]"),
    quality("quality: nan and nanmean", "PQ and SQ are means over the classes that have a match",
            sq="total / tp if tp else torch.nan", mean="torch.tensor(rows).nanmean(0)"),
    quality("quality: iou overwritten", "changed the iou that it was given", begin="iou *= match"),
    quality("quality: 0 / 0 in tensors", "SQ is 0, not 0 / 0", sq="torch.tensor(total) / tp"),
    quality("quality: one SQ for all classes", "each class has its own",
            sq="float((iou * match).sum()) / int(match.sum())"),
    quality("quality: no class at all", "a picture in which no class occurs", empty="torch.tensor(rows).mean(0)"),
    quality("quality: the excused count", "excused segment was counted", counts="(pred_class == c)"),
    quality("quality: SQ, RQ, PQ", "the order is", result="100 * mean[[1, 2, 0]]"),
    quality("quality: a matched segment as FN", "was counted as FN", missed="(gt_class == c)"),
    quality("quality: a matched prediction as FP", "matched prediction was counted", unmatched="(pred_class == c)"),
    quality("quality: excused and matched", "taken off FP twice", less=" - int((predicted & excused).sum()) - tp",
            unmatched="(pred_class == c)", counts="(pred_class == c)"),
    quality("quality: FP and FN in full", "count half", half="1"),
    quality("quality: SQ over all segments", "divides by TP", sq="total / (tp + fp + fn)"),
    quality("quality: IoU of pairs without a match", "sums every IoU", iou="iou"),
    quality("quality: not in per cent", "per cent", result="mean"),
    quality("quality: PQ of the means", "mean SQ · mean RQ",
            result="100 * torch.stack((mean[1] * mean[2], mean[1], mean[2]))"),
]  # fmt: skip
