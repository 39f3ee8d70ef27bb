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
    """Sums of the updates' metrics since the last log, on the device."""

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self.start()

    def start(self) -> None:
        """Begin at zero, and start the clock."""
        self.total: Tensor | None = None
        self.count = 0
        self.start_clock()

    def start_clock(self) -> None:
        """Measure the speed from here on."""
        self.untimed = self.count
        self.started = time.perf_counter()

    def state_dict(self) -> SumsState:
        """Return the sums, on the device; they are those of now until the next `add`."""
        return {"names": list(self.names), "total": self.total, "count": self.count}

    def load_state_dict(self, state: SumsState) -> None:
        """Continue where `state_dict` was taken."""
        self.names = tuple(state["names"])
        self.total = None if state["total"] is None else state["total"].clone()
        self.count = state["count"]

    def add(self, metrics: Metrics, count: int) -> None:
        """Add the metrics of one launch, each the sum over its `count` updates."""
        self.names = tuple(metrics)
        values = torch.stack(tuple(metrics.values()))  # [M, R]
        self.total = values if self.total is None else self.total.add_(values)
        self.count += count

    def take(self) -> tuple[dict[str, np.ndarray], float]:
        """Return the means and the steps per second, and restart.

        This is the only place where the host waits for the device.
        """
        assert self.total is not None  # logs follow updates
        means = (self.total / self.count).double().cpu().numpy()
        speed = (self.count - self.untimed) / (time.perf_counter() - self.started)
        self.start()
        return dict(zip(self.names, means, strict=True)), speed
