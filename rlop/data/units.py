"""Units of continuous actions: the environment's, and [-1, 1], in which agents act."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rlop.config.checks import check_known
from rlop.data.changes import recorded
from rlop.data.dataset import Dataset
from rlop.data.native import Bound, bounds, unit_actions
from rlop.data.recorded import UNITS
from rlop.envs.make import known_spaces
from rlop.envs.spaces import bounded
from rlop.logs.messages import say
from rlop.types import InputError


def with_bounds(data: Dataset, low: Bound, high: Bound) -> Dataset:
    """Record which actions of the environment are -1 and 1 in the data; actions stay as they are.

    Args:
        data: with continuous actions `[N, m]` in [-1, 1].
        low: a number, or one per dimension.
        high: the same.
    Raises:
        InputError: discrete actions, or bounds that are not finite, of another number, or not in
            order.
    """
    if data.spec.n_actions is not None:
        raise InputError(f"{data.name}: action_low, action_high: expected continuous actions")
    lows, highs = bounds(low, high, int(np.prod(data.spec.action_shape)))
    spec = replace(data.spec, action_low=tuple(lows.tolist()), action_high=tuple(highs.tolist()))
    return replace(data, spec=spec)


@recorded
def scale_actions(data: Dataset, low: Bound, high: Bound) -> Dataset:
    """Bring actions from the environment's bounds to [-1, 1], and record the bounds.

    Evaluation and a deployed policy undo it. Data that were read with these bounds stay as they
    are.

    Args:
        data: with continuous actions in the environment's units.
        low: the environment's lowest action, a number or one per dimension.
        high: the highest.
    Raises:
        InputError: as in `with_bounds`; actions outside the bounds; or actions that were scaled
            by others.
    """
    with_units = with_bounds(data, low, high)
    if with_units.spec == data.spec:
        return data
    if data.spec.action_low is not None:
        raise InputError(
            f"{data.name}: scale_actions: its actions are in [-1, 1] already, by the bounds "
            f"{list(data.spec.action_low)} and {list(data.spec.action_high or ())}"
        )

    lows, highs = np.array(with_units.spec.action_low), np.array(with_units.spec.action_high)
    try:
        action = unit_actions(data.action, lows, highs)
        extra = dict(data.extra)
        if "next_action" in extra:
            extra["next_action"] = unit_actions(extra["next_action"], lows, highs)
    except InputError as error:
        raise InputError(f"{data.name}: scale_actions: {error}") from None
    return replace(with_units, name=f"{data.name}+scaled", action=action, extra=extra)


def in_units(data: Dataset, low: Bound | None, high: Bound | None, units: str) -> Dataset:
    """Return a data set with actions in [-1, 1], by the options of a reader.

    Args:
        data: as read.
        low: the environment's lowest action; None if the user does not say.
        high: the highest.
        units: of the actions as read: `native` or `unit`.
    Raises:
        InputError: only one of the bounds, or as in `scale_actions`.
    """
    check_known("action_units", units, UNITS)
    if (low is None) != (high is None):
        raise InputError(f"action_low = {low}, action_high = {high}: expected both, or neither")
    if low is None or high is None:
        return data
    return with_bounds(data, low, high) if units == "unit" else scale_actions(data, low, high)


def in_env_units(data: Dataset, env_id: str | None) -> Dataset:
    """Bring actions beyond [-1, 1] there by the bounds of their environment, and say so.

    Nothing changes where actions are in [-1, 1] or their units are known, where the environment
    cannot be made here or has no such bounds, and where actions lie beyond its bounds too.

    Args:
        data: a data set.
        env_id: of the environment; None if it is unknown.
    """
    spec = data.spec
    if env_id is None or spec.n_actions is not None or spec.action_low is not None:
        return data
    if data.action.min() >= -1 and data.action.max() <= 1:  # without a copy of their size
        return data

    spaces = known_spaces(env_id)
    if spaces is None or not bounded(spaces[1]):
        return data
    low, high = spaces[1].low.reshape(-1), spaces[1].high.reshape(-1)
    if low.size != data.action[0].size or ((low == -1).all() and (high == 1).all()):
        return data
    try:
        scaled = scale_actions(data, low, high)
    except InputError:
        return data

    say(
        f"{data.name}: actions from {data.action.min():.4g} to {data.action.max():.4g}, brought to "
        f"[-1, 1] by the bounds of {env_id}"
    )
    return replace(scaled, name=data.name)
