"""Arrays of HDF5 files that strangers wrote: never outside the file, and no larger than it can be.

Paths are walked one name at a time, because HDF5 follows a link before it can be looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from rlop.config.checks import nearest
from rlop.data.formats.members import FREE, RATIO
from rlop.types import InputError


@contextmanager
def open_own(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading.

    Raises:
        InputError: no such file, not HDF5, or reading it fails.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        if not h5py.is_hdf5(path):
            raise InputError(f"{path}: not an HDF5 file")
        with h5py.File(path, "r") as file:
            yield file
    except InputError:
        raise
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise InputError(f"{path}: damaged or cut short ({lines[0]})") from None


def has(group: h5py.Group, key: str) -> bool:
    """Whether a group has a name, without following it anywhere."""
    return group.get(key, getlink=True) is not None


def own_group(group: h5py.Group, key: str, where: str) -> h5py.Group:
    """Return a group of the file's own.

    Args:
        group: that holds it.
        key: its name there.
        where: path of the group in the file, for messages; "" for the file itself.

    Raises:
        InputError: no such name, a link, or an array.
    """
    item = _own(group, key, where)
    if not isinstance(item, h5py.Group):
        raise InputError(f"{_place(where, key)}: one array, expected a group")
    return item


def own_array(group: h5py.Group, key: str, where: str) -> h5py.Dataset:
    """Return an array of numbers that lies in the file itself, still unread.

    Args:
        group: that holds it.
        key: its name there.
        where: path of the group in the file, for messages; "" for the file itself.

    Raises:
        InputError: no such name, a link, a group, numbers stored elsewhere, no numbers, or more
            than a file of this size can hold.
    """
    item = _own(group, key, where)
    if not isinstance(item, h5py.Dataset):
        raise InputError(f"{_place(where, key)}: a group, expected one array")
    if item.is_virtual or item.external:
        raise InputError(f"{_place(where, key)}: stored in another file, which is never read")
    if item.shape is None or item.dtype.kind not in "fiub":
        raise InputError(f"{_place(where, key)}: dtype {item.dtype}, expected numbers")

    needed = item.dtype.itemsize * item.size
    limit = max(FREE, RATIO * item.file.id.get_filesize())
    if needed > limit:
        raise InputError(
            f"{_place(where, key)}: {needed:,} bytes, over {RATIO} times the size of the file, "
            f"expected at most {limit:,}"
        )
    return item


def own_rows(group: h5py.Group, key: str, where: str, rows: int | None = None) -> np.ndarray:
    """Read an array of at least one axis.

    Args:
        group: that holds it.
        key: its name there.
        where: path of the group in the file, for messages; "" for the file itself.
        rows: that it must have; None for any number.

    Raises:
        InputError: as in `own_array`, or a wrong number of rows.
    """
    item = own_array(group, key, where)
    if item.ndim == 0:
        raise InputError(f"{_place(where, key)}: a single number, expected an array")
    if rows is not None and len(item) != rows:
        raise InputError(f"{_place(where, key)}: {len(item)} rows, expected {rows}")
    return item[()]


def own_number(group: h5py.Group, key: str, where: str) -> float:
    """Read a single number, or an array of one.

    Raises:
        InputError: as in `own_array`, or more than one number.
    """
    item = own_array(group, key, where)
    if item.size != 1:
        raise InputError(f"{_place(where, key)}: shape {item.shape}, expected a single number")
    return item[()].item()


def _own(group: h5py.Group, key: str, where: str) -> h5py.Group | h5py.Dataset:
    """Return what a name stands for, unless it is a link."""
    link = group.get(key, getlink=True)
    if link is None:
        missing = f"no {key!r}{nearest(key, group)}"
        raise InputError(f"{where}: {missing}" if where else missing)
    if not isinstance(link, h5py.HardLink):
        raise InputError(
            f"{_place(where, key)}: a link, which is never followed; store the array itself"
        )
    return group[key]


def _place(where: str, key: str) -> str:
    """Return the path of an array in its file."""
    return f"{where}/{key}" if where else key
