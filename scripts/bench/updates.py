"""`update`: one update of every contestant, in turn, next to the machine's matrix products."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NotRequired, TypeAlias, TypedDict
from unittest import mock

import torch

from rlop.data import Dataset
from scripts.bench import limit, ours, plain
from scripts.bench.measure import (
    Samples,
    Summary,
    Update,
    paired_ratio,
    peak_mb,
    race,
    show,
    summary,
    table,
)
from scripts.bench.problems import CASES, PROBLEMS, Problem, transitions

Builder: TypeAlias = Callable[[Problem, Dataset], Update]
Ratios: TypeAlias = dict[str, dict[str, float]]  # ours -> another -> times that ours is faster

OURS: dict[str, dict[str, Any]] = {
    "rlop": {},
    "rlop compiled": {"compile": True},
    "rlop bf16": {"precision": "bf16"},
    "rlop bf16 compiled": {"precision": "bf16", "compile": True},
}
PEERS = ("d3rlpy", "corl", "tianshou", "torchrl", "stable_baselines3")
# Who has the agents beside CQL and DQN; d3rlpy has no EDAC.
WITH_ACTOR = {
    "bc": ("d3rlpy", "corl"),
    "td3bc": ("d3rlpy", "corl"),
    "rebrac": ("d3rlpy", "corl"),
    "iql": ("d3rlpy", "corl"),
    "edac": ("corl",),
}
LIMITS = {"products fp32": torch.float32, "products bf16": torch.bfloat16}
NAMES = ("plain PyTorch", *OURS, *PEERS)
WARM_CALLS = 5  # of a process that measures its memory


class First(TypedDict, total=False):
    """Start of one contestant; empty if it cannot run."""

    build_s: float
    first_s: float  # of the first update
    peak_mb: float


class Contestant(TypedDict):
    """All numbers of one contestant."""

    cpu_ms: Summary
    wall_ms: Summary
    steps_per_s: float
    of_limit: float  # share of the matrix products in its time
    build_s: NotRequired[float]
    first_s: NotRequired[float]
    peak_mb: NotRequired[float]


class Result(TypedDict):
    """All numbers of one problem on a number of threads."""

    problem: str
    threads: int
    clock: str
    gflop: float
    contestants: dict[str, Contestant]
    notes: dict[str, str]  # contestant -> why it did not run
    ratios: dict[str, Ratios]  # by clock


class NotInstalledError(Exception):
    """The library of a peer, or one that it needs, is not installed."""


def benchmark(options: argparse.Namespace, script: str) -> Iterator[Result]:
    """Yield a result for each problem and number of threads, printed as it is measured."""
    problems: list[Problem] = []
    for case in options.cases:
        problems += CASES[case]

    # The first process that needs compiled code makes it, and the one that races reuses it.
    with (
        tempfile.TemporaryDirectory() as cache,
        mock.patch.dict(os.environ, {"TORCHINDUCTOR_CACHE_DIR": cache}),
    ):
        for threads in options.threads:
            for problem in problems:
                yield measure(problem, threads, options, script)


def measure(problem: Problem, threads: int, options: argparse.Namespace, script: str) -> Result:
    """Race all contestants of one problem."""
    names = [name for name in options.contestants if may_enter(name, problem)]
    first: dict[str, First] = {}
    if options.fresh:
        for name in names:
            first[name] = fresh(script, problem, name, threads, options.rows)

    torch.set_num_threads(threads)
    torch._dynamo.reset()  # compiled code is made for a number of threads
    updates, notes = build_all(problem, names, options.rows)
    racers = dict(updates)

    for name, dtype in LIMITS.items():
        if has_limit(name, updates):
            racers[name] = limit.build(problem, dtype)
    samples = race(racers, options.rounds, options.seconds)

    clock = "cpu" if threads == 1 else "wall"  # on one thread, other load does not count
    contestants: dict[str, Contestant] = {}
    for name in samples:
        contestants[name] = contestant(name, samples, first.get(name, {}), clock)

    result: Result = {
        "problem": problem.name,
        "threads": threads,
        "clock": clock,
        "gflop": limit.gflop(problem),
        "contestants": contestants,
        "notes": notes,
        "ratios": {kind: ratios(updates, samples, kind) for kind in ("cpu", "wall")},
    }
    print(text(result), flush=True)
    return result


def may_enter(name: str, problem: Problem) -> bool:
    """Return whether a contestant supports a problem.

    Only products between fully connected layers have a bf16 form. Stable-Baselines3 has no
    conservative agent, and its DQN has networks for vectors and for Atari's frames only. The policy
    of CORL's CQL has three layers.
    """
    if problem.kind in WITH_ACTOR:
        return name in (*OURS, *WITH_ACTOR[problem.kind])
    if name == "corl":
        return problem.kind == "cql" and len(problem.hidden) == 3
    if name == "stable_baselines3":
        return problem.kind == "dqn" and problem.network != "minatar"
    return problem.network == "mlp" or "bf16" not in name


def has_limit(name: str, updates: Iterable[str]) -> bool:
    """Return whether some contestant is compared with this limit."""
    return "bf16" not in name or any("bf16" in update for update in updates)


def builder(name: str) -> Builder:
    """Return the function that makes the update of a contestant.

    Raises:
        NotInstalledError: for a peer that cannot be imported.
    """
    if name in OURS:
        return partial(ours.build, **OURS[name])
    if name == "plain PyTorch":
        return plain.build
    try:
        module = importlib.import_module(f"scripts.bench.peers.{name}")
    except ModuleNotFoundError as error:
        raise NotInstalledError(f"not installed: {error.name}") from None

    return module.build


def build_all(
    problem: Problem, names: Sequence[str], rows: int
) -> tuple[dict[str, Update], dict[str, str]]:
    """Make the updates and run each once.

    A peer that fails gets a note; the others continue.

    Returns:
        The updates, and contestant -> why it did not run.
    """
    data = transitions(problem, rows)
    updates: dict[str, Update] = {}
    notes: dict[str, str] = {}

    for name in names:
        try:
            update = builder(name)(problem, data)
            update()
            updates[name] = update
        except NotInstalledError as error:
            notes[name] = str(error)
        except Exception as error:
            first_line = str(error).partition("\n")[0]
            notes[name] = f"{type(error).__name__}: {first_line}"

    return updates, notes


def contestant(name: str, samples: Mapping[str, Samples], first: First, clock: str) -> Contestant:
    """Collect all numbers of one contestant."""
    reference = "products bf16" if "bf16" in name else "products fp32"
    times = samples[name]
    return {
        "cpu_ms": summary(times["cpu"]),
        "wall_ms": summary(times["wall"]),
        "steps_per_s": 1e3 / summary(times[clock])["median"],
        "of_limit": paired_ratio(times[clock], samples[reference][clock]),
        **first,
    }


def ratios(updates: Iterable[str], samples: Mapping[str, Samples], clock: str) -> Ratios:
    """Compare each form of ours with every other contestant."""
    names = list(updates)
    result: Ratios = {}
    for name in names:
        if name in OURS:
            result[name] = {}
            for other in names:
                if other not in OURS:
                    ratio = paired_ratio(samples[name][clock], samples[other][clock])
                    result[name][other] = ratio

    return result


def text(result: Result) -> str:
    """Write two tables: the cost of every contestant, and how many times faster ours is."""
    problem, threads, gflop = result["problem"], result["threads"], result["gflop"]
    title = f"\n{problem}, {threads} thread(s): {gflop:.3f} GFLOP of products an update"
    header = ["", "CPU ms", "min-max", "wall ms", "steps/s"]
    header += ["GFLOP/s", "of limit", "first s", "peak MB"]
    rows = [cells(name, values, gflop) for name, values in result["contestants"].items()]

    for name, note in result["notes"].items():
        rows.append([name, note] + [""] * (len(header) - 2))
    parts = [title, table(header, rows)]

    faster = result["ratios"][result["clock"]]
    others = list(next(iter(faster.values()), {}))
    if others:
        rows = [[name, *map(show, by_other.values())] for name, by_other in faster.items()]
        parts += [f"times faster, by {result['clock']} time", table(["", *others], rows)]
    return "\n".join(parts)


def cells(name: str, values: Contestant, gflop: float) -> list[str]:
    """Write the row of one contestant."""
    cpu = values["cpu_ms"]
    return [
        name,
        show(cpu["median"]),
        f"{cpu['min']:.2f}-{cpu['max']:.2f}",
        show(values["wall_ms"]["median"]),
        show(values["steps_per_s"], ".1f"),
        show(gflop * values["steps_per_s"], ".1f"),
        show(values["of_limit"], ".0%"),
        show(values.get("first_s"), ".1f"),
        show(values.get("peak_mb"), ".0f"),
    ]


def fresh(script: str, problem: Problem, name: str, threads: int, rows: int) -> First:
    """Measure the start of one contestant in a fresh process; print why if it cannot run."""
    command = [sys.executable, script, "one", problem.name, name]
    command += ["--threads", str(threads), "--rows", str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{problem.name}, {name} alone: {done.stderr.strip().splitlines()[-1]}", flush=True)
        return {}
    return json.loads(done.stdout.splitlines()[-1])


def one(options: argparse.Namespace) -> First:
    """Time building and the first update, and take the memory after a few more.

    The work of the process that `fresh` starts.
    """
    torch.set_num_threads(options.threads)
    problem = PROBLEMS[options.problem]
    data = transitions(problem, options.rows)
    make = builder(options.contestant)

    started = time.perf_counter()
    update = make(problem, data)
    built = time.perf_counter()
    update()
    updated = time.perf_counter()

    for _ in range(WARM_CALLS):
        update()
    return {"build_s": built - started, "first_s": updated - built, "peak_mb": peak_mb()}
