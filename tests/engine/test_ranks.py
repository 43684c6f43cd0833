"""Several processes, on a CPU by gloo: the same numbers as one, every image once, and an end when one of them ends."""

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from upsnet_lite import weights
from upsnet_lite.datasets.coco_panoptic import CocoPanoptic
from upsnet_lite.datasets.shapes import write_shapes
from upsnet_lite.engine import ranks
from upsnet_lite.engine.checkpoint import read_checkpoint
from upsnet_lite.files import UserError

pytestmark = pytest.mark.skipif(not hasattr(os, "killpg"), reason="processes are ended by their group")

ROOT = Path(__file__).parents[2]
LIMIT = 240  # s for a whole run on a busy machine; then it hangs
SETTINGS = [  # norms over groups: statistics of a batch are another thing in a part of it
    "min_size=64", "max_size=64", "widths=8,16,16,16", "fpn_channels=16", "semantic_widths=16,16", "box_hidden=16",
    "mask_widths=8,", "mask_upsampled=8", "proposals_train=50", "rois_per_image=16", "rpn_batch=16",
    "masks_per_image=4", "norm=group", "panoptic_score=0.1",
]  # fmt: skip
NO_CHANCE = [  # every anchor and proposal counts, only true boxes are positive, no instance is left out
    "rpn_batch=100000", "rpn_fg_iou=0.5", "rpn_bg_iou=0.5", "rpn_nms=1.0", "rois_per_image=1000", "roi_fg_share=1.0",
    "roi_fg_iou=0.99", "masks_per_image=100", "keep_share=1.0",
]  # fmt: skip
COMMAND = [sys.executable, "-m", "upsnet_lite"]


