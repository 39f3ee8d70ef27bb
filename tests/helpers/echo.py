"""An environment in every kind of space, and data of it: what lies between it and an agent."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete
from rlop.agents import BC, CQL, DQN, DiscreteCQL

from rlop.agent import Agent
from rlop.data import Dataset
from rlop.data.adapter import flat_obs
from rlop.data.transforms import normalize_obs

ENV_ID = "test/Echo-v0"
STEPS = 6  # of an episode


class Echo(gymnasium.Env):
    """Pays by the action in its own units, so that a return tells the bits of every action."""

    def __init__(self, kind):
        self.row = ROWS[kind]
        self.observation_space, self.action_space = self.row.obs, self.row.action

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.now, self.state = 0, self.np_random.normal(size=4)
        return self.seen(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.now += 1
        value = float(np.mean(action))
        self.state = 0.8 * self.state + 0.2 * np.tanh(value) + 0.3 * self.np_random.normal(size=4)
        return self.seen(), value + self.state[0], self.now == STEPS, False, {}

    def seen(self):
        """Show the state in the row's space."""
        state, space = self.state, self.observation_space
        if isinstance(space, Discrete):
            return space.start + int(abs(state[0]) * 3) % space.n
        if isinstance(space, Dict):
            return {
                "arm": {"at": (5 + 2 * state[:3]).astype(np.float32), "mode": int(state[0] > 0)},
                "bits": (state[:2] > 0).astype(np.int8),
                "unread": "a word",
            }
        if space.dtype == np.uint8:
            return np.resize(np.abs(state * 60).clip(0, 255), space.shape).astype(np.uint8)
        return (50 + 3 * state).astype(space.dtype)


@dataclass(frozen=True)
class Row:
    """Spaces of an environment, what is done to its data, and which agents take them.

    Args:
        obs, action: its spaces.
        agents: classes.
        options: of `Dataset.from_arrays`.
        keys: parts of a dictionary that the data read.
        normalizes: whether observations are normalized.
    """

    obs: gymnasium.Space
    action: gymnasium.Space
    agents: tuple[type[Agent], ...] = (DQN, DiscreteCQL, BC)
    options: dict[str, Any] = field(default_factory=dict)
    keys: tuple[str, ...] = ()
    normalizes: bool = False


VECTOR = Box(-np.inf, np.inf, (4,), np.float32)
PARTS = Dict(
    {
        "arm": Dict({"at": Box(-np.inf, np.inf, (3,), np.float32), "mode": Discrete(2)}),
        "bits": MultiBinary(2),
        "unread": gymnasium.spaces.Text(8),
    }
)
LOW, HIGH = np.array([0, -1], np.float32), np.array([2, 3], np.float32)
BOUNDS = {"action_low": LOW, "action_high": HIGH}

ROWS = {
    "normalized": Row(VECTOR, Discrete(3), normalizes=True),
    "double": Row(Box(-np.inf, np.inf, (4,), np.float64), Discrete(3)),
    "start": Row(VECTOR, Discrete(3, start=2), options={"action_start": 2}),
    "parts of an action": Row(VECTOR, MultiDiscrete([2, 3]), options={"n_actions": [2, 3]}),
    "states": Row(Discrete(5, start=1), Discrete(3)),
    "dictionary": Row(PARTS, Discrete(3), keys=("bits", "arm/mode", "arm/at"), normalizes=True),
    "pixels": Row(Box(0, 255, (10, 10, 2), np.uint8), Discrete(3)),
    "bounds": Row(VECTOR, Box(LOW, HIGH), (CQL, BC), BOUNDS, normalizes=True),
    "axes": Row(VECTOR, Box(-1, 1, (2, 3)), (CQL, BC)),
    "axes and bounds": Row(
        VECTOR, Box(0, 4, (2, 2)), (CQL, BC), {"action_low": 0, "action_high": 4}
    ),
}
PAIRS = [(kind, agent) for kind, row in ROWS.items() for agent in row.agents]
IDS = [f"{agent.__name__} {kind}" for kind, agent in PAIRS]


def register():
    """Register the environment; its argument `kind` names a row."""
    gymnasium.register(ENV_ID, Echo, max_episode_steps=50)


def observations(kind, n, seed=0):
    """Return n observations that the environment showed, each as it did."""
    env = Echo(kind)
    env.action_space.seed(seed)
    shown = []
    while len(shown) < n:
        if len(shown) % STEPS == 0:
            shown.append(env.reset(seed=seed + len(shown))[0])
        else:
            shown.append(env.step(env.action_space.sample())[0])
    return shown


def stacked(space, shown):
    """Return observations as a vector of environments gives them."""
    if isinstance(space, Dict):
        return {key: stacked(inner, [obs[key] for obs in shown]) for key, inner in space.items()}
    return np.array(shown, space.dtype) if space.dtype is not None else tuple(shown)


def data_of(kind, n=120):
    """Return a data set of random actions in a row's environment, transformed as it says."""
    row, rng = ROWS[kind], np.random.default_rng(0)
    obs = flat_obs(row.obs, stacked(row.obs, observations(kind, n)), row.keys)
    row.action.seed(1)
    actions = np.array([row.action.sample() for _ in range(n)])
    ends = np.arange(n) % STEPS == STEPS - 1
    data = Dataset.from_arrays(
        obs,
        actions,
        rng.normal(size=n),
        ends,
        np.zeros(n, bool),
        obs,
        env_id=ENV_ID,
        env_kwargs={"kind": kind},
        name=kind,
        **row.options,
    )
    data = replace(data, spec=replace(data.spec, obs_keys=row.keys))
    return normalize_obs(data)[0] if row.normalizes else data


def agent_of(kind, agent, **options):
    """Return a small agent of two runs for a row's data, and the data."""
    data = data_of(kind)
    small = {"hidden": (16,), "batch_size": 16, "lr": 1e-2, "seeds": [3, 5], **options}
    return agent(data.spec, **small), data
