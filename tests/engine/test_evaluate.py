"""evaluate: figures against known predictions, the files against panopticapi, and what happens when things go wrong."""

import json
import shutil

import pytest
import torch
import torch.nn.functional as F

from upsnet_lite.categories import IGNORE, Categories
from upsnet_lite.datasets.coco_panoptic import CocoPanoptic
from upsnet_lite.datasets.ids import read_ids
from upsnet_lite.engine.evaluate import evaluate, measure, panopticapi_quality
from upsnet_lite.engine.metrics import Tally, confusion_matrix
from upsnet_lite.files import UserError


class Oracle(torch.nn.Module):
    """Knows the truth of every image; `wrong` spoils it, `fail_at` raises at that image."""

    def __init__(self, dataset, wrong=False, fail_at=None):
        super().__init__()
        self.categories, self.wrong, self.fail_at, self.seen = dataset.categories, wrong, fail_at, 0
        self.truth = {key(image): target for image, target in dataset}

    def forward(self, images):
        assert not self.training and torch.is_inference_mode_enabled()
        return [self.one(self.truth[key(image)]) for image in images]

    def one(self, target):
        self.seen += 1
        if self.seen == self.fail_at:
            raise RuntimeError("out of memory")
        panoptic, info = target["panoptic"].clone(), [dict(s) for s in target["segments_info"]]
        semantic = target["semantic"].clamp(min=0)
        if self.wrong:
            panoptic = torch.roll(panoptic, (3, -4), (0, 1))
            panoptic[panoptic == info[0]["id"]] = 0
            semantic = torch.roll(semantic, (3, -4), (0, 1))
            info[-1]["category_id"] = self.categories[0].id
        present = set(panoptic.unique().tolist())
        keep = slice(None, -1) if self.wrong else slice(None)
        boxes, masks = target["boxes"][keep], target["masks"][keep]
        return {
            "boxes": boxes,
            "labels": target["labels"][keep],
            "scores": torch.linspace(0.9, 0.7, len(boxes)),
            "mask_logits": torch.stack([cropped(m, b) for m, b in zip(masks, boxes, strict=True)])
            if len(boxes)
            else torch.zeros(0, 28, 28),
            "semantic": semantic,
            "panoptic": panoptic,
            "segments_info": [{k: s[k] for k in ("id", "category_id")} for s in info if s["id"] in present],
        }


def key(image):
    return float(image.double().sum())


def cropped(mask, box):
    x0, y0, x1, y1 = (int(v) for v in box)
    return 20 * F.interpolate(mask[None, None, y0:y1, x0:x1].float(), (28, 28), mode="bilinear")[0, 0] - 10


@pytest.fixture(scope="module")
def val(shapes_root):
    return CocoPanoptic(shapes_root, "val")


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


def test_the_truth_scores_100_and_is_written_in_cocos_format(val, shapes_root, tmp_path):
    done = []
    out = tmp_path / "new" / "out"
    found = evaluate(
        Oracle(val), val, out, "val", batch_size=4, checkpoint="oracle", progress=lambda *n: done.append(n)
    )
    assert found["PQ"] == found["SQ"] == found["RQ"] == found["mIoU"] == 100
    assert 85 < found["AP_mask"] <= 100  # 28 x 28 px cannot outline everything exactly
    assert done == [(n, len(val)) for n in range(1, len(val) + 1)]

    written = json.loads((out / "metrics.json").read_text())
    assert {"PQ", "SQ", "RQ", "PQ_th", "PQ_st", "mIoU", "AP_mask", "per_class", "checkpoint", "counts"} <= set(written)
    assert (
        written["checkpoint"] == "oracle" and written["unit"] == "per cent" and written["counts"]["images"] == len(val)
    )
    assert [r["name"] for r in written["per_class"]] == [c.name for c in val.categories]

    annotations = json.loads((out / "panoptic_val.json").read_text())["annotations"]
    assert files(out) == sorted(
        ["metrics.json", "panoptic_val", "panoptic_val.json", *(f"panoptic_val/{a['file_name']}" for a in annotations)]
    )
    void = 0
    for (_, target), a in zip(val, annotations, strict=True):
        assert a["image_id"] == target["image_id"]
        ids = torch.from_numpy(read_ids(out / "panoptic_val" / a["file_name"]))
        assert torch.equal(ids, target["panoptic"])
        void += (ids == 0).double().mean() / len(val)
    assert found.unknown == pytest.approx(100 * float(void))


