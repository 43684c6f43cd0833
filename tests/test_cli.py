"""The command line: examples in every help, exit codes, one clear line for what a user can get wrong, end to end."""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from upsnet_lite import cli
from upsnet_lite.config import Config
from upsnet_lite.datasets import shapes

DATA = [f"data {name}" for name in ("shapes", "from-masks", "from-coco", "coco128", "coco", "check")]
COMMANDS = ["", "data", *DATA, "train", "eval", "predict", "compare", "lab", "explore", "bench"]


@pytest.fixture
def run(capfd, monkeypatch):
    """run(*arguments) -> (exit code, stdout, stderr), in this process."""
    monkeypatch.setenv("COLUMNS", "400")  # rich folds nothing, so that words can be looked for
    monkeypatch.setenv("TERM", "dumb")

    def call(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["upsnet-lite", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capfd.readouterr()
        return stop.value.code or 0, captured.out, captured.err

    return call


@pytest.fixture
def refused(run):
    """refused(*arguments) -> the one line on stderr with which the command ended."""

    def call(*arguments) -> str:
        code, _, err = run(*arguments)
        (line,) = [line for line in err.splitlines() if line.strip()]
        assert code == 1 and line.startswith("upsnet-lite: ")
        return line.removeprefix("upsnet-lite: ")

    return call


@pytest.fixture(scope="session")
def trained(shapes_root, tmp_path_factory) -> Path:
    """A run of three iterations."""
    from upsnet_lite.engine.recipe import TrainOptions
    from upsnet_lite.engine.train import train

    out = tmp_path_factory.mktemp("runs") / "run"
    train(TrainOptions(shapes_root, out, iterations=3, images=2, accelerator="cpu"), show="silent")
    return out


# ---- help and options ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(run, command):
    code, out, _ = run(*command.split(), "--help")
    assert code == 0
    if command != "data":
        assert f"Example:  upsnet-lite {command}".strip() in out


def test_every_command_is_listed_here():
    groups = {"": cli.app, "data ": cli.data}
    found = {prefix + c.name for prefix, group in groups.items() for c in group.registered_commands}
    assert found == set(COMMANDS) - {"", "data"}


@pytest.mark.parametrize(
    "arguments",
    ["nonsense", "train", "train --data a --out b --minutes soon", "eval tiny-shapes --data a --out b --batch-size 0"],
)
def test_wrong_options_exit_with_2(run, arguments):
    code, _, err = run(*arguments.split())
    assert code == 2 and "Usage:" in err and "Traceback" not in err


# ---- what a user can get wrong ---------------------------------------------------------------------------------------


def test_a_missing_data_set_is_named(refused, tmp_path):
    nowhere, out = tmp_path / "nowhere", tmp_path / "out"
    assert "nowhere" in refused("data", "check", nowhere)
    assert "nowhere" in refused("train", "--data", nowhere, "--out", out)
    assert not out.exists() or not any(out.iterdir())


def test_unknown_names_are_refused(refused, shapes_root, trained, tmp_path):
    data = ("--data", shapes_root, "--out", tmp_path / "out")
    assert "unknown preset 'huge'; choose one of tiny" in refused("train", *data, "--preset", "huge")
    assert "'test'" in refused("eval", trained, *data, "--split", "test")
    assert "no such checkpoint" in refused("eval", "huge-shapes", *data)
    assert "no such checkpoint" in refused("train", *data, "--resume", tmp_path / "gone")
    assert "give one of them" in refused("train", *data, "--minutes", 1, "--epochs", 1)
    assert "--devices" in refused("train", *data, "--devices", "many")
    assert "unknown benchmark 'speed'" in refused("bench", "--only", "speed")
    assert not (tmp_path / "out" / "metrics.json").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "checkpoint.pt"])
