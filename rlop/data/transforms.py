"""Transform a data set: normalize observations, scale rewards, select episodes, clip actions.

Every function returns a new data set and leaves the old one as it was. The change is appended to
the data set's name, and recorded in `spec.changes`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from inspect import signature

import numpy as np

from rlop.config.checks import check_known, check_range, show
from rlop.config.parts import load_part
from rlop.data.changes import recorded, with_change
from rlop.data.columns import float_column
from rlop.data.dataset import Dataset
from rlop.data.images import transpose
from rlop.data.mapped import by_pieces
from rlop.data.moments import moments
from rlop.data.options import check_options
from rlop.data.units import scale_actions
from rlop.types import InputError, Spec

REWARD = "+reward"  # begins the note of a change of rewards, and with them of returns

# AntMaze pays 1 at the goal and 0 elsewhere. Convention -> (scale, shift).
ANTMAZE: Mapping[str, tuple[float, float]] = {
    "official": (4.0, -2.0),  # (r - 0.5) * 4 of the CQL authors
    "corl": (10.0, -5.0),
    "geng": (10.0, -5.0),  # young-geng's CQL
    "iql": (1.0, -1.0),
}


def normalize_obs(data: Dataset, eps: float = 1e-3) -> tuple[Dataset, np.ndarray, np.ndarray]:
    """Give every entry of the observations mean 0 and standard deviation 1.

        obs -> (obs - mean) / divisor,  divisor = standard deviation + eps

    Mean and divisor come from the data's `obs` alone. They are stored in `spec.obs_normalizer`, so
    that an agent's checkpoint holds them and an evaluation can apply the same with `normalized`.

    Args:
        data: with float32 observations.
        eps: added to the standard deviation, so that entries that hardly vary are not blown up.

    Returns:
        The new data set; mean and divisor, float32 of the shape of one observation.

    Raises:
        InputError: observations are bytes or booleans, which networks scale themselves, or
            normalized already.
    """
    check_range("eps", eps, low=0, low_open=True)
    if data.obs.dtype != np.float32:
        raise InputError(
            f"{data.name}: normalize_obs: observations are {data.obs.dtype}, expected float32"
        )
    if data.spec.obs_normalizer is not None:
        raise InputError(f"{data.name}: normalize_obs: observations are normalized already")

    exact_mean, deviation = moments(data.obs)
    mean, divisor = exact_mean.astype(np.float32), (deviation + eps).astype(np.float32)
    stored = (tuple(mean.ravel().tolist()), tuple(divisor.ravel().tolist()))
    spec = replace(data.spec, obs_normalizer=stored)

    changed = replace(
        data,
        name=f"{data.name}+normalized",
        obs=by_pieces(partial(normalized, spec=spec), data.obs, np.float32),
        next_obs=by_pieces(partial(normalized, spec=spec), data.next_obs, np.float32),
        spec=spec,
    )
    return with_change(data, changed, "normalize_obs", {"eps": eps}), mean, divisor


def normalized(obs: np.ndarray, spec: Spec) -> np.ndarray:
    """Normalize observations of the environment as the data's are.

    Args:
        obs: `[..., *S]`.
        spec: of the data; without a normalizer `obs` is returned as it is.

    Raises:
        ValueError: the last axes of `obs` differ from the spec.
    """
    leading = obs.ndim - len(spec.obs_shape)
    if obs.shape[leading:] != spec.obs_shape:
        expected = ", ".join(map(str, spec.obs_shape))
        raise ValueError(f"obs: expected [..., {expected}], got {obs.shape}")
    if spec.obs_normalizer is None:
        return obs

    mean_values, divisor_values = spec.obs_normalizer
    mean = np.array(mean_values, np.float32).reshape(spec.obs_shape)
    divisor = np.array(divisor_values, np.float32).reshape(spec.obs_shape)
    return (obs.astype(np.float32, copy=False) - mean) / divisor


@recorded
def scale_reward(data: Dataset, scale: float = 1.0, shift: float = 0.0) -> Dataset:
    """Map rewards r -> scale * r + shift.

    Raises:
        InputError: rewards have been summed already (`n_step`, `with_mc_returns`).
    """
    if data.discount is not None or "mc_return" in data.extra:
        raise InputError(
            f"{data.name}: scale_reward: before n_step and with_mc_returns, which sum rewards"
        )

    def scaled(reward: np.ndarray) -> np.ndarray:
        return reward.astype(np.float64) * scale + shift

    reward = by_pieces(scaled, data.reward, np.float32)
    return replace(data, name=f"{data.name}{REWARD}*{scale:g}{shift:+g}", reward=reward)


@recorded
def scale_reward_by_return_range(data: Dataset, max_episode_steps: int = 1000) -> Dataset:
    """Map rewards r -> r * max_episode_steps / (best return - worst return) of the episodes.

    Raises:
        InputError: all episodes have the same return, or rewards have been summed already.

    Reference: `normalize` of the IQL authors' train_offline.py; `modify_reward` of CORL.
    Differs from: CORL cuts episodes by counting steps and forgets the last one; here they are the
        data set's episodes.
    """
    check_range("max_episode_steps", max_episode_steps, low=1)
    returns = data.episode_returns()
    spread = float(returns.max() - returns.min())

    if spread == 0:
        raise InputError(
            f"{data.name}: scale_reward_by_return_range: "
            f"all {len(returns)} returns are {returns[0]:g}"
        )

    return scale_reward(data, max_episode_steps / spread)


@recorded
def antmaze_reward(data: Dataset, convention: str) -> Dataset:
    """Map AntMaze's rewards, 0 and 1, by a convention of `ANTMAZE`: official, corl, geng or iql.

    Raises:
        InputError: an unknown convention, or rewards other than 0 and 1.
    """
    check_known("antmaze_reward: convention", convention, ANTMAZE)
    other = np.flatnonzero((data.reward != 0) & (data.reward != 1))
    if len(other):
        reward = f"{data.reward[other[0]]:g} at row {other[0]}"
        raise InputError(f"{data.name}: antmaze_reward: reward {reward}, expected only 0 and 1")

    scale, shift = ANTMAZE[convention]
    return scale_reward(data, scale, shift)


@recorded
def top_returns(data: Dataset, fraction: float) -> Dataset:
    """Keep the episodes with the highest returns, in the order of the data.

    Args:
        data: with one-step rows.
        fraction: of the number of episodes, rounded up.

    Raises:
        InputError: the fraction is not in (0, 1], or rewards have been summed already.
    """
    check_range("fraction", fraction, low=0, high=1, low_open=True)
    returns = data.episode_returns()
    count = math.ceil(fraction * len(returns))
    # Stable: of equal returns the earlier episode is kept.
    order = np.argsort(-returns, kind="stable")
    best = order[:count]
    return _episodes(data, best, f"+top{fraction:g}")


@recorded
def filter_episodes(
    data: Dataset,
    min_return: float | None = None,
    max_return: float | None = None,
    min_length: int | None = None,
    max_length: int | None = None,
) -> Dataset:
    """Keep the episodes whose undiscounted return and number of rows lie within limits.

    Args:
        data: with one-step rows.
        min_return: least return; None for any.
        max_return: largest return.
        min_length: least number of rows.
        max_length: largest number of rows.

    Raises:
        InputError: no limit, no episode within them, or rewards have been summed already.
    """
    limits = {
        "return": (data.episode_returns(), min_return, max_return),
        "length": (data.episode_lengths(), min_length, max_length),
    }
    keep = np.ones(data.n_episodes, bool)
    note = ""
    for name, (values, low, high) in limits.items():
        for end, limit in (("min", low), ("max", high)):
            if limit is not None:
                check_range(f"{end}_{name}", limit)
        if low is not None:
            keep &= values >= low
            note += f"+{name}>={low:g}"
        if high is not None:
            keep &= values <= high
            note += f"+{name}<={high:g}"

    if not note:
        raise InputError(f"{data.name}: filter: expected min_return, max_return, ...: a limit")
    if not keep.any():
        returns, lengths = limits["return"][0], limits["length"][0]
        raise InputError(
            f"{data.name}: filter: no episode is left; returns are {returns.min():g} to "
            f"{returns.max():g}, lengths {lengths.min()} to {lengths.max()}"
        )
    return _episodes(data, np.flatnonzero(keep), note)


@recorded
def relabel(data: Dataset, function: str) -> Dataset:
    """Replace the rewards by a function of your own.

    Args:
        data: with one-step rows.
        function: import path `my_module:reward` of a function of obs `[N, *S]`, action `[N, ...]`
            and next_obs `[N, *S]`, NumPy arrays, that returns `[N]` numbers. Only the user's own
            configuration may name it.

    Raises:
        InputError: no such function, another shape, NaN, or rewards have been summed already.
    """
    if data.discount is not None or "mc_return" in data.extra:
        raise InputError(f"{data.name}: relabel: before n_step and with_mc_returns")
    reward = load_part(function, "a function of obs, action, next_obs", "transforms.relabel")
    if not callable(reward):
        raise InputError(f"transforms.relabel: {function!r}: expected a function")

    given = [np.asarray(array).view() for array in (data.obs, data.action, data.next_obs)]
    for array in given:
        array.flags.writeable = False  # the data set stays as it was

    try:
        column = float_column("reward", reward(*given))
    except Exception as error:  # the function is the user's
        reason = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        raise InputError(f"{data.name}: relabel: {function}: {reason}") from error
    if column.shape != (len(data),):
        raise InputError(
            f"{data.name}: relabel: {function}: {len(column)} rewards, expected {len(data)}"
        )
    return replace(data, name=f"{data.name}{REWARD}={function}", reward=column)


@recorded
def subsample(
    data: Dataset,
    fraction: float | None = None,
    n: int | None = None,
    seed: int = 0,
) -> Dataset:
    """Draw whole episodes at random without replacement; they stay in the order of the data.

    Args:
        data: any.
        fraction: of the number of episodes, rounded up; or
        n: number of episodes.
        seed: of the draw.

    Raises:
        InputError: not exactly one of `fraction` and `n`, or more episodes than the data has.
    """
    if (fraction is None) == (n is None):
        raise InputError(f"subsample: fraction = {fraction}, n = {n}: expected exactly one of them")
    if fraction is not None:
        check_range("fraction", fraction, low=0, high=1, low_open=True)
        n = math.ceil(fraction * data.n_episodes)
    assert n is not None
    check_range("n", n, low=1, high=data.n_episodes)

    rng = np.random.default_rng(seed)
    drawn = rng.choice(data.n_episodes, n, replace=False)
    return _episodes(data, drawn, f"+sample{n}-seed{seed}")


@recorded
def clip_actions(data: Dataset, limit: float = 1 - 1e-6) -> Dataset:
    """Clip continuous actions to [-limit, limit], so that the inverse of tanh is finite on them.

    Raises:
        InputError: actions are discrete.
    """
    check_range("limit", limit, low=0, low_open=True)
    if data.spec.n_actions is not None:
        raise InputError(
            f"{data.name}: clip_actions: {data.spec.n_actions} discrete actions, "
            "expected continuous ones"
        )

    clip = partial(np.clip, a_min=-limit, a_max=limit)
    extra = dict(data.extra)
    if "next_action" in extra:
        extra["next_action"] = by_pieces(clip, extra["next_action"], np.float32)

    return replace(
        data,
        name=f"{data.name}+clipped",
        action=by_pieces(clip, data.action, np.float32),
        extra=extra,
    )


def _normalize_only(data: Dataset, eps: float = 1e-3) -> Dataset:
    """Return the data set of `normalize_obs` without its mean and divisor."""
    changed, _, _ = normalize_obs(data, eps)
    return changed


def _episodes(data: Dataset, numbers: np.ndarray, note: str) -> Dataset:
    """Keep the rows of some episodes, by number, and append a note to the name."""
    keep = np.zeros(data.n_episodes, bool)
    keep[numbers] = True
    part = data.subset(np.repeat(keep, data.episode_lengths()))
    return replace(part, name=data.name + note)


# What a configuration may name under `transforms`; each takes a data set and keyword arguments.
TRANSFORMS: dict[str, Callable[..., Dataset]] = {
    "normalize_obs": _normalize_only,
    "scale_reward": scale_reward,
    "scale_reward_by_return_range": scale_reward_by_return_range,
    "antmaze_reward": antmaze_reward,
    "relabel": relabel,
    "filter": filter_episodes,
    "top_returns": top_returns,
    "subsample": subsample,
    "clip_actions": clip_actions,
    "scale_actions": scale_actions,
    "transpose": transpose,
}


def transform(data: Dataset, steps: Mapping[str, Mapping[str, object]]) -> Dataset:
    """Apply transforms in the given order.

    Args:
        data: any.
        steps: name -> options, e.g. `{"top_returns": {"fraction": 0.1}, "normalize_obs": {}}`.

    Raises:
        InputError: an unknown transform or option, or what the transform itself refuses.
    """
    if not isinstance(steps, Mapping):
        raise InputError(f"transforms = {show(steps)}: expected transforms by name")
    for name, options in steps.items():
        check_known("transforms", name, TRANSFORMS)
        change = TRANSFORMS[name]
        if not isinstance(options, Mapping):
            raise InputError(f"transforms.{name}: found {show(options)}, expected options by name")
        check_options(f"transforms.{name}", options, list(signature(change).parameters)[1:])

        try:
            data = change(data, **options)
        except TypeError as error:  # an option that is missing, or of the wrong type
            reason = str(error).rpartition(") ")[2]
            raise InputError(f"transforms.{name}: {reason}") from None
    return data
