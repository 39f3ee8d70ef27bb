"""The heavier probes of networks that are not ours: the numbers of an agent's own networks."""

import re

import numpy as np
import pytest
import torch
from helpers.interop import import_d3rlpy, mlp, recorded, sb3_training
from rlop.agents import CQL, DQN
from torch import nn

import rlop
from rlop.data.dataset import Dataset
from rlop.data.sampler import probe_batch
from rlop.interop import ActionValues, D3rlpyProbe, NetworkProbe, transitions
from rlop.logs.history import read_metrics
from rlop.probes import min_eigenvalue, pack, seem_eigenvalue
from rlop.probes.heavy import BETWEEN_RUNS, DISCRETE, PROBES
from rlop.types import InputError, Spec

NAMES = [name for name in PROBES if name not in BETWEEN_RUNS]
OF_CRITICS = [name for name in NAMES if name not in DISCRETE]
SPEC = Spec((4,), n_actions=3)


def data(discrete):
    """150 random transitions, every third end of an episode final."""
    rng = np.random.default_rng(4)
    ends = np.arange(150) % 10 == 9
    terminated = ends & (np.arange(150) % 30 == 9)
    action = rng.integers(0, 3, 150)
    if not discrete:
        action = rng.uniform(-1, 1, (150, 2)).astype(np.float32)
    return Dataset.from_arrays(
        rng.normal(size=(150, 4)).astype(np.float32),
        action,
        rng.normal(size=150).astype(np.float32),
        terminated,
        ends & ~terminated,
        rng.normal(size=(150, 4)).astype(np.float32),
    )


def fill(network, parameters, *index):
    """Copy the parameters of one run, in their order, into a chain of linear layers."""
    with torch.no_grad():
        for mine, stacked in zip(network.parameters(), parameters.values(), strict=True):
            mine.copy_(stacked[index].reshape(mine.shape))
    return network


def foreign_rows(batch):
    return transitions(
        batch.obs[0], batch.action[0], batch.reward[0], batch.next_obs[0], batch.terminated[0]
    )


class Pair(nn.Module):
    """A critic that declares its head first, and returns `[n, 1]`."""

    def __init__(self):
        super().__init__()
        self.out = nn.Linear(10, 1)
        self.body = mlp([6, 12, 10], end=[nn.ReLU()])

    def forward(self, obs, action):
        return self.out(self.body(torch.cat([obs, action], 1)))

    def filled(self, parameters, critic):
        *body, weight, bias = parameters.items()
        fill(self.body, dict(body), 0, critic)
        fill(self.out, dict([weight, bias]), 0, critic)
        return self


# --- the same numbers as an agent


def test_a_copy_of_an_agents_network_gives_the_agents_numbers():
    source = data(discrete=True)
    agent = DQN(source.spec, hidden=(12, 10), batch_size=16, lr=3e-3, tau=0.05, gamma=0.9)
    network = fill(mlp([4, 12, 10, 3]), agent.main.initial, 0)
    target = mlp([4, 12, 10, 3])
    values = ActionValues(network, SPEC, gamma=0.9, target=target)

    rlop.train(agent, source, steps=40, progress=False, probe_every=0, log_every=0)
    fill(network, agent.main.parameters, 0)
    fill(target, dict(agent.target.named_parameters()), 0)

    batch = probe_batch(source.columns(), 120, 1)
    expected, found = pack(agent, batch), pack(values, foreign_rows(batch))
    assert list(found) == list(PROBES)
    assert all(expected[name].isfinite() for name in NAMES)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6, equal_nan=True)


def test_copies_of_an_agents_critics_give_the_agents_numbers():
    source = data(discrete=False)
    options = {"policy_hidden": (8,), "action_samples": 2, "batch_size": 16}
    agent = CQL(source.spec, hidden=(12, 10), gamma=0.8, **options)
    critics = [Pair().filled(agent.main.initial, number) for number in range(2)]
    targets = [Pair(), Pair()]
    values = ActionValues(
        critics,
        Spec((4,), action_shape=(2,)),
        gamma=0.8,
        target=targets,
        policy=lambda obs: agent.act(obs[None])[0],
        head="out",
    )

    rlop.train(agent, source, steps=20, progress=False, probe_every=0, log_every=0)
    for number in range(2):
        critics[number].filled(agent.main.parameters, number)
        targets[number].filled(dict(agent.main.target.named_parameters()), number)

    batch = probe_batch(source.columns(), 100, 1)
    expected, found = pack(agent, batch), pack(values, foreign_rows(batch))
    assert set(OF_CRITICS) <= set(found)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6, equal_nan=True)


