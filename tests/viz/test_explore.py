"""`upsnet-lite explore`: what is wrong is said in one line before anything is served. The page: tests/browser."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from upsnet_lite.datasets.shapes import write_shapes
from upsnet_lite.files import UserError
from upsnet_lite.viz import explore
from upsnet_lite.viz.explore import check, free_port

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_shapes(folder, train=1, val=1, size=64)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 no more")
    Image.new("1", (12000, 9000)).save(folder / "huge.png")
    (folder / "broken.safetensors").write_bytes(b"nothing")
    Image.new("RGB", (40, 30)).save(folder / "fine.png")
    return folder


WRONG = [
    (["no-such-model"], "no such checkpoint"),
    (["broken.safetensors"], "not a readable safetensors file"),
    (["tiny-shapes", "missing.jpg"], "missing.jpg is missing"),
    (["tiny-shapes", "fine.png", "broken.jpg"], "broken.jpg cannot be read as an image"),
    (["tiny-shapes", "huge.png"], "huge.png has 12000 x 9000 px, more than 50 million; scale it down"),
    (["tiny-shapes", "--data", "nowhere"], "nowhere is missing"),
    (["tiny-shapes", "--data", ".", "--split", "test"], "no split 'test'"),
]


@pytest.mark.parametrize("arguments, said", WRONG, ids=lambda v: v if isinstance(v, str) else None)
def test_what_is_wrong_is_one_line_before_anything_is_served(root, monkeypatch, capsys, arguments, said):
    from upsnet_lite.cli import app

    monkeypatch.chdir(root)
    monkeypatch.setattr(explore, "run_voila", lambda port: pytest.fail("served"))
    with pytest.raises(SystemExit) as stop:
        app(["explore", "--no-browser", *arguments], prog_name="upsnet-lite")
    told = capsys.readouterr().err.strip()
    assert stop.value.code == 1 and said in told and len(told.splitlines()) == 1 and told.startswith("upsnet-lite: ")


def test_in_a_process_of_its_own(root):
    command = [sys.executable, "-m", "upsnet_lite", "explore", "--no-browser", "tiny-shapes", "missing.jpg"]
    found = subprocess.run(
        command, cwd=root, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120
    )
    assert found.returncode == 1 and found.stderr == "upsnet-lite: missing.jpg is missing\n" and not found.stdout


def test_what_is_right_passes(root):
    check("tiny-shapes", root, [root / "fine.png"], "val")
    check("tiny-shapes", None, [root / "fine.png"], "val")


def test_other_classes_are_refused(root, tmp_path):
    name = "annotations/panoptic_val"
    (tmp_path / "annotations").mkdir()
    content = json.loads((root / f"{name}.json").read_text())
    content["categories"][0]["name"] = "another"
    (tmp_path / f"{name}.json").write_text(json.dumps(content))
    for folder in (name, "val"):
        (tmp_path / folder).symlink_to(root / folder)
    with pytest.raises(UserError, match="has other classes than tiny-shapes: class '.*' .* against"):
        check("tiny-shapes", tmp_path, [], "val")


def test_a_port_in_use_is_passed_over():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        taken = one.getsockname()[1]
        assert free_port(taken) > taken
