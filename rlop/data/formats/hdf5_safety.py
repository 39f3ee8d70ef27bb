"""Refuse what an HDF5 file takes from outside itself, and sizes that it cannot hold."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from rlop.types import InputError

# Most that the filters of HDF5 shrink an array to; deflate reaches 1,032.
LARGEST_RATIO = 2_000
SMALL = 1 << 20  # bytes that are read without looking at the ratio


def check_dataset(path: Path, item: h5py.Dataset) -> None:
    """Raise InputError for an array whose numbers are not all in the file.

    Refused are external storage, virtual sources, and a shape that is larger than what the file
    stores for it: without filters its size, with them 2,000 times its size.

    Args:
        path: of the file.
        item: the array.
    """
    name = item.name
    if item.external or item.is_virtual:
        raise InputError(f"{path}: {name}: stored in other files, which are not read")
    if item.dtype.hasobject or item.dtype.kind not in "biufSU":
        return  # refused as no numbers by whoever reads it

    size = int(np.prod(item.shape, dtype=object)) * item.dtype.itemsize
    stored = item.id.get_storage_size()
    has_filters = item.compression is not None or item.id.get_create_plist().get_nfilters() > 0
    most = stored * LARGEST_RATIO if has_filters else stored
    compact = item.id.get_create_plist().get_layout() == h5py.h5d.COMPACT
    if size > max(most, SMALL if has_filters else 0) and not compact:
        raise InputError(
            f"{path}: {name}: shape {item.shape} of {item.dtype}, but the file stores only "
            f"{stored:,} bytes of it"
        )


def get_local(path: Path, group: h5py.Group, key: str) -> h5py.Group | h5py.Dataset | None:
    """Return a member of a group, or None; one that leads out of the file is refused.

    Args:
        path: of the file.
        group: the group.
        key: name of the member.
    Raises:
        InputError: an external link, a soft link to nothing, external storage, virtual sources, or
            a shape larger than the file.
    """
    link = group.get(key, getlink=True)
    if link is None:
        return None
    if isinstance(link, h5py.ExternalLink):
        raise InputError(f"{path}: {key}: a link to {link.filename!r}, which is not followed")

    item = group.get(key)
    if item is None:
        raise InputError(f"{path}: {key}: a link that leads nowhere")
    if item.file.filename != group.file.filename:
        raise InputError(f"{path}: {key}: a link to another file, which is not followed")
    if isinstance(item, h5py.Dataset):
        check_dataset(path, item)
    return item
