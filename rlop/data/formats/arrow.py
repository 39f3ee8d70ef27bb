"""Episodes of a Minari data set stored as Arrow or Parquet files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rlop.config.checks import nearest
from rlop.data.formats.episodes import COLUMNS, OBSERVATIONS, Episode, Episodes, SpaceJSON, join
from rlop.data.formats.minari_about import own_path
from rlop.data.formats.own_arrays import LARGEST_RATIO, SMALL
from rlop.types import InputError

if TYPE_CHECKING:
    import pyarrow


def arrow_episodes(folder: Path, kind: str, spaces: Mapping[str, SpaceJSON]) -> Episodes:
    """Yield the episodes in the order of their numbers.

    All columns of a file have T + 1 rows; the last row of all but the observations is padding.

    Args:
        folder: holds one folder per episode.
        kind: arrow or parquet.
        spaces: of the parts by path, for the shapes, which these formats do not store.

    Raises:
        InputError: pyarrow is not installed, a link out of the folder, or a table that is damaged.
    """
    try:
        import pyarrow.dataset as tables
    except ImportError as error:
        raise InputError(f"data_format {kind!r}: {error}; pip install pyarrow") from None

    numbered = [path for path in folder.iterdir() if path.is_dir() and path.name.isdigit()]
    for path in sorted(numbered, key=lambda path: int(path.name)):
        files = [own_path(folder, file) for file in sorted(path.glob(f"*.{kind}"))]
        if not files:
            raise InputError(f"{path.name}: no file *.{kind}")
        table = _table(path.name, files, tables.dataset(list(map(str, files)), format=kind))
        yield _episode(path.name, table, spaces)


def _table(label: str, files: Sequence[Path], dataset: pyarrow.dataset.Dataset) -> pyarrow.Table:
    """Read a table, unless it unpacks to far more than its file."""
    import pyarrow

    limit = max(SMALL, LARGEST_RATIO * sum(file.stat().st_size for file in files))
    batches = []
    for batch in dataset.to_batches():
        batches.append(batch)
        limit -= batch.nbytes
        if limit < 0:
            raise InputError(f"{label}: unpacks to more than {LARGEST_RATIO:,} times its size")
    if not any(batch.num_rows for batch in batches):
        raise InputError(f"{label}: no rows")
    return pyarrow.Table.from_batches(batches, dataset.schema)


def _episode(label: str, table: pyarrow.Table, spaces: Mapping[str, SpaceJSON]) -> Episode:
    """Take an episode from its table."""
    for key in (OBSERVATIONS, *COLUMNS):
        if key not in table.column_names:
            raise InputError(f"{label}: no {key!r}{nearest(key, table.column_names)}")

    columns = {}
    for key in COLUMNS:
        whole = table[key].slice(0, table.num_rows - 1)
        columns[key] = _array(f"{label}/{key}", whole.combine_chunks())

    leaves = dict(_leaves(label, table[OBSERVATIONS].combine_chunks(), ""))
    for path, leaf in leaves.items():
        shape = spaces.get(path, {}).get("shape")
        if shape is None or leaf.dtype == object:  # encoded images have a shape of their own
            continue
        if leaf[0].size == np.prod(shape, dtype=int):
            leaves[path] = leaf.reshape(len(leaf), *shape)

    return Episode(label, leaves, columns)


def _leaves(label: str, array: pyarrow.Array, path: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the parts of a nested array with their paths."""
    import pyarrow

    if not pyarrow.types.is_struct(array.type):
        yield path, _array(f"{label}/{join(OBSERVATIONS, path)}", array)
        return
    for number, inner in enumerate(array.flatten()):
        yield from _leaves(label, inner, join(path, array.type.field(number).name))


def _array(where: str, array: pyarrow.Array) -> np.ndarray:
    """Return `[T + 1]` or, for a list of fixed size, `[T + 1, size]`."""
    import pyarrow

    # A list without its values would shift those of the rows after it.
    if array.null_count:
        raise InputError(f"{where}: {array.null_count} rows without a value")
    if pyarrow.types.is_fixed_size_list(array.type):
        values = array.flatten()
        return _array(where, values).reshape(len(array), -1)
    return array.to_numpy(zero_copy_only=False)