def test_panopticapi_finds_the_same_in_the_files(val, shapes_root, tmp_path):
    pytest.importorskip("panopticapi")
    ours = evaluate(Oracle(val, wrong=True), val, tmp_path / "out", "val").quality
    theirs = panopticapi_quality(
        shapes_root / "annotations" / "panoptic_val.json", tmp_path / "out" / "panoptic_val.json"
    )
    assert 5 < ours.pq < 95
    for name, value in vars(ours).items():
        if name != "per_class":
            assert getattr(theirs, name) / 100 == pytest.approx(value / 100, abs=1e-9)
    for a, b in zip(ours.per_class, theirs.per_class, strict=True):
        assert (a.name, a.tp, a.fp, a.fn) == (b.name, b.tp, b.fp, b.fn)
        assert a.pq == pytest.approx(b.pq, abs=1e-9, nan_ok=True)


def test_panopticapi_refuses_a_result_that_lacks_an_image(val, shapes_root, tmp_path):
    pytest.importorskip("panopticapi")
    (tmp_path / "panoptic_val.json").write_text('{"annotations": []}')
    with pytest.raises(UserError, match=r"no result for image \d+ \(6 images"):
        panopticapi_quality(shapes_root / "annotations" / "panoptic_val.json", tmp_path / "panoptic_val.json")


def test_batches_and_ranks_do_not_change_the_figures(val):
    whole = evaluate(Oracle(val, wrong=True), val, batch_size=len(val)).as_dict()
    shares = [measure(Oracle(val, wrong=True), val, range(r, len(val), 2), None, 2, None, None) for r in (0, 1)]
    shares[0].merge(shares[1])
    figures = [k for k, v in whole.items() if isinstance(v, float)]
    assert {"PQ", "SQ_st", "mIoU", "AP_mask", "unknown"} <= set(figures)
    for other in (shares[0].metrics().as_dict(), evaluate(Oracle(val, wrong=True), val, batch_size=1).as_dict()):
        assert [other[k] for k in figures] == pytest.approx([whole[k] for k in figures])
        assert other["counts"] == whole["counts"]


# Figures by hand -------------------------------------------------------------------------------------------------

CATEGORIES = Categories.from_json(
    [dict(id=7, name="sky", isthing=0), dict(id=3, name="cat", isthing=1), dict(id=4, name="dog", isthing=1)]
)


def scene(iscrowd=0):
    """5 x 5: a cat of 6 px on sky; one row is void."""
    panoptic = torch.full((5, 5), 1)
    panoptic[1:3, :3] = 2
    panoptic[4] = 0
    semantic = torch.tensor([IGNORE, 0, 1])[panoptic]
    info = [dict(id=1, category_id=7, iscrowd=0), dict(id=2, category_id=3, iscrowd=iscrowd)]
    target = dict(image_id=1, file_name="1.jpg", panoptic=panoptic, semantic=semantic, segments_info=info)
    prediction = dict(
        boxes=torch.tensor([[0.0, 1.0, 3.0, 3.0]]),
        labels=torch.tensor([1]),
        scores=torch.tensor([0.9]),
        mask_logits=torch.ones(1, 28, 28),
        semantic=semantic.clamp(min=0),
        panoptic=panoptic,
        segments_info=[dict(id=1, category_id=7), dict(id=2, category_id=3)],
    )
    return prediction, target


def metrics_of(prediction, target):
    tally = Tally(CATEGORIES)
    tally.update(prediction, target)
    return tally.metrics()


def test_confusion_and_miou_by_hand():
    prediction, target = scene()
    prediction["semantic"][1, :3] = 2  # 3 of 6 cat px are called dog
    found = metrics_of(prediction, target)
    assert found.confusion.tolist() == [[14, 0, 0], [0, 3, 3], [0, 0, 0]]
    assert found.class_iou == pytest.approx((100, 50, 0)) and found.miou == pytest.approx(50)
    assert found.unknown == pytest.approx(20)
    everything = torch.full((5, 5), IGNORE)
    assert confusion_matrix(prediction["semantic"], everything, 3).sum() == 0


def test_a_class_in_neither_map_does_not_count_in_miou():
    found = metrics_of(*scene())
    assert found.miou == 100 and found.as_dict()["per_class"][2]["IoU"] is None


def test_mask_ap_by_hand():
    prediction, target = scene()
    assert metrics_of(prediction, target).ap_mask == pytest.approx(100)
    half = {
        **prediction,
        "boxes": torch.tensor([[0.0, 1.0, 3.0, 2.0]]),
    }  # IoU 1/2: found at the first of ten thresholds
    assert metrics_of(half, target).ap_mask == pytest.approx(10)
    none = {k: prediction[k][:0] for k in ("boxes", "labels", "scores", "mask_logits")}
    assert metrics_of({**prediction, **none}, target).ap_mask == 0
    wrong = {**prediction, "labels": torch.tensor([2])}
    assert metrics_of(wrong, target).ap_mask == 0


