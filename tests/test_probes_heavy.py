"""The pack of heavier probes: every number against the function on one run's own tensors."""

import copy

import numpy as np
import pytest
import torch
from rlop.agents import BC, CQL, DQN, DiscreteCQL, NeuralTD

import rlop
from rlop.data.dataset import Dataset
from rlop.data.sampler import probe_batch
from rlop.probes import (
    action_shift,
    class_variance,
    flip_radius,
    kare,
    kernel_change,
    last_layer_gram,
    layer_alignment,
    min_eigenvalue,
    nearest_center,
    pack,
    seem_eigenvalue,
)
from rlop.probes.heavy import DISCRETE, PROBES
from rlop.probes.implicit import implicit_regularizer
from rlop.probes.model import AgentView
from rlop.types import InputError

SMALL = {"hidden": (16, 16), "batch_size": 16}
IMPLICIT = ["implicit/td", "implicit/supervised", "implicit/coadaptation"]
KERNELS = ["kernel/min_eig", "kernel/change", "kernel/kare", *IMPLICIT, "seem/eigenvalue"]
TRACES = ["kernel/captured", "trace/gauss_newton", "trace/head"]
OF_ONE_NETWORK = [*KERNELS, *TRACES, "alignment/layers", "parameters/effective"]


def trained(agent, data):
    """The agent after 30 updates, and a batch to probe it on."""
    rlop.train(agent, data, steps=30, progress=False, probe_every=0, log_every=0)
    return agent, probe_batch(data.columns(), 64, len(agent.runs))


@pytest.fixture
def moves():
    """200 random transitions with continuous actions, some terminal."""
    rng = np.random.default_rng(0)
    ends = np.arange(200) % 10 == 9
    terminated = ends & (np.arange(200) % 20 == 9)
    return Dataset.from_arrays(
        rng.normal(size=(200, 4)).astype(np.float32),
        rng.uniform(-1, 1, size=(200, 2)).astype(np.float32),
        rng.normal(size=200).astype(np.float32),
        terminated,
        ends & ~terminated,
        rng.normal(size=(200, 4)).astype(np.float32),
    )


@pytest.fixture
def dqn(tiny):
    return trained(DQN(tiny.spec, seeds=2, gamma=[0.9, 0.5], lr=3e-3, **SMALL), tiny)


# --- the contract ---


def test_every_probe_of_a_discrete_agent_is_a_number_for_every_run(dqn):
    agent, batch = dqn
    values = pack(agent, batch)
    assert list(values) == list(PROBES)
    for name, value in values.items():
        assert value.shape == (4,), name
        assert value.dtype == torch.float64, name
        assert value.isfinite().all() or name in IMPLICIT, name
        assert not value.requires_grad, name


def test_probing_changes_nothing(dqn):
    agent, batch = dqn
    before = copy.deepcopy(agent.state_dict())
    first = pack(agent, batch)
    torch.testing.assert_close(agent.state_dict(), before, rtol=0, atol=0)
    torch.testing.assert_close(pack(agent, batch), first, rtol=0, atol=0, equal_nan=True)
    for parameter in agent.online.parameters():
        assert parameter.grad is None


def test_a_run_alone_equals_the_run_among_others(tiny):
    names = [name for name in PROBES if not name.startswith(("agreement/", "cka/", "masks/"))]
    agent, batch = trained(DiscreteCQL(tiny.spec, seeds=[3, 5], **SMALL), tiny)
    together = pack(agent, batch, names)
    agent, batch = trained(DiscreteCQL(tiny.spec, seeds=[5], **SMALL), tiny)
    alone = pack(agent, batch, names)
    for name in names:
        torch.testing.assert_close(
            together[name][1],
            alone[name][0],
            rtol=1e-3,
            atol=1e-5,
            equal_nan=True,
            msg=name,
        )

    of_several_seeds = pack(agent, batch, ["agreement/disagreement", "cka/seeds", "agreement/gap"])
    assert of_several_seeds["agreement/disagreement"].isnan()
    assert of_several_seeds["cka/seeds"].isnan()
    assert of_several_seeds["agreement/gap"].isfinite()


def test_a_broken_run_is_nan_and_its_neighbors_are_not(dqn):
    agent, batch = dqn
    names = [name for name in PROBES if not name.startswith("agreement/")]
    before = pack(agent, batch, names)
    with torch.no_grad():
        for parameter in agent.online.parameters():
            parameter[0] = torch.nan

    after = pack(agent, batch, names)
    for name in OF_ONE_NETWORK:
        assert after[name][0].isnan(), name
        torch.testing.assert_close(after[name][1:], before[name][1:], equal_nan=True, msg=name)
    torch.testing.assert_close(after["cka/seeds"][2:], before["cka/seeds"][2:])


