"""Networks as the scripts of other libraries write them, and optional packages."""

import itertools
import warnings

import gymnasium
import numpy as np
import pytest
import torch
from torch import nn

from helpers.collect import CONTINUOUS, DISCRETE, Spaces
from rlop.logs.history import read_metrics


def import_d3rlpy():
    """Import d3rlpy, which imports the old Gym, which warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("d3rlpy")


def mlp(sizes, activation=nn.ReLU, end=()):
    """A chain of linear layers."""
    layers = []
    for reads, gives in itertools.pairwise(sizes):
        layers += [nn.Linear(reads, gives), activation()]
    return nn.Sequential(*layers[:-1], *end)


class Named(nn.Module):
    """A module with given children, whose own forward is not needed."""

    def __init__(self, **children):
        super().__init__()
        for name, child in children.items():
            self.add_module(name, child)


class ScriptActor(nn.Module):
    """A policy of a script for continuous control, with the bounds of its actions as buffers."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.fc_mu = nn.Linear(5, 12), nn.Linear(12, 9), nn.Linear(9, 3)
        self.register_buffer("action_scale", torch.tensor([2.0, 1.0, 0.5]))
        self.register_buffer("action_bias", torch.tensor([0.0, 1.0, -1.0]))

    def forward(self, obs):
        hidden = torch.relu(self.fc2(torch.relu(self.fc1(obs))))
        return torch.tanh(self.fc_mu(hidden)) * self.action_scale + self.action_bias


class ScriptCritic(nn.Module):
    """A critic of such a script."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(8, 12), nn.Linear(12, 9), nn.Linear(9, 1)

    def forward(self, obs, action):
        hidden = torch.relu(self.fc1(torch.cat([obs, action], 1)))
        return self.fc3(torch.relu(self.fc2(hidden)))


def sb3_model(name, policy="MlpPolicy", module="stable_baselines3", **options):
    """An untrained model of Stable-Baselines3 or its contrib, for 5 numbers as observations."""
    package = pytest.importorskip(module)
    space = CONTINUOUS if name in ("SAC", "TD3", "TQC", "A2C") else DISCRETE
    if name not in ("PPO", "A2C"):
        options = {"buffer_size": 50, **options}
    torch.manual_seed(0)
    return getattr(package, name)(policy, Spaces(5, space), device="cpu", seed=0, **options)


def recorded(folder, name):
    """Steps and values of one metric of the record."""
    steps, values = read_metrics(folder).get(name)
    return steps.tolist(), values[:, 0].tolist()


class Walk(gymnasium.Env):
    """A point that moves by its action and ends after ten steps."""

    def __init__(self, continuous=False):
        self.observation_space = gymnasium.spaces.Box(-9, 9, (3,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(2)
        if continuous:
            self.action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = self.np_random.normal(size=3).astype(np.float32)
        self.time = 0
        return self.state, {}

    def step(self, action):
        self.state = np.clip(self.state + np.mean(action) - 0.4, -9, 9).astype(np.float32)
        self.time += 1
        return self.state, float(-abs(self.state[0])), False, self.time == 10, {}


def sb3_training(name, callback=None, module="stable_baselines3", steps=128, **options):
    """A short training of Stable-Baselines3 or its contrib on `Walk`."""
    package = pytest.importorskip(module)
    options = {"policy_kwargs": {"net_arch": [12, 8]}, **options}
    if name in ("PPO", "A2C"):
        options |= {"n_steps": 32, "batch_size": 32}
    else:
        options |= {"learning_starts": 16, "batch_size": 16, "buffer_size": 200}
    env = Walk(continuous=name in ("SAC", "TD3", "TQC"))
    model = getattr(package, name)("MlpPolicy", env, seed=5, device="cpu", **options)
    return model.learn(steps, callback=callback)
