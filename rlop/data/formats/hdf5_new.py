"""Write an HDF5 file through Python: HDF5 itself crashes the process when a disk fills up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from rlop.config.writing import late_errors


@contextmanager
def new_hdf5(path: Path, track_order: bool = False) -> Iterator[h5py.File]:
    """Open a new HDF5 file for writing.

    Args:
        path: the file; one that exists is replaced.
        track_order: keep groups in the order in which they are made.

    Raises:
        OSError: at the end, where a write failed.
    """
    with late_errors(path) as file, h5py.File(file, "w", track_order=track_order) as hdf5:
        yield hdf5
