"""train: the same weights after a kill, one line for what can go wrong, and a network that learns."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path

import pytest
import torch

from upsnet_lite import weights
from upsnet_lite.datasets.coco_panoptic import CocoPanoptic
from upsnet_lite.datasets.shapes import write_shapes
from upsnet_lite.engine import train as engine
from upsnet_lite.engine.batches import Batches
from upsnet_lite.engine.checkpoint import read_checkpoint, write_checkpoint
from upsnet_lite.engine.evaluate import evaluate
from upsnet_lite.engine.recipe import RECIPES, TrainOptions
from upsnet_lite.engine.train import check_finite, make_model, make_optimizer, train
from upsnet_lite.files import UserError
from upsnet_lite.model import UPSNet

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}
SMALL = dict(  # some 20 iterations a second
    min_size=64,
    max_size=64,
    widths=(8, 16, 16, 16),
    fpn_channels=16,
    semantic_widths=(16, 16),
    box_hidden=16,
    mask_widths=(8,),
    mask_upsampled=8,
    proposals_train=50,
    rois_per_image=16,
    rpn_batch=16,
    masks_per_image=4,
)


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data") / "shapes"
    write_shapes(root, train=5, val=2, size=64, seed=3)
    return root


@pytest.fixture
def options(data, tmp_path) -> TrainOptions:
    """Six iterations of two images: an epoch of five ends within an iteration. A checkpoint after each second one."""
    return TrainOptions(
        data, tmp_path / "run", images=2, iterations=6, accelerator="cpu", save_every=2, overrides=SMALL
    )


def quietly(options: TrainOptions) -> Path:
    return train(options, show="silent")


def rows(run: Path) -> list[dict]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def difference(a, b, where="") -> list[str]:
    """The places at which two nests of dicts, lists, tensors and values differ; tensors must have equal bits."""
    if isinstance(a, torch.Tensor):
        return [] if torch.equal(a, b) else [where]
    if isinstance(a, dict):
        assert list(a) == list(b)
        return [d for key in a for d in difference(a[key], b[key], f"{where}/{key}")]
    if isinstance(a, list | tuple):
        assert len(a) == len(b)
        return [d for n, (x, y) in enumerate(zip(a, b, strict=True)) for d in difference(x, y, f"{where}/{n}")]
    return [] if a == b else [where]


def same_state(a: Path, b: Path) -> bool:
    first, second = read_checkpoint(a), read_checkpoint(b)
    parts = ("model", "optimizer", "iteration")
    assert difference(*({p: s[p] for p in parts} for s in (first, second))) == []
    return True


def line_of(options: TrainOptions) -> str:
    """The one line with which a run is refused."""
    with pytest.raises(UserError) as caught:
        quietly(options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- one run ---------------------------------------------------------------------------------------------------------


def test_a_run_leaves_a_model_a_checkpoint_and_a_row_per_iteration(options):
    path = quietly(options)
    assert sorted(p.name for p in options.out.iterdir() if p.is_file()) == [
        "checkpoint.pt",
        "metrics.csv",
        "model.safetensors",
    ]
    found = rows(options.out)
    assert [int(row["iteration"]) for row in found] == [1, 2, 3, 4, 5, 6]
    losses = [name for name in found[0] if name.startswith("loss_")]
    assert len(losses) == 8
    for row in found:
        assert float(row["total"]) == pytest.approx(sum(float(row[name]) for name in losses), abs=1e-4)
        assert 0 <= float(row["waiting"]) <= 1
    model = weights.load(path)
    assert difference(read_checkpoint(options.out)["model"], dict(model.state_dict())) == []
    _, header = weights.read(path)
    assert header["iterations"] == "6" and str(options.out) not in header["options"], "a model file names no local path"


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(options, tmp_path):
    short = replace(options, iterations=2)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        quietly(replace(short, out=tmp_path / name, seed=seed))
    assert same_state(tmp_path / "a", tmp_path / "b")
    a, c = (read_checkpoint(tmp_path / name)["model"] for name in "ac")
    assert len(difference(a, c)) > len(a) / 2


def test_worker_processes_change_nothing(options, tmp_path):
    quietly(replace(options, iterations=3))
    quietly(replace(options, iterations=3, out=tmp_path / "workers", workers=1))
    assert same_state(options.out, tmp_path / "workers")


def test_a_run_of_minutes_ends_in_time_at_the_end_of_its_schedule(options):
    begun = time.monotonic()
    quietly(replace(options, iterations=None, minutes=2 / 60, save_every=1000))
    assert 2 <= time.monotonic() - begun < 60
    seconds = [float(row["seconds"]) for row in rows(options.out)]
    assert all(s < 2 for s in seconds[:-1]), "no iteration begins after the end"
    rates = [float(row["lr"]) for row in rows(options.out)]
    assert rates[-1] < max(rates) or len(rates) == 1  # on a busy machine


def test_a_batch_may_be_larger_than_the_data_set(options):
    quietly(replace(options, iterations=2, images=7))
    assert len(rows(options.out)) == 2


def test_limit_trains_on_the_first_images_only(options, monkeypatch):
    seen = []
    read = CocoPanoptic.__getitem__
    monkeypatch.setattr(CocoPanoptic, "__getitem__", lambda self, n: (seen.append(n), read(self, n))[1])
    quietly(replace(options, iterations=3, limit=2))
    assert set(seen) == {0, 1}


def test_activations_computed_twice_give_the_same_bits(options, tmp_path):
    quietly(replace(options, iterations=3))
    quietly(replace(options, iterations=3, out=tmp_path / "thrifty", checkpoint_activations=True))
    assert same_state(options.out, tmp_path / "thrifty")


def test_parts_of_a_batch_add_up(options, tmp_path):
    """Each image a part of its own, with its own losses; what is logged is their mean."""
    quietly(replace(options, images=4, accumulate=4, iterations=2))
    quietly(replace(options, images=4, iterations=2, out=tmp_path / "whole"))
    parts, whole = (float(rows(run)[0]["total"]) for run in (options.out, tmp_path / "whole"))
    assert parts == pytest.approx(whole, rel=0.2) and parts != whole


def test_a_batch_that_cannot_be_cut_is_refused(options):
    line = line_of(replace(options, images=4, accumulate=3))
    assert "4 images cannot be cut into 3 parts (processes x --accumulate); choose another --batch-size" in line


def test_waiting_is_the_share_of_time_for_which_data_were_not_there(options, monkeypatch):
    """By a clock that goes on 1.5 s with each image, 1 s with each step and 100 s with each checkpoint."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def slower(place, name: str, seconds: float) -> None:
        usual = getattr(place, name)

        def slow(*given):
            now[0] += seconds
            return usual(*given)

        monkeypatch.setattr(place, name, slow)

    slower(CocoPanoptic, "__getitem__", 1.5)
    slower(engine, "check_finite", 1.0)
    slower(engine, "write_checkpoint", 100.0)
    quietly(replace(options, iterations=3, save_every=1))
    assert [float(row["waiting"]) for row in rows(options.out)] == [0.75] * 3


