from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlop.data import Dataset, check_spaces, returns_to_go
from rlop.data.info import summary
from rlop.types import InputError, Spec

SETTINGS = settings(max_examples=60, deadline=None)


def arrays(lengths, terminated, n_actions=3, seed=0, states=None):
    """Episodes of these lengths; observation i is the number of row i, or a state drawn from few."""
    rng = np.random.default_rng(seed)
    rows = sum(lengths)
    end = np.zeros(rows, bool)
    end[np.cumsum(lengths) - 1] = True
    over = np.zeros(rows, bool)
    over[end] = terminated
    label = np.arange(rows + 1) if states is None else rng.integers(states, size=rows + 1)
    obs = np.stack([label, -label], axis=1).astype(np.float32)
    return {
        "obs": obs[:-1],
        "action": rng.integers(n_actions, size=rows),
        "reward": rng.standard_normal(rows).astype(np.float32),
        "terminated": over,
        "truncated": end & ~over,
        "next_obs": obs[1:],
    }


def make(lengths, terminated, **kwargs):
    return Dataset.from_arrays(**arrays(lengths, terminated, **kwargs), n_actions=3)


episodes = st.lists(st.tuples(st.integers(1, 7), st.booleans()), min_size=1, max_size=8)


@st.composite
def datasets(draw, **kwargs):
    drawn = draw(episodes)
    return make(
        [length for length, _ in drawn],
        [over for _, over in drawn],
        seed=draw(st.integers(0, 99)),
        **kwargs,
    )


# ---- from_arrays


def test_given_next_obs_keeps_every_row_and_copies_nothing():
    a = arrays([3, 2], [True, False])
    data = Dataset.from_arrays(**a)
    assert len(data) == 5
    for key in ("obs", "action", "reward", "next_obs"):
        assert np.shares_memory(getattr(data, key), a[key])
    assert data.spec == Spec((2,), int(a["action"].max()) + 1, (), "float32")
    assert data.truncated.tolist() == [False] * 4 + [True]


def test_tensors_share_the_arrays_memory():
    data = Dataset.from_arrays(**arrays([4], [True]))
    torch.from_numpy(data.columns()["obs"])[0, 0] = 42.0
    assert data.obs[0, 0] == 42.0


def test_missing_next_obs_by_hand():
    # rows: 0 1 | 2 3 terminated | 4 truncated | 5 6 (file ends)
    a = arrays([2, 2, 1, 2], [False, True, False, False])
    a.pop("next_obs")
    data = Dataset.from_arrays(**a)
    assert data.obs[:, 0].tolist() == [0, 2, 3, 5]
    assert data.next_obs[:, 0].tolist() == [
        1,
        3,
        4,
        6,
    ]  # row 3 terminated and keeps whatever follows
    assert data.terminated.tolist() == [False, False, True, False]
    assert data.truncated.tolist() == [True, False, False, True]
    assert data.n_episodes == 3


def test_last_row_that_terminated_is_kept_with_its_own_observation():
    a = arrays([3], [True])
    a.pop("next_obs")
    data = Dataset.from_arrays(**a)
    assert data.obs[:, 0].tolist() == [0, 1, 2]
    assert data.next_obs[:, 0].tolist() == [1, 2, 2]


def test_one_unfinished_stream_is_two_views():
    a = arrays([6], [False])
    a.pop("next_obs")
    data = Dataset.from_arrays(**a)
    assert np.shares_memory(data.obs, a["obs"])
    assert np.shares_memory(data.next_obs, a["obs"])
    assert data.next_obs[:, 0].tolist() == [1, 2, 3, 4, 5]


@SETTINGS
@given(episodes)
def test_missing_next_obs_equals_a_loop(drawn):
    a = arrays([length for length, _ in drawn], [over for _, over in drawn])
    a.pop("next_obs")
    rows = len(a["reward"])
    kept = [i for i in range(rows) if not a["truncated"][i]]
    if not kept:
        with pytest.raises(InputError, match="no row has a known successor"):
            Dataset.from_arrays(**a)
        return
    data = Dataset.from_arrays(**a)
    assert data.obs[:, 0].tolist() == kept
    assert data.next_obs[:, 0].tolist() == [min(i + 1, rows - 1) for i in kept]
    assert data.terminated.tolist() == [bool(a["terminated"][i]) for i in kept]
    cut = [
        not a["terminated"][i] and bool(a["truncated"][i + 1])
        for i in kept
        if i + 1 < rows or a["terminated"][i]
    ]
    assert data.truncated.tolist() == cut
    assert data.end[-1]


