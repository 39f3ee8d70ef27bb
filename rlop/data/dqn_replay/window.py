"""A few checkpoints of a replay log at a time, and others at every draw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from rlop.config.checks import closest
from rlop.data.dataset import Dataset
from rlop.data.dqn_replay.files import suffixes
from rlop.data.dqn_replay.reader import find, read_dqn_replay
from rlop.data.formats.rlu import file_numbers, read_rlu
from rlop.data.options import split_query
from rlop.types import InputError, Spec


class Log(NamedTuple):
    """The functions that list and read the files of one kind of log.

    Args:
        numbers: name and option `root` -> numbers of the files.
        read: source and options, `files` among them -> data set.
    """

    numbers: Callable[[str, Any], list[int]]
    read: Callable[..., Dataset]


def logs() -> dict[str, Log]:
    """Return how each kind of log is read, by what stands before the colon of its name."""
    return {
        "dqn-replay": Log(lambda name, root: suffixes(find(name, root)), read_dqn_replay),
        "rlu": Log(file_numbers, read_rlu),
    }


def _unchanged(data: Dataset) -> Dataset:
    return data


class RollingWindow:
    """A data set that reloads a random subset of checkpoints every `reload_every` steps.

    The checkpoints of a draw are without replacement, and depend on the seed and the draw's number
    alone. Memory holds one draw at a time, provided that the caller has released the one before.

    Args:
        source: see `read_dqn_replay` and `read_rlu`.
        n_files: drawn each time.
        seed: of the draws.
        prepare: applied to every draw, such as a transform.
        options: of the reader, except `files`. The number of actions, if not given, is the
            one of draw 0.

    Raises:
        InputError: a source without such files, or fewer of them than `n_files`; at a draw, as the
            reader.

    Reference: `reload_data` in labs/offline_rl/fixed_replay.py of Dopamine, called once an
        iteration, with 5 files.
    """

    def __init__(
        self,
        source: str,
        n_files: int = 5,
        *,
        seed: int = 0,
        prepare: Callable[[Dataset], Dataset] = _unchanged,
        **options: Any,
    ) -> None:
        if "files" in options:
            raise InputError("files: are drawn, expected n_files alone")
        name, _ = split_query(str(source))
        prefix = name.partition(":")[0]
        known = logs()
        if prefix not in known:
            raise InputError(
                f"window: of {name}: expected data that are read file by file, "
                f"{':... or '.join(known)}:...{closest(prefix, known)}"
            )
        self.log = known[prefix]
        self.suffixes = self.log.numbers(name, options.get("root"))
        if not 1 <= n_files <= len(self.suffixes):
            raise InputError(
                f"n_files = {n_files}: expected 1 to {len(self.suffixes)}, "
                f"the checkpoints of {name}"
            )

        self.source = source
        self.n_files = n_files
        self.seed = seed
        self.prepare = prepare
        self.options = options

        self.number = -1  # of the draw in memory
        self.data: Dataset | None = None

    def draw(self, number: int) -> Dataset:
        """Return the data of draw `number`; the last one is kept."""
        if number == self.number and self.data is not None:
            return self.data

        self.data = None  # free the memory before the next is read
        read = self.log.read(self.source, files=self.files(number), seed=self.seed, **self.options)
        self.options.setdefault("n_actions", read.spec.n_actions)
        self.data = self.prepare(read)
        self.number = number
        return self.data

    def files(self, number: int) -> list[int]:
        """Return the numbers of the checkpoints of draw `number`."""
        rng = np.random.default_rng([self.seed, number])
        return rng.choice(self.suffixes, self.n_files, replace=False).tolist()

    @property
    def spec(self) -> Spec:
        """The spec of the draw in memory, or of draw 0."""
        return self._current().spec

    @property
    def name(self) -> str:
        """The log's name, and the number of its checkpoints in memory at a time."""
        return f"{self.source}, {self.n_files} of {len(self.suffixes)} checkpoints"

    def __len__(self) -> int:
        return len(self._current())

    def _current(self) -> Dataset:
        """Return the draw in memory, or draw 0."""
        return self.draw(max(self.number, 0))
