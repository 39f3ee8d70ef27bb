"""`Dataset`: arrays to columns, episodes, subsets, returns, and the columns that backups need."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from helpers.data import PROPERTY, arrays, make, same_columns
from hypothesis import given
from hypothesis import strategies as st
from rlop.agents import DQN

from rlop.data import Dataset, check_spaces, returns_to_go
from rlop.data.info import summary
from rlop.types import InputError, Spec

EPISODES = st.lists(st.tuples(st.integers(1, 7), st.booleans()), min_size=1, max_size=8)


@st.composite
def datasets(draw, **options):
    lengths, terminated = zip(*draw(EPISODES))
    return make(lengths, list(terminated), seed=draw(st.integers(0, 99)), **options)


# ---- from_arrays


def test_given_next_obs_keeps_every_row_and_copies_nothing():
    given_arrays = arrays([3, 2], [True, False])
    data = Dataset.from_arrays(**given_arrays)

    for key in ("obs", "action", "reward", "next_obs"):
        assert np.shares_memory(data.columns()[key], given_arrays[key])
    n_actions = int(given_arrays["action"].max()) + 1
    assert data.spec == Spec((2,), n_actions, (), "float32")
    assert data.truncated.tolist() == [False] * 4 + [True]

    torch.from_numpy(data.columns()["obs"])[0, 0] = 42.0
    assert data.obs[0, 0] == 42.0


def without_next_obs(lengths, terminated):
    made = arrays(lengths, terminated)
    del made["next_obs"]
    return made


def test_missing_next_obs_by_hand():
    # rows: 0 1 | 2 3 terminated | 4 truncated | 5 6 (file ends)
    data = Dataset.from_arrays(**without_next_obs([2, 2, 1, 2], [False, True, False, False]))
    assert data.obs[:, 0].tolist() == [0, 2, 3, 5]
    # Row 3 terminated and keeps the observation that follows.
    assert data.next_obs[:, 0].tolist() == [1, 3, 4, 6]
    assert data.terminated.tolist() == [False, False, True, False]
    assert data.truncated.tolist() == [True, False, False, True]
    assert data.n_episodes == 3


def test_one_unfinished_stream_is_two_views():
    given_arrays = without_next_obs([6], [False])
    data = Dataset.from_arrays(**given_arrays)
    assert np.shares_memory(data.obs, given_arrays["obs"])
    assert np.shares_memory(data.next_obs, given_arrays["obs"])
    assert data.next_obs[:, 0].tolist() == [1, 2, 3, 4, 5]


@PROPERTY
@given(EPISODES)
def test_missing_next_obs_equals_a_loop(drawn):
    lengths, terminated = zip(*drawn)
    given_arrays = without_next_obs(lengths, list(terminated))
    rows = len(given_arrays["reward"])
    kept = [i for i in range(rows) if not given_arrays["truncated"][i]]
    if not kept:
        with pytest.raises(InputError, match="no row has a known successor"):
            Dataset.from_arrays(**given_arrays)
        return

    data = Dataset.from_arrays(**given_arrays)
    assert data.obs[:, 0].tolist() == kept
    # The very last row, if it terminated, keeps its own observation.
    assert data.next_obs[:, 0].tolist() == [min(i + 1, rows - 1) for i in kept]
    assert data.end[-1]

    for row, i in enumerate(kept):
        over = bool(given_arrays["terminated"][i])
        next_is_dropped = i + 1 < rows and bool(given_arrays["truncated"][i + 1])
        assert data.terminated[row] == over
        assert data.truncated[row] == (next_is_dropped and not over)


def test_both_flags_count_as_terminated_and_the_last_row_always_ends():
    given_arrays = arrays([2, 2], [True, False])
    given_arrays["truncated"][1] = True
    given_arrays["truncated"][3] = False
    data = Dataset.from_arrays(**given_arrays)
    assert data.terminated.tolist() == [False, True, False, False]
    assert data.truncated.tolist() == [False, False, False, True]


@pytest.mark.parametrize("dtype", [np.uint8, np.bool_])
def test_bytes_and_booleans_stay(dtype):
    obs = np.ones((3, 2, 2), dtype)
    data = Dataset.from_arrays(obs, [0, 1, 0], np.ones(3), [0, 0, 1], np.zeros(3), obs)
    assert data.obs.dtype == data.next_obs.dtype == dtype
    assert data.spec.obs_dtype == str(np.dtype(dtype))


def test_dtypes_and_shapes_are_brought_into_form():
    data = Dataset.from_arrays(
        obs=np.arange(6.0).reshape(3, 2),
        action=np.array([[0], [2], [1]], np.uint8),
        reward=np.ones((3, 1)),
        terminated=np.array([[0.0], [0.0], [1.0]]),
        truncated=np.zeros((3, 1), np.uint8),
        next_obs=np.zeros((3, 2), int),
    )
    columns = data.columns()
    assert {key: column.dtype.str for key, column in columns.items()} == {
        "obs": "<f4",
        "action": "<i8",
        "reward": "<f4",
        "next_obs": "<f4",
        "terminated": "<f4",
        "discount": "<f4",
    }
    assert data.action.tolist() == [0, 2, 1]
    assert columns["terminated"].tolist() == [0.0, 0.0, 1.0]
    assert columns["discount"].tolist() == [1.0, 1.0, 1.0]


def test_floats_without_a_number_of_actions_are_continuous():
    given_arrays = arrays([2], [True])
    given_arrays["action"] = np.array([0.5, -0.5])
    data = Dataset.from_arrays(**given_arrays)
    assert data.action.shape == (2, 1)
    assert data.spec.n_actions is None
    assert data.spec.action_shape == (1,)


BAD_OBS = np.array([[0.0, 0], [0, 0], [0, np.nan], [0, 0], [0, 0]])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("reward", np.ones(4), r"^reward: 4 rows, expected 5$"),
        (
            "reward",
            [0, np.nan, 1, np.inf, 2],
            r"^reward: 2 of 5 rows hold NaN or infinity \(first: row 1\)",
        ),
        ("reward", [1e300] * 5, r"^reward: 5 of 5 rows"),
        ("reward", 1.0, r"^reward: a single number"),
        ("obs", BAD_OBS, r"^obs: 1 of 5 rows.*row 2"),
        ("obs", np.arange(5.0), r"^obs: shape \(5,\), expected \[N, \*obs_shape\]"),
        ("obs", np.array([["a"]] * 5), r"^obs: dtype <U1, expected numbers"),
        ("next_obs", np.full((5, 2), -np.inf), r"^next_obs: 5 of 5 rows.*row 0"),
        (
            "next_obs",
            np.zeros((5, 3)),
            r"^next_obs: rows of \(3,\) float32, expected \(2,\) float32 as in obs",
        ),
        ("next_obs", np.zeros((5, 2), np.uint8), r"^next_obs: rows of \(2,\) uint8"),
        ("action", [0, 1, 3, 0, 0], r"^action: 3 at row 2, expected 0 <= action < 3"),
        ("action", [0, 1, -1, 0, 0], r"^action: -1 at row 2"),
        ("action", [0.0, 1, 1, 0, 0], r"^action: dtype float64 with n_actions = 3, expected int"),
        ("action", np.zeros((5, 2), int), r"^action: shape \(5, 2\), expected \[N\] or \[N, 1\]"),
        ("terminated", [0, 0, 0, 2, 0], r"^terminated: 2 at row 3, expected only 0 and 1"),
        ("truncated", [0, np.nan, 0, 0, 0], r"^truncated: nan at row 1"),
        ("infos", {"state": np.zeros(3)}, r"^state: 3 rows, expected 5"),
    ],
)
def test_a_wrong_array_is_named(key, value, message):
    made = arrays([3, 2], [True, False])
    with pytest.raises(InputError, match=message):
        Dataset.from_arrays(**{**made, "n_actions": 3, key: value})


def test_no_rows():
    empty = np.zeros(0)
    with pytest.raises(InputError, match=r"^obs: 0 rows"):
        Dataset.from_arrays(np.zeros((0, 2)), np.zeros(0, int), empty, empty, empty)


# ---- episodes and subsets


def test_episodes_by_hand():
    data = make([3, 1, 2], [True, False, False])
    assert data.n_episodes == 3
    assert data.episode_ends.tolist() == [2, 3, 5]
    assert data.episode_lengths().tolist() == [3, 1, 2]

    reward = data.reward.astype(np.float64)
    sums = [reward[:3].sum(), reward[3], reward[4:].sum()]
    np.testing.assert_allclose(data.episode_returns(), sums, rtol=1e-12)


def test_subset_by_hand():
    data = make([4, 3], [True, False]).subset([0, 1, 3, 5, 6])
    assert data.obs[:, 0].tolist() == [0, 1, 3, 5, 6]
    # Row 2 is gone, so row 1 is cut; row 3 terminated.
    assert data.truncated.tolist() == [False, True, False, False, True]
    assert data.episode_lengths().tolist() == [2, 1, 2]


def test_contiguous_subset_is_a_view():
    data = make([4, 3], [True, False])
    assert np.shares_memory(data.subset(np.arange(7) < 4).obs, data.obs)


@PROPERTY
@given(datasets(), st.data())
def test_subset_equals_a_loop(data, draw):
    mask = draw.draw(st.lists(st.booleans(), min_size=len(data), max_size=len(data)))
    if not any(mask):
        with pytest.raises(InputError, match="at least one row"):
            data.subset(mask)
        return

    part = data.subset(mask)
    kept = np.flatnonzero(mask)
    assert part.obs[:, 0].tolist() == kept.tolist()
    for j, i in enumerate(kept):
        has_successor = i + 1 < len(data) and mask[i + 1] and not data.end[i]
        assert part.end[j] == (not has_successor)
        assert part.terminated[j] == data.terminated[i]
        assert part.truncated[j] == (not has_successor and not data.terminated[i])


@pytest.mark.parametrize("rows", [[], [-1], [7], [0.5], np.ones(3, bool), np.zeros((2, 2), int)])
def test_subset_of_impossible_rows(rows):
    with pytest.raises(InputError, match=r"^rows: "):
        make([4, 3], [True, False]).subset(rows)


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
    known = data.with_mc_returns(0.5, tail=0.125)

    # Of the cut episode, what is missing weighs 1/16 and 1/8 in the rows with 4 and 3 rows left.
    assert known.obs[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert known.extra["mc_return"].tolist() == [3.0, 4.0, 4.0, 1.875, 1.75]
    assert known.extra["mc_return"].dtype == np.float32
    assert known.truncated.tolist() == [False, False, False, False, True]
    assert known.columns()["mc_return"] is known.extra["mc_return"]


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
    rare = r"needs repeated observations, found 1 rows per distinct one.*use 'sarsa'"
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


@pytest.mark.parametrize("n", [1, 2, 5])
def test_an_agent_of_n_steps_trains_on_the_rows_of_n_step(n):
    data = make([4, 6, 3], [True, False, True])
    prepared = DQN(data.spec, hidden=(4,), n_step=n, gamma=0.8).prepare(data)
    same_columns(prepared, data.n_step(n, 0.8))


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


# ---- the rest


def test_summary_names_sizes_returns_and_actions():
    data = make([3, 1], [True, False])
    data.reward[:] = [1, 1, 1, 5]
    data.action[:] = [0, 0, 0, 2]
    text = summary(data)
    assert "4 transitions in 2 episodes of 2.0 on average (1 to 3)" in text
    assert "1 terminated, 1 truncated" in text
    assert "return: mean 4, 3 to 5" in text
    assert "0: 75.0%, 1: 0.0%, 2: 25.0%" in text

    assert "return" not in summary(data.n_step(2, 0.9))
    assert repr(data) == "Dataset('arrays', 4 transitions)"


class Shaped(gymnasium.Env):
    """An environment that has nothing but its spaces."""

    def __init__(self, obs, action):
        self.observation_space = obs
        self.action_space = action


def box(*shape, dtype=np.float32):
    return gymnasium.spaces.Box(0, 1, shape, dtype)


DISCRETE, CONTINUOUS = Spec((4,), 2), Spec((4,), None, (3,))
TWO = gymnasium.spaces.Discrete(2)
BYTES = gymnasium.spaces.Box(0, 255, (4,), np.uint8)


@pytest.mark.parametrize(
    ("spec", "env"),
    [
        (DISCRETE, Shaped(box(4, dtype=np.float64), TWO)),
        (CONTINUOUS, Shaped(box(4), box(3))),
        (Spec((4,), 2, obs_dtype="uint8"), Shaped(BYTES, TWO)),
        (Spec((4,), 2, obs_dtype="bool"), Shaped(box(4, dtype=np.bool_), TWO)),
    ],
)
def test_spaces_that_fit(spec, env):
    check_spaces(spec, env)


def test_spaces_of_a_vector_of_environments_fit():
    envs = gymnasium.make_vec("CartPole-v1", 2, vectorization_mode="sync")
    check_spaces(DISCRETE, envs)


@pytest.mark.parametrize(
    ("spec", "env", "message"),
    [
        (
            Spec((5,), 2),
            gymnasium.make("CartPole-v1"),
            r"CartPole-v1: observations \(4,\) float32, but the data has \(5,\) float32",
        ),
        (
            Spec((4,), 3),
            gymnasium.make("CartPole-v1"),
            r"CartPole-v1: action space Discrete\(2\), but the data has 3 discrete actions",
        ),
        (CONTINUOUS, Shaped(box(4), box(2)), r"but the data has continuous \(3,\) actions"),
        (DISCRETE, Shaped(box(4), box(2)), r"action space Box.*but the data has 2 discrete"),
        (DISCRETE, Shaped(BYTES, TWO), r"\(4,\) uint8, but the data has \(4,\) float32"),
    ],
)
def test_spaces_that_do_not_fit_are_named(spec, env, message):
    with pytest.raises(InputError, match=message):
        check_spaces(spec, env)
