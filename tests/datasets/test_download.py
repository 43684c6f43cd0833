"""Downloads from a server on 127.0.0.1 that breaks off, refuses, is busy, lies, and serves archives meant to harm."""

import contextlib
import hashlib
import io
import json
import shutil
import socket
import stat
import struct
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

pytest.importorskip("pooch")

from upsnet_lite.datasets import coco_subset, download
from upsnet_lite.datasets.check import check
from upsnet_lite.datasets.download import fetch, opened, unpack
from upsnet_lite.files import UserError


class Server(ThreadingHTTPServer):
    """`files` are served, with ranges; `plan[path]` is a list of misbehaviours, one per request, before good ones."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.plan, self.asked = {}, {}, []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, address) -> None:  # a client that goes away is no news
        pass


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *arguments) -> None:
        pass

    def do_GET(self) -> None:
        server, name = self.server, self.path.lstrip("/")
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        server.asked.append((name, start))
        behaviour = server.plan[name].pop(0) if server.plan.get(name) else "good"
        if isinstance(behaviour, int) or name not in server.files:
            self.send_response(behaviour if isinstance(behaviour, int) else 404)
            self.send_header("Retry-After", "0")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = server.files[name]
        if behaviour == "no ranges":
            start = 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        body = body[start:]
        self.wfile.write({"breaks": body[: len(body) // 2], "stops": b""}.get(behaviour, body))


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "PAUSE", 0.001)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as found:
        threading.Thread(target=found.serve_forever, args=(0.01,), daemon=True).start()
        yield found
        found.shutdown()


BODY = bytes(range(256)) * 4096


# ---- one file --------------------------------------------------------------------------------------------------------


def test_a_file_arrives_once(server, tmp_path):
    server.files["a"] = BODY
    seen = []
    for _ in range(2):
        path = fetch(f"{server.url}/a", tmp_path / "sub/a", progress=lambda *now: seen.append(now))
    assert path.read_bytes() == BODY and server.asked == [("a", 0)] and seen
    assert [p.name for p in (tmp_path / "sub").iterdir()] == ["a"]


def test_what_breaks_off_is_resumed(server, tmp_path):
    server.files["a"] = BODY
    server.plan["a"] = ["breaks"] * 3
    assert fetch(f"{server.url}/a", tmp_path / "a").read_bytes() == BODY
    half = len(BODY) // 2
    assert [start for _, start in server.asked] == [0, half, half + half // 2, half + half // 2 + half // 4]


def test_the_next_run_resumes_too(server, tmp_path, monkeypatch):
    server.files["a"] = BODY
    server.plan["a"] = ["breaks", 404]
    with pytest.raises(UserError, match="answers 404"):
        fetch(f"{server.url}/a", tmp_path / "a")
    assert not (tmp_path / "a").exists() and (tmp_path / ".a.part").exists()
    assert fetch(f"{server.url}/a", tmp_path / "a").read_bytes() == BODY
    assert server.asked[-1] == ("a", len(BODY) // 2)


def test_a_server_without_ranges_starts_anew(server, tmp_path):
    server.files["a"] = BODY
    server.plan["a"] = ["breaks", "no ranges"]
    assert fetch(f"{server.url}/a", tmp_path / "a").read_bytes() == BODY


def test_a_server_that_never_gets_further_is_given_up(server, tmp_path):
    server.files["a"] = BODY
    server.plan["a"] = ["breaks"] + ["stops"] * 50
    with pytest.raises(UserError, match="cannot be reached"):
        fetch(f"{server.url}/a", tmp_path / "a")
    assert len(server.asked) == 1 + download.ATTEMPTS


def test_what_is_left_of_another_file_is_dropped(server, tmp_path):
    server.files["a"] = BODY
    server.plan["a"] = [416]
    (tmp_path / ".a.part").write_bytes(BODY + b"more")
    assert fetch(f"{server.url}/a", tmp_path / "a").read_bytes() == BODY


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again(server, tmp_path, status):
    server.files["a"] = BODY
    server.plan["a"] = [status, status]
    assert fetch(f"{server.url}/a", tmp_path / "a").read_bytes() == BODY
    assert len(server.asked) == 3


def test_a_server_that_stays_busy_is_given_up(server, tmp_path):
    server.files["a"] = BODY
    server.plan["a"] = [503] * 50
    with pytest.raises(UserError, match="503 error responses"):
        fetch(f"{server.url}/a", tmp_path / "a")
    assert len(server.asked) == download.ATTEMPTS + 1


def test_404_is_one_line(server, tmp_path):
    with pytest.raises(UserError, match=r"/gone: the server answers 404"):
        fetch(f"{server.url}/gone", tmp_path / "gone")
    assert len(server.asked) == 1


def test_no_network_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "PAUSE", 0.001)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UserError) as caught:
        fetch(f"http://127.0.0.1:{port}/a", tmp_path / "a")
    line = str(caught.value)
    assert f"127.0.0.1:{port} cannot be reached" in line and "refused" in line and "run the same command" in line
    assert "\n" not in line and "object at" not in line


def test_wrong_bytes_are_thrown_away(server, tmp_path):
    server.files["a"] = BODY
    known = "sha256:" + hashlib.sha256(BODY).hexdigest()
    assert fetch(f"{server.url}/a", tmp_path / "a", known)
    server.files["b"] = BODY[:-1] + b"!"
    with pytest.raises(UserError, match="other content"):
        fetch(f"{server.url}/b", tmp_path / "b", known)
    assert not (tmp_path / "b").exists()


def test_a_full_disk_is_said_before(server, tmp_path, monkeypatch):
    server.files["a"] = BODY
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, download.SPARE + 1000))
    with pytest.raises(UserError, match="needs 0.2 GB"):
        fetch(f"{server.url}/a", tmp_path / "a")
    assert not list(tmp_path.iterdir())


# ---- archives --------------------------------------------------------------------------------------------------------


def zipped(files: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        for name, target in (links or {}).items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, target)
    return buffer.getvalue()


def test_members_are_placed_by_their_names(tmp_path):
    (tmp_path / "a.zip").write_bytes(zipped({"x/one.txt": b"1", "x/two.txt": b"22", "other": b"3"}))
    with opened(tmp_path / "a.zip") as archive:
        found = list(unpack(archive, tmp_path / "out", lambda n: n[2:] if n.startswith("x/") else None))
    assert [p.name for p in found] == ["one.txt", "two.txt"] and (tmp_path / "out/two.txt").read_bytes() == b"22"


def climbing(name: str) -> bytes:
    return zipped({"good": b"1", "x" * len(name): b"2"}).replace(b"x" * len(name), name.encode())


def bomb() -> bytes:
    """Forty members that say 2.5 GB each."""
    content = zipped({f"m{n:02d}": b"\0" * 1000 for n in range(40)})
    return content.replace(struct.pack("<I", 1000), struct.pack("<I", 2_500_000_000))


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil", "..\\evil", "C:/evil"])
def test_an_archive_that_climbs_is_refused(tmp_path, name):
    (tmp_path / "a.zip").write_bytes(climbing(name))
    with pytest.raises(UserError, match="leads out of its target"):
        opened(tmp_path / "a.zip")


def test_a_symlink_is_refused_in_the_archive_and_in_the_target(tmp_path):
    (tmp_path / "a.zip").write_bytes(zipped({}, links={"link": "/etc"}))
    with pytest.raises(UserError, match="symbolic link"):
        opened(tmp_path / "a.zip")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/sub").symlink_to(tmp_path)
    (tmp_path / "b.zip").write_bytes(zipped({"sub/evil": b"1"}))
    with opened(tmp_path / "b.zip") as archive, pytest.raises(UserError, match="leads out of"):
        list(unpack(archive, tmp_path / "out", lambda n: n))
    assert not (tmp_path / "evil").exists()


def test_an_archive_of_100_gb_is_refused(tmp_path):
    (tmp_path / "bomb.zip").write_bytes(bomb())
    with pytest.raises(UserError, match="would unpack to 100.0 GB"):
        opened(tmp_path / "bomb.zip")


def test_a_small_disk_is_said_before_anything_is_written(tmp_path, monkeypatch):
    (tmp_path / "a.zip").write_bytes(zipped({"a": b"1" * 5000}))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, download.SPARE + 1000))
    with opened(tmp_path / "a.zip") as archive, pytest.raises(UserError, match="unpacking into"):
        list(unpack(archive, tmp_path / "out", lambda n: n))
    assert not list((tmp_path / "out").iterdir())


def test_a_damaged_member_leaves_no_file(tmp_path):
    content = bytearray(zipped({"a": bytes(range(256)) * 20}))
    content[60] ^= 0xFF
    (tmp_path / "a.zip").write_bytes(content)
    with opened(tmp_path / "a.zip") as archive, pytest.raises(UserError, match="damaged"):
        list(unpack(archive, tmp_path / "out", lambda n: n))
    assert not list((tmp_path / "out").iterdir())


# ---- COCO ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def mirror(server, shapes_root):
    """The shapes as COCO's server and coco128's release have them: annotations in a zip of zips, single images."""
    splits = {"train2017": "train", "val2017": "val"}
    outer, flat, photographs = {}, {}, {}
    for split, source in splits.items():
        content = json.loads((shapes_root / f"annotations/panoptic_{source}.json").read_text())
        for image in content["images"]:
            image["coco_url"] = f"{server.url}/{split}/{image['file_name']}"
            body = (shapes_root / source / image["file_name"]).read_bytes()
            server.files[f"{split}/{image['file_name']}"] = photographs[f"images/{split}/{image['file_name']}"] = body
        pngs = {
            f"panoptic_{split}/{p.name}": p.read_bytes()
            for p in (shapes_root / f"annotations/panoptic_{source}").iterdir()
        }
        outer[f"annotations/panoptic_{split}.json"] = json.dumps(content).encode()
        outer[f"annotations/panoptic_{split}.zip"] = zipped(pngs)
        flat |= {f"panoptic_segmentation/annotations/{name}": body for name, body in pngs.items()}
        flat[f"panoptic_segmentation/annotations/panoptic_{split}.json"] = json.dumps(content).encode()
    server.files["panoptic.zip"] = zipped(outer)
    server.files["images.zip"], server.files["panoptic_segmentation.zip"] = zipped(photographs), zipped(flat)
    return server


def subset(mirror, root, count=5, split="train2017", **options):
    where = dict(annotations=f"{mirror.url}/panoptic.zip", kept=root / "kept")
    return coco_subset.coco(root / "out", count, split, **where, **options)


def test_coco128_is_complete_and_done_once(mirror, tmp_path):
    root = coco_subset.coco128(tmp_path / "out", base=mirror.url)
    assert check(root) == [] and len(list((root / "train2017").iterdir())) == 12
    assert sorted(p.name for p in root.iterdir()) == ["annotations", "train2017", "val2017"]
    mirror.asked.clear()
    coco_subset.coco128(tmp_path / "out", base=mirror.url)
    assert not mirror.asked


def test_coco128_goes_on_after_a_break(mirror, tmp_path):
    good = mirror.files.pop("panoptic_segmentation.zip")
    with pytest.raises(UserError, match="404"):
        coco_subset.coco128(tmp_path / "out", base=mirror.url)
    mirror.files["panoptic_segmentation.zip"] = good
    mirror.asked.clear()
    assert check(coco_subset.coco128(tmp_path / "out", base=mirror.url)) == []
    assert [name for name, _ in mirror.asked] == ["panoptic_segmentation.zip"]


def test_a_page_instead_of_a_zip_is_refused(mirror, tmp_path):
    mirror.files["images.zip"] = b"<html>please log in</html>"
    with pytest.raises(UserError, match=r"images\.zip is no zip"):
        coco_subset.coco128(tmp_path / "out", base=mirror.url)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (climbing("../evil"), "leads out of its target"),
        (zipped({}, links={"link": "/etc"}), "symbolic link"),
        (bomb(), "would unpack to 100.0 GB"),
    ],
)
def test_a_harmful_archive_from_the_server_is_refused_before_anything_is_written(mirror, tmp_path, content, words):
    mirror.files["images.zip"] = content
    with pytest.raises(UserError, match=words):
        coco_subset.coco128(tmp_path / "out", base=mirror.url)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert {p.name for p in (tmp_path / "out").rglob("*")} <= {".download", "images.zip", "panoptic_segmentation.zip"}


def test_the_official_annotations_must_have_their_hash(mirror, tmp_path, monkeypatch):
    """Other bytes at the official address, here that of the mirror, are not taken."""
    monkeypatch.setattr(coco_subset, "ANNOTATIONS", f"{mirror.url}/panoptic.zip")
    with pytest.raises(UserError, match="other content than it should"):
        subset(mirror, tmp_path)
    assert not list((tmp_path / "kept").glob("*.zip"))
    known = "sha256:" + hashlib.sha256(mirror.files["panoptic.zip"]).hexdigest()
    monkeypatch.setattr(coco_subset, "ANNOTATIONS_HASH", known)
    assert check(subset(mirror, tmp_path)) == []


def test_a_subset_keeps_ids_and_takes_only_its_images(mirror, shapes_root, tmp_path):
    root = subset(mirror, tmp_path)
    assert check(root) == [] and len(list((root / "train2017").iterdir())) == 5
    asked = [name for name, _ in mirror.asked]
    assert len(asked) == 6 and len(set(asked)) == 6, "the annotations once, and five images"
    whole = json.loads((shapes_root / "annotations/panoptic_train.json").read_text())
    part = json.loads((root / "annotations/panoptic_train2017.json").read_text())
    by_id = {a["image_id"]: a for a in whole["annotations"]}
    assert part["annotations"] and all(a == by_id[a["image_id"]] for a in part["annotations"])
    assert part["categories"] == whole["categories"]
    subset(mirror, tmp_path, split="val2017", count=2)
    assert check(root) == [] and len(mirror.asked) == 8, "annotations come from the cache"
    subset(mirror, tmp_path)
    assert len(mirror.asked) == 8
    with pytest.raises(UserError, match="another choice"):
        subset(mirror, tmp_path, count=6)


def test_a_subset_that_broke_off_goes_on(mirror, tmp_path):
    gone = next(name for name in mirror.files if name.startswith("train2017/"))
    body = mirror.files.pop(gone)
    with pytest.raises(UserError, match="404"):
        subset(mirror, tmp_path, count=12)
    assert not (tmp_path / "out/annotations/panoptic_train2017.json").exists()
    there = len(list((tmp_path / "out/train2017").glob("*.jpg")))
    mirror.files[gone] = body
    mirror.asked.clear()
    assert check(subset(mirror, tmp_path, count=12)) == []
    assert len(mirror.asked) == 12 - there


def test_another_image_than_the_json_says_is_refused(mirror, tmp_path):
    names = [name for name in mirror.files if name.startswith("train2017/")]
    for name in names:
        mirror.files[name] = b"\xff\xd8 not really a JPEG"
    with pytest.raises(UserError, match="other than the image it should"):
        subset(mirror, tmp_path)
    assert not list((tmp_path / "out/train2017").glob("*.jpg"))


def test_annotations_that_climb_or_are_broken_are_refused(mirror, tmp_path):
    with zipfile.ZipFile(io.BytesIO(mirror.files["panoptic.zip"])) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    name = "annotations/panoptic_train2017"
    climbing = json.loads(parts[f"{name}.json"])
    for image in climbing["images"]:
        image["file_name"] = "../../evil.jpg"
    for change, words in (({f"{name}.json": json.dumps(climbing).encode()}, "leads out of"),
                          ({f"{name}.zip": b"no zip"}, "damaged"), ({f"{name}.json": b"{"}, "damaged")):  # fmt: skip
        mirror.files["panoptic.zip"] = zipped(parts | change)
        with pytest.raises(UserError, match=words):
            subset(mirror, tmp_path)
        shutil.rmtree(tmp_path / "kept")
    assert not (tmp_path / "evil.jpg").exists()


def content_of(shows: dict[int, list[str]]) -> dict:
    names = sorted({name for found in shows.values() for name in found})
    ids = {name: n for n, name in enumerate(names, 1)}
    return dict(
        categories=[dict(id=i, name=name) for name, i in ids.items()],
        images=[dict(id=n) for n in shows],
        annotations=[
            dict(image_id=n, segments_info=[dict(category_id=ids[x]) for x in found]) for n, found in shows.items()
        ],
    )


def test_the_choice_is_balanced_and_reproducible():
    """Ninety images of people, five each of dogs and cats: ten chosen ones hold all three about equally."""
    shows = dict.fromkeys(range(90), ["person"]) | dict.fromkeys(range(90, 95), ["dog"])
    content = content_of(shows | dict.fromkeys(range(95, 100), ["cat"]))
    chosen = coco_subset.choose(content, 9, None, seed=1)
    assert [sum(n in chosen for n in part) for part in (range(90), range(90, 95), range(95, 100))] == [3, 3, 3]
    assert coco_subset.choose(content, 9, None, seed=1) == chosen != coco_subset.choose(content, 9, None, seed=2)
    assert coco_subset.choose(content, 10, ["dog", "cat"], seed=1) == set(range(90, 100))
    assert len(coco_subset.choose(content, 100, None, seed=1)) == 100


def test_a_choice_that_cannot_be_made_is_one_line(tmp_path):
    content = content_of({1: ["person"], 2: ["dog"]})
    with pytest.raises(UserError, match="no class 'persons'; close are: person"):
        coco_subset.choose(content, 1, ["persons"], 0)
    with pytest.raises(UserError, match="3 images were asked for; 2 have"):
        coco_subset.choose(content, 3, None, 0)
    with pytest.raises(UserError, match="not for 'test2017'"):
        coco_subset.coco(tmp_path, 1, "test2017")


def test_the_command_checks_what_it_fetched(mirror, tmp_path, monkeypatch, capsys):
    from upsnet_lite import cli

    monkeypatch.setattr(coco_subset, "COCO128", mirror.url)
    with contextlib.suppress(SystemExit):
        cli.app(["data", "coco128", "--out", str(tmp_path / "out")], prog_name="upsnet-lite")
    assert "no problem found" in capsys.readouterr().out
