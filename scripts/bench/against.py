"""`update --against CHECKOUT`: the cost of an update here and in another checkout of rlop.

In every round, a fresh process for each checkout times all cases, on one thread and with PYTHONPATH
set to the checkout. The checkouts alternate, and take turns in going first, so that both meet the
same load.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypedDict

from rlop.types import InputError
from scripts.bench.measure import table

CHILD = Path(__file__).with_name("one_update.py")
ROOT = Path(__file__).resolve().parents[2]
MLP = {"hidden": [256, 256]}
MINATAR = {"network": "minatar", "hidden": [128], "batch_size": 32}
CQL = {"hidden": [256, 256], "policy_hidden": [256, 256], "batch_size": 256, "action_samples": 10}


@dataclass(frozen=True)
class Case:
    """One agent whose update is timed.

    Args:
        name: name in the table.
        group: name in `--cases` of the benchmark.
        agent: name in `rlop.agents`.
        options: options of the agent.
        obs_shape: shape of one observation.
        actions: dimensions of a continuous action, or number of discrete ones.
        continuous: whether actions are continuous.
        pixels: whether observations are the booleans of MinAtar.
        runs: R.
        compiled: whether the update is compiled.
    """

    name: str
    group: str
    agent: str
    options: Mapping[str, object]
    obs_shape: tuple[int, ...] = (17,)
    actions: int = 6
    continuous: bool = False
    pixels: bool = False
    runs: int = 1
    compiled: bool = False

    @property
    def label(self) -> str:
        """Name with the number of runs and the form of the update."""
        form = "compiled" if self.compiled else "eager"
        return f"{self.name}, R = {self.runs}, {form}"


AGENTS = (
    Case("DQN 2x256, batch 32", "dqn", "DQN", {**MLP, "batch_size": 32}),
    Case("DQN 2x256, batch 256", "dqn", "DQN", {**MLP, "batch_size": 256}),
    Case("discrete CQL 2x256, batch 32", "dqn", "DiscreteCQL", {**MLP, "batch_size": 32}),
    Case("MinAtar DQN", "minatar", "DQN", MINATAR, (10, 10, 4), actions=3, pixels=True),
    Case("CQL 2x256", "cql", "CQL", CQL, continuous=True),
)


class Comparison(TypedDict):
    """Result of one case; milliseconds of processor time of an update, one value per round."""

    case: str
    new_ms: list[float]
    old_ms: list[float]
    ratio: float  # new / old of the medians
    low: float  # least ratio of a round
    high: float  # largest ratio of a round


def cases(groups: Iterable[str], compiled: bool) -> list[Case]:
    """Return the cases of some groups: eager at R = 1 and R = 8, and compiled if requested.

    Args:
        groups: groups of `--cases`.
        compiled: whether to add the compiled update at R = 1; compilation takes a minute per case.
    """
    result = []
    for case in AGENTS:
        if case.group not in groups:
            continue
        result += [case, replace(case, runs=8)]
        if compiled:
            result.append(replace(case, compiled=True))

    return result


def benchmark(old: Path, chosen: Sequence[Case], rounds: int, seconds: float) -> list[Comparison]:
    """Compare this checkout with another one.

    Args:
        old: folder of the other checkout, with `rlop/` and `agents/`.
        chosen: the cases.
        rounds: processes for each checkout.
        seconds: seconds of updates in a measurement.
    Raises:
        InputError: the folder is not a checkout, or a process failed.
    """
    check_checkout(old)
    new_rounds: list[list[float]] = []
    old_rounds: list[list[float]] = []
    for round_ in range(rounds):
        order = [(ROOT, new_rounds), (old, old_rounds)]
        if round_ % 2:
            order.reverse()
        for checkout, results in order:
            results.append(time_updates(checkout, chosen, seconds))
        print(f"round {round_ + 1} of {rounds}", flush=True)

    comparisons = []
    for case, new_ms, old_ms in zip(chosen, zip(*new_rounds), zip(*old_rounds)):
        comparisons.append(compare(case, list(new_ms), list(old_ms)))
    return comparisons


def compare(case: Case, new_ms: list[float], old_ms: list[float]) -> Comparison:
    """Summarize the rounds of one case."""
    ratios = [new / old for new, old in zip(new_ms, old_ms, strict=True)]
    return {
        "case": case.label,
        "new_ms": new_ms,
        "old_ms": old_ms,
        "ratio": statistics.median(new_ms) / statistics.median(old_ms),
        "low": min(ratios),
        "high": max(ratios),
    }


def check_checkout(folder: Path) -> None:
    """Raise InputError unless the folder holds the packages of a checkout."""
    for package in ("rlop", "agents"):
        if not (folder / package / "__init__.py").exists():
            raise InputError(f"--against {folder}: has no {package}/, expected a checkout of rlop")


def time_updates(checkout: Path, chosen: Sequence[Case], seconds: float) -> list[float]:
    """Return the milliseconds of one update of every case, measured in a fresh process.

    Raises:
        InputError: the process failed; the message has the case and the last line of its output.
    """
    cases_text = json.dumps([asdict(case) for case in chosen])
    path = str(checkout.resolve())
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(CHILD), str(seconds), cases_text],
        cwd=path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    lines = done.stdout.splitlines()
    if done.returncode:
        messages = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        failed = chosen[min(len(lines), len(chosen) - 1)]
        raise InputError(f"{failed.label} in {checkout}: {messages[-1]}")
    return [float(line) for line in lines]


def text(comparisons: Sequence[Comparison]) -> str:
    """Write the table: a ratio below 1 means that this checkout is faster."""
    header = ["", "new ms", "old ms", "new / old", "rounds"]
    rows = []
    for comparison in comparisons:
        rows.append(
            [
                comparison["case"],
                f"{statistics.median(comparison['new_ms']):.3f}",
                f"{statistics.median(comparison['old_ms']):.3f}",
                f"{comparison['ratio']:.3f}",
                f"{comparison['low']:.3f}-{comparison['high']:.3f}",
            ]
        )

    return table(header, rows)
