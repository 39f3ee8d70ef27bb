"""CUDA graphs on the CPU: operations are recorded with the tensors that they read and write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

aten = torch.ops.aten
# Operations that make the host wait for the device, or draw random numbers.
REFUSED = {
    aten._local_scalar_dense,
    aten.item,
    aten.nonzero,
    aten.masked_select,
    aten.bernoulli_,
    aten.uniform_,
}
INDEXING = {aten.index, aten.index_put, aten.index_put_}  # by a mask its rows are counted first


class Graph(TorchDispatchMode):
    """A stand-in for `torch.cuda.CUDAGraph`.

    Operations are recorded with the tensors that they read and write, and a replay runs them again
    on the very same tensors. A capture itself changes nothing, as on CUDA: what it has written is
    restored at its end. An operation that reads a value on the host is refused.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self.before: list[tuple[torch.Tensor, torch.Tensor]] = []  # what was written, and its copy

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func.overloadpacket in REFUSED or has_mask(func, args):
            raise RuntimeError(f"operation not permitted when stream is capturing: {func}")

        for tensor in written(func, args):
            self.before.append((tensor.detach(), tensor.detach().clone()))
        out = func(*args, **kwargs)
        if not func.is_view:  # views share the memory that is written into
            self.calls.append((func, *tree_map(memory_of, (args, kwargs, out))))
        return out

    @torch.no_grad()
    def restore(self) -> None:
        """Undo all that the capture has written."""
        for tensor, copy in reversed(self.before):
            tensor.copy_(copy)

    @torch.no_grad()
    def replay(self) -> None:
        """Run all recorded operations again, each into the tensors that it wrote."""
        for func, args, kwargs, out in self.calls:
            again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(out), tree_leaves(again), strict=True):
                if isinstance(old, torch.Tensor):
                    old.copy_(new)


def has_mask(func: Any, args: tuple[Any, ...]) -> bool:
    """Return whether an operation takes the rows of a mask."""
    if func.overloadpacket not in INDEXING:
        return False
    return any(index is not None and index.dtype == torch.bool for index in args[1])


def written(func: Any, args: tuple[Any, ...]) -> list[torch.Tensor]:
    """Return the tensors that an operation changes in place."""
    found = []
    for argument, value in zip(func._schema.arguments, args):
        if argument.alias_info is not None and argument.alias_info.is_write:
            found += [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]
    return found


def memory_of(value: object) -> object:
    """Return a tensor without its history, on the same memory; other values as they are."""
    return value.detach() if isinstance(value, torch.Tensor) else value


class NoReads(TorchFunctionMode):
    """Refuses the reads of a tensor's values that on the CPU are no operation."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.cpu):
            raise RuntimeError(f"operation not permitted when stream is capturing: {func}")
        return func(*args, **(kwargs or {}))


class Stream:
    """A stand-in for `torch.cuda.Stream`; the CPU has only one."""

    def wait_stream(self, other: Stream) -> None:
        """Do nothing."""


@contextmanager
def capturing(graph: Graph) -> Iterator[None]:
    """Record into the graph, like `torch.cuda.graph`."""
    with NoReads(), graph:
        yield
    graph.restore()


@contextmanager
def on_stream(stream: Stream) -> Iterator[None]:
    """Do nothing, like `torch.cuda.stream` with the stream in use."""
    yield


def pretend(monkeypatch) -> None:
    """Let the CPU stand in for a CUDA device: graphs, streams, and values that no code may read."""
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", on_stream)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", capturing)
    monkeypatch.setattr("rlop.optim.adam.on_the_host", lambda tensor: False)
    monkeypatch.setattr("rlop.optim.clip.on_the_host", lambda tensor: False)