# ---- killed, interrupted, resumed ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> TrainOptions:
    """Nine iterations, uninterrupted. Checkpoints after 4 and 8: 8 and 16 images, in the middle of epochs of 5."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    options = TrainOptions(data, out, images=2, iterations=9, accelerator="cpu", save_every=4, overrides=SMALL)
    quietly(options)
    return options


def assert_same_run(a: Path, b: Path) -> None:
    """Bit-equal model file, weights, norms and optimiser, and the same figures in the same rows."""
    assert same_state(a, b)
    assert difference(*(weights.read(run / "model.safetensors")[0] for run in (a, b))) == []
    clock = {"seconds", "waiting"}
    figures = [[{k: v for k, v in row.items() if k not in clock} for row in rows(run)] for run in (a, b)]
    assert figures[0] == figures[1]


KILLED = """
import os, signal, sys, torch
from pathlib import Path
from upsnet_lite.engine import train as engine
from upsnet_lite.engine.recipe import TrainOptions
whole = engine.check_finite
def check_finite(fabric, options, losses, norm, iteration, ids):
    if iteration == 6:  # after the gradients, before the step
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(fabric, options, losses, norm, iteration, ids)
engine.check_finite = check_finite
torch.set_num_threads(int(sys.argv[4]))
engine.train(TrainOptions(Path(sys.argv[1]), Path(sys.argv[2]), **eval(sys.argv[3])), show="silent")
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system cannot kill -9")
def test_killed_in_the_middle_of_an_epoch_and_resumed_ends_with_the_same_bits(whole, tmp_path):
    out = tmp_path / "killed"
    given = {name: value for name, value in asdict(whole).items() if name not in ("data", "out")}
    arguments = [str(whole.data), str(out), repr(given), str(torch.get_num_threads())]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], env=ENVIRONMENT, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert read_checkpoint(out)["iteration"] == 4 and not (out / "model.safetensors").exists()
    with (out / "metrics.csv").open("a") as file:  # what a kill can leave: rows after the checkpoint, the last cut off
        file.write(f"5{',0.5' * 12}\n6{',0.5' * 12}\n1")

    quietly(replace(whole, out=out, resume=out))
    assert_same_run(whole.out, out)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_finishes_the_iteration_and_leaves_a_checkpoint_to_resume(whole, tmp_path, monkeypatch, number):
    out = tmp_path / "interrupted"
    before = signal.getsignal(number)

    def interrupt(fabric, options, losses, norm, iteration, ids):
        if iteration == 5:
            signal.raise_signal(number)
        return check_finite(fabric, options, losses, norm, iteration, ids)

    monkeypatch.setattr(engine, "check_finite", interrupt)
    with pytest.raises(KeyboardInterrupt):
        quietly(replace(whole, out=out))
    assert signal.getsignal(number) == before
    assert read_checkpoint(out)["iteration"] == 6 and len(rows(out)) == 6
    assert not (out / "model.safetensors").exists(), "the run is not over"

    monkeypatch.undo()
    quietly(TrainOptions(whole.data, out, resume=out / "checkpoint.pt", accelerator="cpu", overrides=SMALL))
    assert_same_run(whole.out, out)


