"""An environment whose rows can be checked by looking at them, and readers of what is collected."""

import gymnasium
import h5py
import numpy as np
import pytest
import torch


class Tickets(gymnasium.Env):
    """Observations are (number of the episode, step in it); episodes have different lengths.

    The same array is returned every time. Even lengths end by termination, odd ones by a time-out.
    """

    issued = 0

    def __init__(self, endless=False, box=False):
        self.endless = endless
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
        self.action_space = gymnasium.spaces.Discrete(2)
        if box:
            self.action_space = gymnasium.spaces.Box(-2, 2, (3,))
        self.obs = np.zeros(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.obs[:] = Tickets.issued, 0
        Tickets.issued += 1
        self.length = self.np_random.integers(1, 30)
        return self.obs, {}

    def step(self, action):
        self.obs[1] += 1
        over = not self.endless and self.obs[1] >= self.length
        terminated = over and self.length % 2 == 0
        truncated = over and self.length % 2 == 1
        return self.obs, float(self.obs[1]), bool(terminated), bool(truncated), {}


class Spaces(gymnasium.Env):
    """Spaces without dynamics, for policies that are only built."""

    def __init__(self, obs_dim, actions):
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (obs_dim,))
        self.action_space = actions

    def reset(self, *, seed=None, options=None):
        return np.zeros(self.observation_space.shape, np.float32), {}


DISCRETE = gymnasium.spaces.Discrete(3)
CONTINUOUS = gymnasium.spaces.Box(-2, 2, (2,))


class Scripted:
    """A policy that always takes one action, in an agent's units."""

    device = torch.device("cpu")

    def __init__(self, action):
        self.action = torch.tensor(action)

    def one_run(self, run):
        return self

    def act(self, obs):
        assert obs.dtype == torch.float32
        return self.action.expand(*obs.shape[:2], -1)


@pytest.fixture
def tickets():
    """Register `test/Tickets-v0`, with episodes numbered from 0."""
    Tickets.issued = 0
    gymnasium.register("test/Tickets-v0", Tickets)
    yield
    del gymnasium.registry["test/Tickets-v0"]


def always(action):
    """A policy that takes one action."""
    return lambda obs, rng: np.full(len(obs), action)


def read(path):
    """All arrays of a file, by their full names, and its attributes."""
    arrays = {}

    def keep(name, item):
        if isinstance(item, h5py.Dataset):
            arrays[name] = item[()]

    with h5py.File(path) as file:
        file.visititems(keep)
        return arrays, dict(file.attrs)


def episode_ends(arrays):
    """Which rows are the last of their episode."""
    return arrays["terminals"] | arrays["timeouts"]


def episode_starts(arrays):
    """Which rows are the first of their episode."""
    return np.append(True, episode_ends(arrays)[:-1])


def check_rows(arrays, steps):
    """Whole episodes of `Tickets` in the order in which they began, with true next observations."""
    obs = arrays["observations"]
    next_obs = arrays["next_observations"]
    for column in arrays.values():
        assert len(column) == steps
    assert obs.dtype == arrays["rewards"].dtype == np.float32

    # Each transition stays in its episode, goes one step on, and is paid the number of that step.
    assert np.array_equal(next_obs[:, 0], obs[:, 0])
    assert np.array_equal(next_obs[:, 1], obs[:, 1] + 1)
    assert np.array_equal(arrays["rewards"], next_obs[:, 1])

    ends = episode_ends(arrays)
    starts = episode_starts(arrays)
    assert not (arrays["terminals"] & arrays["timeouts"]).any()
    assert ends[-1]
    assert np.array_equal(starts, obs[:, 1] == 0)
    assert np.array_equal(obs[:, 0], np.cumsum(starts) - 1)
    assert np.array_equal(obs[1:, 1][~ends[:-1]], obs[:-1, 1][~ends[:-1]] + 1)


def check_ends(arrays):
    """All episodes of `Tickets` but the last one end as the environment ended them."""
    whole = np.flatnonzero(episode_ends(arrays))[:-1]
    lengths = arrays["next_observations"][whole, 1]
    assert np.array_equal(arrays["terminals"][whole], lengths % 2 == 0)
