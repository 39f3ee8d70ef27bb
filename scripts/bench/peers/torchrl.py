"""TorchRL: its losses, target updaters and replay buffer, stepped as in its CQL and DQN examples.

Differences that remain: discrete agents copy their target network with `HardUpdate`, as the others
here do, where its discrete CQL example has `SoftUpdate` at every step. Continuous CQL evaluates the
policy once per action.
"""

from __future__ import annotations

import logging

import torch
from tensordict import TensorDict
from tensordict.nn import NormalParamExtractor, TensorDictModule
from torch import Tensor, nn
from torchrl.data import Bounded, Categorical, LazyTensorStorage, TensorDictReplayBuffer
from torchrl.modules import MLP, ConvNet, ProbabilisticActor, QValueActor, TanhNormal, ValueOperator
from torchrl.objectives import CQLLoss, DiscreteCQLLoss, DQNLoss, HardUpdate, SoftUpdate

from rlop.data import Dataset
from scripts.bench.measure import Update
from scripts.bench.plain import Pixels, step
from scripts.bench.problems import CONVOLUTIONS, SAMPLES, TARGET_PERIOD, Problem, channels_first

logging.getLogger("torchrl").setLevel(logging.WARNING)  # it announces every storage


def build(problem: Problem, data: Dataset) -> Update:
    """Return its update on its replay buffer."""
    buffer = make_buffer(problem, data)
    if problem.kind == "cql":
        return continuous(problem, buffer)
    return discrete(problem, buffer)


def make_buffer(problem: Problem, data: Dataset) -> TensorDictReplayBuffer:
    """Fill its replay buffer with the data."""

    def column(values: object) -> Tensor:
        return torch.from_numpy(values).unsqueeze(-1)

    next_rows = {
        "observation": torch.from_numpy(channels_first(problem, data.next_obs)),
        "reward": column(data.reward),
        "done": column(data.terminated | data.truncated),
        "terminated": column(data.terminated),
    }
    rows = {
        "observation": torch.from_numpy(channels_first(problem, data.obs)),
        "action": torch.from_numpy(data.action),
        "next": TensorDict(next_rows, [len(data)]),
    }
    buffer = TensorDictReplayBuffer(storage=LazyTensorStorage(len(data)), batch_size=problem.batch)
    buffer.extend(TensorDict(rows, [len(data)]))

    return buffer


def continuous(problem: Problem, buffer: TensorDictReplayBuffer) -> Update:
    """Return the update of continuous CQL with a trained entropy weight."""
    loss = cql_loss(problem)
    critic_adam = adam(loss.qvalue_network_params, 3e-4)
    policy_adam = adam(loss.actor_network_params, 1e-4)
    coef_adam = torch.optim.Adam([loss.log_alpha], lr=1e-4)
    target = SoftUpdate(loss, tau=0.005)

    def update() -> tuple[float, ...]:
        batch = buffer.sample()
        critic_loss = loss.q_loss(batch)[0] + loss.cql_loss(batch)[0]
        step(critic_adam, critic_loss)
        policy_loss, policy_values = loss.actor_loss(batch)
        step(policy_adam, policy_loss)
        coef_loss, _ = loss.alpha_loss(policy_values)
        step(coef_adam, coef_loss)
        target.step()

        return critic_loss.item(), policy_loss.item(), coef_loss.item()

    return update


def adam(parameters: TensorDict, lr: float) -> torch.optim.Adam:
    """Make the optimizer of one network of the loss."""
    return torch.optim.Adam(list(parameters.flatten_keys().values()), lr=lr)


def cql_loss(problem: Problem) -> CQLLoss:
    """Build actor, critics and the loss on them."""
    (n_obs,) = problem.obs
    relu = {"num_cells": list(problem.hidden), "activation_class": nn.ReLU}
    moments = nn.Sequential(MLP(n_obs, 2 * problem.actions, **relu), NormalParamExtractor())
    space = Bounded(-1, 1, (problem.actions,))
    actor = ProbabilisticActor(
        TensorDictModule(moments, in_keys=["observation"], out_keys=["loc", "scale"]),
        in_keys=["loc", "scale"],
        spec=space,
        distribution_class=TanhNormal,
        return_log_prob=True,
    )
    critic = ValueOperator(
        MLP(n_obs + problem.actions, 1, **relu), in_keys=["observation", "action"]
    )
    loss = CQLLoss(
        actor, critic, loss_function="l2", min_q_weight=5.0, num_random=SAMPLES, action_spec=space
    )
    loss.make_value_estimator(gamma=0.99)

    return loss


def discrete(problem: Problem, buffer: TensorDictReplayBuffer) -> Update:
    """Return the update of DQN or discrete CQL."""
    actor = QValueActor(
        network(problem), spec=Categorical(problem.actions), in_keys=["observation"]
    )
    if problem.kind == "dqn":
        loss = DQNLoss(actor, loss_function="smooth_l1", delay_value=True)
    else:
        loss = DiscreteCQLLoss(actor, loss_function="l2", delay_value=True)
    loss.make_value_estimator(gamma=0.99)
    target = HardUpdate(loss, value_network_update_interval=TARGET_PERIOD)
    optimizer = torch.optim.Adam(loss.parameters(), lr=3e-4)

    def update() -> float:
        values = loss(buffer.sample())
        total = sum(value for name, value in values.items() if name.startswith("loss"))
        step(optimizer, total)
        target.step()
        return total.item()

    return update


def network(problem: Problem) -> nn.Module:
    """Build the Q-network."""
    cells = {"num_cells": list(problem.hidden), "activation_class": nn.ReLU}
    if problem.network == "mlp":
        return MLP(problem.obs[0], problem.actions, **cells)
    _, filters, kernels, strides = zip(*CONVOLUTIONS[problem.network])
    torso = ConvNet(
        4, activation_class=nn.ReLU, num_cells=filters, kernel_sizes=kernels, strides=strides
    )
    size = 84 if problem.network == "nature" else 10
    flat = torso(torch.zeros(1, 4, size, size)).shape[-1]

    return nn.Sequential(Pixels(), torso, MLP(flat, problem.actions, **cells))
