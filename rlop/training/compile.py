"""Fast ways to run the very same update: compiled into one graph, and on a GPU several of them in one launch."""

from __future__ import annotations

import copy
import inspect
import math
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from rlop.types import InputError, Metrics

MOST = 32  # updates in a launch
PAYS_FROM = 50_000  # steps, from which a compiled update has paid for half a minute of compilation
Noise = dict[str, Tensor]
Step = Callable[
    [Tensor, Noise], Metrics
]  # (rows [R, B], noise) -> metrics; updates the agent in place


def launch_size(intervals: Sequence[int], target_period: int) -> int:
    """How many updates fit into one launch, so that everything that happens between updates falls between launches.

    The largest K up to `MOST` that divides every interval, and of which `target_period` is a multiple or a divisor.

    Args:
        intervals: in gradient steps, 0 for what never happens.
        target_period: gradient steps between updates of the target network, which may lie within a launch.
    """
    common = math.gcd(*intervals)
    fits = (k for k in range(min(MOST, common or MOST), 1, -1) if common % k == 0)
    return next((k for k in fits if k % target_period == 0 or target_period % k == 0), 1)


class Launch:
    """K updates as one call `(rows [K, R, B], noise {name: [K, R, ...]}) -> sums of the metrics [M, R]`.

    On CUDA the first call records a graph, and every call replays it: a few launches instead of K times hundreds. On
    other devices the updates run one after another, with the same numbers.

    Args:
        agent: whose target network moves every `target_period` steps, within the launch where K is a multiple of it.
        update: one update, plain or compiled.
        size: K.
    """

    def __init__(self, agent: Any, update: Step, size: int) -> None:
        self.agent, self.update, self.size = agent, update, size
        self.names: tuple[str, ...] = ()
        self.recorded: Callable[[Tensor, Noise], Tensor] | None = None
        self.on_cuda = torch.device(agent.device).type == "cuda" and size > 1

    def __call__(self, rows: Tensor, noise: Noise) -> Tensor:
        """Update the agent K times; sums of the metrics `[M, R]`, in the order of `names`."""
        if self.on_cuda and self.recorded is None:
            self.recorded = record(self.updates, rows, noise, self.agent)
        return (self.recorded or self.updates)(rows, noise)

    def updates(self, rows: Tensor, noise: Noise) -> Tensor:
        """The K updates, one after another."""
        sums = torch.zeros(())
        for k in range(self.size):
            metrics = self.update(rows[k], {name: values[k] for name, values in noise.items()})
            self.names = tuple(metrics)
            values = torch.stack(tuple(metrics.values()))
            sums = values if k == 0 else sums + values
            if self.moves_target and (k + 1) % self.agent.target_period == 0:
                self.agent.update_target()
        return sums

    @property
    def moves_target(self) -> bool:
        """Whether target updates happen within a launch; else the caller makes them between launches."""
        return self.size % self.agent.target_period == 0


def record(
    updates: Callable[[Tensor, Noise], Tensor], rows: Tensor, noise: Noise, agent: Any
) -> Callable[[Tensor, Noise], Tensor]:
    """A CUDA graph of `updates` that reads its inputs from fixed places.

    PyTorch wants the work done once on a side stream before it is recorded; the agent is put back afterwards.
    """
    inputs = {"": rows.clone(), **{name: values.clone() for name, values in noise.items()}}
    held = {name: inputs[name] for name in noise}
    before, side = copy.deepcopy(agent.state_dict()), torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        updates(inputs[""], held)
    torch.cuda.current_stream().wait_stream(side)
    agent.load_state_dict(before)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        sums = updates(inputs[""], held)

    def replay(rows: Tensor, noise: Noise) -> Tensor:
        for name, values in {"": rows, **noise}.items():
            inputs[name].copy_(values)
        graph.replay()
        return sums.clone()

    return replay


def pays(steps: int) -> bool:
    """Whether compiling the update is worth its time over so many steps, where it can be done at all.

    A rule of the number of steps alone, so that the same configuration always runs the same way.
    """
    return steps >= PAYS_FROM and can_compile() and any(map(shutil.which, ("g++", "clang++", "cl")))


def can_compile() -> bool:
    """Whether this PyTorch traces `torch.autograd.grad`, and keeps the graphs of one training from those of others."""
    isolates = "isolate_recompiles" in inspect.signature(torch.compile).parameters
    return isolates and hasattr(torch._dynamo.config, "trace_autograd_ops")


def compiled(update: Callable[..., Metrics], backend: str = "inductor") -> Callable[..., Metrics]:
    """The update as one graph, gradient and optimizer included.

    Raises:
        InputError: for a PyTorch without what is needed, see `can_compile`.
    """
    if not can_compile():
        raise InputError(
            f"compile = true: PyTorch {torch.__version__} is too old for it; 2.13 is known to work"
        )
    apart: Any = {
        "isolate_recompiles": True
    }  # which the signature has, but not the overloads that mypy reads
    graph = torch.compile(update, fullgraph=True, backend=backend, **apart)

    def run(*args: Any) -> Metrics:
        with torch._dynamo.config.patch(trace_autograd_ops=True):
            return graph(*args)

    return run
