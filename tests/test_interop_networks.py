"""Networks rebuilt from the files of other libraries compute what their own networks compute."""

import pickle
import zipfile

import numpy as np
import pytest
import torch
from helpers.interop import Named, ScriptActor, ScriptCritic, import_d3rlpy, mlp, sb3_model
from torch import nn

from rlop.interop import load_network
from rlop.types import InputError

OBS = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
ACTION = torch.rand(6, 3, generator=torch.Generator().manual_seed(1))


def assert_equal(found, expected):
    torch.testing.assert_close(found.detach(), torch.as_tensor(expected).detach())


# --- Stable-Baselines3


@pytest.mark.parametrize(
    ("name", "module", "options"),
    [
        ("DQN", "stable_baselines3", {"policy_kwargs": {"net_arch": [7, 9]}}),
        ("DQN", "stable_baselines3", {"policy_kwargs": {"activation_fn": nn.Tanh}}),
        ("QRDQN", "sb3_contrib", {"policy_kwargs": {"n_quantiles": 4, "net_arch": [7]}}),
    ],
)
def test_action_values_of_stable_baselines3(tmp_path, name, module, options):
    model = sb3_model(name, module=module, **options)
    model.save(tmp_path / "m.zip")

    policy = model.policy
    expected = policy.q_net(OBS) if name == "DQN" else policy.quantile_net(OBS).mean(1)
    assert_equal(load_network(tmp_path / "m.zip", "sb3")(OBS), expected)


@pytest.mark.parametrize(
    ("name", "module"),
    [("SAC", "stable_baselines3"), ("TD3", "stable_baselines3"), ("TQC", "sb3_contrib")],
)
def test_policies_and_critics_of_stable_baselines3(tmp_path, name, module):
    model = sb3_model(name, module=module, policy_kwargs={"net_arch": [8, 6]})
    model.save(tmp_path / "m.zip")
    action = model.policy.action_space.sample()
    action = torch.rand(6, *action.shape)

    actor = model.policy.actor
    expected = actor(OBS) if name == "TD3" else actor(OBS, deterministic=True)
    assert_equal(load_network(tmp_path / "m.zip", "sb3")(OBS), expected)

    values = model.policy.critic(OBS, action)
    if name == "TQC":  # [n, critics, quantiles]
        values = values.mean(-1, keepdim=True).unbind(1)
    for number, value in enumerate(values, start=1):
        critic = load_network(tmp_path / "m.zip", "sb3", f"critic_{number}")
        assert_equal(critic(OBS, action), value)


@pytest.mark.parametrize("name", ["PPO", "A2C"])
def test_policies_and_values_of_actor_critics(tmp_path, name):
    model = sb3_model(name)
    model.save(tmp_path / "m.zip")

    found = load_network(tmp_path / "m.zip", "sb3")(OBS)
    distribution = model.policy.get_distribution(OBS).distribution
    if name == "PPO":
        assert_equal(found.log_softmax(-1), distribution.logits)
    else:
        assert_equal(found, distribution.mean)
    value = load_network(tmp_path / "m.zip", "sb3", "value")
    assert_equal(value(OBS), model.policy.predict_values(OBS))


def test_images_of_stable_baselines3_are_scaled(tmp_path):
    gymnasium = pytest.importorskip("gymnasium")
    stable_baselines3 = pytest.importorskip("stable_baselines3")
    from helpers.collect import Spaces

    class Images(Spaces):
        def __init__(self):
            super().__init__(5, gymnasium.spaces.Discrete(3))
            self.observation_space = gymnasium.spaces.Box(0, 255, (4, 36, 36), np.uint8)

    model = stable_baselines3.DQN("CnnPolicy", Images(), device="cpu", buffer_size=2)
    model.save(tmp_path / "m.zip")
    images = torch.randint(0, 256, (2, 4, 36, 36), dtype=torch.uint8)
    assert_equal(load_network(tmp_path / "m.zip", "sb3")(images), model.policy.q_net(images))


# --- scripts


def saved(tmp_path, content):
    torch.save(content, tmp_path / "weights")
    return tmp_path / "weights"


