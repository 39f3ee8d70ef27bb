"""Offline data from a tabular MDP, in the columns of D4RL's files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np

from rlop.config.checks import check_known, check_range
from rlop.envs.stepping import sample_next, successors
from rlop.envs.tabular import TabularMDP, optimal_q, state_index
from rlop.types import InputError

# Episodes simulated at once. Changing it changes the data that a seed gives.
PARALLEL = 1024

# Largest distance of a count from a whole number that is still rounding.
COUNT_TOLERANCE = 1e-6


class Coverage(TypedDict):
    """Coverage of an MDP by a data set; terminal states, which have no actions, are left out."""

    counts: np.ndarray  # rows of each pair, [S, A] int64
    pairs: float  # fraction that has a row
    states: float  # fraction that has a row
    episodes: int  # an unfinished last one included
    mean_return: float  # undiscounted


def generate(
    mdp: TabularMDP,
    steps: int,
    *,
    epsilon: float | Sequence[float] = 0.3,
    gamma: float = 0.99,
    max_episode_steps: int = 50,
    seed: int = 0,
    start: str = "initial",
    noise: float = 0.0,
) -> dict[str, np.ndarray]:
    """Roll out epsilon-greedy policies around the optimal one.

    Each episode draws its epsilon uniformly from the given ones. At each step it acts uniformly at
    random with that probability, else greedily with respect to Q*. Rows are in order, episode after
    episode; the last episode is cut at `steps` and marked as a time-out there. With the same seed,
    fewer steps give the beginning of the same data.

    Args:
        mdp: the process.
        steps: number of transitions N.
        epsilon: probability of a random action, or several for a mixture of policies.
        gamma: discount of Q*.
        max_episode_steps: steps after which an episode ends as a time-out.
        seed: of everything drawn.
        start: initial (from `mdp.initial`) or uniform (over the states that are not terminal).
        noise: standard deviation of what is added to every observation, so that none repeats; the
            next observation of a row is the observation of the row that follows.

    Returns:
        observations, next_observations `[N, *obs_shape]` float32; actions `[N]` int64; rewards
        `[N]` float32; terminals, timeouts `[N]` bool, never both true; infos/state,
        infos/next_state `[N]` int64; infos/next_policy `[N, A]` float32, the probabilities with
        which the episode's policy acts in the next state.

    Raises:
        InputError: an impossible value.
    """
    epsilons = _check_epsilon(epsilon)
    check_range("noise", noise, low=0)
    if steps < 1 or max_episode_steps < 1:
        raise InputError(
            f"steps, max_episode_steps: expected at least 1, got {steps}, {max_episode_steps}"
        )

    first = _first_state(mdp, start)
    greedy = optimal_q(mdp, gamma).argmax(1)
    table = successors(mdp)
    rng = np.random.default_rng(seed)

    blocks: list[np.ndarray] = []
    rows = 0
    while rows < steps:
        block = _episodes(mdp, table, first, greedy, epsilons, max_episode_steps, rng)
        blocks.append(block)
        rows += block.shape[1]

    rolled = np.concatenate(blocks, axis=1)[:, :steps]
    state, action, following, last, which = rolled
    last[-1] = 1  # the data stop in the middle of an episode

    columns = _columns(mdp, state, action, following, last > 0)
    chances = _epsilon_greedy(greedy[following], epsilons[which], mdp.n_actions)
    columns["infos/next_policy"] = chances.astype(np.float32)
    return _blurred(columns, noise, rng) if noise else columns


def full_coverage(mdp: TabularMDP, repeats: int = 1) -> dict[str, np.ndarray]:
    """List every state-action pair `repeats` times, with exact frequencies of its successors.

    `repeats * P(s' | s, a)` rows lead to s'. The empirical model of these data is the MDP itself,
    so the fixed point of offline Q-learning on them is Q*. For a deterministic MDP any number of
    repeats will do; otherwise it must make all these counts whole (100 for a gridworld with five
    actions and slip 0.05). Terminal states have no rows. Each row is an episode of one step:
    terminal if the next state is, a time-out if not.

    Args:
        mdp: the process.
        repeats: rows per pair.

    Returns:
        The columns of `generate`, ordered by state, action and next state.

    Raises:
        InputError: repeats below 1, or counts that are not whole.
    """
    if repeats < 1:
        raise InputError(f"repeats: expected at least 1, got {repeats}")

    exact = mdp.transition[~mdp.terminal] * repeats
    count = np.rint(exact).astype(np.int64)
    off = np.abs(exact - count).max(initial=0.0)
    if off > COUNT_TOLERANCE:
        raise InputError(
            f"repeats: {repeats} times a transition probability "
            f"is {off:.3g} away from a whole number"
        )

    times = count[count > 0]
    row, action, following = (np.repeat(index, times) for index in np.nonzero(count))
    state = np.flatnonzero(~mdp.terminal)[row]
    return _columns(mdp, state, action, following, np.ones(len(state), bool))


def coverage(data: Mapping[str, np.ndarray], mdp: TabularMDP) -> Coverage:
    """Measure how much of an MDP a data set has seen.

    Args:
        data: columns as from `generate`; where infos/state is missing, states are found from the
            observations.
        mdp: the process.

    Raises:
        InputError: no rows, or an observation of no state of the MDP.
    """
    if len(data["actions"]) == 0:
        raise InputError("actions: expected at least one row, got none")

    if "infos/state" in data:
        state = np.asarray(data["infos/state"])
    else:
        state = state_index(mdp, data["observations"])

    pair = state * mdp.n_actions + np.asarray(data["actions"])
    n_pairs = mdp.n_states * mdp.n_actions
    counts = np.bincount(pair, minlength=n_pairs)
    counts = counts.reshape(mdp.n_states, mdp.n_actions)
    seen = counts[~mdp.terminal] > 0

    ends = data["terminals"] | data["timeouts"]
    begins = np.flatnonzero(np.append(True, ends[:-1]))
    rewards = np.asarray(data["rewards"], np.float64)
    returns = np.add.reduceat(rewards, begins)

    return {
        "counts": counts,
        "pairs": float(seen.mean()),
        "states": float(seen.any(1).mean()),
        "episodes": len(begins),
        "mean_return": float(returns.mean()),
    }


def _check_epsilon(epsilon: float | Sequence[float]) -> np.ndarray:
    """Return one or several probabilities as `[K]` float64."""
    epsilons = np.atleast_1d(np.asarray(epsilon, np.float64))
    in_range = (epsilons >= 0) & (epsilons <= 1)
    if epsilons.ndim != 1 or len(epsilons) == 0 or not in_range.all():
        raise InputError(f"epsilon: expected probabilities in [0, 1], got {epsilon}")
    return epsilons


def _first_state(mdp: TabularMDP, start: str) -> np.ndarray:
    """Return the distribution of the first state, `[S]`."""
    check_known("start", start, ("initial", "uniform"))
    if start == "initial":
        return mdp.initial
    return ~mdp.terminal / (~mdp.terminal).sum()


def _episodes(
    mdp: TabularMDP,
    table: tuple[np.ndarray, np.ndarray],
    first: np.ndarray,
    greedy: np.ndarray,
    epsilons: np.ndarray,
    max_episode_steps: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Simulate whole episodes in parallel and line them up one after another.

    Returns:
        State, action, next state, whether it is the last row, and which of the epsilons acted,
        `[5, rows]` int64.
    """
    state = rng.choice(mdp.n_states, size=PARALLEL, p=first)
    which = rng.choice(len(epsilons), size=PARALLEL)
    epsilon = epsilons[which]
    alive = np.ones(PARALLEL, bool)

    steps: list[np.ndarray] = []  # each [6, episodes]
    for step in range(max_episode_steps):
        wander = rng.random(PARALLEL) < epsilon
        random_action = rng.integers(mdp.n_actions, size=PARALLEL)
        action = np.where(wander, random_action, greedy[state])
        following = sample_next(table, state, action, rng)
        last = mdp.terminal[following] | (step == max_episode_steps - 1)
        steps.append(np.stack([state, action, following, last, which, alive]))

        alive = alive & ~last
        state = following
        if not alive.any():
            break

    episodes = np.stack(steps, axis=2)  # [6, episodes, time]
    was_alive = episodes[5] > 0
    return episodes[:5, was_alive]