@pytest.mark.parametrize("damage", ["empty", "truncated", "noise"])
def test_a_broken_checkpoint_is_refused(refused, trained, shapes_root, tmp_path, name, damage):
    whole = (trained / name).read_bytes()
    content = {"empty": b"", "truncated": whole[: len(whole) // 2], "noise": random.Random(0).randbytes(5000)}[damage]
    (tmp_path / name).write_bytes(content)
    line = refused("eval", tmp_path / name, "--data", shapes_root, "--out", tmp_path / "out")
    assert name in line and not (tmp_path / "out").exists()


def test_a_checkpoint_that_runs_code_does_not(refused, shapes_root, tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "owned",))

    torch.save({"model": Evil()}, tmp_path / "evil.pt")
    refused("eval", tmp_path / "evil.pt", "--data", shapes_root, "--out", tmp_path / "out")
    refused("train", "--resume", tmp_path / "evil.pt", "--data", shapes_root, "--out", tmp_path / "out")
    assert not (tmp_path / "owned").exists()


def test_other_categories_are_refused(refused, trained, shapes_root, tmp_path):
    root = shutil.copytree(shapes_root, tmp_path / "renamed")
    for path in root.glob("annotations/*.json"):
        path.write_text(path.read_text().replace('"ball"', '"orb"'))
    for command in (("eval", trained), ("train", "--init", trained)):
        line = refused(*command, "--data", root, "--out", tmp_path / "out")
        assert "'ball'" in line and "'orb'" in line
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_a_broken_image_is_refused_and_leaves_nothing(refused, trained, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 not really")
    assert "broken.jpg" in refused("predict", trained, tmp_path / "broken.jpg", "--out", tmp_path / "out")
    assert "gone.jpg" in refused("predict", trained, tmp_path / "gone.jpg", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_an_image_that_leads_out_of_the_root_is_refused(refused, trained, shapes_root, tmp_path):
    root = shutil.copytree(shapes_root, tmp_path / "climbing")
    path = root / "annotations/panoptic_val.json"
    content = json.loads(path.read_text())
    Image.new("RGB", (96, 96)).save(tmp_path / "secret.jpg")
    content["images"][0]["file_name"] = "../../secret.jpg"
    path.write_text(json.dumps(content))
    assert "leads out of" in refused("eval", trained, "--data", root, "--out", tmp_path / "out")


def test_check_lists_every_problem(run, shapes_root, tmp_path):
    root = shutil.copytree(shapes_root, tmp_path / "damaged")
    first, second = sorted((root / "val").iterdir())[:2]
    first.unlink()
    second.write_bytes(second.read_bytes()[:300])
    code, out, err = run("data", "check", root)
    assert code == 1 and first.name in out and second.name in out
    assert "2 problems" in err
    shutil.copy(shapes_root / "val" / first.name, first)
    assert "1 problem in" in run("data", "check", root)[2]


def test_a_device_that_is_not_there_is_refused(refused, trained, shapes_root, tmp_path):
    image = next((shapes_root / "val").iterdir())
    assert "'cuda:99' is not available" in refused("predict", trained, image, "--out", tmp_path, "--device", "cuda:99")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (KeyboardInterrupt(), 130, "upsnet-lite: interrupted"),
        (OSError(28, "No space left on device", "/full/a.png"), 1, "upsnet-lite: /full/a.png: No space left on device"),
        (PermissionError(13, "Permission denied", "/mine"), 1, "upsnet-lite: /mine: Permission denied"),
    ],
)
def test_what_the_machine_refuses_is_one_line(run, monkeypatch, tmp_path, error, code, line):
    def write(*arguments):
        raise error

    monkeypatch.setattr(shapes, "write_shapes", write)
    assert run("data", "shapes", "--out", tmp_path)[::2] == (code, line + "\n")


def test_our_own_mistakes_keep_their_traceback(monkeypatch, tmp_path):
    def write(*arguments):
        raise ZeroDivisionError

    monkeypatch.setattr(shapes, "write_shapes", write)
    monkeypatch.setattr(sys, "argv", ["upsnet-lite", "data", "shapes", "--out", str(tmp_path)])
    with pytest.raises(ZeroDivisionError):
        cli.main()


def test_lab_without_notebooks_says_so(refused, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "__file__", str(tmp_path / "site-packages/upsnet_lite/cli.py"))
    assert "00_start_here.ipynb is not here" in refused("lab")


def test_lab_listens_on_this_machine_only_and_asks_nothing(run, monkeypatch, tmp_path):
    seen = []
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "of/the/user")

    def execv(program, arguments):
        seen.extend(arguments)
        raise SystemExit(0)

    monkeypatch.setattr(os, "execv", execv)
    monkeypatch.chdir(tmp_path)
    run("lab", "--no-browser", "--port", 8899)
    assert {"--ServerApp.ip=127.0.0.1", "--ServerApp.port=8899", "--no-browser"} <= set(seen)
    assert seen[-1].endswith("=/lab/tree/notebooks/00_start_here.ipynb")
    assert not any("token" in argument.lower() for argument in seen), "JupyterLab draws its own token"

    ours, theirs = os.environ["JUPYTER_CONFIG_PATH"].split(os.pathsep)
    settings = json.loads((Path(ours) / "labconfig/default_setting_overrides.json").read_text())
    assert settings["@jupyterlab/apputils-extension:notification"]["fetchNews"] == "false" and theirs == "of/the/user"


# ---- end to end ------------------------------------------------------------------------------------------------------


def test_from_nothing_to_a_prediction(tmp_path):
    """The real command in new processes: draw, check, train, resume, evaluate, compare, predict."""

    def command(*arguments) -> str:
        line = [sys.executable, "-m", "upsnet_lite", *map(str, arguments)]
        env = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", "CUDA_VISIBLE_DEVICES": ""}
        env["PYTHONPATH"] = str(Path(cli.__file__).parents[1])
        result = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
        assert result.returncode == 0, result.stderr
        return result.stdout

    assert "6 + 3 images" in command("data", "shapes", "--out", "data", "--train", 6, "--val", 3, "--size", 64)
    assert "stand already" in command("data", "shapes", "--out", "data", "--train", 6, "--val", 3, "--size", 64)
    assert "no problem" in command("data", "check", "data")
    training = ("train", "--preset", "tiny", "--data", "data", "--batch-size", 2)
    command(*training, "--out", "run", "--iterations", 3)
    assert "is trained" in command(*training, "--out", "run", "--resume", "run", "--iterations", 5)
    assert "PQ_th" in command("eval", "run", "--data", "data", "--split", "val", "--out", "eval", "--panopticapi")
    metrics = json.loads((tmp_path / "eval/metrics.json").read_text())
    assert {"PQ", "SQ", "RQ", "PQ_th", "PQ_st", "mIoU", "AP_mask"} <= set(metrics)
    assert len(json.loads((tmp_path / "eval/panoptic_val.json").read_text())["annotations"]) == 3
    assert len(list((tmp_path / "eval/panoptic_val").glob("*.png"))) == 3
    assert "eval" in command("compare", "eval", "eval")
    assert "3 images" in command("predict", "run", "data/val", "--out", "predictions")
    assert len(list((tmp_path / "predictions").glob("*_overlay.png"))) == 3


def test_every_loss_weight_and_option_of_a_run_is_recorded(trained):
    """What was trained can be read from the model file alone."""
    from upsnet_lite.weights import load

    model = load(trained)
    assert isinstance(model.config, Config) and (model.categories.num_stuff, model.categories.num_thing) == (6, 6)
