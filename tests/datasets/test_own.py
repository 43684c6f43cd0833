"""One's own labels: hand-painted 4 x 6 images, read back by the loader and by the check."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from upsnet_lite.datasets.check import check
from upsnet_lite.datasets.coco_panoptic import CocoPanoptic
from upsnet_lite.datasets.own import from_coco, from_masks
from upsnet_lite.files import UserError

ROOT = Path(__file__).parents[2]
MASK = np.array([[0, 7, 7, 0, 0, 0], [0, 7, 7, 0, 200, 200], [0, 0, 0, 0, 200, 200], [0, 0, 0, 0, 0, 0]], np.uint8)


def picture(path, size=(6, 4), value=100):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)


@pytest.fixture
def photos(tmp_path):
    for n in range(5):
        picture(tmp_path / f"photos/p{n}.jpg")
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(MASK).save(tmp_path / f"masks/p{n}.png")
    return tmp_path


# ---- masks -----------------------------------------------------------------------------------------------------------


def test_masks_become_instances_and_a_rest(photos):
    counts = from_masks(photos / "photos", photos / "masks", "leaf", photos / "out", rest="ground")
    assert counts == {"train": 4, "val": 1} and check(photos / "out") == []
    data = CocoPanoptic(photos / "out", "train")
    assert [(c.name, c.isthing) for c in data.categories] == [("ground", False), ("leaf", True)]
    _, target = data[0]
    assert target["boxes"].tolist() == [[1, 0, 3, 2], [4, 1, 6, 3]] and target["labels"].tolist() == [1, 1]
    assert target["semantic"].tolist() == (MASK > 0).astype(int).tolist()
    assert len({i["source"] for s in counts for i in CocoPanoptic(photos / "out", s).images}) == 5


@pytest.mark.parametrize("kind", ["I;16", "P", "RGB", "1"])
def test_any_kind_of_png_says_the_same(tmp_path, kind):
    values = (MASK > 0).astype(np.uint8) if kind == "1" else MASK
    picture(tmp_path / "photos/a.png")
    (tmp_path / "masks").mkdir()
    if kind == "I;16":
        image = Image.fromarray(values.astype(np.uint16) * 300)
    elif kind == "P":
        image = Image.fromarray(values)
        image.putpalette([v for n in range(256) for v in (n, 255 - n, 0)])
    elif kind == "RGB":  # two colours that differ in blue alone
        image = Image.fromarray(np.stack((values > 0, values > 0, values), -1).astype(np.uint8))
    else:
        image = Image.fromarray(values.astype(bool))
    image.save(tmp_path / "masks/a.png")
    from_masks(tmp_path / "photos", tmp_path / "masks", "leaf", tmp_path / "out", val=0)
    _, target = CocoPanoptic(tmp_path / "out", "train")[0]
    expected = [(MASK > 0)] if kind == "1" else [MASK == 7, MASK == 200]
    assert np.array_equal(target["masks"].numpy(), np.array(expected))


@pytest.mark.parametrize(("value", "things"), [(0, 0), (3, 1)])
def test_an_image_of_nothing_but_rest_or_one_object(tmp_path, value, things):
    picture(tmp_path / "photos/a.png")
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.full((4, 6), value, np.uint8)).save(tmp_path / "masks/a.png")
    assert from_masks(tmp_path / "photos", tmp_path / "masks", "leaf", tmp_path / "out") == {"train": 1}
    assert check(tmp_path / "out") == []
    assert len(CocoPanoptic(tmp_path / "out", "train")[0][1]["masks"]) == things


def test_bad_folders_are_one_line_and_leave_nothing(photos):
    def refused(words, *arguments, **options):
        with pytest.raises(UserError, match=words):
            from_masks(*arguments, "leaf", photos / "out", **options)
        assert not (photos / "out").exists() and not list(photos.glob(".*"))

    both = photos / "photos", photos / "masks"
    refused("is not a folder", photos / "nowhere", both[1])
    refused("must lie in 0", *both, val=1.0)
    (both[1] / "p3.png").rename(photos / "p3.png")
    refused(r"p3\.jpg has no partner", *both)
    picture(both[1] / "p3.png", size=(9, 9))
    refused("9 x 9 px", *both)
    (both[1] / "p3.png").write_bytes(b"no png")
    refused(r"p3\.png cannot be read", *both)
    picture(both[1] / "p3.jpg")
    (both[1] / "p3.png").unlink()
    refused("is a JPEG", *both)
    (photos / "full").mkdir()
    (photos / "full/x").touch()
    with pytest.raises(UserError, match="not empty"):
        from_masks(photos / "photos", photos / "photos", "leaf", photos / "full")


# ---- COCO ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def coco(tmp_path):
    """One image of 8 x 6: a large polygon, a small RLE on it, a crowd as text; not in the order of their sizes."""
    rle = pytest.importorskip("pycocotools.mask")
    picture(tmp_path / "photos/in/a.jpg", size=(8, 6))
    crowd = np.zeros((6, 8), np.uint8)
    crowd[:, 6:] = 1
    text = rle.encode(np.asfortranarray(crowd))["counts"].decode()
    small = np.zeros((6, 8), bool)
    small[2:4, 2:4] = True
    runs = [14, 2, 4, 2, 26]  # down the columns: 2 x 2 at column 2, row 2
    content = dict(
        images=[dict(id=9, file_name="in/a.jpg", width=8, height=6)],
        categories=[dict(id=4, name="cat"), dict(id=2, name="dog")],
        annotations=[
            dict(id=1, image_id=9, category_id=2, segmentation=dict(size=[6, 8], counts=runs), iscrowd=0),
            dict(id=2, image_id=9, category_id=4, segmentation=[[1, 1, 7, 1, 7, 5, 1, 5]], iscrowd=0),
            dict(id=3, image_id=9, category_id=4, segmentation=dict(size=[6, 8], counts=text), iscrowd=1),
        ],
    )
    (tmp_path / "in.json").write_text(json.dumps(content))
    return tmp_path, content, small


def test_coco_polygons_rle_and_crowds(coco):
    root, _, small = coco
    assert from_coco(root / "in.json", root / "photos", root / "out") == {"train": 1}
    assert check(root / "out") == []
    data = CocoPanoptic(root / "out", "train")
    assert [(c.id, c.name) for c in data.categories] == [(5, "background"), (2, "dog"), (4, "cat")]
    _, target = data[0]
    by_label = dict(zip(target["labels"].tolist(), target["masks"].numpy(), strict=True))
    large = np.zeros((6, 8), bool)
    large[1:5, 1:7] = True
    assert np.array_equal(by_label[1], small), "the small one lies on top"
    assert np.array_equal(by_label[2], large & ~small), "and on the crowd the large one"
    crowd = target["semantic"].numpy()[:, 7]
    assert (crowd == 2).all() and len(by_label) == 2


def test_stuff_pngs_name_the_rest(coco):
    root, _, _ = coco
    stuff = np.full((6, 8), 1, np.uint8)
    stuff[3:], stuff[0, :2] = 2, (0, 255)
    (root / "stuff").mkdir()
    Image.fromarray(stuff).save(root / "stuff/a.png")
    from_coco(root / "in.json", root / "photos", root / "out", root / "stuff", ["sky", "grass"])
    assert check(root / "out") == []
    semantic = CocoPanoptic(root / "out", "train")[0][1]["semantic"].numpy()
    assert semantic[0, :4].tolist() == [-100, -100, 0, 0] and semantic[5, 0] == 1
    with pytest.raises(UserError, match="value 2, but --stuff names 1"):
        from_coco(root / "in.json", root / "photos", root / "other", root / "stuff", ["sky"])
    with pytest.raises(UserError, match="need a folder"):
        from_coco(root / "in.json", root / "photos", root / "other", None, ["sky", "grass"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["annotations"][1].pop("segmentation"), "annotation 2 has no mask"),
        (lambda c: c["annotations"][1].update(segmentation=[]), "annotation 2 has no mask"),
        (lambda c: c["annotations"][0]["segmentation"].update(size=[5, 5]), "annotation 1 has a mask of 5 x 5 px"),
        (lambda c: c["annotations"][0].update(category_id=77), r"annotations\[0\] names a category"),
        (lambda c: c["images"][0].update(file_name="../../secret.jpg"), "leads out of"),
        (lambda c: c["images"][0].update(file_name="gone.jpg"), "is missing"),
        (lambda c: c.pop("images"), "not a COCO detection JSON"),
        (lambda c: c.update(images=[], annotations=[]), "no image"),
    ],
)
def test_bad_coco_is_one_line(coco, change, words):
    root, content, _ = coco
    change(content)
    (root / "in.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=words):
        from_coco(root / "in.json", root / "photos", root / "out")
    assert not (root / "out").exists()


# ---- from photographs to PQ ------------------------------------------------------------------------------------------


def test_three_commands_from_photographs_to_pq(tmp_path):
    """The README's own three lines in new processes; two iterations in place of ten minutes."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8").split("## Your own data in five minutes")[1]
    lines = [line.split() for line in readme.splitlines() if line.startswith("    upsnet-lite ")][:3]
    assert [line[1] for line in lines] == ["data", "train", "eval"]
    rng = np.random.default_rng(0)
    for folder in ("photos", "masks"):
        (tmp_path / folder).mkdir()
    for n in range(5):
        mask = np.zeros((64, 80), np.uint8)
        for k in (1, 2):
            y, x = rng.integers(0, 40, 2)
            mask[y : y + 20, x : x + 24] = k
        photograph = np.where(mask[..., None] > 0, (200, 40, 40), (40, 160, 60)).astype(np.uint8)
        Image.fromarray(photograph).save(tmp_path / f"photos/{n}.jpg")
        Image.fromarray(mask).save(tmp_path / f"masks/{n}.png")
    printed = []
    for line in lines:
        words = " ".join(line[1:]).replace("--minutes 10", "--iterations 2 --batch-size 2 --accelerator cpu").split()
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        command = [sys.executable, "-m", "upsnet_lite", *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout)
    assert "4 train + 1 val images" in printed[0] and "no problem found" in printed[0]
    out = tmp_path / words[words.index("--out") + 1]
    found = json.loads((out / "metrics.json").read_text())
    assert 0 <= found["PQ"] <= 100 and {row["name"] for row in found["per_class"]} == {"background", "leaf"}
