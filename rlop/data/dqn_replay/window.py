"""A few checkpoints of a replay log at a time, others at every draw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rlop.data.dataset import Dataset
from rlop.data.dqn_replay.files import suffixes
from rlop.data.dqn_replay.reader import find, read_dqn_replay
from rlop.types import InputError, Spec


class RollingWindow:
    """What stands for a data set in `rlop.train`, which draws anew every `reload_every` steps.

    The checkpoints of a draw are without replacement, and depend on the seed and the draw's number alone. Memory holds
    one draw at a time, provided that the caller has let go of the one before.

    Args:
        source: see `read_dqn_replay`.
        n_files: drawn each time.
        seed: of the draws.
        prepare: applied to what was read, such as a transform.
        options: of `read_dqn_replay`, except `files`. The number of actions, if not given, is that of draw 0.

    Raises:
        InputError: fewer checkpoints than `n_files`; at a draw, what `read_dqn_replay` raises.

    Reference: `reload_data` in labs/offline_rl/fixed_replay.py of Dopamine, called once an iteration, with 5 files.
    """

    def __init__(
        self,
        source: str,
        n_files: int = 5,
        *,
        seed: int = 0,
        prepare: Callable[[Dataset], Dataset] = lambda data: data,
        **options: Any,
    ) -> None:
        folder = find(str(source).partition("?")[0], options.get("root"))
        self.known = suffixes(folder)
        if not 1 <= n_files <= len(self.known):
            raise InputError(
                f"n_files = {n_files}: expected 1 to {len(self.known)}, the checkpoints in {folder}"
            )
        if "files" in options:
            raise InputError("files: are drawn, expected n_files alone")
        self.source, self.n_files, self.seed, self.prepare, self.options = (
            source,
            n_files,
            seed,
            prepare,
            options,
        )
        self.number = -1
        self.held: Dataset | None = None

    def draw(self, number: int) -> Dataset:
        """The data of draw `number`; the last one is kept."""
        if number != self.number or self.held is None:
            self.held = None  # before the next is read
            read = read_dqn_replay(
                self.source, files=self.files(number), seed=self.seed, **self.options
            )
            self.options.setdefault("n_actions", read.spec.n_actions)
            self.number, self.held = number, self.prepare(read)
        return self.held

    def files(self, number: int) -> list[int]:
        """Numbers of the checkpoints of draw `number`."""
        return (
            np.random.default_rng([self.seed, number])
            .choice(self.known, self.n_files, replace=False)
            .tolist()
        )

    @property
    def spec(self) -> Spec:
        """Of what is held, or of draw 0."""
        return self.draw(max(self.number, 0)).spec

    @property
    def name(self) -> str:
        """The log's, and how many of its checkpoints there are at a time."""
        return f"{self.source}, {self.n_files} of {len(self.known)} checkpoints"

    def __len__(self) -> int:
        return len(self.draw(max(self.number, 0)))
