"""256 runs in one process, beside the same update in JAX on the same card."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

from rlop.agent import Agent
from rlop.data import Dataset
from scripts.bench import ours
from scripts.bench.answering import Answering, start_jax
from scripts.bench.arrays import difference, first_losses, write_arrays
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
COMPARED = 128  # updates in a call of JAX, the first of which is compared
TARGET_PERIOD = 128

GRIDWORLD = Problem("gridworld DQN 2x64", "dqn", hidden=(64, 64), batch=32, obs=(CELLS,), actions=5)
MINATAR = CASES["minatar"][0]
FORMS = {GRIDWORLD.name: ["xla"], MINATAR.name: ["xla", "im2col"]}


def stacks(problem: Problem, effort: Effort) -> Iterator[Row]:
    """Compare the losses of one call of JAX, then the cost, in turns."""
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

    contestants: dict[str, Answering] = {}
    notes: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "arrays.npz"
        losses = write_arrays(path, agent_of(problem, data, RUNS, effort.device), data, COMPARED)
        for form in FORMS[problem.name]:
            name = f"JAX, {form}, R = {RUNS}"
            try:
                contestants[name] = start_jax(path, "dqn", form, COMPARED, Path(folder, form))
            except (RuntimeError, ValueError, OSError) as error:
                notes[name] = str(error)

    found: dict[str, list[float]] = {name: [] for name in (*turns, *contestants)}
    try:
        for _ in range(effort.rounds):
            for name, turn in turns.items():
                found[name].append(rate(turn, counts[name], effort.device))
            for name, process in contestants.items():
                found[name].append(1e3 / process.times(effort.seconds)["wall"])
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
            row["peak MiB"] = first["device_mib"]
            row["first call, s"] = first["first_s"]
            row["losses differ by"] = difference(first_losses(first), losses)
            row["note"] = first["about"]
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


STACKS = [partial(stacks, problem) for problem in (GRIDWORLD, MINATAR)]
