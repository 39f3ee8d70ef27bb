"""Transforms: normalized observations, scaled rewards, fewer episodes, clipped actions."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from helpers.data import PROPERTY, ends_of, same_columns
from hypothesis import given
from hypothesis import strategies as st

from rlop.data import Dataset
from rlop.data.transforms import (
    ANTMAZE,
    antmaze_reward,
    clip_actions,
    normalize_obs,
    normalized,
    scale_reward,
    scale_reward_by_return_range,
    subsample,
    top_returns,
    transform,
)
from rlop.types import InputError, Spec


def make(lengths=(3, 2, 4), returns=None, continuous=False):
    """Episodes of these lengths; the whole return of each is paid in its last row."""
    rng = np.random.default_rng(0)
    rows = sum(lengths)
    end = ends_of(lengths)
    reward = rng.standard_normal(rows)
    if returns is not None:
        reward = np.zeros(rows)
        reward[end] = returns

    n_actions = None if continuous else 3
    action = rng.integers(3, size=rows)
    if continuous:
        action = rng.uniform(-1.5, 1.5, (rows, 2)).astype(np.float32)
    obs = rng.normal(3, 5, (rows + 1, 2)).astype(np.float32)
    return Dataset.from_arrays(
        obs[:-1], action, reward, end, np.zeros(rows), obs[1:], n_actions=n_actions, name="x"
    )


# ---- observations


def test_normalize_by_hand():
    obs = np.array([[0.0, 5], [2, 5], [4, 5]], np.float32)
    data = Dataset.from_arrays(obs, [0, 1, 0], [0, 0, 1], [0, 0, 1], [0, 0, 0], obs + 10)
    got, mean, divisor = normalize_obs(data, eps=0.5)

    first_divisor = np.sqrt(8 / 3) + 0.5
    assert mean.tolist() == [2, 5]
    np.testing.assert_allclose(divisor, [first_divisor, 0.5], rtol=1e-6)
    np.testing.assert_allclose(got.obs[2], [2 / first_divisor, 0], rtol=1e-6)
    np.testing.assert_allclose(got.next_obs[0], [8 / first_divisor, 20], rtol=1e-6)
    assert got.name == "arrays+normalized"
    assert got.obs.dtype == got.next_obs.dtype == np.float32


def test_normalized_data_have_mean_0_and_deviation_1():
    data = make((200, 300))
    before = replace(data, obs=data.obs.copy(), next_obs=data.next_obs.copy())
    got, _, _ = normalize_obs(data)
    np.testing.assert_allclose(got.obs.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(got.obs.std(0), 1, atol=1e-3)
    same_columns(data, before)
    assert data.spec.obs_normalizer is None


def test_the_spec_normalizes_what_an_environment_returns():
    data = make((50, 50))
    got, mean, divisor = normalize_obs(data)
    np.testing.assert_array_equal(normalized(data.obs, got.spec), got.obs)

    raw = np.random.default_rng(1).normal(size=(4, 7, 2))
    expected = (raw - mean) / divisor
    np.testing.assert_allclose(normalized(raw, got.spec), expected, rtol=1e-4, atol=1e-6)
    assert normalized(raw, data.spec) is raw
    with pytest.raises(ValueError, match=r"obs: expected \[\.\.\., 2\], got \(4, 3\)"):
        normalized(np.zeros((4, 3)), got.spec)

    image = Spec((2, 3), 2, obs_normalizer=((0.0,) * 6, tuple(float(i) for i in range(1, 7))))
    assert normalized(np.ones((5, 2, 3)), image)[0, 1, 0] == pytest.approx(1 / 4)


def test_the_normalizer_survives_a_checkpoint(tmp_path):
    spec = normalize_obs(make())[0].spec
    torch.save(asdict(spec), tmp_path / "spec.pt")
    assert Spec(**torch.load(tmp_path / "spec.pt", weights_only=True)) == spec
    assert spec != make().spec


def test_normalize_refuses():
    twice = r"x\+normalized: normalize_obs: observations are normalized already"
    with pytest.raises(InputError, match=twice):
        normalize_obs(normalize_obs(make())[0])

    image = np.zeros((3, 2), np.uint8)
    data = Dataset.from_arrays(image, [0, 1, 0], np.ones(3), [0, 0, 1], np.zeros(3), image)
    with pytest.raises(InputError, match="observations are uint8, expected float32"):
        normalize_obs(data)
    with pytest.raises(InputError, match="eps = 0"):
        normalize_obs(make(), eps=0)


# ---- rewards


def test_scale_reward():
    data = make()
    got = scale_reward(data, 2, -0.5)
    np.testing.assert_allclose(got.reward, 2 * data.reward - 0.5, rtol=1e-6)
    assert got.reward.dtype == np.float32
    assert got.name == "x+reward*2-0.5"
    assert np.array_equal(got.obs, data.obs)
    same_columns(scale_reward(data), data)

    for summed in (data.n_step(2, 0.9), data.with_mc_returns(0.9)):
        with pytest.raises(InputError, match="x: scale_reward: before n_step and with_mc_returns"):
            scale_reward(summed, 2)


def test_return_range_by_hand():
    data = make((3, 2, 4), [10, 50, -30])
    # The range is 80, and by default an episode has 1000 steps.
    got = scale_reward_by_return_range(data)
    assert got.episode_returns().tolist() == [125, 625, -375]
    assert scale_reward_by_return_range(data, 8).episode_returns().tolist() == [1, 5, -3]
    with pytest.raises(InputError, match="all 3 returns are 2"):
        scale_reward_by_return_range(make((3, 2, 4), [2, 2, 2]))
    with pytest.raises(InputError, match="max_episode_steps = 0"):
        scale_reward_by_return_range(data, 0)


@PROPERTY
@given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=8), st.integers(1, 2000))
def test_return_range_becomes_the_number_of_steps(returns, steps):
    data = make([2] * len(returns), returns)
    if len(set(returns)) > 1:
        got = scale_reward_by_return_range(data, steps).episode_returns()
        assert got.max() - got.min() == pytest.approx(steps, rel=1e-5)


@pytest.mark.parametrize(
    ("convention", "zero", "one"),
    [("official", -2, 2), ("corl", -5, 5), ("geng", -5, 5), ("iql", -1, 0)],
)
def test_antmaze_conventions(convention, zero, one):
    data = make((3, 2), [1, 0])
    got = antmaze_reward(data, convention)
    assert got.reward.tolist() == [zero, zero, one, zero, zero]
    assert set(ANTMAZE) == {"official", "corl", "geng", "iql"}


def test_antmaze_refuses():
    data = make((3, 2), [1, 0])
    with pytest.raises(InputError, match=r"convention 'corll': unknown, did you mean 'corl'"):
        antmaze_reward(data, "corll")
    with pytest.raises(InputError, match=r"reward -1 at row 0, expected only 0 and 1"):
        antmaze_reward(antmaze_reward(data, "iql"), "iql")


# ---- episodes


def test_top_returns_by_hand():
    data = make((3, 2, 4, 1), [5, 9, 1, 9])
    assert top_returns(data, 0.5).episode_returns().tolist() == [9, 9]
    assert top_returns(data, 0.51).episode_returns().tolist() == [5, 9, 9]
    best = top_returns(data, 0.25)  # of two equal ones the first
    assert np.array_equal(best.obs, data.obs[3:5])
    assert best.name == "x+top0.25"

    same_columns(top_returns(data, 1), data)
    for fraction in (0, 1.5, -1):
        with pytest.raises(InputError, match="fraction = "):
            top_returns(data, fraction)


@PROPERTY
@given(st.lists(st.integers(1, 5), min_size=1, max_size=9), st.floats(0.01, 1), st.integers(0, 9))
def test_subsample_takes_whole_episodes_in_order(lengths, fraction, seed):
    data = make(lengths, np.arange(len(lengths)))
    got = subsample(data, fraction, seed=seed)
    # The return of an episode is its number.
    number = got.episode_returns().astype(int)
    assert len(number) == int(np.ceil(fraction * len(lengths)))
    assert (np.diff(number) > 0).all()
    assert got.episode_lengths().tolist() == [lengths[i] for i in number]
    assert got.terminated[got.end].all()
    assert not got.truncated.any()

    again = subsample(data, n=len(number), seed=seed)
    assert np.array_equal(again.obs, got.obs)


def test_subsample_draws_by_seed():
    data = make([1] * 100, np.arange(100))
    drawn = {tuple(subsample(data, n=10, seed=seed).reward.tolist()) for seed in range(5)}
    assert len(drawn) == 5

    counts = np.zeros(100)
    for seed in range(200):
        counts[subsample(data, 0.5, seed=seed).reward.astype(int)] += 1
    # 100 on average, with a standard deviation of 7.
    assert counts.min() >= 60
    assert counts.max() <= 140


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "fraction = None, n = None: expected exactly one"),
        ({"fraction": 0.5, "n": 2}, "fraction = 0.5, n = 2: expected exactly one"),
        ({"n": 4}, r"n = 4: expected a number in \[1, 3\]"),
        ({"n": 0}, "n = 0"),
        ({"fraction": 0.0}, "fraction = 0.0"),
    ],
)
def test_subsample_refuses(options, message):
    with pytest.raises(InputError, match=message):
        subsample(make(), **options)


# ---- actions


def test_clip_actions():
    data = make(continuous=True)
    got = clip_actions(data)
    assert np.isfinite(np.arctanh(got.action)).all()

    inside = np.abs(data.action) < 0.999
    assert inside.any()
    assert not inside.all()
    assert np.array_equal(got.action[inside], data.action[inside])
    assert np.abs(got.action).max() == np.float32(1 - 1e-6)
    assert got.action.dtype == np.float32

    assert np.abs(clip_actions(data, 0.5).action).max() == 0.5
    following = clip_actions(data.with_next_action(), 0.5)
    assert np.abs(following.extra["next_action"]).max() == 0.5

    with pytest.raises(InputError, match="clip_actions: 3 discrete actions"):
        clip_actions(make())


def test_names_tell_what_was_done():
    data = clip_actions(scale_reward(normalize_obs(make(continuous=True))[0], 0.5))
    assert data.name == "x+normalized+reward*0.5+0+clipped"


def test_transforms_of_a_configuration_are_applied_in_order():
    data = make()
    steps = {"scale_reward": {"scale": 2.0, "shift": 1.0}, "normalize_obs": {}}
    changed = transform(data, steps)
    np.testing.assert_allclose(changed.reward, 2 * data.reward + 1, rtol=1e-6)
    assert changed.spec.obs_normalizer is not None
    assert changed.name == "x+reward*2+1+normalized"


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (
            {"normalise_obs": {}},
            "transforms 'normalise_obs': unknown, did you mean 'normalize_obs'",
        ),
        ({"top_returns": {"fractin": 1}}, r"transforms\.top_returns: no option 'fractin', did you"),
        ({"top_returns": {}}, r"transforms\.top_returns: missing .*'fraction'"),
        ({"scale_reward": {"scale": "x"}}, r"transforms\.scale_reward: "),
        ({"normalize_obs": None}, r"transforms\.normalize_obs: found null, expected options"),
    ],
)
def test_wrong_transforms_of_a_configuration_are_named(steps, message):
    with pytest.raises(InputError, match=message):
        transform(make(), steps)


# ---- filter and relabel


def test_episodes_are_filtered_by_return_and_length(tiny):
    returns, lengths = tiny.episode_returns(), tiny.episode_lengths()
    middle = float(np.median(returns))
    data = transform(tiny, {"filter": {"min_return": middle}})
    kept = np.repeat(returns >= middle, lengths)
    assert np.array_equal(data.reward, tiny.reward[kept])
    assert np.array_equal(data.episode_returns(), returns[returns >= middle])
    assert len(transform(tiny, {"filter": {"max_length": 10, "max_return": 1e9}})) == len(tiny)
    with pytest.raises(InputError, match=r"no episode is left; returns are .*lengths 10 to 10"):
        transform(tiny, {"filter": {"min_length": 11}})
    with pytest.raises(InputError, match="filter: expected min_return"):
        transform(tiny, {"filter": {}})


def first_entry(obs, action, next_obs):
    return next_obs[:, 0] - obs[:, 0] + action


def too_few(obs, action, next_obs):
    return obs[1:, 0]


def test_rewards_are_relabeled_by_a_function(tiny):
    data = transform(tiny, {"relabel": {"function": f"{__name__}:first_entry"}})
    expected = tiny.next_obs[:, 0] - tiny.obs[:, 0] + tiny.action
    assert np.array_equal(data.reward, expected.astype(np.float32))
    with pytest.raises(InputError, match=r"relabel: .*too_few: 199 rewards, expected 200"):
        transform(tiny, {"relabel": {"function": f"{__name__}:too_few"}})
    with pytest.raises(
        InputError, match=r"transforms\.relabel: 'nowhere_at_all:f': expected a fun"
    ):
        transform(tiny, {"relabel": {"function": "nowhere_at_all:f"}})


def in_place(obs, action, next_obs):
    obs += 1
    return obs[:, 0]


def test_a_function_that_fails_is_named_and_changes_nothing(tiny):
    before = tiny.obs.copy()
    with pytest.raises(InputError, match=r"relabel: .*in_place: ValueError: .*read-only"):
        transform(tiny, {"relabel": {"function": f"{__name__}:in_place"}})
    assert np.array_equal(tiny.obs, before)
    with pytest.raises(InputError, match="min_return = 'x'"):
        transform(tiny, {"filter": {"min_return": "x"}})
