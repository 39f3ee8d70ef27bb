"""The single-file style: plain eager PyTorch.

Two critic modules, torch.optim.Adam, `.item()` at every step: what a careful researcher writes
without a library. Nothing is slowed down on purpose, nothing is tuned.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Normal, TanhTransform, TransformedDistribution

from rlop.data import Dataset
from scripts.bench.problems import CONVOLUTIONS, SAMPLES, TARGET_PERIOD, Problem, channels_first

GAMMA, TAU, ALPHA = 0.99, 0.005, 5.0
NAMES = ("obs", "action", "reward", "next_obs", "terminated")


def build(problem: Problem, data: Dataset) -> Callable[[], object]:
    sample = sampler(problem, data)
    if problem.kind == "cql":
        return continuous_cql(problem, sample)
    return dqn(problem, sample, alpha=0.1 if problem.kind == "discrete-cql" else 0.0)


def sampler(problem: Problem, data: Dataset) -> Callable[[], list[Tensor]]:
    """The data as five tensors; a batch is one index into each."""
    columns = {name: getattr(data, name) for name in NAMES}
    columns["terminated"] = columns["terminated"].astype(np.float32)
    for name in ("obs", "next_obs"):
        columns[name] = channels_first(problem, columns[name])
    tensors = [torch.from_numpy(columns[name]) for name in NAMES]

    def sample() -> list[Tensor]:
        index = torch.randint(len(data), (problem.batch,))
        return [column[index] for column in tensors]

    return sample


def mlp(n_in: int, hidden: tuple[int, ...], n_out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(n_in, width), nn.ReLU()]
        n_in = width
    return nn.Sequential(*layers, nn.Linear(n_in, n_out))


class Pixels(nn.Module):
    """Bytes to [0, 1], booleans to 0 and 1."""

    def forward(self, obs: Tensor) -> Tensor:
        """Any shape."""
        return obs.float() / 255 if obs.dtype == torch.uint8 else obs.float()


def q_network(problem: Problem, n_out: int) -> nn.Sequential:
    """Observations, channels first where they are images, to `n_out` numbers."""
    if problem.network == "mlp":
        return mlp(*problem.obs, problem.hidden, n_out)
    layers: list[nn.Module] = [Pixels()]
    for channels, filters, kernel, stride in CONVOLUTIONS[problem.network]:
        layers += [nn.Conv2d(channels, filters, kernel, stride), nn.ReLU()]
    torso = nn.Sequential(*layers, nn.Flatten())
    size = 84 if problem.network == "nature" else 10
    flat = torso(torch.zeros(1, 4, size, size)).shape[1]
    return nn.Sequential(torso, mlp(flat, problem.hidden, n_out))


def dqn(problem: Problem, sample: Callable[[], list[Tensor]], alpha: float) -> Callable[[], object]:
    net = q_network(problem, problem.actions)
    target, optimizer, step = copy.deepcopy(net), torch.optim.Adam(net.parameters(), lr=3e-4), 0

    def update() -> float:
        nonlocal step
        obs, action, reward, next_obs, terminated = sample()
        with torch.no_grad():
            y = reward + GAMMA * (1 - terminated) * target(next_obs).amax(1)
        q_values = net(obs)
        q = q_values.gather(1, action[:, None]).squeeze(1)
        loss = F.smooth_l1_loss(q, y)
        if alpha:
            loss = loss + alpha * (q_values.logsumexp(1) - q).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        if step % TARGET_PERIOD == 0:
            target.load_state_dict(net.state_dict())
        return loss.item()

    return update


class Policy(nn.Module):
    """A tanh-Gaussian that draws one action per state, or `repeat` of them."""

    def __init__(self, n_obs: int, n_actions: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.net = mlp(n_obs, hidden, 2 * n_actions)

    def forward(self, obs: Tensor, repeat: int | None = None) -> tuple[Tensor, Tensor]:
        """Actions `[B, m]` or `[B, repeat, m]`, and their log-densities."""
        if repeat:
            obs = obs.unsqueeze(1).repeat(1, repeat, 1)
        mean, log_std = self.net(obs).chunk(2, -1)
        normal = Normal(mean, log_std.clamp(-20, 2).exp())
        distribution = TransformedDistribution(normal, TanhTransform(cache_size=1))
        action = distribution.rsample()
        return action, distribution.log_prob(action).sum(-1)


class Critic(nn.Module):
    """Q(s, a) of one action per state, `[B]`, or of several, `[B, K]`."""

    def __init__(self, n_obs: int, n_actions: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.net = mlp(n_obs + n_actions, hidden, 1)

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        """Observations `[B, n]`, actions `[B, m]` or `[B, K, m]`."""
        if action.ndim == 3:
            obs = obs.unsqueeze(1).repeat(1, action.shape[1], 1)
        return self.net(torch.cat([obs, action], -1)).squeeze(-1)


def continuous_cql(problem: Problem, sample: Callable[[], list[Tensor]]) -> Callable[[], object]:
    """CQL(H) with a trained entropy weight, as in the single-file code bases."""
    sizes = (*problem.obs, problem.actions, problem.hidden)
    policy, critics = Policy(*sizes), (Critic(*sizes), Critic(*sizes))
    targets = copy.deepcopy(critics)
    log_coef = torch.zeros(1, requires_grad=True)
    critic_adam = torch.optim.Adam([p for critic in critics for p in critic.parameters()], 3e-4)
    policy_adam = torch.optim.Adam(policy.parameters(), 1e-4)
    coef_adam = torch.optim.Adam([log_coef], 1e-4)

    def td_loss(
        obs: Tensor, action: Tensor, reward: Tensor, next_obs: Tensor, terminated: Tensor
    ) -> Tensor:
        with torch.no_grad():
            next_action, _ = policy(next_obs)
            next_q = torch.min(*(target(next_obs, next_action) for target in targets))
            y = reward + GAMMA * (1 - terminated) * next_q
        return sum(F.mse_loss(critic(obs, action), y) for critic in critics)

    def conservative_loss(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
        uniform = torch.empty(len(obs), SAMPLES, problem.actions).uniform_(-1, 1)
        with torch.no_grad():
            (here, log_here), (there, log_there) = policy(obs, SAMPLES), policy(next_obs, SAMPLES)
        loss = torch.zeros(())
        for critic in critics:
            values = [critic(obs, uniform) - math.log(0.5**problem.actions)]
            values += [critic(obs, here) - log_here, critic(obs, there) - log_there]
            loss = loss + (torch.logsumexp(torch.cat(values, 1), 1) - critic(obs, action)).mean()
        return ALPHA * loss

    def step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def update() -> tuple[float, ...]:
        obs, action, reward, next_obs, terminated = sample()
        drawn, log_pi = policy(obs)
        coef_loss = -(log_coef * (log_pi - problem.actions).detach()).mean()
        policy_loss = (
            log_coef.exp().detach() * log_pi
            - torch.min(*(critic(obs, drawn) for critic in critics))
        ).mean()
        step(coef_adam, coef_loss)
        step(policy_adam, policy_loss)
        critic_loss = td_loss(obs, action, reward, next_obs, terminated) + conservative_loss(
            obs, action, next_obs
        )
        step(critic_adam, critic_loss)
        with torch.no_grad():
            for target, critic in zip(targets, critics):
                for slow, fast in zip(target.parameters(), critic.parameters()):
                    slow.copy_((1 - TAU) * slow + TAU * fast)
        return critic_loss.item(), policy_loss.item(), coef_loss.item()

    return update
