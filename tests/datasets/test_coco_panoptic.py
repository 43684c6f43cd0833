"""The loader: a 5 x 5 oracle, every image mode, every bad input in one line, real COCO."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from upsnet_lite.categories import IGNORE
from upsnet_lite.datasets.coco_panoptic import CocoPanoptic, boxes_of, read_ids, write_ids
from upsnet_lite.datasets.images import read_image
from upsnet_lite.files import UserError

from .conftest import IDS, SEGMENTS, edit, put

# ---------------------------------------------------------------------------------------------- the oracle


def test_the_5x5_map_by_hand(root):
    dataset = CocoPanoptic(root, "val")
    assert len(dataset) == 1
    assert [c.name for c in dataset.categories] == ["sky", "sand", "box", "ball"]
    image, target = dataset[0]
    assert image.dtype == torch.float32 and image.shape == (3, 5, 5)
    assert torch.equal(image, torch.full((3, 5, 5), 0.2))
    i = IGNORE
    semantic = [[0, 0, 0, 0, i], [0, 3, 3, 0, i], [0, 3, 2, 2, 2], [1, 1, 2, 2, 2], [1, 1, 1, 3, 3]]  # crowd: class 3
    assert torch.equal(target["semantic"], torch.tensor(semantic))
    assert torch.equal(target["labels"], torch.tensor([2, 1]))  # by ascending segment id: ball (5), box (600)
    assert torch.equal(target["boxes"], torch.tensor([[1.0, 1, 3, 3], [2, 2, 5, 4]]))
    assert torch.equal(target["masks"], torch.from_numpy(np.stack([IDS == 5, IDS == 600])))
    assert torch.equal(target["panoptic"], torch.from_numpy(IDS))
    assert target["segments_info"] == SEGMENTS
    assert (target["image_id"], target["file_name"]) == (1, "1.png")


def test_a_segment_without_pixels_is_no_instance(root):
    empty = dict(id=77, category_id=5, iscrowd=0, bbox=[0, 0, 0, 0], area=0)
    edit(root / "annotations/panoptic_val.json", lambda c: c["annotations"][0]["segments_info"].append(empty))
    _, target = CocoPanoptic(root, "val")[0]
    assert target["labels"].tolist() == [2, 1]
    assert empty in target["segments_info"]  # evaluation sees the JSON as it is


def test_an_image_without_things_and_one_all_void(tmp_path):
    put(tmp_path / "stuff", ids=np.full((4, 6), 9), segments=[dict(id=9, category_id=3, iscrowd=0)])
    put(tmp_path / "void", ids=np.zeros((4, 6), int), segments=[])
    for name, value in (("stuff", 0), ("void", IGNORE)):
        _, target = CocoPanoptic(tmp_path / name, "val")[0]
        assert target["boxes"].shape == (0, 4) and target["boxes"].dtype == torch.float32
        assert target["labels"].shape == (0,) and target["labels"].dtype == torch.int64
        assert target["masks"].shape == (0, 4, 6) and target["masks"].dtype == torch.bool
        assert (target["semantic"] == value).all()


def test_annotations_are_paired_by_image_id_not_by_place(tmp_path):
    path = put(tmp_path, count=3)
    edit(path, lambda c: c["annotations"].reverse())
    write_ids(tmp_path / "annotations/panoptic_val/2.png", np.where(IDS == 600, 0, IDS))
    dataset = CocoPanoptic(tmp_path, "val")
    assert [len(dataset[i][1]["labels"]) for i in range(3)] == [2, 1, 2]
    assert [i["id"] for i in dataset.images] == [a["image_id"] for a in dataset.annotations] == [1, 2, 3]


def test_transform_is_applied_to_both(root):
    image, target = CocoPanoptic(root, "val", transform=lambda i, t: (i * 0, t | {"seen": True}))[0]
    assert image.sum() == 0 and target["seen"]


@given(arrays(np.int64, (3, 4), elements=st.integers(0, (1 << 24) - 1)))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_ids_survive_the_png(tmp_path, ids):
    write_ids(tmp_path / "x.png", ids)
    assert (read_ids(tmp_path / "x.png") == ids).all()


@pytest.mark.parametrize("bad", [-1, 1 << 24])
def test_ids_beyond_24_bits_are_refused(tmp_path, bad):
    with pytest.raises(ValueError, match="16777215"):
        write_ids(tmp_path / "x.png", np.array([[bad]]))
    assert not (tmp_path / "x.png").exists()


@given(arrays(bool, (2, 4, 5)))
def test_boxes_are_tight(masks):
    for mask, (x0, y0, x1, y1) in zip(masks, boxes_of(torch.from_numpy(masks)).int().tolist(), strict=True):
        rows, columns = np.nonzero(mask)
        expected = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) if mask.any() else (0, 0, 0, 0)
        assert (x0, y0, x1, y1) == tuple(expected)


# ---------------------------------------------------------------------------------------------- image modes

GREY = np.arange(25, dtype=np.uint8).reshape(5, 5) * 10  # 0 ... 240


def as_mode(mode: str) -> Image.Image:
    grey = Image.fromarray(GREY)
    if mode == "P":
        found = grey.convert("RGB").quantize(64)
        assert found.mode == "P"
        return found
    if mode == "16-bit":
        return Image.fromarray(GREY.astype(np.uint16) * 257)
    return grey.convert("RGB").convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "L", "LA", "P", "RGBA", "16-bit"])
def test_lossless_modes_give_the_same_pixels(tmp_path, mode):
    as_mode(mode).save(tmp_path / "x.png")
    found = read_image(tmp_path / "x.png")
    expected = torch.from_numpy(GREY / np.float32(255)).expand(3, 5, 5)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_palette_with_transparent_entries_and_one_bit(tmp_path):
    image = as_mode("P")
    image.save(tmp_path / "p.png", transparency=bytes([0, 128, 255]))
    torch.testing.assert_close(read_image(tmp_path / "p.png")[0], torch.from_numpy(GREY / np.float32(255)))
    Image.fromarray(GREY > 100).save(tmp_path / "1.png")
    assert torch.equal(read_image(tmp_path / "1.png")[1], torch.from_numpy(GREY > 100).float())


def test_cmyk_jpeg(tmp_path):
    Image.new("RGB", (8, 8), (200, 100, 50)).convert("CMYK").save(tmp_path / "x.jpg", quality=95)
    found = read_image(tmp_path / "x.jpg").mean((1, 2)) * 255
    torch.testing.assert_close(found, torch.tensor([200.0, 100, 50]), atol=4, rtol=0)


def test_32_bit_integers_hold_16_bits_or_are_refused(tmp_path):
    Image.fromarray(GREY.astype(np.int32) * 257).save(tmp_path / "x.tif")
    torch.testing.assert_close(read_image(tmp_path / "x.tif")[0], torch.from_numpy(GREY / np.float32(255)))
    Image.fromarray(GREY.astype(np.int32) * 70000).save(tmp_path / "y.tif")
    Image.fromarray(GREY.astype(np.float32)).save(tmp_path / "z.tif")
    for name, reason in (("y.tif", "16 bits"), ("z.tif", "floating-point")):
        with pytest.raises(UserError, match=f"{name}.*{reason}"):
            read_image(tmp_path / name)


def turned(path, pixels: np.ndarray, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)


def test_exif_the_annotation_decides_which_way_up(tmp_path):
    stored = np.stack([np.arange(12, dtype=np.uint8).reshape(3, 4) * 20] * 3, -1)  # 4 wide, 3 high
    turned(tmp_path / "x.png", stored, 6)  # to be shown turned clockwise by 90 degrees
    upright = torch.from_numpy(np.rot90(stored, -1).copy()).permute(2, 0, 1) / 255
    as_stored = torch.from_numpy(stored).permute(2, 0, 1) / 255
    torch.testing.assert_close(read_image(tmp_path / "x.png"), upright)
    torch.testing.assert_close(read_image(tmp_path / "x.png", (4, 3)), upright)
    torch.testing.assert_close(read_image(tmp_path / "x.png", (3, 4)), as_stored)
    turned(tmp_path / "y.png", stored, 3)  # upside down fits both ways: upright
    torch.testing.assert_close(read_image(tmp_path / "y.png", (3, 4)), as_stored.flip(1, 2))
    with pytest.raises(UserError, match="has 3 x 4 px, its annotation 5 x 5 px"):
        read_image(tmp_path / "x.png", (5, 5))


def test_a_huge_image_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    as_mode("RGB").save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 24)
    with pytest.raises(UserError, match=r"x\.png"), pytest.warns(Image.DecompressionBombWarning):
        read_image(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3)
    with pytest.raises(UserError, match=r"x\.png"):
        read_image(tmp_path / "x.png")


# ---------------------------------------------------------------------------------------------- bad input

JSON, PNG, PICTURE = "annotations/panoptic_val.json", "annotations/panoptic_val/1.png", "val/1.png"


def content(change):
    return lambda root: edit(root / JSON, change)


def segment(**values):
    return content(lambda c: c["annotations"][0]["segments_info"][0].update(values))


BAD = {  # what is done to the folder -> what the one line must name
    "root missing": (lambda r: shutil.rmtree(r), "data is missing"),
    "json missing": (lambda r: os.remove(r / JSON), "no split 'val'"),
    "json broken": (lambda r: (r / JSON).write_text('{"images": ['), "panoptic_val.json is not valid JSON"),
    "json a list": (lambda r: (r / JSON).write_text("[]"), "panoptic_val.json holds a JSON list"),
    "list missing": (content(lambda c: c.pop("annotations")), "panoptic_val.json has no list 'annotations'"),
    "category malformed": (
        content(lambda c: c["categories"][0].pop("isthing")),
        "panoptic_val.json: category number 0",
    ),
    "category twice": (content(lambda c: c["categories"].append(c["categories"][0])), "category id 7 stands twice"),
    "image without annotation": (content(lambda c: c["annotations"].clear()), "image 1.png has no annotation"),
    "annotation without image": (content(lambda c: c["images"].clear()), "annotation 1.png has no image"),
    "image twice": (
        content(lambda c: c["images"].append(c["images"][0])),
        "panoptic_val.json: an image id stands twice",
    ),
    "file name missing": (content(lambda c: c["images"][0].pop("file_name")), "panoptic_val.json.*malformed"),
    "file name no string": (content(lambda c: c["images"][0].update(file_name=3)), "panoptic_val.json.*malformed"),
    "width no number": (content(lambda c: c["images"][0].update(width="5")), "malformed .*width '5'"),
    "id no number": (
        content(lambda c: (c["images"][0].update(id="a"), c["annotations"][0].update(image_id="a"))),
        "panoptic_val.json.*malformed",
    ),
    "entry no object": (content(lambda c: c["images"].append(3)), "panoptic_val.json.*malformed"),
    "image climbs": (content(lambda c: c["images"][0].update(file_name="../x.png")), "'../x.png' leads out of"),
    "png climbs": (content(lambda c: c["annotations"][0].update(file_name="/etc/x")), "'/etc/x' leads out of"),
    "image folder missing": (lambda r: shutil.rmtree(r / "val"), "data/val is missing"),
    "png folder missing": (lambda r: shutil.rmtree(r / "annotations/panoptic_val"), "panoptic_val is missing"),
    "image missing": (lambda r: os.remove(r / PICTURE), "val/1.png is missing"),
    "png missing": (lambda r: os.remove(r / PNG), "panoptic_val/1.png is missing"),
    "image broken": (lambda r: (r / PICTURE).write_bytes(b"no image"), "val/1.png cannot be read as an image"),
    "image truncated": (lambda r: (r / PICTURE).write_bytes((r / PICTURE).read_bytes()[:-40]), "val/1.png cannot be"),
    "png broken": (lambda r: (r / PNG).write_bytes(b"\x89PNG\r\n"), "panoptic_val/1.png cannot be read"),
    "png grey": (lambda r: Image.new("L", (5, 5)).save(r / PNG), "panoptic_val/1.png .*mode L"),
    "image of other size": (lambda r: Image.new("RGB", (6, 5)).save(r / PICTURE), "val/1.png has 6 x 5 px"),
    "json of other size": (content(lambda c: c["images"][0].update(width=6)), "panoptic_val/1.png has 5 x 5 px"),
    "unknown category": (segment(category_id=99), "panoptic_val/1.png.*category 99"),
    "png id not in json": (segment(id=601), "panoptic_val/1.png holds segment id 600"),
    "segment id twice": (segment(id=5), "panoptic_val/1.png.*twice"),
    "segment without id": (content(lambda c: c["annotations"][0]["segments_info"][0].pop("id")), "1.png.*malformed"),
    "segments no list": (
        content(lambda c: c["annotations"][0].update(segments_info={})),
        "panoptic_val.json.*malformed",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gives_one_line_that_names_the_file(root, name):
    CocoPanoptic(root, "val")[0]  # sound before
    spoil, message = BAD[name]
    spoil(root)
    with pytest.raises(UserError, match=message) as error:
        CocoPanoptic(root, "val")[0]
    assert "\n" not in str(error.value)


def test_an_unknown_split_lists_those_that_exist(root):
    put(root, split="train")
    with pytest.raises(UserError, match="no split 'test'; it has train, val"):
        CocoPanoptic(root, "test")


# ---------------------------------------------------------------------------------------------- real COCO


def test_coco128(coco128):
    dataset = CocoPanoptic(coco128, "val2017")
    assert (dataset.categories.num_stuff, dataset.categories.num_thing) == (53, 80)
    assert dataset.categories[53].name == "person"
    for index in range(0, len(dataset), 10):
        image, target = dataset[index]
        truth = json.loads(json.dumps(dataset.annotations[index]["segments_info"]))
        things = {s["id"]: s for s in truth if s["category_id"] <= 90 and not s["iscrowd"]}
        assert len(target["boxes"]) == len(things)
        areas = [things[i]["area"] for i in sorted(things)]
        assert target["masks"].sum((1, 2)).tolist() == areas  # COCO counted them, not we
        void = (target["panoptic"] == 0).sum()
        assert (
            (target["semantic"] == IGNORE).sum() == void == target["semantic"].numel() - sum(s["area"] for s in truth)
        )
        assert image.min() >= 0 and image.max() <= 1 and image.shape[1:] == target["semantic"].shape