def test_a_finished_run_can_be_made_longer(whole, tmp_path):
    quietly(replace(whole, out=tmp_path / "longer", resume=whole.out, iterations=11))
    assert [int(row["iteration"]) for row in rows(tmp_path / "longer")] == [10, 11]
    assert read_checkpoint(tmp_path / "longer")["seconds"] > read_checkpoint(whole.out)["seconds"]


@pytest.mark.parametrize(
    ("part", "value", "said"),
    [
        ("options", "{}", "does not say how its run was started"),
        ("options", "[", "does not say how its run was started"),
        ("optimizer", {}, "does not hold the state of this run's optimizer"),
        ("optimizer", {"state": {}, "param_groups": []}, "does not hold the state of this run's optimizer"),
    ],
)
def test_a_checkpoint_that_cannot_be_resumed(whole, tmp_path, part, value, said):
    write_checkpoint(tmp_path / "odd", read_checkpoint(whole.out) | {part: value})
    assert said in line_of(replace(whole, out=tmp_path / "out", resume=tmp_path / "odd", iterations=11))
    assert not (tmp_path / "out").exists()


# ---- a loss that is not finite ---------------------------------------------------------------------------------------


class InfiniteGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * torch.inf


@pytest.mark.parametrize("name", ["loss_mask", "the gradient"])
def test_a_loss_or_gradient_that_is_not_finite_stops_before_it_spoils_the_checkpoint(options, monkeypatch, name):
    forward, seen = UPSNet.forward, []

    def broken(self, images, targets=None):
        losses = forward(self, images, targets)
        seen.append([t["image_id"] for t in targets])
        if len(seen) == 4:
            mask = losses["loss_mask"]
            losses["loss_mask"] = mask * torch.nan if name == "loss_mask" else InfiniteGradient.apply(mask)
        return losses

    monkeypatch.setattr(UPSNet, "forward", broken)
    line = line_of(replace(options, lr=1e-3))
    assert line.startswith(f"{name} became nan at iteration 4 (image ids {seen[3][0]}, {seen[3][1]})")
    state = read_checkpoint(options.out)
    assert state["iteration"] == 2, "the last good one"
    assert all(t.isfinite().all() for t in state["model"].values())
    assert not (options.out / "model.safetensors").exists()

    monkeypatch.undo()
    quietly(replace(options, resume=options.out, lr=1e-4))  # as the line advises
    assert read_checkpoint(options.out)["iteration"] == 6


def test_a_run_that_fails_before_its_first_checkpoint_leaves_nothing(options, monkeypatch):
    forward = UPSNet.forward
    monkeypatch.setattr(UPSNet, "forward", lambda *a: {k: v * torch.nan for k, v in forward(*a).items()})
    line_of(options)
    assert not options.out.exists()


def test_gradients_are_clipped(options, monkeypatch):
    """With plain gradient descent and a norm of at most 1e-3, a step moves the weights by at most lr times 1e-3."""
    recipe = replace(RECIPES["tiny"], optimizer="sgd", momentum=0.0, weight_decay=0.0, clip=1e-3, warmup=0.0)
    monkeypatch.setitem(RECIPES, "tiny", recipe)
    before = initial(options).state_dict()
    quietly(replace(options, iterations=1, lr=0.1))
    after = read_checkpoint(options.out)["model"]
    trained = [name for name, _ in initial(options).named_parameters()]
    moved = torch.stack([(after[name] - before[name]).norm() for name in trained]).norm()
    assert 0.9e-4 < moved < 1.1e-4


