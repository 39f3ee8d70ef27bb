"""Rank, unit and co-adaptation measures against spectra and numbers worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rlop.probes import (
    dead_fraction,
    dormant_fraction,
    effective_rank,
    feature_cosine,
    feature_dot,
    feature_norm,
    lyle_rank,
    measure,
    participation_ratio,
    pca_rank,
    probe,
    rank_measures,
    singular_values,
    srank,
    stable_rank,
    unit_measures,
    weight_norm,
)
from rlop.probes.units import DEAD
from rlop.types import InputError

RANKS = [
    "srank",
    "effective_rank",
    "stable_rank",
    "pca_rank",
    "feature_rank",
    "feature_rank_unscaled",
]
RANKS += ["participation_ratio"]


def spectrum(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_spectrum(s: torch.Tensor, n: int, d: int) -> torch.Tensor:
    u = torch.linalg.qr(gaussian(n, n, seed=1)).Q[:, : len(s)]
    v = torch.linalg.qr(gaussian(d, d, seed=2)).Q[:, : len(s)]
    return u * s @ v.mT


# --- spectra by hand ---


def test_measures_of_3_2_1() -> None:
    s = spectrum(3, 2, 1)
    # shares of the sum: 1/2, 5/6, 1; of the squared sum: 9/14, 13/14, 1
    assert srank(s, delta=0.5) == 1
    assert srank(s, delta=0.2) == 2
    assert srank(s, delta=0.01) == 3
    assert pca_rank(s, threshold=0.6) == 1
    assert pca_rank(s, threshold=0.9) == 2
    assert pca_rank(s) == 3
    # exp(H(1/2, 1/3, 1/6)) = 2^(1/2) 3^(1/3) 6^(1/6)
    assert effective_rank(s).item() == pytest.approx(
        2**0.5 * 3 ** (1 / 3) * 6 ** (1 / 6), rel=1e-12
    )
    assert stable_rank(s).item() == pytest.approx(14 / 9, rel=1e-12)
    assert participation_ratio(s).item() == pytest.approx(14**2 / (81 + 16 + 1), rel=1e-12)


def test_feature_rank_counts_above_the_threshold_with_and_without_root_n() -> None:
    s = spectrum(3, 2, 0.05)
    assert lyle_rank(s, n=100, eps=0.01) == 2  # 0.05 / 10 = 0.005
    assert lyle_rank(s, n=100, eps=0.01, normalize=False) == 3
    assert lyle_rank(s, n=4, eps=1.0) == 1  # 3/2 is above 1, 2/2 is not


@pytest.mark.parametrize(
    ("values", "delta", "expected"),
    [
        ((99.0, 1.0), 0.01, 1),
        ((0.99, 0.01), 0.01, 1),
        ((98.99, 1.01), 0.01, 2),
        ((1.0,) * 10, 0.3, 7),
    ],
)
def test_srank_at_exact_thresholds(values: tuple[float, ...], delta: float, expected: int) -> None:
    assert srank(spectrum(*values), delta) == expected
    # and when the spectrum has been through a Gram matrix
    assert srank(singular_values(with_spectrum(spectrum(*values), 24, 12)), delta) == expected


def test_an_all_zero_spectrum_has_rank_zero() -> None:
    assert {
        name: value.item() for name, value in rank_measures(torch.zeros(8, 3)).items()
    } == dict.fromkeys(RANKS, 0.0)


@pytest.mark.parametrize("d", [1, 5, 16])
def test_the_identity_has_full_rank(d: int) -> None:
    measures = rank_measures(torch.eye(d), delta=0.01)
    for name in RANKS:
        if name != "feature_rank_unscaled":
            assert measures[name].item() == pytest.approx(d, rel=1e-9), name


@pytest.mark.parametrize("r", [1, 2, 4])
def test_a_product_of_thin_matrices_has_its_inner_dimension_as_rank(r: int) -> None:
    measures = rank_measures(
        gaussian(64, r) @ gaussian(r, 10, seed=1), delta=1e-4, threshold=0.9999
    )
    for name in ("srank", "pca_rank", "feature_rank", "feature_rank_unscaled"):
        assert measures[name] == r, name
    for name in ("effective_rank", "stable_rank", "participation_ratio"):
        assert 1 - 1e-9 <= measures[name] <= r + 1e-9, name


def test_rounding_of_the_gram_matrix_is_no_rank_however_large_the_features() -> None:
    features = 1e9 * (gaussian(64, 3) @ gaussian(3, 16, seed=1))
    assert lyle_rank(singular_values(features), 64) == 3
    assert effective_rank(singular_values(features)) <= 3


# --- invariances, and a twin ---


@settings(max_examples=25, deadline=None)
@given(
    values=st.lists(st.floats(0.01, 100), min_size=1, max_size=6),
    scale=st.floats(1e-3, 1e3),
    seed=st.integers(0, 100),
)
def test_scale_and_rotation_invariance(values: list[float], scale: float, seed: int) -> None:
    s = spectrum(*sorted(values, reverse=True))
    rotation = torch.linalg.qr(gaussian(6, 6, seed=seed)).Q
    features = with_spectrum(s, 9, 6)
    for name, measure_of in [
        ("effective_rank", effective_rank),
        ("stable_rank", stable_rank),
        ("participation_ratio", participation_ratio),
    ]:
        expected = measure_of(s).item()
        assert measure_of(singular_values(features @ rotation)).item() == pytest.approx(
            expected, rel=1e-6
        ), name
        assert measure_of(scale * s).item() == pytest.approx(expected, rel=1e-9), name
        assert 1 - 1e-9 <= expected <= len(values) + 1e-9
    assert pca_rank(s, 0.9) <= srank(s, 0.1)
    assert srank(scale * s) == srank(s)
    assert pca_rank(scale * s) == pca_rank(s)


def test_feature_rank_is_not_scale_invariant_but_ignores_repeated_rows() -> None:
    features = with_spectrum(spectrum(3, 2, 1), 20, 5)
    assert rank_measures(features, eps=0.3)["feature_rank"] == 2
    assert rank_measures(0.01 * features, eps=0.3)["feature_rank"] == 0
    repeated = rank_measures(features.repeat(50, 1), eps=0.3)
    assert repeated["feature_rank"] == 2
    assert repeated["feature_rank_unscaled"] == 3


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("shape", [(40, 7), (7, 40), (9, 9)])
def test_singular_values_agree_with_numpy(shape: tuple[int, int], center: bool) -> None:
    features = gaussian(*shape).relu().float()
    x = features.double().numpy()
    expected = np.linalg.svd(x - x.mean(0) if center else x, compute_uv=False)
    s = singular_values(features, center)
    assert s.shape == (min(shape),)
    assert s.dtype == torch.float64
    # sigma comes from sigma^2, so its absolute accuracy is sqrt(eps) sigma_1
    np.testing.assert_allclose(s.numpy(), expected, atol=1e-6 * expected[0])
    np.testing.assert_allclose(s.numpy()[:5], expected[:5], rtol=1e-10)


def test_every_measure_agrees_with_a_numpy_twin() -> None:
    features = gaussian(60, 12).relu() * torch.logspace(0, -4, 12, dtype=torch.float64)
    s = np.linalg.svd(features.numpy(), compute_uv=False)
    p = s / s.sum()
    expected = {
        "srank": np.searchsorted(np.cumsum(s), 0.99 * s.sum()) + 1,
        "effective_rank": np.exp(-(p * np.log(p)).sum()),
        "stable_rank": (s**2).sum() / s[0] ** 2,
        "pca_rank": np.searchsorted(np.cumsum(s**2), 0.99 * (s**2).sum()) + 1,
        "feature_rank": (s / np.sqrt(60) > 0.01).sum(),
        "feature_rank_unscaled": (s > 0.01).sum(),
        "participation_ratio": (s**2).sum() ** 2 / (s**4).sum(),
    }
    measures = rank_measures(features)
    assert list(measures) == RANKS
    for name, value in expected.items():
        assert measures[name].item() == pytest.approx(value, rel=1e-8), name


@pytest.mark.parametrize("shape", [(3, 20, 6), (2, 3, 20, 6), (3, 4, 6)])
def test_batch_axes_equal_a_loop(shape: tuple[int, ...]) -> None:
    features = gaussian(*shape)
    together = rank_measures(features)
    for index in np.ndindex(shape[:-2]):
        for name, value in rank_measures(features[index]).items():
            assert together[name][index].item() == pytest.approx(value.item(), rel=1e-9), name
    assert all(value.shape == shape[:-2] for value in together.values())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_run_that_is_not_finite_leaves_its_neighbours_alone(bad: float) -> None:
    features = gaussian(3, 20, 6)
    healthy = measure(features[[0, 2]])
    features[1, 4, 2] = bad
    for name, value in measure(features).items():
        torch.testing.assert_close(value[[0, 2]], healthy[name], rtol=1e-12, atol=0, msg=name)
        assert not value[1].isfinite(), name


def test_ranks_of_a_spectrum_that_is_nan_are_nan() -> None:
    s = torch.full((4,), math.nan, dtype=torch.float64)
    for rank in (
        srank(s),
        effective_rank(s),
        stable_rank(s),
        pca_rank(s),
        lyle_rank(s, 3),
        participation_ratio(s),
    ):
        assert rank.isnan()


def test_rank_measures_carry_no_gradient() -> None:
    features = gaussian(8, 3).requires_grad_()
    assert not any(value.requires_grad for value in measure(features, features).values())


def test_rank_arguments_are_checked() -> None:
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


# --- units ---


def test_dormant_units_by_hand() -> None:
    # mean |h|: 1, 3, 0, 0.04; mean over units 1.01; scores about 0.99, 2.97, 0, 0.0396
    features = torch.tensor([[1.0, -2.0, 0.0, 0.08], [-1.0, 4.0, 0.0, 0.0]])
    assert dormant_fraction(features, tau=0.0) == 0.25
    assert dormant_fraction(features, tau=0.025) == 0.25
    assert dormant_fraction(features, tau=0.1) == 0.5
    assert dormant_fraction(1e-6 * features, tau=0.1) == 0.5


def test_every_unit_of_a_silent_layer_is_dormant() -> None:
    features = torch.stack([torch.zeros(5, 3), torch.ones(5, 3)])
    assert dormant_fraction(features, tau=0.0).tolist() == [1.0, 0.0]


def test_dead_units_by_hand() -> None:
    features = torch.tensor([[0.0, 0.5, -1.0, 0.0], [0.0, 0.5, -2.0, 3.0]])
    assert dead_fraction(features, "relu") == 0.25  # the first
    assert dead_fraction(features, "gelu") == 0.25
    assert dead_fraction(features, "tanh") == 0.5  # the first two are constant
    assert dead_fraction(features, "leaky_relu") == 0.25  # the third
    assert unit_measures(features, "tanh", tau=0.0) == {"dormant": 0.25, "dead": 0.5}


def test_dead_units_in_half_precision_do_not_overflow() -> None:
    assert dead_fraction(torch.full((100, 2), 6e4, dtype=torch.float16)) == 0.0


def test_unknown_activation_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"'lekyrelu'.*did you mean 'leaky_relu'"):
        dead_fraction(torch.zeros(2, 2), "lekyrelu")


def test_every_activation_of_the_networks_has_a_rule() -> None:
    from rlop.nets import ACTIVATIONS

    assert set(ACTIVATIONS) <= set(DEAD)


# --- co-adaptation ---


def test_coadaptation_by_hand() -> None:
    features = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
    following = torch.tensor([[4.0, 3.0], [0.0, 2.0]])
    assert feature_norm(features) == 3.0
    assert feature_dot(features, following) == 12.0  # (24 + 0) / 2
    assert feature_cosine(features, following).item() == pytest.approx(0.48)  # (24/25 + 0) / 2
    mask = torch.tensor([1.0, 0.0])
    assert feature_dot(features, following, mask) == 24.0  # divided by one row, not by two
    assert feature_cosine(features, following, mask.bool()).item() == pytest.approx(0.96)
    assert feature_dot(features, following, torch.zeros(2)).isnan()
    assert weight_norm(features) == math.sqrt(26)


def test_coadaptation_shapes() -> None:
    features, following = gaussian(2, 3, 5, 4), gaussian(2, 3, 5, 4, seed=1)
    for function in (feature_dot, feature_cosine):
        together = function(features, following)
        assert together.shape == (2, 3)
        assert together[1, 2].item() == pytest.approx(
            function(features[1, 2], following[1, 2]).item(), rel=1e-12
        )
        with pytest.raises(ValueError, match="one shape"):
            function(features, following[:1])
        with pytest.raises(ValueError, match="mask"):
            function(features, following, torch.ones(5))
    assert weight_norm(gaussian(2, 3, 5, 4)).shape == (2, 3)


# --- measure and probe ---


def test_measure_uses_the_names_of_the_logs() -> None:
    features = gaussian(2, 12, 3).relu().float() + 0.1
    full = measure(features, features, torch.ones(2, 12), gaussian(2, 4, 3))
    names = {f"rank/{name}" for name in RANKS} | {"units/dormant", "units/dead", "feature/norm"}
    assert set(measure(features)) == names
    assert set(full) == names | {"feature/dot", "feature/cosine", "head/norm"}
    assert all(value.shape == (2,) and value.dtype == torch.float64 for value in full.values())
    torch.testing.assert_close(full["feature/cosine"], torch.ones(2, dtype=torch.float64))


class TwoHeads(nn.Module):
    """The value head is registered first but runs last."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Linear(6, 1)
        self.torso = nn.Sequential(nn.Linear(4, 6), nn.ReLU(inplace=True), nn.Dropout(0.5))
        self.unused = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        return scale * self.value(self.torso(x))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return TwoHeads()


