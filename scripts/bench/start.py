"""`start`: what one waits for before the second update, each time in a fresh process."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from typing import Any
from unittest import mock

from scripts.bench.measure import show, table
from scripts.bench.problems import CASES
from scripts.bench.updates import fresh

IMPORT = """
import json, time
start = time.perf_counter(); import torch
middle = time.perf_counter(); import rlop, rlop.agents, rlop.training.loop
print(json.dumps([middle - start, time.perf_counter() - middle]))
"""
TIMES = 5
PROBLEMS = [CASES["dqn"][0], CASES["minatar"][0], CASES["cql"][0]]


def benchmark(options: Any, script: str) -> dict[str, Any]:
    """Seconds: imports, and building an agent plus its first update, eager and compiled."""
    torch_s, rlop_s = import_seconds()
    found: dict[str, Any] = {
        "import_torch_s": torch_s,
        "import_rlop_beyond_torch_s": rlop_s,
        "first": {},
    }
    print(f"import torch {torch_s:.2f} s, import rlop beyond it {rlop_s:.2f} s", flush=True)
    for problem in PROBLEMS:
        found["first"][problem.name] = first = {
            "eager": fresh(script, problem, "rlop", 1, options.rows)
        }
        with (
            tempfile.TemporaryDirectory() as cache,
            mock.patch.dict(os.environ, {"TORCHINDUCTOR_CACHE_DIR": cache}),
        ):
            for state in ("compiled, cold cache", "compiled, warm cache"):
                first[state] = fresh(script, problem, "rlop compiled", 1, options.rows)
        rows = [
            [f"{problem.name}, {how}", show(v.get("build_s")), show(v.get("first_s"))]
            for how, v in first.items()
        ]
        print(table(["", "build s", "first update s"], rows), flush=True)
    return found


def import_seconds() -> tuple[float, float]:
    """Medians over fresh processes, after one that fills the file cache."""
    rows = []
    for _ in range(TIMES + 1):
        done = subprocess.run(
            [sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True
        )
        rows.append(json.loads(done.stdout))
    first, second = zip(*rows[1:])
    return statistics.median(first), statistics.median(second)
