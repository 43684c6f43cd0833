"""PQ against hand-worked 5 x 5 maps, against its own properties, and against panopticapi."""

import contextlib
import io
import json
from math import isnan

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from upsnet_lite.categories import Categories
from upsnet_lite.datasets.ids import read_ids, write_ids
from upsnet_lite.panoptic_quality import PanopticQuality, rank_of_id

SKY, GRASS, CAT, DOG = 1, 2, 5, 9
CATEGORIES = [
    dict(id=CAT, name="cat", isthing=1, color=[200, 0, 0]),
    dict(id=SKY, name="sky", isthing=0, color=[0, 0, 200]),
    dict(id=DOG, name="dog", isthing=1, color=[0, 200, 0]),
    dict(id=GRASS, name="grass", isthing=0, color=[90, 90, 0]),
]


def seg(id, category_id, **more):
    return dict(id=id, category_id=category_id, **more)


def score(pred, pred_segments, gt, gt_segments):
    quality = PanopticQuality(CATEGORIES)
    quality.update(torch.tensor(pred), pred_segments, torch.tensor(gt), gt_segments)
    return quality.compute()


def of(quality, name):
    return next(c for c in quality.per_class if c.name == name)


TRUTH = [  # sky 10 px, grass 9 px, a cat of 6 px
    [1, 1, 1, 1, 1],
    [1, 1, 1, 1, 1],
    [2, 2, 7, 7, 7],
    [2, 2, 7, 7, 7],
    [2, 2, 2, 2, 2],
]
TRUE_SEGMENTS = [seg(1, SKY, iscrowd=0), seg(2, GRASS), seg(7, CAT, iscrowd=0)]


def test_a_perfect_map_has_100_and_absent_classes_do_not_count():
    q = score(TRUTH, TRUE_SEGMENTS, TRUTH, TRUE_SEGMENTS)
    assert (q.pq, q.sq, q.rq, q.pq_th, q.pq_st) == (100, 100, 100, 100, 100)
    assert [c.name for c in q.per_class] == ["sky", "grass", "cat", "dog"]  # class-index order
    dog = of(q, "dog")
    assert isnan(dog.pq) and (dog.tp, dog.fp, dog.fn) == (0, 0, 0)


def test_hand_worked_iou():
    pred = [row[:] for row in TRUTH]
    pred[2][2] = pred[3][2] = 2  # the cat loses 2 of 6 px to grass
    q = score(pred, TRUE_SEGMENTS, TRUTH, TRUE_SEGMENTS)
    assert of(q, "cat").pq == pytest.approx(100 * 4 / 6)
    assert of(q, "grass").pq == pytest.approx(100 * 9 / 11)
    assert q.pq == pytest.approx(100 * (1 + 9 / 11 + 4 / 6) / 3)
    assert q.pq_th == pytest.approx(100 * 4 / 6) and q.pq_st == pytest.approx(100 * (1 + 9 / 11) / 2)
    assert q.rq == q.rq_th == q.rq_st == 100 and q.sq == pytest.approx(q.pq)


@pytest.mark.parametrize("columns, matched", [(2, False), (3, True)])
def test_iou_of_exactly_one_half_is_no_match(columns, matched):
    gt = torch.zeros(5, 5, dtype=torch.int64)
    gt[0, :4] = 3
    gt[1:] = 4
    pred = gt.clone()
    pred[0, columns:4] = 4
    q = PanopticQuality(CATEGORIES)
    q.update(pred, [seg(3, CAT), seg(4, SKY)], gt, [seg(3, CAT), seg(4, SKY)])
    cat = of(q.compute(), "cat")
    assert (cat.tp, cat.fp, cat.fn) == ((1, 0, 0) if matched else (0, 1, 1))
    assert cat.pq == (75 if matched else 0)


