"""Nothing half-written, nothing outside the root, one line for a bad file."""

import os
from pathlib import Path

import pytest

from upsnet_lite.files import UserError, inside, read_json, write_aside


def test_write_aside_renames_what_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "figures.json"
    with write_aside(path) as aside:
        aside.write_text("{}")
        assert not path.exists() and aside.parent == path.parent and aside.suffix == ".json"
    assert path.read_text() == "{}" and os.listdir(path.parent) == ["figures.json"]


def test_write_aside_keeps_the_old_file_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="half"), write_aside(path) as aside:
        aside.write_text("ne")
        raise RuntimeError("half")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["figures.json"]


def test_write_aside_survives_an_interrupt(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), write_aside(tmp_path / "a.png") as aside:
        aside.write_bytes(b"x")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_write_aside_of_a_folder(tmp_path: Path) -> None:
    with write_aside(tmp_path / "new") as aside:
        aside.mkdir()
        (aside / "a").write_text("a")
    with pytest.raises(KeyboardInterrupt), write_aside(tmp_path / "half") as aside:
        aside.mkdir()
        (aside / "a").write_text("a")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == ["new"] and (tmp_path / "new" / "a").read_text() == "a"


def test_an_error_names_the_file_that_the_user_knows(tmp_path: Path) -> None:
    with pytest.raises(OSError) as error, write_aside(tmp_path / "a.json") as aside:
        aside.mkdir()
        aside.write_text("{}")
    assert error.value.filename == str(tmp_path / "a.json")


@pytest.mark.parametrize("name", ["../x.png", "a/../../x.png", "/etc/passwd", ".."])
def test_a_name_that_leads_out(tmp_path: Path, name) -> None:
    with pytest.raises(UserError, match="leads out of"):
        inside(tmp_path / "root", name)


@pytest.mark.parametrize("name", ["a\0b", "a\nb", "\ud800"])
def test_a_name_that_cannot_be_one(tmp_path: Path, name) -> None:
    with pytest.raises(UserError, match="cannot be one") as error:
        inside(tmp_path, name)
    assert "\n" not in str(error.value)


def test_a_link_that_leads_out(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret").write_text("s")
    (root / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(UserError, match="leads out of"):
        inside(root, "link")


@pytest.mark.parametrize("name", ["x.png", "a/b/x.png", "a/../x.png", "..x"])
def test_a_name_that_stays(tmp_path: Path, name) -> None:
    assert inside(tmp_path, name) == tmp_path / name


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "not valid JSON"),
        (b"[1]", "a JSON list, an object was expected"),
        (b"\xff\xfe{}", "not valid JSON"),
        (b"", "not valid"),
    ],
)
def test_bad_json_is_one_line(tmp_path: Path, content, said) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=said) as error:
        read_json(tmp_path / "a.json")
    assert "a.json" in str(error.value) and "\n" not in str(error.value)


def test_missing_json_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none.json is missing"):
        read_json(tmp_path / "none.json")
    with pytest.raises(UserError, match="cannot be read"):
        read_json(tmp_path)


def test_good_json(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"name": "Zürich"}', encoding="utf-8")
    assert read_json(tmp_path / "a.json") == {"name": "Zürich"}
