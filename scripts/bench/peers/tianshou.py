"""Tianshou 2: `algorithm.update(buffer, batch)` inside a training step, as its trainers call it.

Differences that remain: its discrete CQL is quantile regression, here with its default 200
quantiles, so it does more. Its continuous CQL subtracts the entropy in the target, evaluates the
policy once per action instead of once per state, and takes the log-sum-exp over three actions at a
time instead of thirty (the result of a reshape is not used); the matrix products are the same. Its
DQN passes s' through the online network as well as through the target network.
"""

from __future__ import annotations

import gymnasium
import numpy as np
from tianshou.algorithm.algorithm_base import policy_within_training_step
from tianshou.algorithm.imitation.cql import CQL
from tianshou.algorithm.imitation.discrete_cql import DiscreteCQL
from tianshou.algorithm.modelfree.dqn import DQN, DiscreteQLearningPolicy
from tianshou.algorithm.modelfree.qrdqn import QRDQNPolicy
from tianshou.algorithm.modelfree.sac import AutoAlpha, SACPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import ReplayBuffer
from tianshou.utils.net.common import Net
from tianshou.utils.net.continuous import ContinuousActorProbabilistic, ContinuousCritic
from torch import Tensor, as_tensor, nn

from rlop.data import Dataset
from scripts.bench.measure import Update
from scripts.bench.plain import q_network
from scripts.bench.problems import SAMPLES, TARGET_PERIOD, Problem, channels_first

QUANTILES = 200


def build(problem: Problem, data: Dataset) -> Update:
    """Return its update on its replay buffer."""
    makers = {"cql": continuous, "dqn": dqn, "discrete-cql": discrete_cql}
    algorithm = makers[problem.kind](problem)
    buffer = ReplayBuffer.from_data(
        channels_first(problem, data.obs),
        data.action,
        data.reward,
        data.terminated,
        data.truncated,
        data.terminated | data.truncated,
        channels_first(problem, data.next_obs),
    )

    def update() -> object:
        with policy_within_training_step(algorithm.policy):
            return algorithm.update(buffer, problem.batch)

    return update


def continuous(problem: Problem) -> CQL:
    """Make continuous CQL without its Lagrange form and without clipping, like the others."""

    def critic() -> ContinuousCritic:
        net = Net(
            state_shape=problem.obs,
            action_shape=problem.actions,
            hidden_sizes=problem.hidden,
            concat=True,
        )
        return ContinuousCritic(preprocess_net=net)

    actor = ContinuousActorProbabilistic(
        preprocess_net=Net(state_shape=problem.obs, hidden_sizes=problem.hidden),
        action_shape=problem.actions,
        unbounded=True,
        conditioned_sigma=True,
    )
    space = gymnasium.spaces.Box(-1, 1, (problem.actions,), np.float32)
    return CQL(
        policy=SACPolicy(actor=actor, action_space=space),
        policy_optim=AdamOptimizerFactory(lr=1e-4),
        critic=critic(),
        critic2=critic(),
        critic_optim=AdamOptimizerFactory(lr=3e-4),
        cql_weight=5.0,
        alpha=AutoAlpha(-float(problem.actions), 0.0, AdamOptimizerFactory(lr=1e-4)),
        with_lagrange=False,
        calibrated=False,
        num_repeat_actions=SAMPLES,
        max_grad_norm=None,
    )


def dqn(problem: Problem) -> DQN:
    """Make DQN, not double."""
    policy = DiscreteQLearningPolicy(
        model=model(problem), action_space=gymnasium.spaces.Discrete(problem.actions)
    )
    return DQN(
        policy=policy,
        optim=AdamOptimizerFactory(lr=3e-4),
        target_update_freq=TARGET_PERIOD,
        is_double=False,
        huber_loss_delta=1.0,
    )


def discrete_cql(problem: Problem) -> DiscreteCQL:
    """Make its discrete CQL."""
    policy = QRDQNPolicy(
        model=model(problem, QUANTILES), action_space=gymnasium.spaces.Discrete(problem.actions)
    )
    return DiscreteCQL(
        policy=policy,
        optim=AdamOptimizerFactory(lr=3e-4),
        num_quantiles=QUANTILES,
        target_update_freq=TARGET_PERIOD,
    )


def model(problem: Problem, quantiles: int = 1) -> nn.Module:
    """Build its own network for vectors; for images the layers that every contestant has."""
    if problem.network != "mlp":
        return Convolutional(problem, quantiles)
    sizes = {
        "state_shape": problem.obs,
        "action_shape": problem.actions,
        "hidden_sizes": problem.hidden,
    }

    return Net(**sizes, num_atoms=quantiles)


class Convolutional(nn.Module):
    """`(obs, state, info) -> (values, state)`, the form its policies call."""

    def __init__(self, problem: Problem, quantiles: int) -> None:
        super().__init__()
        self.net = q_network(problem, problem.actions * quantiles)
        self.shape = (problem.actions, quantiles) if quantiles > 1 else (problem.actions,)

    def forward(
        self, obs: np.ndarray, state: object = None, info: object = None
    ) -> tuple[Tensor, object]:
        """Compute values `[B, A]`, or quantiles `[B, A, Q]`."""
        return self.net(as_tensor(obs)).unflatten(1, self.shape), state