def test_a_wrong_class_costs_two_errors_and_unknown_only_one():
    wrong = score(TRUTH, [seg(1, SKY), seg(2, GRASS), seg(7, DOG)], TRUTH, TRUE_SEGMENTS)
    unknown = [[0 if i == 7 else i for i in row] for row in TRUTH]
    silent = score(unknown, [seg(1, SKY), seg(2, GRASS)], TRUTH, TRUE_SEGMENTS)
    assert (of(wrong, "cat").fn, of(wrong, "dog").fp) == (1, 1)
    assert (of(silent, "cat").fn, of(silent, "dog").fp) == (1, 0)
    assert wrong.pq == 50 and silent.pq == pytest.approx(200 / 3)  # 4 classes against 3


def test_void_of_the_truth_is_outside_the_union_and_forgives_what_lies_on_it():
    gt = [[0] * 5, [0, 3, 3, 0, 0], [0] * 5, [0] * 5, [1] * 5]
    pred = [[5, 5, 5, 0, 0], [3, 3, 3, 3, 3], [0] * 5, [6] * 5, [6, 1, 1, 1, 1]]
    segments = [seg(1, SKY), seg(3, CAT), seg(5, DOG), seg(6, DOG)]
    q = score(pred, segments, gt, [seg(1, SKY), seg(3, CAT)])
    assert of(q, "cat").pq == 100  # 3 of its 5 px are void
    assert (of(q, "dog").fp, of(q, "sky").tp) == (0, 1)  # 5 of the 6 px of the second dog are void
    assert of(q, "sky").sq == pytest.approx(80)


@pytest.mark.parametrize("on_crowd, fp", [(2, 1), (3, 0)])  # of 4 px: exactly half is not more than half
def test_a_crowd_is_neither_found_nor_missed_and_forgives_its_own_class_only(on_crowd, fp):
    gt = [[1] * 5 for _ in range(5)]
    gt[4] = [8] * 5
    pred = [row[:] for row in gt]
    pred[4] = [1] * 5
    pred[4][:on_crowd] = [2] * on_crowd
    pred[3][: 4 - on_crowd] = [2] * (4 - on_crowd)
    truth = [seg(1, SKY), seg(8, CAT, iscrowd=1)]
    cat = of(score(pred, [seg(1, SKY), seg(2, CAT)], gt, truth), "cat")
    assert (cat.tp, cat.fp, cat.fn) == (0, fp, 0)
    q = score(pred, [seg(1, SKY), seg(2, DOG)], gt, truth)
    assert of(q, "dog").fp == 1 and isnan(of(q, "cat").pq)


def test_a_crowd_is_no_match_even_when_outlined_exactly():
    cat = of(score([[2] * 5] * 5, [seg(2, CAT)], [[8] * 5] * 5, [seg(8, CAT, iscrowd=1)]), "cat")
    assert isnan(cat.pq)


def test_empty_prediction_empty_truth_and_a_true_segment_without_pixels():
    void = [[0] * 5] * 5
    q = score(void, [], void, [])
    assert isnan(q.pq) and q.as_dict()["PQ"] is None
    assert json.loads(json.dumps(q.as_dict(), allow_nan=False))["per_class"][0]["PQ"] is None
    assert of(score(void, [], void, [seg(4, CAT)]), "cat").fn == 1  # as panopticapi counts it
    assert score(void, [], TRUTH, TRUE_SEGMENTS).pq == 0


def test_as_dict_has_the_names_of_metrics_json():
    found = score(TRUTH, TRUE_SEGMENTS, TRUTH, TRUE_SEGMENTS).as_dict()
    means = [k + end for end in ("", "_th", "_st") for k in ("PQ", "SQ", "RQ")]
    assert [k for k in found if k != "per_class"] == means
    assert list(found["per_class"][0]) == ["id", "name", "isthing", "PQ", "SQ", "RQ", "TP", "FP", "FN"]


