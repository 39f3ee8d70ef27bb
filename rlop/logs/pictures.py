"""Small gray pictures of spectra and matrices, drawn and compressed without another package."""

from __future__ import annotations

import struct
import zlib

import numpy as np

HEIGHT, WIDTH = 120, 240
DECADES = 6  # of singular values below the largest, as far as rounding errors let them be known
WHITE, GRID, FILL, LINE = 255, 215, 170, 0
LARGEST = 256  # pixels of a matrix, at least one per entry


def spectrum(values: np.ndarray) -> np.ndarray:
    """Draw singular values over their number, relative to the largest one, on a log scale.

    The top is the largest value, the bottom 1e-6 of it, with a line per factor of 10. A spectrum
    that falls within the first few columns is a collapsed one.

    Args:
        values: `[k]` or, one line each, `[E, k]`, in descending order.
    Returns:
        uint8 `[HEIGHT, WIDTH]`; empty where values are not finite.
    """
    picture = np.full((HEIGHT, WIDTH), WHITE, np.uint8)
    column = np.arange(WIDTH)
    heights = []
    for line in np.atleast_2d(values):
        if np.isfinite(line).all() and line[0] > 0:
            relative = np.maximum(line / line[0], 10.0**-DECADES)
            below = -np.log10(relative[column * len(line) // WIDTH]) / DECADES
            heights.append(np.rint(below * (HEIGHT - 1)).astype(int))

    if heights:
        is_filled = np.arange(HEIGHT)[:, None] >= np.max(heights, axis=0)
        picture[is_filled] = FILL
    for decade in range(1, DECADES):
        picture[decade * HEIGHT // DECADES, column % 4 < 2] = GRID
    for rows in heights:
        picture[rows, column] = LINE
    return picture


def matrix(values: np.ndarray) -> np.ndarray:
    """Draw a matrix of numbers between 0, white, and 1, black.

    Args:
        values: `[n, n]`.
    Returns:
        uint8 `[m, m]`; a number that is not finite is light gray.
    """
    shade = np.rint(WHITE * (1 - np.clip(values, 0, 1)))
    shade = np.where(np.isfinite(values), shade, GRID).astype(np.uint8)
    cell = max(1, LARGEST // len(shade))
    return shade.repeat(cell, 0).repeat(cell, 1)


def png(picture: np.ndarray) -> bytes:
    """Compress a gray picture.

    Args:
        picture: uint8 `[height, width]`.
    Reference: Portable Network Graphics (PNG) Specification, W3C 2003.
    """
    height, width = picture.shape
    rows = np.zeros((height, width + 1), np.uint8)  # each row begins with its filter, none
    rows[:, 1:] = picture
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)  # 8 bits of gray
    chunks = (
        _chunk(b"IHDR", header),
        _chunk(b"IDAT", zlib.compress(rows.tobytes())),
        _chunk(b"IEND"),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _chunk(kind: bytes, content: bytes = b"") -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
