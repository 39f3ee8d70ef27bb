"""The experiments on the course of training: formulas by hand or a second way."""

import numpy as np
import pytest
import torch
from torch import Generator

from rlop.experiments import (
    aligned_layers,
    concat_inputs,
    label_corruption,
    mirror_descent,
    single_neuron,
    smoothed_relu,
)
from rlop.experiments.fit import network


def test_the_huberized_relu_by_hand():
    """With h = .1: 0, z^2 / .2 at .05 and .1, and .3 - .05; its slope is 1 beyond h."""
    z = torch.tensor([-1.0, 0.05, 0.1, 0.3], requires_grad=True)
    value = smoothed_relu.huberized_relu(z)
    torch.testing.assert_close(value, torch.tensor([0.0, 0.0125, 0.05, 0.25]))
    (slope,) = torch.autograd.grad(value.sum(), z)
    torch.testing.assert_close(slope, torch.tensor([0.0, 0.5, 1.0, 1.0]))


@pytest.mark.parametrize(("power", "expected"), [(1.0, 1.0), (2.0, 3.0), (0.5, 0.41421)])
def test_the_growth_of_the_inverse_loss_by_hand(power, expected):
    """J = 1 / t^p from t = 0 on: (2^p - 1) / 1."""
    t = torch.arange(2001, dtype=torch.float64)
    losses = 1 / (1e-9 + t**power)
    assert smoothed_relu.growth(losses[:, None]) == pytest.approx(expected, rel=0.01)
    assert smoothed_relu.growth(torch.ones(10, 1)) == 0


def test_a_loss_on_inputs_with_both_labels_cannot_fall_below_log_2():
    generator = Generator().manual_seed(0)
    data = smoothed_relu.sample(generator, separated=False)
    weights = smoothed_relu.start(2, generator)
    losses = smoothed_relu.descend(weights, data, smoothed_relu.huberized_relu, 50)
    assert losses.min() >= torch.tensor(2.0).log() - 1e-6


def test_mirror_descent_around_a_center_solves_the_moved_problem():
    rng = np.random.default_rng(0)
    x, y, center = rng.normal(size=(4, 9)) / 3, rng.normal(size=4), rng.normal(size=9)
    w, gaps = mirror_descent.rmd(x, y, 2.0, 0.3, center=center)
    np.testing.assert_allclose(2.0 * x.T @ (x @ w - y) + w - center, 0, atol=1e-9)
    assert gaps[-1] < 1e-9


def test_the_optimality_condition_by_hand():
    """One sample: x = 1, y = 2; sqrt(w) = 3 (2 - w) at w = 1.58089; at w = 1, |1 - 3| / 1."""
    x, y = np.ones((1, 1)), np.array([2.0])
    assert mirror_descent.violation(x, y, np.array([1.0])) == pytest.approx(2)
    assert mirror_descent.violation(x, y, np.array([1.58089])) == pytest.approx(0, abs=1e-3)


def test_the_arm_with_the_best_late_validation_accuracy_is_chosen():
    validation = torch.tensor([[0.9, 0, 0, 0], *[[0.1, 0.2, 0.5, 0.4]] * 3])
    history = label_corruption.History(validation, validation)
    assert label_corruption.choose(history, range(0, 2)) == 1
    assert label_corruption.choose(history, range(1, 4)) == 2


def test_an_arm_with_decay_shrinks_and_one_with_slack_stops_short():
    """With a loss held at a constant, z -> s, and the step of RMD goes to zero."""
    net = network([0, 0, 0], 4, (8,), 3)
    x, y = torch.randn(6, 4, generator=Generator().manual_seed(0)), torch.arange(6) % 3
    arms = label_corruption.Arms(torch.tensor([0.0, 0.5, 0.0]), torch.tensor([0.0, 0.0, 5.0]))
    slack = torch.zeros(3, 6)
    batches = [torch.arange(6).expand(3, -1)] * 300
    label_corruption.descend(net, x, y, slack, arms, batches)

    with torch.no_grad():
        loss = label_corruption.cross_entropy(net(x.expand(3, -1, -1)), y.expand(3, -1))
    norms = torch.stack([p.detach().square().flatten(1).sum(1) for p in net.parameters()]).sum(0)
    assert norms[1] < norms[0]
    assert (slack[:2] == 0).all()
    torch.testing.assert_close(slack[2], (2 * loss[2]).sqrt().expand(6), rtol=0.05, atol=0.02)
    assert loss[2] > loss[0]


