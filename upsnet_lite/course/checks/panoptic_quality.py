"""Exercise 1, panoptic quality: the visible checks.

Shapes   overlap (G + 1, P + 1) px, row 0 void, column 0 unknown     G true segments, P predicted ones
"""

from collections.abc import Callable

import torch

from upsnet_lite.course import variant
from upsnet_lite.course.checks.panoptic_quality_known import COUNTS, figures, image, mistakes
from upsnet_lite.course.checks.panoptic_quality_maps import miscounted, my_maps, my_quality, pq_of
from upsnet_lite.course.feedback import Mistake, agree, known_as, right, same, tried
from upsnet_lite.datasets.shapes import categories
from upsnet_lite.panoptic_quality import ignored_share
from upsnet_lite.panoptic_quality import pairwise_iou as package_iou

# ------------------------------------------------------------------------------------------------- part 1, by hand


def check_my_pq(my_pq: Callable, student: str) -> None:
    seed = variant.seed(student)
    found, q = my_pq(), my_quality(seed)
    occur = [c for c in q.per_class if c.tp + c.fp + c.fn]
    total = sum(c.pq for c in occur)
    known = {
        "per cent is asked: 100 times what you have": q.pq / 100,
        "this is rounded: write the fractions and let Python divide": round(q.pq, 1),
        "mean SQ · mean RQ is not the mean of SQ · RQ: multiply class by class, then take the mean": q.sq * q.rq / 100,
        **miscounted(my_maps(seed)),
        "an IoU of exactly ½ is no match, but one FP and one FN": pq_of(my_maps(seed), least=0.499),
        **{
            f"the sum is right, but divide it by the number of classes that occur in one map or the other, matched or "
            f"not; you divide by {n}": total / n
            for n in range(1, len(q.per_class) + 1)
            if n != len(occur)
        },
    }
    variant.own(found, lambda seed: my_quality(seed).pq, student, "PQ of your maps", known_as(found, known))
    right("PQ of your maps, by hand")


# ------------------------------------------------------------------------------------------------- part 2, ids


def check_segment_ids(segment_ids: Callable) -> None:
    rgb = torch.tensor([[[7, 0, 0], [0, 1, 0]], [[0, 0, 1], [58, 152, 122]]], dtype=torch.uint8)
    red, green, blue = rgb.long().unbind(-1)
    known = {
        "only the red is left: a sum or product was taken in bytes (uint8), in which 256 is 0; make the "
        "colours large integers first": red,
        "the blue got lost: 65 536 · B is missing from your sum": red + 256 * green,
        "int16 ends at 32 767, and 65 536 · B needs more: make the colours large integers": (
            (red + 256 * green + 2**15) % 2**16 - 2**15
        ),
        "65 536 · B is wanted, which is 256² · B; yours is 256 · B": red + 256 * green + 256 * blue,
        "red and blue are exchanged: red counts once, blue 65 536 times": 65536 * red + 256 * green + blue,
        "this is base 255; a byte has 256 values, 0 among them": red + 255 * green + 255**2 * blue,
    }
    found = tried(segment_ids, rgb, on="a picture of 2 × 2 pixels, shape (2, 2, 3): the colours are its last axis")
    agree(found, red + 256 * green + 65536 * blue, "the id", known=known)
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
        "this is the table turned around: its rows are the true segments": package_iou(TABLE).T,
    }
    found = tried(
        pairwise_iou,
        TABLE.clone(),
        on="4 true and 6 predicted segments",
        hints={"size of tensor": "sizes of rows want the axes (G, 1), those of columns (P,)"},
    )
    if found.shape == TABLE.shape:
        raise Mistake("void and unknown are no segments: leave row 0 and column 0 out of the result")
    agree(found, package_iou(TABLE), "IoU", "true segment, predicted segment", known)
    gone = torch.tensor([[0, 4], [0, 0]])  # a true segment without pixels; a predicted one that lies on void alone
    if pairwise_iou(gone).isnan().any():
        raise Mistake("where the union is empty your IoU is nan (0 / 0); it must be 0: let no union be smaller than 1")
    agree(pairwise_iou(gone), torch.zeros(1, 1), "IoU of an empty union", "true segment, predicted segment")
    right("IoU, void left out")


# ------------------------------------------------------------------------------------------------- part 4, match


