"""A file is a model: saved, loaded and refused."""

import json
import os
import pickle
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from upsnet_lite import UPSNet, load
from upsnet_lite.categories import Categories
from upsnet_lite.convert import read_state
from upsnet_lite.engine.checkpoint import read_checkpoint, write_checkpoint
from upsnet_lite.files import UserError
from upsnet_lite.weights import build, describe, find, save, shipped

CATEGORIES = Categories.from_json(
    [
        {"id": 21, "name": "Gras", "isthing": 0},
        {"id": 3, "name": "Kuh", "isthing": 1, "color": [1, 2, 3]},
        {"id": 9, "name": "Mühle", "isthing": 1},
    ]
)


@pytest.fixture(scope="module")
def model() -> UPSNet:
    torch.manual_seed(0)
    options = dict(min_size=64, max_size=64, panoptic_score=0.1, outside=float("-inf"), widths=(16, 16, 16, 16))
    made = UPSNet.from_preset("tiny", 1, 2, categories=CATEGORIES, **options).eval()
    made.backbone.body["bn1"].running_mean.normal_()  # statistics belong to the file as well
    return made


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save(model, path, notes={"minutes": "2"})
    return path


def checkpoint(model: UPSNet, folder: Path, /, **parts) -> Path:
    """The checkpoint.pt of a run, with these parts replaced."""
    whole = dict(model=model.state_dict(), optimizer={}, iteration=3, seconds=1.0, description=describe(model))
    write_checkpoint(folder, whole | {"options": "{}"} | parts)
    return folder / "checkpoint.pt"


def rewritten(saved: Path, to: Path, **metadata: str) -> Path:
    with safe_open(saved, "pt") as file:
        found = file.metadata()
    save_file(load_file(saved), to, metadata=found | metadata)
    return to


