"""Kernels and their risk estimators: closed forms, Gaussian ridge regression, NumPy twins."""

import numpy as np
import pytest
import torch
from helpers.probes import gaussian, rotation
from torch import nn

from rlop.probes import (
    kare,
    kernel_change,
    last_layer_gram,
    min_eigenvalue,
    ntk,
    predicted_risk,
    seem_eigenvalue,
    signal_capture_threshold,
    value_function,
)

# --- Gram matrices ---


def test_tangent_kernel_of_a_linear_network_is_the_gram_matrix_of_its_input():
    net = nn.Linear(4, 1, bias=False).double()
    x = gaussian(5, 4)
    kernel = ntk(value_function(net, x), dict(net.named_parameters()))
    torch.testing.assert_close(kernel, x @ x.mT)


def test_last_layer_gram_is_the_heads_part_of_the_tangent_kernel():
    torch.manual_seed(0)
    torso = nn.Sequential(nn.Linear(4, 6), nn.ReLU()).double()
    head = nn.Linear(6, 3).double()
    x = gaussian(7, 4)
    action = torch.tensor([0, 1, 2, 0, 1, 2, 0])
    values = value_function(nn.Sequential(torso, head), x, action)
    fixed = {
        "0.0.weight": torso[0].weight,
        "0.0.bias": torso[0].bias,
        "1.bias": head.bias,
    }

    kernel = ntk(lambda p: values({**fixed, **p}), {"1.weight": head.weight})
    torch.testing.assert_close(last_layer_gram(torso(x), action), kernel)
    assert (kernel == 0).any()  # different actions

    phi = torso(x).detach()
    torch.testing.assert_close(last_layer_gram(phi), phi @ phi.mT)


def test_stacked_networks_have_the_kernel_of_each():
    w = gaussian(3, 6, 4)
    x = gaussian(3, 5, 4, seed=1)

    def values_at(x):
        return lambda p: torch.tanh(x @ p["w"].mT).sum(-1)

    together = ntk(values_at(x), {"w": w})
    for run in range(3):
        alone = ntk(values_at(x[run]), {"w": w[run]})
        torch.testing.assert_close(together[run], alone)


def test_minimum_eigenvalue_and_change():
    basis = rotation(4)
    eigenvalues = torch.tensor([5.0, 3.0, 2.0, 0.5], dtype=torch.float64)
    kernel = basis * eigenvalues @ basis.mT
    assert min_eigenvalue(kernel).item() == pytest.approx(0.5, rel=1e-12)
    assert kernel_change(kernel, kernel) == 0
    assert kernel_change(3 * kernel, kernel).item() == pytest.approx(2, rel=1e-12)
    assert kernel_change(kernel, 0 * kernel).isinf()

    broken = torch.stack([kernel, torch.full_like(kernel, torch.nan)])
    assert min_eigenvalue(broken).isnan().tolist() == [False, True]
    assert kernel_change(broken, kernel.expand(2, 4, 4)).isnan().tolist() == [False, True]


# --- SEEM ---


@pytest.mark.parametrize(
    ("scale", "factor", "extreme"),
    [(0.5, -0.55, 0), (2, 0.8, -1)],
)
def test_seem_of_parallel_next_gradients_in_closed_form(scale, factor, extreme):
    # b_i = c a_i: gamma c K - K, whose largest eigenvalue is (gamma c - 1) times an extreme of K.
    a = gaussian(4, 9)
    kernel = a @ a.mT
    eigenvalue = torch.linalg.eigvalsh(kernel)[extreme].item()
    largest = seem_eigenvalue(kernel, scale * kernel, 0.9, normalize=False)
    assert largest.item() == pytest.approx(factor * eigenvalue, rel=1e-9)


def test_normalized_seem_does_not_see_the_scale():
    a = gaussian(4, 9)
    kernel = a @ a.mT
    eigenvalues = torch.linalg.eigvalsh(kernel)
    expected = (eigenvalues[-1] / eigenvalues.norm()).item()
    assert seem_eigenvalue(kernel, 2 * kernel, 0.9).item() == pytest.approx(expected, rel=1e-9)
    scaled = seem_eigenvalue(1e3 * kernel, 2e3 * kernel, 0.9)
    assert scaled.item() == pytest.approx(expected, rel=1e-9)


def test_seem_is_that_of_the_matrix_of_next_rows_by_rows():
    a = gaussian(5, 9)
    b = gaussian(5, 9, seed=1)
    matrix = 0.9 * (b @ a.mT).numpy() - (a @ a.mT).numpy()
    expected = np.linalg.eigvals(matrix).real.max() / np.linalg.norm(matrix)
    assert seem_eigenvalue(a @ a.mT, a @ b.mT, 0.9).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("scale", "diverges"), [(0.5, False), (1.5, True)])
def test_the_sign_of_seem_tells_whether_linear_td_diverges(scale, diverges):
    gamma = 0.9
    a = gaussian(4, 20)
    b = scale * a + 0.05 * gaussian(4, 20, seed=1)
    theta = gaussian(20, seed=2)
    for _ in range(3000):
        error = (a - gamma * b) @ theta
        theta = theta - 1e-3 * a.mT @ error
    assert ((a @ theta).norm() > 10) == diverges
    assert (seem_eigenvalue(a @ a.mT, a @ b.mT, gamma) > 0) == diverges


