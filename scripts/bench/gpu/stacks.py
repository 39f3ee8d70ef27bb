"""256 runs in one process, beside the same update in JAX on the same card."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

from rlop.agent import Agent
from rlop.data import Dataset
from rlop.data.sampler import Streams, Table
from scripts.bench import ours
from scripts.bench.gpu.timing import (
    GRAPH,
    HOW,
    Effort,
    Memory,
    Row,
    Turn,
    calls_in,
    loop_of,
    measured,
    rate,
    spread,
    times,
)
from scripts.bench.problems import CASES, EPISODE, Problem, transitions

RUNS = 256
ROWS = 20_000
CELLS = 64  # of the gridworld
COMPARED = 20  # updates whose losses are compared
TARGET_PERIOD = 128  # as in jax_dqn.py
SCRIPT = Path(__file__).parent / "jax_dqn.py"

GRIDWORLD = Problem("gridworld DQN 2x64", "dqn", hidden=(64, 64), batch=32, obs=(CELLS,), actions=5)
MINATAR = CASES["minatar"][0]
FORMS = {GRIDWORLD.name: ["xla"], MINATAR.name: ["xla", "im2col"]}


class Jax:
    """A process that runs `jax_dqn.py`.

    Args:
        arrays: what it reads.
        form: of the convolution.
    """

    def __init__(self, arrays: Path, form: str) -> None:
        # It must not reserve the memory of the whole card, nor look for another platform.
        environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        command = [sys.executable, str(SCRIPT), str(arrays), form]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        try:
            self.first = json.loads(self._answer())
        except (RuntimeError, ValueError):
            self.close()
            raise

    def _answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the process of JAX ended; its error is above")
        return line

    def rate(self, seconds: float) -> float:
        """Return updates per second, measured for about this long."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        return float(json.loads(self._answer()))

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()  # waits for it, and closes its pipes


def stacks(problem: Problem, effort: Effort) -> Iterator[Row]:
    """Compare the losses of 20 updates, then the cost, in turns."""
    torch.backends.cudnn.allow_tf32 = False  # fp32 everywhere, in JAX too
    data = grid_data() if problem is GRIDWORLD else transitions(problem, ROWS)

    turns: dict[str, Turn] = {}
    memories: dict[str, Memory] = {}
    for runs, how in ((1, GRAPH), (RUNS, GRAPH), (RUNS, "eager")):
        make = partial(turn_of, problem, data, runs, HOW[how], effort.device)
        name = f"rlop, {how}, R = {runs}"
        turns[name], memories[name] = measured(make, effort.device)
    one, many, _ = turns
    counts = {name: calls_in(turn, effort) for name, turn in turns.items()}

    contestants: dict[str, Jax] = {}
    notes: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "arrays.npz"
        losses = write_arrays(path, problem, data, effort.device)
        for form in FORMS[problem.name]:
            name = f"JAX, {form}, R = {RUNS}"
            try:
                contestants[name] = Jax(path, form)
            except (RuntimeError, ValueError, OSError) as error:
                notes[name] = str(error)

    found: dict[str, list[float]] = {name: [] for name in (*turns, *contestants)}
    try:
        for _ in range(effort.rounds):
            for name, turn in turns.items():
                found[name].append(rate(turn, counts[name], effort.device))
            for name, process in contestants.items():
                found[name].append(process.rate(effort.seconds))
    finally:
        for process in contestants.values():
            process.close()

    for name, values in found.items():
        runs = 1 if name == one else RUNS
        row: Row = {"case": problem.name, "how": name}
        row |= spread([runs * value for value in values], "run updates/s")
        row["this over rlop's graph"] = times(values, found[many]) if runs > 1 else None
        if name in memories:
            row["peak MiB"], row["kept MiB"] = memories[name].peak, memories[name].reserved
            row["times R = 1"] = times([runs * value for value in values], found[one])
        else:
            first = contestants[name].first
            row["peak MiB"] = first["peak_mib"]
            row["first call, s"] = first["first_s"]
            row["losses differ by"] = relative(np.array(first["losses"]), losses)
            row["note"] = f"JAX {first['version']} on {first['device']}"
        yield row
    for name, note in notes.items():
        yield {"case": problem.name, "how": name, "note": note}


def turn_of(problem: Problem, data: Dataset, runs: int, launch: int, device: str) -> Turn:
    """Return one launch of rlop's own loop."""
    return loop_of(agent_of(problem, data, runs, device), data, launch).advance


def agent_of(problem: Problem, data: Dataset, runs: int, device: str) -> Agent:
    """Build the agent."""
    return ours.make_agent(problem, data, runs, device=device, target_period=TARGET_PERIOD)


def grid_data() -> Dataset:
    """Draw random transitions between the cells of a gridworld, one-hot."""
    rng = np.random.default_rng(0)
    cells = np.eye(CELLS, dtype=np.float32)[rng.integers(CELLS, size=ROWS + 1)]
    return Dataset.from_arrays(
        cells[:-1],
        rng.integers(GRIDWORLD.actions, size=ROWS),
        rng.standard_normal(ROWS, np.float32),
        np.zeros(ROWS, bool),
        np.arange(ROWS) % EPISODE == EPISODE - 1,
        cells[1:],
        n_actions=GRIDWORLD.actions,
        name="random cells",
    )


def write_arrays(path: Path, problem: Problem, data: Dataset, device: str) -> np.ndarray:
    """Write what the process of JAX reads; return rlop's losses on the same rows, `[K, R]`."""
    agent = agent_of(problem, data, RUNS, device)
    columns = agent.prepare(data).columns()
    table = Table(columns, device)
    rows, noise = Streams(agent.runs.seeds, agent.batch_size, len(table), agent.noise, device).take(
        COMPARED
    )
    arrays: dict[str, np.ndarray] = {
        "rows": rows.cpu().numpy(),
        "gamma": np.array(agent.runs.values["gamma"][0]),
        "lr": np.array(agent.runs.values["lr"][0]),
    }
    arrays |= {f"p/{name}": p.detach().cpu().numpy() for name, p in agent.main.parameters.items()}
    arrays |= {f"c/{name}": np.asarray(column) for name, column in columns.items()}
    np.savez(path, **arrays)  # type: ignore[arg-type]  # its overloads want no mapping

    losses = []
    for k in range(COMPARED):
        one = {name: values[k] for name, values in noise.items()}
        losses.append(agent.update(table.gather(rows[k]), one)["loss/total"])
    return torch.stack(losses).cpu().numpy()


def relative(a: np.ndarray, b: np.ndarray) -> float:
    """Return the largest difference relative to the value."""
    return float((np.abs(a - b) / np.abs(b)).max())


STACKS = [partial(stacks, problem) for problem in (GRIDWORLD, MINATAR)]
