"""Importance-weighted and doubly robust values: by hand, as loops, and as exact expectations."""

import itertools

import numpy as np
import pytest

from rlop.data.dataset import Dataset
from rlop.ope.formulas import (
    bootstrapped,
    cumulative_ratios,
    doubly_robust,
    effective_episodes,
    per_decision,
    resamples,
    surprise,
)
from rlop.ope.grid import grid_of

ONCE = np.ones((1, 2))


def two_episodes():
    """The first episode terminates after one step, the second is cut after three."""
    terminated = np.array([True, False, False, False])
    truncated = np.array([False, False, False, True])
    return Dataset.from_arrays(
        np.arange(4.0)[:, None],
        np.array([0, 1, 0, 1]),
        np.array([8.0, 1.0, 2.0, 4.0]),
        terminated,
        truncated,
        np.arange(1.0, 5.0)[:, None],
        n_actions=2,
    )


def test_episodes_are_laid_side_by_side():
    grid = grid_of(two_episodes())
    assert grid.first.tolist() == [0, 1]
    assert grid.exists.tolist() == [[True, False, False], [True, True, True]]
    assert grid.counts.all()  # nothing is earned after a terminal step: that is known
    assert grid.lay(np.array([8, 1, 2, 4])).tolist() == [[8, 0, 0], [1, 2, 4]]
    assert grid.lay(np.array([[3, 1, 1, 1]]), filler=1).tolist() == [[[3, 1, 1], [1, 1, 1]]]


def test_the_steps_after_a_cut_are_not_known():
    data = Dataset.from_arrays(
        np.arange(3.0)[:, None],
        np.zeros(3, int),
        np.ones(3),
        np.zeros(3, bool),
        np.array([True, False, True]),
        np.arange(3.0)[:, None],
    )
    assert grid_of(data).counts.tolist() == [[True, False], [True, True]]


def test_two_episodes_by_hand():
    grid = grid_of(two_episodes())
    reward = grid.lay([8, 1, 2, 4])
    weight = cumulative_ratios(grid.lay([0.5, 2, 0.5, 3], filler=1))
    assert weight.tolist() == [[0.5, 0.5, 0.5], [2, 1, 3]]

    # gamma = 1/2: (4 + 2) / 2 + (0 + 2) / 2 / 2 + (0 + 12) / 2 / 4
    assert per_decision(weight, reward, grid.counts, 0.5, ONCE) == pytest.approx([5])
    # 6 / 2.5 + 2 / 1.5 / 2 + 12 / 3.5 / 4
    weighted = per_decision(weight, reward, grid.counts, 0.5, ONCE, normalized=True)
    assert weighted == pytest.approx([2.4 + 2 / 3 + 6 / 7])

    gain = grid.lay(
        surprise(
            np.array([8.0, 1, 2, 4]),
            np.full(4, 2.0),
            np.full(4, 3.0),
            np.array([True, False, False, False]),
            0.5,
        )
    )
    assert gain.tolist() == [[6, 0, 0], [0.5, 1.5, 3.5]]
    first = np.array([1.0, 5.0])
    # 3 + (3 + 1) / 2 + 1.5 / 2 / 2 + 10.5 / 2 / 4
    found = doubly_robust(weight, gain, grid.counts, first, 0.5, ONCE)
    assert found == pytest.approx([3 + 2 + 0.375 + 1.3125])
    assert effective_episodes(weight) == pytest.approx(3.5**2 / 9.25)


def test_steps_without_any_weight_gain_nothing():
    weight = np.zeros((2, 2))
    counts = np.ones((2, 2), bool)
    for normalized in (False, True):
        assert per_decision(weight, np.ones((2, 2)), counts, 0.9, ONCE, normalized) == 0
    assert effective_episodes(weight) == 0


# ---- loops, as the papers write them


def random_episodes(seed, n=7, longest=5):
    """Ragged episodes that all terminate: reward, ratio, Q(s, a), V(s) with a last 0."""
    rng = np.random.default_rng(seed)
    episodes = []
    for length in rng.integers(1, longest + 1, n):
        reward, q = rng.normal(size=(2, length))
        value = np.append(rng.normal(size=length), 0.0)
        episodes.append((reward, rng.exponential(size=length), q, value))
    return episodes


def laid(episodes, filler=0.0, which=0):
    longest = max(len(one[0]) for one in episodes)
    rows = [
        np.pad(one[which], (0, longest - len(one[which])), constant_values=filler)
        for one in episodes
    ]
    return np.stack(rows)


def recursion(reward, ratio, q, value, gamma):
    """Jiang and Li's equation 10, from the last step to the first."""
    estimate = 0.0
    for t in reversed(range(len(reward))):
        estimate = value[t] + ratio[t] * (reward[t] + gamma * estimate - q[t])
    return estimate


