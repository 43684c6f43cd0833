"""The shapes data set: its promises, one by one, on real files."""

import hashlib
import itertools
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from upsnet_lite.categories import IGNORE
from upsnet_lite.datasets import shapes
from upsnet_lite.datasets.check import check
from upsnet_lite.datasets.coco_panoptic import CocoPanoptic
from upsnet_lite.datasets.shapes import UNFINISHED, categories, write_shapes
from upsnet_lite.datasets.shapes_scene import MIN_STUFF, MIN_THING, THINGS, draw
from upsnet_lite.files import UserError


def digest(root: Path) -> dict[str, str]:
    files = sorted(p for p in root.rglob("*") if p.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def scene(index: int, size: int = 128, seed: int = 0):
    return draw(np.random.default_rng((seed, 0, index)), size, index)


@pytest.fixture(scope="module")
def scenes() -> list:
    return [scene(i) for i in range(60)]


# ---------------------------------------------------------------------------------------------- what is drawn


def test_classes():
    found = categories()
    assert (found.num_stuff, found.num_thing) == (6, 6)
    assert [c.name for c in found] == [
        *("sky", "water", "sand", "grass", "brick", "stone"),
        *("ball", "crate", "star", "leaf", "fish", "mushroom"),
    ]
    assert {c.name for c in found.things} == set(THINGS)


def test_class_colours_differ_for_any_colour_vision():
    """Distances in CIELAB as seen with normal, red-blind and green-blind eyes (Machado, Oliveira, Fernandes 2009)."""
    eyes = [
        np.eye(3),
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    ]
    srgb = np.array([c.color for c in categories()]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    for eye in eyes:
        x, y, z = (np.clip(linear @ np.transpose(eye), 0, 1) @ xyz.T / xyz.sum(1)).T
        x, y, z = (np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116) for t in (x, y, z))
        lab = np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)
        assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(lab, 2)) > 15


def test_scenes_are_hard_in_the_ways_promised(scenes):
    counts = []
    for index, found in enumerate(scenes):
        areas = np.bincount(found.ids.ravel(), minlength=len(found.segments) + 1)[1:]
        for (kind, iscrowd), area in zip(found.segments, areas, strict=True):
            least = MIN_THING if kind in THINGS and not iscrowd else MIN_STUFF * (kind not in THINGS)
            assert area == 0 or area >= least, (index, kind, area)
        counts.append(sum(kind in THINGS and not iscrowd for kind, iscrowd in found.segments))
    assert counts[5] == counts[55] == 0 and counts[30] == 30
    rest = [n for i, n in enumerate(counts) if i % 50 not in (5, 30)]
    assert 3 <= np.median(rest) <= 8 and max(rest) <= 8
    assert [i for i, s in enumerate(scenes) if any(crowd for _, crowd in s.segments)] == [12, 38]
    void = np.array([(s.ids == 0).mean() for s in scenes])
    assert 0 < (void > 0).mean() < 0.4 and void.max() < 0.1
    everything = {kind for s in scenes for kind, _ in s.segments}
    assert everything == {c.name for c in categories()}


def test_some_touch_the_border_and_some_have_a_touching_twin(scenes):
    cut = twins = 0
    for found in scenes:
        things = [n for n, (kind, crowd) in enumerate(found.segments, 1) if kind in THINGS and not crowd]
        border = np.concatenate([found.ids[0], found.ids[-1], found.ids[:, 0], found.ids[:, -1]])
        cut += bool(np.isin(things, border).any())
        right = np.stack([found.ids[:, :-1].ravel(), found.ids[:, 1:].ravel()])
        neighbours = {tuple(sorted(p)) for p in right.T.tolist() if p[0] != p[1]}
        twins += any(
            found.segments[a - 1] == found.segments[b - 1] for a, b in neighbours if a in things and b in things
        )
    assert cut > 15 and twins > 8


@pytest.mark.parametrize("size", [64, 100, 512])
def test_other_sizes_show_the_same_kinds_of_scene(size):
    found = scene(30, size)
    assert found.image.shape == (size, size, 3) and found.ids.shape == (size, size)
    assert sum(kind in THINGS for kind, _ in found.segments) == 30


