"""The pack of heavier probes on trained agents: every number against the function on one run's own tensors."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from rlop.agents import BC, CQL, DQN, DiscreteCQL
from torch import Tensor

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
KERNELS = ["kernel/min_eig", "kernel/change", "kernel/kare", "implicit/td", "implicit/supervised"]
KERNELS += ["implicit/coadaptation", "seem/eigenvalue", "alignment/layers", "parameters/effective"]


def trained(agent, data, steps=30):
    rlop.train(agent, data, steps=steps, progress=False, probe_every=0, log_every=0)
    return agent, probe_batch(data.columns(), 64, len(agent.runs))


@pytest.fixture
def moves() -> Dataset:
    """200 random transitions with continuous actions, some terminal."""
    rng = np.random.default_rng(0)
    ends = np.arange(200) % 10 == 9
    return Dataset.from_arrays(
        rng.normal(size=(200, 4)).astype(np.float32),
        rng.uniform(-1, 1, size=(200, 2)).astype(np.float32),
        rng.normal(size=200).astype(np.float32),
        ends & (np.arange(200) % 20 == 9),
        ends & ~(np.arange(200) % 20 == 9),
        rng.normal(size=(200, 4)).astype(np.float32),
    )


@pytest.fixture
def dqn(tiny):
    return trained(DQN(tiny.spec, seeds=2, gamma=[0.9, 0.5], lr=3e-3, **SMALL), tiny)


def test_every_probe_of_a_discrete_agent_is_a_number_for_every_run(dqn) -> None:
    agent, batch = dqn
    found = pack(agent, batch)
    assert list(found) == list(PROBES)
    for name, value in found.items():
        assert value.shape == (4,), name
        assert value.dtype == torch.float64, name
        assert value.isfinite().all() or name.startswith("implicit/"), name
        assert not value.requires_grad, name


def test_probing_changes_nothing(dqn) -> None:
    agent, batch = dqn
    before = copy.deepcopy(agent.state_dict())
    first = pack(agent, batch)
    torch.testing.assert_close(agent.state_dict(), before, rtol=0, atol=0)
    assert all(p.grad is None for p in agent.online.parameters())
    torch.testing.assert_close(pack(agent, batch), first, rtol=0, atol=0, equal_nan=True)


def rows_by_hand(agent, obs: Tensor, action: Tensor, run: int, parameters=None) -> Tensor:
    """Gradients of Q(s, a) of one run by backward, in float64, `[n, d]`."""
    network = copy.deepcopy(agent.online).double()
    if parameters is not None:
        network.load_state_dict({name: p.double() for name, p in parameters.items()})
    network_parameters = list(network.parameters())
    rows = []
    # QNetwork reads observations as float32: run its layers by hand
    layers = [*network.torso.layers, network.head]
    for s, a in zip(obs[run], action[run], strict=True):
        x = s.double()
        for i, layer in enumerate(layers):
            x = layer.weight[run] @ x + layer.bias[run]
            x = x.relu() if i < len(layers) - 1 else x
        grads = torch.autograd.grad(x[a], network_parameters)
        rows.append(torch.cat([g[run].flatten() for g in grads]))
    return torch.stack(rows)


def test_kernels_and_implicit_parts_are_those_of_gradients_taken_one_by_one(dqn) -> None:
    agent, batch = dqn
    every_third = (torch.arange(64) % 3 == 0).float().expand(4, 64)
    batch = batch._replace(terminated=every_third, discount=torch.full((4, 64), 0.8))
    found = pack(agent, batch, KERNELS, size=8)
    rows = AgentView(agent, batch, 8).rows
    assert len(rows) == 8
    assert 0 < every_third[0, rows].sum() < 8
    for run in range(4):
        gamma = agent.runs.values["gamma"][run]
        a = rows_by_hand(agent, batch.obs[:, rows], batch.action[:, rows], run)
        start = rows_by_hand(
            agent, batch.obs[:, rows], batch.action[:, rows], run, agent.learner.initial
        )
        greedy = agent.q_values(batch.next_obs[:, rows]).argmax(-1)
        b = rows_by_hand(agent, batch.next_obs[:, rows], greedy, run)
        b = 0.8 * b * (1 - every_third[run, rows]).double().unsqueeze(-1)
        k = a @ a.mT
        expected = {
            "kernel/min_eig": min_eigenvalue(k),
            "kernel/change": kernel_change(k, start @ start.mT),
            "seem/eigenvalue": seem_eigenvalue(k, a @ b.mT, gamma),
        }
        eta = 0.01 / torch.linalg.matrix_norm(k - gamma * b @ a.mT).item()
        parts = implicit_regularizer(a, b, gamma, eta, 1.0)
        expected |= {
            "implicit/td": parts.total / (8 * eta),
            "implicit/supervised": parts.supervised / (8 * eta),
            "implicit/coadaptation": parts.coadaptation / (8 * eta),
        }
        for name, value in expected.items():
            torch.testing.assert_close(found[name][run], value, rtol=1e-3, atol=1e-5, msg=name)
        if run >= 2:  # at gamma = 0.5
            ratio = found["implicit/supervised"][run] / (a.square().sum() / 8 / 4)
            assert (
                0.3 < ratio < 3
            )  # eta sigma^2 / 4 of every squared gradient, where nothing bootstraps


def test_kare_and_alignment_are_those_of_one_run(dqn) -> None:
    agent, batch = dqn
    assert batch.terminated.any()
    found = pack(agent, batch, ["kernel/kare", "alignment/layers"])
    with torch.no_grad():
        next_value = agent.target(batch.next_obs)[1].amax(-1)
    for run in range(4):
        kernel = last_layer_gram(agent.features(batch)[0][run], batch.action[run])
        y = batch.reward[run] + agent.gamma[run] * (1 - batch.terminated[run]) * next_value[run]
        ridge = 1e-3 * kernel.trace().item() / 64**2
        torch.testing.assert_close(
            found["kernel/kare"][run], kare(kernel, y, ridge), rtol=1e-5, atol=0
        )
        weights = [
            layer.weight[run].detach() for layer in [*agent.online.torso.layers, agent.online.head]
        ]
        torch.testing.assert_close(found["alignment/layers"][run], layer_alignment(weights).mean())


def test_agreement_compares_seeds_of_one_kind_only(dqn) -> None:
    agent, batch = dqn
    found = pack(agent, batch, ["agreement/disagreement", "agreement/error", "cka/seeds"])
    actions = agent.act(batch.obs)
    for pair in ((0, 1), (2, 3)):  # gamma varies slower than the seed
        expected = (actions[pair[0]] != actions[pair[1]]).double().mean()
        assert found["agreement/disagreement"][list(pair)].tolist() == [expected.item()] * 2
        error = (actions[list(pair)] != batch.action[list(pair)]).double().mean()
        torch.testing.assert_close(found["agreement/error"][list(pair)], error.expand(2))
        assert found["cka/seeds"][pair[0]] == found["cka/seeds"][pair[1]]


def test_sensitivity_and_habits_are_those_of_one_run(dqn) -> None:
    agent, batch = dqn
    found = pack(
        agent, batch, ["lipschitz/at", "lipschitz/flip", "agreement/shift", "classes/ratio"]
    )
    obs = batch.obs.clone().requires_grad_()
    value = agent.online(obs)[1].amax(-1)
    slope = torch.autograd.grad(value.sum(), obs)[0].norm(dim=-1).mean(-1)
    torch.testing.assert_close(found["lipschitz/at"], slope.double())
    flips = flip_radius(lambda x: agent.online(x)[1], batch.obs)
    torch.testing.assert_close(found["lipschitz/flip"], flips.relative.median(-1).values.double())
    features, greedy = agent.features(batch)[0], agent.act(batch.obs)
    for run in range(4):
        cluster, action = nearest_center(batch.obs[run], 16), batch.action[run]
        torch.testing.assert_close(
            found["agreement/shift"][run], action_shift(greedy[run], action, cluster, 3, 16).total
        )
        torch.testing.assert_close(
            found["classes/ratio"][run], class_variance(features[run], action, 3).ratio
        )


def test_a_run_alone_equals_the_run_among_others(tiny) -> None:
    many, batch = trained(DiscreteCQL(tiny.spec, seeds=[3, 5], **SMALL), tiny)
    alone, own = trained(DiscreteCQL(tiny.spec, seeds=[5], **SMALL), tiny)
    names = [name for name in PROBES if not name.startswith(("agreement/", "cka/"))]
    among, single = pack(many, batch, names), pack(alone, own, names)
    for name in names:
        torch.testing.assert_close(
            among[name][1], single[name][0], rtol=1e-3, atol=1e-5, equal_nan=True, msg=name
        )
    lonely = pack(alone, own, ["agreement/disagreement", "cka/seeds", "agreement/gap"])
    assert lonely["agreement/disagreement"].isnan()
    assert lonely["cka/seeds"].isnan()
    assert lonely["agreement/gap"].isfinite()


def test_a_broken_run_is_nan_and_its_neighbours_are_not(dqn) -> None:
    agent, batch = dqn
    names = [name for name in PROBES if not name.startswith("agreement/")]
    before = pack(agent, batch, names)
    with torch.no_grad():
        for p in agent.online.parameters():
            p[0] = torch.nan
    after = pack(agent, batch, names)
    for name in KERNELS:
        assert after[name][0].isnan(), name
        torch.testing.assert_close(after[name][1:], before[name][1:], equal_nan=True, msg=name)
    torch.testing.assert_close(after["cka/seeds"][2:], before["cka/seeds"][2:])


def test_continuous_agents_and_their_critics(moves) -> None:
    agent, batch = trained(
        CQL(moves.spec, seeds=2, policy_hidden=(16,), action_samples=2, **SMALL), moves
    )
    found = pack(agent, batch, size=6)
    assert set(found) == set(PROBES) - DISCRETE
    for name, value in found.items():
        assert value.shape == (2,), name
        assert value.isfinite().all() or name.startswith("implicit/"), name
    # the mean over critics of kernels taken by backward, row by row
    rows, smallest = AgentView(agent, batch, 6).rows, []
    parameters = list(agent.critics.parameters())
    q = agent.critics(batch.obs[:, rows], batch.action[:, rows])[1]
    for critic in range(2):
        grads = [
            torch.autograd.grad(q[1, critic, i], parameters, retain_graph=True) for i in range(6)
        ]
        a = torch.stack(
            [torch.cat([g[1, critic].flatten() for g in row]) for row in grads]
        ).double()
        smallest.append(min_eigenvalue(a @ a.mT))
    torch.testing.assert_close(
        found["kernel/min_eig"][1], torch.stack(smallest).mean(), rtol=1e-3, atol=1e-5
    )
    apart = (agent.act(batch.obs)[0] - agent.act(batch.obs)[1]).double().norm(dim=-1).mean()
    torch.testing.assert_close(found["agreement/disagreement"], apart.expand(2))


def test_images_and_repeated_rows() -> None:
    rng = np.random.default_rng(0)
    obs = (rng.random((80, 10, 10, 2)) < 0.2)[np.arange(80) // 2]  # every state twice
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
    rows = AgentView(agent, batch, 50).rows
    assert len(rows) == 40  # different ones only
    found = pack(agent, batch, size=12)
    assert found["kernel/min_eig"] > 0
    assert found["lipschitz/at"].isfinite().all()


def test_errors(dqn, moves, tiny) -> None:
    agent, batch = dqn
    with pytest.raises(
        InputError, match="probe 'kernel/min': unknown, did you mean 'kernel/min_eig'"
    ):
        pack(agent, batch, ["kernel/min"])
    with pytest.raises(InputError, match="size = 0"):
        pack(agent, batch, size=0)
    continuous = CQL(moves.spec, policy_hidden=(16,), **SMALL)
    own = probe_batch(moves.columns(), 16, 1)
    with pytest.raises(
        InputError, match="'classes/ratio': expected discrete actions, CQL has continuous"
    ):
        pack(continuous, own, ["classes/ratio"])
    with pytest.raises(InputError, match="BC: expected an agent with action values"):
        pack(BC(tiny.spec), batch)
