"""The path from an environment's observations to its actions as one graph of PyTorch.

The same as `rlop.data.adapter.Adapter` around an agent, which is in NumPy; a test holds them equal.
"""

from __future__ import annotations

import copy
import math

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn

from rlop.data.adapter import Adapter, leaves
from rlop.deploy.acting import Acting, Learning
from rlop.envs.spaces import Space, bounded

CPU = torch.device("cpu")


class Graph(nn.Module):
    """The greedy policy: parts of a batch of observations to actions, on the CPU.

    Args:
        agent: with R = 1; it is copied.
        adapter: of the environment.
    Attributes:
        inputs: name of each argument, and its space.
    """

    mean: Tensor
    divisor: Tensor

    def __init__(self, agent: Acting, adapter: Adapter) -> None:
        super().__init__()
        self.agent = copy.deepcopy(agent)
        self.agent.device = CPU
        self.networks = nn.ModuleDict()
        if isinstance(self.agent, Learning):
            for name, learner in self.agent.learners.items():
                self.networks[name] = learner.online.to(CPU)

        self.adapter = adapter
        spaces = dict(leaves(adapter.obs_space))
        self.inputs = {key or "obs": spaces[key] for key in adapter.keys or ("",)}
        spec = adapter.spec
        if spec.obs_normalizer is not None:
            mean, divisor = torch.tensor(spec.obs_normalizer).unflatten(1, spec.obs_shape)
            self.register_buffer("mean", mean)
            self.register_buffer("divisor", divisor)

    def forward(self, *obs: Tensor) -> Tensor:
        """Return the environment's actions `[n, ...]` for the parts of n observations."""
        seen = self.seen(obs)
        return self.played(self.agent.act(seen[None])[0])

    def seen(self, obs: tuple[Tensor, ...]) -> Tensor:
        """Return observations `[n, *obs_shape]` as the agent was trained on: `Adapter.obs`."""
        parts = [_leaf(part, space) for part, space in zip(obs, self.inputs.values(), strict=True)]
        joined = parts[0]
        if len(parts) > 1:
            joined = torch.cat([part.flatten(1).float() for part in parts], 1)
        if self.adapter.spec.obs_normalizer is None:
            return joined
        return (joined.float() - self.mean) / self.divisor

    def played(self, actions: Tensor) -> Tensor:
        """Return the environment's own actions: `Adapter.action`."""
        space = self.adapter.action_space
        dtype = torch.from_numpy(np.empty(0, space.dtype)).dtype
        if isinstance(space, gymnasium.spaces.Discrete):
            return (actions + int(space.start)).to(dtype)
        if isinstance(space, gymnasium.spaces.MultiDiscrete):
            return (_parts(actions, space.nvec.tolist()) + torch.from_numpy(space.start)).to(dtype)

        assert isinstance(space, gymnasium.spaces.Box)  # the adapter's own spaces
        boxed = actions.reshape(-1, *space.shape)
        if self.adapter.recorded is None:
            return _from_unit(boxed, space).to(dtype)
        own = _from_unit(boxed.double(), self.adapter.recorded)
        low, high = torch.from_numpy(space.low), torch.from_numpy(space.high)
        return own.maximum(low.double()).minimum(high.double()).to(dtype)


def _leaf(obs: Tensor, space: Space) -> Tensor:
    """Return the observations of a space that is no dictionary, as `rlop.data.adapter` does."""
    if isinstance(space, gymnasium.spaces.Discrete):
        values = torch.arange(int(space.n)) + int(space.start)
        return (obs.reshape(-1, 1) == values).float()
    return obs if obs.dtype in (torch.uint8, torch.bool) else obs.float()


def _parts(actions: Tensor, counts: list[int]) -> Tensor:
    """Return the parts of joint actions, `[n] -> [n, k]`; the last varies fastest."""
    parts = []
    for position, count in enumerate(counts):
        stride = math.prod(counts[position + 1 :])
        parts.append(actions // stride % count)
    return torch.stack(parts, 1)


def _from_unit(actions: Tensor, space: gymnasium.spaces.Box) -> Tensor:
    """Bring actions from [-1, 1] to bounds, as `rlop.envs.spaces.from_unit` does."""
    if not bounded(space):
        return actions
    low = torch.from_numpy(space.low).double()
    high = torch.from_numpy(space.high).double()
    share = (actions.clip(-1, 1) + 1) / 2
    return low + share * (high - low)
