"""Ranks against spectra and numbers worked by hand, NumPy twins, and invariances."""

import math

import numpy as np
import pytest
import torch
from helpers.probes import gaussian, rotation, spectrum, with_spectrum
from hypothesis import given, settings
from hypothesis import strategies as st

import rlop
import rlop.probes
from rlop.probes import (
    effective_rank,
    lyle_rank,
    participation_ratio,
    pca_rank,
    rank_measures,
    singular_values,
    srank,
    stable_rank,
)

CONTINUOUS = {
    "effective_rank": effective_rank,
    "stable_rank": stable_rank,
    "participation_ratio": participation_ratio,
}
COUNTS = ["srank", "pca_rank", "feature_rank", "feature_rank_unscaled"]
RANKS = [
    "srank",
    "effective_rank",
    "stable_rank",
    "pca_rank",
    "feature_rank",
    "feature_rank_unscaled",
    "participation_ratio",
]


# --- numbers by hand ---


def test_measures_of_3_2_1():
    s = spectrum(3, 2, 1)

    # Shares of the sum: 1/2, 5/6, 1; of the squared sum: 9/14, 13/14, 1.
    assert srank(s, delta=0.5) == 1
    assert srank(s, delta=0.2) == 2
    assert srank(s, delta=0.01) == 3
    assert pca_rank(s, threshold=0.6) == 1
    assert pca_rank(s, threshold=0.9) == 2
    assert pca_rank(s) == 3

    # exp(H(1/2, 1/3, 1/6)) = 2^(1/2) 3^(1/3) 6^(1/6)
    entropy_rank = 2**0.5 * 3 ** (1 / 3) * 6 ** (1 / 6)
    assert effective_rank(s).item() == pytest.approx(entropy_rank, rel=1e-12)
    assert stable_rank(s).item() == pytest.approx(14 / 9, rel=1e-12)
    assert participation_ratio(s).item() == pytest.approx(14**2 / (81 + 16 + 1), rel=1e-12)


@pytest.mark.parametrize(
    ("n", "eps", "normalize", "expected"),
    [
        (100, 0.01, True, 2),  # 0.05 / 10 = 0.005
        (100, 0.01, False, 3),
        (4, 1.0, True, 1),  # 3/2 is above 1, 2/2 is not
    ],
)
def test_lyle_rank_counts_values_over_root_n_above_eps(n, eps, normalize, expected):
    assert lyle_rank(spectrum(3, 2, 0.05), n, eps, normalize) == expected


@pytest.mark.parametrize(
    ("values", "delta", "expected"),
    [
        ((99.0, 1.0), 0.01, 1),
        ((0.99, 0.01), 0.01, 1),
        ((98.99, 1.01), 0.01, 2),
        ((1.0,) * 10, 0.3, 7),
    ],
)
def test_srank_at_exact_thresholds(values, delta, expected):
    s = spectrum(*values)
    assert srank(s, delta) == expected
    through_gram_matrix = singular_values(with_spectrum(s, 24, 12))
    assert srank(through_gram_matrix, delta) == expected


def test_an_all_zero_spectrum_has_rank_zero():
    for name, value in rank_measures(torch.zeros(8, 3)).items():
        assert value == 0, name


@pytest.mark.parametrize("d", [1, 5, 16])
def test_the_identity_has_full_rank(d):
    measures = rank_measures(torch.eye(d), delta=0.01)
    for name in RANKS:
        assert measures[name].item() == pytest.approx(d, rel=1e-9), name


@pytest.mark.parametrize("r", [1, 2, 4])
def test_a_product_of_thin_matrices_has_its_inner_dimension_as_rank(r):
    features = gaussian(64, r) @ gaussian(r, 10, seed=1)
    measures = rank_measures(features, delta=1e-4, threshold=0.9999)
    for name in COUNTS:
        assert measures[name] == r, name
    for name in CONTINUOUS:
        assert 1 - 1e-9 <= measures[name] <= r + 1e-9, name


# --- large features: absolute threshold, relative floor ---


@pytest.mark.parametrize("size", [1e2, 1e5, 1e7])
@pytest.mark.parametrize("shape", [(200, 30), (20, 60)])
def test_lyle_rank_of_large_features_is_that_of_an_svd(size, shape):
    n, d = shape
    common = size * torch.ones(n, 1).double() * gaussian(1, d, seed=1)
    features = common + 0.1 * gaussian(n, d)
    s = np.linalg.svd(features.numpy(), compute_uv=False)

    measures = rank_measures(features)
    assert measures["feature_rank"] == (s / math.sqrt(n) > 0.01).sum()
    assert measures["feature_rank"] > 1
    assert measures["feature_rank_unscaled"] == (s > 0.01).sum()
    assert lyle_rank(singular_values(features, resolve=0.01), n) == measures["feature_rank"]


def test_resolving_one_run_leaves_the_others_bit_for_bit():
    features = gaussian(3, 50, 8)
    features[1] += 1e7
    plain = singular_values(features)
    resolved = singular_values(features, resolve=0.01)
    assert torch.equal(resolved[[0, 2]], plain[[0, 2]])
    assert (plain[1] > 0).sum() < 8
    assert (resolved[1] > 0).all()


