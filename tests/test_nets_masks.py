"""Masks: how many weights are kept, where, and that nothing moves the others."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from rlop.agents import DQN

from rlop.data.sampler import Streams, Table
from rlop.nets import reset_runs
from rlop.nets.masks import (
    MaskedLinear,
    density,
    intersection,
    jaccard,
    layer_densities,
    magnitude_masks,
    mask_,
    random_mask,
    rewind_weights_,
    union,
    width_at_equal_count,
)
from rlop.optim import Adam
from rlop.types import InputError


def test_densities_share_out_the_weights():
    shapes = [(64, 8), (64, 64), (32, 64)]
    sizes = np.array([o * i for o, i in shapes])
    for kind in ("er", "uniform"):
        found = np.array(layer_densities(shapes, 0.2, kind))
        assert (found * sizes).sum() == pytest.approx(0.2 * sizes.sum())
        assert ((found > 0) & (found <= 1)).all()
    er = np.array(layer_densities(shapes, 0.1, "er"))
    ratio = er * sizes / [o + i for o, i in shapes]
    np.testing.assert_allclose(ratio, ratio[0])  # e (O + I) weights in every layer
    # by hand: e (O + I) would give the first 50 e of its 49 weights, the second 2000 e of 10^6
    small, large = layer_densities([(1, 49), (1000, 1000)], 0.99, "er")
    assert small == 1.0
    assert large == pytest.approx((0.99 * 1_000_049 - 49) / 1e6)
    assert layer_densities(shapes, 1.0, "er") == pytest.approx([1.0, 1.0, 1.0])
    with pytest.raises(InputError, match="mask 'erk'"):
        layer_densities(shapes, 0.2, "erk")
    with pytest.raises(InputError, match="density = 0"):
        layer_densities(shapes, 0.0)


def test_random_masks_keep_an_exact_number_in_every_matrix():
    mask = random_mask((3, 10, 7), 0.3, torch.Generator().manual_seed(0))
    assert mask.sum((-2, -1)).tolist() == [21, 21, 21]
    assert not torch.equal(mask[0], mask[1])
    many = torch.stack(
        [random_mask((4, 5), 0.5, torch.Generator().manual_seed(s)) for s in range(2000)]
    )
    assert (many.double().mean(0) - 0.5).abs().max() < 0.06  # every place alike: 5 standard errors


def test_masked_linear_keeps_the_scale_and_draws_by_the_seed_alone():
    many, alone = MaskedLinear((3, 2), 400, 300, 0.1), MaskedLinear((1, 2), 400, 300, 0.1)
    reset_runs(many, [5, 7, 5])
    reset_runs(alone, [7])
    assert torch.equal(many.mask[1], alone.mask[0])
    assert torch.equal(many.weight[1], alone.weight[0])
    assert torch.equal(many.mask[0], many.mask[2])
    assert not torch.equal(many.mask[0, 0], many.mask[0, 1])
    assert many.mask.sum((-2, -1)).unique().tolist() == [12_000]
    assert (many.weight == 0).sum() == (~many.mask).sum()
    kept = many.weight[many.mask]
    assert kept.std().item() == pytest.approx(
        (3 * 0.1 * 400) ** -0.5, rel=0.02
    )  # as nn.Linear with 40 inputs
    mask = many.mask.clone()
    reset_runs(many, [8, 9, 10])
    assert torch.equal(many.mask, mask)
    assert torch.equal(many.weight != 0, mask)
    twin = MaskedLinear((3, 2), 400, 300, 0.1)
    twin.load_state_dict(many.state_dict())
    assert torch.equal(twin.mask, many.mask)


def test_masking_is_a_projection():
    params, masks = (
        {"w": torch.randn(2, 3, 4), "b": torch.randn(2, 3)},
        {"w": torch.rand(2, 3, 4) > 0.5},
    )
    before = {name: p.clone() for name, p in params.items()}
    mask_(params, masks)
    once = params["w"].clone()
    mask_(params, masks)
    assert torch.equal(params["w"], once)
    assert torch.equal(once, before["w"] * masks["w"])
    assert torch.equal(params["b"], before["b"])
    with pytest.raises(InputError, match="no parameter of this name"):
        mask_(params, {"v": masks["w"]})


@pytest.mark.parametrize("kind", ["er", "uniform"])
def test_masked_weights_stay_zero_under_adam_and_projections(tiny, kind):
    agent = DQN(
        tiny.spec,
        seeds=2,
        layers={"density": 0.25, "mask": kind},
        projections={"max_norm": {"radius": 1.0, "center": "init"}},
        hidden=(16, 16),
        batch_size=8,
        lr=1e-2,
    )
    table = Table(tiny.columns())
    streams = Streams(agent.runs.seeds, 8, len(table), {})
    for _ in range(20):
        index, _ = streams.next()
        agent.update(table.gather(index), {})
    layers = agent.online.torso.layers
    for layer in layers:
        assert (layer.weight[~layer.mask] == 0).all()
        assert (layer.weight[layer.mask] != 0).all()
    moments = [agent.main.optimizer.state[layer.weight]["mean"] for layer in layers]
    assert any(
        (m[~layer.mask] != 0).any() for m, layer in zip(moments, layers, strict=True)
    )  # Adam would move them
    kept = sum(layer.mask[0].sum().item() for layer in layers)
    assert kept == pytest.approx(0.25 * (16 * 4 + 16 * 16), abs=1)


def test_global_magnitude_pruning_by_hand_and_run_by_run():
    params = {
        "a": torch.tensor([[[3.0, -1.0]], [[0.1, 0.2]]]),
        "b": torch.tensor([[[0.5, -4.0]], [[0.3, 0.4]]]),
    }
    masks = magnitude_masks(params, 0.5)
    assert masks["a"].tolist() == [[[True, False]], [[False, False]]]
    assert masks["b"].tolist() == [[[False, True]], [[True, True]]]
    params["a"][0, 0, 1] = 9.0  # masked before: stays masked, however large
    again = magnitude_masks(params, 0.25, masks)
    assert again["a"].tolist() == [[[False, False]], [[False, False]]]
    assert again["b"].tolist() == [[[False, True]], [[False, True]]]
    weights = {"w": torch.randn(3, 20, 10), "v": torch.randn(3, 5, 20)}
    masks = None
    for step in range(1, 6):  # a fifth of what is left, each round
        masks = magnitude_masks(weights, 0.8**step, masks)
        assert density(masks).tolist() == pytest.approx([round(0.8**step * 300) / 300] * 3)
    alone = magnitude_masks({name: w[1:2] for name, w in weights.items()}, 0.8**5)
    assert torch.equal(alone["w"][0], masks["w"][1])


def test_ties_do_not_keep_too_many():
    assert density(magnitude_masks({"w": torch.ones(2, 4, 5)}, 0.3)).tolist() == pytest.approx(
        [0.3, 0.3]
    )


def test_weight_rewinding():
    saved = {"w": torch.randn(1, 2, 3), "b": torch.randn(1, 2)}
    params, masks = {name: p + 1 for name, p in saved.items()}, {"w": torch.rand(1, 2, 3) > 0.5}
    rewind_weights_(params, saved, masks)
    assert torch.equal(params["w"], saved["w"] * masks["w"])
    assert torch.equal(params["b"], saved["b"])


def test_overlap_of_masks():
    first = {"w": torch.tensor([[[True, True, False, False]]])}
    second = {"w": torch.tensor([[[True, False, True, False]]])}
    assert union(first, second)["w"].tolist() == [[[True, True, True, False]]]
    assert intersection(first, second)["w"].tolist() == [[[True, False, False, False]]]
    assert jaccard(first, second).tolist() == pytest.approx([1 / 3])
    assert jaccard(first, first).tolist() == [1.0]
    one, two = (
        {"w": random_mask((1, 300, 300), 0.1, torch.Generator().manual_seed(s))} for s in range(2)
    )
    assert jaccard(one, two).item() == pytest.approx(0.1 / 1.9, rel=0.1)  # chance


def test_siblings_share_more_of_their_masks_the_longer_they_trained_together():
    """Two copies of a small regression network, with different batches after a shared start."""
    generator = torch.Generator().manual_seed(0)
    x, w = torch.randn(512, 20, generator=generator), torch.randn(20, 3, generator=generator)
    y = torch.tanh(x @ w)
    overlaps = []
    for shared in (0, 100, 300):
        net = [
            torch.randn(2, 64, 20, generator=generator) / 20**0.5,
            torch.randn(2, 3, 64, generator=generator) / 8,
        ]
        params = [p[:1].expand(2, -1, -1).clone().requires_grad_() for p in net]
        optimizer = Adam(params, 1e-2)
        for step in range(400):
            index = torch.randint(512, (2, 32), generator=generator)
            index = index[:1].expand(2, -1) if step < shared else index
            loss = (
                (torch.relu(x[index] @ params[0].mT) @ params[1].mT - y[index])
                .square()
                .mean((1, 2))
                .sum()
            )
            optimizer.apply(list(torch.autograd.grad(loss, params)))
        masks = magnitude_masks({"0": params[0].detach()}, 0.1)
        pair = [{"0": masks["0"][run : run + 1]} for run in range(2)]
        overlaps.append(jaccard(*pair).item())
    assert 0.1 / 1.9 < overlaps[0] < overlaps[1] < overlaps[2] < 1


@pytest.mark.parametrize(("depth", "share"), [(1, 0.5), (2, 0.1), (3, 0.02)])
def test_width_at_equal_count(depth, share):
    def count(width, kept):
        sizes = [8] + [width] * depth
        weights = sum(i * o for i, o in pairwise(sizes))
        return kept * weights + depth * width + 4 * width + 4

    width = width_at_equal_count(8, 4, depth, 64, share)
    assert count(width, share) <= count(64, 1.0) < count(width + 1, share)
    assert width_at_equal_count(8, 4, depth, 64, 1.0) == 64
