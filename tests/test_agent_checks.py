"""What an agent's own code forgets or returns wrongly is one line that names the method."""

import numpy as np
import pytest
import torch
from helpers.training import train_steps
from rlop.agents import CQL, DQN
from rlop.agents.dqn_config import DQNConfig

import rlop
from rlop import probe_agent
from rlop.config.schema import Positive, Sweep, option, options
from rlop.nets import QNetwork, make_torso
from rlop.types import InputError

SMALL = {"hidden": (8,), "batch_size": 8}


def test_a_network_that_was_never_drawn_is_named(tiny):
    class Undrawn(DQN):
        def make_learners(self):
            torso = make_torso(self.spec, 1, "mlp", (8,), "relu")
            return {"q": self.main_learner(QNetwork(torso, 3, 1), tau=self.hyper["tau"])}

    with pytest.raises(InputError, match=r"Undrawn\.make_learners: q: parameter .*weight was not"):
        Undrawn(tiny.spec, **SMALL)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda losses: {"p": losses["q"]}, r"one loss for each learner, \['q'\], found \['p'\]"),
        (lambda losses: {}, r"found \[\]"),
        (lambda losses: losses["q"], "found Tensor"),
        (lambda losses: {"q": losses["q"].sum()}, r"loss 'q': expected .* \(2,\), got \(\)"),
        (lambda losses: {"q": 1.0}, r"loss 'q': expected .* got float"),
    ],
)
def test_losses_of_another_form_are_named(tiny, change, message):
    class Odd(DQN):
        def losses(self, batch, noise):
            losses, metrics = super().losses(batch, noise)
            return change(losses), metrics

    with pytest.raises(InputError, match=rf"Odd\.losses: .*{message}"):
        train_steps(Odd(tiny.spec, seeds=2, **SMALL), tiny, 1)


def test_regularizers_that_the_loss_leaves_out_are_named_at_the_first_update(tiny):
    class Forgetful(DQN):
        def losses(self, batch, noise):
            losses, metrics = super().losses(batch, noise)
            return losses, {key: value for key, value in metrics.items() if key[:4] != "reg/"}

    agent = Forgetful(tiny.spec, regularizers={"dr3": 0.1}, **SMALL)
    with pytest.raises(
        InputError, match=r"Forgetful\.losses: regularizers\.dr3 is not in the loss"
    ):
        rlop.train(agent, tiny, 5, progress=False)


@pytest.mark.parametrize(
    ("noise", "message"),
    [({"mine": ("gauss", (8,))}, "'mine': expected one of"), ({"mine": "normal"}, "'mine'")],
)
def test_random_numbers_of_an_unknown_kind_are_named(tiny, noise, message):
    class Noisy(DQN):
        def make_noise(self):
            return noise

    with pytest.raises(InputError, match=rf"Noisy\.make_noise: {message}"):
        Noisy(tiny.spec, **SMALL)


def test_an_agent_that_drops_the_noise_of_its_targets_is_told_how_to_keep_it(tiny):
    class Quiet(DQN):
        def make_noise(self):
            return {}

    agent = Quiet(tiny.spec, target_noise={"scale": 0.1}, **SMALL)
    with pytest.raises(InputError, match=r"target_noise: .*super\(\)\.make_noise"):
        train_steps(agent, tiny, 1)


def test_an_inherited_configuration_sweeps_its_new_options_too(tiny):
    @options
    class LouderConfig(DQNConfig):
        loudness: Sweep[Positive] = option(1.0, "a number of the subclass")

    class Louder(DQN):
        Config = LouderConfig

    agent = Louder(tiny.spec, loudness=[1.0, 2.0], lr=[1e-3, 1e-2], **SMALL)
    assert len(agent.runs) == 4
    assert agent.hyper["loudness"].tolist() == [1.0, 2.0, 1.0, 2.0]


def test_an_agent_is_measured_as_in_training(tiny, moves):
    for agent_class, data in ((DQN, tiny), (CQL, moves)):
        agent = agent_class(data.spec, seeds=2, **SMALL)
        history = rlop.train(agent, data, 4, probe_every=4, log_every=4, progress=False)
        for name, value in probe_agent(agent, data).items():
            assert value.shape == (2,)
            np.testing.assert_array_equal(history.get(name)[1][-1], value, name)


def test_the_probe_of_modules_refuses_stacked_networks(tiny):
    agent = DQN(tiny.spec, **SMALL)
    for model in (agent, agent.main.online):
        with pytest.raises(InputError, match=r"rlop\.probe_agent\(agent, data\)"):
            rlop.probe(model, torch.zeros(1, 4, 4))


@pytest.mark.parametrize("device", ["gpu", "cpu:x", "cuda:999", ""])
def test_a_device_that_is_not_there_is_named(tiny, device):
    with pytest.raises(InputError, match=rf"device = '{device}': not available here"):
        DQN(tiny.spec, device=device, **SMALL)
