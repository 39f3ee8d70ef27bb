"""The probabilities with which the data's own policy acted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import torch

from rlop.agents.behavior import COLUMN, make_source
from rlop.data.dataset import Dataset
from rlop.types import InputError

# Probabilities [N, A], or where they come from: as the option `behavior` of DQN.
Behavior: TypeAlias = np.ndarray | str | Mapping[str, object]


def behavior_at(
    data: Dataset, behavior: Behavior, device: torch.device | str = "cpu"
) -> np.ndarray:
    """Return the probabilities of the actions in the state of every row, `[N, A]` float64.

    Args:
        data: with discrete actions.
        behavior: the probabilities `[N, A]`, if they are known; `counts`, how often the data took
            each action at the same observation; `bc`, a cloned policy; one of these with options;
            or a known policy by its import path, `{"known": {"policy": "my_module:function"}}`.
            See `rlop.agents.behavior`.
        device: where a clone is trained.
    Raises:
        InputError: continuous actions, another shape, no probabilities, or an action that the data
            took and the policy never takes.
    """
    n_actions = data.spec.n_actions
    if n_actions is None:
        raise InputError(
            f"{data.name}: importance weights need discrete actions, found continuous ones; "
            "fitted Q evaluation takes both"
        )
    if isinstance(behavior, np.ndarray):
        if behavior.shape != (len(data), n_actions):
            raise InputError(
                f"behavior: probabilities of shape {behavior.shape}, expected "
                f"{(len(data), n_actions)}"
            )
        chances = behavior.astype(np.float64)
    else:
        chances = _from_source(data, behavior, torch.device(device))

    sums = chances.sum(1)
    if not (np.abs(sums - 1) < 1e-3).all() or (chances < 0).any():
        row = int(np.abs(sums - 1).argmax())
        raise InputError(
            f"behavior: row {row} sums to {sums[row]:g}, expected probabilities of the actions"
        )
    taken = chances[np.arange(len(data)), data.action]
    if (taken == 0).any():
        row = int((taken == 0).argmax())
        raise InputError(
            f"behavior: probability 0 of action {data.action[row]} in row {row}, which the data "
            "took, expected more"
        )
    return chances


def _from_source(
    data: Dataset, behavior: str | Mapping[str, object], device: torch.device
) -> np.ndarray:
    """Ask a source of the policy at the next observation, with every row its own successor."""
    if behavior == "known":
        raise InputError(
            "behavior: known: expected its probabilities [N, A], or the import path of a function "
            "of observations, {known: {policy: my_module:probabilities}}"
        )
    at_itself = replace(
        data,
        next_obs=data.obs,
        terminated=np.zeros(len(data), bool),  # such rows get the uniform policy
        truncated=data.terminated | data.truncated,
    )
    table = make_source(behavior).add_to(at_itself, device).extra[COLUMN]
    return np.asarray(table, np.float64)
