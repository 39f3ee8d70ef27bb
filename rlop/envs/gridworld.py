"""A random gridworld, after the one used to study implicit under-parameterization."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from rlop.config.checks import check_known
from rlop.envs.tabular import TabularMDP, check_distinct, check_noise, slippery
from rlop.types import InputError

MAX_SIZE = 32  # transition and reward are dense: 1024 cells take 84 MB
OBSERVATIONS = ("onehot", "smooth", "random", "tabular")
REWARDS = ("sparse", "distance")
# (dx, dy) of stay, up, down, left, right.
MOVES = np.array([[0, 0], [0, -1], [0, 1], [-1, 0], [1, 0]])
_TRIES = 1000  # draws of walls and goal before giving up
_SMOOTHINGS = 10  # sweeps of averaging, as in the code of Fu et al.


@dataclass(frozen=True, eq=False)
class GridWorld(TabularMDP):
    """The MDP of a gridworld, with the positions of its states.

    Args:
        cells: column and row of each state, `[S, 2]` int; row 0 is at the top.
        goal: the goal's state.
        size: columns and rows of the grid.
    """

    cells: np.ndarray
    goal: int
    size: int


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
    """Build a square grid with random walls, five actions and one goal.

    The actions are stay, up, down, left and right. The start is the cell (size // 2, size // 2). A
    quarter of the grid's cells is sampled among the free ones, and the one farthest from the start
    is the goal; walls and goal are drawn again until a path joins them. States are the cells that
    the start can reach, row by row: neither walls nor the free cells that they cut off. A move
    into a wall or off the grid leaves the agent in place.

    Rewards, where every transition also pays `step_reward`:
        sparse: `goal_reward` on entering the goal, which is terminal.
        distance: `goal_reward * (1 - d / d_max)` for the cell entered, d its Euclidean distance
            from the goal and d_max the largest of any state; the goal is not terminal, so staying
            there pays until the time limit.
    Observations:
        onehot: one-hot of the column, then one-hot of the row, `[2 * size]`; it generalizes along
            rows and columns.
        smooth: Gaussian, averaged 10 times over the cells that a uniformly random action leads to
            (each state in turn, in place), then divided by its standard deviation over states,
            `[obs_dim]`; nearby cells look alike.
        random: uniform in [-1, 1], independent, `[obs_dim]`; it does not generalize.
        tabular: one-hot of the state, `[S]`.

    Args:
        size: columns and rows, 2 to 32.
        walls: fraction of the cells that are walls, in [0, 1), or the (x, y) of each wall.
        observation: onehot, smooth, random or tabular.
        obs_dim: width of smooth and random observations.
        slip: probability that a uniformly random action replaces the agent's.
        reward: sparse or distance.
        seed: seed of walls, goal and observations; it gives the same walls and goal for every
            observation.
        goal_reward: see above.
        step_reward: see above.
    Returns:
        The MDP, with `cells`, `goal` and `size`.
    Raises:
        InputError: an impossible value, or walls that leave no path from the start to any goal.
    Reference: Kumar et al., "Implicit Under-Parameterization", ICLR 2021, arXiv:2010.14498, whose
        gridworlds come from Fu et al., "Diagnosing Bottlenecks in Deep Q-learning Algorithms",
        ICML 2019, arXiv:1902.10250.
    Differs from: the latter's code, where the goal pays but does not end the episode, states
        include walls and unreachable cells, reachability is not checked, smooth observations are
        not rescaled, and random draws differ.
    """
    check_noise(slip, obs_dim)
    check_known("observation", observation, OBSERVATIONS)
    check_known("reward", reward, REWARDS)
    if not isinstance(size, int) or not 2 <= size <= MAX_SIZE:
        raise InputError(f"size: expected an integer from 2 to {MAX_SIZE}, got {size!r}")

    # Two streams, so that the layout does not depend on the observations.
    layout_rng, observation_rng = np.random.default_rng(seed).spawn(2)
    free, goal_cell = _layout(size, walls, layout_rng)
    cells = np.argwhere(free)[:, ::-1]
    goal = int((cells == goal_cell).all(1).argmax())
    start = int((cells == size // 2).all(1).argmax())

    # Observations are smoothed over the moves of a goal that is not absorbing.
    transition = slippery(_successors(free, cells), slip)
    observations = _observe(observation, cells, size, obs_dim, transition, observation_rng)

    terminal = np.zeros(len(cells), bool)
    distance = np.linalg.norm(cells - cells[goal], axis=1)
    if reward == "sparse":
        share = distance == 0
        terminal[goal] = True
        transition[goal] = np.eye(len(cells))[goal]
    else:
        share = 1 - distance / distance.max()

    pay = np.broadcast_to(goal_reward * share + step_reward, transition.shape)
    return GridWorld(
        transition=transition,
        reward=pay * ~terminal[:, None, None],
        terminal=terminal,
        initial=np.eye(len(cells))[start],
        observations=observations,
        cells=cells,
        goal=goal,
        size=size,
    )


def ascii_map(world: GridWorld) -> str:
    """Draw the grid as text: S start, G goal, . other states, # walls and unreachable cells."""
    picture = np.full((world.size, world.size), "#")
    x, y = world.cells.T
    picture[y, x] = np.where(world.initial > 0, "S", ".")
    picture[y[world.goal], x[world.goal]] = "G"
    return "\n".join("".join(row) for row in picture)


def _check_walls(size: int, walls: float | Iterable[tuple[int, int]]) -> int | np.ndarray:
    """Return the number of walls to draw, or the given cells `[W, 2]`, checked."""
    if not isinstance(walls, Iterable):
        if not 0 <= walls < 1:
            raise InputError(f"walls: expected a fraction in [0, 1) or cells, got {walls}")
        return int(walls * size * size)

    cells = np.array(list(walls))
    are_pairs = cells.ndim == 2 and cells.shape[1] == 2 and cells.dtype.kind == "i"
    if len(cells) and not are_pairs:
        raise InputError(f"walls: expected a fraction or pairs of integers (x, y), got {walls!r}")

    cells = cells.reshape(-1, 2)
    is_outside = (cells < 0).any(1) | (cells >= size).any(1)
    is_start = (cells == size // 2).all(1)
    wrong = cells[is_outside | is_start]
    if len(wrong):
        x, y = wrong[0]
        grid = f"the {size} x {size} grid other than the start"
        raise InputError(f"walls: expected cells of {grid}, got ({x}, {y})")
    return cells.astype(int)


def _layout(
    size: int,
    walls: float | Iterable[tuple[int, int]],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw walls and a goal until a path joins start and goal.

    Returns:
        Cells that the start can reach, `[size, size]` bool by [y, x], and the goal's (x, y).
    """
    wanted = _check_walls(size, walls)
    start = size // 2

    for _ in range(_TRIES):
        free = _free_cells(size, wanted, rng)
        candidates = np.argwhere(free)[:, ::-1]
        candidates = candidates[(candidates != start).any(1)]
        sample = rng.permutation(candidates)[: max(1, size * size // 4)]
        if not len(sample):
            continue

        reachable = _reachable(free, start)
        goal = sample[np.linalg.norm(sample - start, axis=1).argmax()]
        x, y = goal
        if reachable[y, x]:
            return reachable, goal

    grid = f"{_TRIES} draws of a {size} x {size} grid"
    raise InputError(f"walls: no path from the start to a goal in {grid}")


def _free_cells(
    size: int,
    walls: int | np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the free cells, `[size, size]` bool; draw the walls if only their number is given."""
    free = np.ones((size, size), bool)
    if not isinstance(walls, int):
        x, y = walls.T
        free[y, x] = False
        return free

    start = size // 2
    others = np.delete(np.arange(size * size), start * size + start)
    drawn = rng.choice(others, min(walls, len(others)), replace=False)
    free.flat[drawn] = False
    return free


def _reachable(free: np.ndarray, start: int) -> np.ndarray:
    """Return the cells that the start can reach, `[size, size]` bool, by growing a region."""
    reached = np.zeros_like(free)
    reached[start, start] = True
    while True:
        padded = np.pad(reached, 1)
        up, down = padded[:-2, 1:-1], padded[2:, 1:-1]
        left, right = padded[1:-1, :-2], padded[1:-1, 2:]
        grown = free & (reached | up | down | left | right)

        if (grown == reached).all():
            return reached
        reached = grown


def _successors(free: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Return the state that each move leads to when it does not slip, `[S, A]`."""
    states = np.arange(len(cells))

    # A border of walls around the grid, so that no move leaves the table.
    number = np.full(np.array(free.shape) + 2, -1)
    number[1:-1, 1:-1][free] = states

    entered = cells[:, None] + MOVES + 1
    successor = number[entered[..., 1], entered[..., 0]]
    return np.where(successor < 0, states[:, None], successor)


def _observe(
    kind: str,
    cells: np.ndarray,
    size: int,
    obs_dim: int,
    transition: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the observation of each state, `[S, D]`; see `gridworld`."""
    n_states = len(cells)
    if kind == "tabular":
        return np.eye(n_states, dtype=np.float32)
    if kind == "onehot":
        return np.eye(size, dtype=np.float32)[cells].reshape(n_states, 2 * size)
    if kind == "random":
        return check_distinct(rng.uniform(-1, 1, (n_states, obs_dim)))

    obs = rng.standard_normal((n_states, obs_dim))
    random_walk = transition.mean(1)
    for _ in range(_SMOOTHINGS):
        for state in range(n_states):
            obs[state] = random_walk[state] @ obs
    return check_distinct(obs / obs.std(0))
