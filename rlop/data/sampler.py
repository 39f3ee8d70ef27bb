"""Minibatches and noise for R runs, each from its own random stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias, TypedDict

import numpy as np
import torch
from torch import Generator, Tensor

from rlop.data.joined import Mixture
from rlop.types import Batch, InputError

# Steps drawn at once. A constant, so that a run's stream depends neither on R nor on how often
# the training logs.
CHUNK = 32

ROWS = "rows"  # name of the row indices among the numbers drawn

Noise: TypeAlias = tuple[str, tuple[int, ...]]  # kind ("uniform" or "normal") and shape per step


class StreamState(TypedDict):
    """State of random streams.

    Args:
        before: state of each generator before the current chunk was drawn; [] before the first.
        cursor: steps of the current chunk already taken.
    """

    before: list[Tensor]
    cursor: int


class Streams:
    """Random numbers for every run.

    Numbers are drawn once per distinct seed: runs that share a seed see the same numbers.

    Args:
        seeds: one per run.
        batch_size: B.
        n_rows: transitions to choose from.
        noise: name -> (kind, shape): `("uniform", (B,))` or `("normal", (B, A))`, drawn each step.
        device: where the numbers are drawn and live.
        mixture: of the rows, if they are from several sources.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        batch_size: int,
        n_rows: int,
        noise: Mapping[str, Noise],
        device: torch.device | str = "cpu",
        mixture: Mixture | None = None,
    ) -> None:
        distinct = sorted(set(seeds))
        self.column = torch.tensor([distinct.index(seed) for seed in seeds], device=device)
        self.generators = [Generator(device).manual_seed(2 * seed + 1) for seed in distinct]

        self.batch_size = batch_size
        self.n_rows = n_rows
        self.noise = dict(noise)
        self.device = device
        self.choice = None if mixture is None else Choice(mixture, device)

        self.drawn: dict[str, Tensor] = {}  # each [CHUNK, distinct seeds, *shape]
        self.before: list[Tensor] = []
        self.cursor = CHUNK

    def take(self, count: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Return row indices `[K, R, B]` and each noise `[K, R, *shape]` for the next K steps."""
        parts: list[dict[str, Tensor]] = []
        while count:
            if self.cursor == CHUNK:
                self._refill()

            start = self.cursor
            self.cursor = min(CHUNK, start + count)
            count -= self.cursor - start
            parts.append(self._slice(start, self.cursor))

        numbers = parts[0]
        if len(parts) > 1:
            for name in numbers:
                numbers[name] = torch.cat([part[name] for part in parts])
        return numbers.pop(ROWS), numbers

    def next(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Return row indices `[R, B]` and each noise `[R, *shape]` for one step."""
        rows, noises = self.take(1)
        noise = {name: values[0] for name, values in noises.items()}
        return rows[0], noise

    def renew(self) -> None:
        """Discard pre-drawn indices; the number of rows has changed."""
        self._refill()

    def state_dict(self) -> StreamState:
        """Return the state from which the very next numbers follow."""
        return {"before": self.before, "cursor": self.cursor}

    def load_state_dict(self, state: StreamState) -> None:
        """Continue where `state_dict` was taken."""
        if state["before"]:
            for generator, saved in zip(self.generators, state["before"], strict=True):
                # A checkpoint is loaded onto the device of the training; these states are not.
                generator.set_state(saved.cpu())
            self._refill()
        self.cursor = state["cursor"]

    def _slice(self, start: int, stop: int) -> dict[str, Tensor]:
        """Take steps of the chunk for every run, each from its seed's column."""
        return {
            name: numbers[start:stop].index_select(1, self.column)
            for name, numbers in self.drawn.items()
        }

    def _refill(self) -> None:
        """Draw the next chunk: row indices first, then each noise in the order of its name."""
        self.before = [generator.get_state() for generator in self.generators]

        self.drawn = {ROWS: self._draw_rows()}
        for name, (kind, shape) in self.noise.items():
            self.drawn[name] = self._draw_noise(kind, shape)
        self.cursor = 0

    def _draw_rows(self) -> Tensor:
        size = (CHUNK, self.batch_size)
        rows = []
        for generator in self.generators:
            if self.choice is not None:
                rows.append(self.choice.rows(size, generator))
            else:
                rows.append(
                    torch.randint(self.n_rows, size, generator=generator, device=self.device)
                )
        return torch.stack(rows, dim=1)

    def _draw_noise(self, kind: str, shape: tuple[int, ...]) -> Tensor:
        draw = {"uniform": torch.rand, "normal": torch.randn}[kind]
        size = (CHUNK, *shape)
        noise = [
            draw(size, generator=generator, device=self.device) for generator in self.generators
        ]
        return torch.stack(noise, dim=1)


class Choice:
    """Draw rows of a mixture: a source by its weight, then any of its rows.

    Args:
        mixture: of the rows.
        device: where rows are drawn.
    Raises:
        InputError: a source of which no row is left.
    """

    def __init__(self, mixture: Mixture, device: torch.device | str) -> None:
        numbers = range(len(mixture.names))
        counts = np.array([np.count_nonzero(mixture.source == number) for number in numbers])
        if not counts.all():
            name = mixture.names[int(counts.argmin())]
            raise InputError(f"mix: no row of {name} is left that the agent can use")

        shares = np.array(mixture.weights) / sum(mixture.weights)
        self.limits = torch.from_numpy(shares.cumsum()[:-1]).to(device)
        self.counts = torch.from_numpy(counts).to(device)
        self.starts = torch.from_numpy(counts.cumsum() - counts).to(device)

        # Rows are in the order of their sources unless somebody has reordered them.
        self.order: Tensor | None = None
        if (np.diff(mixture.source) < 0).any():
            self.order = torch.from_numpy(mixture.source.argsort(kind="stable")).to(device)

    def rows(self, size: tuple[int, ...], generator: Generator) -> Tensor:
        """Return indices of rows, int64 of this size."""
        device, kind = self.limits.device, torch.float64
        which = torch.rand(size, generator=generator, dtype=kind, device=device)
        where = torch.rand(size, generator=generator, dtype=kind, device=device)
        source = torch.bucketize(which, self.limits, right=True)
        place = where * self.counts[source]
        rows = self.starts[source] + place.long()
        return rows if self.order is None else self.order[rows]


class Table:
    """The data set's columns as tensors on the device; on a CPU they share the arrays' memory.

    Args:
        columns: of the data set, see `Dataset.columns`.
        device: where they live, and where batches are wanted.
    """

    on_disk = False  # whether gathering may have to wait for a disk

    def __init__(
        self,
        columns: Mapping[str, np.ndarray],
        device: torch.device | str = "cpu",
    ) -> None:
        self.columns = {
            name: torch.from_numpy(column).to(device) for name, column in columns.items()
        }
        self.extra = [name for name in self.columns if name not in Batch._fields]

    def __len__(self) -> int:
        return self.columns["reward"].shape[0]

    def gather(self, index: Tensor) -> Batch:
        """Return the transitions at `index` `[R, B]`."""
        flat = index.flatten()
        rows = {
            name: column.index_select(0, flat).unflatten(0, index.shape)
            for name, column in self.columns.items()
        }
        extra = {name: rows.pop(name) for name in self.extra}
        return Batch(**rows, index=index, extra=extra)


def probe_batch(
    columns: Mapping[str, np.ndarray],
    size: int,
    runs: int,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> Batch:
    """Draw the fixed batch on which representations are measured.

    Its rows are the same for every run, agent and step.

    Args:
        columns: of the data set itself, before an agent leaves out rows that its backup cannot use.
        size: transitions, at most as many as the data set has.
        runs: R; the batch is expanded, not copied.
        device: where the batch lives.
        seed: of the draw.
    """
    n_rows = len(columns["reward"])
    order = torch.randperm(n_rows, generator=Generator().manual_seed(seed))
    index = order[:size].sort().values

    chosen = {name: np.asarray(column[index.numpy()]) for name, column in columns.items()}
    everything = torch.arange(len(index), device=device).unsqueeze(0)
    batch = Table(chosen, device).gather(everything)

    # `gather` has numbered the rows of the small table; the batch names rows of the data set.
    rows = batch._asdict()
    rows["index"] = index.to(device).unsqueeze(0)
    del rows["extra"]
    shared = {name: value.expand(runs, *value.shape[1:]) for name, value in rows.items()}
    return Batch(**shared, extra={})


def check_batch_size(batch_size: int, n_rows: int) -> None:
    """Raise InputError when a batch would be larger than the data."""
    if batch_size > n_rows:
        raise InputError(
            f"batch_size = {batch_size}: larger than the data set, "
            f"which has {n_rows} usable transitions"
        )