# --- by hand


def test_a_linear_network_by_hand():
    network = nn.Sequential(nn.Linear(2, 2, bias=False))
    network[0].weight.data.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
    obs = torch.tensor([[3.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    action = torch.tensor([0, 1, 1])
    values = ActionValues(network, Spec((2,), n_actions=2), gamma=0.5)
    rows = transitions(obs, action, torch.zeros(3), obs.flip(0), torch.tensor([0, 1, 0]))
    found = pack(values, rows, ["kernel/min_eig", "seem/eigenvalue", "trace/head"])

    # d Q(s, a) / d W is s in row a. The greedy actions at s' are 1 in the first row and 0 in the
    # last; the second row is terminal.
    a = torch.tensor([[3.0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 1]])
    b = torch.tensor([[0.0, 0, 1, 1], [0, 0, 0, 0], [3, 0, 0, 0]])
    k = a @ a.mT
    assert k.tolist() == [[9, 0, 0], [0, 1, 1], [0, 1, 2]]
    assert found["kernel/min_eig"].item() == pytest.approx((3 - 5**0.5) / 2)
    torch.testing.assert_close(found["kernel/min_eig"][0], min_eigenvalue(k))
    torch.testing.assert_close(found["seem/eigenvalue"][0], seem_eigenvalue(k, a @ b.mT, 0.5))
    assert found["trace/head"].item() == pytest.approx((9 + 1 + 2) / 3)


def test_rows_of_several_steps_bootstrap_less():
    network, obs = mlp([4, 8, 3]), torch.randn(40, 4)
    values = ActionValues(network, SPEC, gamma=0.5, target=network)
    action, reward, last = torch.arange(40) % 3, torch.zeros(40, 1), torch.zeros(40, 1)
    plain = transitions(obs, action, reward, obs, last)
    never = transitions(obs, action, reward, obs, last, discount=torch.zeros(40))
    assert pack(values, plain, ["kernel/kare"])["kernel/kare"] > 0
    assert pack(values, never, ["kernel/kare"])["kernel/kare"] == 0


def test_nothing_in_the_network_is_changed():
    network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 3))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    values = ActionValues(network, SPEC, gamma=0.9, target=network)
    rows = foreign_rows(probe_batch(data(discrete=True).columns(), 60, 1))
    numbers = torch.get_rng_state()
    first, second = pack(values, rows), pack(values, rows)

    torch.testing.assert_close(first, second, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(dict(network.state_dict()), before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), numbers)
    assert all(module.training for module in network.modules())
    assert all(p.grad is None and p.requires_grad for p in network.parameters())
    assert not network[3]._forward_pre_hooks


# --- in trainings


def test_a_loop_records_them(tmp_path):
    network = mlp([4, 12, 10, 3])
    values = ActionValues(network, SPEC, gamma=0.9)
    rows = foreign_rows(probe_batch(data(discrete=True).columns(), 60, 1))
    names = ["kernel/min_eig", "kernel/change"]
    options = {"probes": names, "values": values, "rows": rows}
    with NetworkProbe(tmp_path, network, rows.obs[0], every=1, **options) as hook:
        hook(1)
        network[0].weight.data.mul_(2)
        measures = hook(2)
    steps, changes = recorded(tmp_path, "kernel/change")
    assert steps == [1, 2]
    assert changes[0] == 0 < changes[1]
    assert measures["kernel/min_eig"] == pack(values, rows, names)["kernel/min_eig"].item()
    assert "rank/srank" in measures


@pytest.mark.parametrize(
    ("name", "module"),
    [("DQN", "stable_baselines3"), ("QRDQN", "sb3_contrib"), ("TQC", "sb3_contrib")],
)
def test_stable_baselines3_records_them_and_learns_the_same(tmp_path, name, module):
    pytest.importorskip(module)
    names = OF_CRITICS if name == "TQC" else NAMES
    callback = rlop.ProbeCallback(tmp_path, every=64, size=50, probes=names)
    watched = sb3_training(name, callback, module)
    plain = sb3_training(name, None, module)
    for a, b in zip(watched.policy.parameters(), plain.policy.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)

    assert set(names) <= set(read_metrics(tmp_path).metrics)
    assert recorded(tmp_path, "kernel/change")[1][0] > 0  # against the start, not the first probe
    assert all(np.isfinite(recorded(tmp_path, "kernel/min_eig")[1]))


@pytest.mark.parametrize("name", ["DiscreteCQL", "CQL"])
def test_d3rlpy_records_them(tmp_path, name):
    d3rlpy = import_d3rlpy()
    source = data(discrete=name == "DiscreteCQL").columns()
    action = source["action"].reshape(150, -1)
    ends = np.arange(150) % 30 == 29
    columns = source["obs"], action, source["reward"].reshape(-1, 1)
    dataset = d3rlpy.dataset.MDPDataset(*columns, np.zeros(150, bool), ends)
    algorithm = getattr(d3rlpy.algos, f"{name}Config")(batch_size=8).create()
    names = NAMES if name == "DiscreteCQL" else OF_CRITICS
    quiet = {"show_progress": False, "logger_adapter": d3rlpy.logging.NoopAdapterFactory()}
    with D3rlpyProbe(tmp_path, dataset, every=2, size=40, probes=names) as callback:
        algorithm.fit(dataset, n_steps=4, n_steps_per_epoch=4, callback=callback, **quiet)
    assert set(names) <= set(read_metrics(tmp_path).metrics)
    assert recorded(tmp_path, "kernel/change")[0] == [2, 4]

    if name == "CQL":
        with pytest.raises(InputError, match="'classes/ratio': expected discrete actions"):
            D3rlpyProbe(tmp_path, dataset, probes=["classes/ratio"])


# --- refused before training


class Cube(torch.autograd.Function):
    """A function of the old form, which cannot be differentiated by rows."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, slope):
        (x,) = ctx.saved_tensors
        return 3 * x**2 * slope


class Cubes(nn.Module):
    """A layer of it."""

    def forward(self, x):
        """Cube."""
        return Cube.apply(x)


def refused(tmp_path, network, names, message, **options):
    rows = foreign_rows(probe_batch(data(discrete=True).columns(), 30, 1))

    def begin():
        values = ActionValues(network, SPEC, gamma=0.9, **options)
        NetworkProbe(tmp_path, network, rows.obs[0], probes=names, values=values, rows=rows)

    with pytest.raises(InputError, match=message) as error:
        begin()
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_measured_is_refused_by_name(tmp_path):
    plain = mlp([4, 8, 3])
    refused(tmp_path, plain, ["kernel/kare"], "'kernel/kare': .* expected a target network")
    refused(tmp_path, plain, ["masks/seeds"], "'masks/seeds': compares several runs")
    refused(tmp_path, plain, ["kernel/kar"], "'kernel/kar': unknown, did you mean 'kernel/kare'")
    refused(tmp_path, plain, ["trace/head"], "head = '5': no nn.Linear of Seq", head="5")
    cubic = nn.Sequential(nn.Linear(4, 8), Cubes(), nn.Linear(8, 3))
    refused(tmp_path, cubic, ["kernel/min_eig"], "'kernel/min_eig': cannot be taken here")
    flat = nn.Sequential(*mlp([4, 8, 3]), nn.Flatten(0))
    refused(tmp_path, flat, ["trace/head"], r"Sequential: expected values \[n, A\] of 30 rows")
    critics = [plain, mlp([4, 8, 3])]
    refused(tmp_path, critics, ["trace/head"], "networks: expected one of all actions, got 2")


def test_shapes_of_rows_are_checked():
    obs, action, zeros = torch.zeros(5, 4), torch.zeros(5, dtype=torch.int64), torch.zeros(5)
    with pytest.raises(InputError, match=re.escape("reward: expected [5], got (4,)")):
        transitions(obs, action, zeros[:4], obs, zeros)
    with pytest.raises(InputError, match=re.escape("next_obs: expected (5, 4), got (4, 4)")):
        transitions(obs, action, zeros, obs[:4], zeros)
    with pytest.raises(InputError, match=re.escape("action: expected [5, ...], got (4, 2)")):
        transitions(obs, torch.zeros(4, 2), zeros, obs, zeros)


def test_models_without_action_values_are_refused_before_they_learn(tmp_path):
    pytest.importorskip("stable_baselines3")
    names = ["kernel/min_eig"]
    with pytest.raises(InputError, match="probes: expected action values, PPO has none"):
        sb3_training("PPO", rlop.ProbeCallback(tmp_path, probes=names))
    with pytest.raises(InputError, match="obs: expected None with probes"):
        rlop.ProbeCallback(tmp_path, np.zeros((9, 3), np.float32), probes=names)
    with pytest.raises(InputError, match="'classes/ratio': expected discrete actions"):
        sb3_training("SAC", rlop.ProbeCallback(tmp_path, probes=["classes/ratio"]))