def finished(command: list, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    """The command and all its children, which are killed where it does not end in time."""
    environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    process = subprocess.Popen([str(c) for c in command], cwd=cwd, env=os.environ | environment, **pipes)
    try:
        out, err = process.communicate(timeout=LIMIT)
    finally:
        with contextlib.suppress(ProcessLookupError):  # none is left
            os.killpg(process.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def training(data: Path, out: Path, *more, settings=SETTINGS) -> list:
    given = ["train", "--data", data, "--out", out, "--accelerator", "cpu", "--iterations", 4, "--batch-size", 4, *more]
    return given + [word for setting in settings for word in ("--set", setting)]


def succeeded(command: list, cwd: Path) -> subprocess.CompletedProcess:
    result = finished(command, cwd)
    assert result.returncode == 0, result.stderr
    return result


def curve(run: Path) -> list[list[float]]:
    with (run / "metrics.csv").open(newline="") as file:
        return [[float(row[k]) for k in row if k.startswith(("loss_", "total", "lr"))] for row in csv.DictReader(file)]


def largest_difference(a: Path, b: Path) -> float:
    first, second = (read_checkpoint(run)["model"] for run in (a, b))
    return max(float((first[k] - second[k]).abs().max()) for k in first if first[k].is_floating_point())


def own_lines(result: subprocess.CompletedProcess) -> list[str]:
    return [line for line in result.stderr.splitlines() if line.startswith("upsnet-lite: ")]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data") / "shapes"
    write_shapes(root, train=7, val=5, size=64, seed=3)
    return root


@pytest.fixture(scope="module")
def two(data, tmp_path_factory) -> Path:
    """Four iterations of four images, two in each of two processes; an epoch of seven ends within an iteration."""
    out = tmp_path_factory.mktemp("runs") / "two"
    succeeded([*COMMAND, *training(data, out, "--devices", 2)], out.parent)
    return out


# ---- the same numbers ------------------------------------------------------------------------------------------------


def test_two_processes_do_what_one_does_with_the_double_batch_in_two_parts(data, two, tmp_path):
    """Whatever the images hold: a part draws the same anchors and RoIs wherever it is computed."""
    one = tmp_path / "one"
    succeeded([*COMMAND, *training(data, one, "--devices", 1, "--accumulate", 2)], tmp_path)
    assert len(curve(two)) == 4 and len({len(t["boxes"]) for _, t in CocoPanoptic(data, "train")}) > 1
    for a, b in zip(curve(one), curve(two), strict=True):
        assert a == pytest.approx(b, rel=1e-5, abs=2e-5)
    assert largest_difference(one, two) < 1e-5


def test_two_processes_do_what_one_does_with_the_double_batch(data, tmp_path):
    """In one piece, where nothing is drawn and both halves count the same: then mean of means and mean are one."""
    settings = [s for s in SETTINGS if s.split("=")[0] not in {n.split("=")[0] for n in NO_CHANCE}] + NO_CHANCE
    root = same_counts(data, tmp_path / "data")
    for name, devices in (("one", 1), ("two", 2)):
        command = training(root, tmp_path / name, "--devices", devices, "--no-augment", settings=settings)
        succeeded([*COMMAND, *command], tmp_path)
    for a, b in zip(curve(tmp_path / "one"), curve(tmp_path / "two"), strict=True):
        assert a == pytest.approx(b, rel=1e-4, abs=1e-4)


def same_counts(data: Path, root: Path) -> Path:
    """As many images as there are with the same number of instances; where they have void, it is named stuff."""
    write_shapes(root, train=40, val=1, size=64, seed=3)
    dataset = CocoPanoptic(root, "train")
    counts = [len(t["boxes"]) if not (t["semantic"] < 0).any() else -1 for _, t in dataset]
    common = max({c for c in counts if c > 0}, key=counts.count)
    kept = [dataset.images[n]["id"] for n, c in enumerate(counts) if c == common]
    assert len(kept) >= 4
    content = json.loads(dataset.json_path.read_text())
    content["images"] = [i for i in content["images"] if i["id"] in kept]
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept]
    dataset.json_path.write_text(json.dumps(content))
    return root


def test_torchrun_starts_the_same_run(data, two, tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2, "-m"]
    command = training(data, tmp_path / "run", "--devices", 2)
    assert succeeded([*torchrun, "upsnet_lite", *command], tmp_path).stdout.count("is trained") == 1
    assert largest_difference(tmp_path / "run", two) == 0


def test_processes_of_torchrun_that_would_not_work_together_are_refused(data, tmp_path):
    """Two runs in one folder otherwise: on a CPU, "auto" is one device."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2, "-m"]
    result = finished([*torchrun, "upsnet_lite", *training(data, tmp_path / "run")], tmp_path)
    assert result.returncode != 0 and not (tmp_path / "run").exists()
    said = "upsnet-lite: torchrun started 2 processes, --devices and --num-nodes say 1; give --devices as its"
    assert own_lines(result)[0].startswith(said)


# ---- every image once ------------------------------------------------------------------------------------------------


class World:
    def __init__(self, rank: int, size: int) -> None:
        self.global_rank, self.world_size = rank, size


@given(length=st.integers(0, 30), world=st.integers(1, 7))
def test_shares_hold_every_image_once_and_are_alike(length, world):
    shares = [ranks.share(length, World(rank, world)) for rank in range(world)]
    assert [n for one in shares for n in one] == list(range(length)) == list(ranks.share(length, None))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_an_evaluation_shared_by_two_is_that_of_one(data, two, tmp_path):
    """Five images: three and two. Every figure, every file and their order."""
    for name, devices in (("one", 1), ("shared", 2)):
        given = ["eval", two, "--data", data, "--out", tmp_path / name, "--device", "cpu", "--devices", devices]
        result = succeeded([*COMMAND, *given, "--batch-size", 2], tmp_path)
        assert result.stdout.count("PQ_th") == 1, "said once"
    one, shared = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "shared"))
    assert one["counts"]["images"] == 5 and one["AP_mask"] is not None
    assert [row.pop("name") for row in one["per_class"]] == [row.pop("name") for row in shared["per_class"]]
    for a, b in [(one, shared), *zip(one.pop("per_class"), shared.pop("per_class"), strict=True)]:
        assert a.keys() == b.keys()
        for k in a:
            assert a[k] == (pytest.approx(b[k], rel=1e-9) if isinstance(a[k], float) else b[k]), k
    written = [json.loads((tmp_path / name / "panoptic_val.json").read_text()) for name in ("one", "shared")]
    assert written[0] == written[1] and any(s["isthing"] for a in written[0]["annotations"] for s in a["segments_info"])
    pngs = [{p.name: p.read_bytes() for p in (tmp_path / n / "panoptic_val").iterdir()} for n in ("one", "shared")]
    assert pngs[0] == pngs[1] and len(pngs[0]) == 5
    assert not [p for p in (tmp_path / "shared").iterdir() if p.name.startswith(".")]


# ---- one of them ends ------------------------------------------------------------------------------------------------

DIES = """
import os, signal
from upsnet_lite import cli
from upsnet_lite.engine import train as engine
whole, (rank, how) = engine.check_finite, os.environ["DIES"].split("-")
def check_finite(fabric, options, losses, norm, iteration, ids):
    if iteration == 2 and fabric.global_rank == int(rank):  # after the gradients, before the step
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "stopped":
            signal.raise_signal(signal.SIGTERM)
            return whole(fabric, options, losses, norm, iteration, ids)
        raise {"mistake": ZeroDivisionError, "memory": engine.torch.OutOfMemoryError}[how]
    return whole(fabric, options, losses, norm, iteration, ids)
engine.check_finite = check_finite
cli.main()
"""


@pytest.fixture
def dies(tmp_path) -> Path:
    (tmp_path / "dies.py").write_text(DIES)
    return tmp_path / "dies.py"


def test_a_process_that_is_killed_ends_the_run_which_can_be_resumed(data, two, dies, tmp_path):
    out = tmp_path / "run"
    command = training(data, out, "--devices", 2)
    result = finished([sys.executable, dies, *command], tmp_path, DIES="1-killed")
    assert result.returncode == 1, result.stderr
    (line,) = own_lines(result)
    assert "one of the 2 processes of this run has ended" in line and f"go on with --resume {out}" in line
    assert "Traceback" not in result.stderr
    assert read_checkpoint(out)["iteration"] == 2 and not (out / "model.safetensors").exists()

    succeeded([*COMMAND, *command, "--resume", out], tmp_path)
    assert largest_difference(out, two) == 0 and curve(out) == curve(two)


def test_the_first_process_killed_ends_the_others(data, dies, tmp_path):
    """None is left: the pipes of the whole group are closed, else `finished` would run into its limit."""
    command = [sys.executable, dies, *training(data, tmp_path / "run", "--devices", 2)]
    result = finished(command, tmp_path, DIES="0-killed")
    assert result.returncode == -signal.SIGKILL and "Traceback" not in result.stderr


@pytest.mark.parametrize(("how", "says"), [("mistake", "ZeroDivisionError"), ("memory", "the device has too little")])
def test_a_process_that_fails_says_why_and_ends_the_run(data, dies, tmp_path, how, says):
    out = tmp_path / "run"
    result = finished([sys.executable, dies, *training(data, out, "--devices", 2)], tmp_path, DIES=f"1-{how}")
    assert result.returncode == 1 and says in result.stderr, result.stderr
    assert "one of the 2 processes of this run has ended" in own_lines(result)[-1]
    assert read_checkpoint(out)["iteration"] == 2


def test_one_process_that_is_told_to_stop_stops_all_after_the_iteration(data, dies, tmp_path):
    out = tmp_path / "run"
    result = finished([sys.executable, dies, *training(data, out, "--devices", 2)], tmp_path, DIES="1-stopped")
    assert (result.returncode, own_lines(result)) == (130, ["upsnet-lite: interrupted"]), result.stderr
    assert read_checkpoint(out)["iteration"] == 3


def test_an_image_that_one_process_cannot_read_is_said_once(data, tmp_path):
    root, out = tmp_path / "data", tmp_path / "run"
    write_shapes(root, train=7, val=5, size=64, seed=3)
    for image in sorted((root / "train").iterdir())[:1]:
        image.write_bytes(b"no image")
    result = finished([*COMMAND, *training(root, out, "--devices", 2)], tmp_path)
    (line,) = own_lines(result)
    assert result.returncode == 1 and str(root / "train") in line and "cannot be read" in line
    assert "Traceback" not in result.stderr
    (root / "val" / sorted(os.listdir(root / "val"))[-1]).write_bytes(b"no image")
    torch.manual_seed(0)
    dataset = CocoPanoptic(root, "val")
    sizes = dataset.categories.num_stuff, dataset.categories.num_thing
    weights.save(
        weights.UPSNet.from_preset("tiny", *sizes, dataset.categories, min_size=64), tmp_path / "m.safetensors"
    )
    given = ["eval", tmp_path / "m.safetensors", "--data", root, "--out", tmp_path / "eval", "--device", "cpu"]
    result = finished([*COMMAND, *given, "--devices", 2], tmp_path)
    (line,) = own_lines(result)
    assert result.returncode == 1 and str(root / "val") in line and not (tmp_path / "eval").exists()


def test_only_the_loss_of_a_process_is_taken_for_one():
    ended = []
    other = SimpleNamespace(kill=lambda: ended.append("other"))
    strategy = SimpleNamespace(launcher=SimpleNamespace(procs=[other]))
    fabric, rescued = SimpleNamespace(world_size=2, is_global_zero=True, strategy=strategy), []
    with pytest.raises(RuntimeError, match="shape"), ranks.survivors(fabric, lambda: rescued.append(0)):
        raise RuntimeError("shape mismatch")
    assert rescued == [] and ended == ["other"] and strategy.launcher.procs == []
    with pytest.raises(UserError, match="one of the 2"), ranks.survivors(fabric, lambda: rescued.append(1)):
        raise torch.distributed.DistNetworkError("gone")
    assert rescued == [1]
    fabric.is_global_zero = False
    with pytest.raises(SystemExit), ranks.survivors(fabric, lambda: rescued.append(2)):
        raise RuntimeError("Connection closed by peer [127.0.0.1]:40123")
    assert rescued == [1], "the first process alone writes"


def test_what_all_know_is_said_by_the_first():
    assert ranks.gather(None, 3) == [3] and ranks.is_first(None)
    with pytest.raises(UserError, match="no"):
        ranks.gather(None, UserError("no"))