def check_match(match: Callable) -> None:
    rows, columns = [0, 1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 0, 4, 5, 6, 7, 9]
    iou = torch.zeros(10, 10)
    iou[rows, columns] = torch.tensor([0.5, 0.75, 0.7, 0.8, 0.9, 0.6, 0.45, 0.8, 0.7])
    gt_class = torch.tensor([0, 6, 7, 10, 6, 7, 9, 10, 4, 5])
    pred_class = torch.tensor([10, 0, 6, 7, 6, 8, 9, 10, 5, 4])
    crowd = torch.arange(10) == 3
    same_class = gt_class[:, None] == pred_class
    expected = (iou > 0.5) & same_class & ~crowd[:, None]
    by_place = "the classes were compared place by place; gt_class[:, None] == pred_class compares each with each"
    known = {
        by_place: (iou > 0.5) & (gt_class == pred_class) & ~crowd[:, None],
        "rows and columns are exchanged: the rows are the truth, gt_class[:, None] == pred_class": (
            (iou > 0.5) & same_class.T & ~crowd[:, None]
        ),
        "`crowd` is about the true segments, the rows: ~crowd[:, None], not ~crowd": (iou > 0.5) & same_class & ~crowd,
        "a match was refused because its class has a crowd, too; only the crowd itself has none: ~crowd[:, None]": (
            expected & (pred_class != 10)
        ),
    }
    try:
        found = tried(match, iou, gt_class, pred_class, crowd, on="10 true and 10 predicted segments")
    except NotImplementedError as error:  # torch's, of & between a number and a tensor
        if "bitwise" not in str(error):
            raise
        raise Mistake(
            "& binds more tightly than > and ==: put each comparison in brackets, (iou > 0.5) & (...)"
        ) from None
    if mistake := known_as(found, known):
        raise Mistake(mistake)
    for pair, mistake in (
        ((6, 6), "an IoU of 0.45 was matched: to be the best of its row is not enough, it must be > 0.5"),
        ((0, 1), "an IoU of exactly 0.5 is no match: at ≥ a segment could have two; the rule is > 0.5"),
        ((5, 5), "a segment of class 7 was matched with one of class 8: a match needs the same class"),
        ((3, 0), "a crowd was matched: a crowd is no object, it can neither be found nor missed"),
    ):
        if found[pair]:
            raise Mistake(mistake)
    agree(found, expected, "match", "true segment, predicted segment")
    wide = tried(match, iou[:, :4].contiguous(), gt_class, pred_class[:4], crowd, on="10 true and 4 predicted segments")
    agree(wide, expected[:, :4], "match", "true segment, predicted segment")
    right("matches")


# ------------------------------------------------------------------------------------------------- part 5, excused


def check_excused(excused: Callable) -> None:
    # rows: void, grass, a crowd of fish, one fish, one star, one ball, a crowd of balls
    columns = {
        "a fish with 3 of its 5 px on the crowd of fish": ("fish", (0, 2, 3, 0, 0, 0, 0), True),
        "a star with all of its 3 px on the crowd of fish (excused is only who has the crowd's class)": (
            "star", (0, 0, 3, 0, 0, 0, 0), False),
        "a crate with 2 of its 5 px on void (a predicted segment's size counts all its pixels)": (
            "crate", (2, 3, 0, 0, 0, 0, 0), False),
        "a crate with 1 of its 2 px on void (exactly half is not more than half)": (
            "crate", (1, 1, 0, 0, 0, 0, 0), False),
        "a crate with 2 of its 3 px on void": ("crate", (2, 1, 0, 0, 0, 0, 0), True),
        "a fish with 2 px on void, 2 on the crowd of fish and 3 on grass (void and crowd count together)": (
            "fish", (2, 3, 2, 0, 0, 0, 0), True),
        "a fish on a true fish (which is no crowd)": ("fish", (0, 0, 0, 4, 0, 0, 0), False),
        "a star with 6 of its 10 px on void, which matches the true star that it covers (matched or not)": (
            "star", (6, 0, 0, 0, 4, 0, 0), True),
        "a ball with 3 of its 5 px on the crowd of balls, which is the second ball of the truth": (
            "ball", (0, 2, 0, 0, 0, 0, 3), True),
    }  # fmt: skip
    pixels = torch.tensor([[0] * 7, *(px for _, px, _ in columns.values())]).T.contiguous()
    of_class = {c.name: i for i, c in enumerate(categories())}
    gt_class = torch.tensor([of_class[name] for name in ("grass", "fish", "fish", "star", "ball", "ball")])
    pred_class = torch.tensor([of_class[name] for name, _, _ in columns.values()])
    crowd = torch.isin(torch.arange(6), torch.tensor([1, 5]))
    found = tried(excused, pixels, gt_class, pred_class, crowd, on=f"6 true and {len(columns)} predicted segments")
    shifted = torch.cat((pixels[:, :1], pixels[:, :-1]), 1)
    if same(found, ignored_share(shifted, gt_class, pred_class, crowd) > 0.5):
        raise Mistake("column 0 is what the answer leaves unknown: the predicted segments begin at column 1")
    for (what, (_, _, expected)), is_excused in zip(columns.items(), found.tolist(), strict=True):
        if is_excused != expected:
            raise Mistake(f"{what} is {'excused' if expected else 'not excused'}; yours says the opposite")
    right("who is excused")


# ------------------------------------------------------------------------------------------------- part 6, quality


def check_quality(quality: Callable) -> None:
    guard = (
        "division by 0: of a class without a match TP is 0 (its SQ is 0: divide by max(tp, 1)); of a class that does "
        "not occur TP + FP + FN is 0 (leave it out before you divide)"
    )
    found = tried(quality, *image(), on="an image of 8 classes", hints={"ZeroDivisionError": guard})
    expected = figures(*COUNTS.values())
    if mistake := known_as(found, mistakes()):
        raise Mistake(mistake)
    for name, yours, right_one in zip(("PQ", "SQ", "RQ"), found, expected, strict=True):
        agree(yours, right_one, f"mean {name}")
    none, index = torch.zeros(0, dtype=torch.bool), torch.zeros(0, dtype=torch.int64)
    where = "a picture in which no class occurs (nan three times is wanted)"
    empty = tried(quality, torch.zeros(0, 0), none.view(0, 0), none, index, index, none, 5, on=where)
    agree(empty, torch.full((3,), torch.nan), f"the figures of {where}", "figure")
    right("PQ, SQ and RQ")
