"""Fast ways to run the same update: compiled into one graph, and on a GPU several per launch."""

from __future__ import annotations

import copy
import inspect
import math
import shutil
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from rlop.agent import Agent, Noise
from rlop.types import InputError, Metrics

MAX_UPDATES = 32  # in a launch
PAYS_FROM = 50_000  # steps; compiling takes half a minute, which shorter trainings do not recoup

# (batch, or its rows [R, B], noise) -> metrics; changes the agent in place
Update: TypeAlias = Callable[[Any, Noise], Metrics]


def launch_size(intervals: Sequence[int], target_period: int) -> int:
    """Return how many updates fit into one launch.

    Everything that happens between updates must fall between launches. The result is the largest K
    up to `MAX_UPDATES` that divides every interval and is a multiple or a divisor of
    `target_period`.

    Args:
        intervals: intervals in gradient steps, 0 for never.
        target_period: gradient steps between updates of the target network, which may lie within a
            launch.
    """
    common = math.gcd(*intervals)
    for size in range(min(MAX_UPDATES, common or MAX_UPDATES), 1, -1):
        fits_target = size % target_period == 0 or target_period % size == 0
        if common % size == 0 and fits_target:
            return size
    return 1


class Launch:
    """K updates as one call, which returns the sum of each metric.

    On CUDA the first call records a graph, and every call replays it: one launch instead of
    hundreds for each of the K updates. On other devices the updates run one after another, with the
    same numbers.

    Args:
        agent: its target network moves every `target_period` steps, within the launch where K is a
            multiple of it.
        update: one update, plain or compiled.
        size: K.
    """

    def __init__(self, agent: Agent, update: Update, size: int) -> None:
        self.agent = agent
        self.update = update
        self.size = size
        self.moves_target = size % agent.target_period == 0
        self.records = agent.device.type == "cuda" and size > 1
        self.recorded: Update | None = None

    def __call__(self, rows: Any, noise: Noise) -> Metrics:
        """Update the agent K times; return the sum of each metric."""
        if self.records and self.recorded is None:
            self.recorded = record(self.updates, rows, noise, self.agent)
        run = self.recorded or self.updates
        return run(rows, noise)

    def updates(self, rows: Any, noise: Noise) -> Metrics:
        """Make the K updates, one after another."""
        names: tuple[str, ...] = ()
        sums: Tensor | None = None  # [M, R]
        for k in range(self.size):
            noise_of_one = {name: values[k] for name, values in noise.items()}
            metrics = self.update(rows[k], noise_of_one)

            # Stacked, and so copied: an update may change a metric's tensor in place later.
            names = tuple(metrics)
            values = torch.stack(tuple(metrics.values()))
            sums = values if sums is None else sums + values
            if self.moves_target and (k + 1) % self.agent.target_period == 0:
                self.agent.update_target()
        assert sums is not None  # K is at least 1
        return dict(zip(names, sums.unbind(0)))


def record(updates: Update, rows: Tensor, noise: Noise, agent: Agent) -> Update:
    """Record a CUDA graph of `updates`; return a function that replays it.

    The graph reads its inputs from fixed buffers. PyTorch requires one run on a side stream before
    recording; the agent's state is restored afterwards.

    Args:
        updates: K updates.
        rows: `[K, R, B]`, an example.
        noise: name -> `[K, R, ...]`, an example.
        agent: the agent that `updates` changes.
    """
    fixed_rows = rows.clone()
    fixed_noise = {name: values.clone() for name, values in noise.items()}

    before = copy.deepcopy(agent.state_dict())
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        updates(fixed_rows, fixed_noise)
    torch.cuda.current_stream().wait_stream(side)
    agent.load_state_dict(before)

    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        sums = updates(fixed_rows, fixed_noise)

    def replay(rows: Tensor, noise: Noise) -> Metrics:
        fixed_rows.copy_(rows)
        for name, values in noise.items():
            fixed_noise[name].copy_(values)
        graph.replay()
        return {name: value.clone() for name, value in sums.items()}

    return replay


def pays(steps: int) -> bool:
    """Return whether compiling pays off for this many steps, where it is possible at all.

    On one machine the rule depends only on the number of steps, so that the same configuration
    always runs the same way.

    Args:
        steps: gradient steps of the training.
    """
    has_compiler = any(shutil.which(name) for name in ("g++", "clang++", "cl"))
    return steps >= PAYS_FROM and can_compile() and has_compiler


def can_compile() -> bool:
    """Return whether this version of PyTorch can compile an update.

    It must trace `torch.autograd.grad` and keep the graphs of different trainings apart.
    """
    isolates = "isolate_recompiles" in inspect.signature(torch.compile).parameters
    return isolates and hasattr(torch._dynamo.config, "trace_autograd_ops")


def compiled(update: Update, backend: str = "inductor") -> Update:
    """Return the update as one graph, gradient and optimizer included.

    The first call makes the graph, and no later one checks that it still fits: whoever changes the
    shape of a tensor that the update reads takes a new graph.

    Args:
        update: update of all runs, in place.
        backend: backend of `torch.compile`.
    Raises:
        InputError: if this version of PyTorch cannot compile it, see `can_compile`.
    """
    if not can_compile():
        raise InputError(
            f"compile = true: PyTorch {torch.__version__} is too old for it; 2.13 is known to work"
        )
    # The overloads that mypy reads lack this argument, which the signature has.
    isolated: dict[str, Any] = {"isolate_recompiles": True}
    graph = torch.compile(
        update,
        fullgraph=True,
        backend=backend,
        options={"guard_filter_fn": torch.compiler.skip_all_guards_unsafe},
        **isolated,
    )
    is_made = False

    def run(batch: Any, noise: Noise) -> Metrics:
        nonlocal is_made
        if is_made:
            return graph(batch, noise)

        with (
            torch._dynamo.config.patch(trace_autograd_ops=True),
            # For small networks a wrapper in Python, and its checks of shapes, cost as much as all
            # kernels.
            torch._inductor.config.patch(cpp_wrapper=True, size_asserts=False),
        ):
            metrics = graph(batch, noise)
        is_made = True
        return metrics

    return run
