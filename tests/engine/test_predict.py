"""predict: which images, under which names, what is written, what is refused."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from upsnet_lite.categories import Categories
from upsnet_lite.datasets.ids import read_ids
from upsnet_lite.engine.predict import borders, overlay, predict, wide_place
from upsnet_lite.files import UserError

SKY, CAT = 7, 3
CATEGORIES = Categories.from_json(
    [dict(id=SKY, name="sky", isthing=0, color=[0, 0, 200]), dict(id=CAT, name="cat", isthing=1, color=[200, 0, 0])]
)


class Halves(torch.nn.Module):
    """Calls the left half sky, the right half a cat, and the last row unknown."""

    categories = CATEGORIES

    def forward(self, images):
        assert not self.training
        return [self.one(*image.shape[1:]) for image in images]

    def one(self, height, width):
        panoptic = torch.full((height, width), 300)
        panoptic[:, width // 2 :] = 70000
        panoptic[-1] = 0
        found = [dict(id=300, category_id=SKY, isthing=False, score=1.0, area=int((panoptic == 300).sum()))]
        found.append(dict(id=70000, category_id=CAT, isthing=True, score=0.9, area=int((panoptic == 70000).sum())))
        return dict(panoptic=panoptic, segments_info=found)


def picture(path, size=(40, 30), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, 128 if mode == "L" else None).save(path)
    return path


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def three(name):
    return [f"{name}.json", f"{name}_overlay.png", f"{name}_panoptic.png"]


def test_three_files_for_an_image(tmp_path):
    done = []
    image = picture(tmp_path / "photo.of.mine.jpg")
    written = predict(Halves().train(), [image], tmp_path / "out", progress=lambda *n: done.append(n))
    assert files(tmp_path / "out") == three("photo.of.mine") and written == [tmp_path / "out" / "photo.of.mine.json"]
    assert done == [(1, 1)]
    content = json.loads(written[0].read_text())
    assert (content["image"], content["height"], content["width"]) == ("photo.of.mine.jpg", 30, 40)
    assert [(s["id"], s["name"], s["area"]) for s in content["segments_info"]] == [
        (300, "sky", 580),
        (70000, "cat", 580),
    ]
    assert content["unknown_area"] == 40
    ids = read_ids(tmp_path / "out" / content["file_name"])
    assert np.array_equal(ids, Halves().one(30, 40)["panoptic"].numpy())
    with Image.open(tmp_path / "out" / "photo.of.mine_overlay.png") as drawn:
        assert drawn.size == (40, 30) and drawn.mode == "RGB"


def test_folders_are_searched_below_and_keep_their_shape(tmp_path):
    for name in ("b.png", "a.JPG", "deep/er/a.webp", ".hidden.png", ".cache/c.png"):
        picture(tmp_path / "in" / name, mode="RGB")
    (tmp_path / "in" / "notes.txt").write_text("no image")
    predict(Halves(), [tmp_path / "in"], tmp_path / "out")
    assert files(tmp_path / "out") == sorted(three("a") + three("b") + three("deep/er/a"))


def test_results_inside_the_input_folder_are_no_inputs(tmp_path):
    picture(tmp_path / "in" / "a.png")
    for _ in range(2):
        assert len(predict(Halves(), [tmp_path / "in"], tmp_path / "in" / "out")) == 1
    with pytest.raises(UserError, match="also an input"):
        predict(Halves(), [tmp_path / "in"], tmp_path / "in")


def test_the_same_image_given_twice_is_done_once(tmp_path):
    image = picture(tmp_path / "in" / "a.png")
    assert len(predict(Halves(), [image, tmp_path / "in"], tmp_path / "out")) == 1


@pytest.mark.parametrize("second", ["two/a.png", "one/a.jpg", "two/A.png"])
def test_images_that_would_get_one_name_are_refused(second, tmp_path):
    images = [picture(tmp_path / "one" / "a.png"), picture(tmp_path / second)]
    with pytest.raises(UserError, match="two output folders") as error:
        predict(Halves(), images, tmp_path / "out")
    assert all(str(i) in str(error.value) for i in images) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "bad, message", [("gone.png", "does not exist"), ("empty", "holds no image"), (None, "no image")]
)
def test_missing_inputs_are_refused_before_anything_is_written(bad, message, tmp_path):
    (tmp_path / "empty").mkdir()
    inputs = [picture(tmp_path / "a.png"), tmp_path / bad] if bad else []
    with pytest.raises(UserError, match=message) as error:
        predict(Halves(), inputs, tmp_path / "out")
    assert (bad or "") in str(error.value) and "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_a_broken_image_is_named_and_nothing_is_written_for_it(tmp_path):
    picture(tmp_path / "in" / "a.png", size=(200, 200))
    whole = picture(tmp_path / "in" / "b.png", size=(200, 200))
    whole.write_bytes(whole.read_bytes()[:80])
    with pytest.raises(UserError, match=r"b\.png") as error:
        predict(Halves(), [tmp_path / "in"], tmp_path / "out")
    assert "\n" not in str(error.value) and files(tmp_path / "out") == three("a")


def test_an_output_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UserError, match="is a file"):
        predict(Halves(), [picture(tmp_path / "a.png")], tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_training_mode_comes_back_also_after_an_error(tmp_path):
    class Broken(Halves):
        def one(self, height, width):
            raise RuntimeError("out of memory")

    model = Broken().train()
    with pytest.raises(RuntimeError):
        predict(model, [picture(tmp_path / "a.png")], tmp_path / "out")
    assert model.training and not (tmp_path / "out").exists()


def test_overlay_mixes_colours_draws_borders_and_hatches_unknown():
    found = Halves().one(30, 40)
    drawn = overlay(torch.full((3, 30, 40), 0.5), found["panoptic"], found["segments_info"], CATEGORIES).astype(int)
    red, green, blue = drawn[10, 30]
    assert red > 150 and green == blue < 80  # a cat's red over grey
    assert drawn[10, 5, 2] > 150 and drawn[10, 5, 0] == drawn[10, 5, 1] < 80
    assert (drawn[10, 19] == 255).all() and (drawn[28] == 255).all()
    row = drawn[29]
    assert (row[:, 0] == row[:, 1]).all() and (row[:, 1] == row[:, 2]).all() and len(np.unique(row)) == 2


def test_borders_by_hand():
    assert borders(np.array([[1, 1, 2], [1, 1, 2], [3, 3, 2]])).astype(int).tolist() == [
        [0, 1, 0],
        [1, 1, 0],
        [0, 1, 0],
    ]


def test_a_map_without_any_segment_is_all_hatch():
    drawn = overlay(torch.zeros(3, 8, 8), torch.zeros(8, 8, dtype=torch.int64), [], CATEGORIES)
    assert len(np.unique(drawn)) == 2


def test_a_name_stands_on_its_segment_also_where_the_middle_is_a_hole():
    ring = np.ones((9, 20), dtype=bool)
    ring[1:8, 1:19] = False
    ring[5:8, 12:19] = True
    assert wide_place(ring)[2] == 20 and ring[wide_place(ring)[1], wide_place(ring)[0]]
    assert wide_place(np.zeros((3, 3), dtype=bool)) == (0, 0, 0)
    assert wide_place(np.array([[0, 0, 0, 0], [1, 1, 0, 1]], dtype=bool)) == (1, 1, 2)


@pytest.mark.parametrize("foreign", ["photo.json", "photo_overlay.png"])
def test_files_that_no_prediction_wrote_stay(tmp_path, foreign):
    picture(tmp_path / "photo.jpg")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / foreign).write_text('{"shapes": []}')
    with pytest.raises(UserError, match=f"{foreign} is there already"):
        predict(Halves(), [tmp_path / "photo.jpg"], tmp_path / "out")
    assert files(tmp_path / "out") == [foreign]


def test_a_prediction_replaces_its_own_files(tmp_path):
    picture(tmp_path / "photo.jpg")
    first = predict(Halves(), [tmp_path / "photo.jpg"], tmp_path / "out")
    assert predict(Halves(), [tmp_path / "photo.jpg"], tmp_path / "out") == first
