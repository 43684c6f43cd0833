"""The check: nothing on sound data, every planted problem in one run, no crash on any JSON."""

import json
import os
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from upsnet_lite.datasets.check import Problem, check
from upsnet_lite.datasets.coco_panoptic import CocoPanoptic
from upsnet_lite.datasets.ids import read_ids, write_ids
from upsnet_lite.files import UserError

from .conftest import IDS, edit, put


def test_sound_data_has_no_problem(root, shapes_root):
    put(root, split="train", count=3)
    seen = []
    assert check(root, lambda *done: seen.append(done)) == []
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert check(shapes_root) == []


def test_coco128_has_no_problem(coco128):
    assert check(coco128) == []


def test_ten_problems_planted_in_photographs_are_found_in_one_run(coco128, tmp_path):
    """One in each of ten images of a copy of COCO's val2017; nothing is said of the other forty."""
    for folder in ("val2017", "annotations/panoptic_val2017"):
        shutil.copytree(coco128 / folder, tmp_path / folder)
    path = tmp_path / "annotations/panoptic_val2017.json"
    content = json.loads((coco128 / "annotations/panoptic_val2017.json").read_text())
    files = {image["id"]: image["file_name"] for image in content["images"]}
    chosen = content["annotations"][:10]
    pngs = [path.with_suffix("") / a["file_name"] for a in chosen]
    first = [a["segments_info"][0] for a in chosen]

    pngs[0].unlink()
    write_ids(pngs[1], np.where(read_ids(pngs[1]) == first[1]["id"], 0, read_ids(pngs[1])))
    ids = read_ids(pngs[2])
    for segment in chosen[2]["segments_info"]:
        segment["area"] -= int(segment["id"] == ids[0, 0])  # it loses the pixel that becomes a stranger's
    ids[0, 0] = 4444
    write_ids(pngs[2], ids)
    Image.new("RGB", (31, 17)).save(tmp_path / "val2017" / files[chosen[3]["image_id"]])
    first[4]["category_id"] = 999
    chosen[5]["segments_info"].append(dict(first[5]))
    first[6]["bbox"] = [0, 0, 10_000, 5]
    first[7]["area"] += 1
    next(i for i in content["images"] if i["id"] == chosen[8]["image_id"])["file_name"] = "../../secret.jpg"
    truncated = tmp_path / "val2017" / files[chosen[9]["image_id"]]
    truncated.write_bytes(truncated.read_bytes()[:-2000])
    path.write_text(json.dumps(content))

    found = {(p.file.rsplit("/", 1)[-1], p.what) for p in check(tmp_path)}
    name = [p.name for p in pngs]
    height, width = read_ids(pngs[6]).shape
    expected = [
        (name[0], "is missing"),
        (name[1], f"segment {first[1]['id']}: no pixel of the PNG has this id"),
        (name[2], "holds id 4444, which segments_info lacks"),
        (files[chosen[3]["image_id"]], "has 31 x 17 px, its annotation"),
        (name[4], f"segment {first[4]['id']}: category 999 is unknown"),
        (name[5], f"segment id {first[5]['id']} stands 2 times"),
        (name[6], f"segment {first[6]['id']}: box [0, 0, 10000, 5] leaves the image of {width} x {height} px"),
        (name[7], f"segment {first[7]['id']}: area {first[7]['area']}, the PNG has {first[7]['area'] - 1} pixels"),
        ("secret.jpg", "leads out of"),
        (truncated.name, "cannot be read as an image"),
    ]
    for file, what in expected:
        assert any(file == f and what in w for f, w in found), (file, what, found)
    assert len(found) == 10, found


