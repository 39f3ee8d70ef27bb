"""`runs`: eight runs in one process, in two, and in a process each, on the same cores."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple, TypedDict

import torch

from scripts.bench import ours
from scripts.bench.measure import made, peak_mb, show, table
from scripts.bench.problems import PROBLEMS, SIDE_BY_SIDE, Problem, transitions


class Layout(NamedTuple):
    """A number of processes, and the runs and threads of each."""

    processes: int
    runs: int
    threads: int


# One process alone shows memory against R; eight runs are divided between processes in several
# ways.
LAYOUTS = [
    Layout(1, 1, 1),
    Layout(1, 2, 1),
    Layout(1, 8, 1),
    Layout(1, 8, 2),
    Layout(2, 4, 1),
    Layout(8, 1, 1),
]


class Work(TypedDict):
    """Work of one process."""

    steps: int
    wall_s: float
    cpu_s: float
    peak_mb: float


class Total(TypedDict):
    """Work of all processes of a layout."""

    run_steps_per_s: float  # updates of single runs
    cpu_ms_per_run_step: float
    peak_mb: float


class LayoutResult(Total):
    """A layout and its work."""

    processes: int
    runs: int
    threads: int
    compiled: bool


def benchmark(options: argparse.Namespace, script: str) -> dict[str, list[LayoutResult]]:
    """Measure every problem in every layout."""
    results = {}
    form = ", compiled" if options.compiled else ""
    for problem in SIDE_BY_SIDE:
        rows = [launch(script, problem, layout, options) for layout in LAYOUTS]
        results[problem.name] = rows
        print(f"\n{problem.name}{form}\n{text(rows)}", flush=True)
    return results


def launch(
    script: str, problem: Problem, layout: Layout, options: argparse.Namespace
) -> LayoutResult:
    """Start all processes, let them begin together, add up their work."""
    command = [sys.executable, script, "worker", problem.name, "--runs", str(layout.runs)]
    command += ["--threads", str(layout.threads), "--seconds", str(options.seconds)]
    command += ["--rows", str(options.rows)]
    if options.compiled:
        command.append("--compiled")

    workers = []
    for _ in range(layout.processes):
        workers.append(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )

    try:
        # All must be ready before any starts.
        for worker in workers:
            if worker.stdout.readline() != "ready\n":
                raise RuntimeError(f"a process of {problem.name} ended before it was ready")
        for worker in workers:
            worker.stdin.write("go\n")
            worker.stdin.flush()
        works = [json.loads(worker.communicate()[0]) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()

    return {**layout._asdict(), "compiled": options.compiled, **together(works, layout.runs)}


def together(works: Sequence[Work], runs: int) -> Total:
    """Add up the work of processes of `runs` runs each."""
    updates = sum(work["steps"] for work in works) * runs
    return {
        "run_steps_per_s": sum(runs * work["steps"] / work["wall_s"] for work in works),
        "cpu_ms_per_run_step": sum(work["cpu_s"] for work in works) / updates * 1e3,
        "peak_mb": sum(work["peak_mb"] for work in works),
    }


def worker(options: argparse.Namespace) -> Work:
    """Get ready, wait for a line, update for some seconds: the work of one process."""
    torch.set_num_threads(options.threads)
    problem = PROBLEMS[options.problem]
    data = transitions(problem, options.rows)
    update = ours.build(problem, data, options.runs, options.compiled)

    for _ in range(3):
        update()

    print("ready", flush=True)
    sys.stdin.readline()

    steps = 0
    cpu_started = time.process_time()
    wall_started = time.perf_counter()

    while time.perf_counter() - wall_started < options.seconds:
        steps += made(update())
    return {
        "steps": steps,
        "wall_s": time.perf_counter() - wall_started,
        "cpu_s": time.process_time() - cpu_started,
        "peak_mb": peak_mb(),
    }


def text(results: Sequence[LayoutResult]) -> str:
    """Write the table of one problem."""
    header = ["processes", "R each", "threads", "run steps/s", "CPU ms / run step", "peak MB"]
    rows = []
    for result in results:
        rows.append(
            [
                str(result["processes"]),
                str(result["runs"]),
                str(result["threads"]),
                show(result["run_steps_per_s"], ",.1f"),
                show(result["cpu_ms_per_run_step"], ".3f"),
                show(result["peak_mb"], ",.0f"),
            ]
        )

    return table(header, rows)
