"""Images that Minari stores as JPEG, one variable-length row of bytes each."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from rlop.types import InputError

BEGINNING = b"\xff\xd8"
# Most that JPEG shrinks an image to, of one color: progressive JPEG needs a bit for 64 pixels.
LARGEST_RATIO = 2_000
SMALL = 1 << 20  # bytes that an image may have whatever its file says


def is_encoded(leaf: np.ndarray, shape: Sequence[int] | None = None) -> bool:
    """Return whether rows are encoded images: bytes that begin as JPEG does.

    Minari writes images of one episode that happen to be equally many bytes as one array of them.

    Args:
        leaf: `[T + 1]` objects, or `[T + 1, bytes]`.
        shape: of one observation, if known.
    """
    if len(leaf) == 0:
        return False
    if leaf.dtype == object and leaf.ndim == 1:
        first = leaf[0]
        is_bytes = isinstance(first, bytes) or (
            isinstance(first, np.ndarray) and first.dtype == np.uint8
        )
        return is_bytes and bytes(first[:2]) == BEGINNING

    is_rows = leaf.dtype == np.uint8 and leaf.ndim == 2 and shape is not None
    return is_rows and leaf.shape[1:] != tuple(shape or ()) and bytes(leaf[0, :2]) == BEGINNING


def decode(where: str, leaf: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Decode images to `[T + 1, *shape]` uint8.

    Args:
        where: path of the observations, for messages.
        leaf: `[T + 1]` rows of bytes.
        shape: of one image, `(H, W)`, `(H, W, 1)` or `(H, W, 3)`; the size in every file must agree
            with it before anything is decoded.

    Raises:
        InputError: Pillow is not installed, or an image that is damaged or of another size.
    """
    try:
        from PIL import Image
    except ImportError:
        raise InputError(f"{where}: JPEG images: pip install pillow") from None

    if len(shape) not in (2, 3) or shape[2:] not in ((), (1,), (3,)):
        raise InputError(
            f"{where}: JPEG images of shape {shape}, expected (H, W), (H, W, 1) or (H, W, 3)"
        )
    for row, content in enumerate(leaf):
        with _readable(where, row), Image.open(io.BytesIO(content), formats=["JPEG"]) as image:
            _check_size(f"{where}: image {row}", (image.height, image.width), shape, len(content))

    mode = "RGB" if shape[2:] == (3,) else "L"
    images = np.empty((len(leaf), *shape), np.uint8)
    for row, content in enumerate(leaf):
        with _readable(where, row), Image.open(io.BytesIO(content), formats=["JPEG"]) as image:
            images[row] = np.asarray(image.convert(mode)).reshape(shape)
    return images


def _check_size(where: str, size: tuple[int, int], shape: tuple[int, ...], stored: int) -> None:
    """Raise InputError unless an image has the size expected, and its file can hold that many."""
    if size != shape[:2]:
        raise InputError(f"{where} is {size}, expected {shape[:2]}")
    if math.prod(shape) > max(SMALL, LARGEST_RATIO * stored):
        raise InputError(f"{where} is {size}, but the file stores only {stored:,} bytes of it")


@contextmanager
def _readable(where: str, row: int) -> Iterator[None]:
    """Let every error of Pillow be one line that names the image."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # what Pillow raises for wrong bytes depends on where they are
        raise InputError(f"{where}: image {row}: no JPEG image ({error})") from None
