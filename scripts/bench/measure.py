"""Timing in turn, A B A B, and the numbers that a table shows."""

from __future__ import annotations

import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

Update = Callable[[], object]
Samples = dict[str, list[float]]  # clock -> milliseconds of an update, one a round
PACKAGES = ("torch", "numpy", "d3rlpy", "tianshou", "torchrl", "stable-baselines3")


def race(updates: Mapping[str, Update], rounds: int, seconds: float) -> dict[str, Samples]:
    """Time every update in every round, each for about `seconds`, so that all of them meet the same neighbours."""
    counts = {name: repeats(update, seconds) for name, update in updates.items()}
    found: dict[str, Samples] = {name: {"cpu": [], "wall": []} for name in updates}
    for _ in range(rounds):
        for name, update in updates.items():
            for clock, value in timed(update, counts[name]).items():
                found[name][clock].append(value)
    return found


def repeats(update: Update, seconds: float) -> int:
    """How many updates last so long, after one that warms up."""
    update()
    once = min(timed(update, 1)["cpu"] for _ in range(2)) / 1e3
    return max(1, round(seconds / max(once, 1e-6)))


def timed(update: Update, count: int) -> dict[str, float]:
    """Milliseconds of one update: CPU time of all threads of this process, and time on the wall."""
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(count):
        update()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {"cpu": cpu / count * 1e3, "wall": wall / count * 1e3}


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Median, extremes and the rounds themselves."""
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "rounds": list(values),
    }


def paired_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Times that ours is faster: median over rounds of theirs / ours, so that what slows a round cancels."""
    if len(ours) != len(theirs):
        raise ValueError(f"expected as many rounds of each, got {len(ours)} and {len(theirs)}")
    return statistics.median(b / a for a, b in zip(ours, theirs))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns, the first one to the left."""
    widths = [max(map(len, column)) for column in zip(header, *rows)]
    lines = [[cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))]
             for row in (header, *rows)]  # fmt: skip
    return "\n".join("  ".join(line).rstrip() for line in lines)


def show(value: float | None, form: str = ".2f") -> str:
    """A number, or a dash where there is none."""
    return "-" if value is None else format(value, form)


def peak_mb() -> float:
    """Most memory this process ever held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        2**10 if sys.platform != "darwin" else 2**20
    )


def machine() -> dict[str, Any]:
    """What a reader must know to compare numbers with others."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "load": os.getloadavg(),
        "python": platform.python_version(),
        "versions": versions,
        "vector_unit": torch.backends.cpu.get_cpu_capability(),
        "time": time.strftime("%Y-%m-%d %H:%M"),
    }


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )
