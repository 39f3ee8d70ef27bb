"""Images that Minari stores as JPEG, one variable-length row of bytes each."""

from __future__ import annotations

import io

import numpy as np

from rlop.types import InputError


def is_encoded(leaf: np.ndarray) -> bool:
    """Whether rows are encoded images: bytes that begin as JPEG does.

    Args:
        leaf: `[T + 1]` objects.
    """
    if leaf.dtype != object or leaf.ndim != 1 or len(leaf) == 0:
        return False
    first = leaf[0]
    is_bytes = isinstance(first, np.ndarray) and first.dtype == np.uint8
    return is_bytes and first[:2].tolist() == [0xFF, 0xD8]


def decode(where: str, leaf: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Decode images to `[T + 1, H, W, C]` uint8.

    Args:
        where: path of the observations, for messages.
        leaf: `[T + 1]` rows of bytes.
        shape: of one image, `(H, W, 3)` or `(H, W, 1)`; the size in a file must agree with it
            before anything is decoded.
    Raises:
        InputError: Pillow is not installed, or an image that is damaged or of another size.
    """
    try:
        from PIL import Image
    except ImportError:
        raise InputError(f"{where}: JPEG images: pip install pillow") from None

    if len(shape) != 3 or shape[2] not in (1, 3):
        raise InputError(f"{where}: JPEG images of shape {shape}, expected (H, W, 1) or (H, W, 3)")
    mode = "L" if shape[2] == 1 else "RGB"
    images = np.empty((len(leaf), *shape), np.uint8)
    for row, content in enumerate(leaf):
        try:
            with Image.open(io.BytesIO(bytes(content)), formats=["JPEG"]) as image:
                if (image.height, image.width) != shape[:2]:
                    size = (image.height, image.width)
                    raise InputError(f"{where}: image {row} is {size}, expected {shape[:2]}")
                images[row] = np.asarray(image.convert(mode)).reshape(shape)
        except InputError:
            raise
        except Exception as error:  # whatever Pillow raises for wrong bytes
            raise InputError(f"{where}: image {row}: no JPEG image ({error})") from None
    return images
