"""Folders of Hugging Face's `datasets` in which imitation keeps trajectories."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rlop.config.checks import nearest
from rlop.config.files import read_whole
from rlop.data.formats.trajectories import Trajectory
from rlop.types import InputError

if TYPE_CHECKING:
    import pyarrow

STATE = "state.json"  # lists the Arrow files
COLUMNS = ("obs", "acts", "terminal")
AXES = 8  # of one observation, at most


def arrow_trajectories(folder: Path) -> tuple[int, Iterator[Trajectory]]:
    """Return the number of steps and the trajectories of a folder.

    Args:
        folder: holds `state.json` and the Arrow files that it lists.

    Raises:
        InputError: pyarrow is not installed, no such files, a name that leads out of the folder, a
            damaged file, or a missing column.
    """
    try:
        import pyarrow
    except ImportError as error:
        raise InputError(f"a folder of Arrow files: {error}; pip install pyarrow") from None

    tables: list[pyarrow.Table] = []
    for name in _file_names(folder):
        try:
            table = _table(folder / name)
        except (pyarrow.ArrowException, OSError) as error:
            lines = str(error).splitlines() or [type(error).__name__]
            raise InputError(f"{name}: damaged or not an Arrow stream ({lines[0]})") from None
        for key in COLUMNS:
            if key not in table.column_names:
                raise InputError(f"{name}: no {key!r}{nearest(key, table.column_names)}")
        tables.append(table)

    steps = [_steps(table) for table in tables]
    return sum(steps), _trajectories(tables)


def _file_names(folder: Path) -> list[str]:
    """Return the names of the Arrow files, in order, each in the folder itself."""
    try:
        listed = json.loads(read_whole(folder / STATE))["_data_files"]
        names = [entry["filename"] for entry in listed]
    except OSError:
        raise InputError(
            f"no {STATE}, expected a folder of Dataset.save_to_disk or an .npz file"
        ) from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError(f"{STATE}: expected _data_files, a list of filenames") from None

    for name in names:
        is_plain = isinstance(name, str) and Path(name).name == name
        if not is_plain or (folder / name).is_symlink():
            raise InputError(f"{STATE}: file {name!r}, expected a file of the folder itself")
    if not names:
        raise InputError(f"{STATE}: no files, expected at least one")
    return names


def _table(path: Path) -> pyarrow.Table:
    """Map a file into memory, and check all its offsets and lengths."""
    import pyarrow.ipc

    if not path.is_file():
        raise InputError(f"{path.name}: no such file, but {STATE} lists it")
    with pyarrow.memory_map(str(path)) as source:
        table = pyarrow.ipc.open_stream(source).read_all()
    table.validate(full=True)
    return table


def _steps(table: pyarrow.Table) -> int:
    """Count the steps of all trajectories of a table."""
    import pyarrow.compute

    if not _is_list(table["acts"].type):
        raise InputError(f"acts: {table['acts'].type}, expected a list per trajectory")
    lengths = pyarrow.compute.list_value_length(table["acts"])
    return int(pyarrow.compute.sum(lengths).as_py() or 0)


def _trajectories(tables: list[pyarrow.Table]) -> Iterator[Trajectory]:
    """Yield the trajectories of all tables."""
    number = 0
    for table in tables:
        columns = {key: table[key].combine_chunks() for key in table.column_names if key != "infos"}
        for row in range(len(table)):
            yield _trajectory(f"trajectory {number}", columns, row)
            number += 1


def _trajectory(label: str, columns: dict[str, pyarrow.Array], row: int) -> Trajectory:
    """Take one trajectory out of its table."""
    obs = _numbers(f"{label}: obs", columns["obs"], row)
    action = _numbers(f"{label}: acts", columns["acts"], row)
    reward = np.zeros(len(action), np.float32)
    if "rews" in columns:
        reward = _numbers(f"{label}: rews", columns["rews"], row)

    end = columns["terminal"][row].as_py()
    if not isinstance(end, bool):
        raise InputError(f"{label}: terminal: {end!r}, expected true or false")
    terminated = np.zeros(len(action), bool)
    terminated[-1:] = end

    if len(obs) != len(action) + 1:
        raise InputError(
            f"{label}: obs: {len(obs)} rows, expected {len(action) + 1} with {len(action)} acts"
        )
    return Trajectory(label, obs, action, reward, terminated)


def _numbers(where: str, column: pyarrow.Array, row: int) -> np.ndarray:
    """Return one entry of a nested list column as an array of numbers."""
    shape: list[int] = []
    array = column.slice(row, 1)
    while _is_list(array.type) and len(shape) < AXES:
        shape.append(_size(where, array))
        array = array.flatten()
    if shape == [] or array.null_count:
        raise InputError(f"{where}: expected a list of numbers without gaps")

    try:
        numbers = array.to_numpy(zero_copy_only=False)
    except (ValueError, NotImplementedError):
        numbers = np.empty(0, object)
    if numbers.dtype.kind not in "fiub":
        raise InputError(f"{where}: {array.type}, expected numbers")
    return numbers.reshape(_with_empty(shape))


def _size(where: str, array: pyarrow.Array) -> int:
    """Return how many entries each list of an array has, if all have as many."""
    import pyarrow.compute

    if array.null_count:
        raise InputError(f"{where}: expected a list of numbers without gaps")
    lengths = pyarrow.compute.list_value_length(array).to_numpy(zero_copy_only=False)
    if len(lengths) and (lengths != lengths[0]).any():
        raise InputError(f"{where}: rows of {lengths.min()} to {lengths.max()}, expected one size")
    return int(lengths[0]) if len(lengths) else 0


def _with_empty(shape: list[int]) -> tuple[int, ...]:
    """Return a shape, all of whose axes are 0 after the first that is."""
    if 0 in shape:
        return (*shape[: shape.index(0)], *[0] * (len(shape) - shape.index(0)))
    return tuple(shape)


def _is_list(kind: pyarrow.DataType) -> bool:
    """Return whether a type is a list of some kind."""
    from pyarrow import types

    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