# ---- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong, said",
    [
        (dict(preset="huge"), "unknown preset 'huge'; choose one of tiny, resnet50, resnet101_dcn"),
        (dict(overrides=dict(depth=3)), "unknown option 'depth'"),
        (dict(split="test"), "no split 'test'; it has train, val"),
        (dict(data=Path("nowhere")), "nowhere is missing"),
        (dict(init="nowhere", overrides={}), "nowhere: no such checkpoint"),
        (dict(resume=Path("nowhere")), "nowhere: no such checkpoint"),
        (dict(devices="two"), "--devices"),
        (dict(precision="8-bit"), "--precision"),
    ],
)
def test_bad_options_give_one_line_and_leave_nothing(options, wrong, said):
    assert said in line_of(replace(options, **wrong))
    assert not options.out.exists()


def test_a_folder_that_holds_a_run_is_refused_and_kept(options):
    quietly(replace(options, iterations=2))
    before = {p: p.read_bytes() for p in options.out.iterdir() if p.is_file()}
    assert f"already holds a run; give another --out, or go on with --resume {options.out}" in line_of(options)
    (options.out / "checkpoint.pt").unlink()
    assert "already holds a run" in line_of(options), "a model alone is worth keeping, too"
    assert all(p.read_bytes() == content for p, content in before.items() if p.exists())


def test_one_run_is_not_resumed_over_another(whole, options):
    quietly(replace(options, iterations=2))
    assert "already holds a run" in line_of(replace(whole, out=options.out, resume=whole.out))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x02}q\x00.", b"PK\x03\x04 cut off"])
def test_a_broken_checkpoint_gives_one_line(options, tmp_path, content):
    (tmp_path / "checkpoint.pt").write_bytes(content)
    assert "checkpoint.pt is not a" in line_of(replace(options, resume=tmp_path))


def test_a_cut_or_foreign_checkpoint_gives_one_line(options, whole, tmp_path):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes((whole.out / "checkpoint.pt").read_bytes()[:-1000])
    assert "not a readable training checkpoint" in line_of(replace(options, resume=path))
    for foreign in ({"weight": torch.zeros(1)}, [1, 2], read_checkpoint(whole.out)["model"]):
        torch.save(foreign, path)
        assert "not a training checkpoint of UPSNet-lite" in line_of(replace(options, resume=path))
    torch.save(options, path)  # an object: could run code on loading
    assert "not a readable training checkpoint" in line_of(replace(options, resume=path))
    assert not options.out.exists()


@pytest.mark.parametrize("way", ["resume", "init"])
def test_data_with_other_categories_are_refused(options, data, whole, tmp_path, way):
    other = tmp_path / "other"
    shutil.copytree(data, other)
    path = other / "annotations/panoptic_train.json"
    content = json.loads(path.read_text())
    content["categories"][0]["name"] = "gras"
    path.write_text(json.dumps(content))
    given = dict(resume=whole.out) if way == "resume" else dict(init=str(whole.out), overrides={})
    line = line_of(replace(options, data=other, **given))
    assert "the categories of" in line and "'gras'" in line
    assert not options.out.exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_gives_one_line_that_names_it(options, data, tmp_path, workers):
    broken = tmp_path / "broken"
    shutil.copytree(data, broken)
    for image in (broken / "train").iterdir():
        image.write_bytes(b"no image")
    line = line_of(replace(options, data=broken, workers=workers))
    assert str(broken / "train") in line and "Traceback" not in line
    assert not (options.out / "checkpoint.pt").exists()


def test_an_image_that_breaks_later_leaves_a_checkpoint(options, data, tmp_path):
    """Five images, two an iteration: the one that cannot be read comes in the first epoch, but not at once."""
    second = list(islice(Batches(5, 2, options.seed), 2))[1][0][1]
    broken = tmp_path / "broken"
    shutil.copytree(data, broken)
    image = broken / "train" / CocoPanoptic(broken, "train").images[second]["file_name"]
    whole = image.read_bytes()
    image.write_bytes(b"no image")
    options = replace(options, data=broken, save_every=1000)
    assert str(image) in line_of(options)
    assert read_checkpoint(options.out)["iteration"] == 1
    image.write_bytes(whole)
    quietly(replace(options, resume=options.out))
    assert read_checkpoint(options.out)["iteration"] == 6


# ---- what is trained -------------------------------------------------------------------------------------------------


def initial(options: TrainOptions) -> UPSNet:
    """The network as the run with these options finds it."""
    torch.manual_seed(options.seed)
    return make_model(options, CocoPanoptic(options.data, options.split).categories)


