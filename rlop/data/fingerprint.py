"""Recognize a data set again: the kind, shape and content of its columns."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

WHOLE = 1 << 28  # bytes of a column up to which all of it is read
SPREAD = 1024  # rows that are read of a larger one
CHUNK = 1 << 16  # rows that are made contiguous at a time


def fingerprint(columns: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Describe every column by its dtype, shape and the hash of its content.

    A column of more than 256 MiB, or of stacked frames, is known by 1024 rows spread over it, the
    first and the last among them: a change of other rows alone is not seen. An array in a mapped
    file is described as the same array in memory.

    Args:
        columns: name -> `[N, ...]`, as of `Dataset.columns`.
    """
    return {name: _describe(column) for name, column in columns.items()}


def _describe(column: np.ndarray) -> str:
    digest = hashlib.blake2b(digest_size=8)
    is_array = isinstance(column, np.ndarray)
    if is_array and column.nbytes <= WHOLE:
        for start in range(0, len(column), CHUNK):
            digest.update(np.ascontiguousarray(column[start : start + CHUNK]).data)
    else:
        rows = np.unique(np.linspace(0, len(column) - 1, SPREAD).astype(np.int64))
        digest.update(np.ascontiguousarray(column[rows]).data)

    shape = ", ".join(map(str, column.shape))
    return f"{column.dtype} [{shape}] {digest.hexdigest()}"
