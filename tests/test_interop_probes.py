"""Probes during trainings that are not ours."""

import sys

import numpy as np
import pytest
import torch
from helpers.interop import ScriptCritic, import_d3rlpy, mlp, recorded, sb3_training
from torch import nn

import rlop
from rlop.interop import D3rlpyProbe, NetworkProbe
from rlop.interop.network_probe import summarized
from rlop.logs.history import read_metrics
from rlop.probes import probe
from rlop.types import InputError


def direct_srank(features):
    """Srank by the definition, from a full SVD in float64."""
    sigma = np.linalg.svd(np.asarray(features.detach(), np.float64), compute_uv=False)
    return int(np.argmax(np.cumsum(sigma) >= 0.99 * sigma.sum())) + 1


# --- a plain loop


def test_a_loop_records_what_a_direct_svd_gives(tmp_path):
    torch.manual_seed(0)
    network, obs = mlp([4, 16, 12, 2]), torch.randn(64, 4)
    with NetworkProbe(tmp_path, network, obs, every=5, name="mine", seed=3) as hook:
        expected = []
        for step in (4, 5, 6, 9, 12):  # several environments skip steps
            network[0].weight.data.mul_(1.5)
            if hook(step):
                expected.append(direct_srank(network[:-1](obs)))

    assert recorded(tmp_path, "rank/srank") == ([5, 12], expected)
    history = read_metrics(tmp_path)
    assert history.labels == ["mine-3"]
    assert history.hparams == [{"variant": "mine", "seed": 3}]


def test_twin_critics_are_both_seen(tmp_path):
    torch.manual_seed(0)
    first, second = ScriptCritic(), ScriptCritic()
    second.fc2.weight.data[3:] = 0  # collapsed
    second.fc2.bias.data[3:] = 0
    obs, action = torch.randn(64, 5), torch.rand(64, 3)
    networks = {"critic_1": first, "critic_2": second}
    with NetworkProbe(tmp_path, networks, (obs, action), every=0) as hook:
        measures = hook.measure(1)

    pair = torch.cat([obs, action], 1)
    for name, critic in networks.items():
        phi = torch.relu(critic.fc2(torch.relu(critic.fc1(pair))))
        assert measures[f"rank/srank/{name}"] == direct_srank(phi)
    ranks = [measures["rank/srank/critic_1"], measures["rank/srank/critic_2"]]
    assert ranks[1] <= 3 < ranks[0]
    assert measures["rank/srank"] == np.mean(ranks)


def test_an_actor_counts_only_where_it_is_alone():
    each = {"actor": {"x": 9.0}, "value": {"x": 1.0}}
    assert summarized(each) == {"x": 1.0, "x/actor": 9.0, "x/value": 1.0}
    assert summarized({"actor": {"x": 9.0}}) == {"x": 9.0}


def test_one_module_with_two_outputs_is_measured_at_its_heads(tmp_path):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = mlp([4, 8, 1]), mlp([4, 6, 1])

        def forward(self, obs):
            return self.first(obs), self.second(obs)

    model, obs = Twin(), torch.randn(40, 4)
    heads = {"critic_1": "first.2", "critic_2": "second.2"}
    with NetworkProbe(tmp_path, model, obs, heads=heads) as hook:
        measures = hook.measure(0)
    assert measures["rank/srank/critic_1"] == direct_srank(model.first[:-1](obs))
    assert measures["rank/srank/critic_2"] == direct_srank(model.second[:-1](obs))


def test_a_record_continues_after_a_close(tmp_path):
    hook = NetworkProbe(tmp_path, mlp([4, 8, 2]), torch.randn(40, 4))
    hook.measure(1)
    hook.close()
    hook.measure(2)
    hook.close()
    assert recorded(tmp_path, "rank/srank")[0] == [1, 2]
    with pytest.raises(InputError, match="already holds a record"):
        NetworkProbe(tmp_path, mlp([4, 8, 2]), torch.randn(40, 4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": "4"}, r"layer '4' of Sequential: expected features, got the network's output"),
        ({"head": "3"}, r"head = '3': no nn\.Linear of Sequential; one of 0, 2, 4"),
        ({"head": torch.zeros(500)}, r"head: expected the name .* a tensor \(500,\)"),
    ],
)
def test_an_output_layer_and_a_wrong_head_are_refused_in_one_short_line(options, message):
    with pytest.raises(InputError, match=message) as error:
        probe(mlp([4, 8, 6, 3]), torch.zeros(9, 4), **options)
    assert len(str(error.value)) < 300
    assert "\n" not in str(error.value)


def test_a_layer_that_only_looks_like_an_output_is_measured():
    network = mlp([4, 8, 6, 3], end=[nn.ReLU()])
    assert "rank/srank" in probe(network, torch.randn(9, 4), "4")


# --- Stable-Baselines3


