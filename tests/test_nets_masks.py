"""Masks: how many weights are kept, where, and that nothing moves the others."""

from itertools import pairwise

import pytest
import torch
from helpers.nets import descend
from helpers.training import train_steps
from hypothesis import given
from hypothesis import strategies as st
from rlop.agents import DQN

from rlop.nets import reset_runs
from rlop.nets.masks import (
    MaskedLinear,
    density,
    intersection,
    jaccard,
    layer_densities,
    magnitude_masks,
    mask_,
    prune_,
    random_mask,
    rewind_weights_,
    union,
    width_at_equal_count,
)
from rlop.optim import Adam
from rlop.types import InputError


def seeded(seed):
    """A generator."""
    return torch.Generator().manual_seed(seed)


# --- densities ---

SHAPES = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=5)


@given(SHAPES, st.floats(0.01, 1), st.sampled_from(["er", "uniform"]))
def test_layers_share_out_the_weights(shapes, share, kind):
    sizes = [n_out * n_in for n_out, n_in in shapes]
    shares = layer_densities(shapes, share, kind)
    n_kept = sum(layer * size for layer, size in zip(shares, sizes, strict=True))

    assert n_kept == pytest.approx(share * sum(sizes))
    assert all(0 < layer <= 1 + 1e-12 for layer in shares)


def test_er_gives_every_layer_as_many_weights_for_each_unit():
    shapes = [(64, 8), (64, 64), (32, 64)]
    per_unit = []
    for (n_out, n_in), share in zip(shapes, layer_densities(shapes, 0.1, "er"), strict=True):
        per_unit.append(share * n_out * n_in / (n_out + n_in))
    assert per_unit == pytest.approx([per_unit[0]] * 3)


def test_a_layer_that_would_be_more_than_full_is_full():
    """e (O + I) would give the first 50 e of its 49 weights, the second 2000 e of 10^6."""
    small, large = layer_densities([(1, 49), (1000, 1000)], 0.99, "er")
    assert small == 1.0
    assert large == pytest.approx((0.99 * 1_000_049 - 49) / 1e6)


@pytest.mark.parametrize(
    ("share", "kind", "message"), [(0.2, "erk", "mask 'erk'"), (0.0, "er", "density = 0")]
)
def test_impossible_densities_are_refused(share, kind, message):
    with pytest.raises(InputError, match=message):
        layer_densities([(2, 3)], share, kind)


# --- masks ---


def test_random_masks_keep_an_exact_number_in_every_matrix():
    mask = random_mask((3, 10, 7), 0.3, seeded(0))
    assert mask.sum((-2, -1)).tolist() == [21, 21, 21]
    assert not torch.equal(mask[0], mask[1])

    # Every place is alike, to 5 standard errors.
    masks = torch.stack([random_mask((4, 5), 0.5, seeded(seed)) for seed in range(2000)])
    assert (masks.double().mean(0) - 0.5).abs().max() < 0.06


def test_masked_linear_draws_by_the_seed_alone():
    many, alone = MaskedLinear((3, 2), 40, 30, 0.1), MaskedLinear((1, 2), 40, 30, 0.1)
    reset_runs(many, [5, 7, 5])
    reset_runs(alone, [7])
    assert torch.equal(many.mask[1], alone.mask[0])
    assert torch.equal(many.weight[1], alone.weight[0])
    assert torch.equal(many.mask[0], many.mask[2])
    assert not torch.equal(many.mask[0, 0], many.mask[0, 1])


def test_masked_linear_keeps_the_scale_of_its_outputs():
    layer = MaskedLinear((3, 2), 400, 300, 0.1)
    reset_runs(layer, [5, 7, 9])
    assert layer.mask.sum((-2, -1)).unique().tolist() == [12_000]
    assert torch.equal(layer.weight != 0, layer.mask)

    kept = layer.weight[layer.mask]
    like_40_inputs = (3 * 40) ** -0.5  # standard deviation of nn.Linear's weights
    assert kept.std().item() == pytest.approx(like_40_inputs, rel=0.02)


def test_a_mask_survives_a_new_draw_and_a_checkpoint():
    layer, twin = MaskedLinear((3, 2), 40, 30, 0.1), MaskedLinear((3, 2), 40, 30, 0.1)
    reset_runs(layer, [5, 7, 9])
    mask = layer.mask.clone()
    reset_runs(layer, [8, 9, 10])
    assert torch.equal(layer.mask, mask)
    assert torch.equal(layer.weight != 0, mask)

    twin.load_state_dict(layer.state_dict())
    assert torch.equal(twin.mask, mask)


def test_masking_is_a_projection():
    params = {"w": torch.randn(2, 3, 4), "b": torch.randn(2, 3)}
    masks = {"w": torch.rand(2, 3, 4) > 0.5}
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
    layers = {"density": 0.25, "mask": kind}
    projections = {"max_norm": {"radius": 1.0, "center": "init"}}
    options = {"hidden": (16, 16), "batch_size": 8, "lr": 1e-2, "seeds": 2}
    agent = DQN(tiny.spec, layers=layers, projections=projections, **options)
    train_steps(agent, tiny, 20)

    adam_would_move = False
    n_kept = 0
    for layer in agent.online.torso.layers:
        assert torch.equal(layer.weight != 0, layer.mask)
        n_kept += layer.mask[0].sum().item()
        moment = agent.main.optimizer.state[layer.weight]["mean"]
        adam_would_move |= bool((moment[~layer.mask] != 0).any())
    assert adam_would_move
    assert n_kept == pytest.approx(0.25 * (16 * 4 + 16 * 16), abs=1)