def test_image_and_ids_lie_on_each_other():
    """Class colours differ: the mean colour step across a segment's edge is far above the step inside."""
    found = scene(0)
    image = found.image.astype(int)
    step = np.abs(image[:, 1:] - image[:, :-1]).sum(-1)
    edge = found.ids[:, 1:] != found.ids[:, :-1]
    assert step[edge].mean() > 3 * step[~edge].mean()


# ---------------------------------------------------------------------------------------------- what is written


def test_the_files_are_sound_and_whole(shapes_root):
    assert check(shapes_root) == []
    assert sorted(p.name for p in shapes_root.iterdir()) == ["annotations", "train", "val"]
    train, val = CocoPanoptic(shapes_root, "train"), CocoPanoptic(shapes_root, "val")
    assert (len(train), len(val)) == (12, 6)
    assert not {i["id"] for i in train.images} & {i["id"] for i in val.images}
    assert train.categories == categories()
    assert len(train[5][1]["boxes"]) == 0 and (train[5][1]["semantic"] != IGNORE).any()
    names = {c.id: c.color for c in categories()}
    for segment in train.annotations[0]["segments_info"]:  # the PNG can be read by eye
        color = np.array([segment["id"] >> shift & 255 for shift in (0, 8, 16)])
        assert np.abs(color - names[segment["category_id"]]).max() <= 18


def test_the_same_for_any_number_of_processes_and_no_work_twice(tmp_path):
    seen = []
    arguments = dict(train=5, val=2, size=64, seed=4)
    assert write_shapes(tmp_path / "one", **arguments, processes=1, progress=lambda *d: seen.append(d))
    assert seen == [(n, 7) for n in range(1, 8)]
    assert write_shapes(tmp_path / "three", **arguments, processes=3)
    assert digest(tmp_path / "one") == digest(tmp_path / "three")
    assert not write_shapes(tmp_path / "one", **arguments, progress=lambda *d: seen.append(d))
    assert len(seen) == 7
    next((tmp_path / "one/train").iterdir()).unlink()  # no longer whole
    assert write_shapes(tmp_path / "one", **arguments)
    assert digest(tmp_path / "one") == digest(tmp_path / "three")


def test_seed_split_and_index_decide_and_a_prefix_stays(tmp_path):
    write_shapes(tmp_path / "a", 3, 3, size=64)
    write_shapes(tmp_path / "b", 3, 3, size=64, seed=1)
    a, b = digest(tmp_path / "a"), digest(tmp_path / "b")
    pictures = [v for d in (a, b) for k, v in d.items() if k.endswith(".jpg")]
    assert len(set(pictures)) == 12
    assert write_shapes(tmp_path / "a", 4, 1, size=64)  # other arguments replace the earlier set
    c = digest(tmp_path / "a")
    assert len([k for k in c if k.endswith(".jpg")]) == 5
    common = [k for k in a if k in c and not k.endswith(".json")]
    assert len(common) == 8 and all(a[k] == c[k] for k in common)


class Stop(Exception):
    pass


def stop_at(n):
    def progress(done, total):
        if done == n:
            raise Stop

    return progress


@pytest.mark.parametrize("processes", [1, 2])
def test_a_failure_leaves_what_stood_before(tmp_path, processes):
    with pytest.raises(Stop):
        write_shapes(tmp_path / "new", 4, 1, size=64, progress=stop_at(3), processes=processes)
    assert not list((tmp_path / "new").iterdir())
    write_shapes(tmp_path / "old", 2, 1, size=64)
    before = digest(tmp_path / "old")
    with pytest.raises(Stop):
        write_shapes(tmp_path / "old", 4, 1, size=64, progress=stop_at(3), processes=processes)
    assert digest(tmp_path / "old") == before


def test_a_killed_run_never_looks_whole_and_the_next_one_mends_it(tmp_path):
    root = tmp_path / "x"
    code = f"from upsnet_lite.datasets.shapes import write_shapes; write_shapes({str(root)!r}, 5000, 1, size=64)"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=Path(shapes.__file__).parents[2])
    try:
        deadline = time.monotonic() + 60
        while not list(root.glob(f"{UNFINISHED}/*/train/*.jpg")) and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    assert list(root.glob(f"{UNFINISHED}/*/train/*.jpg"))
    with pytest.raises(UserError, match="no split"):
        CocoPanoptic(root, "train")
    assert write_shapes(root, 2, 1, size=64)
    assert check(root) == [] and not (root / UNFINISHED).exists()