def test_seem_of_runs_with_their_own_discount():
    a = gaussian(3, 4, 9)
    b = gaussian(3, 4, 9, seed=1)
    data = a @ a.mT
    cross = a @ b.mT
    gammas = [0.9, 0.5, 0.0]
    together = seem_eigenvalue(data, cross, torch.tensor(gammas))
    for run, gamma in enumerate(gammas):
        alone = seem_eigenvalue(data[run], cross[run], gamma)
        torch.testing.assert_close(together[run], alone)


# --- risk ---


def ridge_problem(n, d, noise, seed):
    """Gaussian rows with variances t_k = 1/k, a linear target and its noise.

    Returns: spectrum t, coefficients c in the orthonormal basis x_k / sqrt(t_k), rows, targets.
    """
    t = 1 / torch.arange(1, d + 1, dtype=torch.float64)
    c = gaussian(d, seed=1000) / d**0.5
    orthonormal = gaussian(n, d, seed=seed)
    target = orthonormal @ c + noise * gaussian(n, seed=seed + 1)
    return t, c, orthonormal * t.sqrt(), target


def true_risk(rows, target, t, c, ridge, noise):
    """Test error of ridge regression, from its weights."""
    n = len(rows)
    kernel = rows @ rows.mT
    shift = n * ridge * torch.eye(n, dtype=rows.dtype)
    weights = rows.mT @ torch.linalg.solve(kernel + shift, target)
    return (weights * t.sqrt() - c).square().sum() + noise**2


@pytest.mark.parametrize("ridge", [0.001, 0.01, 0.1])
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_kare_and_the_prediction_are_the_risk_of_gaussian_ridge_regression(ridge, noise):
    n = 300
    estimates = []
    risks = []
    for seed in range(0, 40, 2):
        t, c, rows, target = ridge_problem(n, 200, noise, seed)
        estimates.append(kare(rows @ rows.mT, target, ridge))
        risks.append(true_risk(rows, target, t, c, ridge, noise))

    risk = torch.stack(risks).mean().item()
    assert torch.stack(estimates).mean().item() == pytest.approx(risk, rel=0.05)
    assert predicted_risk(t, c, n, ridge, noise).item() == pytest.approx(risk, rel=0.03)


def test_kare_is_its_formula():
    rows = gaussian(6, 8)
    target = gaussian(6, seed=1)
    kernel = rows @ rows.mT
    inverse = np.linalg.inv(kernel.numpy() / 6 + 0.2 * np.eye(6))
    y = target.numpy()
    expected = (y @ inverse @ inverse @ y / 6) / (np.trace(inverse) / 6) ** 2

    assert kare(kernel, target, 0.2).item() == pytest.approx(expected, rel=1e-10)
    # Kernel and ridge scaled together change nothing; without a kernel nothing is learned.
    assert kare(5 * kernel, target, 1.0).item() == pytest.approx(expected, rel=1e-10)
    assert kare(0 * kernel, target, 0.2).item() == pytest.approx((y**2).mean(), rel=1e-10)


def test_kare_of_runs_and_of_a_broken_one():
    rows = gaussian(3, 6, 8)
    target = gaussian(3, 6, seed=1)
    kernel = rows @ rows.mT
    ridges = [0.1, 0.2, 0.3]
    together = kare(kernel, target, torch.tensor(ridges))
    for run, ridge in enumerate(ridges):
        alone = kare(kernel[run], target[run], ridge)
        torch.testing.assert_close(together[run], alone, rtol=1e-6, atol=0)

    kernel[1] = torch.nan
    target[2, 0] = torch.inf
    broken = kare(kernel, target, torch.tensor(ridges))
    assert broken.isnan().tolist() == [False, True, True]


def test_threshold_of_a_flat_spectrum_in_closed_form():
    # k equal eigenvalues t: theta^2 + theta (t (1 - k/n) - ridge) - ridge t = 0
    t, k, n, ridge = 2.0, 30, 20, 0.1
    b = t * (1 - k / n) - ridge
    expected = (-b + (b * b + 4 * ridge * t) ** 0.5) / 2
    theta = signal_capture_threshold(torch.full((k,), t), n, ridge)
    assert theta.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("ridge", [1e-8, 1e-3, 10.0])
def test_threshold_meets_its_equation(ridge):
    decaying = 1 / torch.arange(1.0, 51) ** 2
    linear = torch.linspace(0, 1, 50)
    t = torch.stack([decaying, linear]).double()
    theta = signal_capture_threshold(t, 20, ridge)

    share = t / (t + theta.unsqueeze(-1))
    torch.testing.assert_close(ridge + theta / 20 * share.sum(-1), theta, rtol=1e-10, atol=0)
    assert (theta >= ridge).all()


def test_shapes_and_ridges_are_checked():
    kernel = torch.eye(3)
    with pytest.raises(ValueError, match="ridge = 0: expected > 0"):
        kare(kernel, torch.ones(3), 0)
    with pytest.raises(ValueError, match="target"):
        kare(kernel, torch.ones(4), 0.1)
    with pytest.raises(ValueError, match="square"):
        min_eigenvalue(torch.ones(3, 2))
    with pytest.raises(ValueError, match="initial"):
        kernel_change(kernel, torch.eye(2))
    with pytest.raises(ValueError, match="action"):
        last_layer_gram(torch.ones(3, 2), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="features"):
        last_layer_gram(torch.ones(3))
