"""Resets: what is drawn anew, what becomes zero, and that nothing else moves."""

from itertools import product

import numpy as np
import pytest
import torch
from rlop.agents import BC, CQL, DQN

import rlop
from rlop.data.dataset import Dataset
from rlop.data.sampler import probe_batch
from rlop.nets import MinAtarTorso, QNetwork, reset_runs
from rlop.optim import Adam
from rlop.probes.units import dormant_fraction, dormant_units
from rlop.training.recycling import Hidden, hidden_units, redo_
from rlop.training.resets import Resets, clear_moments_, shrink_and_perturb_
from rlop.types import InputError

SMALL = {"hidden": (12, 10), "batch_size": 8, "lr": 1e-3}
ALL = torch.tensor([True, True])


def network(lead):
    """Random parameters of 3 -> 4 -> 5 -> 2 for every leading index."""
    sizes = {"0": (4, 3), "1": (5, 4), "head": (2, 5)}
    params = {f"{name}.weight": torch.randn(*lead, *shape) for name, shape in sizes.items()}
    return params | {f"{name}.bias": torch.randn(*lead, shape[0]) for name, shape in sizes.items()}


def activations(lead, silent, size):
    x = torch.rand(*lead, 7, size) + 0.5
    for index in silent:
        x[(*index[:-1], slice(None), index[-1])] = 0.0
    return x


def units(first, second):
    return [
        Hidden(("0.weight", "0.bias"), "1.weight", first),
        Hidden(("1.weight", "1.bias"), "head.weight", second),
    ]


def numpy_redo(params, fresh, first, second, tau):
    """Of one network, in loops."""
    for incoming, h in (("0", first), ("1", second)):
        score = np.abs(h).mean(0) / np.abs(h).mean()
        for unit in np.flatnonzero(score <= tau):
            params[f"{incoming}.weight"][unit] = fresh[f"{incoming}.weight"][unit]
            params[f"{incoming}.bias"][unit] = fresh[f"{incoming}.bias"][unit]
    for outgoing, h in (("1", first), ("head", second)):
        score = np.abs(h).mean(0) / np.abs(h).mean()
        params[f"{outgoing}.weight"][:, score <= tau] = 0
    return params


@pytest.mark.parametrize("lead", [(2,), (2, 3)])
def test_redo_equals_a_loop_over_units(lead):
    torch.manual_seed(0)
    params, fresh = network(lead), network(lead)
    x = [torch.rand(*lead, 9, size) * torch.rand(*lead, 1, size).square() for size in (4, 5)]
    before = {name: p.clone() for name, p in params.items()}
    touched = redo_(params, fresh, units(*x), 0.4, ALL)
    for index in product(*map(range, lead)):
        own, new = ({k: v[index].clone().numpy() for k, v in p.items()} for p in (before, fresh))
        expected = numpy_redo(own, new, *[h[index].numpy() for h in x], 0.4)
        for name, value in expected.items():
            np.testing.assert_array_equal(params[name][index].numpy(), value)
    assert 0 < touched["0.bias"].double().mean() < 1
    for name, p in params.items():
        kept = ~touched.get(name, torch.zeros(1, dtype=torch.bool)).expand_as(p)
        assert torch.equal(p[kept], before[name][kept])


def test_recycling_a_silent_unit_leaves_the_function_and_revives_the_unit():
    net = QNetwork(rlop.nets.MLP((2,), 3, (6, 6)), 2, 2)
    reset_runs(net, [0, 1])
    layer = net.torso.layers[0]
    layer.weight.data[0, 2], layer.bias.data[0, 2] = 0.0, -1.0  # dead in run 0
    params, x = dict(net.named_parameters()), torch.randn(2, 50, 3)
    fresh = {name: torch.randn_like(p) for name, p in params.items()}
    h = torch.relu(layer(x)).detach()
    before = net(x)[1].detach()
    first = Hidden(("torso.layers.0.weight", "torso.layers.0.bias"), "torso.layers.1.weight", h)
    redo_(params, fresh, [first], 0.0, ALL)
    torch.testing.assert_close(net(x)[1], before)
    assert dormant_units(torch.relu(layer(x)), 0.0)[0].sum() == 0
    assert torch.equal(layer.weight[0, 2], fresh["torso.layers.0.weight"][0, 2])


