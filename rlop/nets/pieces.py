"""Chunked evaluation of stacked networks on the CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

ROWS = 2048  # inputs in a chunk: at width 256 its activations take 2 MB a layer
MAX_COMPILED = 4  # networks that a compiled graph takes one by one; more take long to compile


def in_pieces(weight: Tensor, rows: int) -> bool:
    """Return whether stacked networks should take `rows` inputs each in chunks, one by one.

    On a CPU, one product after another is faster than a batched one as soon as arithmetic
    dominates, and a chunk's activations are still in the cache when the gradient comes back for
    them; see `scripts/benchmark.py update`. On a GPU, and for small batches, the number of launches
    dominates.

    Args:
        weight: of one layer, `[*lead, O, I]`.
        rows: inputs of each network.
    """
    compiles_quickly = weight.shape[:-2].numel() <= MAX_COMPILED
    may_loop = compiles_quickly or not torch.compiler.is_compiling()
    return weight.device.type == "cpu" and rows > ROWS and may_loop


def one_by_one(module: nn.Module) -> list[dict[str, Tensor]]:
    """Return parameters and buffers by name of every network of a stack: by run, then critic.

    `torch.func.functional_call` runs the module's own code with them.

    Args:
        module: parameters and buffers `[R, E, ...]`.
    """
    stacked = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    slices = [tensor.flatten(0, 1).unbind(0) for tensor in stacked.values()]
    return [dict(zip(stacked, tensors)) for tensors in zip(*slices)]