def thomas_brunskill(episodes, gamma):
    """Weighted doubly robust as they write it: w_t = rho_t / sum rho_t, w_-1 = 1 / n."""
    n, longest = len(episodes), max(len(one[0]) for one in episodes)
    rho = np.ones((n, longest))
    for i, (_, ratio, _, _) in enumerate(episodes):
        for t in range(longest):
            before = rho[i, t - 1] if t else 1.0
            rho[i, t] = before * (ratio[t] if t < len(ratio) else 1.0)
    w = rho / rho.sum(0)
    total = 0.0
    for i, (reward, _, q, value) in enumerate(episodes):
        for t in range(len(reward)):
            before = w[i, t - 1] if t else 1 / n
            total += gamma**t * (w[i, t] * (reward[t] - q[t]) + before * value[t])
    return total


@pytest.mark.parametrize("seed", range(4))
def test_they_are_what_the_papers_write(seed):
    episodes, gamma = random_episodes(seed), 0.8
    once = np.ones((1, len(episodes)))
    counts = np.ones(laid(episodes).shape, bool)
    weight = cumulative_ratios(laid(episodes, 1.0, which=1))
    gains = []
    for reward, _, q, value in episodes:
        ended = np.arange(len(reward)) == len(reward) - 1
        gains.append((surprise(reward, q, value[1:], ended, gamma),))
    gain = laid(gains)
    first = np.array([one[3][0] for one in episodes])

    plain = np.mean([recursion(*one, gamma) for one in episodes])
    found = doubly_robust(weight, gain, counts, first, gamma, once)
    np.testing.assert_allclose(found, plain, rtol=1e-12)

    weighted = doubly_robust(weight, gain, counts, first, gamma, once, normalized=True)
    assert not np.isclose(weighted[0], plain)
    np.testing.assert_allclose(weighted, thomas_brunskill(episodes, gamma), rtol=1e-12)

    without_model = [recursion(r, ratio, 0 * q, 0 * v, gamma) for r, ratio, q, v in episodes]
    decided = per_decision(weight, laid(episodes), counts, gamma, once)
    np.testing.assert_allclose(decided, np.mean(without_model), rtol=1e-12)


# ---- the expectation over every episode that can happen


def every_episode(mu, pi, reward, gamma):
    """Two steps, two actions each; the second state is the first action. All four episodes."""
    rows = []
    for first, second in itertools.product(range(2), repeat=2):
        chance = mu[0, first] * mu[1 + first, second]
        ratio = [pi[0, first] / mu[0, first], pi[1 + first, second] / mu[1 + first, second]]
        rows.append(
            (
                chance,
                ratio,
                [reward[0, first], reward[1 + first, second]],
                [(0, first), (1 + first, second)],
            )
        )
    chance, ratio, rewards, pairs = map(np.array, zip(*rows))
    exact = sum(
        pi[0, a] * (reward[0, a] + gamma * (pi[1 + a] * reward[1 + a]).sum()) for a in range(2)
    )
    return chance, ratio, rewards, pairs, exact


@pytest.mark.parametrize("seed", range(3))
def test_without_normalization_the_expectation_is_exact_whatever_the_model(seed):
    rng = np.random.default_rng(seed)
    mu, pi = rng.dirichlet(np.ones(2), (2, 3))
    reward, q = rng.normal(size=(2, 3, 2))  # any model will do
    chance, ratio, rewards, pairs, exact = every_episode(mu, pi, reward, gamma=0.7)
    weight, counts = cumulative_ratios(ratio), np.ones((4, 2), bool)

    expected = per_decision(weight, rewards, counts, 0.7, chance[None])
    np.testing.assert_allclose(expected, exact, rtol=1e-12)

    value = (pi * q).sum(1)
    taken = q[pairs[..., 0], pairs[..., 1]]
    following = np.stack([value[pairs[:, 1, 0]], np.zeros(4)], 1)
    ended = np.array([False, True])
    gain = surprise(rewards, taken, following, ended, 0.7)
    found = doubly_robust(weight, gain, counts, np.full(4, value[0]), 0.7, chance[None])
    np.testing.assert_allclose(found, exact, rtol=1e-12)


# ---- intervals


def test_the_interval_of_a_mean_is_that_of_its_resamples():
    values = np.random.default_rng(0).normal(size=200)
    found = bootstrapped(lambda m: m @ values / m.sum(1), resamples(200, seed=3))
    error = values.std(ddof=1) / np.sqrt(200)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)
    assert np.isnan(bootstrapped(lambda m: m[:, 0], np.ones((5, 1))).low)


def test_resamples_hold_as_many_episodes_as_the_data():
    drawn = resamples(9, seed=1, samples=50)
    assert drawn.shape == (50, 9)
    assert (drawn.sum(1) == 9).all()
    assert (drawn == resamples(9, seed=1, samples=50)).all()
    assert len(np.unique(drawn, axis=0)) > 40
