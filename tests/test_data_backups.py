"""The columns that backups need: returns, next actions and policies, n-step rows."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.data import PROPERTY, arrays, datasets, make, same_columns
from hypothesis import given
from hypothesis import strategies as st

from rlop.data import Dataset, returns_to_go
from rlop.types import InputError

# ---- returns


@PROPERTY
@given(datasets(), st.sampled_from([0.0, 0.3, 0.99, 1.0]))
def test_returns_to_go_equal_a_loop(data, gamma):
    expected = np.zeros(len(data))
    total = 0.0
    for i in reversed(range(len(data))):
        later = 0.0 if data.end[i] else gamma * total
        total = float(data.reward[i]) + later
        expected[i] = total

    got = returns_to_go(data.reward, data.end, gamma)
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


def test_returns_to_go_of_a_long_episode_in_closed_form():
    rows, gamma = 1000, 0.9
    end = np.arange(rows) == rows - 1
    expected = (1 - gamma ** np.arange(rows, 0, -1)) / (1 - gamma)
    got = returns_to_go(np.ones(rows, np.float32), end, gamma)
    np.testing.assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("rows", "end", "gamma", "message"),
    [
        (3, [True, True], 0.9, "one length"),
        (2, [True, False], 0.9, "end: expected the last row"),
        (2, [True, True], 1.1, "gamma"),
    ],
)
def test_returns_to_go_checks_its_arguments(rows, end, gamma, message):
    with pytest.raises(ValueError, match=message):
        returns_to_go(np.ones(rows), np.array(end), gamma)


def test_mc_returns_by_hand():
    data = make([3, 4], [True, False])
    data.reward[:] = [1, 2, 4, 1, 1, 1, 1]
    with_returns = data.with_mc_returns(0.5, tail=0.125)

    # Of the cut episode, what is missing weighs 1/16 and 1/8 in the rows with 4 and 3 rows left.
    assert with_returns.obs[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert with_returns.extra["mc_return"].tolist() == [3.0, 4.0, 4.0, 1.875, 1.75]
    assert with_returns.extra["mc_return"].dtype == np.float32
    assert with_returns.truncated.tolist() == [False, False, False, False, True]
    assert with_returns.columns()["mc_return"] is with_returns.extra["mc_return"]


def test_mc_returns_need_an_end():
    unknown = r"no Monte-Carlo return is known.*gamma\^5 = 0.95 > tail = 0.01"
    with pytest.raises(InputError, match=unknown):
        make([5], [False]).with_mc_returns(0.99)
    with pytest.raises(InputError, match=r"gamma = 1.5"):
        make([5], [True]).with_mc_returns(1.5)


# ---- next action, next policy


def test_next_action_by_hand():
    data = make([3, 1, 2], [True, False, False])
    following = data.with_next_action()
    action = data.action

    # Rows 3 and 5 are cut: their next action is unknown.
    assert following.obs[:, 0].tolist() == [0, 1, 2, 4]
    assert following.extra["next_action"].tolist() == [action[1], action[2], 0, action[5]]
    assert following.truncated.tolist() == [False, False, False, True]
    assert following.columns()["next_action"].dtype == np.int64


def test_next_action_of_continuous_actions():
    made = arrays([2, 2], [True, False])
    made["action"] = np.arange(8, dtype=np.float32).reshape(4, 2) + 1
    data = Dataset.from_arrays(**made)
    assert data.with_next_action().extra["next_action"].tolist() == [[3, 4], [0, 0], [7, 8]]
    assert data.action.tolist() == made["action"].tolist()


def test_next_action_needs_one():
    with pytest.raises(InputError, match="no row has a next action"):
        make([1, 1], [False, False]).with_next_action()


@PROPERTY
@given(st.integers(0, 1000), st.sampled_from([np.float32, np.uint8]))
def test_next_policy_equals_counting(seed, dtype):
    made = arrays([9, 8, 7], [True, False, True], seed=seed, states=4)
    made["obs"] = np.abs(made["obs"]).astype(dtype)
    made["next_obs"] = np.abs(made["next_obs"]).astype(dtype)
    made["next_obs"][3] = 77  # leads to an observation at which no action was taken
    data = Dataset.from_arrays(**made, n_actions=3)

    counts: dict[bytes, np.ndarray] = {}
    for obs, action in zip(data.obs, data.action):
        counts.setdefault(obs.tobytes(), np.zeros(3))[action] += 1

    kept, expected = [], []
    for i, next_obs in enumerate(data.next_obs):
        taken = counts.get(next_obs.tobytes())
        if data.terminated[i]:
            expected.append(np.full(3, 1 / 3))
        elif taken is None:
            continue
        else:
            expected.append(taken / taken.sum())
        kept.append(i)

    got = data.with_next_policy()
    assert np.array_equal(got.obs, data.obs[kept])
    np.testing.assert_allclose(got.extra["next_policy"], np.array(expected), rtol=1e-6)
    assert got.extra["next_policy"].dtype == np.float32


def test_next_policy_needs_repeats_and_discrete_actions():
    rare = r"needs repeated observations, found 1 rows per distinct one.*use behavior: bc"
    with pytest.raises(InputError, match=rare):
        make([9, 8], [True, False]).with_next_policy()

    made = arrays([8], [False], states=2)
    made["next_obs"] = made["next_obs"] + 10
    with pytest.raises(InputError, match="8 of 8 rows"):
        Dataset.from_arrays(**made).with_next_policy()

    made["action"] = made["action"].astype(np.float32)
    with pytest.raises(InputError, match="needs discrete actions"):
        Dataset.from_arrays(**made).with_next_policy()


# ---- n-step


def slow_n_step(data, n, gamma):
    """For every row its discounted sum, the row of the last reward, and gamma^(m-1)."""
    rows = []
    for t in range(len(data)):
        total, m = 0.0, 0
        while True:
            total += gamma**m * float(data.reward[t + m])
            m += 1
            if m == n or data.end[t + m - 1]:
                break
        rows.append((total, t + m - 1, gamma ** (m - 1)))
    return zip(*rows)


@PROPERTY
@given(datasets(), st.integers(1, 9), st.sampled_from([0.0, 0.5, 0.99, 1.0]))
def test_n_step_equals_a_loop(data, n, gamma):
    if (~data.end | data.terminated).any():
        data = data.with_next_action()
    got = data.n_step(n, gamma)
    totals, last, weights = map(list, slow_n_step(data, n, gamma))

    np.testing.assert_allclose(got.reward, totals, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(got.discount, weights, rtol=1e-6)
    assert np.array_equal(got.next_obs, data.next_obs[last])
    assert np.array_equal(got.terminated, data.terminated[last])
    assert np.array_equal(got.truncated, data.truncated[last])
    for key, column in data.extra.items():
        assert np.array_equal(got.extra[key], column[last])

    assert np.array_equal(got.obs, data.obs)
    assert np.array_equal(got.episode_lengths(), data.episode_lengths())


def test_n_step_target_is_the_return_plus_the_bootstrap():
    # reward + gamma * discount * (1 - terminated) * value = sum gamma^k r + gamma^m value
    data, gamma, value = make([6], [False]), 0.9, 7.0
    got = data.n_step(3, gamma)
    target = got.reward + gamma * got.discount * (1 - got.columns()["terminated"]) * value

    r = data.reward.astype(np.float64)
    of_three_steps = r[1] + gamma * r[2] + gamma**2 * r[3] + gamma**3 * value
    of_two_steps = r[4] + gamma * r[5] + gamma**2 * value
    assert target[1] == pytest.approx(of_three_steps, rel=1e-5)
    assert target[4] == pytest.approx(of_two_steps, rel=1e-5)


def test_one_step_changes_nothing():
    data = make([3, 2], [True, False])
    got = data.n_step(1, 0.9)
    same_columns(data, got)
    assert got.discount.tolist() == [1.0] * 5


def test_n_step_over_whole_episodes_is_the_monte_carlo_return():
    data = make([5, 2, 6], [True, True, True])
    returns = data.with_mc_returns(0.9).extra["mc_return"]
    np.testing.assert_allclose(data.n_step(6, 0.9).reward, returns, rtol=1e-6, atol=1e-7)


def test_mc_return_stays_with_its_row():
    data = make([4], [True]).with_mc_returns(0.9)
    assert np.array_equal(data.n_step(2, 0.9).extra["mc_return"], data.extra["mc_return"])


@pytest.mark.parametrize(
    "call",
    [
        lambda data: data.n_step(2, 0.9),
        lambda data: data.with_next_action(),
        lambda data: data.with_next_policy(),
        lambda data: data.with_mc_returns(0.9),
        lambda data: data.episode_returns(),
    ],
)
def test_sums_are_not_summed_again(call):
    with pytest.raises(InputError, match="needs one-step rows; call it before n_step"):
        call(make([4], [True]).n_step(2, 0.9))


def test_n_step_arguments():
    data = make([4], [True])
    with pytest.raises(InputError, match="n = 0"):
        data.n_step(0, 0.9)
    with pytest.raises(InputError, match=r"gamma = 1\.2"):
        data.n_step(2, 1.2)
