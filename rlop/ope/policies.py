"""The policies that are valued: many at once, as one function of observations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike

from rlop.agent import Agent
from rlop.config.checks import check_range
from rlop.envs.tabular import TabularMDP, state_index
from rlop.types import InputError, Spec

# Observations [n, *obs_shape] -> what P policies do there: probabilities [P, n, A] of discrete
# actions, or continuous actions [P, n, m].
Policies: TypeAlias = Callable[[np.ndarray], ArrayLike]

AT_ONCE = 4096  # observations
TOLERANCE = 1e-3  # of a sum of probabilities, against 1


def policies_of(agent: Agent, epsilon: float = 0.0) -> Policies:
    """Return the policies of an agent's runs, as they act when they are deployed.

    Args:
        agent: with R runs, so that P = R.
        epsilon: probability of a uniformly random action, of discrete actions alone.
    Raises:
        InputError: epsilon is no probability, or the actions are continuous.
    """
    n_actions = agent.spec.n_actions
    check_range("epsilon", epsilon, low=0, high=1)
    if epsilon and n_actions is None:
        raise InputError(f"epsilon = {epsilon}: expected discrete actions")

    def act(obs: np.ndarray) -> np.ndarray:
        given = torch.from_numpy(obs).to(agent.device)
        with torch.no_grad():
            action = agent.act(given.expand(len(agent.runs), *given.shape)).cpu().numpy()
        if n_actions is None:
            return action
        return (1 - epsilon) * np.eye(n_actions, dtype=np.float32)[action] + epsilon / n_actions

    return act


def policies_of_tables(mdp: TabularMDP, tables: ArrayLike) -> Policies:
    """Return policies that are given as tables of a finite process.

    Args:
        mdp: the process, whose observations are distinct.
        tables: pi(a | s) of every policy, `[P, S, A]`.
    """
    chances = np.asarray(tables, np.float32)
    return lambda obs: chances[:, state_index(mdp, obs)]


def stacked(policies: Sequence[Policies]) -> Policies:
    """Return several functions of policies as one, their policies one after another."""
    return lambda obs: np.concatenate([np.asarray(one(obs)) for one in policies])


def answers(policies: Policies, obs: np.ndarray, spec: Spec) -> np.ndarray:
    """Ask policies what they do at observations, piece by piece, and check it.

    Args:
        policies: the policies.
        obs: `[n, *obs_shape]`; may be stacked frames.
        spec: of the data, whose actions are meant.
    Returns:
        `[P, n, A]` probabilities, or `[P, n, m]` actions, float32.
    Raises:
        InputError: another shape, numbers that are not finite, or no probabilities.
    """
    parts = []
    for start in range(0, len(obs), AT_ONCE):
        part = np.array(obs[start : start + AT_ONCE])
        answer = np.asarray(policies(part), np.float32)
        check_answer(answer, len(part), spec)
        parts.append(answer)
    return np.concatenate(parts, axis=1)


def check_answer(answer: np.ndarray, n: int, spec: Spec) -> None:
    """Raise InputError unless an answer of policies at n observations fits the data's actions."""
    shape = spec.action_shape if spec.n_actions is None else (spec.n_actions,)
    if answer.shape[1:] != (n, *shape):
        expected = ", ".join(map(str, ("P", n, *shape)))
        raise InputError(f"policies: an answer of shape {answer.shape}, expected [{expected}]")
    if not np.isfinite(answer).all():
        raise InputError("policies: an answer that is not finite, expected numbers")
    if spec.n_actions is None:
        return
    is_off = (np.abs(answer.sum(-1) - 1) > TOLERANCE) | (answer < 0).any(-1)
    if is_off.any():
        policy, row = np.argwhere(is_off)[0]
        raise InputError(
            f"policies: policy {policy} answers {answer[policy, row].tolist()}, expected "
            "probabilities of the actions"
        )
