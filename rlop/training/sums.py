"""Sums of the updates' metrics between two logs."""

from __future__ import annotations

import time
from typing import NamedTuple, TypedDict

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
    """

    names: list[str]
    total: Tensor | None
    count: int


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

    They stay in one tensor, which a compiled or recorded update changes in place.
    """

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self.total: Tensor | None = None
        self.start()

    def start(self) -> None:
        """Begin at zero, and start the clock."""
        if self.total is not None:
            self.total.zero_()
        self.count = 0
        self.start_clock()

    def start_clock(self) -> None:
        """Measure the speed from here on."""
        self.untimed = self.count
        self.started = time.perf_counter()

    def state_dict(self) -> SumsState:
        """Return a copy of the sums, on the device."""
        total = None if self.total is None else self.total.clone()
        return {"names": list(self.names), "total": total, "count": self.count}

    def load_state_dict(self, state: SumsState) -> None:
        """Continue where `state_dict` was taken."""
        self.names = tuple(state["names"])
        self.total = None if state["total"] is None else state["total"].clone()
        self.count = state["count"]

    def add(self, metrics: Metrics) -> None:
        """Add the metrics of one update; the loop counts it."""
        values = torch.stack(tuple(metrics.values()))  # [M, R]
        if self.total is None:
            self.names, self.total = tuple(metrics), torch.zeros_like(values)
        self.total.add_(values)

    def take(self) -> tuple[dict[str, np.ndarray], float]:
        """Return the means and the steps per second, and restart.

        This is the only place where the host waits for the device.
        """
        assert self.total is not None  # logs follow updates
        means = (self.total / self.count).double().cpu().numpy()
        speed = (self.count - self.untimed) / (time.perf_counter() - self.started)
        self.start()
        return dict(zip(self.names, means, strict=True)), speed
