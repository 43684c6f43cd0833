"""Exercise 1, panoptic quality: the visible checks, and the maps that each student works out by hand.

Shapes   overlap (G + 1, P + 1) px, row 0 void, column 0 unknown     G true segments, P predicted ones
"""

import random
from collections.abc import Callable

import torch
from torch import Tensor

from upsnet_lite.course import variant
from upsnet_lite.course.feedback import Mistake, agree, known_as, right, tried
from upsnet_lite.datasets.shapes import categories
from upsnet_lite.panoptic_quality import PanopticQuality
from upsnet_lite.panoptic_quality import pairwise_iou as package_iou

ID = {c.name: c.id for c in categories()}
Answer = tuple[Tensor, list[dict]]  # panoptic ids (5, 5), their segments

# ------------------------------------------------------------------------------------------------- part 1, by hand


def my_maps(seed: int) -> dict[str, Answer]:
    """The truth and the answer of one student."""
    pick = random.Random(seed)
    horizon, left, taken = pick.choice((1, 2)), pick.choice((1, 2)), pick.choice((1, 2, 3))
    truth = torch.full((5, 5), 2)
    truth[:horizon] = 1
    answer = truth.clone()
    answer[horizon - 1, :taken] = 2
    truth[2:4, left : left + 2] = 3
    columns = {"grown": (left, left + 3), "narrow": (left, left + 1), "moved": (left + 1, left + 3)}
    first, last = columns[pick.choice(tuple(columns))]
    answer[2:4, first:last] = 3
    truth[4, : pick.choice((1, 2))] = 0
    *segments, more = (dict(id=i, category_id=ID[n]) for i, n in enumerate(("sky", "grass", "ball", "star"), 1))
    if pick.choice((True, False)):
        truth[0, 4] = 4
        return {"truth": (truth, [*segments, more]), "answer": (answer, segments)}
    answer[0, 4] = 4
    return {"truth": (truth, segments), "answer": (answer, [*segments, more])}


def my_quality(seed: int):
    """What the package says about a student's maps."""
    maps = my_maps(seed)
    quality = PanopticQuality(categories())
    quality.update(*maps["answer"], *maps["truth"])
    return quality.compute()


def check_my_pq(my_pq: Callable, student: str) -> None:
    found, q = my_pq(), my_quality(variant.seed(student))
    occur = [c for c in q.per_class if c.tp + c.fp + c.fn]
    total, matched, of_means = sum(c.pq for c in occur), sum(c.tp > 0 for c in occur), q.sq * q.rq / 100
    known = {
        "per cent is asked: 100 times what you have": q.pq / 100,
        "this is rounded: write the fractions and let Python divide": round(q.pq, 1),
        "mean SQ · mean RQ is not the mean of SQ · RQ: multiply class by class, then take the mean": of_means,
        f"{len(occur)} classes occur in one map or the other; the mean is over them, matched or not": total / matched,
        f"the mean is over the {len(occur)} classes that occur, not over all {len(q.per_class)}": total
        / len(q.per_class),
    }
    variant.own(found, lambda seed: my_quality(seed).pq, student, "PQ of your maps", known_as(found, known))
    right("PQ of your maps, by hand")


# ------------------------------------------------------------------------------------------------- part 2, ids


def check_segment_ids(segment_ids: Callable) -> None:
    rgb = torch.tensor([[[7, 0, 0], [0, 1, 0]], [[0, 0, 1], [58, 152, 122]]], dtype=torch.uint8)
    red, green, blue = rgb.long().unbind(-1)
    known = {
        "only the red is left: the sum was taken in bytes (uint8), in which 256 is 0; make the colours large integers "
        "first": red,
        "the blue got lost: int16 ends at 32 767, and 65 536 · B needs more": red + 256 * green,
        "red and blue are exchanged: red counts once, blue 65 536 times": 65536 * red + 256 * green + blue,
        "this is base 255; a byte has 256 values, 0 among them": red + 255 * green + 255**2 * blue,
    }
    agree(segment_ids(rgb), red + 256 * green + 65536 * blue, "the id", known=known)
    right("ids, also those that need three bytes")


# ------------------------------------------------------------------------------------------------- part 3, IoU

TABLE = torch.tensor([[1, 0, 1, 0, 0, 1, 0], [2, 9, 0, 0, 0, 0, 1], [0, 0, 5, 1, 0, 0, 0], [1, 0, 1, 3, 0, 0, 0],
                      [0, 0, 0, 0, 3, 0, 0]])  # fmt: skip


