"""Probes of the pack that reuse a function of another room: signal capture, traces, masks."""

import copy

import pytest
import torch
from rlop.agents import DQN, IQL

from rlop.data.sampler import probe_batch
from rlop.nets.masks import jaccard, magnitude_masks
from rlop.probes import last_layer_gram, pack, signal_capture_threshold
from rlop.probes.heavy import PROBES

SMALL = {"hidden": (16, 16), "batch_size": 16}


def make(data, **options):
    """An agent as it starts, and a batch to probe it on."""
    agent = DQN(data.spec, **{**SMALL, **options})
    return agent, probe_batch(data.columns(), 64, len(agent.runs))


def test_the_traces_of_the_last_layer(tiny):
    agent, batch = make(tiny)
    phi, _ = agent.features(batch)
    head = pack(agent, batch, ["trace/head"])["trace/head"]
    torch.testing.assert_close(head, phi.double().square().sum(-1).mean(-1) + 1)

    # All layers have more of it than the last one.
    whole = pack(agent, batch, ["trace/gauss_newton"], size=64)["trace/gauss_newton"]
    assert whole > 0.9 * head


def test_captured_directions_by_the_threshold(tiny):
    agent, batch = make(tiny)
    phi, _ = agent.features(batch)
    kernel = last_layer_gram(phi.double(), batch.action)[0]
    n = len(kernel)
    t = torch.linalg.eigvalsh(kernel).clamp_min(0) / n
    theta = signal_capture_threshold(t, n, 1e-3 * kernel.diagonal().mean() / n)

    captured = pack(agent, batch, ["kernel/captured"])["kernel/captured"].item()
    assert captured == pytest.approx(float((t / (t + theta)).sum()))
    assert 1 < captured < n


def test_masks_of_equal_networks_are_equal_and_of_other_seeds_nearer_to_chance(tiny):
    agent, batch = make(tiny, seeds=[0, 1], hidden=(64, 64))
    apart = pack(agent, batch, ["masks/seeds"])["masks/seeds"]
    assert apart[0] == apart[1]
    assert 0.2 / 1.8 - 0.02 < apart[0] < 0.3  # above chance: small layers start larger

    weights = {n: p for n, p in agent.main.parameters.items() if n.endswith("weight")}
    masks = magnitude_masks(weights, 0.2)
    swapped = {name: mask.flip(0) for name, mask in masks.items()}
    assert apart[0].item() == pytest.approx(jaccard(masks, swapped)[0].item())

    twins = copy.deepcopy(agent)
    for parameter in twins.main.parameters.values():
        parameter.data[1] = parameter.data[0]
    assert pack(twins, batch, ["masks/seeds"])["masks/seeds"].tolist() == [1, 1]


def test_one_seed_alone_has_no_overlap(tiny):
    agent, batch = make(tiny, seeds=2, gamma=[0.5, 0.9])
    assert pack(agent, batch, ["masks/seeds"])["masks/seeds"].isfinite().all()
    agent, batch = make(tiny, gamma=[0.5, 0.9])
    assert pack(agent, batch, ["masks/seeds"])["masks/seeds"].isnan().all()


def test_critics_of_discrete_actions_that_are_equal_measure_as_one_does(tiny):
    """Their features have an axis of critics, their values do not; every probe applies."""
    one, two = (
        IQL(tiny.spec, seeds=2, n_critics=count, hidden=(8, 8), policy_hidden=(8,))
        for count in (1, 2)
    )
    for network, doubled in zip(
        (one.main.online, one.main.target), (two.main.online, two.main.target), strict=True
    ):
        for parameter, other in zip(network.parameters(), doubled.parameters(), strict=True):
            other.data.copy_(parameter.data.expand(other.shape))
    batch = probe_batch(tiny.columns(), 64, 2)
    first, second = pack(one, batch), pack(two, batch)
    assert first.keys() == PROBES.keys()

    of_features = ("kernel/kare", "kernel/captured", "classes/ratio", "alignment/layers")
    for name in (*of_features, "parameters/effective", "masks/seeds", "trace/head"):
        assert first[name].isfinite().all(), name
        torch.testing.assert_close(first[name], second[name], msg=name)
