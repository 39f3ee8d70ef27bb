"""Sums of the updates' metrics between two logs."""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import Tensor

from rlop.types import Metrics


class Sums:
    """Sums of the updates' metrics since the last log, on the device."""

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self.start()

    def start(self) -> None:
        """Begin at zero, and start the clock."""
        self.total: Tensor | None = None
        self.count = 0
        self.started = time.perf_counter()

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
        speed = self.count / (time.perf_counter() - self.started)
        self.start()
        return dict(zip(self.names, means, strict=True)), speed
