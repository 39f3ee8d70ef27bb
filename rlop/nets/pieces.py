"""Chunked evaluation of stacked networks on the CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

ROWS = 2048  # inputs in a chunk: at width 256 its activations take 2 MB per layer
MAX_COMPILED = 4  # networks that a compiled graph evaluates one by one; more take long to compile


def in_pieces(weight: Tensor, rows: int) -> bool:
    """Return whether stacked networks should take their inputs in chunks, one network at a time.

    On a CPU, one product after another is faster than a batched one as soon as arithmetic
    dominates, and a chunk's activations are still in the cache when the backward pass reads them;
    see `scripts/benchmark.py update`. On a GPU, and for small batches, the number of launches
    dominates.

    Args:
        weight: weight of one layer, `[*lead, O, I]`.
        rows: inputs of each network.
    """
    compiles_quickly = weight.shape[:-2].numel() <= MAX_COMPILED
    may_loop = compiles_quickly or not torch.compiler.is_compiling()
    is_large = rows > ROWS
    return weight.device.type == "cpu" and is_large and may_loop


def one_by_one(module: nn.Module) -> list[dict[str, Tensor]]:
    """Split a stack into its networks: parameters and buffers by name, run by run.

    `torch.func.functional_call` runs the module's code with them. The critics of a run are
    consecutive.

    Args:
        module: parameters and buffers `[R, E, ...]`.
    """
    stacked = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    slices = [tensor.flatten(0, 1).unbind(0) for tensor in stacked.values()]

    networks = []
    for tensors in zip(*slices):
        networks.append(dict(zip(stacked, tensors)))
    return networks
