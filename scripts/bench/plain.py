"""The single-file style: plain eager PyTorch, two critic modules, `.item()` at every step.

This is what a careful researcher writes without a library. Nothing is slowed down on purpose,
nothing is tuned.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Normal, TanhTransform, TransformedDistribution

from rlop.data import Dataset
from scripts.bench.measure import Update
from scripts.bench.problems import CONVOLUTIONS, SAMPLES, TARGET_PERIOD, Problem, channels_first

Sampler: TypeAlias = Callable[[], list[Tensor]]  # obs, action, reward, next_obs, terminated

GAMMA = 0.99
TAU = 0.005
ALPHA = 5.0


def build(problem: Problem, data: Dataset, device: str = "cpu") -> Update:
    """Return the update of a problem."""
    sample = sampler(problem, data, device)
    if problem.kind == "cql":
        return continuous_cql(problem, sample, device)
    return dqn(problem, sample, 0.1 if problem.kind == "discrete-cql" else 0.0, device)


def sampler(problem: Problem, data: Dataset, device: str) -> Sampler:
    """Hold the data as five tensors; a batch is one index into each."""
    columns = [
        channels_first(problem, data.obs),
        data.action,
        data.reward,
        channels_first(problem, data.next_obs),
        data.terminated.astype(np.float32),
    ]
    tensors = [torch.from_numpy(column).to(device) for column in columns]

    def sample() -> list[Tensor]:
        index = torch.randint(len(data), (problem.batch,), device=device)
        return [tensor[index] for tensor in tensors]

    return sample


def mlp(n_in: int, hidden: tuple[int, ...], n_out: int) -> nn.Sequential:
    """Build fully connected layers with ReLU between them."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(n_in, width), nn.ReLU()]
        n_in = width
    return nn.Sequential(*layers, nn.Linear(n_in, n_out))


class Pixels(nn.Module):
    """Convert bytes to [0, 1], and booleans to 0 and 1."""

    def forward(self, obs: Tensor) -> Tensor:
        """Convert images of any shape."""
        if obs.dtype == torch.uint8:
            return obs.float() / 255
        return obs.float()


def q_network(problem: Problem, n_out: int) -> nn.Sequential:
    """Build a network from observations, images with channels first, to `n_out` numbers."""
    if problem.network == "mlp":
        return mlp(*problem.obs, problem.hidden, n_out)

    layers: list[nn.Module] = [Pixels()]
    for channels, filters, kernel, stride in CONVOLUTIONS[problem.network]:
        layers += [nn.Conv2d(channels, filters, kernel, stride), nn.ReLU()]

    torso = nn.Sequential(*layers, nn.Flatten())
    size = 84 if problem.network == "nature" else 10
    n_features = torso(torch.zeros(1, 4, size, size)).shape[1]
    return nn.Sequential(torso, mlp(n_features, problem.hidden, n_out))


def step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one gradient step."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def dqn(problem: Problem, sample: Sampler, alpha: float, device: str) -> Update:
    """Return the update of DQN, with the conservative term if alpha is not 0."""
    net = q_network(problem, problem.actions).to(device)
    target = copy.deepcopy(net)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-4)
    steps = 0

    def update() -> float:
        nonlocal steps
        obs, action, reward, next_obs, terminated = sample()
        with torch.no_grad():
            y = reward + GAMMA * (1 - terminated) * target(next_obs).amax(1)

        q_values = net(obs)
        q = q_values.gather(1, action[:, None]).squeeze(1)
        loss = F.smooth_l1_loss(q, y)
        if alpha:
            loss = loss + alpha * (q_values.logsumexp(1) - q).mean()
        step(optimizer, loss)

        steps += 1
        if steps % TARGET_PERIOD == 0:
            target.load_state_dict(net.state_dict())
        return loss.item()

    return update


class Policy(nn.Module):
    """A tanh-Gaussian that draws one action per state, or `repeat` of them."""

    def __init__(self, n_obs: int, n_actions: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.net = mlp(n_obs, hidden, 2 * n_actions)

    def forward(self, obs: Tensor, repeat: int | None = None) -> tuple[Tensor, Tensor]:
        """Draw actions `[B, m]` or `[B, repeat, m]`; return them and their log-densities."""
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
        """Evaluate observations `[B, n]` and actions `[B, m]` or `[B, K, m]`."""
        if action.ndim == 3:
            obs = obs.unsqueeze(1).repeat(1, action.shape[1], 1)
        return self.net(torch.cat([obs, action], -1)).squeeze(-1)


def continuous_cql(problem: Problem, sample: Sampler, device: str) -> Update:
    """Return the update of CQL(H) with a trained entropy weight, as in single-file code bases."""
    sizes = (*problem.obs, problem.actions, problem.hidden)
    policy = Policy(*sizes).to(device)
    critics = (Critic(*sizes).to(device), Critic(*sizes).to(device))
    targets = copy.deepcopy(critics)
    log_coef = torch.zeros(1, device=device, requires_grad=True)

    critic_parameters = [*critics[0].parameters(), *critics[1].parameters()]
    critic_adam = torch.optim.Adam(critic_parameters, 3e-4)
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
        shape = (len(obs), SAMPLES, problem.actions)
        uniform = torch.empty(shape, device=device).uniform_(-1, 1)
        with torch.no_grad():
            drawn, log_pi = policy(obs, SAMPLES)
            next_drawn, next_log_pi = policy(next_obs, SAMPLES)

        loss = torch.zeros((), device=device)
        for critic in critics:
            of_uniform = critic(obs, uniform) - math.log(0.5**problem.actions)
            of_drawn = critic(obs, drawn) - log_pi
            of_next = critic(obs, next_drawn) - next_log_pi
            values = torch.cat([of_uniform, of_drawn, of_next], 1)
            loss = loss + (torch.logsumexp(values, 1) - critic(obs, action)).mean()

        return ALPHA * loss

    @torch.no_grad()
    def move_targets() -> None:
        for target, critic in zip(targets, critics):
            for slow, fast in zip(target.parameters(), critic.parameters()):
                slow.copy_((1 - TAU) * slow + TAU * fast)

    def update() -> tuple[float, ...]:
        obs, action, reward, next_obs, terminated = sample()

        drawn, log_pi = policy(obs)
        coef_loss = -(log_coef * (log_pi - problem.actions).detach()).mean()
        q = torch.min(*(critic(obs, drawn) for critic in critics))
        policy_loss = (log_coef.exp().detach() * log_pi - q).mean()
        step(coef_adam, coef_loss)
        step(policy_adam, policy_loss)

        critic_loss = td_loss(obs, action, reward, next_obs, terminated)
        critic_loss = critic_loss + conservative_loss(obs, action, next_obs)
        step(critic_adam, critic_loss)
        move_targets()

        return critic_loss.item(), policy_loss.item(), coef_loss.item()

    return update