def test_round_trip(model, saved) -> None:
    again = load(saved)
    assert not again.training and again.config == model.config and again.categories == CATEGORIES
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in model.state_dict().items())
    image = torch.rand(3, 50, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        a, b = model([image])[0], again([image])[0]
    assert torch.equal(a["panoptic"], b["panoptic"]) and torch.equal(a["boxes"], b["boxes"])
    assert a["segments_info"] == b["segments_info"]


def test_a_runs_folder_is_its_model(saved) -> None:
    assert find(saved.parent) == saved and load(str(saved.parent)).categories == CATEGORIES


def test_the_folder_of_an_interrupted_run_is_its_checkpoint(model, tmp_path) -> None:
    state = dict(
        model=model.state_dict(), optimizer={}, iteration=1, seconds=1.0, description=describe(model), options=""
    )
    torch.save(state, tmp_path / "checkpoint.pt")
    assert find(tmp_path) == tmp_path / "checkpoint.pt" and load(tmp_path).categories == CATEGORIES
    torch.save(state | dict(model=3), tmp_path / "checkpoint.pt")
    assert "not a training checkpoint" in refused(tmp_path)


def test_half_halves_the_file_and_loads_as_float32(model, saved, tmp_path) -> None:
    save(model, tmp_path / "half.safetensors", half=True)
    assert os.path.getsize(tmp_path / "half.safetensors") < 0.6 * os.path.getsize(saved)
    again = load(tmp_path / "half.safetensors")
    for name, t in model.state_dict().items():
        assert again.state_dict()[name].dtype == t.dtype
        torch.testing.assert_close(again.state_dict()[name], t, rtol=1e-3, atol=1e-4)


def test_notes_stand_in_the_header_and_nothing_is_pickled(saved) -> None:
    with safe_open(saved, "pt") as file:
        assert file.metadata()["minutes"] == "2"
        assert json.loads(file.metadata()["config"])["num_thing"] == 2
    assert b"pickle" not in saved.read_bytes() and os.listdir(saved.parent) == ["model.safetensors"]


def test_description_is_enough_to_build_again(model) -> None:
    made = build(describe(model))
    assert made.config == model.config and made.categories == CATEGORIES
    assert {k: v.shape for k, v in made.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}


def refused(path: Path | str) -> str:
    with pytest.raises(UserError) as error:
        load(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_unknown_name_lists_what_there_is(tmp_path) -> None:
    said = refused("no-such-model")
    assert "no-such-model: no such checkpoint" in said and (", ".join(shipped()) or "none") in said
    assert "no such checkpoint" in refused(tmp_path)  # a folder without model
    assert "no such checkpoint" in refused("../models/tiny-shapes")  # a name is no path


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x10" + b"\x00" * 7 + b'{"a": 1}        ' + b"\xff" * 50])
def test_broken_file(tmp_path, content) -> None:
    (tmp_path / "broken.safetensors").write_bytes(content)
    said = refused(tmp_path / "broken.safetensors")
    assert "broken.safetensors" in said and "not a readable safetensors file" in said


def test_truncated_file(saved, tmp_path) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(saved.read_bytes()[:-100])
    assert "not a readable safetensors file" in refused(cut)


def test_someone_elses_file(saved, tmp_path) -> None:
    save_file(load_file(saved), tmp_path / "other.safetensors")
    assert "does not describe a UPSNet-lite model" in refused(tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    "metadata",
    [
        {"config": "{"},
        {"config": "[]"},
        {"config": '{"num_stuff": 1}'},
        {"categories": "[{}]"},
        {"categories": "[]"},
        {"categories": "3"},
    ],
    ids=str,
)
def test_a_header_that_makes_no_sense(saved, tmp_path, metadata) -> None:
    path = rewritten(saved, tmp_path / "odd.safetensors", **metadata)
    assert "does not describe a UPSNet-lite model" in refused(path)


@pytest.mark.parametrize(
    "change",
    [
        {"backbone": "resnet7"},
        {"norm": "none"},
        {"widths": 3},
        {"weights": {"loss_x": 1}},
        {"mask_widths": []},
        {"fpn_channels": -4},
        {"fpn_channels": 10**13},
        {"fpn_channels": 10**30},
        {"min_size": "a"},
        {"num_stuff": "a"},
    ],
    ids=str,
)
def test_an_option_that_makes_no_sense(model, saved, tmp_path, change) -> None:
    config = json.loads(describe(model)["config"]) | change
    path = rewritten(saved, tmp_path / "odd.safetensors", config=json.dumps(config))
    assert "does not describe a UPSNet-lite model" in refused(path)


def test_an_option_of_another_version_is_named(model) -> None:
    described = describe(model)
    config = json.loads(described["config"]) | {"attention": True}
    with pytest.raises(ValueError, match="unknown option 'attention'"):
        build(described | {"config": json.dumps(config)})


def test_another_architecture(model, saved, tmp_path) -> None:
    config = json.loads(describe(model)["config"])
    wider = rewritten(saved, tmp_path / "wider.safetensors", config=json.dumps(config | {"box_hidden": 64}))
    assert "does not hold the weights it describes" in refused(wider)
    tensors = load_file(saved)
    tensors.pop("semantic_head.score.bias")
    save_file(tensors, tmp_path / "less.safetensors", metadata=describe(model))
    assert "semantic_head.score.bias" in refused(tmp_path / "less.safetensors")


def test_every_field_of_the_configuration_survives(model) -> None:
    """Tuples come back as tuples, -inf as -inf, weights as weights."""
    changed = replace(
        model.config, deform_stages=(5,), weights=replace(model.config.weights, loss_mask=3.0), min_size=96
    )
    made = UPSNet(changed, CATEGORIES)
    assert build(describe(made)).config == changed


def test_saving_that_fails_leaves_nothing(model, tmp_path) -> None:
    with pytest.raises(Exception, match="(?i)metadata|str|argument"):
        save(model, tmp_path / "m.safetensors", notes={"minutes": 2})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "parts",
    [
        {"model": 3}, {"model": {"a": 1}}, {"model": {1: torch.zeros(1)}}, {"description": []},
        {"description": {"config": 3}}, {"iteration": "many"}, {"seconds": None}, {"options": {}},
    ],
    ids=str,
)  # fmt: skip
def test_a_checkpoint_with_a_part_of_another_kind(model, tmp_path, parts) -> None:
    assert "checkpoint.pt is not a training checkpoint of UPSNet-lite" in refused(checkpoint(model, tmp_path, **parts))


@pytest.mark.parametrize("description", [{}, {"config": "3", "categories": ""}], ids=str)
def test_a_checkpoint_that_describes_nothing(model, tmp_path, description) -> None:
    path = checkpoint(model, tmp_path, description=description)
    assert "does not describe a UPSNet-lite model" in refused(path)


def test_a_file_of_another_pickle_protocol_is_refused_without_a_warning(tmp_path, recwarn) -> None:
    (tmp_path / "other.pt").write_bytes(pickle.dumps({"model": 1}, protocol=4))
    refused(tmp_path / "other.pt")
    assert not recwarn.list


@pytest.mark.parametrize("reader", [read_checkpoint, read_state])
def test_noise_is_one_clear_line(reader, tmp_path):
    """A damaged pickle may raise anything: IndexError, TypeError, struct.error ..."""
    path = tmp_path / "noise.pt"
    noise = random.Random(0)
    for length in range(1, 300):
        path.write_bytes(noise.randbytes(length))
        with pytest.raises(UserError, match="noise.pt is not a readable"):
            reader(path)
