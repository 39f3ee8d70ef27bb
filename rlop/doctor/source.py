"""The data that a training's folder names; nothing that a stranger may have named is imported."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from rlop.config.files import read_yaml
from rlop.data.dataset import Dataset
from rlop.data.formats.imported import read_imported
from rlop.data.load import find_reader, load_dataset
from rlop.data.transforms import transform
from rlop.training.folder import CONFIG
from rlop.types import InputError

BY_FUNCTION = "relabel"  # the transform that names a function by import path


def data_of(folder: Path, source: str | None, allow: Collection[str] = ()) -> Dataset:
    """Return a data set as a training saw it: with the transforms of its configuration.

    Args:
        folder: of the training, with its configuration, if it has one.
        source: name or file of the data; None for those that the configuration names.
        allow: modules that may be imported.
    Raises:
        InputError: no data are named, or by an import path that is not allowed.
    """
    named, transforms = data_settings(folder, allow)
    if source is None:
        if named is None:
            raise InputError(f"--data: expected a data set, for {folder / CONFIG} names none")
        source = named
        if find_reader(source) is read_imported:
            _check(f"{folder / CONFIG}: data", source, allow)
    return transform(load_dataset(source), transforms)


def data_settings(
    folder: Path, allow: Collection[str] = ()
) -> tuple[str | None, Mapping[str, Mapping[str, object]]]:
    """Return the data and the transforms that a training's configuration names.

    Args:
        folder: of the training; without a configuration it names none.
        allow: modules that may be imported.
    Raises:
        InputError: transforms that are no mapping, or a function that is not allowed.
    """
    path = folder / CONFIG
    values = read_yaml(path) if path.is_file() else {}
    named = values.get("data")
    transforms = values.get("transforms") or {}
    if not isinstance(transforms, Mapping):
        raise InputError(f"{path}: transforms: expected a mapping")
    options = transforms.get(BY_FUNCTION)
    if options is not None:
        function = options.get("function") if isinstance(options, Mapping) else options
        _check(f"{path}: transforms.{BY_FUNCTION}", str(function), allow)
    return (named if isinstance(named, str) else None), transforms


def _check(where: str, text: str, allow: Collection[str]) -> None:
    """Refuse an import path unless its module is allowed."""
    module = text.partition("?")[0].partition(":")[0]
    if module not in allow:
        raise InputError(f"{where} = {text}: is imported only if allowed, --allow {module}")
