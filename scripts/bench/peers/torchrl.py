"""TorchRL: its losses, its target updaters and a TensorDict replay buffer.

They are stepped as in its own CQL and DQN examples.

Differences that remain: discrete agents copy their target network with `HardUpdate`, as the others
here do, where its discrete CQL example has `SoftUpdate` at every step. Continuous CQL evaluates the
policy once an action.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import torch
from tensordict import TensorDict
from tensordict.nn import NormalParamExtractor, TensorDictModule
from torch import Tensor, nn
from torchrl.data import Bounded, Categorical, LazyTensorStorage, TensorDictReplayBuffer
from torchrl.modules import MLP, ConvNet, ProbabilisticActor, QValueActor, TanhNormal, ValueOperator
from torchrl.objectives import CQLLoss, DiscreteCQLLoss, DQNLoss, HardUpdate, SoftUpdate

from rlop.data import Dataset
from scripts.bench.plain import Pixels
from scripts.bench.problems import CONVOLUTIONS, SAMPLES, TARGET_PERIOD, Problem, channels_first

logging.getLogger("torchrl").setLevel(logging.WARNING)  # it announces every storage


def build(problem: Problem, data: Dataset) -> Callable[[], object]:
    buffer = make_buffer(problem, data)
    return (continuous if problem.kind == "cql" else discrete)(problem, buffer)


def make_buffer(problem: Problem, data: Dataset) -> TensorDictReplayBuffer:
    def column(values: object) -> Tensor:
        return torch.from_numpy(values).unsqueeze(-1)

    following = {
        "observation": torch.from_numpy(channels_first(problem, data.next_obs)),
        "reward": column(data.reward),
        "done": column(data.terminated | data.truncated),
        "terminated": column(data.terminated),
    }
    rows = {
        "observation": torch.from_numpy(channels_first(problem, data.obs)),
        "action": torch.from_numpy(data.action),
        "next": TensorDict(following, [len(data)]),
    }
    buffer = TensorDictReplayBuffer(storage=LazyTensorStorage(len(data)), batch_size=problem.batch)
    buffer.extend(TensorDict(rows, [len(data)]))
    return buffer


def step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def continuous(problem: Problem, buffer: TensorDictReplayBuffer) -> Callable[[], object]:
    loss = cql_loss(problem)
    critic_adam, policy_adam = (
        adam(loss, part, lr) for part, lr in (("qvalue", 3e-4), ("actor", 1e-4))
    )
    coef_adam = torch.optim.Adam([loss.log_alpha], lr=1e-4)
    target = SoftUpdate(loss, tau=0.005)

    def update() -> tuple[float, ...]:
        batch = buffer.sample()
        critic_loss = loss.q_loss(batch)[0] + loss.cql_loss(batch)[0]
        step(critic_adam, critic_loss)
        policy_loss, found = loss.actor_loss(batch)
        step(policy_adam, policy_loss)
        coef_loss, _ = loss.alpha_loss(found)
        step(coef_adam, coef_loss)
        target.step()
        return critic_loss.item(), policy_loss.item(), coef_loss.item()

    return update


def adam(loss: CQLLoss, part: str, lr: float) -> torch.optim.Adam:
    parameters: Iterable[Tensor] = getattr(loss, f"{part}_network_params").flatten_keys().values()
    return torch.optim.Adam(list(parameters), lr=lr)


def cql_loss(problem: Problem) -> CQLLoss:
    (n_obs,), cells = problem.obs, list(problem.hidden)
    relu = {"num_cells": cells, "activation_class": nn.ReLU}
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


def discrete(problem: Problem, buffer: TensorDictReplayBuffer) -> Callable[[], object]:
    actor = QValueActor(
        network(problem), spec=Categorical(problem.actions), in_keys=["observation"]
    )
    kind = DQNLoss if problem.kind == "dqn" else DiscreteCQLLoss
    loss = kind(
        actor, loss_function="l2" if problem.kind != "dqn" else "smooth_l1", delay_value=True
    )
    loss.make_value_estimator(gamma=0.99)
    target = HardUpdate(loss, value_network_update_interval=TARGET_PERIOD)
    optimizer = torch.optim.Adam(loss.parameters(), lr=3e-4)

    def update() -> float:
        found = loss(buffer.sample())
        total = sum(value for name, value in found.items() if name.startswith("loss"))
        step(optimizer, total)
        target.step()
        return total.item()

    return update


def network(problem: Problem) -> nn.Module:
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
