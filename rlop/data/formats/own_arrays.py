"""Arrays of HDF5 files that strangers wrote: never outside the file, and no larger than it can be.

Paths are walked one name at a time, because HDF5 follows a link before it can be looked at.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from rlop.config.checks import nearest
from rlop.types import InputError

# Most that the filters of HDF5 shrink an array to; deflate reaches 1,032.
LARGEST_RATIO = 2_000
SMALL = 1 << 20  # bytes that filtered arrays may have whatever is stored


class DamagedFile(InputError):
    """An HDF5 file that cannot be read to its end."""


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading.

    Raises:
        InputError: no such file, or not HDF5; `DamagedFile` where reading it fails.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: no permission to read it")
    if not h5py.is_hdf5(path):
        raise InputError(f"{path}: not an HDF5 file")

    try:
        with h5py.File(path, "r") as file:
            yield file
    except InputError:
        raise
    except Exception as error:  # what h5py raises for wrong bytes depends on where they are
        reason = " ".join(str(error).split())
        raise DamagedFile(f"{path}: damaged or cut short ({reason})") from None


def has(group: h5py.Group, key: str) -> bool:
    """Return whether a group has a name, without following it anywhere."""
    return group.get(key, getlink=True) is not None


def is_group(group: h5py.Group, key: str) -> bool:
    """Return whether a name stands for a group of the file's own."""
    is_own = isinstance(group.get(key, getlink=True), h5py.HardLink)
    return is_own and group.get(key, getclass=True) is h5py.Group


def own_group(group: h5py.Group, key: str, where: str) -> h5py.Group:
    """Return a group of the file's own.

    Args:
        group: that holds it.
        key: its name there.
        where: path of the group in the file, for messages; "" for the file itself.

    Raises:
        InputError: no such name, a link, or an array.
    """
    item = own_item(group, key, where)
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
        InputError: no such name, a link, a group, no numbers, or what `check_stored` refuses.
    """
    item = own_item(group, key, where)
    if not isinstance(item, h5py.Dataset):
        raise InputError(f"{_place(where, key)}: a group, expected one array")
    if item.shape is None or item.dtype.kind not in "fiub":
        raise InputError(f"{_place(where, key)}: dtype {item.dtype}, expected numbers")
    check_stored(item, _place(where, key))
    return item


def check_stored(item: h5py.Dataset, place: str) -> None:
    """Raise InputError for an array whose numbers are not all in the file.

    Refused are external storage, virtual sources, and a shape that is larger than what the file
    stores for it: without filters its size, with them 2,000 times its size.

    Args:
        item: the array.
        place: its path in the file, for messages.
    """
    if item.is_virtual or item.external:
        raise InputError(f"{place}: stored in another file, which is never read")

    create = item.id.get_create_plist()
    if create.get_layout() == h5py.h5d.COMPACT:
        return
    needed = item.dtype.itemsize * item.size
    stored = item.id.get_storage_size()
    limit = max(SMALL, LARGEST_RATIO * stored) if create.get_nfilters() else stored
    if needed > limit:
        raise InputError(
            f"{place}: shape {item.shape} of {item.dtype}, but the file stores only "
            f"{stored:,} bytes of it"
        )


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


def own_item(group: h5py.Group, key: str, where: str) -> h5py.Group | h5py.Dataset:
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
