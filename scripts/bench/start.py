"""`start`: the wait before the second update, each time in a fresh process."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from typing import TypedDict
from unittest import mock

from scripts.bench.measure import show, table
from scripts.bench.problems import CASES, Problem
from scripts.bench.updates import First, fresh

IMPORT = """
import json, time
start = time.perf_counter(); import torch
middle = time.perf_counter(); import rlop, rlop.agents, rlop.training.loop
print(json.dumps([middle - start, time.perf_counter() - middle]))
"""
TIMES = 5
PROBLEMS = [CASES["dqn"][0], CASES["minatar"][0], CASES["cql"][0]]


class Start(TypedDict):
    """Seconds of imports, and of building an agent and its first update by problem and form."""

    import_torch_s: float
    import_rlop_beyond_torch_s: float
    first: dict[str, dict[str, First]]


def benchmark(options: argparse.Namespace, script: str) -> Start:
    """Time imports, and building an agent plus its first update, eager and compiled."""
    torch_s, rlop_s = import_seconds()
    print(f"import torch {torch_s:.2f} s, import rlop beyond it {rlop_s:.2f} s", flush=True)

    first: dict[str, dict[str, First]] = {}
    for problem in PROBLEMS:
        forms = first_updates(script, problem, options.rows)
        first[problem.name] = forms
        rows = []
        for form, seconds in forms.items():
            build, update = show(seconds.get("build_s")), show(seconds.get("first_s"))
            rows.append([f"{problem.name}, {form}", build, update])
        print(table(["", "build s", "first update s"], rows), flush=True)

    return {"import_torch_s": torch_s, "import_rlop_beyond_torch_s": rlop_s, "first": first}


def first_updates(script: str, problem: Problem, rows: int) -> dict[str, First]:
    """Time the first update, eager, and compiled without and with a filled cache."""
    forms = {"eager": fresh(script, problem, "rlop", 1, rows)}
    with (
        tempfile.TemporaryDirectory() as cache,
        mock.patch.dict(os.environ, {"TORCHINDUCTOR_CACHE_DIR": cache}),
    ):
        for form in ("compiled, cold cache", "compiled, warm cache"):
            forms[form] = fresh(script, problem, "rlop compiled", 1, rows)

    return forms


def import_seconds() -> tuple[float, float]:
    """Return medians over fresh processes for torch, and for rlop beyond it."""
    torch_seconds = []
    rlop_seconds = []
    for _ in range(TIMES + 1):
        done = subprocess.run(
            [sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True
        )
        of_torch, of_rlop = json.loads(done.stdout)
        torch_seconds.append(of_torch)
        rlop_seconds.append(of_rlop)

    # The first process fills the file cache.
    return statistics.median(torch_seconds[1:]), statistics.median(rlop_seconds[1:])
