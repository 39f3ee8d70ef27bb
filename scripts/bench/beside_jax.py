"""`jax`: one update on one core in plain PyTorch, of ours, and jitted and scanned in JAX.

Each contestant is a process of its own, and all take turns on the same core.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import torch

from rlop.config.files import write_atomic
from scripts.bench import ours
from scripts.bench.answering import OURS, Answering, start_jax, start_ours
from scripts.bench.arrays import difference, first_losses, write_arrays
from scripts.bench.gpu.text import filled, report
from scripts.bench.jax_tables import EAGER, HEADINGS, PLAIN, Line, tables
from scripts.bench.measure import machine
from scripts.bench.problems import JAX_PROBLEMS, Problem, transitions

Start: TypeAlias = Callable[[Path], Answering]  # folder of compiled code -> a process

RECORD = "jax.jsonl"
REPORT = "jax.md"
RUNS = (1, 8, 32)
COMPARED = 200  # updates; half as many of continuous CQL


class Case(NamedTuple):
    """A problem and a number of runs."""

    problem: Problem
    runs: int

    @property
    def forms(self) -> dict[str, str]:
        """JAX's contestants, and their form of a convolution."""
        if self.problem.network == "minatar":
            return {"JAX": "xla", "JAX, im2col": "im2col"}
        return {"JAX": "xla"}

    @property
    def updates(self) -> int:
        """Updates in one call of JAX, fewer where they take long."""
        if self.problem.kind == "cql":
            return 10
        return 100 if self.problem.network == "mlp" and self.runs == 1 else 20


def cases(options: argparse.Namespace) -> list[Case]:
    """Return the cases that the options name; continuous CQL has one run."""
    chosen = []
    for key in options.cases:
        problem = JAX_PROBLEMS[key]
        numbers = [1] if problem.kind == "cql" else options.runs
        chosen += [Case(problem, runs) for runs in numbers]
    return chosen


def benchmark(options: argparse.Namespace, script: str) -> None:
    """Measure every case that the options name; write record and tables after each."""
    options.folder.mkdir(parents=True, exist_ok=True)
    record = options.folder / RECORD
    about: Line = {"machine": machine()}
    with one_core():
        for case in cases(options):
            print(f"\n== {case.problem.name}, R = {case.runs}", flush=True)
            replace_lines(record, about, list(measure(case, options, script)))
            rows = tables(read_lines(record))
            write_atomic(options.folder / REPORT, report(rows, HEADINGS).encode())


def measure(case: Case, options: argparse.Namespace, script: str) -> Iterator[Line]:
    """Start all contestants, compare the losses, race; yield a line for each, printed."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        losses = write_compared(case, options.rows, folder / "arrays.npz")
        processes: dict[str, Answering] = {}
        lines: dict[str, Line] = {}
        for name, start in starts(case, options.rows, script, folder / "arrays.npz").items():
            line: Line = {"case": case.problem.name, "R": case.runs, "contestant": name}
            lines[name] = line
            cache = folder / str(len(lines))
            try:
                if name not in (PLAIN, EAGER):
                    start_cold(start, cache, line)
                process = start(cache)
            except RuntimeError as error:
                line["note"] = str(error)
                continue
            stack.callback(process.close)
            processes[name] = process
            line |= {"warm_s": process.first["first_s"], "warm_cpu_s": process.first["first_cpu_s"]}
            if name in case.forms:
                line["losses_differ"] = difference(first_losses(process.first), losses)
            print(f"  ready: {name}, {shown(line)}", flush=True)

        for name, values in race(processes, options.rounds, options.seconds).items():
            lines[name] |= values
    for name, line in lines.items():
        print(f"  {name}: {shown(line)}", flush=True)
        yield line


def starts(case: Case, rows: int, script: str, arrays: Path) -> dict[str, Start]:
    """Return how each contestant's process starts."""
    problem, runs = case
    begin: dict[str, Start] = {}
    for name in (PLAIN, *OURS):
        if name != PLAIN or runs == 1:
            begin[name] = partial(start_ours, script, problem, name, runs, rows)
    kind = "cql" if problem.kind == "cql" else "dqn"
    for name, form in case.forms.items():
        begin[name] = partial(start_jax, arrays, kind, form, case.updates)
    return begin


def start_cold(start: Start, cache: Path, line: Line) -> None:
    """Start a process without compiled code, note its first call, end it; the code stays."""
    process = start(cache)
    process.close()
    line |= {"cold_s": process.first["first_s"], "cold_cpu_s": process.first["first_cpu_s"]}


def write_compared(case: Case, rows: int, path: Path) -> np.ndarray:
    """Write what JAX reads; return our losses, see `scripts.bench.arrays.write_arrays`."""
    data = transitions(case.problem, rows)
    agent = ours.make_agent(case.problem, data, case.runs)
    count = COMPARED // 2 if case.problem.kind == "cql" else COMPARED
    return write_arrays(path, agent, data, count)


def race(processes: dict[str, Answering], rounds: int, seconds: float) -> dict[str, Line]:
    """Ask every process in every round; return times by clock, and the peak memory."""
    for process in processes.values():
        process.times(seconds / 4)  # warms up
    found: dict[str, Line] = {name: {"cpu_ms": [], "wall_ms": []} for name in processes}
    for _ in range(rounds):
        for name, process in processes.items():
            times = process.times(seconds)
            found[name]["cpu_ms"].append(times["cpu"])
            found[name]["wall_ms"].append(times["wall"])
            found[name]["peak_mb"] = times["peak_mb"]
    return found


@contextmanager
def one_core() -> Iterator[None]:
    """Keep this process and those it starts on one core and one thread, where that exists."""
    torch.set_num_threads(1)
    if sys.platform != "linux":
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


# --- record and page


def shown(line: Line) -> str:
    """Write the numbers of a line, and the median of rounds."""
    cells = []
    for key, value in line.items():
        if key in ("case", "R", "contestant"):
            continue
        number = statistics.median(value) if isinstance(value, list) else value
        cells.append(f"{key} {number:.4g}" if isinstance(number, float) else f"{key} {number}")
    return ", ".join(cells)


def read_lines(record: Path) -> list[Line]:
    """Return the lines of a record."""
    return [json.loads(line) for line in record.read_text().splitlines()]


def replace_lines(record: Path, about: Line, new: Sequence[Line]) -> None:
    """Write the lines of one case in place of those that are of the same case.

    Args:
        record: file of JSON lines, which need not exist.
        about: the line of the machine.
        new: lines of the case.
    """
    measured = {(line["case"], line["R"]) for line in new}
    old = read_lines(record)[1:] if record.exists() else []
    kept = [line for line in old if (line["case"], line["R"]) not in measured]
    text = "".join(json.dumps(line) + "\n" for line in (about, *kept, *new))
    write_atomic(record, text.encode())


def write_page(options: argparse.Namespace) -> None:
    """Replace the tables of a page by those of a record."""
    page = filled(options.page.read_text(), tables(read_lines(options.record)))
    write_atomic(options.page, page.encode())