def test_both_flags_count_as_terminated_and_the_last_row_always_ends():
    a = arrays([2, 2], [True, False])
    a["truncated"][1] = True
    a["truncated"][3] = False
    data = Dataset.from_arrays(**a)
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
    assert [
        data.columns()[k].dtype
        for k in ("obs", "action", "reward", "next_obs", "terminated", "discount")
    ] == [np.dtype(t) for t in ("f4", "i8", "f4", "f4", "f4", "f4")]
    assert data.action.tolist() == [0, 2, 1]
    assert data.columns()["terminated"].tolist() == [0.0, 0.0, 1.0]
    assert data.columns()["discount"].tolist() == [1.0, 1.0, 1.0]
    assert list(data.columns()) == ["obs", "action", "reward", "next_obs", "terminated", "discount"]


def test_continuous_actions():
    a = arrays([2], [True])
    a["action"] = np.array([0.5, -0.5])
    data = Dataset.from_arrays(**a)
    assert data.action.shape == (2, 1)
    assert data.spec.n_actions is None
    assert data.spec.action_shape == (1,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reward": np.ones(4)}, r"^reward: 4 rows, expected 5$"),
        (
            {"reward": np.array([0, np.nan, 1, np.inf, 2])},
            r"^reward: 2 of 5 rows hold NaN or infinity \(first: row 1\)",
        ),
        (
            {"obs": np.array([[0.0, 0], [0, 0], [0, np.nan], [0, 0], [0, 0]])},
            r"^obs: 1 of 5 rows.*row 2",
        ),
        ({"next_obs": np.full((5, 2), -np.inf)}, r"^next_obs: 5 of 5 rows.*row 0"),
        ({"reward": np.array([1e300] * 5)}, r"^reward: 5 of 5 rows"),
        ({"action": np.array([0, 1, 3, 0, 0])}, r"^action: 3 at row 2, expected 0 <= action < 3"),
        ({"action": np.array([0, 1, -1, 0, 0])}, r"^action: -1 at row 2"),
        (
            {"action": np.array([0.0, 1, 1, 0, 0])},
            r"^action: dtype float64 with n_actions = 3, expected integers",
        ),
        ({"action": np.zeros((5, 2), int)}, r"^action: shape \(5, 2\), expected \[N\] or \[N, 1\]"),
        (
            {"terminated": np.array([0, 0, 0, 2, 0])},
            r"^terminated: 2 at row 3, expected only 0 and 1",
        ),
        ({"truncated": np.array([0, np.nan, 0, 0, 0])}, r"^truncated: nan at row 1"),
        ({"obs": np.arange(5.0)}, r"^obs: shape \(5,\), expected \[N, \*obs_shape\]"),
        ({"obs": np.array([["a"]] * 5)}, r"^obs: dtype <U1, expected numbers"),
        (
            {"next_obs": np.zeros((5, 3))},
            r"^next_obs: rows of \(3,\) float32, expected \(2,\) float32",
        ),
        ({"next_obs": np.zeros((5, 2), np.uint8)}, r"^next_obs: rows of \(2,\) uint8"),
        ({"reward": 1.0}, r"^reward: a single number"),
        ({"infos": {"state": np.zeros(3)}}, r"^state: 3 rows, expected 5"),
    ],
)
def test_what_is_wrong_is_named(change, message):
    with pytest.raises(InputError, match=message):
        Dataset.from_arrays(**{**arrays([3, 2], [True, False]), "n_actions": 3, **change})


def test_no_rows():
    with pytest.raises(InputError, match=r"^obs: 0 rows"):
        Dataset.from_arrays(np.zeros((0, 2)), np.zeros(0, int), *[np.zeros(0)] * 3)


# ---- episodes


def test_episodes_by_hand():
    data = make([3, 1, 2], [True, False, False])
    assert data.n_episodes == 3
    assert data.episode_ends.tolist() == [2, 3, 5]
    assert data.episode_lengths().tolist() == [3, 1, 2]
    r = data.reward.astype(np.float64)
    np.testing.assert_allclose(data.episode_returns(), [r[:3].sum(), r[3], r[4:].sum()], rtol=1e-12)


