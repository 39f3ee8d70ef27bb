"""Base class of the optimizers of stacked runs."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor


class RunOptimizer(torch.optim.Optimizer):
    """A PyTorch optimizer of parameters `[R, ...]` that can exclude runs.

    All parameters are in one group.
    """

    # Without PyTorch's wrappers, which keep its compiler out and import it for that: two seconds.
    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    load_state_dict = inspect.unwrap(torch.optim.Optimizer.load_state_dict)
    state_dict = inspect.unwrap(torch.optim.Optimizer.state_dict)

    @abstractmethod
    def apply(self, grads: list[Tensor], active: Tensor | None = None) -> None:
        """Make one step with the given gradients.

        Args:
            grads: one for each parameter, in their order.
            active: `[R]` bool; runs whose `active` is False do not move. None for all.
        """

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # no loss to return
        """Make one step with the gradients in `.grad`.

        Raises:
            ValueError: for a closure, which is not supported.
        """
        if closure is not None:
            raise ValueError(f"{type(self).__name__}.step: closures are not supported")

        (group,) = self.param_groups
        self.apply([p.grad for p in group["params"]])
