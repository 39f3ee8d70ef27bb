"""The work that is measured: shapes, the same for everybody, and random transitions of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlop.data import Dataset

EPISODE = 1000
SAMPLES = 10  # actions per conservative term of continuous CQL
TARGET_PERIOD = 500  # updates between two copies of a discrete agent's target network
IMAGE_ROWS = 2000  # Atari frames are large: 113 MB of stacks of four
# (channels, filters, kernel, stride) of each convolution
CONVOLUTIONS = {
    "minatar": [(4, 16, 3, 1)],
    "nature": [(4, 32, 8, 4), (32, 64, 4, 2), (64, 64, 3, 1)],
}


@dataclass(frozen=True)
class Problem:
    """One update to be timed.

    Args:
        name: as the tables call it.
        kind: `cql` with continuous actions; `dqn` or `discrete-cql`.
        network: `mlp`, `minatar` or `nature`.
        hidden: widths of the fully connected layers.
        batch: transitions in an update.
        obs: shape of an observation, as rlop's agents take it.
        actions: dimensions of a continuous action, or number of discrete ones.
    """

    name: str
    kind: str
    network: str = "mlp"
    hidden: tuple[int, ...] = (256, 256)
    batch: int = 256
    obs: tuple[int, ...] = (17,)
    actions: int = 6


MINATAR = {"network": "minatar", "hidden": (128,), "batch": 32, "obs": (10, 10, 4)}
NATURE = {"network": "nature", "hidden": (512,), "batch": 32, "obs": (4, 84, 84)}
CASES = {
    "cql": [Problem("CQL 2x256", "cql"), Problem("CQL 3x256", "cql", hidden=(256, 256, 256))],
    "dqn": [
        Problem("DQN 2x256, batch 32", "dqn", batch=32),
        Problem("DQN 2x256, batch 256", "dqn"),
        Problem("discrete CQL 2x256, batch 32", "discrete-cql", batch=32),
        Problem("discrete CQL 2x256, batch 256", "discrete-cql"),
    ],
    "minatar": [
        Problem("MinAtar DQN", "dqn", **MINATAR),
        Problem("MinAtar discrete CQL", "discrete-cql", **MINATAR),
    ],
    "nature": [
        Problem("Nature DQN", "dqn", **NATURE),
        Problem("Nature discrete CQL", "discrete-cql", **NATURE),
    ],
}
# What one process does with many runs, at the sizes of the scripts.
GRIDWORLD = Problem("gridworld DQN 2x128", "dqn", hidden=(128, 128), batch=32, obs=(16,), actions=5)
SIDE_BY_SIDE = [GRIDWORLD, CASES["minatar"][0], CASES["cql"][0]]
PROBLEMS = {problem.name: problem for group in [*CASES.values(), SIDE_BY_SIDE] for problem in group}


def transitions(problem: Problem, rows: int, env_id: str | None = None) -> Dataset:
    """Draw random transitions, in episodes of 1000 steps that time out.

    `env_id` is where an agent would be evaluated.
    """
    rng = np.random.default_rng(0)
    rows = min(rows, IMAGE_ROWS) if problem.network == "nature" else rows
    shape = (rows + 1, *problem.obs)
    if problem.network == "mlp":
        obs = rng.standard_normal(shape, np.float32)
    else:
        obs = rng.integers(256, size=shape, dtype=np.uint8)
        obs = obs > 200 if problem.network == "minatar" else obs  # MinAtar's channels are on or off
    continuous = problem.kind == "cql"
    return Dataset.from_arrays(
        obs[:-1],
        rng.uniform(-1, 1, (rows, problem.actions)).astype(np.float32)
        if continuous
        else rng.integers(problem.actions, size=rows),
        rng.standard_normal(rows, np.float32),
        np.zeros(rows, bool),
        np.arange(rows) % EPISODE == EPISODE - 1,
        obs[1:],
        n_actions=None if continuous else problem.actions,
        env_id=env_id,
        name=f"random transitions for {problem.name}",
    )


def channels_first(problem: Problem, obs: np.ndarray) -> np.ndarray:
    """Bring images to `[N, channels, height, width]`, as most libraries want them."""
    return np.ascontiguousarray(np.moveaxis(obs, -1, 1)) if problem.network == "minatar" else obs