def test_action_values_of_cleanrl(tmp_path):
    network = mlp([5, 12, 8, 3])
    path = saved(tmp_path, Named(network=network).state_dict())
    assert_equal(load_network(path, "cleanrl")(OBS), network(OBS))

    odd = mlp([5, 12, 3], nn.GELU)
    path = saved(tmp_path, Named(network=odd).state_dict())
    assert_equal(load_network(path, "cleanrl", activation=nn.GELU)(OBS), odd(OBS))


def test_images_of_cleanrl(tmp_path):
    convolutions = [nn.Conv2d(4, 5, 8, 4), nn.ReLU(), nn.Conv2d(5, 6, 4, 2), nn.ReLU()]
    linear = [nn.Flatten(), nn.Linear(6 * 3 * 3, 7), nn.ReLU(), nn.Linear(7, 2)]
    network = nn.Sequential(*convolutions, *linear)
    path = saved(tmp_path, Named(network=network).state_dict())
    images = torch.randint(0, 256, (2, 4, 36, 36), dtype=torch.uint8)
    assert_equal(load_network(path, "cleanrl")(images), network(images / 255))


def test_expected_values_of_categorical_networks(tmp_path):
    network = Named(network=mlp([5, 8, 6]))
    network.register_buffer("atoms", torch.tensor([-1.0, 0.0, 3.0]))
    content = {"model_weights": network.state_dict(), "args": {"n_atoms": 3, "lr": 1e-3}}

    probability = network.network(OBS).view(6, 2, 3).softmax(-1)
    expected = probability[..., 2] * 3 - probability[..., 0]
    assert_equal(load_network(saved(tmp_path, content), "cleanrl")(OBS), expected)


def test_actors_and_critics_of_cleanrl(tmp_path):
    actor, first, second = ScriptActor(), ScriptCritic(), ScriptCritic()
    path = saved(tmp_path, tuple(network.state_dict() for network in (actor, first, second)))

    assert_equal(load_network(path, "cleanrl")(OBS), actor(OBS))
    assert_equal(load_network(path, "cleanrl", "critic_1")(OBS, ACTION), first(OBS, ACTION))
    assert_equal(load_network(path, "cleanrl", "critic_2")(OBS, ACTION), second(OBS, ACTION))

    path = saved(tmp_path, second.state_dict())
    assert_equal(load_network(path, "cleanrl", "critic_1")(OBS, ACTION), second(OBS, ACTION))

    policy, value = mlp([5, 8, 8, 3], nn.Tanh), mlp([5, 8, 8, 1], nn.Tanh)
    path = saved(tmp_path, Named(critic=value, actor=policy).state_dict())
    assert_equal(load_network(path, "cleanrl")(OBS), policy(OBS))
    assert_equal(load_network(path, "cleanrl", "value")(OBS), value(OBS))


@pytest.mark.parametrize(
    ("actor", "forward"),
    [
        (Named(base_network=mlp([5, 8, 6])), lambda net: net.base_network(OBS)[:, :3].tanh()),
        (Named(net=mlp([5, 8, 3], end=[nn.Tanh()])), lambda net: net.net(OBS)),
        (Named(net=Named(net=mlp([5, 8, 3]))), lambda net: net.net.net(OBS).tanh()),
        (
            Named(trunk=mlp([5, 8, 7, 7])[:-1], mu=nn.Linear(7, 3), log_sigma=nn.Linear(7, 3)),
            lambda net: net.mu(net.trunk(OBS)).tanh(),
        ),
        (Named(_mlp=mlp([5, 8, 3])), lambda net: net._mlp(OBS)),
    ],
)
def test_checkpoints_of_corl(tmp_path, actor, forward):
    critics = Named(network=mlp([8, 6, 1])), Named(network=mlp([8, 6, 1]))
    optimizer = torch.optim.Adam(actor.parameters())
    content = {
        "actor": actor.state_dict(),
        "critic1": critics[0].state_dict(),
        "critic2": critics[1].state_dict(),
        "actor_optimizer": optimizer.state_dict(),
        "total_it": 5,
    }
    path = saved(tmp_path, content)
    if hasattr(actor, "trunk"):  # its activation after the last layer is no parameter
        actor.trunk.append(nn.ReLU())

    assert_equal(load_network(path, "corl")(OBS), forward(actor))
    pairs = torch.cat([OBS, ACTION], 1)
    found = load_network(path, "corl", "critic_2")(OBS, ACTION)
    assert_equal(found, critics[1].network(pairs))


