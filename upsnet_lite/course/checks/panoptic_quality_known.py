"""Exercise 1, part 6: one image of eight classes, its figures, and what well-known mistakes would make of them."""

from collections.abc import Callable
from itertools import permutations

import torch
from torch import Tensor

# Sum of the matches' IoU, TP, FP, FN of the classes that occur. Class 0 has two excused segments, one of them matched;
# class 1 has two matches, and a crowd and an excused segment beside its FP and FN; class 3 has a crowd alone, class 5
# nothing. One class has FP alone and two have FN alone: what is left out can be told apart.
COUNTS = {
    0: (0.9, 1, 0, 1),
    1: (1.4, 2, 1, 2),
    2: (0.0, 0, 1, 0),
    4: (0.0, 0, 0, 1),
    6: (0.0, 0, 0, 1),
    7: (0.7, 1, 0, 0),
}
NUM_CLASSES = 8


def image() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, int]:
    """What `quality` is called with: iou, matches, is_excused, gt_class, pred_class, crowd, num_classes."""
    gt_class = torch.tensor([0, 0, 1, 1, 1, 1, 1, 3, 4, 6, 7])
    pred_class = torch.tensor([0, 1, 1, 1, 1, 2, 0, 7])
    crowd = torch.isin(torch.arange(11), torch.tensor([6, 7]))
    excused = torch.isin(torch.arange(8), torch.tensor([0, 4, 6]))
    iou, matches = torch.zeros(11, 8), torch.zeros(11, 8, dtype=torch.bool)
    matches[0, 0] = matches[2, 1] = matches[3, 2] = matches[10, 7] = True
    iou[0, 0], iou[2, 1], iou[3, 2], iou[10, 7] = 0.9, 0.6, 0.8, 0.7
    iou[4, 3], iou[6, 4], iou[7, 6] = 0.3, 0.7, 0.7  # too little, and two on crowds
    return iou, matches, excused, gt_class, pred_class, crowd, NUM_CLASSES


def figures(*counts: tuple, half: float = 0.5, found: Callable = lambda tp, fp, fn: tp) -> Tensor:
    """Mean PQ, SQ, RQ of classes in per cent (3,). half and found: what the wrong variants take for ½ and TP."""
    rows = []
    for iou, *n in counts:
        sq, rq = iou / (found(*n) or 1), n[0] / (n[0] + half * (n[1] + n[2]))
        rows.append((100 * sq * rq, 100 * sq, 100 * rq))
    return torch.tensor(rows).mean(0)


def but(changed: dict[int, tuple]) -> Tensor:
    """`figures` of all classes, some of them with other counts; () leaves a class out."""
    return figures(*filter(None, (COUNTS | changed).values()))


def mistakes() -> dict[str, Tensor]:
    """What is to be said -> the figures (3,) that would come out."""
    every = tuple(COUNTS.values())
    expected, together = figures(*every), figures(tuple(map(sum, zip(*every, strict=True))))
    pq, sq, rq = expected
    with_match = but({2: (), 4: (), 6: ()})
    nan = torch.full((3,), torch.nan)
    guard = "a class without a match has TP = 0: its SQ is 0, not 0 / 0"
    empty = "a class without TP, FP and FN was counted; it does not occur, and is in no mean"
    orders = {
        f"the order is PQ, SQ, RQ; yours is {', '.join(names)}": torch.stack(
            [dict(PQ=pq, SQ=sq, RQ=rq)[n] for n in names]
        )
        for names in permutations(("PQ", "SQ", "RQ"))
        if names != ("PQ", "SQ", "RQ")
    }
    return orders | {
        "per cent is asked: 100 times what you have": expected / 100,
        f"the mean was taken over all {NUM_CLASSES} classes; it is over those that have any TP, FP or FN": (
            expected * len(every) / NUM_CLASSES
        ),
        "the mean was taken over the classes that have a match; one with FP or FN alone counts too": with_match,
        "PQ and SQ are means over the classes that have a match; one with FP or FN alone counts too, with 0": (
            torch.cat((with_match[:2], rq[None]))
        ),
        "the mean was taken over the classes of the truth; one that only the answer has (FP) counts too": but({2: ()}),
        "the mean was taken over the classes of the answer; one that only the truth has (FN) counts too": (
            but({4: (), 6: ()})
        ),
        "the last class is missing: the classes are 0 ... num_classes - 1, as range(num_classes) gives them": (
            but({7: ()})
        ),
        "class 0 is missing: the classes are 0 ... num_classes - 1": but({0: ()}),
        "this PQ is mean SQ · mean RQ; multiply class by class, then take the mean": (
            torch.stack((sq * rq / 100, sq, rq))
        ),
        "all classes were thrown together; PQ is computed class by class, then averaged": together,
        empty: but({3: (0, 0, 0, 1)}),
        f"{empty} (its RQ is 0 / 0, not 1)": but({3: (0, 0, 0, 1)}) + torch.tensor([0, 0, 100 / (len(every) + 1)]),
        "a crowd was counted as missed: it is no FN": but({1: (1.4, 2, 1, 3), 3: (0, 0, 0, 1)}),
        "an excused segment was counted: it is no FP": but({0: (0.9, 1, 1, 1), 1: (1.4, 2, 2, 2)}),
        "crowds were counted as FN and excused segments as FP: they are neither": (
            but({0: (0.9, 1, 1, 1), 1: (1.4, 2, 2, 3), 3: (0, 0, 0, 1)})
        ),
        "a class lost its FN because it has a crowd, too; only the crowd itself is no FN": but({1: (1.4, 2, 1, 0)}),
        "a class lost its FP because it has a crowd or an excused segment, too; only what is excused is no FP": (
            but({1: (1.4, 2, 0, 2)})
        ),
        "a matched prediction was counted as FP, too: FP are those without a match": (
            but({1: (1.4, 2, 3, 2), 7: (0.7, 1, 1, 0)})
        ),
        "a true segment with a match was counted as FN, too: FN are those without a match": (
            but({0: (0.9, 1, 0, 2), 1: (1.4, 2, 1, 4), 7: (0.7, 1, 0, 1)})
        ),
        "an excused prediction with a match was taken off FP twice: FP are neither matched nor excused": (
            but({0: (0.9, 1, -1, 1)})
        ),
        "the match of an excused prediction was left out: excused or not, a match is a TP": but({0: (0.0, 0, 0, 1)}),
        "TP is the number of a class's matches, here up to 2; yours is 0 or 1": but({1: (1.4, 1, 1, 2)}),
        "FP and FN count half: TP / (TP + ½ FP + ½ FN)": figures(*every, half=1),
        "your SQ is a sum; it is the mean over the matches: divide by TP": figures(*every, found=lambda *n: 1),
        "your SQ is the largest IoU of the class; it is the mean over its matches": but({1: (1.6, 2, 1, 2)}),
        "your SQ divides by TP + FP + FN: SQ is the mean over the matches alone": (
            figures(*every, found=lambda *n: sum(n))
        ),
        "your SQ divides by the number of true segments: SQ is the mean over the matches alone": (
            figures(*every, found=lambda tp, fp, fn: tp + fn)
        ),
        "your SQ sums every IoU of the class; only those of the matches count": but({1: (1.7, 2, 1, 2)}),
        "your SQ is that of all matches together; each class has its own": (
            torch.stack((rq * together[1] / 100, together[1], rq))
        ),
        guard: torch.cat((nan[:2], rq[None])),
        f"{guard} (and nan spreads into every mean)": nan,
    }