def test_runs_that_are_frozen_are_left_alone():
    params, fresh = network((2,)), network((2,))
    before = {name: p.clone() for name, p in params.items()}
    silent = activations((2,), [(0, 1), (1, 1)], 4)
    hidden = units(silent, activations((2,), [], 5))
    touched = redo_(params, fresh, hidden, 0.1, torch.tensor([True, False]))
    assert touched["0.bias"].double().mean(-1).tolist() == [0.25, 0.0]
    assert not touched["1.bias"].any()
    with pytest.raises(ValueError, match=r"do not fit 0\.weight"):
        redo_(
            params, fresh, [Hidden(hidden[0].incoming, "1.weight", torch.rand(2, 7, 5))], 0.1, ALL
        )
    shrink_and_perturb_(params, fresh, 0.5, 0.5, torch.tensor([True, False]))
    for name, p in params.items():
        assert torch.equal(p[1], before[name][1])
        assert not torch.equal(p[0], before[name][0])


def test_shrink_and_perturb_by_hand():
    params, fresh = (
        {"w": torch.tensor([[1.0, 2.0], [3.0, 4.0]])},
        {"w": torch.tensor([[10.0, 0.0], [0.0, 10.0]])},
    )
    shrink_and_perturb_(params, fresh, 0.8, 0.1, ALL)
    torch.testing.assert_close(params["w"], torch.tensor([[1.8, 1.6], [2.4, 4.2]]))
    shrink_and_perturb_(params, fresh, 0.0, 1.0, ALL)
    assert torch.equal(params["w"], fresh["w"])


def test_moments_of_what_was_reset_become_zero():
    p = torch.zeros(2, 3, 4, requires_grad=True)
    optimizer = Adam([p], 0.1)
    optimizer.apply([torch.ones(2, 3, 4)])
    mask = torch.zeros(2, 3, 1, dtype=torch.bool)
    mask[0, 1] = True
    clear_moments_(optimizer, p, mask)
    for moment in optimizer.state[p].values():
        assert (moment == 0).sum() == 4
        assert not moment[0, 1].any()


def test_dormant_units_are_those_that_the_probe_counts():
    h = torch.rand(3, 20, 8) * torch.rand(3, 1, 8).square()
    torch.testing.assert_close(dormant_units(h, 0.3).double().mean(-1), dormant_fraction(h, 0.3))
    h = torch.tensor([[1.0, 0.1, 0.0], [1.0, 0.1, 0.0]])  # scores 2.73, 0.27, 0
    assert dormant_units(h, 0.1).tolist() == [False, False, True]
    assert dormant_units(h, 0.28).tolist() == [False, True, True]


@pytest.fixture
def moves(tiny):
    action = np.random.default_rng(1).uniform(-0.9, 0.9, (len(tiny), 2)).astype(np.float32)
    ends = tiny.terminated.astype(bool), tiny.truncated.astype(bool)
    return Dataset.from_arrays(tiny.obs, action, tiny.reward, *ends, tiny.next_obs)


@pytest.mark.parametrize(
    "layers",
    [
        {},
        {"norm": "batch"},
        {"linear_stack": 2},
        {"factorized": 3},
        {"density": 0.5},
        {"hyperspherical": True},
    ],
)
@pytest.mark.parametrize("kind", [DQN, CQL])
def test_the_units_of_an_agent_are_found(kind, layers, tiny, moves):
    data = moves if kind is CQL else tiny
    agent = kind(data.spec, seeds=2, layers=layers, **SMALL)
    net = agent.critics if kind is CQL else agent.online
    batch = probe_batch(data.columns(), 50, 2)
    first, second = hidden_units(net, agent.features, batch)
    lead = (2, 2) if kind is CQL else (2,)
    assert (first.activations.shape, second.activations.shape) == ((*lead, 50, 12), (*lead, 50, 10))
    params = dict(net.named_parameters())
    for found, size in ((first, 12), (second, 10)):
        assert all(params[name].shape[len(lead)] == size for name in found.incoming)
        assert params[found.outgoing].shape[-1] == size
    if not layers:
        torch.testing.assert_close(second.activations, agent.features(batch)[0])
        assert second.outgoing == "head.weight"