@pytest.mark.parametrize(
    "pred, pred_segments, gt_segments, message",
    [
        (TRUTH[:4], TRUE_SEGMENTS, TRUE_SEGMENTS, r"\(4, 5\).*\(5, 5\)"),
        (TRUTH, TRUE_SEGMENTS[:2], TRUE_SEGMENTS, r"prediction.*\[7\].*not among"),
        (TRUTH, TRUE_SEGMENTS, TRUE_SEGMENTS[:2], r"ground truth.*\[7\].*not among"),
        (TRUTH, [*TRUE_SEGMENTS, seg(8, CAT)], TRUE_SEGMENTS, r"prediction.*\[8\].*no pixel"),
        (TRUTH, TRUE_SEGMENTS, [*TRUE_SEGMENTS, seg(8, 77)], r"ground truth.*8.*category_id 77"),
        (TRUTH, [*TRUE_SEGMENTS, seg(7, DOG)], TRUE_SEGMENTS, r"prediction.*differ"),
        (TRUTH, [*TRUE_SEGMENTS, seg(0, DOG)], TRUE_SEGMENTS, r"prediction.*not be 0"),
    ],
)
def test_maps_and_segments_that_disagree_are_refused_and_leave_the_sums_alone(
    pred, pred_segments, gt_segments, message
):
    quality = PanopticQuality(CATEGORIES)
    with pytest.raises(ValueError, match=message):
        quality.update(torch.tensor(pred), pred_segments, torch.tensor(TRUTH), gt_segments)
    assert quality.state().sum() == 0


# Properties ------------------------------------------------------------------------------------------------------


def random_map(rng, segments=6, size=24, crowds=False):
    """Voronoi cells with sparse large ids, some of them void; the same layout for truth and prediction."""
    y, x = np.mgrid[:size, :size]
    centres = rng.integers(0, size, (segments + 1, 2))
    cell = ((y[..., None] - centres[:, 0]) ** 2 + (x[..., None] - centres[:, 1]) ** 2).argmin(-1)
    ids = np.concatenate([[0], rng.choice(2**24 - 1, segments, replace=False) + 1])
    panoptic = torch.from_numpy(ids[cell])
    present = [i for i in panoptic.unique().tolist() if i]
    categories = rng.choice([c["id"] for c in CATEGORIES], len(present)).tolist()
    return panoptic, [
        seg(i, c, iscrowd=int(crowds and rng.random() < 0.3), area=int((panoptic == i).sum()))
        for i, c in zip(present, categories, strict=True)
    ]


def disturb(panoptic, info, rng, categories):
    """Shifted, and here and there a segment deleted, merged into the next one, or given another class."""
    step = tuple(rng.integers(-2, 3, 2).tolist())
    out = torch.roll(panoptic, step, (0, 1))
    classes = {s["id"]: s["category_id"] for s in info}
    for s in info:
        action = rng.random()
        if action < 0.1:
            out[out == s["id"]] = 0
        elif action < 0.2:
            out[out == s["id"]] = info[0]["id"]
        elif action < 0.4:
            classes[s["id"]] = int(rng.choice(categories))
    return out, [seg(i, classes[i]) for i in out.unique().tolist() if i]


