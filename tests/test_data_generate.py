from __future__ import annotations

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
    state, following = data["infos/state"], data["infos/next_state"]
    types = {
        "observations": "f4",
        "next_observations": "f4",
        "rewards": "f4",
        "actions": "i8",
        "infos/state": "i8",
    }
    assert all(len(column) == n for column in data.values())
    assert all(data[key].dtype == dtype for key, dtype in types.items())
    assert data["terminals"].dtype == data["timeouts"].dtype == bool

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
    a, b, c, longer = (
        generate(mdp, n, seed=s) for n, s in ((500, 1), (500, 1), (500, 2), (20_000, 1))
    )
    for key in a:
        np.testing.assert_array_equal(a[key], b[key])
        if key != "timeouts":
            np.testing.assert_array_equal(a[key], longer[key][:500])
    assert (a["actions"] != c["actions"]).any()


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
    # On a chain without slip epsilon 0 always takes 5 steps and epsilon 1 hardly ever does (1 in 32).
    data = generate(chain(6), 60_000, epsilon=(0.0, 1.0), max_episode_steps=200)
    ends = np.flatnonzero(data["terminals"] | data["timeouts"])
    length = np.diff(np.append(-1, ends))
    n, p = len(length), 0.5 + 0.5 / 32
    assert abs((length == 5).mean() - p) < 4 * np.sqrt(p * (1 - p) / n)


def test_mean_return_is_that_of_the_behaviour_policy():
    mdp = gridworld(5, reward="distance", seed=2)
    behaviour = epsilon_greedy(optimal_q(mdp, 0.99), 0.6)
    data = generate(mdp, 20 * 1500, epsilon=0.6, max_episode_steps=20)
    report = coverage(data, mdp)
    assert report["episodes"] == 1500
    sigma = data["rewards"].reshape(1500, 20).sum(1).std() / np.sqrt(1500)
    assert abs(report["mean_return"] - policy_return_undiscounted(mdp, behaviour, 20)) < 4 * sigma


def test_starts():
    mdp = chain(5)
    uniform = generate(mdp, 4000, epsilon=0.0, start="uniform")
    first = uniform["infos/state"][np.append(True, uniform["terminals"][:-1])]
    share = np.bincount(first, minlength=5) / len(first)
    assert share[4] == 0
    assert (np.abs(share[:4] - 0.25) < 4 * np.sqrt(0.25 * 0.75 / len(first))).all()


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


def test_full_coverage_and_coverage_refuse_what_they_cannot_do():
    with pytest.raises(InputError, match="whole number"):
        full_coverage(chain(3, slip=0.1), repeats=3)
    with pytest.raises(InputError, match="repeats"):
        full_coverage(chain(3), repeats=0)
    data = full_coverage(chain(3))
    with pytest.raises(InputError, match="at least one row"):
        coverage({key: column[:0] for key, column in data.items()}, chain(3))
