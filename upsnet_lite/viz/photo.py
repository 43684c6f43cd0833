"""A user's own image for the explorer: refused by its header where it is huge, scaled down where it is merely large.

The network scales what it sees to a few hundred pixels anyway: maps of a photograph at full size would only be slow.
"""

import tempfile
from pathlib import Path

import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ..datasets.images import read_image
from ..files import UserError

LARGEST = 50_000_000  # pixels of a file: 12 000 × 9 000 of them would take 1.3 GB as numbers
SIDE = 512  # pixels, the longer side of what is shown


def read_photo(path: Path) -> Float[Tensor, "3 H W"]:
    """RGB in [0, 1], upright, at most SIDE px a side. UserError: missing, broken, or more than LARGEST pixels."""
    width, height = header(path)
    if width * height > LARGEST:
        raise UserError(
            f"{path} has {width} x {height} px, more than {LARGEST // 10**6} million; scale it down, "
            f"the explorer shows {SIDE} px"
        )
    image = read_image(path)
    longest = max(image.shape[1:])
    if longest <= SIDE:
        return image
    size = [max(1, round(side * SIDE / longest)) for side in image.shape[1:]]
    small = F.interpolate(image[None], size, mode="bilinear", align_corners=False, antialias=True)[0]
    return small.clamp(0, 1)


def header(path: Path) -> tuple[int, int]:
    """(width, height) without decoding a pixel."""
    largest = Image.MAX_IMAGE_PIXELS
    try:
        Image.MAX_IMAGE_PIXELS = None  # PIL warns, or raises, on opening; this module says it in a line of its own
        with Image.open(path) as image:
            return image.size
    except FileNotFoundError:
        raise UserError(f"{path} is missing") from None
    except Exception as error:  # a broken file makes PIL raise almost anything
        raise UserError(f"{path} cannot be read as an image: {error or type(error).__name__}") from None
    finally:
        Image.MAX_IMAGE_PIXELS = largest


def read_upload(content: bytes, name: str) -> Float[Tensor, "3 H W"]:
    """The same for a file that the browser sent; the error names it as the user does."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "upload"
        path.write_bytes(content)
        try:
            return read_photo(path)
        except UserError as error:
            raise UserError(str(error).replace(str(path), name)) from None
