"""From files, and from environments, to one `Dataset`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

from rlop.config.checks import nearest
from rlop.data.atari_scores import dqn_normalized_score, human_normalized_score
from rlop.data.columns import check_spaces
from rlop.data.dataset import Dataset
from rlop.data.dqn_replay.reader import read_dqn_replay
from rlop.data.formats.d4rl import read_d4rl
from rlop.data.formats.embedded import IDS, read_embedded
from rlop.data.formats.hdf5 import read_hdf5, write_hdf5
from rlop.data.formats.minari import read_minari
from rlop.data.formats.npz import read_npz
from rlop.data.returns import returns_to_go
from rlop.data.scores import normalized_score
from rlop.types import InputError

__all__ = [
    "Dataset",
    "check_spaces",
    "dqn_normalized_score",
    "human_normalized_score",
    "load_dataset",
    "normalized_score",
    "read_d4rl",
    "read_dqn_replay",
    "read_hdf5",
    "read_minari",
    "read_npz",
    "returns_to_go",
    "write_hdf5",
]

READERS: dict[str, Callable[..., Dataset]] = {
    ".hdf5": read_hdf5,
    ".h5": read_hdf5,
    ".npz": read_npz,
}
PREFIXES: dict[str, Callable[..., Dataset]] = {
    "d4rl": read_d4rl,
    "dqn-replay": read_dqn_replay,
    "minari": read_minari,
}


def load_dataset(source: str | Path | Dataset, **options: Any) -> Dataset:
    """A data set by name or file.

    Args:
        source: `gridworld` or `chain`, optionally with a query as in `gridworld?size=8&steps=20000&epsilon=0.5`;
            `d4rl:NAME`, `dqn-replay:GAME/RUN` or `minari:ID`; a file `*.hdf5`, `*.h5` (D4RL's layout) or `*.npz`; or a
            `Dataset`, which is returned as it is.
        options: of the reader: see `read_embedded`, `read_d4rl`, `read_dqn_replay`, `read_minari`, `read_hdf5`,
            `read_npz`. `env_id` is known to all but the embedded ones.

    Raises:
        InputError: an unknown source or option, or anything wrong with the file.
    """
    if isinstance(source, Dataset):
        env_id = options.pop("env_id", source.spec.env_id)
        _check_options("Dataset", options, ["env_id"])
        return (
            source
            if env_id == source.spec.env_id
            else replace(source, spec=replace(source.spec, env_id=env_id))
        )
    if str(source).partition("?")[0] in IDS:
        return read_embedded(str(source), **options)
    reader = PREFIXES.get(str(source).partition(":")[0]) if ":" in str(source) else None
    reader = reader or READERS.get(Path(source).suffix.lower())
    if reader is None:
        named = ", ".join(f"{prefix}:NAME" for prefix in PREFIXES)
        files = f"a file *{', *'.join(READERS)}"
        raise InputError(f"data {str(source)!r}: expected {', '.join(IDS)}, or {files}, or {named}")
    _check_options(str(source), options, list(signature(reader).parameters)[1:])
    return reader(source, **options)


def _check_options(source: str, options: dict[str, Any], known: list[str]) -> None:
    for key in options:
        if key not in known:
            raise InputError(f"{source}: no option {key!r}{nearest(key, known)}")