seeds = st.integers(0, 2**32 - 1).map(np.random.default_rng)


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_a_map_against_itself_is_100(rng):
    panoptic, info = random_map(rng)
    quality = PanopticQuality(CATEGORIES)
    quality.update(panoptic, info, panoptic, info)
    q = quality.compute()
    assert all(c.fp == c.fn == 0 for c in q.per_class)
    assert not info or q.pq == q.sq == q.rq == 100


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_names_of_segments_and_their_order_do_not_matter(rng):
    (gt, gt_info), (pred, pred_info) = random_map(rng, crowds=True), random_map(rng)
    plain, renamed = PanopticQuality(CATEGORIES), PanopticQuality(CATEGORIES)
    plain.update(pred, pred_info, gt, gt_info)
    new = torch.tensor([0, *(rng.permutation(len(pred_info)) + 1).tolist()])
    relabelled = [{**s, "id": int(new[k])} for k, s in enumerate(pred_info, start=1)]
    shuffled = [relabelled[k] for k in rng.permutation(len(relabelled))]
    renamed.update(new[rank_of_id(pred, pred_info)], shuffled, gt, gt_info)
    assert torch.allclose(plain.state(), renamed.state(), rtol=0, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_merging_the_states_of_two_ranks_equals_one_pass(rng):
    pairs = [(*random_map(rng), *random_map(rng, crowds=True)) for _ in range(4)]
    whole, ranks = PanopticQuality(CATEGORIES), [PanopticQuality(CATEGORIES) for _ in range(2)]
    for n, pair in enumerate(pairs):
        whole.update(*pair)
        ranks[n % 2].update(*pair)
    ranks[0].merge(ranks[1].state())
    assert torch.allclose(whole.state(), ranks[0].state(), rtol=0, atol=1e-12)


# The reference ---------------------------------------------------------------------------------------------------


def agrees_with_panopticapi(pairs, categories, folder):
    """Scores [(pred, pred_segments, gt, gt_segments)] twice: every mean and class must agree, fractions to 1e-9."""
    evaluation = pytest.importorskip("panopticapi.evaluation")
    ours = PanopticQuality(categories)
    annotations = []
    for n, (pred, pred_info, gt, gt_info) in enumerate(pairs):
        ours.update(pred, pred_info, gt, gt_info)
        for kind, ids in (("gt", gt), ("pred", pred)):
            (folder / kind).mkdir(exist_ok=True)
            write_ids(folder / kind / f"{n}.png", ids.numpy())
        entry = dict(image_id=n, file_name=f"{n}.png")
        annotations.append(({**entry, "segments_info": gt_info}, {**entry, "segments_info": pred_info}))
    table = {c["id"]: c for c in categories}
    with contextlib.redirect_stdout(io.StringIO()):  # the single-core function: the pool of the other is never closed
        stat = evaluation.pq_compute_single_core(0, annotations, folder / "gt", folder / "pred", table)
    q = ours.compute()
    for end, isthing in (("", None), ("_th", True), ("_st", False)):
        theirs, _ = stat.pq_average(table, isthing)
        for k in ("pq", "sq", "rq"):
            assert getattr(q, k + end) / 100 == pytest.approx(theirs[k], abs=1e-9)
    for c in q.per_class:
        assert (c.tp, c.fp, c.fn) == (stat[c.id].tp, stat[c.id].fp, stat[c.id].fn), c.name
    assert ours.state()[:, 0].tolist() == pytest.approx([stat[c.id].iou for c in ours.categories], abs=1e-9)
    return q, ours.state()


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_panopticapi_on_synthetic_maps(seed, tmp_path):
    rng = np.random.default_rng(seed)
    pairs = []
    for n in range(24):
        gt, gt_info = random_map(rng, segments=5 + n % 5, crowds=True)
        pairs.append((*disturb(gt, gt_info, rng, [c["id"] for c in CATEGORIES]), gt, gt_info))
    q, state = agrees_with_panopticapi(pairs, CATEGORIES, tmp_path)
    assert 20 < q.pq < 80 and (state.sum(0) > 0).all()  # every kind of outcome occurs
    assert sum(s["iscrowd"] for *_, info in pairs for s in info) > 5
    assert sum(bool((gt == 0).any()) for *_, gt, _ in pairs) > 5


def test_agrees_with_panopticapi_on_real_coco(coco128, tmp_path):
    rng = np.random.default_rng(0)
    pairs, categories = [], None
    for split in ("train2017", "val2017"):
        found = json.loads((coco128 / "annotations" / f"panoptic_{split}.json").read_text())
        categories = found["categories"]
        for a in sorted(found["annotations"], key=lambda a: -sum(s["iscrowd"] for s in a["segments_info"]))[:25]:
            gt = torch.from_numpy(read_ids(coco128 / "annotations" / f"panoptic_{split}" / a["file_name"]))
            ids = [c["id"] for c in categories]
            pairs.append((*disturb(gt, a["segments_info"], rng, ids), gt, a["segments_info"]))
    assert sum(s["iscrowd"] for *_, info in pairs for s in info) >= 9 and any((gt == 0).any() for *_, gt, _ in pairs)
    q, state = agrees_with_panopticapi(pairs, categories, tmp_path)
    assert 40 < q.pq < 90 and (state.sum(0) > 20).all()


def test_takes_categories_as_they_are():
    categories = Categories.from_json(CATEGORIES)
    assert PanopticQuality(categories).categories is categories
    assert PanopticQuality(CATEGORIES).categories == categories
