"""Prediction bands by the semidefinite program, against numbers worked by hand."""

import sys

import numpy as np
import pytest

from rlop.experiments import prediction_bands
from rlop.experiments.prediction_bands import Data, certificate, fit_band, legendre
from rlop.types import InputError

LINE = Data(np.linspace(-1, 1, 30), np.where(np.arange(30) % 2 == 0, 0.5, -0.5))


def test_a_band_around_0_of_equal_residuals_is_the_least_trace_that_covers_them():
    pytest.importorskip("cvxpy")
    band = fit_band(LINE, np.zeros(6))
    width = band.half_width(LINE.x)
    assert (width >= 0.5 - 1e-3).all()
    # A constant band has trace .25; this one may bend, and still has to cover the point at 0.
    assert np.trace(band.spread) <= 0.25 + 1e-4
    assert band.certificate == pytest.approx(1, abs=1e-3)


def test_the_program_finds_a_model_that_leaves_no_residual():
    pytest.importorskip("cvxpy")
    x = LINE.x
    band = fit_band(Data(x, 1 + 2 * x - x**3), None)
    assert np.trace(band.spread) == pytest.approx(0, abs=1e-4)
    assert band.center(x) == pytest.approx(1 + 2 * x - x**3, abs=1e-2)


def test_the_certificate_of_one_point_is_its_squared_residual_over_the_norm_of_its_terms():
    p = legendre(np.zeros(1), 3)  # 1, 0, -sqrt(5) / 2: squared norm 2.25
    assert certificate(p, np.array([9.0]), np.array([7.0])) == pytest.approx(4)


def test_without_the_solver_one_line_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "cvxpy", None)
    with pytest.raises(InputError, match=r"rlop\[bands\]"):
        fit_band(LINE, None)


def test_legendre_terms_are_orthonormal_under_the_law_of_the_inputs():
    x = (np.arange(20_000) + 0.5) / 10_000 - 1
    terms = legendre(x, 4)
    assert terms.T @ terms / len(x) == pytest.approx(np.eye(4), abs=1e-6)


def test_coverage_counts_the_points_inside():
    band = prediction_bands.Band(np.zeros(1), np.ones((1, 1)), 1.0)
    assert band.coverage(Data(np.zeros(4), np.array([-2.0, 0, 0.5, 1.5]))) == 0.5