@pytest.mark.parametrize(
    ("name", "module", "networks"),
    [
        ("DQN", "stable_baselines3", []),
        ("QRDQN", "sb3_contrib", []),
        ("SAC", "stable_baselines3", ["critic_1", "critic_2"]),
        ("TD3", "stable_baselines3", ["critic_1", "critic_2"]),
        ("TQC", "sb3_contrib", ["critic_1", "critic_2"]),
        ("PPO", "stable_baselines3", ["value", "actor"]),
    ],
)
def test_stable_baselines3_is_measured_and_learns_the_same(tmp_path, name, module, networks):
    pytest.importorskip(module)
    callback = rlop.ProbeCallback(tmp_path, every=64, size=50)
    watched = sb3_training(name, callback, module)
    plain = sb3_training(name, None, module)
    for a, b in zip(watched.policy.parameters(), plain.policy.parameters()):
        torch.testing.assert_close(a, b, rtol=0, atol=0)

    history = read_metrics(tmp_path)
    steps, _ = history.get("rank/srank")
    assert steps.tolist() == [64, 128]
    for network in networks:
        assert f"units/dormant/{network}" in history.metrics
    assert ("feature/dot" in history.metrics) == (name != "PPO")
    assert "rollout/return" in history.metrics
    assert history.hparams == [{"variant": name, "seed": 5}]
    assert history.config["algorithm"] == name


def test_the_srank_of_a_foreign_network_is_that_of_a_direct_svd(tmp_path):
    obs = np.random.default_rng(0).standard_normal((60, 3)).astype(np.float32)
    pytest.importorskip("stable_baselines3")
    callback = rlop.ProbeCallback(tmp_path, obs, every=128)
    model = sb3_training("DQN", callback)

    callback.probe.measure(model.num_timesteps + 1)  # the last updates came after the last probe
    callback.probe.close()
    phi = model.q_net.q_net[:-1](torch.as_tensor(obs))
    assert recorded(tmp_path, "rank/srank")[1][-1] == direct_srank(phi)


def test_learning_on_continues_the_record(tmp_path):
    pytest.importorskip("stable_baselines3")
    callback = rlop.ProbeCallback(tmp_path, every=64, size=50, name="again")
    model = sb3_training("DQN", callback, steps=64)
    model.learn(64, callback=callback, reset_num_timesteps=False)
    assert recorded(tmp_path, "rank/srank")[0] == [64, 128]
    assert read_metrics(tmp_path).hparams[0]["variant"] == "again"


def test_critics_need_actions(tmp_path):
    pytest.importorskip("stable_baselines3")
    callback = rlop.ProbeCallback(tmp_path, np.zeros((9, 3), np.float32), every=64)
    with pytest.raises(InputError, match="obs: expected None for a model with critics"):
        sb3_training("SAC", callback)


def test_without_stable_baselines3_the_extra_is_named(tmp_path, monkeypatch):
    from rlop.interop import sb3

    monkeypatch.setitem(sys.modules, "stable_baselines3.common.callbacks", None)
    sb3._callback_class.cache_clear()
    with pytest.raises(InputError, match=r"pip install 'rlop\[collect\]'"):
        rlop.ProbeCallback(tmp_path)


# --- d3rlpy


@pytest.mark.parametrize("name", ["DiscreteCQL", "CQL", "BC"])
def test_d3rlpy_is_measured(tmp_path, name):
    d3rlpy = import_d3rlpy()
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (60, 2)).astype(np.float32)
    if name == "DiscreteCQL":
        actions = rng.integers(0, 3, (60, 1))
    timeouts = np.zeros(60, bool)
    timeouts[19::20] = True
    dataset = d3rlpy.dataset.MDPDataset(
        rng.standard_normal((60, 3)).astype(np.float32),
        actions,
        rng.standard_normal((60, 1)).astype(np.float32),
        np.zeros(60, bool),
        timeouts,
    )
    algorithm = getattr(d3rlpy.algos, f"{name}Config")(batch_size=8).create()
    no_logs = d3rlpy.logging.NoopAdapterFactory()
    with D3rlpyProbe(tmp_path, dataset, every=2, size=40, seed=4) as callback:
        algorithm.fit(
            dataset,
            n_steps=4,
            n_steps_per_epoch=4,
            show_progress=False,
            callback=callback,
            logger_adapter=no_logs,
        )

    history = read_metrics(tmp_path)
    assert recorded(tmp_path, "rank/srank")[0] == [2, 4]
    assert history.hparams == [{"variant": name, "seed": 4}]
    twins = {"rank/srank/critic_1", "rank/srank/critic_2"}
    assert (twins <= set(history.metrics)) == (name == "CQL")

    obs = torch.as_tensor(callback.rows.obs)
    modules = algorithm.impl.modules
    network = modules.imitator if name == "BC" else modules.q_funcs[0]
    inputs = obs if name != "CQL" else torch.cat([obs, torch.as_tensor(callback.rows.action)], 1)
    suffix = "/critic_1" if name == "CQL" else ""
    last = recorded(tmp_path, f"rank/srank{suffix}")[1][-1]
    assert last == direct_srank(network._encoder._layers(inputs))