# --- pruning ---


def test_global_magnitude_pruning_by_hand():
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


def test_a_density_of_one_prunes_nothing_and_revives_nothing():
    params = {"w": torch.randn(2, 4, 5)}
    masks = {"w": torch.rand(2, 4, 5) > 0.5}
    assert magnitude_masks(params, 1.0)["w"].all()
    assert torch.equal(magnitude_masks(params, 1.0, masks)["w"], masks["w"])


def test_rounds_of_pruning_keep_exact_shares_run_by_run():
    weights = {"w": torch.randn(3, 20, 10), "v": torch.randn(3, 5, 20)}
    masks = None
    for rounds in range(1, 6):  # a fifth of what is left, each round
        masks = magnitude_masks(weights, 0.8**rounds, masks)
        exact = round(0.8**rounds * 300) / 300
        assert density(masks).tolist() == pytest.approx([exact] * 3)

    one_run = {name: weight[1:2] for name, weight in weights.items()}
    alone = magnitude_masks(one_run, 0.8**5)
    assert torch.equal(alone["w"][0], masks["w"][1])


def test_ties_do_not_keep_too_many():
    masks = magnitude_masks({"w": torch.ones(2, 4, 5)}, 0.3)
    assert density(masks).tolist() == pytest.approx([0.3, 0.3])


def test_pruning_of_layers_counts_from_their_own_density_and_spares_frozen_runs():
    layers = {"0": MaskedLinear((2,), 10, 10, 0.5), "1": MaskedLinear((2,), 10, 20, 0.8)}
    for layer in layers.values():
        reset_runs(layer, [0, 1])
    before = {name: layer.mask.clone() for name, layer in layers.items()}

    pruned = prune_(layers, 0.5, torch.tensor([True, False]))
    assert sum(layer.mask[0].sum().item() for layer in layers.values()) == (50 + 160) / 2
    for name, layer in layers.items():
        assert torch.equal(layer.mask[1], before[name][1])
        assert torch.equal(pruned[f"{name}.weight"], ~layer.mask)


def test_weight_rewinding_restores_all_but_the_pruned_weights():
    saved = {"w": torch.randn(1, 2, 3), "b": torch.randn(1, 2)}
    masks = {"w": torch.rand(1, 2, 3) > 0.5}
    params = {name: p + 1 for name, p in saved.items()}

    rewind_weights_(params, saved, masks)
    assert torch.equal(params["w"], saved["w"] * masks["w"])
    assert torch.equal(params["b"], saved["b"])


# --- overlap ---


def test_overlap_of_masks_by_hand():
    first = {"w": torch.tensor([[[True, True, False, False]]])}
    second = {"w": torch.tensor([[[True, False, True, False]]])}
    assert union(first, second)["w"].tolist() == [[[True, True, True, False]]]
    assert intersection(first, second)["w"].tolist() == [[[True, False, False, False]]]
    assert jaccard(first, second).tolist() == pytest.approx([1 / 3])
    assert jaccard(first, first).tolist() == [1.0]


def test_random_masks_overlap_by_chance():
    first, second = ({"w": random_mask((1, 300, 300), 0.1, seeded(seed))} for seed in range(2))
    assert jaccard(first, second).item() == pytest.approx(0.1 / 1.9, rel=0.1)


def sibling_overlap(shared_steps, generator):
    """Overlap of the pruned masks of two copies that see other batches after a shared start."""
    x = torch.randn(512, 20, generator=generator)
    y = torch.tanh(x @ torch.randn(20, 3, generator=generator))
    hidden = torch.randn(1, 64, 20, generator=generator) / 20**0.5
    head = torch.randn(1, 3, 64, generator=generator) / 8
    hidden, head = (p.repeat(2, 1, 1).requires_grad_() for p in (hidden, head))

    optimizer = Adam([hidden, head], 1e-2)
    for step in range(400):
        index = torch.randint(512, (2, 32), generator=generator)
        if step < shared_steps:
            index = index[:1].expand(2, -1)
        outputs = torch.relu(x[index] @ hidden.mT) @ head.mT
        descend(optimizer, [hidden, head], (outputs - y[index]).square().mean((1, 2)))

    mask = magnitude_masks({"0": hidden.detach()}, 0.1)["0"]
    return jaccard({"0": mask[:1]}, {"0": mask[1:]}).item()


def test_siblings_share_more_of_their_masks_the_longer_they_trained_together():
    generator = seeded(0)
    overlaps = [sibling_overlap(steps, generator) for steps in (0, 100, 300)]
    assert 0.1 / 1.9 < overlaps[0] < overlaps[1] < overlaps[2] < 1


# --- counts ---


@pytest.mark.parametrize(("depth", "share"), [(1, 0.5), (2, 0.1), (3, 0.02)])
def test_width_at_equal_count_is_the_largest_that_does_not_exceed_the_dense_network(depth, share):
    def count(width, kept):
        weights = 0
        for n_in, n_out in pairwise([8] + [width] * depth):
            weights += n_in * n_out
        head = 4 * width + 4
        return kept * weights + depth * width + head

    width = width_at_equal_count(8, 4, depth, 64, share)
    assert count(width, share) <= count(64, 1.0) < count(width + 1, share)
    assert width_at_equal_count(8, 4, depth, 64, 1.0) == 64
