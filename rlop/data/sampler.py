"""Minibatches and noise for R runs, each from its own random stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from rlop.types import Batch, InputError

CHUNK = 32  # steps drawn at once; a constant, so that a run's stream does not depend on R or on the logging interval


class Streams:
    """Random numbers for every run, drawn once per distinct seed: runs that share a seed see the same numbers.

    Args:
        seeds: one per run.
        batch_size: B.
        n_rows: transitions to choose from.
        noise: name -> (kind, shape): `("uniform", (B,))` or `("normal", (B, A))`, drawn afresh each step.
        device: where the numbers are drawn and live.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        batch_size: int,
        n_rows: int,
        noise: Mapping[str, tuple[str, tuple[int, ...]]],
        device: torch.device | str = "cpu",
    ) -> None:
        distinct = sorted(set(seeds))
        self.column = torch.tensor([distinct.index(seed) for seed in seeds], device=device)
        self.generators = [Generator(device).manual_seed(2 * seed + 1) for seed in distinct]
        self.batch_size, self.n_rows, self.noise, self.device = (
            batch_size,
            n_rows,
            dict(noise),
            device,
        )
        self.cursor = CHUNK
        self.before: list[Tensor] = []

    def _draw(self, kind: str, shape: tuple[int, ...]) -> Tensor:
        draw = {"uniform": torch.rand, "normal": torch.randn}[kind]
        return torch.stack(
            [draw((CHUNK, *shape), generator=g, device=self.device) for g in self.generators], dim=1
        )

    def _refill(self) -> None:
        self.before = [g.get_state() for g in self.generators]
        size = (CHUNK, self.batch_size)
        rows = [
            torch.randint(self.n_rows, size, generator=g, device=self.device)
            for g in self.generators
        ]
        self.rows = torch.stack(rows, dim=1)
        self.drawn = {name: self._draw(kind, shape) for name, (kind, shape) in self.noise.items()}
        self.cursor = 0

    def take(self, count: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Row indices `[K, R, B]` and each noise `[K, R, *shape]` for the next K steps."""
        parts: list[dict[str, Tensor]] = []
        while count:
            if self.cursor == CHUNK:
                self._refill()
            start, self.cursor = self.cursor, min(CHUNK, self.cursor + count)
            count -= self.cursor - start
            drawn = {"": self.rows, **self.drawn}
            parts.append(
                {
                    name: v[start : self.cursor].index_select(1, self.column)
                    for name, v in drawn.items()
                }
            )
        joined = (
            parts[0]
            if len(parts) == 1
            else {name: torch.cat([p[name] for p in parts]) for name in parts[0]}
        )
        return joined.pop(""), joined

    def next(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Row indices `[R, B]` and each noise `[R, *shape]` for one step."""
        rows, noise = self.take(1)
        return rows[0], {name: values[0] for name, values in noise.items()}

    def renew(self) -> None:
        """Drop what was drawn ahead, so that the next rows are of the number of rows that there are by now."""
        self._refill()

    def state_dict(self) -> dict[str, Any]:
        """What is needed to continue with the very next numbers."""
        return {"before": self.before, "cursor": self.cursor}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        if state["before"]:
            for generator, saved in zip(self.generators, state["before"], strict=True):
                generator.set_state(saved)
            self._refill()
        self.cursor = state["cursor"]


class Table:
    """The data set's columns as tensors on the device; on a CPU they share the arrays' memory."""

    on_disk = False  # whether gathering may have to wait for a disk

    def __init__(
        self, columns: Mapping[str, np.ndarray], device: torch.device | str = "cpu"
    ) -> None:
        self.columns = {
            name: torch.from_numpy(column).to(device) for name, column in columns.items()
        }
        self.extra = [name for name in self.columns if name not in Batch._fields]

    def __len__(self) -> int:
        return self.columns["reward"].shape[0]

    def gather(self, index: Tensor) -> Batch:
        """The transitions at `index` `[R, B]`."""
        flat = index.flatten()
        rows = {
            name: c.index_select(0, flat).unflatten(0, index.shape)
            for name, c in self.columns.items()
        }
        return Batch(
            **{k: rows[k] for k in Batch._fields[:6]},
            index=index,
            extra={k: rows[k] for k in self.extra},
        )


def probe_batch(
    columns: Mapping[str, np.ndarray],
    size: int,
    runs: int,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> Batch:
    """The fixed batch on which representations are measured: the same rows for every run, agent and step.

    Args:
        columns: of the data set itself, before an agent leaves out rows that its backup cannot use.
        size: transitions, at most those there are.
        runs: R; the batch is expanded, not copied.
    """
    n = len(columns["reward"])
    index = torch.randperm(n, generator=Generator().manual_seed(seed))[:size].sort().values.numpy()
    batch = Table(
        {name: np.asarray(column[index]) for name, column in columns.items()}, device
    ).gather(torch.arange(len(index), device=device).unsqueeze(0))
    rows = {
        name: value.expand(runs, *value.shape[1:])
        for name, value in batch._asdict().items()
        if name != "extra"
    }
    return Batch(**{**rows, "index": torch.from_numpy(index).to(device).expand(runs, -1)}, extra={})


def check_batch_size(batch_size: int, n_rows: int) -> None:
    """Raise InputError when a batch would be larger than the data."""
    if batch_size > n_rows:
        raise InputError(
            f"batch_size = {batch_size}: larger than the data set, which has {n_rows} usable transitions"
        )
