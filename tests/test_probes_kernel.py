"""Kernels and their risk estimators: closed forms, Gaussian ridge regression, NumPy twins."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

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


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- Gram matrices ---


def test_tangent_kernel_of_a_linear_network_is_the_gram_matrix_of_its_input() -> None:
    net = nn.Linear(4, 1, bias=False).double()
    x = gaussian(5, 4)
    torch.testing.assert_close(ntk(value_function(net, x), dict(net.named_parameters())), x @ x.mT)


def test_last_layer_gram_is_the_heads_part_of_the_tangent_kernel() -> None:
    torch.manual_seed(0)
    torso, head = nn.Sequential(nn.Linear(4, 6), nn.ReLU()).double(), nn.Linear(6, 3).double()
    net, x, action = nn.Sequential(torso, head), gaussian(7, 4), torch.tensor([0, 1, 2, 0, 1, 2, 0])
    weight = {"1.weight": head.weight}
    values = value_function(net, x, action)
    others = {name: p for name, p in net.named_parameters() if name not in weight}
    found = ntk(lambda p: values({**others, **p}), weight)
    torch.testing.assert_close(last_layer_gram(torso(x), action), found)
    assert (found == 0).any()  # different actions
    torch.testing.assert_close(last_layer_gram(torso(x)), (torso(x) @ torso(x).mT).detach())


def test_stacked_networks_have_the_kernel_of_each() -> None:
    w, x = gaussian(3, 6, 4), gaussian(3, 5, 4, seed=1)

    def values(p: dict[str, Tensor]) -> Tensor:
        return torch.tanh(x @ p["w"].mT).sum(-1)

    many = ntk(values, {"w": w})
    for i in range(3):
        alone = ntk(lambda p, i=i: torch.tanh(x[i] @ p["w"].mT).sum(-1), {"w": w[i]})
        torch.testing.assert_close(many[i], alone)


def test_minimum_eigenvalue_and_change() -> None:
    q = torch.linalg.qr(gaussian(4, 4)).Q
    k = q @ torch.diag(torch.tensor([5.0, 3.0, 2.0, 0.5], dtype=torch.float64)) @ q.mT
    assert min_eigenvalue(k).item() == pytest.approx(0.5, rel=1e-12)
    assert kernel_change(k, k) == 0
    assert kernel_change(3 * k, k).item() == pytest.approx(2, rel=1e-12)
    assert kernel_change(k, 0 * k).isinf()
    broken = torch.stack([k, k.clone().fill_(torch.nan)])
    assert min_eigenvalue(broken).isnan().tolist() == [False, True]
    assert kernel_change(broken, torch.stack([k, k])).isnan().tolist() == [False, True]


# --- SEEM ---


def test_seem_of_parallel_next_gradients_in_closed_form() -> None:
    a = gaussian(4, 9)
    k = a @ a.mT
    # b_i = c a_i: gamma c K - K, whose largest eigenvalue is (gamma c - 1) times an extreme one of K
    eigenvalues = torch.linalg.eigvalsh(k)
    assert seem_eigenvalue(k, 0.5 * k, 0.9, normalize=False).item() == pytest.approx(
        -0.55 * eigenvalues[0].item(), rel=1e-9
    )
    assert seem_eigenvalue(k, 2 * k, 0.9, normalize=False).item() == pytest.approx(
        0.8 * eigenvalues[-1].item(), rel=1e-9
    )
    normalized = seem_eigenvalue(k, 2 * k, 0.9).item()
    assert normalized == pytest.approx(
        (eigenvalues[-1] / eigenvalues.square().sum().sqrt()).item(), rel=1e-9
    )
    assert seem_eigenvalue(1e3 * k, 2e3 * k, 0.9).item() == pytest.approx(normalized, rel=1e-9)


def test_seem_is_that_of_the_matrix_of_next_rows_by_rows() -> None:
    a, b = gaussian(5, 9), gaussian(5, 9, seed=1)
    matrix = 0.9 * (b @ a.mT).numpy() - (a @ a.mT).numpy()
    expected = np.linalg.eigvals(matrix).real.max() / np.linalg.norm(matrix)
    assert seem_eigenvalue(a @ a.mT, a @ b.mT, 0.9).item() == pytest.approx(expected, rel=1e-9)


def test_the_sign_of_seem_tells_whether_linear_td_diverges() -> None:
    a, gamma, eta = gaussian(4, 20), 0.9, 1e-3
    for scale, diverges in ((0.5, False), (1.5, True)):
        b = scale * a + 0.05 * gaussian(4, 20, seed=1)
        theta = gaussian(20, seed=2)
        for _ in range(3000):
            theta = theta - eta * a.mT @ ((a - gamma * b) @ theta)
        assert bool((a @ theta).norm() > 10) is diverges
        assert bool(seem_eigenvalue(a @ a.mT, a @ b.mT, gamma) > 0) is diverges


def test_seem_of_runs_with_their_own_discount() -> None:
    a, b = gaussian(3, 4, 9), gaussian(3, 4, 9, seed=1)
    gamma = torch.tensor([0.9, 0.5, 0.0])
    many = seem_eigenvalue(a @ a.mT, a @ b.mT, gamma)
    for i in range(3):
        torch.testing.assert_close(
            many[i], seem_eigenvalue(a[i] @ a[i].mT, a[i] @ b[i].mT, gamma[i].item())
        )


# --- risk ---


def ridge_problem(n: int, d: int, noise: float, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gaussian rows with variances 1/k, a linear target and its noise: spectrum, coefficients, rows, targets."""
    t = 1 / torch.arange(1, d + 1, dtype=torch.float64)
    c = gaussian(d, seed=1000) / d**0.5  # of the target in the orthonormal basis x_k / sqrt(t_k)
    g = gaussian(n, d, seed=seed)
    return t, c, g * t.sqrt(), g @ c + noise * gaussian(n, seed=seed + 1)


