"""The table of transitions that fits the columns of a data set."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from rlop.data.dqn_replay.stacks import FrameTable, Stacks
from rlop.data.joined import Joined
from rlop.data.mapped import Unchanged, file_of
from rlop.data.sampler import Table
from rlop.types import Batch


class MappedTable(Table):
    """A `Table` of columns in mapped files, which stay there; batches are brought to the device.

    Args:
        columns: of the data set; those in memory are gathered on the CPU as well.
        device: where batches are wanted.
    """

    on_disk = True

    def __init__(
        self, columns: Mapping[str, np.ndarray], device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(columns, "cpu")
        self.device = device
        files = {file_of(column) for column in columns.values()}
        self.check_files = Unchanged(*[file for file in files if file is not None])

    def gather(self, index: Tensor) -> Batch:
        """Return the transitions at `index` `[R, B]`."""
        self.check_files()
        batch = super().gather(index.cpu())
        extra = {name: column.to(self.device) for name, column in batch.extra.items()}
        rows = {name: column.to(self.device) for name, column in _rows_of(batch).items()}
        return Batch(**{**rows, "index": index}, extra=extra)


def _rows_of(batch: Batch) -> dict[str, Tensor]:
    """Return the columns of a batch that every batch has."""
    rows = batch._asdict()
    del rows["extra"]
    return rows


class JoinedTable(Table):
    """A `Table` of several, one for each source of a mixture; its rows are theirs in turn.

    Every table gathers a whole batch, and each row is taken from the one that holds it: shapes stay
    static, nothing waits for the device, and the sources need not be copied into one array.

    Args:
        columns: of a data set whose `obs` and `next_obs` are `Joined`.
        device: where batches are wanted.
    """

    def __init__(
        self, columns: Mapping[str, np.ndarray], device: torch.device | str = "cpu"
    ) -> None:
        super().__init__({}, device)
        obs = columns["obs"]
        assert isinstance(obs, Joined)
        bounds: list[int] = obs.starts.tolist()
        self.starts: list[int] = bounds[:-1]
        self.tables: list[Table] = []
        for start, stop in pairwise(bounds):
            part = {name: column[start:stop] for name, column in columns.items()}
            self.tables.append(make_table(part, device))
        self.on_disk = any(table.on_disk for table in self.tables)

    def __len__(self) -> int:
        return sum(map(len, self.tables))

    def gather(self, index: Tensor) -> Batch:
        """Return the transitions at `index` `[R, B]`."""
        batch: Batch | None = None
        for start, table in zip(self.starts, self.tables):
            inside = (index - start).clamp(0, len(table) - 1)
            rows = table.gather(inside)
            batch = rows if batch is None else _where(index >= start, rows, batch)
        assert batch is not None
        return batch._replace(index=index)


def _where(condition: Tensor, batch: Batch, other: Batch) -> Batch:
    """Take rows `[R, B]` from one batch where a condition holds, else from the other."""

    def rows(a: Tensor, b: Tensor) -> Tensor:
        further = (1,) * (a.ndim - condition.ndim)
        return torch.where(condition.view(*condition.shape, *further), a, b)

    merged, others = _rows_of(batch), _rows_of(other)
    for name, value in merged.items():
        merged[name] = rows(value, others[name])
    extra = {name: rows(value, other.extra[name]) for name, value in batch.extra.items()}
    return Batch(**merged, extra=extra)


def _fits(columns: Mapping[str, np.ndarray], device: torch.device) -> bool:
    """Return whether half of a GPU's free memory holds the columns; a CPU has the disk's pages."""
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return 2 * sum(column.nbytes for column in columns.values()) < free


def make_table(columns: Mapping[str, np.ndarray], device: torch.device | str = "cpu") -> Table:
    """Return the table that fits the columns.

    Args:
        columns: of a data set: of several sources, of stacked frames, in mapped files, in memory.
        device: where batches are wanted.
    """
    if isinstance(columns["obs"], Joined):
        return JoinedTable(columns, device)
    if isinstance(columns["obs"], Stacks):
        return FrameTable(columns, device)
    is_mapped = any(file_of(column) is not None for column in columns.values())
    if is_mapped and not _fits(columns, torch.device(device)):
        return MappedTable(columns, device)
    return Table(columns, device)
