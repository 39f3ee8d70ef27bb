"""How a stack of networks meets a large batch: all at once, or one network after another, in pieces."""

from __future__ import annotations

import torch
from torch import Tensor, nn

ROWS = 2048  # in a piece: at width 256 its activations are 2 MB a layer
MOST = 4  # networks that a compiled graph takes one by one: more would make it long to compile


def in_pieces(weight: Tensor, rows: int) -> bool:
    """Whether networks with parameters like `weight` `[*lead, O, I]` should take `rows` inputs each in pieces.

    On a CPU one product after another is faster than a batched one as soon as arithmetic rules, and a piece's
    activations are still in the cache when the gradient comes back for them; see `scripts/benchmark.py update`. On a
    GPU, and for small batches, the number of launches rules.
    """
    fits = weight.shape[:-2].numel() <= MOST or not torch.compiler.is_compiling()
    return weight.device.type == "cpu" and rows > ROWS and fits


def one_by_one(module: nn.Module) -> list[dict[str, Tensor]]:
    """Parameters and buffers of every network of a stack, in the order of its flattened leading axes `[R, E]`.

    For `torch.func.functional_call`, which lets the module's own code run one network.
    """
    stacked = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return [
        dict(zip(stacked, rows))
        for rows in zip(*(p.flatten(0, 1).unbind(0) for p in stacked.values()))
    ]