# --- d3rlpy


@pytest.mark.parametrize("name", ["DQN", "CQL", "TD3PlusBC", "DiscreteBC"])
def test_networks_of_d3rlpy(tmp_path, name):
    d3rlpy = import_d3rlpy()
    encoder = d3rlpy.models.VectorEncoderFactory([8, 6], activation="tanh", use_layer_norm=True)
    options = {}
    if name == "DQN":
        scaler = d3rlpy.preprocessing.StandardObservationScaler(
            mean=np.arange(5.0), std=np.full(5, 2.0)
        )
        quantiles = d3rlpy.models.QRQFunctionFactory(n_quantiles=4)
        options = {"q_func_factory": quantiles, "observation_scaler": scaler}
    key = "encoder_factory" if name in ("DQN", "DiscreteBC") else "critic_encoder_factory"
    algorithm = getattr(d3rlpy.algos, f"{name}Config")(**{key: encoder}, **options).create()
    algorithm.create_impl((5,), 3)
    algorithm.save(str(tmp_path / "m.d3"))

    found = load_network(tmp_path / "m.d3", "d3rlpy")(OBS)
    if name == "DQN":
        actions = [np.full(6, action) for action in range(3)]
        expected = [algorithm.predict_value(OBS.numpy(), action) for action in actions]
        assert_equal(found, np.stack(expected, 1))
        return

    expected = algorithm.predict(OBS.numpy())
    assert_equal(found.argmax(-1) if name == "DiscreteBC" else found, expected)
    if name == "CQL":
        parts = ("critic_1", "critic_2")
        critics = [load_network(tmp_path / "m.d3", "d3rlpy", part) for part in parts]
        values = (critics[0](OBS, ACTION) + critics[1](OBS, ACTION)) / 2
        assert_equal(values[:, 0], algorithm.predict_value(OBS.numpy(), ACTION.numpy()))


# --- mistakes


class Trap:
    def __reduce__(self):
        return print, ("a stranger's code ran",)


def test_nothing_in_a_file_is_executed(tmp_path, capsys):
    torch.save({"network.0.weight": Trap()}, tmp_path / "weights")
    (tmp_path / "m.d3").write_bytes(pickle.dumps({"torch": Trap(), "config": "{}"}))
    for name, kind in (("weights", "cleanrl"), ("weights", "corl"), ("m.d3", "d3rlpy")):
        with pytest.raises(InputError) as error:
            load_network(tmp_path / name, kind)
        assert str(tmp_path) in str(error.value)
        assert "\n" not in str(error.value)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("content", "part", "message"),
    [
        ({"step": 3}, None, "holds no weights"),
        ({"conv.weight": torch.zeros(2, 3)}, None, "no network 'actor'; .* named conv.weight"),
        ({"network.0.weight": torch.zeros(2, 3)}, "Q", "no network 'Q', did you mean 'q'"),
        (
            {"network.0.weight": torch.zeros(4, 3), "network.2.weight": torch.zeros(2, 5)},
            None,
            r"network\.2: reads 5 features, expected the 4",
        ),
        ({"network.0.weight": torch.zeros(2, 3, 4)}, None, r"network\.0: .* \(2, 3, 4\)"),
    ],
)
def test_mistakes_are_named_in_one_line(tmp_path, content, part, message):
    path = saved(tmp_path, content)
    with pytest.raises(InputError, match=message) as error:
        load_network(path, "cleanrl", part)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_other_files_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as file:
        file.writestr("data", "{}")
    for kind in ("sb3", "cleanrl", "corl", "d3rlpy"):
        for name in ("other.zip", "missing"):
            with pytest.raises(InputError, match=name):
                load_network(tmp_path / name, kind)
    with pytest.raises(InputError, match="kind 'd3rl': unknown, did you mean 'd3rlpy'"):
        load_network(tmp_path / "other.zip", "d3rl")