@pytest.mark.parametrize("norm", ["frozen", "batch", "group"])
def test_every_norm_trains_and_frozen_stages_keep_their_bits(options, norm):
    options = replace(options, iterations=2, overrides=SMALL | dict(norm=norm, frozen_stages=2))
    before = initial(options)
    quietly(options)
    after = read_checkpoint(options.out)["model"]
    still = {name for name, p in before.named_parameters() if torch.equal(p, after[name])}
    frozen = {name for name, p in before.named_parameters() if not p.requires_grad}
    assert frozen and frozen <= still
    assert {name.split(".")[2] for name in frozen} == {"conv1", "layer1"} | ({"bn1"} if norm != "frozen" else set())
    others = {name for name, p in before.named_parameters() if p.requires_grad}
    assert len(others & still) < len(others) / 5, "almost everything else moves within two iterations"
    if norm == "frozen":
        assert all(torch.equal(b, after[name]) for name, b in before.named_buffers() if "bn" in name)


def test_weight_decay_pulls_on_kernels_and_matrices_only(options):
    model = initial(options)
    decayed, free = make_optimizer(model, RECIPES["tiny"]).param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.02, 0.0)
    assert all(p.dim() > 1 for p in decayed["params"]) and all(p.dim() == 1 for p in free["params"])
    assert len(decayed["params"]) + len(free["params"]) == sum(1 for _ in model.parameters())
    assert isinstance(make_optimizer(model, RECIPES["resnet50"]), torch.optim.SGD)


def test_init_starts_from_the_weights_and_leaves_the_optimiser(options, whole):
    start = replace(options, init=str(whole.out), overrides={})
    assert difference(dict(initial(start).state_dict()), read_checkpoint(whole.out)["model"]) == []
    quietly(replace(start, iterations=1))
    state = read_checkpoint(options.out)
    assert state["iteration"] == 1
    assert {float(s["step"]) for s in state["optimizer"]["state"].values()} == {1.0}


TWO = """
import json, sys, torch
from pathlib import Path
from upsnet_lite.engine import train as engine
from upsnet_lite.engine.recipe import TrainOptions
torch.set_num_threads(1)
model, seen, whole, make = [], [], engine.check_finite, engine.make_model
def check_finite(fabric, options, losses, norm, iteration, ids):
    seen.extend(ids)
    return whole(fabric, options, losses, norm, iteration, ids)
engine.check_finite = check_finite
engine.make_model = lambda *a: model.append(make(*a)) or model[0]
engine.train(TrainOptions(Path(sys.argv[1]), Path(sys.argv[2]), **eval(sys.argv[3])), show="silent")
total = sum(float(p.detach().double().abs().sum()) for p in model[0].parameters())
Path(f"rank{torch.distributed.get_rank()}.json").write_text(json.dumps({"weights": total, "images": seen}))
"""


def test_two_processes_share_the_batch_and_keep_the_same_weights(options, tmp_path):
    """Each process notes the images it saw and a sum of its weights: the gradients are shared, so these stay equal."""
    script = tmp_path / "two.py"
    script.write_text(TWO)
    given = asdict(replace(options, overrides=SMALL | dict(norm="group"), devices="2", iterations=3))
    given = {name: value for name, value in given.items() if name not in ("data", "out")}
    arguments = [str(script), str(options.data), str(options.out), repr(given)]
    two = subprocess.run([sys.executable, *arguments], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert two.returncode == 0, two.stderr
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    assert first["weights"] == second["weights"]
    images = [image for batch in zip(first["images"], second["images"], strict=True) for image in batch]
    everything = [entry["id"] for entry in CocoPanoptic(options.data, "train").images]
    assert len(images) == 6 and sorted(images[:5]) == sorted(everything), "one epoch between them"
    assert len(rows(options.out)) == 3 and (options.out / "model.safetensors").exists()


# ---- it learns -------------------------------------------------------------------------------------------------------


def test_two_images_are_learned_by_heart(tmp_path):
    """Panoptic quality 95 on the very images it was trained on: every stage, target and loss must be right for that.

    They hold twelve instances. The slowest test of all: most of a minute on two cores.
    """
    write_shapes(tmp_path / "data", train=2, val=1, size=128, seed=1)
    options = TrainOptions(tmp_path / "data", tmp_path / "run", images=2, iterations=400, lr=3e-3, accelerator="cpu")
    model = weights.load(quietly(replace(options, augment=False)))
    quality = evaluate(model, CocoPanoptic(options.data, "train")).as_dict()
    assert quality["PQ"] >= 95 and quality["RQ"] == 100, quality
