"""Scheduled resets: what is drawn again, what becomes zero, and that nothing else moves."""

import numpy as np
import pytest
import torch
from rlop.agents import BC, CQL, DQN

import rlop
from rlop.data.sampler import probe_batch
from rlop.optim import Adam
from rlop.training.resets import Resets, clear_moments_, shrink_and_perturb_
from rlop.types import InputError

SMALL = {"hidden": (12, 10), "batch_size": 8, "lr": 1e-3}
QUIET = {"progress": False, "log_every": 1, "probe_every": 0, "checkpoint_every": 0}


def make(kind, data, **options):
    """A small agent."""
    critics = {"policy_hidden": (8,), "action_samples": 2} if kind is CQL else {}
    return kind(data.spec, **{**SMALL, **critics, **options})


def trained(kind, data, steps=16, **options):
    """A small agent after some steps, and its history."""
    agent = make(kind, data, **options)
    return agent, rlop.train(agent, data, steps, **QUIET)


def masks_of(agent):
    """Masks of the hidden layers, flattened, `[R, n]`."""
    masks = [layer.mask.flatten(1) for layer in agent.online.torso.layers]
    return torch.cat(masks, dim=1)


def weights_of(agent):
    """Weights of the hidden layers, flattened, `[R, n]`."""
    weights = [layer.weight.detach().flatten(1) for layer in agent.online.torso.layers]
    return torch.cat(weights, dim=1)


def same_parameters(first, second):
    """Assert that two agents have the same parameters, bit for bit."""
    for name, p in first.main.parameters.items():
        assert torch.equal(second.main.parameters[name], p), name


# --- the functions ---


def test_shrink_and_perturb_by_hand():
    params = {"w": torch.tensor([[1.0, 2.0], [3.0, 4.0]])}
    fresh = {"w": torch.tensor([[10.0, 0.0], [0.0, 10.0]])}
    everyone = torch.tensor([True, True])
    shrink_and_perturb_(params, fresh, 0.8, 0.1, everyone)
    torch.testing.assert_close(params["w"], torch.tensor([[1.8, 1.6], [2.4, 4.2]]))

    shrink_and_perturb_(params, fresh, 0.0, 1.0, everyone)
    assert torch.equal(params["w"], fresh["w"])


def test_frozen_runs_are_left_alone():
    params, fresh = {"w": torch.randn(2, 3)}, {"w": torch.randn(2, 3)}
    before = params["w"].clone()
    shrink_and_perturb_(params, fresh, 0.5, 0.5, torch.tensor([True, False]))
    assert not torch.equal(params["w"][0], before[0])
    assert torch.equal(params["w"][1], before[1])


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


# --- in training ---

RESETS = {
    "redo": {"every": 5, "kind": "redo", "tau": 0.5},
    "shrink": {"every": 5, "kind": "shrink_and_perturb", "until": 11},
    "head": {"every": 7, "kind": "shrink_and_perturb", "shrink": 0, "noise": 1, "layers": ["head"]},
}


@pytest.mark.parametrize("resets", RESETS.values(), ids=RESETS)
@pytest.mark.parametrize("kind", [DQN, CQL, BC])
def test_resets_are_one_option_and_a_run_alone_equals_itself_among_three(kind, resets, tiny, moves):
    data = moves if kind is CQL else tiny
    losses = []
    for options in (
        {"seeds": 3, "resets": resets},
        {"seeds": [1], "resets": resets},
        {"seeds": [1]},
    ):
        _, history = trained(kind, data, **options)
        losses.append(history.metrics["loss/total"][1])
    among, single, without = losses

    np.testing.assert_allclose(single[:, 0], among[:, 1], rtol=1e-3, atol=1e-5)
    every = resets["every"]
    np.testing.assert_array_equal(single[:every], without[:every])
    assert (single[every:] != without[every:]).any()


@pytest.mark.parametrize("optimizer", ["adam", {"sgd": {"momentum": 0.9}}])
def test_an_agents_moments_are_zero_where_a_reset_touched_and_nowhere_else(tiny, optimizer):
    agent, _ = trained(DQN, tiny, seeds=2, resets=RESETS["head"], steps=3, optimizer=optimizer)
    agent.active[1] = False
    moments = agent.main.optimizer.state
    Resets(agent)(probe_batch(tiny.columns(), 8, 2), step=7)

    for name, p in agent.main.parameters.items():
        is_reset = name.startswith("head")
        for moment in moments[p].values():
            assert moment[0].any() != is_reset, name
            assert moment[1].any(), name  # of the frozen run