def test_all_problems_in_one_run(tmp_path):
    """Twelve images, a problem in each but the first; each is found, and nothing else is."""
    path = put(tmp_path, count=12)
    png, picture = tmp_path / "annotations/panoptic_val", tmp_path / "val"
    os.remove(png / "2.png")
    write_ids(png / "3.png", np.where(read_ids(png / "3.png") == 600, 0, IDS))
    write_ids(png / "4.png", np.where(IDS == 0, 4444, IDS))
    Image.new("RGB", (6, 5)).save(picture / "5.png")

    def plant(content: dict) -> None:
        segments = [a["segments_info"] for a in content["annotations"]]
        segments[5][0]["category_id"] = 66
        segments[6].append(dict(segments[6][0]))
        segments[7][0]["bbox"] = [2, 2, 4, 2]
        segments[8][0]["area"] = 99
        content["images"][9]["file_name"] = "../10.png"
        content["images"][10]["file_name"] = "11.jpg"

    edit(path, plant)
    noise = np.random.default_rng(0).integers(0, 255, (5, 5, 3), dtype=np.uint8)
    Image.fromarray(noise).save(picture / "11.jpg")
    (picture / "11.jpg").write_bytes((picture / "11.jpg").read_bytes()[:-60])  # truncated JPEG
    os.remove(picture / "12.png")

    found = [(p.split, p.file, p.what) for p in check(tmp_path)]
    folder = "annotations/panoptic_val"
    expected = [
        (f"{folder}/2.png", "is missing"),
        (f"{folder}/3.png", "segment 600: no pixel"),
        (f"{folder}/4.png", "holds id 4444, which segments_info lacks"),
        ("val/5.png", "has 6 x 5 px, its annotation 5 x 5 px"),
        (f"{folder}/6.png", "segment 600: category 66 is unknown"),
        (f"{folder}/7.png", "segment id 600 stands 2 times"),
        (f"{folder}/8.png", "segment 600: box [2, 2, 4, 2] leaves the image"),
        (f"{folder}/9.png", "segment 600: area 99, the PNG has 6 pixels"),
        ("val/../10.png", "leads out of"),
        ("val/11.jpg", "cannot be read as an image"),
        ("val/12.png", "is missing"),
    ]
    assert [(split, file) for split, file, _ in found] == [("val", file) for file, _ in expected]
    for (_, _, what), (_, words) in zip(found, expected, strict=True):
        assert words in what


def test_problems_of_the_json_itself(tmp_path):
    path = put(tmp_path, count=6)

    def plant(content: dict) -> None:
        images, annotations = content["images"], content["annotations"]
        del annotations[1]  # image 2 is alone
        annotations.append(annotations[0] | {"image_id": 99})  # an annotation is alone
        images[2]["id"] = 1  # twice, and annotation 3 is alone now
        images[3]["file_name"] = "1.png"  # twice
        del images[4]["width"]
        annotations[4]["segments_info"][0]["area"] = "six"
        del annotations[4]["segments_info"][1]["iscrowd"]
        content["categories"].append(content["categories"][0])
        content["categories"].append({"id": 50, "name": "no kind"})

    edit(path, plant)
    put(tmp_path, split="broken").write_text("{")
    put(tmp_path, split="empty").write_text("{}")
    found = check(tmp_path)
    text = "\n".join(f"{p.split} {p.file}: {p.what}" for p in found)
    for words in (
        "image '2.png' has no annotation",
        "annotation '1.png' has no image with id 99",
        "annotation '3.png' has no image with id 3",
        "images: id 1 stands 2 times",
        "images: file_name '1.png' stands 2 times",
        "images[4]: 'width' is missing",
        "categories: id 7 stands 2 times",
        "categories[5]: 'isthing' is missing",
        "panoptic_val/6.png: segments_info[0]: 'area' is 'six', not a number",
        "panoptic_val/6.png: segments_info[1]: 'iscrowd' is missing",
        "broken annotations/panoptic_broken.json: is not valid JSON",
        "empty annotations/panoptic_empty.json: no list 'images'",
    ):
        assert words in text
    assert all(p.advice for p in found)


def test_a_wrong_size_in_the_json_and_a_broken_png(tmp_path):
    path = put(tmp_path, count=2)
    edit(path, lambda c: c["images"][0].update(width=7))
    (tmp_path / "annotations/panoptic_val/2.png").write_bytes(b"no PNG")
    first, second = check(tmp_path)
    assert first.what == "5 x 5 px, the JSON says 7 x 5 px"
    assert second == Problem("val", "annotations/panoptic_val/2.png", second.what, second.advice)
    assert second.what.startswith("cannot be read as a panoptic PNG")


