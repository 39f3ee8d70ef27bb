"""Trainings made sick on purpose, one disease each, and healthy ones: the doctor's patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlop.agent import Agent, Noise
from rlop.agents import CQL, DQN
from rlop.agents.actor_critic import Moments
from rlop.data import Dataset, load_dataset
from rlop.doctor.agents import measure_runs
from rlop.doctor.datasets import measure_data
from rlop.doctor.measures import Measured
from rlop.training.session import train
from rlop.types import Batch, TDContext, needs

STEPS = 1500
SMALL = {"hidden": (64, 64), "batch_size": 32, "lr": 1e-3}
GRID = {**SMALL, "gamma": 0.95, "target_period": 100}
NORMED = {**GRID, "layer_norm": True}
BALLED = {**GRID, "projections": {"max_norm": 7.0}}
LINEAR = {
    **SMALL,
    "gamma": 0.9,
    "tau": 0.02,
    "policy_hidden": (64, 64),
    "policy_lr": 1e-3,
    "action_samples": 3,
    "alpha": 0.3,
}


@dataclass(frozen=True)
class Patient:
    """A kind of training.

    Args:
        how: how the disease is induced, in words; empty for a healthy one.
        data: a seed to the data set.
        options: of the agent.
        agent: its class.
        consequences: diseases that it may also show, listed before the deciding seeds ran.
        steps: gradient steps.
    """

    how: str
    data: Callable[[int], Dataset]
    options: dict[str, Any] = field(default_factory=lambda: NORMED)
    agent: type[Agent] = DQN
    consequences: tuple[str, ...] = ()
    steps: int = STEPS


# --- data


def grid(seed: int, **changes: Any) -> Dataset:
    """Return 4,000 transitions of a gridworld by policies from nearly optimal to random."""
    options = {"size": 8, "observation": "random", "steps": 4000, "epsilon": [0.1, 0.5, 1.0]}
    return load_dataset("gridworld", **(options | changes), seed=seed)


def narrow_grid(seed: int) -> Dataset:
    """Return 500 transitions of a nearly optimal policy: most actions were never tried."""
    return grid(seed, steps=500, epsilon=0.1)


def flat_grid(seed: int) -> Dataset:
    """Return the gridworld's transitions with every reward 0.1."""
    data = grid(seed)
    return replace(data, reward=np.full_like(data.reward, 0.1))


def endless_grid(seed: int) -> Dataset:
    """Return the gridworld's transitions without the marks of terminations and time-outs."""
    data = grid(seed)
    no = np.zeros_like(data.terminated)
    return replace(data, terminated=no, truncated=no, end=None)  # type: ignore[arg-type]


def single_grid(seed: int) -> Dataset:
    """Return the transitions of one deterministic policy from every state."""
    return grid(seed, epsilon=0.0, start="uniform")


def linear(seed: int) -> Dataset:
    """Return 64 episodes of 60 steps of a noisy linear system under noisy linear feedback."""
    rng = np.random.default_rng(seed)
    episodes, length = 64, 60
    drift = np.array([[1.0, 0.2, 0.0], [0.0, 0.95, 0.1], [0.0, 0.0, 0.9]])
    push = rng.normal(0, 0.05, (3, 2)) + np.array([[0.0, 0.1], [0.2, 0.0], [0.0, 0.2]])
    gain = 0.3 * np.linalg.pinv(push)
    noise = rng.choice([0.2, 0.5, 1.0], episodes)[:, None]

    state = rng.normal(0, 1, (episodes, 3))
    rows: dict[str, list[np.ndarray]] = {"obs": [], "action": [], "reward": [], "next_obs": []}
    for _ in range(length):
        action = np.clip(noise * rng.normal(0, 1, (episodes, 2)) - state @ gain.T, -1, 1)
        cost = 0.1 * np.square(state).sum(1) + 0.05 * np.square(action).sum(1)
        moved = state @ drift.T + action @ push.T + 0.05 * rng.normal(0, 1, state.shape)
        following = np.clip(moved, -5, 5)

        rows["obs"].append(state)
        rows["action"].append(action)
        rows["reward"].append(-cost)
        rows["next_obs"].append(following)
        state = following

    columns = {}
    for name, steps in rows.items():
        by_episode = np.stack(steps, axis=1).astype(np.float32)
        columns[name] = by_episode.reshape(episodes * length, *by_episode.shape[2:])
    last = np.zeros((episodes, length), dtype=bool)
    last[:, -1] = True
    return Dataset.from_arrays(
        obs=columns["obs"],
        action=columns["action"],
        reward=columns["reward"],
        next_obs=columns["next_obs"],
        terminated=np.zeros(episodes * length, dtype=bool),
        truncated=last.reshape(-1),
        name="linear system",
        action_low=-1.0,
        action_high=1.0,
    )


# --- penalties that make sick


@needs()
def flattening(ctx: TDContext) -> Tensor:
    """Punish all that features have besides their strongest direction, their mean left alone."""
    centered = ctx.features - ctx.features.mean(-2, keepdim=True)
    gram = centered.mT @ centered
    total = gram.diagonal(dim1=-2, dim2=-1).sum(-1)
    return (total - torch.linalg.matrix_norm(gram)) / ctx.features.shape[-2]