def test_a_crowd_alone_has_no_ap_and_metrics_say_why():
    prediction, target = scene(iscrowd=1)
    found = metrics_of(prediction, target).as_dict()
    assert found["AP_mask"] is None and "no instance" in found["AP_mask_note"]


def test_without_pycocotools_the_rest_stands(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    found = metrics_of(*scene()).as_dict()
    assert found["AP_mask"] is None and "pip install pycocotools" in found["AP_mask_note"] and found["PQ"] == 100


# Bad input -------------------------------------------------------------------------------------------------------


def test_other_categories_are_refused_before_anything_is_written(val, tmp_path):
    model = Oracle(val)
    model.categories = CATEGORIES
    with pytest.raises(UserError, match="differ in their categories: 1 stuff"):
        evaluate(model, val, tmp_path / "out")
    assert not any(tmp_path.iterdir()) and model.seen == 0


def test_a_failure_leaves_no_result_and_restores_training_mode(val, tmp_path):
    model = Oracle(val, fail_at=3).train()
    with pytest.raises(RuntimeError, match="out of memory"):
        evaluate(model, val, tmp_path / "out", batch_size=2)
    assert model.training and not any(tmp_path.iterdir())


def test_a_failure_leaves_the_earlier_result_whole(val, tmp_path):
    out = tmp_path / "out"
    evaluate(Oracle(val), val, out, checkpoint="first")
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    with pytest.raises(RuntimeError):
        evaluate(Oracle(val, fail_at=3), val, out, checkpoint="second")
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


def test_a_broken_png_is_one_line_and_no_result(shapes_root, tmp_path):
    root = shutil.copytree(shapes_root, tmp_path / "data")
    dataset = CocoPanoptic(root, "val")
    model = Oracle(dataset)
    broken = sorted((root / "annotations" / "panoptic_val").iterdir())[-1]
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(UserError, match=broken.name) as error:
        evaluate(model, dataset, tmp_path / "out")
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_a_second_evaluation_replaces_the_first_and_keeps_other_splits(val, tmp_path):
    out = tmp_path / "out"
    evaluate(Oracle(val), val, out, "train")
    evaluate(Oracle(val), val, out, "val", checkpoint="first")
    (out / "panoptic_val" / "stale.png").touch()
    (out / ".upsnet-eval-dead").mkdir()  # of a run that was killed
    evaluate(Oracle(val, wrong=True), val, out, "val", checkpoint="second")
    assert json.loads((out / "metrics.json").read_text())["checkpoint"] == "second"
    assert {p.name for p in out.iterdir()} == {
        "metrics.json",
        "panoptic_train",
        "panoptic_train.json",
        "panoptic_val",
        "panoptic_val.json",
    }
    assert len(files(out / "panoptic_val")) == len(val)


@pytest.mark.parametrize("what", ["annotations", "file", "other", "foreign metrics", "split"])
def test_what_no_evaluation_wrote_is_refused_and_untouched(what, val, shapes_root, tmp_path):
    out, split = tmp_path / "out", "val"
    if what == "annotations":  # has the very names that an evaluation writes
        shutil.copytree(shapes_root / "annotations", out)
    elif what == "file":
        out.write_text("mine")
    else:
        out.mkdir()
        if what == "other":
            (out / "thesis.tex").write_text("mine")
        elif what == "foreign metrics":
            (out / "metrics.json").write_text('{"accuracy": 1}')
        else:
            split = "../val"
    before = files(tmp_path)
    model = Oracle(val)
    with pytest.raises(UserError, match="out"):
        evaluate(model, val, out, split)
    assert files(tmp_path) == before and model.seen == 0


def test_an_empty_data_set_is_refused(val):
    class Empty:
        categories = val.categories

        def __len__(self):
            return 0

    with pytest.raises(UserError, match="no image"):
        evaluate(Oracle(val), Empty(), split="val")


def test_a_map_that_disagrees_with_its_segments_names_the_image(val):
    class Lost(Oracle):
        def one(self, target):
            found = super().one(target)
            return {**found, "segments_info": found["segments_info"][1:]}

    with pytest.raises(UserError, match=r"\d+\.jpg: prediction.*not among"):
        evaluate(Lost(val), val)