def test_errors_name_the_probe_and_the_agent(dqn, moves, tiny):
    agent, batch = dqn
    with pytest.raises(InputError, match="'kernel/min': unknown, did you mean 'kernel/min_eig'"):
        pack(agent, batch, ["kernel/min"])
    with pytest.raises(InputError, match="size = 0"):
        pack(agent, batch, size=0)

    continuous = CQL(moves.spec, policy_hidden=(16,), **SMALL)
    moves_batch = probe_batch(moves.columns(), 16, 1)
    expected = "'classes/ratio': expected discrete actions, CQL has continuous"
    with pytest.raises(InputError, match=expected):
        pack(continuous, moves_batch, ["classes/ratio"])


@pytest.mark.parametrize("agent_class", [BC, NeuralTD])
def test_agents_without_action_values_are_refused(dqn, tiny, agent_class):
    _, batch = dqn
    expected = f"{agent_class.__name__}: expected an agent with action values"
    with pytest.raises(InputError, match=expected):
        pack(agent_class(tiny.spec), batch)


# --- kernels ---


def rows_by_hand(agent, obs, action, run, parameters):
    """Gradients of Q(s, a) of one run by backward, in float64, `[n, d]`."""
    network = copy.deepcopy(agent.online).double()
    network.load_state_dict({name: p.double() for name, p in parameters.items()})

    rows = []
    for s, a in zip(obs[run], action[run], strict=True):
        # QNetwork reads observations as float32: run its layers by hand.
        x = s.double()
        for layer in network.torso.layers:
            x = (layer.weight[run] @ x + layer.bias[run]).relu()
        q_values = network.head.weight[run] @ x + network.head.bias[run]
        gradients = torch.autograd.grad(q_values[a], list(network.parameters()))
        rows.append(torch.cat([gradient[run].flatten() for gradient in gradients]))
    return torch.stack(rows)


@pytest.mark.parametrize("run", range(4))
def test_kernels_and_implicit_parts_are_those_of_gradients_taken_one_by_one(dqn, run):
    agent, batch = dqn
    every_third = (torch.arange(64) % 3 == 0).float().expand(4, 64)
    batch = batch._replace(terminated=every_third, discount=torch.full((4, 64), 0.8))
    values = pack(agent, batch, KERNELS, size=8)

    rows = AgentView(agent, batch, 8).rows
    assert len(rows) == 8
    live = 1 - every_third[run, rows].double()
    assert 0 < live.sum() < 8

    obs = batch.obs[:, rows]
    action = batch.action[:, rows]
    next_obs = batch.next_obs[:, rows]
    greedy = agent.q_values(next_obs).argmax(-1)
    parameters = agent.online.state_dict()
    a = rows_by_hand(agent, obs, action, run, parameters)
    b = rows_by_hand(agent, next_obs, greedy, run, parameters)
    b = 0.8 * b * live.unsqueeze(-1)
    start = rows_by_hand(agent, obs, action, run, agent.main.initial)

    gamma = agent.runs.values["gamma"][run]
    k = a @ a.mT
    eta = 0.01 / torch.linalg.matrix_norm(k - gamma * b @ a.mT).item()
    parts = implicit_regularizer(a, b, gamma, eta, 1.0)
    traced = pack(agent, batch, ["trace/gauss_newton"], size=8)["trace/gauss_newton"]
    torch.testing.assert_close(traced[run], a.square().sum(-1).mean(), rtol=1e-4, atol=0)

    expected = {
        "kernel/min_eig": min_eigenvalue(k),
        "kernel/change": kernel_change(k, start @ start.mT),
        "seem/eigenvalue": seem_eigenvalue(k, a @ b.mT, gamma),
        "implicit/td": parts.total / (8 * eta),
        "implicit/supervised": parts.supervised / (8 * eta),
        "implicit/coadaptation": parts.coadaptation / (8 * eta),
    }
    for name, value in expected.items():
        torch.testing.assert_close(values[name][run], value, rtol=1e-3, atol=1e-5, msg=name)

    if gamma == 0.5:
        # eta sigma^2 / 4 of every squared gradient, where nothing bootstraps.
        without_bootstrapping = a.square().sum() / 8 / 4
        assert 0.3 < values["implicit/supervised"][run] / without_bootstrapping < 3


HEADS = {
    "values": {},
    "quantile": {"head": {"quantile": {"n": 5}}},
    "categorical": {"head": {"categorical": {"n": 5, "v_min": -2, "v_max": 2}}},
}


@pytest.mark.parametrize("head", HEADS)
def test_kare_is_that_of_one_run(tiny, head):
    agent, batch = trained(DQN(tiny.spec, seeds=2, **SMALL, **HEADS[head]), tiny)
    assert batch.terminated.any()
    values = pack(agent, batch, ["kernel/kare"])["kernel/kare"]
    with torch.no_grad():
        next_value = agent.action_values(agent.target(batch.next_obs)[1]).amax(-1)
    phi, _ = agent.features(batch)

    for run in range(2):
        kernel = last_layer_gram(phi[run], batch.action[run])
        bootstrap = agent.hyper["gamma"][run] * (1 - batch.terminated[run]) * next_value[run]
        ridge = 1e-3 * kernel.trace().item() / 64**2
        expected = kare(kernel, batch.reward[run] + bootstrap, ridge)
        torch.testing.assert_close(values[run], expected, rtol=1e-5, atol=0)


