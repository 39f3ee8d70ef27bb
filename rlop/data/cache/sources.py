"""The files that a source is read from, by which a cache knows whether it is still of them."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from rlop.config.files import to_dict
from rlop.data.dataset import Dataset
from rlop.data.dqn_replay import reader as dqn_replay
from rlop.data.formats import d3rlpy, d4rl, imitation, minari, ogbench, rlu, robomimic
from rlop.data.formats.embedded import read_embedded
from rlop.data.formats.hdf5 import read_hdf5
from rlop.data.formats.imported import read_imported
from rlop.data.formats.npz import read_npz
from rlop.data.options import split_query

CODE = Path(__file__).resolve().parents[1]  # the readers, whose numbers a change may change
LONGEST = 60  # characters of a source in the name of a folder

Options: TypeAlias = Mapping[str, Any]
Reader: TypeAlias = Callable[..., Dataset]
Finder: TypeAlias = Callable[[str, Options], Iterable[Path]]


class Origin(NamedTuple):
    """Everything that decides what a reader returns.

    Args:
        name: of the cache's folder, the same whatever the state of the files.
        state: source, options, code, and the size and times of every file, as JSON has them.
        is_complete: whether all files are known; those of a user's own function are not.
    """

    name: str
    state: dict[str, Any]
    is_complete: bool


def _prefixed(prefix: str) -> Finder:
    return lambda source, options: [Path(source.removeprefix(prefix))]


# Reader -> the files and folders that it reads for a source without its query.
FINDERS: dict[Reader, Finder] = {
    read_embedded: lambda source, options: [],
    read_hdf5: _prefixed(""),
    read_npz: _prefixed(""),
    d3rlpy.read_d3rlpy: _prefixed(d3rlpy.PREFIX),
    imitation.read_imitation: _prefixed(imitation.PREFIX),
    robomimic.read_robomimic: _prefixed(robomimic.PREFIX),
    d4rl.read_d4rl: lambda source, options: [
        d4rl.find(source.removeprefix(d4rl.PREFIX), options.get("download", True))
    ],
    minari.read_minari: lambda source, options: [
        minari.find(source.removeprefix(minari.PREFIX), options.get("download", False))
    ],
    ogbench.read_ogbench: lambda source, options: [
        ogbench.locate(
            source.removeprefix(ogbench.PREFIX),
            options.get("root"),
            options.get("validation", False),
        )[0]
    ],
    dqn_replay.read_dqn_replay: lambda source, options: [
        dqn_replay.find(source, options.get("root"))
    ],
    rlu.read_rlu: lambda source, options: rlu.find_run(source, options.get("root")).files.values(),
}


def origin_of(source: str, options: Options, reader: Reader, besides: Path) -> Origin:
    """Describe what a reader is about to read.

    Args:
        source: with its query.
        options: of the reader.
        reader: of the source.
        besides: folder whose files do not count, that of the caches.
    Raises:
        InputError: as the reader, for files that are not there.
    """
    name, query = split_query(source)
    # A reader looks at files; those of other readers can only be guessed from the options.
    finder = FINDERS.get(reader)
    if finder is not None:
        roots = [path.expanduser() for path in finder(name, options)]
    else:
        roots = [*_code_of(name, reader), *_paths_in([*options.values(), *query.values()])]

    decisive = {key: value for key, value in options.items() if key != "download"}
    plain = json.loads(json.dumps(to_dict(decisive), default=repr, sort_keys=True))
    folders = sorted({str(path.resolve().parent) for path in roots})
    digest = hashlib.blake2b(json.dumps([source, plain, folders]).encode(), digest_size=6)
    words = re.sub(r"[^\w.-]+", "_", Path(name).name)[:LONGEST].strip("._") or "data"
    state = {
        "source": source,
        "options": plain,
        "code": _code_digest(),
        "files": _states(roots, besides.resolve()),
    }
    return Origin(f"{words}-{digest.hexdigest()}", state, finder is not None)


def _states(roots: Iterable[Path], besides: Path) -> dict[str, list[int]]:
    """Return size, time of modification and time of change of every file, by its path.

    Content may change at an equal size, and a copy may keep the time of modification but not the
    time of change.
    """
    states: dict[str, list[int]] = {}
    for root in roots:
        inside = root.rglob("*") if root.is_dir() else [root]
        for path in sorted(inside):
            resolved = path.resolve()
            if path.is_file() and not resolved.is_relative_to(besides):
                state = path.stat()
                states[str(resolved)] = [state.st_size, state.st_mtime_ns, state.st_ctime_ns]
    return states


def _code_of(name: str, reader: Reader) -> list[Path]:
    """Return the file of a user's own reader, where Python can tell it."""
    if reader is read_imported:
        module = find_spec(name.partition(":")[0])
        file = None if module is None else module.origin
    else:
        try:
            file = inspect.getsourcefile(reader)
        except TypeError:
            file = None
    return [] if file is None else [Path(file)]


def _paths_in(values: Iterable[object]) -> list[Path]:
    """Return the values that name something on disk."""
    texts = [value for value in values if isinstance(value, str | Path) and len(str(value)) < 1024]
    return [path for path in map(Path, texts) if path.expanduser().exists()]


def _code_digest() -> str:
    """Return a digest of the readers' code: another version may read other numbers."""
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(CODE.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