def test_the_gradients_of_linear_layers_agree_with_autograd():
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(3, 3)) for _ in range(3)]
    data = aligned_layers.Data(rng.normal(size=(7, 3)), rng.normal(size=(7, 3)))
    slope = (data.x @ aligned_layers.product(weights).T - data.y).T @ data.x / 7
    layers = [torch.from_numpy(w).requires_grad_() for w in weights]
    output = torch.from_numpy(data.x) @ (layers[2] @ layers[1] @ layers[0]).T
    loss = (output - torch.from_numpy(data.y)).square().sum() / 14
    assert loss.item() == pytest.approx(data.loss(weights))
    expected = torch.autograd.grad(loss, layers)
    for own, other in zip(aligned_layers.gradients(weights, slope), expected):
        np.testing.assert_allclose(own, other, atol=1e-12)


def test_data_that_meet_the_condition_are_diagonal_in_the_outer_singular_vectors():
    rng = np.random.default_rng(0)
    frame = aligned_layers.rotations(rng)
    data = aligned_layers.matching_data(rng, frame)
    for matrix in (frame[0].T @ data.x.T @ data.x @ frame[0], frame[-1].T @ data.best @ frame[0]):
        np.testing.assert_allclose(matrix, np.diag(np.diag(matrix)), atol=1e-9)
    assert aligned_layers.alignment(
        aligned_layers.aligned(frame, aligned_layers.spread_values(rng))
    ) == pytest.approx(1)


def test_the_projection_onto_three_taps_by_hand():
    averaged = aligned_layers.taps(np.arange(36.0).reshape(6, 6))
    assert averaged[0, 0] == averaged[5, 5] == 17.5  # mean of 0, 7, ..., 35
    assert averaged[0, 1] == 15  # of 1, 8, ..., 29
    assert averaged[1, 0] == 20  # of 6, 13, ..., 34
    assert averaged[0, 2] == 0
    np.testing.assert_array_equal(aligned_layers.taps(averaged), averaged)


def test_rises_and_peaks_by_hand():
    assert concat_inputs.rise([3, 1, 2, 5, 4]) == 4
    assert concat_inputs.peak([3, 1, 2, 5, 4]) == 1  # the fall after 5
    assert concat_inputs.peak([3, 1, 2, 5, 0]) == 4
    assert concat_inputs.rise([3, 2, 1]) == concat_inputs.peak([1, 2, 3]) == 0


def test_padded_units_stay_without_weights():
    generator = Generator().manual_seed(0)
    weights = concat_inputs.start(3, (2, 4), generator)
    x = torch.randn(5, 3, generator=generator)
    concat_inputs.network(weights, x).square().sum().backward()
    for weight, axis in ((weights[0], 2), (weights[1], 2), (weights[2], 1)):
        unused = weight.grad[0].movedim(axis - 1, 0)[2:]
        assert (unused == 0).all()
        assert (weight.grad[1] != 0).any()


@pytest.mark.parametrize("n", [6, 9])
def test_pairs_change_nothing_for_interpolating_linear_regression(n):
    """n points in 9 dimensions, all n^2 ordered pairs, least norm."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(n, 9)), rng.normal(size=n)
    first, second = np.repeat(np.arange(n), n), np.tile(np.arange(n), n)
    pairs = np.concatenate([x[first], x[second]], 1)
    w = np.linalg.lstsq(pairs, (y[first] + y[second]) / 2, rcond=None)[0]
    plain = np.linalg.lstsq(x, y, rcond=None)[0]
    np.testing.assert_allclose(w[:9] + w[9:], plain, atol=1e-8)


def test_pairs_meet_every_partner_and_twins_none():
    generator = Generator().manual_seed(0)
    first, second = concat_inputs.batch(10, 2, "twins", generator)
    assert torch.equal(first, second)
    first, second = concat_inputs.batch(10, 2, "pairs", generator)
    assert (first != second).float().mean() > 0.8


def test_the_steps_that_more_neurons_gain_by_simulation():
    """The mean log of chi-square numbers, at 1 + 3 lr = 1.06 a step."""
    rng = np.random.default_rng(0)
    wide = np.log(rng.chisquare(32, 200_000)).mean()
    narrow = np.log(rng.chisquare(1, 200_000)).mean()
    rate = 2 * np.log(1.06)
    assert single_neuron.gain("equal neurons") == pytest.approx((wide - narrow) / rate, rel=0.01)
    equal = (wide - np.log(32) - narrow) / rate
    assert single_neuron.gain("equal mass") == pytest.approx(equal, rel=0.02)
