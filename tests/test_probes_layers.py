"""Alignment of layers, effective parameters, learning times and class variance."""

import math

import numpy as np
import pytest
import torch
from helpers.probes import gaussian, rotation, spectrum, whole_numbers

from rlop.probes import (
    LearningTime,
    class_variance,
    effective_parameters,
    layer_alignment,
    quantile_bins,
)

# --- alignment ---


def test_layers_that_share_their_directions_are_aligned():
    shared = rotation(5)
    last = rotation(5, 2)
    s = spectrum(5, 4, 3, 2, 1)
    first = shared * s @ rotation(5, 1).mT
    second = last * s @ shared.mT
    assert layer_alignment([first, second]).item() == pytest.approx(1, rel=1e-9)

    # Signs do not matter, and powers keep directions.
    negative = -second @ first @ first.mT
    assert layer_alignment([first, negative]).item() == pytest.approx(1, rel=1e-9)

    # With the first two directions swapped three of five agree.
    swapped = last * s @ shared[:, [1, 0, 2, 3, 4]].mT
    assert layer_alignment([first, swapped]).item() == pytest.approx(0.6, rel=1e-9)
    assert layer_alignment([first, swapped], top=1).item() == pytest.approx(0, abs=1e-9)


def test_random_layers_score_as_random_directions_do():
    scores = layer_alignment([gaussian(8, 64, 32), gaussian(8, 48, 64, seed=1)])
    assert scores.shape == (8, 1)
    assert scores.mean().item() == pytest.approx(math.sqrt(2 / (math.pi * 64)), rel=0.15)


def test_gradient_descent_from_a_balanced_start_keeps_linear_layers_aligned():
    basis = [rotation(4, seed) for seed in range(4)]
    s = spectrum(0.9, 0.7, 0.5, 0.3)
    w0 = basis[1] * s @ basis[0].mT
    w1 = basis[2] * s @ basis[1].mT
    w2 = basis[3] * s @ basis[2].mT
    goal = basis[3] * spectrum(4, 3, 2, 1) @ basis[0].mT

    for _ in range(200):
        error = w2 @ w1 @ w0 - goal
        gradient0 = (w2 @ w1).mT @ error
        gradient1 = w2.mT @ error @ w0.mT
        gradient2 = error @ (w1 @ w0).mT
        w0 = w0 - 0.02 * gradient0
        w1 = w1 - 0.02 * gradient1
        w2 = w2 - 0.02 * gradient2

    assert (w2 @ w1 @ w0 - goal).norm() < 0.1
    assert layer_alignment([w0, w1, w2]).min() > 0.999


def test_a_broken_run_has_no_alignment():
    first = gaussian(2, 5, 3)
    second = gaussian(2, 4, 5, seed=1)
    alone = layer_alignment([first[0], second[0]])
    first[1] = torch.nan
    scores = layer_alignment([first, second])
    torch.testing.assert_close(scores[0], alone)
    assert scores[1].isnan().all()


# --- effective parameters ---


def test_effective_parameters_by_hand():
    # 6 x 4 of rank 1: 1 (6 + 4 - 1) = 9.  3 x 6 of rank 3: 3 (6 + 3 - 3) = 18.
    low = torch.outer(torch.arange(1.0, 7), torch.arange(1.0, 5))
    full = torch.eye(3, 6)
    assert effective_parameters([low, full]) == 2 * 9 + 18

    runs = [torch.stack([low, 2 * low]), full.expand(2, 3, 6)]
    assert effective_parameters(runs).tolist() == [36, 36]
    assert effective_parameters([rotation(5)], delta=0) == 25  # all entries at full rank


# --- learning times ---


def test_learning_and_forgetting_by_hand():
    record = LearningTime(runs=2, size=4, tau=0.5)
    minibatches = [
        (0, [[1.0, 0.1], [0.1, 0.1]], [[0, 1], [0, 0]]),
        (5, [[0.2, 0.9], [0.9, 0.4]], [[0, 1], [0, 1]]),
        (9, [[-0.7, 0.9], [-0.2, -0.9]], [[0, 1], [0, 2]]),
    ]
    for step, delta, index in minibatches:
        record.add(step, torch.tensor(delta), torch.tensor(index))

    assert record.first_step.tolist() == [[5, 0, -1, -1], [0, 5, -1, -1]]
    assert record.forgotten.tolist() == [[1, 1, 0, 0], [1, 0, 0, 0]]
    assert record.fitted.tolist() == [[False] * 4, [True, True, False, False]]

    summary = record.summary()
    torch.testing.assert_close(summary["learned"], torch.tensor([1, 2 / 3]).double())
    assert summary["time"].tolist() == [2.5, 2.5]
    assert summary["forgotten"].tolist() == [1, 0.5]


def test_learning_times_against_a_plain_loop():
    rng = np.random.default_rng(0)
    record = LearningTime(1, 20, 0.5)
    first = [-1] * 20
    events = [0] * 20
    fitted = [False] * 20
    for step in range(60):
        index = rng.choice(20, 6, replace=False)
        delta = rng.normal(size=6) * (0.3 if step > 20 else 1)
        record.add(step, torch.from_numpy(delta[None]), torch.from_numpy(index[None]))

        for i, error in zip(index, np.abs(delta), strict=True):
            fits = error < 0.5
            if fits and first[i] == -1:
                first[i] = step
            if fitted[i] and not fits:
                events[i] += 1
            fitted[i] = fits

    assert record.first_step[0].tolist() == first
    assert record.forgotten[0].tolist() == events


def test_nothing_seen_or_not_a_number_is_not_learned():
    record = LearningTime(1, 3, 0.5)
    assert record.summary()["learned"].isnan()
    record.add(0, torch.tensor([[torch.nan]]), torch.tensor([[1]]))
    assert record.summary()["learned"] == 0
    assert record.summary()["time"].isnan()


# --- class variance ---


def test_class_variance_by_hand():
    features = torch.tensor([[0.0, 0], [2, 0], [10, 1], [10, 3]])
    variance = class_variance(features, torch.tensor([0, 0, 2, 2]), 3)
    assert variance.within == 1
    # The means are (1, 0) and (10, 2).
    assert variance.between.item() == pytest.approx((9**2 + 2**2) / 4, rel=1e-12)
    torch.testing.assert_close(variance.ratio, variance.within / variance.between)


def test_within_and_between_add_up_to_the_variance_of_each_run():
    phi = gaussian(3, 40, 5)
    label = whole_numbers(4, 3, 40, seed=1)
    variance = class_variance(phi, label, 4)
    total = phi.var(1, correction=0).sum(-1)
    torch.testing.assert_close(variance.within + variance.between, total)

    alone = class_variance(phi[1], label[1], 4)
    torch.testing.assert_close(variance.within[1], alone.within)


def test_quantile_bins_are_equally_full():
    values = torch.tensor([5.0, 1, 4, 2, 3, 0])
    assert quantile_bins(values, 3).tolist() == [2, 0, 2, 1, 1, 0]
    assert quantile_bins(torch.zeros(2, 8), 4).tolist() == [[0, 0, 1, 1, 2, 2, 3, 3]] * 2


def test_arguments_are_checked():
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
