"""Data rolled out on tabular MDPs: their columns, behavior and coverage."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rlop.data.formats.generate import coverage, full_coverage, generate
from rlop.envs import (
    chain,
    epsilon_greedy,
    gridworld,
    optimal_q,
    policy_return_undiscounted,
    state_index,
)
from rlop.envs.stepping import sample_next, successors
from rlop.types import InputError

WORLDS = {
    "chain": lambda: chain(6, slip=0.1),
    "sparse": lambda: gridworld(6, observation="random"),
    "distance": lambda: gridworld(6, reward="distance"),
}


@pytest.mark.parametrize("name", WORLDS)
def test_columns_fit_the_mdp_and_each_other(name):
    mdp, n = WORLDS[name](), 3001
    data = generate(mdp, n, epsilon=0.4, max_episode_steps=11)
    assert {key: (len(column), column.dtype.str) for key, column in data.items()} == {
        "observations": (n, "<f4"),
        "actions": (n, "<i8"),
        "rewards": (n, "<f4"),
        "next_observations": (n, "<f4"),
        "terminals": (n, "|b1"),
        "timeouts": (n, "|b1"),
        "infos/state": (n, "<i8"),
        "infos/next_state": (n, "<i8"),
        "infos/next_policy": (n, "<f4"),
    }

    state, following = data["infos/state"], data["infos/next_state"]
    np.testing.assert_array_equal(state_index(mdp, data["observations"]), state)
    np.testing.assert_array_equal(state_index(mdp, data["next_observations"]), following)
    assert (mdp.transition[state, data["actions"], following] > 0).all()
    np.testing.assert_array_equal(
        data["rewards"], mdp.reward[state, data["actions"], following].astype(np.float32)
    )

    np.testing.assert_array_equal(data["terminals"], mdp.terminal[following])
    assert not (data["terminals"] & data["timeouts"]).any()
    ends = data["terminals"] | data["timeouts"]
    assert ends[-1]
    inside = ~ends[:-1]
    np.testing.assert_array_equal(following[:-1][inside], state[1:][inside])
    np.testing.assert_array_equal(
        data["next_observations"][:-1][inside], data["observations"][1:][inside]
    )
    assert (mdp.initial[state[1:][ends[:-1]]] > 0).all()

    length = np.diff(np.flatnonzero(np.concatenate([[True], ends])))
    timed_out = data["timeouts"][ends]
    assert (length <= 11).all()
    assert (length[:-1][timed_out[:-1]] == 11).all()  # the last episode may be cut short
    assert timed_out.any()
    assert data["terminals"].any() == (name != "distance")


def test_the_seed_decides_and_more_steps_continue_the_same_data():
    mdp = gridworld(5)
    data = generate(mdp, 500, seed=1)
    again = generate(mdp, 500, seed=1)
    longer = generate(mdp, 20_000, seed=1)
    for key in data:
        np.testing.assert_array_equal(data[key], again[key])
        if key != "timeouts":  # the shorter data end in the middle of an episode
            np.testing.assert_array_equal(data[key], longer[key][:500])

    other = generate(mdp, 500, seed=2)
    assert (data["actions"] != other["actions"]).any()


def test_actions_are_epsilon_greedy():
    mdp, epsilon = gridworld(4, walls=0.0, slip=0.3), 0.5
    data = generate(mdp, 40_000, epsilon=epsilon, gamma=0.9, start="uniform")
    p = epsilon_greedy(optimal_q(mdp, 0.9), epsilon)

    counts = coverage(data, mdp)["counts"]
    visits = counts.sum(1, keepdims=True)
    assert (visits[~mdp.terminal] > 300).all()
    band = 4 * np.sqrt(visits * p * (1 - p))
    assert (np.abs(counts - visits * p) <= band).all()


def test_every_episode_keeps_one_epsilon():
    # On a chain without slip epsilon 0 always takes 5 steps; epsilon 1 does in 1 of 32 episodes.
    data = generate(chain(6), 60_000, epsilon=(0.0, 1.0), max_episode_steps=200)
    ends = np.flatnonzero(data["terminals"] | data["timeouts"])
    length = np.diff(np.append(-1, ends))

    p = 0.5 + 0.5 / 32
    deviation = np.sqrt(p * (1 - p) / len(length))
    assert abs((length == 5).mean() - p) < 4 * deviation


def test_mean_return_is_that_of_the_behavior_policy():
    mdp = gridworld(5, reward="distance", seed=2)
    behavior = epsilon_greedy(optimal_q(mdp, 0.99), 0.6)
    data = generate(mdp, 20 * 1500, epsilon=0.6, max_episode_steps=20)
    report = coverage(data, mdp)
    assert report["episodes"] == 1500

    expected = policy_return_undiscounted(mdp, behavior, 20)
    deviation = data["rewards"].reshape(1500, 20).sum(1).std() / np.sqrt(1500)
    assert abs(report["mean_return"] - expected) < 4 * deviation


def test_starts():
    mdp = chain(5)
    uniform = generate(mdp, 4000, epsilon=0.0, start="uniform")
    first = uniform["infos/state"][np.append(True, uniform["terminals"][:-1])]
    share = np.bincount(first, minlength=5) / len(first)
    assert share[4] == 0  # the terminal state
    deviation = np.sqrt(0.25 * 0.75 / len(first))
    assert (np.abs(share[:4] - 0.25) < 4 * deviation).all()


class AlmostOne:
    """A generator whose uniform numbers are the largest below 1."""

    def random(self, size):
        return np.full(size, np.nextafter(1.0, 0.0))


@pytest.mark.parametrize("n_successors", [7, 10, 13])
def test_drawing_a_successor_by_inversion_stays_in_range(n_successors):
    # Cumulative sums of equal probabilities may end below the uniform number.
    mdp = chain(n_successors)
    transition = np.full_like(mdp.transition, 1 / n_successors)
    transition[-1] = mdp.transition[-1]
    table = successors(replace(mdp, transition=transition))
    state, action = np.zeros(2, int), np.arange(2)
    following = sample_next(table, state, action, AlmostOne())
    assert following.tolist() == [n_successors - 1] * 2


@pytest.mark.parametrize("mdp", [chain(5), gridworld(5, slip=0.0)], ids=["chain", "gridworld"])
def test_full_coverage_of_a_deterministic_mdp(mdp):
    data = full_coverage(mdp, repeats=3)
    report = coverage(data, mdp)
    assert (report["counts"][~mdp.terminal] == 3).all()
    assert (report["counts"][mdp.terminal] == 0).all()
    assert (report["pairs"], report["states"]) == (1.0, 1.0)
    assert report["episodes"] == len(data["actions"])
    np.testing.assert_array_equal(data["terminals"], ~data["timeouts"])
    np.testing.assert_array_equal(data["terminals"], mdp.terminal[data["infos/next_state"]])


def test_full_coverage_has_the_model_exactly_so_that_q_iteration_on_it_finds_q_star():
    mdp, gamma = gridworld(5), 0.9
    data = full_coverage(mdp, repeats=100)
    s, a, following = data["infos/state"], data["actions"], data["infos/next_state"]
    counts = np.zeros_like(mdp.transition)
    np.add.at(counts, (s, a, following), 1)
    np.testing.assert_allclose(
        (counts / 100)[~mdp.terminal], mdp.transition[~mdp.terminal], rtol=0, atol=1e-12
    )

    q = np.zeros((mdp.n_states, mdp.n_actions))
    for _ in range(200):
        target = data["rewards"] + gamma * ~data["terminals"] * q[following].max(1)
        total = np.zeros_like(q)
        np.add.at(total, (s, a), target)
        q = total / 100
    np.testing.assert_allclose(q, optimal_q(mdp, gamma), rtol=0, atol=1e-7)


def test_coverage_by_hand():
    data = {
        "observations": np.eye(3)[[0, 0, 1, 0, 0]],
        "actions": np.array([0, 1, 1, 0, 0]),
        "rewards": np.array([0.0, 0, 1, 0.5, 0]),
        "terminals": np.array([0, 0, 1, 0, 0], bool),
        "timeouts": np.array([0, 0, 0, 1, 0], bool),
    }
    report = coverage(data, chain(3))
    np.testing.assert_array_equal(report.pop("counts"), [[3, 1], [0, 1], [0, 0]])
    assert report == {"pairs": 0.75, "states": 1.0, "episodes": 3, "mean_return": 0.5}


@pytest.mark.parametrize(
    "kwargs",
    [
        {"steps": 0},
        {"epsilon": 1.5},
        {"epsilon": []},
        {"epsilon": float("nan")},
        {"max_episode_steps": 0},
        {"start": "x"},
    ],
)
def test_impossible_requests_are_refused(kwargs):
    with pytest.raises(InputError):
        generate(chain(3), **{"steps": 10, **kwargs})


def test_counts_that_cannot_be_are_refused():
    with pytest.raises(InputError, match="whole number"):
        full_coverage(chain(3, slip=0.1), repeats=3)
    with pytest.raises(InputError, match="repeats"):
        full_coverage(chain(3), repeats=0)
    data = full_coverage(chain(3))
    with pytest.raises(InputError, match="at least one row"):
        coverage({key: column[:0] for key, column in data.items()}, chain(3))