# --- agreement, layers, states ---


def test_agreement_compares_seeds_of_one_kind_only(dqn):
    agent, batch = dqn
    values = pack(agent, batch, ["agreement/disagreement", "agreement/error", "cka/seeds"])
    actions = agent.act(batch.obs)
    for pair in ([0, 1], [2, 3]):  # gamma varies slower than the seed
        first, second = pair
        differs = (actions[first] != actions[second]).double().mean()
        assert values["agreement/disagreement"][pair].tolist() == [differs.item()] * 2
        error = (actions[pair] != batch.action[pair]).double().mean()
        torch.testing.assert_close(values["agreement/error"][pair], error.expand(2))
        assert values["cka/seeds"][first] == values["cka/seeds"][second]


def test_alignment_is_that_of_the_layers_of_one_run(dqn):
    agent, batch = dqn
    values = pack(agent, batch, ["alignment/layers"])["alignment/layers"]
    layers = [*agent.online.torso.layers, agent.online.head]
    for run in range(4):
        weights = [layer.weight[run].detach() for layer in layers]
        torch.testing.assert_close(values[run], layer_alignment(weights).mean())


@pytest.mark.parametrize("head", HEADS)
def test_sensitivity_is_that_of_action_values_whatever_the_head(tiny, head):
    agent, batch = trained(DQN(tiny.spec, seeds=2, **SMALL, **HEADS[head]), tiny)
    values = pack(agent, batch, ["lipschitz/at", "lipschitz/flip"])

    def q_values(obs):
        return agent.action_values(agent.online(obs)[1])

    obs = batch.obs.clone().requires_grad_()
    (slope,) = torch.autograd.grad(q_values(obs).amax(-1).sum(), obs)
    torch.testing.assert_close(values["lipschitz/at"], slope.norm(dim=-1).mean(-1).double())

    flips = flip_radius(q_values, batch.obs)
    median = flips.relative.median(-1).values
    torch.testing.assert_close(values["lipschitz/flip"], median.double())


def test_habits_are_those_of_one_run(dqn):
    agent, batch = dqn
    values = pack(agent, batch, ["agreement/shift", "classes/ratio"])
    phi, _ = agent.features(batch)
    greedy = agent.act(batch.obs)
    for run in range(4):
        action = batch.action[run]
        cluster = nearest_center(batch.obs[run], 16)
        shift = action_shift(greedy[run], action, cluster, 3, 16)
        torch.testing.assert_close(values["agreement/shift"][run], shift.total)
        variance = class_variance(phi[run], action, 3)
        torch.testing.assert_close(values["classes/ratio"][run], variance.ratio)


# --- continuous actions, images ---


@pytest.fixture
def cql(moves):
    agent = CQL(moves.spec, seeds=2, policy_hidden=(16,), action_samples=2, **SMALL)
    return trained(agent, moves)


def test_continuous_agents_have_all_probes_but_those_of_discrete_actions(cql):
    agent, batch = cql
    values = pack(agent, batch, size=6)
    assert set(values) == set(PROBES) - DISCRETE
    for name, value in values.items():
        assert value.shape == (2,), name
        assert value.isfinite().all() or name in IMPLICIT, name

    actions = agent.act(batch.obs).double()
    distance = (actions[0] - actions[1]).norm(dim=-1).mean()
    torch.testing.assert_close(values["agreement/disagreement"], distance.expand(2))


def test_probes_of_critics_are_averaged(cql):
    agent, batch = cql
    view = AgentView(agent, batch, 6)
    q = agent.critics(batch.obs[:, view.rows], batch.action[:, view.rows])[1]
    smallest = []
    for critic in range(2):
        rows = []
        for i in range(6):
            gradients = torch.autograd.grad(
                q[1, critic, i], list(agent.critics.parameters()), retain_graph=True
            )
            rows.append(torch.cat([gradient[1, critic].flatten() for gradient in gradients]))
        a = torch.stack(rows).double()
        smallest.append(min_eigenvalue(a @ a.mT))

    value = pack(agent, batch, ["kernel/min_eig"], size=6)["kernel/min_eig"][1]
    torch.testing.assert_close(value, torch.stack(smallest).mean(), rtol=1e-3, atol=1e-5)


def test_repeated_rows_count_once_and_images_are_flattened():
    rng = np.random.default_rng(0)
    every_state_twice = np.arange(80) // 2
    obs = (rng.random((80, 10, 10, 2)) < 0.2)[every_state_twice]
    data = Dataset.from_arrays(
        obs,
        np.zeros(80, np.int64),
        rng.normal(size=80),
        np.zeros(80, bool),
        np.arange(80) % 20 == 19,
        obs,
        n_actions=3,
    )
    agent = DQN(data.spec, hidden=(8,))
    batch = probe_batch(data.columns(), 80, 1)
    assert len(AgentView(agent, batch, 50).rows) == 40

    values = pack(agent, batch, size=12)
    assert values["kernel/min_eig"] > 0
    assert values["lipschitz/at"].isfinite().all()
