"""The problems that are timed: the same shapes for every contestant, and random transitions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlop.data import Dataset

EPISODE = 1000  # steps
SAMPLES = 10  # actions per conservative term of continuous CQL
TARGET_PERIOD = 500  # updates between two copies of a discrete agent's target network
IMAGE_ROWS = 2000  # Atari frames are large: 113 MB of stacks of four
CRITICS = 10  # of EDAC
ACTORS = ("bc", "td3bc", "rebrac", "iql", "edac")
CONTINUOUS = ("cql", *ACTORS)  # kinds of agents with continuous actions

# Network -> (channels, filters, kernel, stride) of each convolution.
CONVOLUTIONS = {
    "minatar": [(4, 16, 3, 1)],
    "nature": [(4, 32, 8, 4), (32, 64, 4, 2), (64, 64, 3, 1)],
}


@dataclass(frozen=True)
class Problem:
    """One update to be timed.

    Args:
        name: name in the tables.
        kind: one of `CONTINUOUS`; `dqn` or `discrete-cql`.
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
    "cql": [
        Problem("CQL 2x256", "cql"),
        Problem("CQL 3x256", "cql", hidden=(256, 256, 256)),
    ],
    "actors": [
        Problem("BC 2x256", "bc"),
        Problem("TD3+BC 2x256", "td3bc"),
        Problem("ReBRAC 3x256", "rebrac", hidden=(256, 256, 256)),
        Problem("IQL 2x256", "iql"),
        Problem("EDAC 3x256, 10 critics", "edac", hidden=(256, 256, 256)),
    ],
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

# Many runs in one process, at the sizes of the scripts.
GRIDWORLD = Problem("gridworld DQN 2x128", "dqn", hidden=(128, 128), batch=32, obs=(16,), actions=5)
SIDE_BY_SIDE = [GRIDWORLD, CASES["minatar"][0], CASES["cql"][0]]


def jax_problems() -> dict[str, Problem]:
    """Return the problems that are compared with JAX, by the name of their case."""
    problems = {}
    for kind, title in (("dqn", "DQN"), ("discrete-cql", "discrete CQL")):
        for width in (64, 256):
            for batch in (32, 256):
                name = f"{title} 2x{width}, batch {batch}"
                sizes = {"hidden": (width, width), "batch": batch}
                problems[f"{kind}-{width}-{batch}"] = Problem(name, kind, **sizes)
    return {**problems, "minatar": CASES["minatar"][0], "cql": CASES["cql"][0]}


JAX_PROBLEMS = jax_problems()


def all_problems() -> dict[str, Problem]:
    """Return every problem by its name."""
    problems = [*SIDE_BY_SIDE, *JAX_PROBLEMS.values()]
    for group in CASES.values():
        problems += group
    return {problem.name: problem for problem in problems}


PROBLEMS = all_problems()


def transitions(problem: Problem, rows: int, env_id: str | None = None) -> Dataset:
    """Draw random transitions in episodes of 1000 steps that time out.

    Args:
        problem: gives the shapes.
        rows: number of transitions; fewer for Atari's frames.
        env_id: environment in which an agent would be evaluated.
    """
    if problem.network == "nature":
        rows = min(rows, IMAGE_ROWS)
    rng = np.random.default_rng(0)
    obs = random_obs(problem, rows + 1, rng)

    is_continuous = problem.kind in CONTINUOUS
    if is_continuous:
        action = rng.uniform(-1, 1, (rows, problem.actions)).astype(np.float32)
    else:
        action = rng.integers(problem.actions, size=rows)
    return Dataset.from_arrays(
        obs[:-1],
        action,
        rng.standard_normal(rows, np.float32),
        np.zeros(rows, bool),
        np.arange(rows) % EPISODE == EPISODE - 1,
        obs[1:],
        n_actions=None if is_continuous else problem.actions,
        env_id=env_id,
        name=f"random transitions for {problem.name}",
    )


def random_obs(problem: Problem, rows: int, rng: np.random.Generator) -> np.ndarray:
    """Draw observations: numbers, bytes for Atari, and MinAtar's channels on or off."""
    shape = (rows, *problem.obs)
    if problem.network == "mlp":
        return rng.standard_normal(shape, np.float32)
    pixels = rng.integers(256, size=shape, dtype=np.uint8)
    return pixels > 200 if problem.network == "minatar" else pixels


def channels_first(problem: Problem, obs: np.ndarray) -> np.ndarray:
    """Arrange images as most libraries expect them, `[N, channels, height, width]`."""
    if problem.network != "minatar":
        return obs
    return np.ascontiguousarray(np.moveaxis(obs, -1, 1))
