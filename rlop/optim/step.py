"""The step that PyTorch's optimizer interface asks for."""

from __future__ import annotations

from typing import Any


def step_from_grad(optimizer: Any, closure: Any = None) -> None:
    """`optimizer.apply` with the gradients in `.grad`.

    Raises:
        ValueError: for a closure.
    """
    if closure is not None:
        raise ValueError(f"{type(optimizer).__name__}.step: closures are not supported")
    optimizer.apply([p.grad for group in optimizer.param_groups for p in group["params"]])
