"""`update`: one update of everybody, interleaved, next to the limit of the matrix products."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any
from unittest import mock

import torch

from rlop.data import Dataset
from scripts.bench import limit, ours, plain
from scripts.bench.measure import Samples, Update, paired_ratio, peak_mb, race, show, summary, table
from scripts.bench.problems import CASES, PROBLEMS, Problem, transitions

Builder = Callable[[Problem, Dataset], Update]
OURS = {
    "rlop": {},
    "rlop compiled": {"compile": True},
    "rlop bf16": {"precision": "bf16"},
    "rlop bf16 compiled": {"precision": "bf16", "compile": True},
}
PEERS = ("d3rlpy", "tianshou", "torchrl", "stable_baselines3")
LIMITS = {"products fp32": torch.float32, "products bf16": torch.bfloat16}
NAMES = ("plain PyTorch", *OURS, *PEERS)
WARM_CALLS = 5  # of a process that measures its memory


class NotInstalledError(Exception):
    """A peer's library, or one that it needs, is not there."""


def benchmark(options: Any, script: str) -> Iterable[dict[str, Any]]:
    """One record for each problem and number of threads, printed as it is found."""
    with (
        tempfile.TemporaryDirectory() as cache,
        mock.patch.dict(os.environ, {"TORCHINDUCTOR_CACHE_DIR": cache}),
    ):
        # The first process that needs compiled code makes it; the one that races finds it there.
        for threads in options.threads:
            for problem in (problem for case in options.cases for problem in CASES[case]):
                yield measure(problem, threads, options, script)


def measure(problem: Problem, threads: int, options: Any, script: str) -> dict[str, Any]:
    names = [name for name in options.contestants if may_enter(name, problem)]
    alone = {
        name: fresh(script, problem, name, threads, options.rows) for name in names if options.fresh
    }
    torch.set_num_threads(threads)
    torch._dynamo.reset()  # compiled code is made for a number of threads
    updates, notes = build_all(problem, names, options.rows)
    limits = {
        name: limit.build(problem, dtype)
        for name, dtype in LIMITS.items()
        if has_limit(name, updates)
    }
    samples = race({**updates, **limits}, options.rounds, options.seconds)
    clock = "cpu" if threads == 1 else "wall"  # one thread: other people's load does not count
    found = {
        "problem": problem.name,
        "threads": threads,
        "clock": clock,
        "gflop": limit.gflop(problem),
        "contestants": {name: row(name, samples, alone.get(name, {}), clock) for name in samples},
        "notes": notes,
        "ratios": {how: ratios(updates, samples, how) for how in ("cpu", "wall")},
    }
    print(text(found), flush=True)
    return found


def may_enter(name: str, problem: Problem) -> bool:
    """Tell whether a contestant can solve the problem.

    Only products between fully connected layers have a bf16 form. Stable-Baselines3 has no
    conservative agent; its DQN has networks for vectors and for Atari's frames.
    """
    if name == "stable_baselines3":
        return problem.kind == "dqn" and problem.network != "minatar"
    return problem.network == "mlp" or "bf16" not in name


def has_limit(name: str, updates: Iterable[str]) -> bool:
    return "bf16" not in name or any("bf16" in update for update in updates)


def builder(name: str) -> Builder:
    """What makes the update of a contestant.

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
    """Return updates that have run once; why another did not is a line, not the end."""
    data, updates, notes = transitions(problem, rows), {}, {}
    for name in names:
        try:
            update = builder(name)(problem, data)
            update()
            updates[name] = update
        except NotInstalledError as error:
            notes[name] = str(error)
        except Exception as error:
            notes[name] = (
                f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            )
    return updates, notes


def row(
    name: str, samples: Mapping[str, Samples], alone: Mapping[str, float], clock: str
) -> dict[str, Any]:
    """All numbers of one contestant."""
    reference = "products bf16" if "bf16" in name else "products fp32"
    return {
        **{f"{key}_ms": summary(values) for key, values in samples[name].items()},
        "steps_per_s": 1e3 / summary(samples[name][clock])["median"],
        "of_limit": paired_ratio(samples[name][clock], samples[reference][clock]),
        **alone,
    }


def ratios(
    updates: Iterable[str], samples: Mapping[str, Samples], clock: str
) -> dict[str, dict[str, float]]:
    """Ours -> everybody else -> how many times faster we are."""
    names = list(updates)
    others = [name for name in names if name not in OURS]
    return {
        own: {other: paired_ratio(samples[own][clock], samples[other][clock]) for other in others}
        for own in names
        if own in OURS
    }


def text(found: Mapping[str, Any]) -> str:
    """Write the tables of a problem: everybody's cost, and how many times faster ours are."""
    title = (
        f"\n{found['problem']}, {found['threads']} thread(s): "
        f"{found['gflop']:.3f} GFLOP of products an update"
    )
    header = [
        "",
        "CPU ms",
        "min-max",
        "wall ms",
        "steps/s",
        "GFLOP/s",
        "of limit",
        "first s",
        "peak MB",
    ]
    rows = [cells(name, values, found["gflop"]) for name, values in found["contestants"].items()]
    rows += [[name, note] + [""] * (len(header) - 2) for name, note in found["notes"].items()]
    faster = found["ratios"][found["clock"]]
    others = list(next(iter(faster.values()), {}))
    ratio_rows = [
        [own, *(show(values[other]) for other in others)] for own, values in faster.items()
    ]
    parts = [title, table(header, rows)]
    if others and ratio_rows:
        parts += [f"times faster, by {found['clock']} time", table(["", *others], ratio_rows)]
    return "\n".join(parts)


def cells(name: str, values: Mapping[str, Any], gflop: float) -> list[str]:
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


def fresh(script: str, problem: Problem, name: str, threads: int, rows: int) -> dict[str, float]:
    """Measure first call and peak memory of one contestant in its own process.

    The result is empty, with a line why, if it cannot run.
    """
    command = [
        sys.executable,
        script,
        "one",
        problem.name,
        name,
        "--threads",
        str(threads),
        "--rows",
        str(rows),
    ]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        print(f"{problem.name}, {name} alone: {found.stderr.strip().splitlines()[-1]}", flush=True)
        return {}
    return json.loads(found.stdout.splitlines()[-1])


def one(options: Any) -> dict[str, float]:
    """Measure, for `fresh`, seconds to build and to update once, and peak memory after a few more.
    """
    torch.set_num_threads(options.threads)
    problem = PROBLEMS[options.problem]
    data, make = transitions(problem, options.rows), builder(options.contestant)
    started = time.perf_counter()
    update = make(problem, data)
    built = time.perf_counter()
    update()
    first = time.perf_counter()
    for _ in range(WARM_CALLS):
        update()
    return {"build_s": built - started, "first_s": first - built, "peak_mb": peak_mb()}
