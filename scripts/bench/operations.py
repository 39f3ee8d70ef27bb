"""Count what one eager update asks of PyTorch, beside the plain script."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from scripts.bench import ours, plain
from scripts.bench.measure import Update, table
from scripts.bench.problems import JAX_PROBLEMS, transitions

HEADER = ("case", "contestant", "all", "products", "other arithmetic", "views", "copies to host")
WARM_UP = 3  # updates before the count, in which optimizers make their state
COUNTED = 16  # updates; rows are drawn in blocks, so one update has a part of an operation
PRODUCTS = ("addmm", "mm", "baddbmm", "bmm", "convolution", "convolution_backward")
VIEWS = (
    *("view", "t", "transpose", "unsqueeze", "squeeze", "select", "slice", "expand", "detach"),
    *("permute", "as_strided", "alias", "unbind", "split", "_unsafe_view", "_reshape_alias"),
)
TO_HOST = "_local_scalar_dense"


class Count(TorchDispatchMode):
    """Count operations by name while it is entered, those of the backward pass included."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Count an operation, and do it."""
        if operation.namespace == "aten":
            self.names[operation.overloadpacket.__name__] += 1
        return operation(*args, **(kwargs or {}))


def count(update: Update) -> dict[str, float]:
    """Return the mean number of operations of one update, by the columns of `HEADER`."""
    for _ in range(WARM_UP):
        update()
    with Count() as counted:
        for _ in range(COUNTED):
            update()

    def share(*names: str) -> float:
        return sum(counted.names[name] for name in names) / COUNTED

    every = sum(counted.names.values()) / COUNTED
    products, views, copies = share(*PRODUCTS), share(*VIEWS), share(TO_HOST)
    other = every - products - views - copies
    return dict(zip(HEADER[2:], (every, products, other, views, copies)))


def benchmark(options: argparse.Namespace) -> None:
    """Print the counts of every case at R = 1."""
    rows = []
    for name in options.cases:
        problem = JAX_PROBLEMS[name]
        data = transitions(problem, options.rows)
        contestants = {
            "plain PyTorch": plain.build(problem, data),
            "rlop eager": ours.build(problem, data),
        }
        for contestant, update in contestants.items():
            counts = count(update).values()
            rows.append([problem.name, contestant, *(f"{number:.0f}" for number in counts)])
    print(table(HEADER, rows))
