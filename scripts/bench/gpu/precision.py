"""fp32, TF32 and bf16: their cost, and whether their learning curves agree."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from scripts.bench import ours
from scripts.bench.gpu.speed import CQL
from scripts.bench.gpu.timing import LAUNCH, Effort, Row, Turn, loop_of, rates, spread, times
from scripts.bench.problems import transitions

ROWS = 100_000
RUNS = 8
UPDATES = 2048
WINDOW = 256  # updates of a mean
CURVES = ("loss/td", "q/data")


class Form(NamedTuple):
    """A precision of the products.

    Args:
        matmul: of `torch.set_float32_matmul_precision`.
        option: `precision` of the agent.
    """

    matmul: str
    option: str


FORMS = {
    "fp32": Form("highest", "fp32"),
    "TF32": Form("high", "fp32"),
    "bf16": Form("highest", "bf16"),
}


def precision(effort: Effort) -> Iterator[Row]:
    """Compare the curves of 8 runs over 2,048 updates, then the cost of 1 and 32 runs."""
    data = transitions(CQL, ROWS)
    curves = {}
    for name, form in FORMS.items():
        torch.set_float32_matmul_precision(form.matmul)
        agent = ours.make_agent(CQL, data, RUNS, device=effort.device, precision=form.option)
        loop = loop_of(agent, data, LAUNCH)
        curves[name] = []
        while loop.step < UPDATES:
            loop.advance()
            if loop.step % WINDOW == 0:
                curves[name].append(loop.sums.take()[0])

    for name in FORMS:
        row: Row = {"case": CQL.name, "how": name, "R": RUNS, "updates": UPDATES}
        for curve in CURVES:
            reference = np.stack([means[curve] for means in curves["fp32"]])  # [T, R]
            values = np.stack([means[curve] for means in curves[name]])
            others = np.roll(reference, 1, axis=1)
            row[f"{curve}, last"] = float(values[-1].mean())
            row[f"{curve}, differs by"] = relative(values, reference)
            row[f"{curve}, between seeds"] = relative(others, reference)
        yield row


def relative(values: np.ndarray, reference: np.ndarray) -> float:
    """Return the median over windows and runs of the relative difference."""
    return float(np.median(np.abs(values - reference) / np.abs(reference)))


def cost(runs: int, effort: Effort) -> Iterator[Row]:
    """Compare the updates per second; a graph keeps the precision that it was recorded with."""
    data = transitions(CQL, ROWS)
    turns: dict[str, Turn] = {}
    for name, form in FORMS.items():
        torch.set_float32_matmul_precision(form.matmul)
        agent = ours.make_agent(CQL, data, runs, device=effort.device, precision=form.option)
        turns[name] = loop_of(agent, data, LAUNCH).advance
        turns[name]()

    found = rates(turns, effort)
    for name, values in found.items():
        updates = [runs * value for value in values]
        row: Row = {"case": CQL.name, "how": name, "R": runs, **spread(updates, "run updates/s")}
        yield {**row, "times fp32": times(values, found["fp32"])}


CURVES_AGREE = [precision]
COST = [partial(cost, 1), partial(cost, 32)]
