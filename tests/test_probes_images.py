"""The pack of heavier probes on networks of images: bytes, convolutions, a foreign copy."""

import numpy as np
import pytest
import torch.nn.functional as F
from rlop.agents import DQN
from torch import nn

import rlop
from rlop.data.dataset import Dataset
from rlop.interop import ActionValues, transitions
from rlop.logs.history import read_metrics
from rlop.probes import pack
from rlop.probes.heavy import BETWEEN_RUNS, PROBES
from rlop.training.probing import probed_transitions

CHANNELS, ACTIONS, WIDTH = 2, 3, 8
OF_ONE_RUN = [name for name in PROBES if name not in BETWEEN_RUNS]
PER_UNIT = ["lipschitz/at", "lipschitz/between"]  # of the observations that the network is given
MAY_BE_NAN = ["implicit/td", "implicit/supervised", "implicit/coadaptation"]  # TD is unstable


@pytest.fixture(scope="module")
def images():
    """80 random images of MinAtar's shape, as bytes, in cut and terminated episodes."""
    rng = np.random.default_rng(0)
    shape = (81, 10, 10, CHANNELS)
    obs = rng.integers(0, 256, shape, dtype=np.uint8) * (rng.random(shape) < 0.2)
    ends = np.arange(80) % 8 == 7
    terminated = ends & (np.arange(80) % 16 == 7)
    obs = obs.astype(np.uint8)
    action, reward = rng.integers(ACTIONS, size=80), rng.normal(size=80)
    return Dataset.from_arrays(obs[:-1], action, reward, terminated, ends & ~terminated, obs[1:])


class Foreign(nn.Module):
    """MinAtar's network as a script writes it; `scale` is what it multiplies observations by."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.scale = scale
        self.conv = nn.Conv2d(CHANNELS, 16, 3)
        self.fc1 = nn.Linear(16 * 8 * 8, WIDTH)
        self.fc2 = nn.Linear(WIDTH, ACTIONS)

    def forward(self, obs):
        hidden = F.relu(self.conv(self.scale * obs.permute(0, 3, 1, 2)))
        return self.fc2(F.relu(self.fc1(hidden.flatten(1))))

    def copy(self, parameters):
        """Take over run 0 of parameters `[R, ...]` of ours."""
        names = {"torso.conv": "conv", "torso.hidden": "fc1", "head": "fc2"}
        own = {}
        for name, parameter in parameters.items():
            layer, _, kind = name.rpartition(".")
            own[f"{names[layer]}.{kind}"] = parameter[0].detach().clone()
        self.load_state_dict(own)


def trained(images, folder, probes, seeds):
    agent = DQN(images.spec, seeds=seeds, hidden=(WIDTH,), batch_size=16, lr=1e-2, target_period=3)
    rlop.train(agent, images, 8, logdir=folder, probe_every=4, probe_size=64, probes=probes)
    return agent


@pytest.fixture(scope="module")
def training(images, tmp_path_factory):
    """An agent of one run, and the measures of its training at the last step, by probe."""
    folder = tmp_path_factory.mktemp("one")
    agent = trained(images, folder, OF_ONE_RUN, [3])
    metrics = read_metrics(folder).metrics
    return agent, {name: metrics[name][1][-1, 0] for name in OF_ONE_RUN}


def foreign_pack(agent, images, scale, divisor):
    """The pack of a copy of the agent's networks on the rows of its training."""
    network, target = Foreign(scale), Foreign(scale)
    network.copy(agent.main.initial)
    values = ActionValues(network, images.spec, agent.config.gamma, target=target)
    network.copy(dict(agent.main.parameters))
    target.copy(dict(agent.main.target.named_parameters()))

    rows = probed_transitions(agent, images, 64)
    columns = (rows.obs, rows.action, rows.reward, rows.next_obs, rows.terminated)
    obs, action, reward, next_obs, terminated = (column[0] for column in columns)
    foreign = transitions(obs / divisor, action, reward, next_obs / divisor, terminated)
    return {name: value.item() for name, value in pack(values, foreign, OF_ONE_RUN).items()}


def test_a_training_on_images_records_every_probe_of_one_run(training):
    _, recorded = training
    assert list(recorded) == OF_ONE_RUN
    for name, value in recorded.items():
        assert np.isfinite(value) or name in MAY_BE_NAN, name


def test_probes_between_runs_compare_networks_of_images(images, tmp_path):
    names = sorted(BETWEEN_RUNS)
    trained(images, tmp_path, names, 2)
    metrics = read_metrics(tmp_path).metrics
    for name in names:
        first, second = metrics[name][1][-1]
        assert first == pytest.approx(second), name  # of two, each has the other alone
        assert 0 <= first < 1, name


@pytest.mark.parametrize("name", OF_ONE_RUN)
def test_a_foreign_network_with_our_weights_has_our_numbers(training, images, name):
    agent, recorded = training
    found = foreign_pack(agent, images, scale=1.0, divisor=255)
    assert found[name] == pytest.approx(recorded[name], rel=2e-4, abs=1e-7, nan_ok=True)


def test_a_network_that_divides_bytes_itself_has_slopes_per_raw_unit(training, images):
    agent, recorded = training
    found = foreign_pack(agent, images, scale=1 / 255, divisor=1)
    for name in OF_ONE_RUN:
        value = found[name] * 255 if name in PER_UNIT else found[name]
        assert value == pytest.approx(recorded[name], rel=2e-4, abs=1e-7, nan_ok=True), name