@pytest.mark.parametrize("size", [1e9, 1e13, 1e20])
def test_rounding_is_no_rank_however_large_the_features(size):
    features = size * (gaussian(64, 3) @ gaussian(3, 16, seed=1))
    assert rank_measures(features)["feature_rank"] == 3
    assert lyle_rank(singular_values(features), 64) == 3
    assert effective_rank(singular_values(features)) <= 3


# --- invariances and twins ---


@settings(max_examples=25, deadline=None)
@given(
    values=st.lists(st.floats(0.01, 100), min_size=1, max_size=6),
    scale=st.floats(1e-3, 1e3),
    seed=st.integers(0, 100),
)
def test_scale_and_rotation_invariance(values, scale, seed):
    s = spectrum(*sorted(values, reverse=True))
    rotated = singular_values(with_spectrum(s, 9, 6) @ rotation(6, seed))
    for name, rank in CONTINUOUS.items():
        expected = rank(s).item()
        assert 1 - 1e-9 <= expected <= len(values) + 1e-9, name
        assert rank(rotated).item() == pytest.approx(expected, rel=1e-6), name
        assert rank(scale * s).item() == pytest.approx(expected, rel=1e-9), name

    assert srank(scale * s) == srank(s)
    assert pca_rank(scale * s) == pca_rank(s)
    assert pca_rank(s, 0.9) <= srank(s, 0.1)


def test_lyle_rank_sees_scale_but_not_repeated_rows():
    features = with_spectrum(spectrum(3, 2, 1), 20, 5)
    assert rank_measures(features, eps=0.3)["feature_rank"] == 2
    assert rank_measures(0.01 * features, eps=0.3)["feature_rank"] == 0

    repeated = rank_measures(features.repeat(50, 1), eps=0.3)
    assert repeated["feature_rank"] == 2
    assert repeated["feature_rank_unscaled"] == 3


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("shape", [(40, 7), (7, 40), (9, 9)])
def test_singular_values_agree_with_numpy(shape, center):
    features = gaussian(*shape).relu().float()
    x = features.double().numpy()
    if center:
        x = x - x.mean(0)
    expected = np.linalg.svd(x, compute_uv=False)

    s = singular_values(features, center)
    assert s.shape == (min(shape),)
    assert s.dtype == torch.float64
    # sigma comes from sigma^2, so its absolute accuracy is sqrt(eps) sigma_1.
    np.testing.assert_allclose(s.numpy(), expected, atol=1e-6 * expected[0])
    np.testing.assert_allclose(s.numpy()[:5], expected[:5], rtol=1e-10)


def test_every_measure_agrees_with_a_numpy_twin():
    features = gaussian(60, 12).relu() * torch.logspace(0, -4, 12, dtype=torch.float64)
    s = np.linalg.svd(features.numpy(), compute_uv=False)
    squares = s**2
    p = s / s.sum()
    expected = {
        "srank": np.searchsorted(np.cumsum(s), 0.99 * s.sum()) + 1,
        "effective_rank": np.exp(-(p * np.log(p)).sum()),
        "stable_rank": squares.sum() / squares[0],
        "pca_rank": np.searchsorted(np.cumsum(squares), 0.99 * squares.sum()) + 1,
        "feature_rank": (s / np.sqrt(60) > 0.01).sum(),
        "feature_rank_unscaled": (s > 0.01).sum(),
        "participation_ratio": squares.sum() ** 2 / (squares**2).sum(),
    }
    measures = rank_measures(features)
    assert list(measures) == RANKS
    for name, value in expected.items():
        assert measures[name].item() == pytest.approx(value, rel=1e-8), name


@pytest.mark.parametrize("shape", [(3, 20, 6), (2, 3, 20, 6), (3, 4, 6)])
def test_batch_axes_equal_a_loop(shape):
    features = gaussian(*shape)
    together = rank_measures(features)
    for index in np.ndindex(shape[:-2]):
        for name, value in rank_measures(features[index]).items():
            assert together[name].shape == shape[:-2]
            assert together[name][index].item() == pytest.approx(value.item(), rel=1e-9), name


def test_ranks_of_a_spectrum_that_is_nan_are_nan():
    s = torch.full((4,), math.nan, dtype=torch.float64)
    for rank in (srank, pca_rank, *CONTINUOUS.values()):
        assert rank(s).isnan(), rank
    assert lyle_rank(s, n=3).isnan()


# --- names and errors ---


def test_the_old_name_means_what_it_meant_in_each_place_and_names_the_new_one():
    with pytest.warns(DeprecationWarning, match=r"rlop\.rank_measures"):
        assert rlop.feature_rank is rlop.rank_measures is rank_measures
    with pytest.warns(DeprecationWarning, match=r"rlop\.probes\.lyle_rank"):
        assert rlop.probes.feature_rank is lyle_rank
    assert "feature_rank" not in rlop.__all__ + rlop.probes.__all__
    with pytest.raises(AttributeError, match="feature_runk"):
        _ = rlop.probes.feature_runk


def test_rank_arguments_are_checked():
    with pytest.raises(ValueError, match=r"expected a non-empty \[\.\.\., n, d\]"):
        singular_values(torch.zeros(3))
    with pytest.raises(ValueError, match="delta"):
        srank(spectrum(1), delta=1.0)
    with pytest.raises(ValueError, match="threshold"):
        pca_rank(spectrum(1), threshold=0.0)
    with pytest.raises(ValueError, match="row"):
        lyle_rank(spectrum(1), n=0)
    with pytest.raises(ValueError, match="singular values"):
        srank(torch.zeros(2, 0))