def test_channels_are_the_units_of_a_convolution():
    class Agent:
        def __init__(self):
            self.net = QNetwork(MinAtarTorso(2, (10, 10, 4), 32), 3, 2)
            reset_runs(self.net, [0, 1])
            self.net.torso.conv.weight.data[0, 5], self.net.torso.conv.bias.data[0, 5] = (
                0,
                -1,
            )  # a silent channel

        def features(self, obs):
            return self.net.features(obs), None

    agent, obs = Agent(), torch.rand(2, 6, 10, 10, 4)
    found = hidden_units(agent.net, agent.features, obs)
    assert found[0].activations.shape == (2, 6 * 64, 16)
    dormant = dormant_units(found[0].activations, 0.0)
    assert dormant[0, 5]
    assert not dormant[:, 6].any()
    params = dict(agent.net.named_parameters())
    before, fresh = (
        agent.net(obs)[1].detach(),
        {name: torch.randn_like(p) for name, p in params.items()},
    )
    redo_(params, fresh, found[:1], 0.0, ALL)
    assert not params["torso.hidden.weight"][0, :, 5 * 64 : 6 * 64].any()
    assert params["torso.hidden.weight"][0, :, 6 * 64].all()
    torch.testing.assert_close(agent.net(obs)[1], before)


RESETS = {
    "redo": {"every": 5, "kind": "redo", "tau": 0.5},
    "shrink": {"every": 5, "kind": "shrink_and_perturb", "until": 11},
    "head": {"every": 7, "kind": "shrink_and_perturb", "shrink": 0, "noise": 1, "layers": ["head"]},
}


def trained(kind, data, seeds, resets, steps=16, **options):
    options = (
        {**SMALL, **options}
        if kind is not CQL
        else {**SMALL, "policy_hidden": (8,), "action_samples": 2}
    )
    agent = kind(data.spec, seeds=seeds, resets=resets, **options)
    history = rlop.train(
        agent, data, steps, progress=False, log_every=1, probe_every=0, checkpoint_every=0
    )
    return agent, history


@pytest.mark.parametrize("resets", RESETS.values(), ids=RESETS)
@pytest.mark.parametrize("kind", [DQN, CQL, BC])
def test_resets_are_one_option_and_a_run_alone_equals_itself_among_three(kind, resets, tiny, moves):
    data = moves if kind is CQL else tiny
    (_, among), (_, single), (_, without) = (
        trained(kind, data, *a) for a in ((3, resets), ([1], resets), ([1], {}))
    )
    among, single, without = (
        history.metrics["loss/total"][1] for history in (among, single, without)
    )
    np.testing.assert_allclose(single[:, 0], among[:, 1], rtol=1e-3, atol=1e-5)
    every = resets["every"]
    np.testing.assert_array_equal(single[:every], without[:every])
    assert (single[every:] != without[every:]).any()


def test_a_resumed_training_draws_the_same_resets(tiny, tmp_path):
    resets = {"every": 4, "kind": "redo", "tau": 0.6}
    whole, _ = trained(DQN, tiny, 2, resets, 12)
    for resume, steps in ((False, 6), (True, 12)):
        agent = DQN(tiny.spec, seeds=2, resets=resets, **SMALL)
        rlop.train(
            agent, tiny, steps, logdir=tmp_path, resume=resume, progress=False, probe_every=0
        )
    for a, b in zip(whole.online.parameters(), agent.online.parameters(), strict=True):
        assert torch.equal(a, b)


def test_masks_and_projections_hold_after_a_reset(tiny):
    resets = {"every": 1, "kind": "shrink_and_perturb", "shrink": 0.2, "noise": 5}
    agent, _ = trained(
        DQN, tiny, 2, resets, 3, layers={"density": 0.4}, projections={"frobenius": 0.3}
    )
    fresh = Resets(agent).draw(7)
    for n, layer in enumerate(agent.online.torso.layers):
        assert (layer.weight[~layer.mask] == 0).all()
        assert torch.equal(
            fresh[f"torso.layers.{n}.weight"] != 0, layer.mask
        )  # drawn anew for the same mask
    head, start = agent.online.head, agent.main.initial
    moved = torch.cat(
        [(head.weight - start["head.weight"]).flatten(1), head.bias - start["head.bias"]], dim=1
    )
    assert (moved.norm(dim=1) <= 0.3 / 10**0.5 + 1e-6).all()


