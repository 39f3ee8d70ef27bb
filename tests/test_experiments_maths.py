"""The formulas inside the experiments: by hand, by closed forms, or by a second way."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor

from rlop.experiments import (
    basis_pursuit,
    block_structure,
    coordinate_check,
    disagreement,
    label_noise,
    linear_conv,
    mirror_descent,
    path_norm,
    path_norm_sparsity,
    pruning,
    robust_ridge,
    single_neuron,
    strong_weak_features,
    support_vectors,
)
from rlop.experiments.digits import corrupt
from rlop.experiments.fit import apply_masks, network, orders, weight_matrices
from rlop.experiments.series import (
    differences,
    power_law_exponent,
    rank_correlation,
    ratios,
    seed_means,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers in float64."""
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


# --- shared pieces


def test_series_by_hand():
    assert differences([1, 3, 2]) == [2, -1]
    assert ratios([1, 4, 2]) == [4, 0.5]
    assert seed_means(torch.tensor([1.0, 3.0, 5.0, 9.0]), 2) == [2, 7]


@given(exponent=st.floats(-3, 3), scale=st.floats(0.01, 100))
def test_the_exponent_of_a_power_law_is_found(exponent, scale):
    x = np.array([1.0, 2.0, 5.0, 11.0])
    assert power_law_exponent(x, scale * x**exponent) == pytest.approx(exponent, abs=1e-9)


def test_every_pass_of_every_run_sees_each_sample_once():
    batches = list(orders(runs=3, n=10, batch=4, epochs=2, seed=0))
    assert [batch.shape[1] for batch in batches] == [4, 4, 2] * 2
    for epoch in (batches[:3], batches[3:]):
        order = torch.cat(epoch, 1)
        assert (order.sort(1).values == torch.arange(10)).all()
    assert not torch.equal(batches[0][0], batches[0][1])


def test_masks_zero_what_they_exclude_and_leave_the_rest():
    net = network([0, 1], 3, (4,), 2)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    masks = {name: torch.rand(w.shape) < 0.5 for name, w in weight_matrices(net).items()}
    apply_masks(net, masks)
    for name, parameter in net.named_parameters():
        expected = before[name] * masks[name] if name in masks else before[name]
        assert torch.equal(parameter, expected)


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1.0), (0.4, 0.64), (1.0, 0.1)])
def test_corrupted_labels_are_uniform_over_the_classes(share, expected):
    y = torch.arange(10).repeat(2000)
    kept = (corrupt(y, share, Generator().manual_seed(0)) == y).float().mean().item()
    assert kept == pytest.approx(expected, abs=0.02)


# --- linear models


def test_basis_pursuit_finds_the_sparse_solution_that_least_squares_misses():
    x = normal(1, 30, 60)
    w = torch.zeros(60, dtype=torch.float64)
    w[[3, 17, 40]] = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    sparse = basis_pursuit.basis_pursuit(x, x @ w, steps=3000)[0]
    torch.testing.assert_close(sparse, w, atol=1e-4, rtol=0)
    assert ((torch.linalg.pinv(x) @ (x @ w)[..., None])[0, :, 0] - w).norm() > 1


def test_the_stieltjes_transform_is_that_of_a_large_random_matrix():
    n, g, ridge = 1500, 0.5, 0.3
    x = np.random.default_rng(0).normal(size=(n, int(g * n)))
    eigenvalues = np.linalg.eigvalsh(x.T @ x / n)
    m, slope = robust_ridge.stieltjes(g, ridge)
    assert m == pytest.approx((1 / (eigenvalues + ridge)).mean(), rel=0.01)
    assert slope == pytest.approx((1 / (eigenvalues + ridge) ** 2).mean(), rel=0.02)


def test_robust_ridge_without_ridge_is_interpolation():
    base = robust_ridge.interpolation(3.0)
    assert robust_ridge.closed_form(3.0, 1e-9) == pytest.approx(base, rel=1e-6)
    standard = robust_ridge.closed_form(3.0, 1e-9, epsilon=0.0)
    assert standard == pytest.approx(1 - 1 / 3, rel=1e-6)


def test_ridge_is_where_the_gradient_of_its_objective_vanishes():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(5, 8)), rng.normal(size=5)
    w = mirror_descent.ridge(x, y, 0.7)
    np.testing.assert_allclose(0.7 * x.T @ (x @ w - y) + w, 0, atol=1e-12)


def test_a_convolution_realizes_what_the_network_computes():
    kernels, output, x = normal(2, 3), normal(2, 5, seed=1), normal(5, seed=2)
    value = 0.0
    for c in range(2):
        for d in range(5):
            for k in range(3):
                value += output[c, d] * kernels[c, k] * x[(d + k) % 5] / math.sqrt(5)
    torch.testing.assert_close(linear_conv.realized(kernels, output) @ x, value)


def test_max_margin_multipliers_meet_the_optimality_conditions():
    x = normal(12, 20)
    y = torch.arange(12) % 2 * 2.0 - 1
    signed = y[:, None] * x
    q = signed @ signed.T
    alpha = support_vectors.dual(q, sweeps=500)
    slack = q @ alpha - 1  # margin minus 1
    assert (alpha >= 0).all()
    assert slack.min() > -1e-8
    assert (alpha * slack).abs().max() < 1e-8


