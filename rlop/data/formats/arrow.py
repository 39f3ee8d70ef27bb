"""Episodes of a Minari data set stored as Arrow or Parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rlop.config.checks import nearest
from rlop.types import InputError

COLUMNS = ("actions", "rewards", "terminations", "truncations")


def episodes(
    folder: Path, kind: str, spaces: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each episode in the order of its number: `observations`, a dict of parts by path, and the other columns.

    All columns of a file have T + 1 rows; the last row of all but the observations is padding.

    Args:
        folder: holds one folder per episode.
        kind: arrow or parquet.
        spaces: path of a part -> its space, for the shapes, which these formats do not store.

    Raises:
        InputError: pyarrow is not installed, or a column is missing.
    """
    try:
        import pyarrow.dataset
    except ImportError as error:
        raise InputError(f"data_format {kind!r}: {error}; pip install pyarrow") from None
    numbered = (path for path in folder.iterdir() if path.is_dir() and path.name.isdigit())
    for path in sorted(numbered, key=lambda path: int(path.name)):
        files = sorted(str(file) for file in path.glob(f"*.{kind}"))
        table = pyarrow.dataset.dataset(files, format=kind).to_table()
        for key in ("observations", *COLUMNS):
            if key not in table.column_names:
                raise InputError(f"{path.name}: no {key!r}{nearest(key, table.column_names)}")
        columns: dict[str, Any] = {key: _array(table[key].combine_chunks())[:-1] for key in COLUMNS}
        leaves = dict(_leaves(table["observations"].combine_chunks(), ""))
        for name, leaf in leaves.items():
            shape = spaces.get(name, {}).get("shape")
            if shape is not None and leaf[0].size == np.prod(shape, dtype=int):
                leaves[name] = leaf.reshape(len(leaf), *shape)
        yield path.name, {**columns, "observations": leaves}


def _leaves(array: Any, path: str) -> Iterator[tuple[str, np.ndarray]]:
    import pyarrow

    if not pyarrow.types.is_struct(array.type):
        yield path, _array(array)
        return
    for i, inner in enumerate(array.flatten()):
        key = array.type.field(i).name
        yield from _leaves(inner, f"{path}/{key}" if path else key)


def _array(array: Any) -> np.ndarray:
    """`[T + 1]` or, of a list of fixed size, `[T + 1, size]`."""
    import pyarrow

    if pyarrow.types.is_fixed_size_list(array.type):
        return array.flatten().to_numpy(zero_copy_only=False).reshape(len(array), -1)
    return array.to_numpy(zero_copy_only=False)
