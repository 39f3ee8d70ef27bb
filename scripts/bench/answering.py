"""A contestant in a process of its own, which makes updates whenever it is asked to."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from scripts.bench import ours, plain
from scripts.bench.jax_tables import COMPILED, EAGER, PLAIN
from scripts.bench.measure import Times, Turn, Update, first_call, serve
from scripts.bench.problems import PROBLEMS, Problem, transitions

ROOT = Path(__file__).parents[2]
OURS: dict[str, dict[str, Any]] = {EAGER: {"compile": False}, COMPILED: {"compile": True}}


class Answering:
    """A process that prints a first line of JSON, and then answers numbers of seconds.

    Args:
        command: of the process; it serves by `scripts.bench.measure.serve`.
        environment: variables beside those of this process.
    Attributes:
        first: the first answer.
    Raises:
        RuntimeError: if it ends before its first answer.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        )
        try:
            self.first: dict[str, Any] = json.loads(self._answer())
        except BaseException:
            self.close()
            raise

    def _answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("its process ended; the error is above")
        return line

    def times(self, seconds: float) -> Times:
        """Return what an update takes, measured for about this long."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        times: Times = json.loads(self._answer())
        return times

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()  # waits for it, and closes its pipes


def start_ours(
    script: str, problem: Problem, contestant: str, runs: int, rows: int, cache: Path
) -> Answering:
    """Start the process of `answer`.

    Args:
        script: `scripts/benchmark.py`.
        problem: the problem.
        contestant: the plain script, or a key of `OURS`.
        runs: R.
        rows: transitions in memory.
        cache: folder of compiled code.
    """
    command = [script, "answer", problem.name, contestant, "--runs", str(runs)]
    environment = {"TORCHINDUCTOR_CACHE_DIR": str(cache), "OMP_NUM_THREADS": "1"}
    return Answering([*command, "--rows", str(rows)], environment)


def start_jax(arrays: Path, kind: str, form: str, updates: int, cache: Path) -> Answering:
    """Start the process of `scripts.bench.jaxed.process`, on one thread.

    Args:
        arrays: what it reads, see `scripts.bench.arrays`.
        kind: `dqn` or `cql`.
        form: of a convolution, `xla` or `im2col`.
        updates: in one call.
        cache: folder of compiled code.
    """
    command = ["-m", "scripts.bench.jaxed.process", str(arrays), kind, form, str(updates)]
    environment = {
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # of a GPU it would take all memory
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    return Answering(command, environment)


def answer(options: argparse.Namespace) -> None:
    """Make the first update of a contestant in PyTorch, then serve: the work of its process."""
    torch.set_num_threads(1)
    problem = PROBLEMS[options.problem]
    data = transitions(problem, options.rows)
    if options.contestant == PLAIN:
        turn = one_by_one(plain.build(problem, data))
    else:
        turn = ours.build(problem, data, options.runs, **OURS[options.contestant])

    _, seconds = first_call(turn)
    serve(turn, seconds)


def one_by_one(update: Update) -> Turn:
    """Return an update as a call that says it made one."""

    def turn() -> int:
        update()
        return 1

    return turn
