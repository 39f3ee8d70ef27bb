"""Episodes of a Minari data set stored as Arrow or Parquet files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rlop.config.checks import nearest
from rlop.data.formats.episodes import COLUMNS, OBSERVATIONS, Episode, SpaceJSON, join
from rlop.types import InputError

if TYPE_CHECKING:
    import pyarrow


def arrow_episodes(folder: Path, kind: str, spaces: Mapping[str, SpaceJSON]) -> Iterator[Episode]:
    """Yield the episodes in the order of their numbers.

    All columns of a file have T + 1 rows; the last row of all but the observations is padding.

    Args:
        folder: holds one folder per episode.
        kind: arrow or parquet.
        spaces: of the parts by path, for the shapes, which these formats do not store.

    Raises:
        InputError: pyarrow is not installed, or a column is missing.
    """
    try:
        import pyarrow.dataset
    except ImportError as error:
        raise InputError(f"data_format {kind!r}: {error}; pip install pyarrow") from None

    numbered = [path for path in folder.iterdir() if path.is_dir() and path.name.isdigit()]
    for path in sorted(numbered, key=lambda path: int(path.name)):
        files = [str(file) for file in sorted(path.glob(f"*.{kind}"))]
        table = pyarrow.dataset.dataset(files, format=kind).to_table()
        yield _episode(path.name, table, spaces)


def _episode(label: str, table: pyarrow.Table, spaces: Mapping[str, SpaceJSON]) -> Episode:
    """Take an episode from its table."""
    for key in (OBSERVATIONS, *COLUMNS):
        if key not in table.column_names:
            raise InputError(f"{label}: no {key!r}{nearest(key, table.column_names)}")

    columns = {key: _array(table[key].combine_chunks())[:-1] for key in COLUMNS}

    leaves = dict(_leaves(table[OBSERVATIONS].combine_chunks(), ""))
    for path, leaf in leaves.items():
        shape = spaces.get(path, {}).get("shape")
        if shape is None:
            continue
        if leaf[0].size == np.prod(shape, dtype=int):
            leaves[path] = leaf.reshape(len(leaf), *shape)

    return Episode(label, leaves, columns)


def _leaves(array: pyarrow.Array, path: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the parts of a nested array with their paths."""
    import pyarrow

    if not pyarrow.types.is_struct(array.type):
        yield path, _array(array)
        return
    for number, inner in enumerate(array.flatten()):
        yield from _leaves(inner, join(path, array.type.field(number).name))


def _array(array: pyarrow.Array) -> np.ndarray:
    """Return `[T + 1]` or, for a list of fixed size, `[T + 1, size]`."""
    import pyarrow

    if pyarrow.types.is_fixed_size_list(array.type):
        return array.flatten().to_numpy(zero_copy_only=False).reshape(len(array), -1)
    return array.to_numpy(zero_copy_only=False)
