"""Units, sizes and alignment of features, and all cheap measures together."""

import math

import pytest
import torch
from helpers.probes import gaussian

from rlop.nets import ACTIVATIONS
from rlop.probes import (
    dead_fraction,
    dormant_fraction,
    feature_cosine,
    feature_dot,
    feature_norm,
    measure,
    rank_measures,
    unit_measures,
    weight_norm,
)
from rlop.probes.units import DEAD
from rlop.types import InputError

# --- units ---


def test_dormant_units_by_hand():
    # Mean |h|: 1, 3, 0, 0.04; mean over units 1.01; scores about 0.99, 2.97, 0, 0.0396.
    features = torch.tensor([[1.0, -2.0, 0.0, 0.08], [-1.0, 4.0, 0.0, 0.0]])
    assert dormant_fraction(features, tau=0.0) == 0.25
    assert dormant_fraction(features, tau=0.025) == 0.25
    assert dormant_fraction(features, tau=0.1) == 0.5
    assert dormant_fraction(1e-6 * features, tau=0.1) == 0.5


def test_every_unit_of_a_silent_layer_is_dormant():
    features = torch.stack([torch.zeros(5, 3), torch.ones(5, 3)])
    assert dormant_fraction(features, tau=0.0).tolist() == [1.0, 0.0]


# Units: silent, constant, negative, silent but for one row, of mixed sign.
UNITS = torch.tensor([[0.0, 0.5, -1.0, 0.0, -2.0], [0.0, 0.5, -2.0, 3.0, 1.0]])


@pytest.mark.parametrize(
    ("activation", "dead"),
    [
        ("relu", 1),
        ("gelu", 1),
        ("squared_relu", 1),
        ("tanh", 2),  # the first two are constant
        ("identity", 2),
        ("leaky_relu", 1),  # the third; the fifth is positive once
    ],
)
def test_dead_units_by_hand(activation, dead):
    assert dead_fraction(UNITS, activation).item() == pytest.approx(dead / 5)


def test_unit_measures_are_both_fractions():
    measures = unit_measures(UNITS, "tanh", tau=0.0)
    assert measures["dormant"].item() == pytest.approx(1 / 5)
    assert measures["dead"].item() == pytest.approx(2 / 5)


@pytest.mark.parametrize("n", [2, 3, 16])
def test_a_tanh_unit_is_dead_below_an_unbiased_deviation_of_a_thousandth(n):
    unit = gaussian(n, 1)
    unit = (unit - unit.mean()) / unit.std()
    assert dead_fraction(1.001e-3 * unit, "tanh") == 0
    assert dead_fraction(0.999e-3 * unit, "tanh") == 1


def test_one_row_has_no_deviation_that_could_be_small():
    assert dead_fraction(torch.ones(1, 3), "tanh") == 0
    assert dead_fraction(torch.zeros(1, 3), "relu") == 1


def test_dead_units_in_half_precision_do_not_overflow():
    assert dead_fraction(torch.full((100, 2), 6e4, dtype=torch.float16)) == 0.0


def test_unknown_activation_names_the_nearest():
    with pytest.raises(InputError, match=r"'lekyrelu'.*did you mean 'leaky_relu'"):
        dead_fraction(torch.zeros(2, 2), "lekyrelu")


def test_every_activation_of_the_networks_has_a_rule():
    assert set(ACTIVATIONS) <= set(DEAD)


# --- co-adaptation ---


def test_coadaptation_by_hand():
    features = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
    next_features = torch.tensor([[4.0, 3.0], [0.0, 2.0]])
    assert feature_norm(features) == 3.0
    assert weight_norm(features) == math.sqrt(26)
    assert feature_dot(features, next_features) == 12.0  # (24 + 0) / 2
    assert feature_cosine(features, next_features).item() == pytest.approx(0.48)  # 24/25 / 2


def test_masked_rows_do_not_count():
    features = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
    next_features = torch.tensor([[4.0, 3.0], [0.0, 2.0]])
    mask = torch.tensor([1.0, 0.0])

    # Divided by one row, not by two.
    assert feature_dot(features, next_features, mask) == 24.0
    cosine = feature_cosine(features, next_features, mask.bool())
    assert cosine.item() == pytest.approx(0.96)
    assert feature_dot(features, next_features, torch.zeros(2)).isnan()


@pytest.mark.parametrize("function", [feature_dot, feature_cosine])
def test_coadaptation_of_runs_and_critics(function):
    features = gaussian(2, 3, 5, 4)
    next_features = gaussian(2, 3, 5, 4, seed=1)
    together = function(features, next_features)
    assert together.shape == (2, 3)
    torch.testing.assert_close(together[1, 2], function(features[1, 2], next_features[1, 2]))

    with pytest.raises(ValueError, match="one shape"):
        function(features, next_features[:1])
    with pytest.raises(ValueError, match="mask"):
        function(features, next_features, torch.ones(5))


def test_norms_want_matrices():
    assert weight_norm(gaussian(2, 3, 5, 4)).shape == (2, 3)
    with pytest.raises(ValueError, match=r"weight: expected \[\.\.\., A, D\], got \(3,\)"):
        weight_norm(torch.zeros(3))
    with pytest.raises(ValueError, match=r"features: expected \[\.\.\., n, d\]"):
        feature_norm(torch.zeros(3))


# --- all together ---


def test_measure_uses_the_names_of_the_logs():
    features = gaussian(2, 12, 3).relu().float() + 0.1
    names = {f"rank/{name}" for name in rank_measures(features)}
    names |= {"units/dormant", "units/dead", "feature/norm"}
    assert set(measure(features)) == names

    full = measure(features, features, torch.ones(2, 12), gaussian(2, 4, 3))
    assert set(full) == names | {"feature/dot", "feature/cosine", "head/norm"}
    for name, value in full.items():
        assert value.shape == (2,), name
        assert value.dtype == torch.float64, name
    torch.testing.assert_close(full["feature/cosine"], torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_run_that_is_not_finite_leaves_its_neighbors_alone(bad):
    features = gaussian(3, 20, 6)
    healthy = measure(features[[0, 2]])
    features[1, 4, 2] = bad
    for name, value in measure(features).items():
        torch.testing.assert_close(value[[0, 2]], healthy[name], rtol=1e-12, atol=0, msg=name)
        assert not value[1].isfinite(), name


def test_measures_carry_no_gradient():
    features = gaussian(8, 3).requires_grad_()
    for name, value in measure(features, features).items():
        assert not value.requires_grad, name
