"""Small things that everything with a run axis needs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def per_run(value: Tensor, like: Tensor) -> Tensor:
    """Reshape `[R]` so that it broadcasts against `[R, ...]`."""
    return value.view(-1, *[1] * (like.ndim - 1))


def run_values(value: Tensor | float, like: Tensor) -> Tensor:
    """A number for all runs, or one per run, as a tensor `[R]` of the dtype and on the device of `like` `[R, ...]`."""
    return torch.as_tensor(value, dtype=like.dtype, device=like.device).expand(like.shape[0]).clone()


def on_the_host(tensor: Tensor) -> bool:
    """Whether a look at the values is free: eager on a CPU. In a graph or on a GPU nothing may branch on them."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def step_from_grad(optimizer: Any, closure: Any = None) -> None:
    """`optimizer.apply` with the gradients in `.grad`.

    Raises:
        ValueError: for a closure.
    """
    if closure is not None:
        raise ValueError(f"{type(optimizer).__name__}.step: closures are not supported")
    optimizer.apply([p.grad for group in optimizer.param_groups for p in group["params"]])