def test_subset_by_hand():
    data = make([4, 3], [True, False]).subset([0, 1, 3, 5, 6])
    assert data.obs[:, 0].tolist() == [0, 1, 3, 5, 6]
    assert data.truncated.tolist() == [False, True, False, False, True]  # 2 is gone; 3 terminated
    assert data.episode_lengths().tolist() == [2, 1, 2]


def test_contiguous_subset_is_a_view():
    data = make([4, 3], [True, False])
    assert np.shares_memory(data.subset(np.arange(7) < 4).obs, data.obs)


@SETTINGS
@given(datasets(), st.data())
def test_subset_equals_a_loop(data, draw):
    mask = np.array(draw.draw(st.lists(st.booleans(), min_size=len(data), max_size=len(data))))
    if not mask.any():
        with pytest.raises(InputError, match="at least one row"):
            data.subset(mask)
        return
    kept = np.flatnonzero(mask)
    part = data.subset(mask)
    assert part.obs[:, 0].tolist() == kept.tolist()
    for j, i in enumerate(kept):
        next_is_here = i + 1 < len(data) and mask[i + 1] and not data.end[i]
        assert part.end[j] == (not next_is_here)
        assert part.terminated[j] == data.terminated[i]
        assert part.truncated[j] == (not next_is_here and not data.terminated[i])


@pytest.mark.parametrize("rows", [[], [-1], [7], [0.5], np.ones(3, bool), np.zeros((2, 2), int)])
def test_subset_of_impossible_rows(rows):
    with pytest.raises(InputError, match=r"^rows: "):
        make([4, 3], [True, False]).subset(rows)


# ---- returns


@SETTINGS
@given(datasets(), st.sampled_from([0.0, 0.3, 0.99, 1.0]))
def test_returns_to_go_equal_a_loop(data, gamma):
    expected, total = np.zeros(len(data)), 0.0
    for i in reversed(range(len(data))):
        total = float(data.reward[i]) + (0.0 if data.end[i] else gamma * total)
        expected[i] = total
    np.testing.assert_allclose(
        returns_to_go(data.reward, data.end, gamma), expected, rtol=1e-12, atol=1e-12
    )


def test_returns_to_go_of_a_long_episode_in_closed_form():
    rows, gamma = 1000, 0.9
    end = np.arange(rows) == rows - 1
    expected = (1 - gamma ** np.arange(rows, 0, -1)) / (1 - gamma)
    np.testing.assert_allclose(
        returns_to_go(np.ones(rows, np.float32), end, gamma), expected, rtol=1e-12
    )


def test_returns_to_go_checks_shapes():
    with pytest.raises(ValueError, match="one length"):
        returns_to_go(np.ones(3), np.ones(2, bool), 0.9)
    with pytest.raises(ValueError, match="end: expected the last row"):
        returns_to_go(np.ones(2), np.array([True, False]), 0.9)
    with pytest.raises(ValueError, match="gamma"):
        returns_to_go(np.ones(2), np.array([True, True]), 1.1)


