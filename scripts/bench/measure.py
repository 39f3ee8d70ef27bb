"""Timing in turn, A B A B, and the statistics and tables of the results."""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TypeAlias, TypedDict, TypeVar

Update: TypeAlias = Callable[[], object]
Turn: TypeAlias = Callable[[], int]  # makes one call; returns the number of its updates
Result = TypeVar("Result")
Samples: TypeAlias = dict[str, list[float]]  # clock -> milliseconds of an update, one per round
PACKAGES = ("torch", "numpy", "jax", "d3rlpy", "tianshou", "torchrl", "stable-baselines3")


class Times(TypedDict):
    """Milliseconds of an update by clock, and the peak memory of its process in MB."""

    cpu: float
    wall: float
    peak_mb: float


class Summary(TypedDict):
    """Median, extremes and values of all rounds."""

    median: float
    min: float
    max: float
    rounds: list[float]


def race(updates: Mapping[str, Update], rounds: int, seconds: float) -> dict[str, Samples]:
    """Time every update in every round, each for about `seconds`.

    Since they take turns, all of them meet the same load of the machine.
    """
    counts = {name: repeats(update, seconds) for name, update in updates.items()}
    samples: dict[str, Samples] = {name: {"cpu": [], "wall": []} for name in updates}
    for _ in range(rounds):
        for name, update in updates.items():
            for clock, value in timed(update, counts[name]).items():
                samples[name][clock].append(value)
    return samples


def repeats(update: Update, seconds: float) -> int:
    """Return how many calls fit into this CPU time, at least one, in a round that warms up."""
    started = time.process_time()
    calls = 0
    while not calls or time.process_time() - started < seconds:
        update()
        calls += 1
    return calls


def timed(update: Update, calls: int) -> dict[str, float]:
    """Return the milliseconds of one update; see `made` for how many a call makes.

    `cpu` is the time of all threads of this process, `wall` is wall-clock time.
    """
    cpu_started = time.process_time()
    wall_started = time.perf_counter()
    count = sum(made(update()) for _ in range(calls))

    cpu = time.process_time() - cpu_started
    wall = time.perf_counter() - wall_started
    return {"cpu": cpu / count * 1e3, "wall": wall / count * 1e3}


def made(answer: object) -> int:
    """Return the number of updates of a call: what it returns, if that is a whole number, else 1.

    A compiled training makes up to 32 updates in a call and says so; the others return their loss.
    """
    return answer if isinstance(answer, int) else 1


def summary(values: Sequence[float]) -> Summary:
    """Summarize the rounds of one measurement."""
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "rounds": list(values),
    }


def paired_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return how many times faster ours is.

    The median over rounds of theirs / ours, so that what slows a whole round cancels.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"expected as many rounds of each, got {len(ours)} and {len(theirs)}")
    return statistics.median(b / a for a, b in zip(ours, theirs))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align columns, the first one to the left."""
    widths = [max(map(len, column)) for column in zip(header, *rows)]
    lines = []
    for row in (header, *rows):
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def show(value: float | None, form: str = ".2f") -> str:
    """Write a number, or a dash for none."""
    return "-" if value is None else format(value, form)


def serve(turn: Turn, first: Mapping[str, object]) -> None:
    """Print a first answer, then answer each line on stdin, a number of seconds, by `Times`.

    Args:
        turn: makes one call and returns the number of its updates.
        first: the first answer.
    """
    print(json.dumps(first), flush=True)
    for line in sys.stdin:
        print(json.dumps(times_of(turn, float(line))), flush=True)


def times_of(turn: Turn, seconds: float) -> Times:
    """Return what an update takes, from calls that fill about this many seconds."""
    updates = 0
    cpu_started = time.process_time()
    wall_started = time.perf_counter()
    while updates == 0 or time.perf_counter() - wall_started < seconds:
        updates += turn()

    cpu = time.process_time() - cpu_started
    wall = time.perf_counter() - wall_started
    return {"cpu": cpu / updates * 1e3, "wall": wall / updates * 1e3, "peak_mb": peak_mb()}


def first_call(call: Callable[[], Result]) -> tuple[Result, dict[str, float]]:
    """Make a call; return its result, and its seconds of wall-clock time and of CPU time.

    The CPU time is also that of the compilers which it starts.
    """
    wall_started, cpu_started = time.perf_counter(), sum(os.times()[:4])
    result = call()
    seconds = time.perf_counter() - wall_started
    return result, {"first_s": seconds, "first_cpu_s": sum(os.times()[:4]) - cpu_started}


def peak_mb() -> float:
    """Return the peak memory of this process, in MB."""
    status = Path("/proc/self/status")
    if status.exists():
        # What `getrusage` says begins with the memory of the process that started this one.
        lines = status.read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 2**10

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    per_mb = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    return peak / per_mb


def machine() -> dict[str, object]:
    """Describe the machine, for readers who compare its numbers with others."""
    import torch  # here, so that processes without it can time

    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None

    return {
        "cpu": cpu_name(),
        "cores": cores(),
        "load": os.getloadavg(),
        "python": platform.python_version(),
        "versions": versions,
        "vector_unit": torch.backends.cpu.get_cpu_capability(),
        "time": time.strftime("%Y-%m-%d %H:%M"),
    }


def cores() -> int | None:
    """Count the cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def cpu_name() -> str:
    """Return the model of the processor, if the system reports it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    for line in lines:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
