"""Distributional losses against hand numbers, loops and closed forms in float64."""

import math

import numpy as np
import pytest
import torch

from rlop.losses import distributional as dist

F64 = torch.float64


def test_select_atoms_of_one_action_and_of_one_for_each():
    atoms = torch.arange(12.0).view(1, 2, 3, 2)  # [R, B, A, K]
    assert dist.select_atoms(atoms, torch.tensor([[2, 0]])).tolist() == [[[4, 5], [6, 7]]]
    assert dist.select_atoms(atoms, torch.tensor([[[2, 0], [0, 1]]])).tolist() == [[[4, 1], [6, 9]]]
    with pytest.raises(ValueError, match="expected"):
        dist.select_atoms(atoms, torch.zeros(1, 3, dtype=torch.int64))


def test_convex_weights_sum_to_one_in_every_column():
    weights = dist.convex_weights(torch.rand(2, 5, 3, dtype=F64))
    torch.testing.assert_close(weights.sum(1), torch.ones(2, 3, dtype=F64))
    assert (weights >= 0).all()


def test_quantile_huber_by_hand():
    # K = 2, tau = 1/4, 3/4; u = particle - quantile
    quantiles, particles = torch.tensor([0.0, 1.0]), torch.tensor([0.5, 3.0])
    # i = 0: u =  .5 -> .25 * .125;       u = 3 -> .25 * 2.5
    # i = 1: u = -.5 -> |.75 - 1| * .125; u = 2 -> .75 * 1.5
    expected = (0.25 * 0.125 + 0.25 * 2.5) / 2 + (0.25 * 0.125 + 0.75 * 1.5) / 2
    assert dist.quantile_huber(quantiles, particles).item() == pytest.approx(expected)


def test_quantile_huber_is_smallest_at_the_quantiles():
    sample = torch.randn(4001, dtype=F64, generator=torch.Generator().manual_seed(0))
    quantiles = torch.zeros(4, dtype=F64, requires_grad=True)
    for _ in range(300):
        (g,) = torch.autograd.grad(dist.quantile_huber(quantiles, sample, kappa=1e-3), quantiles)
        quantiles.data -= 0.3 * g
    exact = torch.quantile(sample, torch.tensor([0.125, 0.375, 0.625, 0.875], dtype=F64))
    torch.testing.assert_close(quantiles.detach(), exact, atol=0.03, rtol=0)


def categorical_by_loop(particles, weights, low, high, n):
    """Algorithm 1 of the paper, literally."""
    m, delta = np.zeros(n), (high - low) / (n - 1)
    for value, p in zip(particles, weights, strict=True):
        b = (np.clip(value, low, high) - low) / delta
        lower, upper = math.floor(b), math.ceil(b)
        if lower == upper:
            m[lower] += p
        else:
            m[lower] += p * (upper - b)
            m[upper] += p * (b - lower)
    return m


def test_projection_equals_the_papers_loop_and_keeps_the_mean():
    rng = np.random.default_rng(0)
    particles, weights = rng.uniform(-3, 3, (6, 9)), rng.dirichlet(np.ones(9), 6)
    particles[0, :3] = (-2.0, 0.5, 2.0)  # on atoms and at the ends
    found = dist.project_categorical(
        torch.tensor(particles), torch.tensor(weights), -2.0, 2.0, 9
    ).numpy()
    for row, values, p in zip(found, particles, weights, strict=True):
        np.testing.assert_allclose(row, categorical_by_loop(values, p, -2, 2, 9), atol=1e-12)
    np.testing.assert_allclose(
        found @ np.linspace(-2, 2, 9), (np.clip(particles, -2, 2) * weights).sum(1), atol=1e-12
    )


def test_hl_gauss_against_the_normal_distribution_function():
    stats = pytest.importorskip("scipy.stats")
    y, low, high, n, sigma = 0.3, -1.0, 2.0, 12, 0.75
    edges, scale = np.linspace(low, high, n + 1), sigma * (high - low) / n
    p = np.diff(stats.norm.cdf(edges, y, scale))
    found = dist.hl_gauss(torch.tensor(y, dtype=F64), low, high, n, sigma).numpy()
    np.testing.assert_allclose(found, p / p.sum(), rtol=1e-9, atol=1e-15)
    centers = dist.bin_centers(low, high, n, torch.zeros((), dtype=F64)).numpy()
    np.testing.assert_allclose(centers, (edges[1:] + edges[:-1]) / 2, rtol=1e-12)
    assert found @ centers == pytest.approx(y, abs=1e-3)


def test_hl_gauss_beyond_the_range_is_that_of_its_end():
    inside, beyond = dist.hl_gauss(torch.tensor([2.0, 50.0]), -2.0, 2.0, 8, 0.75)
    torch.testing.assert_close(inside, beyond)
    assert beyond.sum().item() == pytest.approx(1)


def test_cross_entropy_is_torchs():
    logits, p = torch.randn(3, 5, dtype=F64), torch.rand(3, 5, dtype=F64)
    p /= p.sum(-1, keepdim=True)
    expected = torch.nn.functional.cross_entropy(logits, p, reduction="none")
    torch.testing.assert_close(dist.cross_entropy(logits, p), expected)


@pytest.mark.parametrize(
    "call",
    [
        lambda: dist.quantile_huber(torch.zeros(2, 3), torch.zeros(3, 3)),
        lambda: dist.project_categorical(torch.zeros(2, 3), torch.zeros(2, 1), 0, 1, 4),
        lambda: dist.project_categorical(torch.zeros(2, 3), torch.zeros(2, 3), 0, 1, 1),
        lambda: dist.cross_entropy(torch.zeros(2, 3), torch.zeros(3)),
    ],
)
def test_shapes_that_would_broadcast_are_refused(call):
    with pytest.raises(ValueError, match=r"fit|expected|differ"):
        call()