def test_logistic_regression_is_where_the_gradient_of_its_objective_vanishes():
    n, ridge = strong_weak_features.N, strong_weak_features.RIDGE
    phi = normal(1, n, 300) / 300**0.5
    y = torch.randint(2, (1, n), generator=Generator().manual_seed(1)).double() * 2 - 1
    w = strong_weak_features.logistic_regression(phi, y).requires_grad_()
    loss = F.softplus(-y * (phi @ w)[..., 0]).mean() + ridge / 2 * w.square().sum()
    (gradient,) = torch.autograd.grad(loss, w)
    assert gradient.abs().max() < 1e-6


# --- networks


def test_abc_exponents_are_those_of_the_paper():
    expected = {"muP": 0.0, "NTP": 0.5, "SP, lr / width": 0.5, "SP": -1.0}
    for name, kind in coordinate_check.PARAMETRIZATIONS.items():
        assert kind.r == expected[name]


def test_stationary_variance_by_hand():
    """Without momentum v = (1 - eta h)^2 v + eta^2 sigma^2 h, so v = eta sigma^2 / (2 - eta h)."""
    for variance in (label_noise.formula, label_noise.stationary):
        assert variance(0.5, 0.0, eta=1.0, sigma=0.2) == pytest.approx(0.04 / 1.5)


@given(h=st.floats(0.1, 1.9), beta=st.floats(0, 0.9), eta=st.floats(0.1, 1.0))
def test_stationary_variance_solves_the_lyapunov_equation(h, beta, eta):
    exact = label_noise.stationary(h, beta, eta, 0.2)
    assert label_noise.formula(h, beta, eta, 0.2) == pytest.approx(exact)


def test_least_variation_by_hand():
    """A hat, a line, and one kink at a data point."""
    x = np.linspace(-1, 1, path_norm.POINTS)
    hat = np.interp(x, [-1, 0, 1], [0, 1, 0])
    # The kink of the hat falls between two points.
    assert path_norm.least_variation(hat) == pytest.approx(2.0, abs=0.3)
    assert path_norm.least_variation(3 * x) == pytest.approx(0, abs=1e-12)
    assert path_norm.least_variation(3 * np.maximum(x - x[3], 0)) == pytest.approx(3.0)


def test_groups_of_kinks_by_hand():
    kinks = torch.tensor([-1.5, -0.5, -0.49, 0.3, 2.0])
    assert path_norm_sparsity.distinct(kinks) == 2
    assert path_norm_sparsity.distinct(torch.tensor([5.0])) == 0


def test_the_single_neurons_gradient_is_that_of_the_population_loss():
    """A quarter of E (x D x)^2 = 2 ||D||^2 + tr(D)^2, differentiated by autograd."""
    w = normal(3, 5).requires_grad_()
    teacher = torch.zeros(5, 5, dtype=torch.float64)
    teacher[0, 0] = 1
    difference = w.mT @ w - teacher
    loss = (2 * difference.square().sum() + difference.trace() ** 2) / 4
    (gradient,) = torch.autograd.grad(loss, w)
    torch.testing.assert_close(single_neuron.gradient(w, difference), gradient)


def test_the_first_share_converges_to_that_of_the_first_component():
    x = normal(2, 40, 6) * torch.tensor([3.0, 2, 1, 1, 1, 1])
    u = F.normalize(torch.ones(2, 6, 1, dtype=torch.float64), dim=1)
    for _ in range(100):
        share, u = block_structure.first_share(x, u)
    variances = torch.linalg.svdvals(x - x.mean(1, keepdim=True)).square()
    torch.testing.assert_close(share, variances[:, 0] / variances.sum(-1))


# --- what runs agree on


def test_rank_correlation_with_ties_by_hand():
    a, b = torch.tensor([1.0, 2, 2, 3]), torch.tensor([10.0, 20, 20, 30])
    assert rank_correlation(a, b) == pytest.approx(1)
    assert rank_correlation(a, -b) == pytest.approx(-1)


def test_the_calibration_gap_is_0_for_runs_that_are_right():
    y = torch.tensor([0, 1, 2])
    assert disagreement.calibration_gap(y.expand(2, -1), y) == 0


def test_the_calibration_gap_is_2_for_runs_that_agree_on_an_error():
    """Votes are 1 for a wrong class and 0 for the right one.

    They are off by 1 on 3 entries, and by 3 of 27 on the others.
    """
    wrong = torch.tensor([[1, 2, 0]] * 2)
    gap = disagreement.calibration_gap(wrong, torch.tensor([0, 1, 2]))
    assert gap == pytest.approx((1 * 3 + 3 / 27 * 27) / 3)


def test_pruning_cuts_the_smallest_of_what_is_left():
    scores = {"a.weight": torch.tensor([[[0.1, 0.2, 0.3, 0.4, 0.5]]])}
    masks = {"a.weight": torch.ones(1, 1, 5, dtype=torch.bool)}
    once = pruning.cut(scores, masks, share=0.4)
    assert once["a.weight"].tolist() == [[[False, False, True, True, True]]]
    twice = pruning.cut(scores, once, share=0.4)
    assert twice["a.weight"].tolist() == [[[False, False, False, False, True]]]