def test_mc_returns_by_hand():
    data = make([3, 4], [True, False])
    data.reward[:] = [1, 2, 4, 1, 1, 1, 1]
    known = data.with_mc_returns(0.5, tail=0.125)
    # of the cut episode, rows with 4 and 3 rows left weigh what is missing 1/16 and 1/8
    assert known.obs[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert known.extra["mc_return"].tolist() == [3.0, 4.0, 4.0, 1.875, 1.75]
    assert known.extra["mc_return"].dtype == np.float32
    assert known.truncated.tolist() == [False, False, False, False, True]
    assert known.columns()["mc_return"] is known.extra["mc_return"]


def test_mc_returns_need_an_end():
    with pytest.raises(
        InputError, match=r"no Monte-Carlo return is known.*gamma\^5 = 0.95 > tail = 0.01"
    ):
        make([5], [False]).with_mc_returns(0.99)
    with pytest.raises(InputError, match=r"gamma = 1.5"):
        make([5], [True]).with_mc_returns(1.5)


def test_n_step_over_whole_episodes_is_the_monte_carlo_return():
    data = make([5, 2, 6], [True, True, True])
    np.testing.assert_allclose(
        data.n_step(6, 0.9).reward,
        data.with_mc_returns(0.9).extra["mc_return"],
        rtol=1e-6,
        atol=1e-7,
    )


# ---- next action, next policy


def test_next_action_by_hand():
    data = make([3, 1, 2], [True, False, False])
    following = data.with_next_action()
    a = data.action
    assert following.obs[:, 0].tolist() == [
        0,
        1,
        2,
        4,
    ]  # rows 3 and 5 are cut: what was done next is unknown
    assert following.extra["next_action"].tolist() == [a[1], a[2], 0, a[5]]
    assert following.truncated.tolist() == [False, False, False, True]
    assert following.columns()["next_action"].dtype == np.int64


def test_next_action_of_continuous_actions():
    a = arrays([2, 2], [True, False])
    a["action"] = np.arange(8, dtype=np.float32).reshape(4, 2) + 1
    following = Dataset.from_arrays(**a).with_next_action()
    assert following.extra["next_action"].tolist() == [[3, 4], [0, 0], [7, 8]]
    assert Dataset.from_arrays(**a).action.tolist() == a["action"].tolist()


def test_next_action_needs_one():
    with pytest.raises(InputError, match="no row has a next action"):
        make([1, 1], [False, False]).with_next_action()


@SETTINGS
@given(st.integers(0, 1000), st.sampled_from([np.float32, np.uint8]))
def test_next_policy_equals_counting(seed, dtype):
    a = arrays([9, 8, 7], [True, False, True], seed=seed, states=4)
    a["obs"], a["next_obs"] = np.abs(a["obs"]).astype(dtype), np.abs(a["next_obs"]).astype(dtype)
    a["next_obs"][3] = 77  # leads to an observation at which no action was taken
    data = Dataset.from_arrays(**a, n_actions=3)
    counts: dict[bytes, np.ndarray] = {}
    for obs, action in zip(data.obs, data.action):
        counts.setdefault(obs.tobytes(), np.zeros(3))[action] += 1
    kept, expected = [], []
    for i in range(len(data)):
        seen = counts.get(data.next_obs[i].tobytes())
        if data.terminated[i]:
            expected.append(np.full(3, 1 / 3))
        elif seen is None:
            continue
        else:
            expected.append(seen / seen.sum())
        kept.append(i)
    got = data.with_next_policy()
    assert np.array_equal(got.obs, data.obs[kept])
    np.testing.assert_allclose(got.extra["next_policy"], np.array(expected), rtol=1e-6)
    assert got.extra["next_policy"].dtype == np.float32


def test_next_policy_needs_repeats_and_discrete_actions():
    with pytest.raises(
        InputError, match=r"needs repeated observations, found 1 rows per distinct one.*use 'sarsa'"
    ):
        make([9, 8], [True, False]).with_next_policy()
    a = arrays([8], [False], states=2)
    a["next_obs"] = a["next_obs"] + 10
    with pytest.raises(InputError, match="8 of 8 rows"):
        Dataset.from_arrays(**a).with_next_policy()
    a["action"] = a["action"].astype(np.float32)
    with pytest.raises(InputError, match="needs discrete actions"):
        Dataset.from_arrays(**a).with_next_policy()


# ---- n-step


def slow_n_step(data, n, gamma):
    rows = []
    for t in range(len(data)):
        total, m = 0.0, 0
        while True:
            total += gamma**m * float(data.reward[t + m])
            m += 1
            if m == n or data.end[t + m - 1]:
                break
        rows.append((total, t + m - 1, gamma ** (m - 1)))
    return rows


@SETTINGS
@given(datasets(), st.integers(1, 9), st.sampled_from([0.0, 0.5, 0.99, 1.0]))
def test_n_step_equals_a_loop(data, n, gamma):
    if (~data.end | data.terminated).any():
        data = data.with_next_action()
    got, expected = data.n_step(n, gamma), slow_n_step(data, n, gamma)
    last = [row for _, row, _ in expected]
    np.testing.assert_allclose(
        got.reward, [total for total, _, _ in expected], rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(got.discount, [weight for _, _, weight in expected], rtol=1e-6)
    assert np.array_equal(got.next_obs, data.next_obs[last])
    assert np.array_equal(got.terminated, data.terminated[last])
    assert np.array_equal(got.truncated, data.truncated[last])
    assert np.array_equal(got.obs, data.obs)
    assert np.array_equal(got.episode_lengths(), data.episode_lengths())
    for key, column in data.extra.items():
        assert np.array_equal(got.extra[key], column[last])


def test_n_step_target_is_the_return_plus_the_bootstrap():
    # The target reward + gamma * discount * (1 - terminated) * value must be sum gamma^k r + gamma^m value.
    data, gamma, value = make([6], [False]), 0.9, 7.0
    got = data.n_step(3, gamma)
    target = got.reward + gamma * got.discount * (1 - got.columns()["terminated"]) * value
    r = data.reward.astype(np.float64)
    assert target[1] == pytest.approx(
        r[1] + gamma * r[2] + gamma**2 * r[3] + gamma**3 * value, rel=1e-5
    )
    assert target[4] == pytest.approx(r[4] + gamma * r[5] + gamma**2 * value, rel=1e-5)


def test_one_step_changes_nothing():
    data = make([3, 2], [True, False])
    got = data.n_step(1, 0.9)
    for key, column in data.columns().items():
        assert np.array_equal(got.columns()[key], column)
    assert got.discount.tolist() == [1.0] * 5


def test_mc_return_stays_with_its_row():
    data = make([4], [True]).with_mc_returns(0.9)
    assert np.array_equal(data.n_step(2, 0.9).extra["mc_return"], data.extra["mc_return"])


@pytest.mark.parametrize(
    "call",
    [
        lambda d: d.n_step(2, 0.9),
        lambda d: d.with_next_action(),
        lambda d: d.with_next_policy(),
        lambda d: d.with_mc_returns(0.9),
        lambda d: d.episode_returns(),
    ],
)
def test_sums_are_not_summed_again(call):
    with pytest.raises(InputError, match="needs one-step rows; call it before n_step"):
        call(make([4], [True]).n_step(2, 0.9))


def test_n_step_arguments():
    with pytest.raises(InputError, match="n = 0"):
        make([4], [True]).n_step(0, 0.9)
    with pytest.raises(InputError, match=r"gamma = 1\.2"):
        make([4], [True]).n_step(2, 1.2)


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
    def __init__(self, obs, action):
        self.observation_space, self.action_space = obs, action


def box(*shape, dtype=np.float32):
    return gymnasium.spaces.Box(0, 1, shape, dtype)


def test_check_spaces():
    discrete, continuous = Spec((4,), 2), Spec((4,), None, (3,))
    check_spaces(discrete, Shaped(box(4, dtype=np.float64), gymnasium.spaces.Discrete(2)))
    check_spaces(continuous, Shaped(box(4), box(3)))
    check_spaces(discrete, gymnasium.make_vec("CartPole-v1", 2, vectorization_mode="sync"))
    with pytest.raises(
        InputError,
        match=r"CartPole-v1: observations \(4,\) float32, but the data has \(5,\) float32",
    ):
        check_spaces(Spec((5,), 2), gymnasium.make("CartPole-v1"))
    with pytest.raises(
        InputError, match=r"CartPole-v1: action space Discrete\(2\), but the data has 3 discrete"
    ):
        check_spaces(Spec((4,), 3), gymnasium.make("CartPole-v1"))
    with pytest.raises(InputError, match=r"but the data has continuous \(3,\) actions"):
        check_spaces(continuous, Shaped(box(4), box(2)))
    with pytest.raises(InputError, match=r"action space Box.*but the data has 2 discrete"):
        check_spaces(discrete, Shaped(box(4), box(2)))


def test_check_spaces_tells_bytes_from_floats():
    env = Shaped(gymnasium.spaces.Box(0, 255, (4,), np.uint8), gymnasium.spaces.Discrete(2))
    check_spaces(Spec((4,), 2, obs_dtype="uint8"), env)
    with pytest.raises(InputError, match=r"\(4,\) uint8, but the data has \(4,\) float32"):
        check_spaces(Spec((4,), 2), env)
    check_spaces(
        Spec((4,), 2, obs_dtype="bool"),
        Shaped(box(4, dtype=np.bool_), gymnasium.spaces.Discrete(2)),
    )
