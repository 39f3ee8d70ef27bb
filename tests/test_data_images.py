"""Images with their channels last: transposed in the data, and alike in the environment."""

from __future__ import annotations

from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import torch
from rlop.agents import BC, CQL, DQN, IQL

import rlop
from rlop.data import Dataset, mix
from rlop.data.adapter import adapter_of
from rlop.data.images import transpose
from rlop.data.transforms import normalize_obs, transform
from rlop.training.evaluate import Evaluator
from rlop.types import InputError

SHAPE = (40, 44, 3)
CONV = {"network": "nature", "hidden": (16,), "batch_size": 4}


class Screen(gymnasium.Env):
    """Random frames, channels last; one of two actions, or one number."""

    observation_space = gymnasium.spaces.Box(0, 255, SHAPE, np.uint8)

    def __init__(self, continuous=False):
        self.action_space = gymnasium.spaces.Discrete(2)
        if continuous:
            self.action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.frame(), {}

    def step(self, action):
        self.steps += 1
        return self.frame(), float(np.sum(action)), self.steps == 5, False, {}

    def frame(self):
        return self.np_random.integers(0, 256, SHAPE, np.uint8)


def frames(continuous=False, seed=0):
    """Twenty steps of that environment, five an episode."""
    rng = np.random.default_rng(seed)
    obs = rng.integers(0, 256, (21, *SHAPE), np.uint8)
    action = rng.uniform(-1, 1, (20, 1)).astype(np.float32) if continuous else np.arange(20) % 2
    end = np.arange(20) % 5 == 4
    made = Dataset.from_arrays(obs[:-1], action, np.ones(20), end, ~end & False, obs[1:])
    return replace(made, name="frames")


def test_channels_come_first_without_a_copy():
    data = frames()
    changed = transform(data, {"transpose": {}})
    assert changed.obs.shape == (20, 3, 40, 44)
    assert changed.spec.obs_shape == (3, 40, 44)
    assert changed.spec.obs_axes == (2, 0, 1)
    assert np.array_equal(changed.obs[7, 2], data.obs[7, :, :, 2])
    assert np.array_equal(changed.next_obs[7, 1], data.next_obs[7, :, :, 1])
    assert np.shares_memory(changed.obs, data.obs)
    assert changed.name == "frames+transposed"

    other = transpose(data, [1, 0, 2])
    assert np.array_equal(other.obs[3], data.obs[3].transpose(1, 0, 2))


def test_the_environment_is_transposed_alike():
    data = transpose(frames())
    adapter = adapter_of(data.spec, Screen())
    raw = frames(seed=1).obs[:4]
    assert np.array_equal(adapter.obs(raw), raw.transpose(0, 3, 1, 2))
    with pytest.raises(
        InputError, match=r"observations \(3, 40, 44\) uint8, but the data has \(40"
    ):
        adapter_of(replace(frames().spec, obs_axes=()), Turned())


class Turned(Screen):
    observation_space = gymnasium.spaces.Box(0, 255, (3, 40, 44), np.uint8)


@pytest.mark.parametrize(
    ("agent", "continuous"), [(DQN, False), (BC, False), (BC, True), (IQL, True)]
)
def test_agents_train_and_play_on_images_with_channels_last(agent, continuous):
    data = transpose(frames(continuous))
    options = {"batch_size": 4, "images": {"random_shift": 2}} if agent is IQL else CONV
    trained = agent(data.spec, **options)
    history = rlop.train(trained, data, 2, evaluate=Evaluator(Screen(continuous), [0], 2))
    assert np.isfinite(history.metrics["eval/return"][1]).all()

    turned = torch.from_numpy(data.obs[None, :4])
    raw = frames(continuous).obs[:4]
    env = adapter_of(data.spec, Screen(continuous))
    assert torch.equal(trained.act(torch.from_numpy(env.obs(raw))[None]), trained.act(turned))


def test_without_it_convolutions_refuse_them_and_name_the_way_out():
    with pytest.raises(InputError, match=r"channels last.*transforms: \{transpose: \{\}\} brings"):
        DQN(frames().spec, **CONV)
    with pytest.raises(InputError, match=r"images.encoder = drq: .*channels last.*transpose"):
        CQL(frames(continuous=True).spec)


def test_a_mixture_is_transposed_without_a_copy():
    parts = [frames(), frames(seed=1)]
    data = transpose(mix(parts))
    assert data.obs.shape == (40, 3, 40, 44)
    assert np.shares_memory(data.obs.parts[1], parts[1].obs)
    DQN(data.spec, **CONV)


def test_what_cannot_be_transposed_is_named():
    data = frames()
    with pytest.raises(InputError, match=r"frames: transpose: axes = \[0, 1\]: expected an order"):
        transpose(data, [0, 1])
    with pytest.raises(InputError, match=r"transposed already, by \[2, 0, 1\]"):
        transpose(transpose(data))
    floats = replace(
        data, obs=data.obs.astype(np.float32), next_obs=data.next_obs.astype(np.float32)
    )
    with pytest.raises(InputError, match="transpose: expected before normalize_obs"):
        transpose(normalize_obs(floats)[0])


def test_auto_says_which_network_it_chose(caplog):
    caplog.set_level("INFO")
    DQN(transpose(frames()).spec, hidden=(8,))
    assert "network = auto: an MLP without convolutions" in caplog.text
