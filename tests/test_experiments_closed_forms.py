"""Closed forms of the experiments against other ways to compute the same number."""

import numpy as np
import pytest
import torch
from torch import Generator

from rlop.experiments import (
    distributed_regression,
    epoch_double_descent,
    label_noise,
    lazy_kernel,
    momentum,
    robust_ridge,
)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


def two_layers(parameters, x, bend, width):
    """The network of `lazy_kernel` as a function of its parameters, for autograd."""
    a, w = parameters[:width], parameters[width:].view(width, -1)
    f = torch.erf(x @ w.T) @ a / width**0.5
    return f + bend * f.square() / 2


@pytest.mark.parametrize("bend", [0.0, 0.5])
def test_tangent_features_agree_with_autograd(bend):
    model = lazy_kernel.Model(normal(4), normal(4, 5, seed=1), bend)
    x = normal(3, 5, seed=2)
    parameters = torch.cat([model.a, model.w.flatten()])

    def outputs(p):
        return two_layers(p, x, bend, 4)

    torch.testing.assert_close(model(x), outputs(parameters))
    rows = torch.autograd.functional.jacobian(outputs, parameters)
    torch.testing.assert_close(model.jacobian(x), rows)


def test_the_norm_of_the_hessian_agrees_with_autograd():
    model = lazy_kernel.Model(normal(4), normal(4, 5, seed=1), 0.0)
    x = normal(1, 5, seed=2)
    parameters = torch.cat([model.a, model.w.flatten()])
    hessian = torch.autograd.functional.hessian(
        lambda p: two_layers(p, x, 0.0, 4).sum(), parameters
    )
    expected = torch.linalg.matrix_norm(hessian, 2).item()
    assert lazy_kernel.hessian_norm(model, x) == pytest.approx(expected)


def test_the_kernel_of_infinite_width_is_that_of_a_wide_network():
    x = normal(3, 5) / 2
    rows = lazy_kernel.start(40_000, 0.0, Generator().manual_seed(1)).jacobian(x)
    torch.testing.assert_close(rows @ rows.T, lazy_kernel.infinite_kernel(x), atol=0.03, rtol=0.03)


def test_the_risk_of_one_round_by_hand():
    """One node with 4 n features keeps a quarter of the weights: risk 3/4."""
    n = distributed_regression.N
    assert distributed_regression.exact_risk((4 * n,)) == pytest.approx(0.75)
    # Two nodes with 2 n each: 1 - (3 / 4) / 2 of their own, and a quarter of n / (n - 1) of the
    # other's.
    expected = 1 - 0.75 / 2 + n / (n - 1) / 4
    assert distributed_regression.exact_risk((2 * n, 2 * n)) == pytest.approx(expected)


def test_well_conditioned_features_keep_their_size():
    x = normal(1, 6, 10)
    equal = distributed_regression.well_conditioned(x, (4, 6))
    values = torch.linalg.svdvals(equal[..., :4])
    torch.testing.assert_close(values, values[..., :1].expand_as(values))
    torch.testing.assert_close(equal[..., :4].norm(), x[..., :4].norm())


def test_ridge_errors_follow_their_deterministic_equivalent():
    """Two errors at times before and after the slow directions are learned, 5 % of the first."""
    sizes = (650, 500, 350)
    time = np.array([3.0, 300.0, 3e4, 3e6])
    rng = np.random.default_rng(5)
    measured = epoch_double_descent.gradient_flow(time, *sizes, 100.0, rng)[2]
    expected = epoch_double_descent.equivalent(time, *sizes, 100.0)
    np.testing.assert_allclose(measured, expected, atol=0.06)


@pytest.mark.parametrize(
    ("error", "expected"), [([4.0, 2.0, 1.0], 1), ([4.0, 2.0, 3.0, 1.0, 1.2], 1.5), ([0.0, 0.0], 1)]
)
def test_a_rise_by_hand(error, expected):
    assert epoch_double_descent.rise(np.array(error)) == pytest.approx(expected)


def test_the_lasso_meets_its_optimality_conditions():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 30))
    y = x[:, :3].sum(1)
    u = label_noise.lasso(x, y, 0.05)
    slope = x.T @ (x @ u - y) / 20 + 0.05 * (x**2).mean(0)
    assert (u >= 0).all()
    assert slope.min() > -1e-6
    assert np.abs(slope * u).max() < 1e-6


def test_attacks_reach_the_risk_of_the_formula_and_no_more_without_the_constraint():
    rng = np.random.default_rng(0)
    target = np.eye(8)[0]
    estimate = 0.3 * rng.normal(size=8) + 0.5 * target
    risk = robust_ridge.robust_risk(estimate, target)
    assert robust_ridge.attacked_risk(estimate, target, rng) == pytest.approx(risk, rel=0.08)
    assert robust_ridge.attacked_risk(estimate, target, rng, consistent=False) > 1.1 * risk


def test_the_cubic_networks_gradient_is_that_of_the_logistic_loss(monkeypatch):
    """One step of descent without momentum, against autograd."""
    monkeypatch.setattr(momentum, "EVERY", 1)
    monkeypatch.setattr(momentum, "STEPS", 1)
    data = momentum.examples(20, 0.2, Generator().manual_seed(0))
    w = 0.3 * torch.randn(momentum.SEEDS, 4, momentum.D, generator=Generator().manual_seed(1))
    w.requires_grad_()
    margins = data.y * momentum.network(w, data.x)
    loss = torch.nn.functional.softplus(-margins).mean(1).sum()
    (gradient,) = torch.autograd.grad(loss, w)

    _, after = momentum.descend(w.detach(), data.x, data.y, 0.0, 0.1)
    torch.testing.assert_close(after, w.detach() - 0.1 * gradient, rtol=1e-4, atol=1e-6)