@pytest.fixture
def orphan(request):
    """Starts a drawing process whose parent was killed: it writes into the folder it was told until that is gone."""

    def write(folder):
        for n in range(5_000):  # about a second, should the folder stay
            try:
                (folder / f"{n:012d}.jpg").write_bytes(b"drawn by a process whose parent is gone")
            except FileNotFoundError:
                return

    def start(folder):
        folder.mkdir(parents=True)
        thread = threading.Thread(target=write, args=[folder])
        thread.start()
        request.addfinalizer(thread.join)

    return start


def test_a_drawing_process_that_outlives_its_parent_does_no_harm(tmp_path, orphan):
    write_shapes(tmp_path / "alone", 2, 1, size=64)
    orphan(tmp_path / "x" / UNFINISHED / "work" / "train")
    assert write_shapes(tmp_path / "x", 2, 1, size=64)
    assert digest(tmp_path / "x") == digest(tmp_path / "alone")


def test_the_drawing_processes_have_ended_before_their_folder_is_removed(tmp_path, monkeypatch):
    processes, running = [], []
    start, rmtree = shapes.start_worker, shapes.shutil.rmtree

    def removes(*args, **options):
        running.append([p.poll() is None for p in processes])
        rmtree(*args, **options)

    monkeypatch.setattr(shapes, "start_worker", lambda *args: processes.append(start(*args)) or processes[-1])
    monkeypatch.setattr(shapes.shutil, "rmtree", removes)
    with pytest.raises(Stop):
        write_shapes(tmp_path / "x", 400, 1, size=64, progress=stop_at(3), processes=2)
    assert running == [[], [False, False]] and not list((tmp_path / "x").iterdir())


def test_killed_while_moving_into_place(tmp_path, monkeypatch):
    write_shapes(tmp_path, 2, 1, size=64)
    calls = []

    def dies(work, root, split):
        if split == "val":
            raise KeyboardInterrupt
        calls.append(split)
        install(work, root, split)

    install = shapes.install
    monkeypatch.setattr(shapes, "install", dies)
    with pytest.raises(KeyboardInterrupt):
        write_shapes(tmp_path, 3, 1, size=64)
    monkeypatch.undo()
    assert calls == ["train"]
    assert write_shapes(tmp_path, 3, 1, size=64)
    assert check(tmp_path) == [] and len(CocoPanoptic(tmp_path, "train")) == 3


@pytest.mark.parametrize("what", ["file", "notes", "coco", "half"])
def test_other_peoples_folders_are_left_alone(tmp_path, what):
    root = tmp_path / "x"
    if what == "file":
        root.write_text("mine")
    elif what == "notes":
        root.mkdir()
        (root / "notes.txt").write_text("mine")
    else:
        write_shapes(root, 1, 1, size=64)
        path = root / "annotations/panoptic_val.json"
        if what == "half":
            path.unlink()
        else:
            path.write_text(json.dumps({"info": {"description": "COCO 2018 Panoptic Dataset"}}))
    before = digest(tmp_path)
    with pytest.raises(UserError, match="something other than a shapes data set"):
        write_shapes(root, 2, 2, size=64)
    assert digest(tmp_path) == before


@pytest.mark.parametrize("bad", [dict(train=-1), dict(val=10**6), dict(size=63), dict(size=513), dict(seed=-1)])
def test_arguments_out_of_range(tmp_path, bad):
    with pytest.raises(UserError, match="shapes: the"):
        write_shapes(tmp_path / "x", **(dict(train=1, val=1, size=64, seed=0) | bad))
    assert not (tmp_path / "x").exists()


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_shapes(tmp_path / "file" / "x", 1, 1, size=64)


def test_drawing_needs_no_torch():
    code = "import sys, upsnet_lite.datasets.shapes; print('torch' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(shapes.__file__).parents[2]
    )
    assert found.stdout.strip() == "False", found.stderr