def test_a_folder_that_is_no_data_set(tmp_path):
    with pytest.raises(UserError, match="no annotations/panoptic_"):
        check(tmp_path)
    with pytest.raises(UserError, match="nowhere is missing"):
        check(tmp_path / "nowhere")


NUMBERS = (10**400, [10**400, 0, 1, 1], [float("nan")] * 4, [float("inf")] * 4, [[1]], [1, 2])
JUNK = st.one_of(
    st.none(),
    st.integers(),
    st.text(max_size=3),
    st.just([]),
    st.just({}),
    st.just([1]),
    st.floats(),
    st.sampled_from(["a\0b", "a\nb", "\ud800", "..", "/"]),
    st.sampled_from(NUMBERS),
)


@given(st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_json_makes_it_crash_and_the_loader_refuses_nothing_that_it_passes(tmp_path, data):
    """Any value anywhere in a sound JSON replaced by junk."""
    path = tmp_path / "annotations/panoptic_val.json"
    if not path.exists():
        put(tmp_path)
        (tmp_path / "sound.json").write_text(path.read_text())
    content = json.loads((tmp_path / "sound.json").read_text())
    places = list(walk(content))
    holder, key = data.draw(st.sampled_from(places))
    holder[key] = data.draw(JUNK)
    path.write_text(json.dumps(content))
    found = check(tmp_path)
    assert all(p.what and "\n" not in p.what for p in found)
    try:
        list(CocoPanoptic(tmp_path, "val"))
    except UserError as error:
        assert found and "\n" not in str(error)


def walk(value):
    """(container, key) of everything inside."""
    for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(inner, dict | list):
            yield from walk(inner)


@pytest.mark.parametrize(
    ("key", "field", "value", "said"),
    [
        ("images", "file_name", "a\0b.jpg", "cannot be one"),
        ("images", "file_name", "\ud800.jpg", "cannot be one"),
        ("categories", "color", None, "'color' is None"),
        ("categories", "color", [1, 2], "'color' is [1, 2]"),
        ("segments_info", "bbox", [10**400, 0, 1, 1], "is not [x, y, width, height]"),
    ],
)
def test_what_no_reader_could_digest_is_a_row_like_others(shapes_root, tmp_path, key, field, value, said):
    root = shutil.copytree(shapes_root, tmp_path / "data")
    path = root / "annotations/panoptic_val.json"
    content = json.loads(path.read_text())
    entry = content["annotations"][0]["segments_info"][0] if key == "segments_info" else content[key][0]
    entry[field] = value
    content["images"][1]["height"] = 7  # found all the same
    path.write_text(json.dumps(content))
    found = [p.what for p in check(root)]
    assert any(said in what for what in found) and any("7" in what for what in found)


def test_nesting_without_end_is_a_row(shapes_root, tmp_path):
    root = shutil.copytree(shapes_root, tmp_path / "data")
    (root / "annotations/panoptic_val.json").write_text("[" * 200_000)
    assert ["nested too deeply" in p.what for p in check(root)] == [True]


def test_two_annotations_of_one_png_are_found(shapes_root, tmp_path):
    root = shutil.copytree(shapes_root, tmp_path / "data")
    path = root / "annotations/panoptic_val.json"
    content = json.loads(path.read_text())
    content["annotations"][1]["file_name"] = content["annotations"][0]["file_name"]
    path.write_text(json.dumps(content))
    assert any("stands 2 times" in p.what for p in check(root))


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ([0, 0, 1, 1], "segment 600: box [0, 0, 1, 1], its pixels span [2, 2, 3, 2]"),
        ([2, 2, 3, 0.5], "segment 600: box [2, 2, 3, 0.5], its pixels span [2, 2, 3, 2]"),
        ([1, 2, 4, 2], ""),  # COCO's are off by one here and there
        ([2.0, 2.4, 2.0, 2.6], ""),
        ([0, 0, 9, 9], "segment 600: box [0, 0, 9, 9] leaves the image"),  # said once
    ],
)
def test_a_box_inside_the_image_is_held_against_the_pixels(tmp_path, box, said):
    edit(put(tmp_path), lambda content: content["annotations"][0]["segments_info"][0].update(bbox=box))
    found = [p.what for p in check(tmp_path)]
    assert len(found) == bool(said) and all(what.startswith(said) for what in found)
