"""Sums of the updates' metrics between two logs."""

from __future__ import annotations

import time
from typing import NamedTuple, NotRequired, TypedDict

import numpy as np
import torch
from torch import Tensor

from rlop.logs.logger import Mark
from rlop.types import Metrics


class SumsState(TypedDict):
    """Sums as a checkpoint holds them.

    Args:
        names: of the metrics.
        total: `[M, R]`, or None for none yet.
        count: updates they are of.
        missed: `[M]`, how many of those did not have the metric; absent in older checkpoints.
    """

    names: list[str]
    total: Tensor | None
    count: int
    missed: NotRequired[Tensor | None]


class Best(TypedDict):
    """The step of the best evaluation so far, and its mean return over the runs."""

    step: int
    score: float


class Logged(NamedTuple):
    """What was logged up to a step: where the record ends, sums since the last log, best score."""

    step: int
    mark: Mark
    sums: SumsState
    best: Best | None


class Sums:
    """Sums of the updates' metrics since the last log, on the device.

    They stay in tensors that a compiled or recorded update changes in place. The first update must
    have every metric; a partial one may lack some.
    """

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self.total: Tensor | None = None
        self.missed: Tensor | None = None  # [M], updates without the metric
        self.start()

    def start(self) -> None:
        """Begin at zero, and start the clock."""
        for tensor in self.tensors():
            tensor.zero_()
        self.count = 0
        self.start_clock()

    def tensors(self) -> list[Tensor]:
        """Return what updates change."""
        return [tensor for tensor in (self.total, self.missed) if tensor is not None]

    def start_clock(self) -> None:
        """Measure the speed from here on."""
        self.untimed = self.count
        self.started = time.perf_counter()

    def state_dict(self) -> SumsState:
        """Return a copy of the sums, on the device."""
        total = None if self.total is None else self.total.clone()
        missed = None if self.missed is None else self.missed.clone()
        return {"names": list(self.names), "total": total, "count": self.count, "missed": missed}

    def load_state_dict(self, state: SumsState) -> None:
        """Continue where `state_dict` was taken."""
        self.names = tuple(state["names"])
        self.total = None if state["total"] is None else state["total"].clone()
        self.count = state["count"]
        if self.total is not None:
            missed = state.get("missed")
            self.missed = (
                self.total.new_zeros(len(self.total)) if missed is None else missed.clone()
            )

    def add(self, metrics: Metrics) -> None:
        """Add the metrics of one update; the loop counts it."""
        nothing = torch.zeros_like(metrics["loss/total"])
        names = self.names or tuple(metrics)
        values = torch.stack([metrics.get(name, nothing) for name in names])  # [M, R]
        if self.total is None or self.missed is None:
            self.names, self.total = names, torch.zeros_like(values)
            self.missed = values.new_zeros(len(values))

        self.total.add_(values)
        for row, name in enumerate(names):
            if name not in metrics:
                self.missed[row].add_(1)

    def take(self) -> tuple[dict[str, np.ndarray], float]:
        """Return the means and the steps per second, and restart.

        A metric has the mean over the updates that had it, and is absent if there were none. This
        is the only place where the host waits for the device.
        """
        assert self.total is not None  # logs follow updates
        assert self.missed is not None
        counts = self.count - self.missed
        means = (self.total / counts.unsqueeze(-1)).double().cpu().numpy()
        had = (counts > 0).tolist()
        speed = (self.count - self.untimed) / (time.perf_counter() - self.started)
        self.start()
        named = zip(self.names, means, had, strict=True)
        return {name: mean for name, mean, is_there in named if is_there}, speed
