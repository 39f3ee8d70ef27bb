"""What evaluation and deployment read of an agent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from rlop.optim.learner import Learner
from rlop.types import Batch


class Acting(Protocol):
    """What acts for R runs."""

    device: torch.device

    def act(self, obs: Tensor) -> Tensor:
        """Return greedy actions, `[R, n, *obs_shape] -> [R, n, ...]`."""
        ...

    def one_run(self, run: int) -> Acting:
        """Return one run alone, with R = 1."""
        ...


@runtime_checkable
class Valuing(Protocol):
    """An agent with a value for every action of a finite set."""

    def q_values(self, obs: Tensor) -> Tensor:
        """Return action values, `[R, n, *obs_shape] -> [R, n, A]`."""
        ...


@runtime_checkable
class Representing(Protocol):
    """An agent whose features can be read."""

    def features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return phi(s, a) and phi(s', a'), `[R, n, D]` or `[R, E, n, D]`."""
        ...


@runtime_checkable
class Learning(Protocol):
    """An agent with networks."""

    learners: Mapping[str, Learner]
