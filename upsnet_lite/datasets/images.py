"""Any image file -> RGB in [0, 1]: greyscale, palette, alpha, CMYK, 16 bits, turned by EXIF.

Which way up? The annotation decides, because a photograph and its PNG must lie on each other. A file whose EXIF tag
turns it by 90 degrees fits the PNG in one of the two positions only; where both fit (square, or upside down), the
upright one is taken, since that is what labelling tools and viewers show.
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor

from ..files import UserError

ORIENTATION = 0x0112  # EXIF tag; 5 ... 8 swap width and height


def read_image(path: Path, size: tuple[int, int] | None = None) -> Float[Tensor, "3 H W"]:
    """float32 RGB in [0, 1]. `size` = (H, W) is what the annotation says; None takes the image upright.

    Alpha is dropped, as torchvision and OpenCV do. Raises UserError naming the file where it is missing, no image,
    broken, huge (PIL's limit) or of another size.
    """
    try:
        with Image.open(path) as image:
            swapped = image.getexif().get(ORIENTATION, 1) >= 5
            stored = (image.height, image.width)
            upright = stored[::-1] if swapped else stored
            if size not in (None, upright, stored):  # before decoding: the header is enough
                raise UserError(f"{path} has {words(upright)}, its annotation {words(size)}")
            if upright[0] * upright[1] > (Image.MAX_IMAGE_PIXELS or float("inf")):
                raise UserError(f"{path} has {words(upright)}, more than PIL's limit; scale it down")
            if size in (None, upright):
                image = ImageOps.exif_transpose(image)
            return torch.from_numpy(rgb(image)).permute(2, 0, 1)
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path} is missing") from None
    except Exception as error:  # a broken file makes PIL raise almost anything
        raise UserError(f"{path} cannot be read as an image: {error or type(error).__name__}") from None


def rgb(image: Image.Image) -> Float[np.ndarray, "H W 3"]:
    if image.mode.startswith("I"):  # 16 bits, or 32 that hold 16: PIL's own conversion would clip them at 255
        grey = np.asarray(image).astype(np.float32) / 65535
        if grey.size and not 0 <= grey.min() <= grey.max() <= 1:
            raise ValueError("integer pixels beyond 16 bits")
        return np.repeat(grey[..., None], 3, 2)
    if image.mode == "F":
        raise ValueError("floating-point pixels have no agreed range; save it with 8 or 16 bits")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return np.asarray(image.convert("RGB")).astype(np.float32) / 255


def words(size: tuple) -> str:
    return f"{size[1]} x {size[0]} px"
