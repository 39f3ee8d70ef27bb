"""`Dataset`: from arrays to columns, episodes and subsets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.data import EPISODES, PROPERTY, arrays, datasets, make, same_columns
from hypothesis import given
from hypothesis import strategies as st

from rlop.data import Dataset
from rlop.data.info import summary
from rlop.types import InputError, Spec

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


def test_tensors_of_pytorch_are_read_with_gradients_and_in_half_precision():
    obs = torch.arange(12.0).reshape(4, 3)
    ends = torch.tensor([False, True, False, True])
    data = Dataset.from_arrays(
        obs.clone().requires_grad_(),
        list(torch.tensor([0, 1, 1, 0])),
        list(torch.ones(4, requires_grad=True)),
        ends,
        ~ends & False,
        obs.to(torch.bfloat16),
        infos={"weight": torch.ones(4, requires_grad=True)},
    )
    assert np.array_equal(data.obs, obs)
    assert np.array_equal(data.next_obs, obs)
    assert data.next_obs.dtype == np.float32
    assert data.action.tolist() == [0, 1, 1, 0]
    assert data.infos["weight"].tolist() == [1, 1, 1, 1]


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
        ("action", [0.5, 1, 1, 0, 0], r"^action: 0.5.* with n_actions = 3, expected whole"),
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


# ---- memory


def test_rows_are_dropped_in_place_where_arrays_may_be_reused():
    made = arrays((3, 4, 2), [False, True, False])
    del made["next_obs"]
    expected = Dataset.from_arrays(**{key: value.copy() for key, value in made.items()})
    data = Dataset.from_arrays(**made, reuse=True)
    same_columns(data, expected)
    assert np.array_equal(data.end, expected.end)
    assert np.shares_memory(data.obs, made["obs"])
    assert not np.shares_memory(data.next_obs, made["obs"])


def test_arrays_are_left_alone_otherwise():
    made = arrays((3, 4, 2), [False, True, False])
    del made["next_obs"]
    before = {key: value.copy() for key, value in made.items()}
    Dataset.from_arrays(**made)
    for key, value in made.items():
        assert np.array_equal(value, before[key]), key
