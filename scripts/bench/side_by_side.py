"""`runs`: eight runs in one process, in two, and in a process each, on the same cores."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from scripts.bench import ours
from scripts.bench.measure import peak_mb, show, table
from scripts.bench.problems import PROBLEMS, SIDE_BY_SIDE, Problem, transitions


class Layout(NamedTuple):
    """Processes of R runs each, with so many threads each."""

    processes: int
    runs: int
    threads: int


# One process alone shows memory against R; eight runs are divided among processes.
LAYOUTS = [
    Layout(1, 1, 1),
    Layout(1, 2, 1),
    Layout(1, 8, 1),
    Layout(1, 8, 2),
    Layout(2, 4, 1),
    Layout(8, 1, 1),
]


def benchmark(options: Any, script: str) -> dict[str, list[dict[str, Any]]]:
    """Problem -> a record for each layout."""
    found = {}
    for problem in SIDE_BY_SIDE:
        found[problem.name] = rows = [
            launch(script, problem, layout, options) for layout in LAYOUTS
        ]
        print(
            f"\n{problem.name}{', compiled' if options.compiled else ''}\n{text(rows)}", flush=True
        )
    return found


def launch(script: str, problem: Problem, layout: Layout, options: Any) -> dict[str, Any]:
    """Start all processes, let them begin together, add up what they did."""
    command = [sys.executable, script, "worker", problem.name, "--runs", str(layout.runs)]
    command += [
        "--threads",
        str(layout.threads),
        "--seconds",
        str(options.seconds),
        "--rows",
        str(options.rows),
    ]
    command += ["--compiled"] * options.compiled
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    workers = [subprocess.Popen(command, **pipes) for _ in range(layout.processes)]
    try:
        for worker in workers:
            if worker.stdout.readline() != "ready\n":
                raise RuntimeError(f"a process of {problem.name} ended before it was ready")
        for worker in workers:
            worker.stdin.write("go\n")
            worker.stdin.flush()
        results = [json.loads(worker.communicate()[0]) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    return {**layout._asdict(), "compiled": options.compiled, **together(results, layout.runs)}


def together(results: Sequence[dict[str, float]], runs: int) -> dict[str, float]:
    """Sum over processes: updates of single runs a second, CPU milliseconds of each, memory."""
    updates = sum(result["steps"] for result in results) * runs
    return {
        "run_steps_per_s": sum(runs * result["steps"] / result["wall_s"] for result in results),
        "cpu_ms_per_run_step": sum(result["cpu_s"] for result in results) / updates * 1e3,
        "peak_mb": sum(result["peak_mb"] for result in results),
    }


def worker(options: Any) -> dict[str, float]:
    """What one process does: get ready, wait for a line, update for so many seconds."""
    torch.set_num_threads(options.threads)
    problem = PROBLEMS[options.problem]
    update = ours.build(problem, transitions(problem, options.rows), options.runs, options.compiled)
    for _ in range(3):
        update()
    print("ready", flush=True)
    sys.stdin.readline()
    steps, cpu, started = 0, time.process_time(), time.perf_counter()
    while time.perf_counter() - started < options.seconds:
        update()
        steps += 1
    wall = time.perf_counter() - started
    return {
        "steps": steps,
        "wall_s": wall,
        "cpu_s": time.process_time() - cpu,
        "peak_mb": peak_mb(),
    }


def text(rows: Sequence[dict[str, Any]]) -> str:
    header = ["processes", "R each", "threads", "run steps/s", "CPU ms / run step", "peak MB"]
    lines = [
        [str(r["processes"]), str(r["runs"]), str(r["threads"]), show(r["run_steps_per_s"], ",.1f"),
         show(r["cpu_ms_per_run_step"], ".3f"), show(r["peak_mb"], ",.0f")]
        for r in rows
    ]  # fmt: skip
    return table(header, lines)