def risk(rows: Tensor, target: Tensor, t: Tensor, c: Tensor, ridge: float, noise: float) -> Tensor:
    """True test error of ridge regression, from its weights."""
    n = len(rows)
    w = rows.mT @ torch.linalg.solve(
        rows @ rows.mT + n * ridge * torch.eye(n, dtype=rows.dtype), target
    )
    return (w * t.sqrt() - c).square().sum() + noise**2


@pytest.mark.parametrize("ridge", [0.001, 0.01, 0.1])
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_kare_and_the_prediction_are_the_risk_of_gaussian_ridge_regression(
    ridge: float, noise: float
) -> None:
    n, d, found, true = 300, 200, [], []
    for seed in range(0, 40, 2):
        t, c, rows, y = ridge_problem(n, d, noise, seed)
        found.append(kare(rows @ rows.mT, y, ridge))
        true.append(risk(rows, y, t, c, ridge, noise))
    mean = torch.stack(true).mean()
    assert (torch.stack(found).mean() / mean).item() == pytest.approx(1, abs=0.05)
    assert (predicted_risk(t, c, n, ridge, noise) / mean).item() == pytest.approx(1, abs=0.03)


def test_kare_is_its_formula() -> None:
    g, y = gaussian(6, 8), gaussian(6, seed=1)
    k = (g @ g.mT).numpy()
    inverse = np.linalg.inv(k / 6 + 0.2 * np.eye(6))
    expected = (y.numpy() @ inverse @ inverse @ y.numpy() / 6) / (np.trace(inverse) / 6) ** 2
    assert kare(g @ g.mT, y, 0.2).item() == pytest.approx(expected, rel=1e-10)
    assert kare(5 * g @ g.mT, y, 1.0).item() == pytest.approx(
        expected, rel=1e-10
    )  # kernel and ridge scaled together
    assert kare(0 * g @ g.mT, y, 0.2).item() == pytest.approx(y.square().mean().item(), rel=1e-10)


def test_kare_of_runs_and_of_a_broken_one() -> None:
    g, y = gaussian(3, 6, 8), gaussian(3, 6, seed=1)
    k, ridge = g @ g.mT, torch.tensor([0.1, 0.2, 0.3])
    many = kare(k, y, ridge)
    for i in range(3):
        torch.testing.assert_close(many[i], kare(k[i], y[i], ridge[i].item()), rtol=1e-6, atol=0)
    k[1] = torch.nan
    y[2, 0] = torch.inf
    assert kare(k, y, ridge).isnan().tolist() == [False, True, True]


def test_threshold_of_a_flat_spectrum_in_closed_form() -> None:
    # k equal eigenvalues t: theta^2 + theta (t (1 - k/n) - ridge) - ridge t = 0
    t, k, n, ridge = 2.0, 30, 20, 0.1
    b = t * (1 - k / n) - ridge
    expected = (-b + (b * b + 4 * ridge * t) ** 0.5) / 2
    found = signal_capture_threshold(torch.full((k,), t), n, ridge)
    assert found.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("ridge", [1e-8, 1e-3, 10.0])
def test_threshold_meets_its_equation(ridge: float) -> None:
    t = torch.stack([1 / torch.arange(1.0, 51) ** 2, torch.linspace(0, 1, 50)]).double()
    theta = signal_capture_threshold(t, 20, ridge)
    again = ridge + theta / 20 * (t / (t + theta.unsqueeze(-1))).sum(-1)
    torch.testing.assert_close(again, theta, rtol=1e-10, atol=0)
    assert (theta >= ridge).all()


def test_errors() -> None:
    k = torch.eye(3)
    with pytest.raises(ValueError, match="ridge = 0: expected > 0"):
        kare(k, torch.ones(3), 0)
    with pytest.raises(ValueError, match="target"):
        kare(k, torch.ones(4), 0.1)
    with pytest.raises(ValueError, match="square"):
        min_eigenvalue(torch.ones(3, 2))
    with pytest.raises(ValueError, match="initial"):
        kernel_change(k, torch.eye(2))
    with pytest.raises(ValueError, match="action"):
        last_layer_gram(torch.ones(3, 2), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="features"):
        last_layer_gram(torch.ones(3))