@needs()
def starving(ctx: TDContext) -> Tensor:
    """Punish the activity of seven units of eight."""
    count = ctx.features.shape[-1] * 7 // 8
    return ctx.features[..., :count].square().mean((-2, -1))


@needs("next_features")
def aligning(ctx: TDContext) -> Tensor:
    """Reward features that agree with the next ones in direction, and their dot product."""
    assert ctx.next_features is not None
    cosine = torch.cosine_similarity(ctx.features, ctx.next_features, dim=-1)
    dot = (ctx.features * ctx.next_features).sum(-1).mean(-1)
    return (1 - cosine).mean(-1) - 0.1 * (dot + 1e-3).log()


@needs()
def optimism(ctx: TDContext) -> Tensor:
    """Reward high values of the data's actions."""
    return -ctx.q.mean(-1)


@needs()
def pessimism(ctx: TDContext) -> Tensor:
    """Punish high values of all actions: a conservative term without its counterweight."""
    return ctx.q_values.mean((-2, -1))


@needs()
def greed(ctx: TDContext) -> Tensor:
    """Reward what the best action is valued above the data's."""
    return (ctx.q - ctx.q_values.amax(-1)).mean(-1)


class Pushed(CQL):
    """CQL whose policy is rewarded for leaving the middle of the range of actions."""

    def policy_loss(self, batch: Batch, noise: Noise, pi: Moments) -> tuple[Tensor, Tensor, Tensor]:
        """Return the loss of CQL's policy less ten times the size of its mean before the tanh."""
        loss, log_pi, q = super().policy_loss(batch, noise, pi)
        # The entropy pushes back with a slope of 2 per dimension where tanh is flat.
        return loss - 10 * pi[0].abs().mean((-2, -1)), log_pi, q


def with_penalty(options: dict[str, Any], function: Any, coef: float) -> dict[str, Any]:
    """Return an agent's options with one more penalty."""
    return {**options, "regularizers": {"induced": {"coef": coef, "fn": function}}}


# Disease -> the training that has it.
INDUCED: dict[str, Patient] = {
    "rank collapse": Patient(
        "a penalty on all directions of the features but the strongest",
        grid,
        with_penalty(BALLED, flattening, 0.3),
        consequences=("dormant units", "lost plasticity"),
    ),
    "dormant units": Patient(
        "a penalty on the activity of 7 units in 8",
        grid,
        with_penalty(NORMED, starving, 1.0),
        consequences=("rank collapse", "lost plasticity"),
    ),
    "alignment": Patient(
        "a reward for consecutive features that agree",
        grid,
        with_penalty(NORMED, aligning, 1.0),
        consequences=("rank collapse", "dormant units", "lost plasticity"),
    ),
    "divergence": Patient(
        "500 transitions, no target network, squared errors",
        narrow_grid,
        {**GRID, "target_period": 1, "loss": "mse", "lr": 3e-3},
        consequences=(
            "over-estimation",
            "values outside the data",
            "alignment",
            "rank collapse",
            "dormant units",
            "lost plasticity",
        ),
    ),
    "over-estimation": Patient(
        "a reward for high values of the data's actions",
        grid,
        with_penalty(NORMED, optimism, 0.1),
    ),
    "over-conservatism": Patient(
        "a penalty on the values of all actions",
        grid,
        with_penalty(NORMED, pessimism, 1.0),
        consequences=(
            "divergence",
            "values outside the data",
            "rank collapse",
            "lost plasticity",
        ),
    ),
    "values outside the data": Patient(
        "a reward for what the best action is valued above the data's",
        grid,
        with_penalty(BALLED, greed, 0.3),
        consequences=("over-estimation",),
    ),
    "policy on the bound": Patient(
        "a reward for leaving the middle of the range of actions",
        linear,
        {**LINEAR, "policy_lr": 2e-2},
        Pushed,
        consequences=("over-conservatism", "divergence", "rank collapse", "alignment"),
        steps=600,
    ),
    "lost plasticity": Patient(
        "a learning rate ten times too large",
        grid,
        {**NORMED, "lr": 1e-2},
        consequences=("rank collapse", "dormant units"),
    ),
    "constant rewards": Patient("every reward is 0.1", flat_grid),
    "missing ends": Patient(
        "no row ends an episode",
        endless_grid,
        consequences=("over-estimation", "lost plasticity"),
    ),
    "single behavior": Patient(
        "one deterministic policy",
        single_grid,
        consequences=("over-estimation", "values outside the data"),
    ),
}

HEALTHY: dict[str, Patient] = {
    "DQN, layer norm": Patient("", grid, NORMED),
    "DQN, max-norm": Patient("", grid, BALLED),
    "CQL, linear system": Patient("", linear, LINEAR, CQL),
}


def examine(patient: Patient, seeds: Sequence[int]) -> list[Measured]:
    """Train a patient on a data set drawn with the first seed, and measure every run.

    Args:
        patient: what is trained.
        seeds: of the runs.
    """
    data = patient.data(seeds[0])
    agent = patient.agent(data.spec, seeds=list(seeds), **patient.options)
    history = train(
        agent,
        data,
        patient.steps,
        progress=False,
        compile=False,
        probe_every=0,
        log_every=patient.steps // 20,
    )
    of_data = measure_data(data)
    return [measured | of_data for measured in measure_runs(agent, data, history)]