def _epsilon_greedy(greedy: np.ndarray, epsilon: np.ndarray, n_actions: int) -> np.ndarray:
    """Return probabilities `[N, A]` of an action `[N]` with probability 1 - epsilon, else any."""
    chances = np.repeat(epsilon[:, None] / n_actions, n_actions, axis=1)
    chances[np.arange(len(greedy)), greedy] += 1 - epsilon
    return chances


def _blurred(
    columns: dict[str, np.ndarray], noise: float, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Add noise to every observation; a row that is not the last leads to the next row's."""
    obs, following = columns["observations"], columns["next_observations"]
    noisy = (obs + noise * rng.standard_normal(obs.shape)).astype(np.float32)
    next_noisy = (following + noise * rng.standard_normal(obs.shape)).astype(np.float32)

    goes_on = np.flatnonzero(~(columns["terminals"] | columns["timeouts"]))
    next_noisy[goes_on] = noisy[goes_on + 1]
    return columns | {"observations": noisy, "next_observations": next_noisy}


def _columns(
    mdp: TabularMDP,
    state: np.ndarray,
    action: np.ndarray,
    following: np.ndarray,
    last: np.ndarray,
) -> dict[str, np.ndarray]:
    """Return the columns of D4RL's files for transitions `[N]` between states."""
    terminals = mdp.terminal[following]
    return {
        "observations": mdp.observations[state],
        "actions": action,
        "rewards": mdp.reward[state, action, following].astype(np.float32),
        "next_observations": mdp.observations[following],
        "terminals": terminals,
        "timeouts": last & ~terminals,
        "infos/state": state,
        "infos/next_state": following,
    }
