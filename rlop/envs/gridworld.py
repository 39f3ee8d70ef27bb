"""A random gridworld, after the one used to study implicit under-parameterization."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from rlop.config.checks import check_known
from rlop.envs.tabular import TabularMDP, check_distinct
from rlop.types import InputError

MAX_SIZE = 32  # transition and reward are dense: 1024 cells take 84 MB
OBSERVATIONS = ("onehot", "smooth", "random", "tabular")
REWARDS = ("sparse", "distance")
MOVES = np.array(
    [[0, 0], [0, -1], [0, 1], [-1, 0], [1, 0]]
)  # (dx, dy) of stay, up, down, left, right
_TRIES = 1000


@dataclass(frozen=True, eq=False)
class GridWorld(TabularMDP):
    """The MDP of a gridworld, and where its states lie.

    Args:
        cells: column and row of each state, `[S, 2]` int; row 0 is at the top.
        goal: the goal's state.
        size: columns and rows of the grid.
    """

    cells: np.ndarray
    goal: int
    size: int


def slippery(following: np.ndarray, slip: float) -> np.ndarray:
    """Transition `[S, A, S]` of moves `[S, A]` when a uniformly random action is taken with probability `slip`."""
    intended = np.eye(len(following))[following]
    return (1 - slip) * intended + slip * intended.mean(1, keepdims=True)


def check_options(slip: float, obs_dim: int, **choices: tuple[str, tuple[str, ...]]) -> None:
    """Raise InputError for a slip that is no probability, obs_dim < 1, or a choice (found, allowed) not allowed."""
    if not 0 <= slip <= 1:
        raise InputError(f"slip: expected a probability in [0, 1], got {slip}")
    if obs_dim < 1:
        raise InputError(f"obs_dim: expected at least 1, got {obs_dim}")
    for name, (found, allowed) in choices.items():
        check_known(name, found, allowed)


def gridworld(
    size: int = 16,
    *,
    walls: float | Iterable[tuple[int, int]] = 0.2,
    observation: str = "onehot",
    obs_dim: int = 16,
    slip: float = 0.05,
    reward: str = "sparse",
    seed: int = 0,
    goal_reward: float = 1.0,
    step_reward: float = 0.0,
) -> GridWorld:
    """A square grid with random walls, five actions (stay, up, down, left, right) and one goal.

    The start is the cell (size // 2, size // 2). A quarter of the grid's cells is sampled among the free ones, and the
    one farthest from the start is the goal; walls and goal are drawn again until a path joins them. States are the
    cells that the start can reach, row by row: walls are none, nor are free cells behind walls. A move into a wall or
    off the grid leaves the agent in place.

    Rewards, where every transition also pays `step_reward`:
        sparse: `goal_reward` on entering the goal, which is terminal.
        distance: `goal_reward * (1 - d / d_max)` for the cell entered, d its Euclidean distance from the goal and
            d_max the largest of any state; the goal is not terminal, so staying there pays until the time limit.
    Observations:
        onehot: one-hot of the column, then one-hot of the row, `[2 * size]`; it generalises along rows and columns.
        smooth: Gaussian, averaged 10 times over the cells that a uniformly random action leads to (each state in
            turn, in place), then divided by its standard deviation over states, `[obs_dim]`; nearby cells look alike.
        random: uniform in [-1, 1], independent, `[obs_dim]`; it does not generalise.
        tabular: one-hot of the state, `[S]`.

    Args:
        size: columns and rows, 2 to 32.
        walls: fraction of the cells that are walls, in [0, 1), or the (x, y) of each wall.
        observation: onehot, smooth, random or tabular.
        obs_dim: width of smooth and random observations.
        slip: probability that a uniformly random action replaces the agent's.
        reward: sparse or distance.
        seed: of walls, goal and observations; the same seed gives the same walls and goal for every observation.
        goal_reward: see above.
        step_reward: see above.

    Returns:
        The MDP, with `cells`, `goal` and `size`.

    Raises:
        InputError: an impossible value, or walls that leave no path from the start to any goal.

    Reference: Kumar et al., "Implicit Under-Parameterization", ICLR 2021, arXiv:2010.14498, whose gridworlds come from
    Fu et al., "Diagnosing Bottlenecks in Deep Q-learning Algorithms", ICML 2019, arXiv:1902.10250.
    Differs from: the latter's code, where the goal pays but ends nothing, states include walls and unreachable cells,
    reachability is not checked, smooth observations are not rescaled, and random draws are other ones.
    """
    check_options(slip, obs_dim, observation=(observation, OBSERVATIONS), reward=(reward, REWARDS))
    if not isinstance(size, int) or not 2 <= size <= MAX_SIZE:
        raise InputError(f"size: expected an integer from 2 to {MAX_SIZE}, got {size!r}")
    layout, look = np.random.default_rng(seed).spawn(2)
    free, goal_cell = _layout(size, walls, layout)
    cells = np.argwhere(free)[:, ::-1]
    goal, start = (int((cells == cell).all(1).argmax()) for cell in (goal_cell, size // 2))
    transition = slippery(_following(free, cells), slip)
    observations = _observe(observation, cells, size, obs_dim, transition, look)
    terminal = np.zeros(len(cells), bool)
    distance = np.linalg.norm(cells - cells[goal], axis=1)
    pays = 1 - distance / distance.max()
    if reward == "sparse":
        pays = distance == 0
        terminal[goal] = True
        transition[goal] = np.eye(len(cells))[goal]
    rewards = (
        np.broadcast_to(goal_reward * pays + step_reward, transition.shape)
        * ~terminal[:, None, None]
    )
    initial = np.eye(len(cells))[start]
    return GridWorld(
        transition, rewards, terminal, initial, observations, cells=cells, goal=goal, size=size
    )


def ascii_map(world: GridWorld) -> str:
    """The grid as text: S start, G goal, . other states, # walls and whatever the start cannot reach."""
    picture = np.full((world.size, world.size), "#")
    picture[world.cells[:, 1], world.cells[:, 0]] = np.where(world.initial > 0, "S", ".")
    picture[world.cells[world.goal, 1], world.cells[world.goal, 0]] = "G"
    return "\n".join("".join(row) for row in picture)


def _walls(size: int, walls: float | Iterable[tuple[int, int]]) -> int | np.ndarray:
    """Number of walls to draw, or the cells given, checked."""
    if not isinstance(walls, Iterable):
        if not 0 <= walls < 1:
            raise InputError(f"walls: expected a fraction in [0, 1) or cells, got {walls}")
        return int(walls * size * size)
    cells = np.array(list(walls))
    if len(cells) and not (cells.ndim == 2 and cells.shape[1] == 2 and cells.dtype.kind == "i"):
        raise InputError(f"walls: expected a fraction or pairs of integers (x, y), got {walls!r}")
    cells = cells.reshape(-1, 2)
    wrong = (cells < 0).any(1) | (cells >= size).any(1) | (cells == size // 2).all(1)
    if wrong.any():
        x, y = cells[wrong][0]
        raise InputError(
            f"walls: expected cells of the {size} x {size} grid other than the start, got ({x}, {y})"
        )
    return cells.astype(int)


def _layout(
    size: int, walls: float | Iterable[tuple[int, int]], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Cells that the start can reach, `[size, size]` bool by [y, x], and the goal's (x, y)."""
    wanted, start = _walls(size, walls), size // 2
    for _ in range(_TRIES):
        free = np.ones((size, size), bool)
        if isinstance(wanted, int):
            others = np.delete(np.arange(size * size), start * size + start)
            free.flat[rng.choice(others, min(wanted, len(others)), replace=False)] = False
        else:
            free[wanted[:, 1], wanted[:, 0]] = False
        candidates = np.argwhere(free)[:, ::-1]
        candidates = candidates[(candidates != start).any(1)]
        sample = rng.permutation(candidates)[: max(1, size * size // 4)]
        reached = _reachable(free, start)
        if len(sample):
            goal = sample[np.linalg.norm(sample - start, axis=1).argmax()]
            if reached[goal[1], goal[0]]:
                return reached, goal
    raise InputError(
        f"walls: no path from the start to a goal in {_TRIES} draws of a {size} x {size} grid"
    )


def _reachable(free: np.ndarray, start: int) -> np.ndarray:
    reached = np.zeros_like(free)
    reached[start, start] = True
    while True:
        p = np.pad(reached, 1)
        grown = free & (p[1:-1, 1:-1] | p[:-2, 1:-1] | p[2:, 1:-1] | p[1:-1, :-2] | p[1:-1, 2:])
        if (grown == reached).all():
            return reached
        reached = grown


def _following(free: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """The state that each move leads to when it does not slip, `[S, A]`."""
    number = np.full(np.array(free.shape) + 2, -1)
    number[1:-1, 1:-1][free] = np.arange(len(cells))
    entered = cells[:, None] + MOVES + 1
    following = number[entered[..., 1], entered[..., 0]]
    return np.where(following < 0, np.arange(len(cells))[:, None], following)


def _observe(
    kind: str,
    cells: np.ndarray,
    size: int,
    obs_dim: int,
    transition: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    if kind == "tabular":
        return np.eye(len(cells), dtype=np.float32)
    if kind == "onehot":
        return np.eye(size, dtype=np.float32)[cells].reshape(len(cells), 2 * size)
    if kind == "random":
        return check_distinct(rng.uniform(-1, 1, (len(cells), obs_dim)))
    obs, walk = rng.standard_normal((len(cells), obs_dim)), transition.mean(1)
    for _ in range(10):
        for state, towards in enumerate(walk):
            obs[state] = towards @ obs
    return check_distinct(obs / obs.std(0))
