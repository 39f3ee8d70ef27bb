"""Recognize the layouts of other libraries by the names of the arrays in a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from inspect import signature
from pathlib import Path
from typing import TypeAlias

import h5py

from rlop.data.dataset import Dataset
from rlop.data.formats.d3rlpy import is_d3rlpy, read_d3rlpy
from rlop.data.formats.imitation import is_imitation, read_imitation
from rlop.data.formats.own_arrays import has
from rlop.data.formats.robomimic import is_robomimic, read_robomimic
from rlop.data.options import check_options

Reader: TypeAlias = Callable[..., Dataset]


def hdf5_neighbor(file: h5py.File) -> Reader | None:
    """Return the reader of an HDF5 file of d3rlpy 2 or robomimic; None for any other.

    The flat columns of d3rlpy 1 are read as any others.
    """
    if is_d3rlpy(file) and not has(file, "observations"):
        return read_d3rlpy
    if is_robomimic(file):
        return read_robomimic
    return None


def npz_neighbor(keys: Iterable[str]) -> Reader | None:
    """Return the reader of an archive in imitation's layout; None for any other."""
    if is_imitation(set(keys)):
        return read_imitation
    return None


def read_neighbor(
    reader: Reader, path: Path, generic: Reader, options: Mapping[str, object]
) -> Dataset:
    """Read a recognized file; an option that its reader does not take is refused, not dropped.

    Args:
        reader: from `hdf5_neighbor` or `npz_neighbor`.
        path: the file.
        generic: the reader that was asked to read it.
        options: of that one.
    Raises:
        InputError: an option that is not its default, and that the reader lacks; or as the reader.
    """
    defaults = signature(generic).parameters
    given = {}
    for name, value in options.items():
        if repr(value) != repr(defaults[name].default):
            given[name] = value

    _, *parameters = signature(reader).parameters
    check_options(f"{path}: recognized, read by {reader.__name__}", given, parameters)
    return reader(path, **given)
