"""Find the reader of a data source.

A new format is one file in `rlop/data/formats` and one row in one of the tables below. A reader is
a function `fn(source, **options) -> Dataset` with typed keyword options.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import entry_points
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, TypeAlias

from rlop.config.checks import closest, show
from rlop.data.cache.cached import has_cache, read_cached
from rlop.data.changes import dropped_of
from rlop.data.dataset import Dataset
from rlop.data.dqn_replay.reader import read_dqn_replay
from rlop.data.formats.d3rlpy import read_d3rlpy
from rlop.data.formats.d4rl import read_d4rl
from rlop.data.formats.embedded import read_embedded
from rlop.data.formats.hdf5 import read_hdf5
from rlop.data.formats.imitation import read_imitation
from rlop.data.formats.imported import is_import_path, read_imported
from rlop.data.formats.minari import read_minari
from rlop.data.formats.npz import read_npz
from rlop.data.formats.ogbench import read_ogbench
from rlop.data.formats.pickles import refuse_pickle
from rlop.data.formats.rlu import read_rlu
from rlop.data.formats.robomimic import read_robomimic
from rlop.data.mix import mix
from rlop.data.options import check_options, split_query
from rlop.data.transforms import transform
from rlop.data.units import in_env_units
from rlop.logs.messages import say
from rlop.types import InputError

Reader: TypeAlias = Callable[..., Dataset]


def read_mix(
    source: str,
    *,
    sources: Sequence[Mapping[str, Any]] = (),
    env_id: str | None = None,
    download: bool | None = None,
    cache: str | None = None,
) -> Dataset:
    """Read several sources as one: a batch draws a source by its weight, then one of its rows.

    Args:
        source: `mix`.
        sources: `{source: ..., weight: 3, options: {...}, transforms: {...}}` each, of which only
            `source` must be given: name or file, share of the rows of a batch relative to the
            others', options of its reader, and changes of its data. Without any weights all rows of
            all sources are equally likely.
        env_id: Gymnasium id for all sources; by default what each says.
        download: whether missing files are fetched; by default as the readers do.
        cache: folder of mapped copies of the sources, see `load_dataset`.

    Raises:
        InputError: no list of sources, weights of only some, sources that do not fit each other,
            or what their readers refuse.
    """
    if source != "mix":
        raise InputError(f"data {source!r}: expected mix, and its options in data_options")
    shared = {"env_id": env_id, "download": download}
    datasets, weights = [], []
    for entry in _entries(sources):
        options = entry.get("options", {})
        taken = signature(find_reader(entry["source"])).parameters
        own = {key: value for key, value in shared.items() if value is not None and key in taken}
        if cache is not None:
            own["cache"] = cache
        data = load_dataset(entry["source"], **{**own, **options})
        datasets.append(transform(data, entry.get("transforms", {})))
        if "weight" in entry:
            weights.append(entry["weight"])

    if weights and len(weights) < len(datasets):
        raise InputError(
            f"mix: {len(weights)} weights for {len(datasets)} sources: expected one for each, or "
            "none"
        )
    return mix(datasets, weights or None)


def _entries(sources: object) -> list[Mapping[str, Any]]:
    """Return the sources of a mixture, as far as they can be checked without reading.

    Raises:
        InputError: no list of sources, or one that is not described as `read_mix` says.
    """
    if isinstance(sources, str) or not isinstance(sources, Sequence):
        raise InputError(f"mix: sources = {show(sources)}: expected a list of sources")
    if not sources:
        raise InputError("mix: expected sources: [{source: NAME, weight: 1}, ...]")
    for number, entry in enumerate(sources):
        where = f"mix: sources[{number}]"
        if not isinstance(entry, Mapping) or not isinstance(entry.get("source"), str):
            raise InputError(f"{where} = {show(entry)}: expected {{source: NAME, weight: 1}}")
        check_options(where, entry, ("source", "weight", "options", "transforms"))
        options = entry.get("options", {})
        if not isinstance(options, Mapping):
            raise InputError(f"{where}: options = {show(options)}: expected options by name")
    return list(sources)


# The whole name, possibly with a query: `gridworld?size=8`.
NAMES: dict[str, Reader] = {
    "gridworld": read_embedded,
    "chain": read_embedded,
    "mix": read_mix,
}
# What stands before a colon: `d4rl:hopper-medium-v2`. The reader gets the whole source.
PREFIXES: dict[str, Reader] = {
    "d3rlpy": read_d3rlpy,
    "d4rl": read_d4rl,
    "dqn-replay": read_dqn_replay,
    "imitation": read_imitation,
    "minari": read_minari,
    "ogbench": read_ogbench,
    "rlu": read_rlu,
    "robomimic": read_robomimic,
}
# The end of a file's name.
SUFFIXES: dict[str, Reader] = {
    ".hdf5": read_hdf5,
    ".h5": read_hdf5,
    ".npz": read_npz,
}
# Names and prefixes of `register_dataset`.
REGISTERED: dict[str, Reader] = {}
# Files that are refused with the way out.
REFUSED: dict[str, Reader] = {
    ".pkl": refuse_pickle,
    ".pickle": refuse_pickle,
}
# Installed packages register further names or prefixes in this group of entry points; they come
# before the ends of files' names.
ENTRY_POINTS = "rlop.data"


def load_dataset(
    source: str | Path | Dataset, *, cache: object = None, **options: object
) -> Dataset:
    """Load a data set by name or file.

    A message says how many rows of the source were dropped, because their next observation is not
    there. Continuous actions beyond [-1, 1] are brought there by the bounds of the environment that
    the data name, see `rlop.data.units.in_env_units`.

    Args:
        source: one of
            `gridworld` or `chain`, optionally with a query as in
            `gridworld?size=8&steps=20000&epsilon=0.5`;
            `d4rl:NAME`, `dqn-replay:GAME/RUN`, `minari:ID`, `ogbench:NAME` or
            `rlu:atari/GAME/RUN`;
            `d3rlpy:FILE`, `imitation:FILE` or `robomimic:FILE`;
            a file `*.hdf5`, `*.h5` (D4RL's layout) or `*.npz`;
            `mix`, several of these with weights, in the option `sources`, see `read_mix`;
            `module:function`, optionally with a query as in `my_files:load?x=1`, which is called
            and returns a `Dataset`;
            a name that `register_dataset` has got, or an installed package has registered in the
            entry points `rlop.data`;
            a `Dataset`, which is returned as it is.
        cache: folder in which a copy of the data is kept in files that are mapped, for data that
            memory does not hold and for several processes on the same data. The first process
            makes it; it is made again when a file of the source changes. The numbers are the same.
        options: of the reader: see `read_embedded`, `read_d4rl`, `read_dqn_replay`, `read_minari`,
            `read_hdf5`, `read_npz`, `read_ogbench`, `read_d3rlpy`, `read_imitation`,
            `read_rlu`, `read_robomimic`. All of them but the embedded ones take `env_id`.

    Raises:
        InputError: an unknown source or option, or anything wrong with the file.
    """
    if isinstance(source, Dataset):
        if cache is not None:
            raise InputError(f"cache = {cache}: of {source.name}, which is loaded; expected a name")
        data = _with_env_id(source, options)
    else:
        reader = find_reader(str(source))
        if cache is not None and _keeps_a_cache(reader, str(source), options):
            options, cache = {**options, "cache": cache}, None

        _check_options(str(source), options, reader)
        if cache is None:
            data = reader(source, **options)
        else:
            data = read_cached(str(source), options, reader, cache)

        if reader is not read_mix:  # whose sources have said it
            for dropped in dropped_of(data):
                say(f"{data.name}: {dropped}")
    return in_env_units(data, data.spec.env_id)


def _keeps_a_cache(reader: Reader, source: str, options: Mapping[str, object]) -> bool:
    """Return whether a reader has its own use for a cache: sources, or frames beyond a limit."""
    has_limit = "memory_gb" in {**split_query(source)[1], **options}
    return reader is read_mix or (has_limit and "cache" in signature(reader).parameters)


def is_cached(source: str, options: Mapping[str, Any]) -> bool:
    """Return whether loading would make no cache: it is there, or none is asked for.

    Args:
        source: as `load_dataset` takes it.
        options: as well, with or without `cache`.
    """
    folder = options.get("cache")
    if not isinstance(folder, str | Path):
        return True  # none, or one that `load_dataset` refuses
    reader = find_reader(source)
    if reader is read_mix:
        return all(
            is_cached(entry["source"], {"cache": folder, **entry.get("options", {})})
            for entry in _entries(options.get("sources", ()))
        )
    if _keeps_a_cache(reader, source, options):
        return True
    others = {key: value for key, value in options.items() if key != "cache"}
    return has_cache(source, others, reader, Path(folder).expanduser())


def find_reader(source: str) -> Reader:
    """Return the reader of a source, without reading it.

    Raises:
        InputError: no reader fits.
    """
    name, _ = split_query(source)
    if name in NAMES:
        return NAMES[name]

    prefix, colon, _ = name.partition(":")
    if colon and prefix in PREFIXES:
        return PREFIXES[prefix]

    if prefix in REGISTERED:
        return REGISTERED[prefix]

    for registered in entry_points(group=ENTRY_POINTS):
        if registered.name == prefix:
            return registered.load()
    if is_import_path(name):
        return read_imported

    suffix = Path(source).suffix.lower()
    misspelt = colon and prefix.isidentifier() and not Path(source).exists()
    if suffix in SUFFIXES and not misspelt:
        return SUFFIXES[suffix]
    if suffix in REFUSED and not misspelt:
        return REFUSED[suffix]

    hint = closest(prefix, [*NAMES, *PREFIXES, *REGISTERED])
    raise InputError(f"data {source!r}: expected {_expected()}{hint}")


def register_dataset(name: str, reader: Reader) -> None:
    """Let `load_dataset` and the rest of this process read a source of one's own.

        def read_mine(source: str, *, fold: int = 0) -> Dataset: ...

        rlop.register_dataset("mine", read_mine)
        data = rlop.load_dataset("mine:first", fold=1)  # read_mine("mine:first", fold=1)

    A second call replaces the reader. The command line, which is a process of its own, knows
    `module:function` and the entry points `rlop.data` instead.

    Args:
        name: the whole name, or what stands before a colon: letters, digits, `-` and `_`.
        reader: gets the whole source, and options as typed keyword arguments.

    Raises:
        InputError: a name that cannot be one, or that is taken, or a reader that is no function.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w-]*", name):
        raise InputError(f"register_dataset: name {name!r}: expected letters, digits, - and _")
    if name in NAMES or name in PREFIXES:
        raise InputError(f"register_dataset: name {name!r}: is one of rlop's own")
    if not callable(reader):
        raise InputError(
            f"register_dataset: reader of {name!r}: found {type(reader).__name__}, "
            f"expected a function of a source that returns a Dataset"
        )
    REGISTERED[name] = reader


def _expected() -> str:
    """List the sources of the tables for a message."""
    named = [f"{prefix}:NAME" for prefix in PREFIXES]
    patterns = [f"*{suffix}" for suffix in SUFFIXES]
    return (
        f"{', '.join(NAMES)}, or a file {', '.join(patterns)}, or {', '.join(named)}, "
        "or module:function"
    )


def _with_env_id(data: Dataset, options: Mapping[str, object]) -> Dataset:
    """Return a data set, for another environment if the options name one."""
    check_options("Dataset", options, ["env_id"])
    env_id = options.get("env_id", data.spec.env_id)
    if env_id == data.spec.env_id:
        return data
    if env_id is not None and not isinstance(env_id, str):
        raise InputError(f"Dataset: env_id = {env_id!r}: expected the id of an environment")
    return replace(data, spec=replace(data.spec, env_id=env_id))


def _check_options(source: str, options: Mapping[str, object], reader: Reader) -> None:
    """Refuse an option that the reader does not take; a reader with `**options` checks itself."""
    _, *parameters = signature(reader).parameters.values()
    if any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters):
        return
    check_options(source, options, [parameter.name for parameter in parameters])