def test_draws_depend_on_seed_and_step_alone(tiny):
    many, alone = (Resets(DQN(tiny.spec, seeds=s, resets={"every": 1}, **SMALL)) for s in (3, [2]))
    first, again, later = many.draw(5), alone.draw(5), many.draw(6)
    for name, value in first.items():
        assert torch.equal(value[2], again[name][0])
        assert not torch.equal(value, later[name])
        assert not torch.equal(value[0], value[1])


def test_schedule(tiny):
    resets = Resets(DQN(tiny.spec, resets={"every": 3, "until": 7}, **SMALL))
    assert [step for step in range(1, 12) if resets.due(step)] == [3, 6]
    assert not any(Resets(DQN(tiny.spec, **SMALL)).due(step) for step in range(12))
    agent = DQN(tiny.spec, resets={"every": 3, "layers": ["trunk"]}, **SMALL)
    with pytest.raises(InputError, match="begins with 'trunk'"):
        Resets(agent)


def test_bad_options_name_the_key(tiny):
    for resets, message in (
        ({"evry": 3}, "resets.evry.*did you mean 'every'"),
        ({"every": -1}, "resets.every = -1"),
        ({"kind": "redoo"}, "resets.kind.*did you mean 'redo'"),
        ({"tau": -0.1}, "resets.tau"),
    ):
        with pytest.raises(InputError, match=message):
            DQN(tiny.spec, resets=resets, **SMALL)


PRUNE = {"every": 4, "kind": "prune", "keep": 0.5, "until": 8}


def kept(agent):
    return (
        torch.cat([layer.mask.flatten(1) for layer in agent.online.torso.layers], dim=1)
        .sum(1)
        .tolist()
    )


def test_pruning_in_training_masks_the_smallest_weights_and_they_stay_masked(tiny):
    layers = {"density": 0.8, "mask": "uniform"}
    before, _ = trained(
        DQN, tiny, 2, {}, 4, layers=layers
    )  # the weights that the first reset ranks
    once, _ = trained(DQN, tiny, 2, {**PRUNE, "until": 4}, 15, layers=layers)
    twice, _ = trained(DQN, tiny, 2, PRUNE, 15, layers=layers)  # at steps 4 and 8; not at 12
    weights = torch.cat(
        [layer.weight.detach().flatten(1) for layer in before.online.torso.layers], dim=1
    )
    began = 0.8 * weights.shape[1]
    assert kept(once) == [round(began / 2)] * 2
    assert kept(twice) == [round(began / 4)] * 2
    masks = torch.cat([layer.mask.flatten(1) for layer in once.online.torso.layers], dim=1)
    for own, mask in zip(weights.abs(), masks, strict=True):
        assert own[mask].min() >= own[~mask].max()
    for first, later in zip(once.online.torso.layers, twice.online.torso.layers, strict=True):
        assert not (later.mask & ~first.mask).any()  # pruned once, pruned for good
        assert (later.weight[~later.mask] == 0).all()
        assert (later.weight[later.mask] != 0).all()
    alone, _ = trained(DQN, tiny, [1], PRUNE, 15, layers=layers)
    for single, many in zip(alone.online.torso.layers, twice.online.torso.layers, strict=True):
        assert torch.equal(single.mask[0], many.mask[1])


def test_a_resumed_training_keeps_and_continues_its_pruning(tiny, tmp_path):
    layers = {"density": 0.8}
    whole, _ = trained(DQN, tiny, 2, PRUNE, 12, layers=layers)
    for resume, steps in ((False, 6), (True, 12)):
        agent = DQN(tiny.spec, seeds=2, resets=PRUNE, layers=layers, **SMALL)
        rlop.train(
            agent, tiny, steps, logdir=tmp_path, resume=resume, progress=False, probe_every=0
        )
    assert kept(agent) == kept(whole)
    for a, b in zip(whole.online.parameters(), agent.online.parameters(), strict=True):
        assert torch.equal(a, b)


def test_pruning_needs_masks(tiny):
    with pytest.raises(InputError, match=r"layers\.density"):
        Resets(DQN(tiny.spec, resets=PRUNE, **SMALL))
