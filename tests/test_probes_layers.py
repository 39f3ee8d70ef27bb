"""Layer alignment, effective parameters, learning times, class variance, sensitivity to the state."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from rlop.probes import (
    LearningTime,
    class_variance,
    effective_parameters,
    flip_radius,
    layer_alignment,
    quantile_bins,
    sensitivity,
)
from rlop.probes.lipschitz import state_gradient


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(d: int, seed: int = 0) -> Tensor:
    return torch.linalg.qr(gaussian(d, d, seed=seed)).Q


# --- alignment ---


def test_layers_that_share_their_directions_are_aligned() -> None:
    u, v, w, s = (
        rotation(5),
        rotation(5, 1),
        rotation(5, 2),
        torch.diag(torch.arange(5.0, 0, -1).double()),
    )
    first, second = u @ s @ v.mT, w @ s @ u.mT
    assert layer_alignment([first, second]).item() == pytest.approx(1, rel=1e-9)
    assert layer_alignment([first, -second @ first @ first.mT]).item() == pytest.approx(1, rel=1e-9)
    # the first two directions swapped
    order = u[:, [1, 0, 2, 3, 4]]
    assert layer_alignment([first, w @ s @ order.mT]).item() == pytest.approx(0.6, rel=1e-9)
    assert layer_alignment([first, w @ s @ order.mT], top=1).item() == pytest.approx(0, abs=1e-9)


def test_random_layers_score_as_random_directions_do() -> None:
    found = layer_alignment([gaussian(8, 64, 32), gaussian(8, 48, 64, seed=1)])
    assert found.shape == (8, 1)
    assert found.mean().item() == pytest.approx(math.sqrt(2 / (math.pi * 64)), rel=0.15)


def test_gradient_descent_from_a_balanced_start_keeps_linear_layers_aligned() -> None:
    basis = [rotation(4, seed) for seed in range(4)]
    spectrum = torch.diag(torch.tensor([0.9, 0.7, 0.5, 0.3], dtype=torch.float64))
    w = [basis[i + 1] @ spectrum @ basis[i].mT for i in range(3)]
    goal = basis[3] @ torch.diag(torch.tensor([4.0, 3, 2, 1]).double()) @ basis[0].mT
    for _ in range(200):
        error = w[2] @ w[1] @ w[0] - goal
        grads = [(w[2] @ w[1]).mT @ error, w[2].mT @ error @ w[0].mT, error @ (w[1] @ w[0]).mT]
        w = [x - 0.02 * g for x, g in zip(w, grads, strict=True)]
    assert (w[2] @ w[1] @ w[0] - goal).norm() < 0.1
    assert layer_alignment(w).min() > 0.999


def test_a_broken_run_has_no_alignment() -> None:
    first, second = gaussian(2, 5, 3), gaussian(2, 4, 5, seed=1)
    alone = layer_alignment([first[0], second[0]])
    first[1] = torch.nan
    found = layer_alignment([first, second])
    torch.testing.assert_close(found[0], alone)
    assert found[1].isnan().all()


# --- effective parameters ---


def test_effective_parameters_by_hand() -> None:
    low = torch.outer(
        torch.arange(1.0, 7), torch.arange(1.0, 5)
    )  # 6 x 4, rank 1: 1 (6 + 4 - 1) = 9
    full = torch.eye(3, 6)  # 3 x 6, rank 3: 3 (6 + 3 - 3) = 18
    assert effective_parameters([low, full]) == 2 * 9 + 18
    assert effective_parameters([torch.stack([low, 2 * low]), full.expand(2, 3, 6)]).tolist() == [
        36,
        36,
    ]
    assert effective_parameters([rotation(5)], delta=0) == 25  # all entries at full rank


# --- learning times ---


def test_learning_and_forgetting_by_hand() -> None:
    found = LearningTime(runs=2, size=4, tau=0.5)
    found.add(0, torch.tensor([[1.0, 0.1], [0.1, 0.1]]), torch.tensor([[0, 1], [0, 0]]))
    found.add(5, torch.tensor([[0.2, 0.9], [0.9, 0.4]]), torch.tensor([[0, 1], [0, 1]]))
    found.add(9, torch.tensor([[-0.7, 0.9], [-0.2, -0.9]]), torch.tensor([[0, 1], [0, 2]]))
    assert found.first_step.tolist() == [[5, 0, -1, -1], [0, 5, -1, -1]]
    assert found.forgotten.tolist() == [[1, 1, 0, 0], [1, 0, 0, 0]]
    assert found.fitted.tolist() == [[False, False, False, False], [True, True, False, False]]
    summary = found.summary()
    torch.testing.assert_close(summary["learned"], torch.tensor([1, 2 / 3]).double())
    assert summary["time"].tolist() == [2.5, 2.5]
    assert summary["forgotten"].tolist() == [1, 0.5]


def test_learning_times_against_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    found, first, known, events = LearningTime(1, 20, 0.5), {}, {}, dict.fromkeys(range(20), 0)
    for step in range(60):
        index = rng.choice(20, 6, replace=False)
        delta = rng.normal(size=6) * (0.3 if step > 20 else 1)
        found.add(step, torch.from_numpy(delta[None]), torch.from_numpy(index[None]))
        for i, error in zip(index, np.abs(delta), strict=True):
            if error < 0.5:
                first.setdefault(i, step)
            elif known.get(i):
                events[i] += 1
            known[i] = error < 0.5
    assert found.first_step[0].tolist() == [first.get(i, -1) for i in range(20)]
    assert found.forgotten[0].tolist() == [events[i] for i in range(20)]


def test_nothing_seen_or_not_a_number_is_not_learned() -> None:
    found = LearningTime(1, 3, 0.5)
    assert found.summary()["learned"].isnan()
    found.add(0, torch.tensor([[torch.nan]]), torch.tensor([[1]]))
    assert found.summary()["learned"] == 0
    assert found.summary()["time"].isnan()


# --- class variance ---


def test_class_variance_by_hand_and_by_the_law_of_total_variance() -> None:
    features = torch.tensor([[0.0, 0], [2, 0], [10, 1], [10, 3]])
    found = class_variance(features, torch.tensor([0, 0, 2, 2]), 3)
    assert found.within == 1
    assert found.between.item() == pytest.approx(
        (9**2 + 2**2) / 4, rel=1e-12
    )  # means (1, 0) and (10, 2)
    torch.testing.assert_close(found.ratio, found.within / found.between)
    phi, label = (
        gaussian(3, 40, 5),
        torch.randint(4, (3, 40), generator=torch.Generator().manual_seed(1)),
    )
    many = class_variance(phi, label, 4)
    torch.testing.assert_close(many.within + many.between, phi.var(1, correction=0).sum(-1))
    torch.testing.assert_close(many.within[1], class_variance(phi[1], label[1], 4).within)


def test_quantile_bins_are_equally_full() -> None:
    values = torch.tensor([5.0, 1, 4, 2, 3, 0])
    assert quantile_bins(values, 3).tolist() == [2, 0, 2, 1, 1, 0]
    assert quantile_bins(torch.zeros(2, 8), 4).tolist() == [[0, 0, 1, 1, 2, 2, 3, 3]] * 2


# --- sensitivity ---


def test_gradient_norm_of_known_functions() -> None:
    states, w = gaussian(2, 8, 3), torch.tensor([1.0, 2, 2], dtype=torch.float64)
    linear = sensitivity(lambda x: x @ w, states)
    assert [x.tolist() for x in linear] == [pytest.approx([3, 3], rel=1e-12)] * 2
    torch.testing.assert_close(state_gradient(lambda x: x.square().sum(-1), states), 2 * states)
    quadratic = sensitivity(lambda x: x.square().sum(-1) / 2, states)
    half_way = (states + states.roll(4, 1)) / 2
    torch.testing.assert_close(quadratic.at, states.norm(dim=-1).mean(-1))
    torch.testing.assert_close(quadratic.between, half_way.norm(dim=-1).mean(-1))


def test_flip_of_linear_values_is_the_distance_to_the_boundary() -> None:
    w = torch.tensor([[1.0, 0], [0, 1], [-5, 0]], dtype=torch.float64)  # values x_1, x_2, -5 x_1
    states = torch.tensor([[3.0, 1], [1, 4], [0.1, -1]], dtype=torch.float64)
    found = flip_radius(lambda x: x @ w.mT, states, overshoot=0.0)
    # (3, 1): to x_1 = x_2; (1, 4): to x_2 = -5 x_1, nearer than x_1 = x_2 at 3 / sqrt 2; (0.1, -1): to x_1 = 0
    expected = torch.tensor([2 / 2**0.5, 9 / 26**0.5, 0.1], dtype=torch.float64)
    torch.testing.assert_close(found.distance, expected)
    torch.testing.assert_close(found.relative, expected / states.norm(dim=-1))
    assert flip_radius(lambda x: x @ w.mT, states, overshoot=0.01).flipped.all()
    assert not flip_radius(lambda x: x @ w.mT, states, overshoot=-0.01).flipped.any()


def test_values_that_ignore_the_state_cannot_be_attacked() -> None:
    constant = torch.tensor([1.0, 2.0])
    found = flip_radius(lambda x: 0 * x[..., :1] + constant, torch.ones(3, 4))
    assert found.distance.isinf().all()
    assert not found.flipped.any()


@pytest.mark.parametrize("d", [100, 400])
def test_a_random_relu_network_is_flipped_by_a_step_of_order_one_over_root_d(d: int) -> None:
    lengths, flipped = [], []
    for seed in range(20):
        layers = [gaussian(d, d, seed=10 * seed + i) * (2 / d) ** 0.5 for i in range(2)]
        head = gaussian(1, d, seed=10 * seed + 9) / d**0.5

        def values(x: Tensor, layers: list[Tensor] = layers, head: Tensor = head) -> Tensor:
            for w in layers:
                x = (x @ w.mT).relu()
            f = x @ head.mT
            return torch.cat([f, -f], -1)

        states = gaussian(20, d, seed=1000 + seed)
        lengths.append(flip_radius(values, states, overshoot=0.0).relative)
        flipped.append(flip_radius(values, states, overshoot=0.5).flipped.double())
    # to first order |f| / (||grad f|| ||x||) is |N(0, 1)| / sqrt d, whose median is 0.6745 / sqrt d
    assert torch.cat(lengths).median().item() * d**0.5 == pytest.approx(0.6745, rel=0.15)
    assert torch.cat(flipped).mean() > 0.9


def test_errors() -> None:
    with pytest.raises(ValueError, match="at least two"):
        layer_alignment([torch.ones(2, 2)])
    with pytest.raises(ValueError, match="does not follow"):
        layer_alignment([torch.ones(3, 2), torch.ones(2, 2)])
    with pytest.raises(ValueError, match="top = 3"):
        layer_alignment([torch.ones(3, 2), torch.ones(2, 3)], top=3)
    with pytest.raises(ValueError, match="at least one"):
        effective_parameters([])
    with pytest.raises(ValueError, match="tau = 0"):
        LearningTime(1, 2, 0)
    with pytest.raises(ValueError, match="delta and index"):
        LearningTime(1, 2, 0.1).add(0, torch.zeros(2, 2), torch.zeros(2, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match="features and label"):
        class_variance(torch.ones(3, 2), torch.zeros(2, dtype=torch.int64), 2)
    with pytest.raises(ValueError, match="n_bins"):
        quantile_bins(torch.ones(3), 4)
    with pytest.raises(ValueError, match="states"):
        state_gradient(lambda x: x.sum(-1), torch.ones(3, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match="two actions"):
        flip_radius(lambda x: x[..., :1], torch.ones(3, 2))
    with pytest.raises(ValueError, match="one per row"):
        flip_radius(lambda x: x.sum(-2), torch.ones(4, 3, 2))
