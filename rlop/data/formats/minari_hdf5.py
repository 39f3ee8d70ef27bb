"""Episodes of a Minari data set stored as one HDF5 file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from rlop.data.formats.episodes import COLUMNS, OBSERVATIONS, Episode, Episodes, join
from rlop.data.formats.minari_about import own_path
from rlop.data.formats.own_arrays import check_stored, own_array, own_group, own_item
from rlop.types import InputError

MAIN_FILE = "main_data.hdf5"
AT_ONCE = 16  # encoded images that are read together


def hdf5_episodes(folder: Path) -> Episodes:
    """Yield the episodes of the main file in the order of their numbers.

    Raises:
        InputError: no such file, a link, a part that is missing, stored elsewhere or stored twice.
    """
    path = own_path(folder, folder / MAIN_FILE)
    if not path.is_file() or not h5py.is_hdf5(path):
        raise InputError(f"{MAIN_FILE}: missing, or not an HDF5 file")

    with h5py.File(path, "r") as file:
        _keep_little(file)
        seen: set[int] = set()
        labels = [name for name in file if re.fullmatch(r"episode_\d+", name, re.ASCII)]
        for label in sorted(labels, key=lambda name: int(name.rpartition("_")[2])):
            yield _episode(label, own_group(file, label, ""), seen)


def _keep_little(file: h5py.File) -> None:
    """Let HDF5 remember 1 MiB of what it knows of groups, which are read once, in place of 32."""
    cache = file.id.get_mdc_config()
    cache.set_initial_size = True
    cache.initial_size = cache.min_size = cache.max_size = 1 << 20
    file.id.set_mdc_config(cache)


def _episode(label: str, group: h5py.Group, seen: set[int]) -> Episode:
    """Read one episode."""
    check_new(group, label, seen)
    columns: dict[str, np.ndarray] = {}
    for key in COLUMNS:
        item = own_array(group, key, label)
        check_new(item, f"{label}/{key}", seen)
        columns[key] = np.atleast_1d(item[()])

    item = own_item(group, OBSERVATIONS, label)
    return Episode(label, dict(_leaves(item, "", label, seen)), columns)


def check_new(item: h5py.Group | h5py.Dataset, place: str, seen: set[int]) -> None:
    """Refuse an object that a file holds under a second name, and remember the others.

    A group inside itself has no end, and one array under many names needs more memory than the
    file's size can say.

    Args:
        item: group or array.
        place: its path in the file, for the message.
        seen: addresses of the objects so far; this one is added.
    """
    address = int(h5py.h5o.get_info(item.id).addr)
    if address in seen:
        raise InputError(f"{place}: stored under another name too, expected one name for each part")
    seen.add(address)


def _leaves(
    item: h5py.Group | h5py.Dataset, path: str, label: str, seen: set[int]
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the parts of an observation with their paths."""
    place = f"{label}/{join(OBSERVATIONS, path)}"
    check_new(item, place, seen)
    if isinstance(item, h5py.Dataset):
        yield path, _leaf(item, place)
        return
    for key in item:
        inner = own_item(item, key, place)
        yield from _leaves(inner, join(path, key), label, seen)


def _leaf(item: h5py.Dataset, place: str) -> np.ndarray:
    """Read a part that is numbers or encoded images; of others, their shape and type alone."""
    if item.shape is None:
        raise InputError(f"{place}: empty, expected one row per step")
    check_stored(item, place)
    if item.dtype.kind in "fiub":
        return np.atleast_1d(item[()])
    if item.ndim == 1 and h5py.check_vlen_dtype(item.dtype) == np.uint8:
        return _encoded(item, place)
    return np.broadcast_to(np.zeros((), item.dtype), item.shape or (1,))


def _encoded(item: h5py.Dataset, place: str) -> np.ndarray:
    """Read rows of bytes, which together are never more than the file, `[T + 1]` objects."""
    left = item.file.id.get_filesize()
    rows = np.empty(len(item), object)
    for first in range(0, len(item), AT_ONCE):
        some = slice(first, first + AT_ONCE)
        rows[some] = item[some]
        left -= sum(len(row) for row in rows[some])
        if left < 0:
            raise InputError(f"{place}: rows of more bytes than the file has")
    return rows