def check_pairwise_iou(pairwise_iou: Callable) -> None:
    both, truth, answer = TABLE[1:, 1:], TABLE.sum(1)[1:, None], TABLE.sum(0)[1:]
    judged, seen = answer - TABLE[0, 1:], both.sum(1)[:, None]
    known = {
        "void counts in your unions: take row 0 off the predicted segments": both / (truth + answer - both),
        "this is intersection / true segment: what the answer has too much must cost something": both / truth,
        "this is intersection / predicted segment: what the answer lacks must cost something": both / answer,
        "this is intersection / predicted segment off void: what the answer lacks must cost something": both / judged,
        "the intersection is twice in your unions: |p ∪ g| = |p| + |g| − |p ∩ g|": both / (truth + judged),
        "this is 2 · intersection / (sum of both sizes), the Dice score": 2 * both / (truth + judged),
        "the answer's unknown pixels (column 0) belong to the true segment: its size is the sum of its whole row": (
            both / (seen + judged - both)
        ),
        "void (row 0) counts in your unions, and the unknown pixels (column 0) do not; it is the other way round": (
            both / (seen + answer - both)
        ),
        "every IoU below 1 is 0: // divides whole numbers, / gives fractions": both // (truth + judged - both),
    }
    agree(pairwise_iou(TABLE), package_iou(TABLE), "IoU", "true segment, predicted segment", known)
    gone = torch.tensor([[0, 4], [0, 0]])  # a true segment without pixels; a predicted one that lies on void alone
    if pairwise_iou(gone).isnan().any():
        raise Mistake("where the union is empty your IoU is nan (0 / 0); it must be 0: let no union be smaller than 1")
    agree(pairwise_iou(gone), torch.zeros(1, 1), "IoU of an empty union", "true segment, predicted segment")
    right("IoU, void left out")


# ------------------------------------------------------------------------------------------------- part 4, match


def check_match(match: Callable) -> None:
    pairs = {(0, 1): 0.5, (1, 2): 0.75, (2, 3): 0.7, (3, 0): 0.8, (4, 4): 0.9, (5, 5): 0.6}
    iou = torch.zeros(6, 6)
    for pair, value in pairs.items():
        iou[pair] = value
    gt_class, pred_class = torch.tensor([0, 6, 7, 10, 6, 7]), torch.tensor([10, 0, 6, 7, 6, 8])
    crowd = torch.tensor([False, False, False, True, False, False])
    same_class = gt_class[:, None] == pred_class
    expected = (iou > 0.5) & same_class & ~crowd[:, None]
    by_place = "the classes were compared place by place; gt_class[:, None] == pred_class compares each with each"
    known = {
        by_place: (iou > 0.5) & (gt_class == pred_class) & ~crowd[:, None],
        "`crowd` is about the true segments, the rows: ~crowd[:, None], not ~crowd": (iou > 0.5) & same_class & ~crowd,
    }
    found = match(iou, gt_class, pred_class, crowd)
    if mistake := known_as(found, known):
        raise Mistake(mistake)
    for pair, mistake in (
        ((0, 1), "an IoU of exactly 0.5 is no match: at ≥ a segment could have two; the rule is > 0.5"),
        ((5, 5), "a segment of class 7 was matched with one of class 8: a match needs the same class"),
        ((3, 0), "a crowd was matched: a crowd is no object, it can neither be found nor missed"),
    ):
        if found[pair]:
            raise Mistake(mistake)
    agree(found, expected, "match", "true segment, predicted segment")
    wide = tried(match, iou[:, :4], gt_class, pred_class[:4], crowd, on="6 true and 4 predicted segments")
    agree(wide, expected[:, :4], "match", "true segment, predicted segment")
    right("matches")


# ------------------------------------------------------------------------------------------------- part 5, excused


def check_excused(excused: Callable) -> None:
    # rows: void, grass, a crowd of fish, one fish
    columns = {
        "a fish with 3 of its 5 px on the crowd of fish": ("fish", (0, 2, 3, 0), True),
        "a star with all of its 3 px on the crowd of fish (excused is only who has the crowd's class)": (
            "star", (0, 0, 3, 0), False),
        "a crate with 2 of its 5 px on void (a predicted segment's size counts all its pixels)": (
            "crate", (2, 3, 0, 0), False),
        "a crate with 1 of its 2 px on void (exactly half is not more than half)": ("crate", (1, 1, 0, 0), False),
        "a crate with 2 of its 3 px on void": ("crate", (2, 1, 0, 0), True),
        "a fish with 2 px on void, 2 on the crowd of fish and 3 on grass (void and crowd count together)": (
            "fish", (2, 3, 2, 0), True),
        "a fish on a true fish (which is no crowd)": ("fish", (0, 0, 0, 4), False),
    }  # fmt: skip
    pixels = torch.tensor([[0] * 4, *(px for _, px, _ in columns.values())]).T
    of_class = {c.name: i for i, c in enumerate(categories())}
    gt_class = torch.tensor([of_class["grass"], of_class["fish"], of_class["fish"]])
    pred_class = torch.tensor([of_class[name] for name, _, _ in columns.values()])
    found = excused(pixels, gt_class, pred_class, torch.tensor([False, True, False]))
    for (what, (_, _, expected)), is_excused in zip(columns.items(), found.tolist(), strict=True):
        if is_excused != expected:
            raise Mistake(f"{what} is {'excused' if expected else 'not excused'}; yours says the opposite")
    right("who is excused")