def test_recycling_zeroes_an_agents_moments_of_the_recycled_units(tiny):
    agent, _ = trained(DQN, tiny, steps=3, resets={"every": 5, "tau": 0.0})
    layer = agent.online.torso.layers[0]
    layer.weight.data[0, 2] = 0.0
    layer.bias.data[0, 2] = -1.0  # a silent unit
    for moments in agent.main.optimizer.state.values():
        for moment in moments.values():
            moment.fill_(1.0)
    Resets(agent)(probe_batch(tiny.columns(), 50, 1), step=5)

    for moment in agent.main.optimizer.state[layer.weight].values():
        assert not moment[0, 2].any()
        assert moment[0, :2].all()
    for moment in agent.main.optimizer.state[agent.online.torso.layers[1].weight].values():
        assert not moment[0, :, 2].any()


@pytest.mark.parametrize(
    "options",
    [
        {"resets": {"every": 4, "kind": "redo", "tau": 0.6}},
        {"resets": {"every": 4, "kind": "prune", "keep": 0.5}, "layers": {"density": 0.8}},
    ],
    ids=["redo", "prune"],
)
def test_a_resumed_training_makes_the_same_resets(tiny, tmp_path, options):
    whole, _ = trained(DQN, tiny, 12, seeds=2, **options)
    for resume, steps in ((False, 6), (True, 12)):
        agent = make(DQN, tiny, seeds=2, **options)
        rlop.train(agent, tiny, steps, logdir=tmp_path, resume=resume, progress=False)
    same_parameters(whole, agent)
    if "layers" in options:
        assert torch.equal(masks_of(agent), masks_of(whole))


def test_masks_and_projections_hold_after_a_reset(tiny):
    resets = {"every": 1, "kind": "shrink_and_perturb", "shrink": 0.2, "noise": 5}
    constraints = {"layers": {"density": 0.4}, "projections": {"frobenius": 0.3}}
    agent, _ = trained(DQN, tiny, 3, seeds=2, resets=resets, **constraints)

    # New draws are for the same masks.
    fresh = Resets(agent).draw(7)
    for number, layer in enumerate(agent.online.torso.layers):
        assert (layer.weight[~layer.mask] == 0).all()
        assert torch.equal(fresh[f"torso.layers.{number}.weight"] != 0, layer.mask)

    head, start = agent.online.head, agent.main.initial
    weight = (head.weight - start["head.weight"]).flatten(1)
    moved = torch.cat([weight, head.bias - start["head.bias"]], dim=1)
    assert (moved.norm(dim=1) <= 0.3 / 10**0.5 + 1e-6).all()


def test_draws_depend_on_seed_and_step_alone(tiny):
    many = Resets(make(DQN, tiny, seeds=3, resets={"every": 1}))
    alone = Resets(make(DQN, tiny, seeds=[2], resets={"every": 1}))
    first, later, single = many.draw(5), many.draw(6), alone.draw(5)
    for name, value in first.items():
        assert torch.equal(value[2], single[name][0])
        assert not torch.equal(value, later[name])
        assert not torch.equal(value[0], value[1])


def test_draws_are_of_the_agents_initialization(tiny):
    """Dopamine's draw zeroes the biases."""
    fresh = Resets(make(DQN, tiny, init="dopamine", resets={"every": 1})).draw(5)
    assert not fresh["head.bias"].any()
    assert fresh["head.weight"].all()


# --- pruning ---

PRUNE = {"every": 4, "kind": "prune", "keep": 0.5, "until": 8}


def test_pruning_in_training_masks_the_smallest_weights_and_they_stay_masked(tiny):
    layers = {"density": 0.8, "mask": "uniform"}
    before, _ = trained(DQN, tiny, 4, seeds=2, layers=layers)  # what the first reset ranks
    once, _ = trained(DQN, tiny, 15, seeds=2, resets={**PRUNE, "until": 4}, layers=layers)
    twice, _ = trained(DQN, tiny, 15, seeds=2, resets=PRUNE, layers=layers)  # at 4 and 8, not 12
    initially = 0.8 * weights_of(before).shape[1]
    assert masks_of(once).sum(1).tolist() == [round(initially / 2)] * 2
    assert masks_of(twice).sum(1).tolist() == [round(initially / 4)] * 2

    for magnitudes, mask in zip(weights_of(before).abs(), masks_of(once), strict=True):
        assert magnitudes[mask].min() >= magnitudes[~mask].max()
    assert not (masks_of(twice) & ~masks_of(once)).any()  # pruned once, pruned for good
    assert torch.equal(weights_of(twice) != 0, masks_of(twice))

    alone, _ = trained(DQN, tiny, 15, seeds=[1], resets=PRUNE, layers=layers)
    assert torch.equal(masks_of(alone)[0], masks_of(twice)[1])


