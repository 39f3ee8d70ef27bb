"""Small things that everything with a run axis needs."""

from __future__ import annotations

import torch
from torch import Tensor


def per_run(value: Tensor, like: Tensor) -> Tensor:
    """Reshape `[R]` so that it broadcasts against `[R, ...]`."""
    return value.view(-1, *[1] * (like.ndim - 1))


def on_the_host(tensor: Tensor) -> bool:
    """Whether a look at the values is free: eager on a CPU. In a graph or on a GPU nothing may branch on them."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()