# ------------------------------------------------------------------------------------------------- part 6, quality

# Class 0, 1, 2: IoU of its matches, TP, FP, FN. Class 0 has an excused segment, class 3 a crowd alone, class 4 nothing.
COUNTS = ((0.9, 1, 0, 0), (0.6, 1, 1, 2), (0.0, 0, 1, 0))


def figures(*counts: tuple, half: float = 0.5, found: Callable = lambda tp, fp, fn: tp) -> Tensor:
    """PQ, SQ, RQ of each class (C, 3) in per cent. half and found: what the wrong variants take for ½ and TP."""
    rows = []
    for iou, *n in counts:
        sq, rq = iou / (found(*n) or 1), n[0] / (n[0] + half * (n[1] + n[2]))
        rows.append((100 * sq * rq, 100 * sq, 100 * rq))
    return torch.tensor(rows)


def check_quality(quality: Callable) -> None:
    gt_class, pred_class = torch.tensor([0, 1, 1, 1, 3]), torch.tensor([0, 1, 1, 2, 0])
    crowd = torch.tensor([False, False, False, False, True])
    excused = torch.tensor([True, False, False, False, True])  # the first has a match, too
    iou = torch.diag(torch.tensor([0.9, 0.6, 0.2, 0.0, 0.7]))
    match = torch.diag(torch.tensor([True, True, False, False, False]))
    rows = figures(*COUNTS)
    _, sq, rq = rows.mean(0)
    known = {
        "per cent is asked: 100 times what you have": rows.mean(0) / 100,
        "the mean was taken over all 5 classes; it is over those that have any TP, FP or FN": rows.sum(0) / 5,
        "the mean was taken over the classes that have a match; one with FP or FN alone counts too": rows[:2].mean(0),
        "this PQ is mean SQ · mean RQ; multiply class by class, then take the mean": torch.stack(
            (sq * rq / 100, sq, rq)
        ),
        "all classes were thrown together; PQ is computed class by class, then averaged": (
            figures(tuple(map(sum, zip(*COUNTS, strict=True))))[0]
        ),
        "the crowd was counted as missed: it is no FN": figures(*COUNTS, (0, 0, 0, 1)).mean(0),
        "the excused segment was counted: it is no FP": figures((0.9, 1, 1, 0), *COUNTS[1:]).mean(0),
        "the crowd was counted as FN and the excused segment as FP: they are neither": (
            figures((0.9, 1, 1, 0), *COUNTS[1:], (0, 0, 0, 1)).mean(0)
        ),
        "the order is PQ, SQ, RQ": rows.mean(0)[[1, 2, 0]],
        "a matched prediction was counted as FP, too: FP are those without a match": figures(
            COUNTS[0], (0.6, 1, 2, 2), COUNTS[2]
        ).mean(0),
        "an excused prediction with a match was taken off FP twice: FP are neither matched nor excused": figures(
            (0.9, 1, -1, 0), *COUNTS[1:]
        ).mean(0),
        "an excused prediction with a match was taken off FP twice, and its class got lost: FP are neither matched nor "
        "excused": figures(*COUNTS[1:]).mean(0),
        "FP and FN count half: TP / (TP + ½ FP + ½ FN)": figures(*COUNTS, half=1).mean(0),
        "your SQ divides by TP + FP + FN: SQ is the mean over the matches alone": (
            figures(*COUNTS, found=lambda *n: sum(n)).mean(0)
        ),
        "your SQ sums every IoU of the class; only those of the matches count": (
            figures(COUNTS[0], (0.8, 1, 1, 2), COUNTS[2]).mean(0)
        ),
    }
    agree(
        quality(iou, match, excused, gt_class, pred_class, crowd, 5), rows.mean(0), "mean PQ, SQ, RQ", "figure", known
    )
    none, index = torch.zeros(0, dtype=torch.bool), torch.zeros(0, dtype=torch.int64)
    empty = quality(torch.zeros(0, 0), none.view(0, 0), none, index, index, none, 5)
    agree(empty, torch.full((3,), torch.nan), "the figures where no class occurs", "figure")
    right("PQ, SQ and RQ")
