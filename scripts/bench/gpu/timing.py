"""Updates per second and memory on a GPU.

Contestants take turns, A B A B. The host waits for the device only where a round begins and ends.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import torch

from rlop.agent import Agent
from rlop.data import Dataset
from rlop.training.loop import Loop
from rlop.training.options import TrainOptions

Turn: TypeAlias = Callable[[], int]  # makes one call; returns the number of its updates
Row: TypeAlias = dict[str, object]  # column -> value, one line of a table

LAUNCH = 32  # updates in a recorded graph
GRAPH = f"graph of {LAUNCH}"
HOW = {"eager": 1, GRAPH: LAUNCH}  # name in the tables -> updates a launch
STEPS = 2**30  # never reached
MIB = 2**20


class Effort(NamedTuple):
    """How much is measured.

    Args:
        device: where.
        rounds: turns of each contestant.
        seconds: of a turn.
    """

    device: str
    rounds: int
    seconds: float


def loop_of(agent: Agent, data: Dataset, launch: int) -> Loop:
    """Return the training loop of an agent, without its periodic tasks.

    Args:
        agent: its target period is a divisor or a multiple of `launch`.
        data: the data set.
        launch: updates of a recorded graph; 1 for plain eager updates.
    """
    options = TrainOptions(
        steps=STEPS,
        log_every=0,
        probe_every=0,
        eval_every=0,
        checkpoint_every=0,
        compile=False,
        updates_per_launch=launch,
    )
    return Loop(agent, data, options)


def wait(device: str) -> None:
    """Wait until the device has done all that it was given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def rates(turns: Mapping[str, Turn], effort: Effort) -> dict[str, list[float]]:
    """Return the updates per second of every contestant, one number a round."""
    counts = {name: calls_in(turn, effort) for name, turn in turns.items()}
    found: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(effort.rounds):
        for name, turn in turns.items():
            found[name].append(rate(turn, counts[name], effort.device))
    return found


def calls_in(turn: Turn, effort: Effort) -> int:
    """Estimate how many calls fill a round, after two for warm-up, the first of which records."""
    for _ in range(2):
        turn()
    wait(effort.device)

    started = time.perf_counter()
    for _ in range(3):
        turn()
    wait(effort.device)
    once = (time.perf_counter() - started) / 3
    return max(1, round(effort.seconds / once))


def rate(turn: Turn, calls: int, device: str) -> float:
    """Return the updates per second of this many calls."""
    wait(device)
    started = time.perf_counter()
    updates = 0
    for _ in range(calls):
        updates += turn()
    wait(device)
    return updates / (time.perf_counter() - started)


def spread(values: Sequence[float], name: str = "updates/s") -> Row:
    """Return median, lowest and highest of the rounds."""
    return {name: statistics.median(values), "lowest": min(values), "highest": max(values)}


def times(values: Sequence[float], base: Sequence[float]) -> float:
    """Return how many times faster: the median over rounds of the ratio within a round."""
    return statistics.median(a / b for a, b in zip(values, base, strict=True))


class Memory:
    """Peak memory of what happens in a `with` block, in MiB: `peak` allocated, `reserved` kept."""

    def __init__(self, device: str) -> None:
        self.on_cuda = torch.device(device).type == "cuda"
        self.peak = 0.0
        self.reserved = 0.0

    def __enter__(self) -> Memory:
        gc.collect()
        if self.on_cuda:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            self.allocated_before = torch.cuda.memory_allocated()
            self.reserved_before = torch.cuda.memory_reserved()
        return self

    def __exit__(self, *error: object) -> None:
        if self.on_cuda:
            torch.cuda.synchronize()
            peak = torch.cuda.max_memory_allocated() - self.allocated_before
            kept = torch.cuda.memory_reserved() - self.reserved_before
            self.peak, self.reserved = peak / MIB, kept / MIB


def measured(make: Callable[[], Turn], device: str) -> tuple[Turn, Memory]:
    """Build a contestant and make its first two calls; return it and the memory that took."""
    with Memory(device) as memory:
        turn = make()
        for _ in range(2):
            turn()
    return turn, memory
