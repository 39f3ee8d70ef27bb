"""`update --against CHECKOUT`: the cost of an update here and in another checkout of rlop.

Each checkout has one process, on one thread, with PYTHONPATH set to it. The two take turns of a
fraction of a second, and so does the one that goes first: both meet the same load, and a ratio is
the median over rounds of the ratio within a round. Every case has three such pairs of processes,
for where its tensors happen to lie in memory stays with a process.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypedDict

from rlop.types import InputError
from scripts.bench.measure import table

CHILD = Path(__file__).with_name("one_update.py")
ROOT = Path(__file__).resolve().parents[2]
PAIRS = 3  # of processes, for each case
MLP = {"hidden": [256, 256]}
MINATAR = {"network": "minatar", "hidden": [128], "batch_size": 32}
CQL = {"hidden": [256, 256], "policy_hidden": [256, 256], "batch_size": 256, "action_samples": 10}


@dataclass(frozen=True)
class Case:
    """One agent whose update is timed.

    Args:
        name: as the table calls it.
        group: name in `--cases` of the benchmark.
        agent: name in `rlop.agents`.
        options: of the agent.
        obs_shape: of one observation.
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
    """Result of one case; milliseconds of processor time of an update, one value a round."""

    case: str
    new_ms: list[float]
    old_ms: list[float]
    ratio: float  # new / old, median over rounds
    low: float  # first quartile of the rounds
    high: float  # third quartile


def cases(groups: Iterable[str], compiled: bool) -> list[Case]:
    """Return the cases of some groups: eager at R = 1 and R = 8, and compiled where asked.

    Args:
        groups: of `--cases`.
        compiled: whether to add the compiled update at R = 1; compilation takes a minute a case.
    """
    result = []
    for case in AGENTS:
        if case.group not in groups:
            continue
        result += [case, replace(case, runs=8)]
        if compiled:
            result.append(replace(case, compiled=True))

    return result


def benchmark(
    old: Path, chosen: Sequence[Case], rounds: int, seconds: float
) -> Iterator[Comparison]:
    """Compare this checkout with another one, case by case.

    Args:
        old: folder of the other checkout, with `rlop/` and `agents/`.
        chosen: the cases.
        rounds: measurements of each checkout and case.
        seconds: of updates in a measurement.
    Raises:
        InputError: the folder is no checkout, or a process failed.
    """
    check_checkout(old)
    for case in chosen:
        times: dict[Path, list[float]] = {ROOT: [], old: []}
        for pair in range(PAIRS):
            with Checkout(ROOT) as new, Checkout(old) as other:
                new.prepare(case)
                other.prepare(case)
                for round_ in range(pair, rounds, PAIRS):
                    for checkout in (other, new) if round_ % 2 else (new, other):
                        times[checkout.folder].append(checkout.time(seconds))
        yield compare(case, times[ROOT], times[old])


def compare(case: Case, new_ms: list[float], old_ms: list[float]) -> Comparison:
    """Summarize the rounds of one case, two or more."""
    ratios = [new / old for new, old in zip(new_ms, old_ms, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return {
        "case": case.label,
        "new_ms": new_ms,
        "old_ms": old_ms,
        "ratio": middle,
        "low": low,
        "high": high,
    }


def check_checkout(folder: Path) -> None:
    """Raise InputError unless the folder holds the packages of a checkout."""
    for package in ("rlop", "agents"):
        if not (folder / package / "__init__.py").exists():
            raise InputError(f"--against {folder}: has no {package}/, expected a checkout of rlop")


class Checkout:
    """A process that times updates with the code of a checkout.

    Args:
        folder: of the checkout.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.case = "start"
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed by __exit__
        path = str(folder.resolve())
        self.process = subprocess.Popen(
            [sys.executable, str(CHILD)],
            cwd=path,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )

    def __enter__(self) -> Checkout:
        """Return the checkout."""
        return self

    def __exit__(self, *error: object) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()
        self.errors.close()

    def prepare(self, case: Case) -> None:
        """Build the agent of a case."""
        self.case = case.label
        self.ask(asdict(case))

    def time(self, seconds: float) -> float:
        """Return the milliseconds of one update of the prepared case."""
        return float(self.ask(seconds))

    def ask(self, request: object) -> str:
        """Send a request and return the answer.

        Raises:
            InputError: the process failed; the message names the case and has the last line.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it failed, and has said why on stderr
        answer = self.process.stdout.readline()
        if answer:
            return answer

        self.process.wait()
        self.errors.seek(0)
        lines = self.errors.read().strip().splitlines() or [f"exit code {self.process.returncode}"]
        raise InputError(f"{self.case} in {self.folder}: {lines[-1]}")


def text(comparisons: Sequence[Comparison]) -> str:
    """Write the table: a ratio below 1 means that this checkout is faster."""
    header = ["", "new ms", "old ms", "new / old", "half of the rounds"]
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