def test_pruning_leaves_the_masks_and_weights_of_frozen_runs_alone(tiny):
    agent = make(DQN, tiny, seeds=2, resets=PRUNE, layers={"density": 0.8})
    masks, weights = masks_of(agent), weights_of(agent)
    agent.active[1] = False
    Resets(agent)(probe_batch(tiny.columns(), 8, 2), step=4)

    assert masks_of(agent)[0].sum() < masks[0].sum()
    assert torch.equal(masks_of(agent)[1], masks[1])
    assert torch.equal(weights_of(agent)[1], weights[1])


def test_weight_rewinding_returns_the_kept_weights_to_their_start(tiny):
    layers = {"density": 0.8}
    resets = {**PRUNE, "rewind": "weights"}
    agent, _ = trained(DQN, tiny, 4, seeds=2, resets=resets, layers=layers)
    kept, _ = trained(DQN, tiny, 4, seeds=2, resets=PRUNE, layers=layers)
    assert torch.equal(masks_of(agent), masks_of(kept))  # ranked before they were rewound

    start = agent.main.initial
    for number, layer in enumerate(agent.online.torso.layers):
        initial = start[f"torso.layers.{number}.weight"]
        assert torch.equal(layer.weight, initial * layer.mask)
    assert torch.equal(agent.online.head.weight, start["head.weight"])
    assert starts_over(agent)


def test_learning_rate_rewinding_keeps_weights_and_restarts_the_optimizer(tiny):
    layers = {"density": 0.8}
    agent, _ = trained(DQN, tiny, 4, resets={**PRUNE, "rewind": "rate"}, layers=layers)
    kept, _ = trained(DQN, tiny, 4, resets=PRUNE, layers=layers)
    same_parameters(agent, kept)
    assert starts_over(agent)
    assert not starts_over(kept)


def starts_over(agent):
    """Whether the optimizer is as at its start."""
    optimizer = agent.main.optimizer
    moments = [m for state in optimizer.state.values() for m in state.values()]
    return not any(m.any() for m in moments) and optimizer.param_groups[0]["step"] == 0


def test_rewinding_leaves_frozen_runs_alone(tiny):
    resets = {**PRUNE, "rewind": "weights"}
    agent, _ = trained(DQN, tiny, 3, seeds=2, resets=resets, layers={"density": 0.8})
    before = weights_of(agent)
    agent.active[1] = False
    Resets(agent)(probe_batch(tiny.columns(), 8, 2), step=4)
    assert torch.equal(weights_of(agent)[1], before[1])
    assert not torch.equal(weights_of(agent)[0], before[0])


def test_rewinding_without_pruning_is_refused(tiny):
    with pytest.raises(InputError, match=r"resets.rewind = weights: expected kind = prune"):
        make(DQN, tiny, resets={"every": 3, "rewind": "weights"})


# --- options ---


def test_schedule(tiny):
    resets = Resets(make(DQN, tiny, resets={"every": 3, "until": 7}))
    never = Resets(make(DQN, tiny))
    assert [step for step in range(1, 12) if resets.due(step)] == [3, 6]
    assert not any(never.due(step) for step in range(12))


@pytest.mark.parametrize(
    ("resets", "message"),
    [
        ({"evry": 3}, "resets.evry.*did you mean 'every'"),
        ({"every": -1}, "resets.every = -1"),
        ({"kind": "redoo"}, "resets.kind.*did you mean 'redo'"),
        ({"tau": -0.1}, "resets.tau"),
    ],
)
def test_bad_options_name_the_key(tiny, resets, message):
    with pytest.raises(InputError, match=message):
        make(DQN, tiny, resets=resets)


@pytest.mark.parametrize(
    ("resets", "message"),
    [
        ({"every": 3, "layers": ["trunk"]}, "begins with 'trunk'"),
        (PRUNE, r"layers\.density"),
    ],
)
def test_options_that_the_network_cannot_follow_are_refused(tiny, resets, message):
    agent = make(DQN, tiny, resets=resets)
    with pytest.raises(InputError, match=message):
        Resets(agent)