def test_probe_reads_the_input_of_the_linear_that_runs_last(model: nn.Module) -> None:
    batch, following = gaussian(16, 4).float(), gaussian(16, 4, seed=1).float()
    phi, phi_next = (torch.relu(model.torso[0](x)).detach() for x in (batch, following))
    measured = probe(model, batch, next_batch=following, mask=torch.ones(16))
    assert measured == measure(phi, phi_next, torch.ones(16), model.value.weight.detach())
    assert probe(model, (batch, 2.0)) == measure(phi, head_weight=model.value.weight.detach())


def test_probe_takes_a_layer_by_name_before_the_next_one_works_in_place(model: nn.Module) -> None:
    batch = gaussian(16, 4).float()
    assert probe(model, batch, "torso.0", activation="identity") == measure(
        model.torso[0](batch).detach(), activation="identity"
    )


def test_probe_flattens_feature_maps() -> None:
    conv = nn.Sequential(nn.Conv2d(2, 3, 2), nn.ReLU())
    batch = gaussian(5, 2, 4, 4).float()
    assert probe(conv, batch, "1") == measure(conv(batch).detach().flatten(1))


def test_probe_leaves_the_model_as_it_was(model: nn.Module) -> None:
    model.train()
    model.torso[0].eval()  # an owner may have frozen a part
    before = {name: module.training for name, module in model.named_modules()}
    probe(model, torch.zeros(3, 4))
    with pytest.raises(RuntimeError):
        probe(model, torch.zeros(3, 5))
    with pytest.raises(RuntimeError):
        probe(model, torch.zeros(3, 5), "torso.1")
    assert before == {name: module.training for name, module in model.named_modules()}
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(p.grad is None for p in model.parameters())


def test_probe_errors_name_the_layer(model: nn.Module) -> None:
    batch = torch.zeros(3, 4)
    with pytest.raises(InputError, match=r"'torso\.9'.*did you mean 'torso\.\d'"):
        probe(model, batch, "torso.9")
    with pytest.raises(InputError, match="'unused' of TwoHeads: expected it to run"):
        probe(model, batch, "unused")
    with pytest.raises(InputError, match=r"last nn\.Linear of ReLU"):
        probe(nn.ReLU(), batch)
    with pytest.raises(InputError, match="found tuple"):
        probe(nn.GRU(4, 2), batch, "")
    with pytest.raises(InputError, match=r"found \(3,\)"):
        probe(nn.Flatten(0), torch.zeros(3), "")
