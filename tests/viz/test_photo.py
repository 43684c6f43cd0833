"""The user's own image: scaled, or refused by its header."""

import numpy as np
import pytest
from PIL import Image

from upsnet_lite.files import UserError
from upsnet_lite.viz.photo import SIDE, read_photo, read_upload


def test_a_small_one_stays_a_large_one_is_scaled(tmp_path):
    Image.new("RGB", (100, 60), (255, 0, 51)).save(tmp_path / "small.png")
    Image.new("RGB", (3000, 1500), (255, 0, 51)).save(tmp_path / "large.png")
    small, large = read_photo(tmp_path / "small.png"), read_photo(tmp_path / "large.png")
    assert small.shape == (3, 60, 100) and large.shape == (3, SIDE // 2, SIDE)
    assert np.allclose(large.mean((1, 2)), [1, 0, 0.2], atol=1e-3)


def test_12000_by_9000_is_refused_by_its_header(tmp_path):
    path = tmp_path / "huge.png"
    Image.new("1", (12000, 9000)).save(path)
    with pytest.raises(UserError, match=r"huge.png has 12000 x 9000 px, more than 50 million; scale it down"):
        read_photo(path)
    with pytest.raises(UserError, match=r"^mine.png has 12000 x 9000 px"):
        read_upload(path.read_bytes(), "mine.png")


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n broken"])
def test_a_broken_upload_is_one_line(content):
    with pytest.raises(UserError, match="^mine.png cannot be read as an image") as error:
        read_upload(content, "mine.png")
    assert "\n" not in str(error.value)


def test_half_a_file(tmp_path):
    path = tmp_path / "whole.png"
    Image.effect_noise((200, 200), 60).save(path)
    with pytest.raises(UserError, match="^half.png cannot be read as an image"):
        read_upload(path.read_bytes()[:9000], "half.png")
