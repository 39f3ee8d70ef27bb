"""The frame, and every fast experiment against its bands; formulas against a second way."""

import importlib
import math

import numpy as np
import pytest
import torch

from rlop.experiments import Measure, Outcome
from rlop.experiments.catalogue import SLOW, available
from rlop.types import InputError


def check(name):
    try:
        outcome = importlib.import_module(f"rlop.experiments.{name}").run()
    except InputError as error:
        if "supervised" not in str(error):
            raise
        pytest.skip(str(error))  # the digits come with an extra
    for label, (x, y) in outcome.curves.items():
        assert len(x) == len(y) > 0, label
        assert np.isfinite([*map(float, x), *map(float, y)]).all() or outcome.log, label
    assert all(math.isfinite(m.value) and m.low <= m.high and m.expected for m in outcome.measures)
    failed = [(m.name, m.value, m.low, m.high) for m in outcome.measures if not m.holds]
    assert outcome.measures
    assert outcome.report_only or not failed


@pytest.mark.parametrize("name", [name for name in available() if name not in SLOW])
def test_fast_experiments_hold_their_bands(name):
    check(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SLOW & set(available())))
def test_slow_experiments_hold_their_bands(name):
    check(name)


def test_a_band_is_closed_and_nan_is_outside():
    assert Measure("", 1.0, 1.0, 2.0, "").holds
    assert Measure("", 2.0, 1.0, 2.0, "").holds
    assert Measure("", 5.0, 1.0, math.inf, "").holds
    assert not Measure("", 0.999, 1.0, 2.0, "").holds
    assert not Measure("", math.nan, -math.inf, math.inf, "").holds


def test_a_verdict_needs_every_measure_and_at_least_one():
    good, bad = Measure("a", 1, 0, 2, ""), Measure("b", 3, 0, 2, "")
    assert Outcome((good,), {}).verdict == "reproduced"
    assert Outcome((good, bad), {}).verdict == "not reproduced"
    assert Outcome((), {}).verdict == "not reproduced"


def test_ridge_limit_solves_the_marchenko_pastur_equation():
    """m and m' against a large random matrix."""
    from rlop.experiments.robust_ridge import _stieltjes

    n, g, ridge = 1500, 0.5, 0.3
    x = np.random.default_rng(0).normal(size=(n, int(g * n)))
    eigenvalues = np.linalg.eigvalsh(x.T @ x / n)
    m, slope = _stieltjes(g, ridge)
    assert m == pytest.approx((1 / (eigenvalues + ridge)).mean(), rel=0.01)
    assert slope == pytest.approx((1 / (eigenvalues + ridge) ** 2).mean(), rel=0.02)


def test_ridge_limit_agrees_with_interpolation():
    from rlop.experiments.robust_ridge import closed_form, interpolation

    assert closed_form(3.0, 1e-9) == pytest.approx(interpolation(3.0), rel=1e-6)
    assert closed_form(3.0, 1e-9, epsilon=0.0) == pytest.approx(1 - 1 / 3, rel=1e-6)


def test_ridge_of_the_mirror_descent_is_the_minimiser():
    from rlop.experiments.mirror_descent import ridge

    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(5, 8)), rng.normal(size=5)
    w = ridge(x, y, 0.7)
    np.testing.assert_allclose(0.7 * x.T @ (x @ w - y) + w, 0, atol=1e-12)


def test_a_convolution_realises_what_the_network_computes():
    """beta . x against the network written as loops."""
    from rlop.experiments.linear_conv import realised

    generator = torch.Generator().manual_seed(0)
    kernels = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    output = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    x = torch.randn(5, generator=generator, dtype=torch.float64)
    value = sum(
        output[c, d] * kernels[c, k] * x[(d + k) % 5] / math.sqrt(5)
        for c in range(2)
        for d in range(5)
        for k in range(3)
    )
    torch.testing.assert_close(realised(kernels, output) @ x, value)


def test_abc_exponents_of_the_paper():
    from rlop.experiments.coordinate_check import PARAMETRIZATIONS

    assert {name: kind.r for name, kind in PARAMETRIZATIONS.items()} == {
        "muP": 0.0,
        "NTP": 0.5,
        "SP, lr / width": 0.5,
        "SP": -1.0,
    }


def test_stationary_variance_by_hand():
    """Without momentum v = (1 - eta h)^2 v + eta^2 sigma^2 h, so v = eta sigma^2 / (2 - eta h)."""
    from rlop.experiments.label_noise import formula, stationary

    assert formula(0.5, 0.0, eta=1.0, sigma=0.2) == pytest.approx(0.04 / 1.5)
    assert stationary(0.5, 0.0, eta=1.0, sigma=0.2) == pytest.approx(0.04 / 1.5)
    assert stationary(1.3, 0.6, eta=0.7, sigma=0.2) == pytest.approx(
        formula(1.3, 0.6, eta=0.7, sigma=0.2)
    )


def test_concatenated_pairs_by_hand():
    from rlop.experiments.concat_inputs import concatenated

    x, y = concatenated(np.array([[1.0], [2.0]]), np.array([10.0, 20.0]))
    np.testing.assert_array_equal(x, [[1, 1], [1, 2], [2, 1], [2, 2]])
    np.testing.assert_array_equal(y, [10, 15, 15, 20])


def test_projected_neural_td_stays_in_its_ball():
    from rlop.experiments.offpolicy_chain import NEURONS, neural_td, off_policy

    _, largest, _, moved = neural_td(off_policy(0), "max-norm", 1.5, 1.0, 300, 0)
    assert moved.max() <= 1.5 / math.sqrt(NEURONS) + 1e-12
    assert 0 < max(largest) <= 1.5


def test_least_variation_by_hand():
    """A hat, a line, and one kink at a data point."""
    from rlop.experiments import path_norm

    values = np.interp(np.linspace(-1, 1, path_norm.POINTS), [-1, 0, 1], [0, 1, 0])
    assert path_norm.least_variation(values) == pytest.approx(
        2.0, abs=0.3
    )  # the kink falls between two points
    assert path_norm.least_variation(np.linspace(0, 3, path_norm.POINTS)) == pytest.approx(
        0, abs=1e-12
    )
    kink = np.maximum(
        np.linspace(-1, 1, path_norm.POINTS) - np.linspace(-1, 1, path_norm.POINTS)[3], 0
    )
    assert path_norm.least_variation(3 * kink) == pytest.approx(3.0)


def test_tangent_features_agree_with_autograd():
    from rlop.experiments.lazy_kernel import jacobian

    rng = np.random.default_rng(0)
    a, w, x = rng.normal(size=4), rng.normal(size=(4, 3)), rng.normal(size=(2, 3))
    ta, tw = (torch.tensor(t, requires_grad=True) for t in (a, w))
    for row in range(2):
        out = torch.tanh(torch.tensor(x[row]) @ tw.T) @ ta / 2
        grads = torch.cat([g.flatten() for g in torch.autograd.grad(out, (ta, tw))])
        value, rows = jacobian(a, w, x)
        assert value[row] == pytest.approx(out.item())
        np.testing.assert_allclose(rows[row], grads.numpy(), atol=1e-12)


def test_alignment_of_known_layers():
    from rlop.experiments.aligned_layers import alignment, imbalance

    first, swap = np.diag([3.0, 1.0]), np.array([[0.0, 1.0], [1.0, 0.0]])
    assert alignment([first, first]) == pytest.approx(1)
    assert alignment([first, first @ swap]) == pytest.approx(
        0
    )  # its right singular vectors come in the other order
    assert imbalance([first, 2 * first]) == pytest.approx(3 * np.sqrt(82))
