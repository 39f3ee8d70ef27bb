"""The experiments on max-margin classifiers of noisy mixtures: formulas by hand or a second way."""

import math

import pytest
import torch

from rlop.experiments import max_margin_noise, mixtures
from rlop.experiments.mixtures import Clouds

F64 = torch.float64


def test_the_error_of_a_direction_by_hand():
    """z = 2, whatever the length of w: Phi(-2) = .02275; at a right angle 1/2."""
    mu = torch.tensor([2.0, 0.0], dtype=F64)
    w = torch.tensor([[5.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], dtype=F64)
    expected = torch.tensor([0.0227501, 0.5, 0.9772499], dtype=F64)
    torch.testing.assert_close(mixtures.clean_error(w, mu), expected, atol=1e-6, rtol=0)


def test_the_adversary_flips_the_points_that_speak_most_for_the_mean():
    clouds = Clouds(n=10, d=4, norm=3.0, flip=0.2, flips="adversary")
    data = mixtures.draw(clouds, sets=3, seed=0)
    along = data.x @ data.mu
    for points, labels in zip(along, data.y):
        # With means this far apart the cloud of a point is the side on which it lies.
        wrong = (points * labels < 0).nonzero()[:, 0].tolist()
        deepest = points.abs().argsort(descending=True)[:2].tolist()
        assert set(deepest) <= set(wrong)


def test_reduced_sets_have_the_inner_products_of_whole_ones():
    """The mean and the spread of |x|^2 and x . x' between points, and the part along mu."""
    clouds = Clouds(n=4, d=30, norm=2.0, flip=0.0)
    moments = []
    for drawn in (mixtures.draw, mixtures.draw_reduced):
        x, y, mu = drawn(clouds, 20_000, 1)
        signed = x * y[..., None]
        gram = signed @ signed.mT
        along = signed @ mu
        numbers = [gram[:, 3, 3], gram[:, 0, 0], gram[:, 1, 3], along[:, 2], gram[:, 0, 2] ** 2]
        moments.append([[number.mean().item(), number.std().item()] for number in numbers])

    torch.testing.assert_close(
        torch.tensor(moments[0]), torch.tensor(moments[1]), rtol=0.05, atol=0.1
    )
    # |x|^2 is noncentral chi-square: mean d + |mu|^2, variance 2 d + 4 |mu|^2.
    assert moments[1][0] == pytest.approx([34, math.sqrt(76)], rel=0.03)


def test_reduced_sets_refuse_what_they_cannot_stand_for():
    with pytest.raises(ValueError, match="more than n = 9"):
        mixtures.draw_reduced(Clouds(9, 9, 1.0), 1, 0)
    with pytest.raises(ValueError, match="rademacher"):
        mixtures.draw_reduced(Clouds(5, 9, 1.0, law="rademacher"), 1, 0)


def test_the_exponent_of_the_risk_by_hand():
    """50 * 6^4 / (50 * 36 + 1000) = 64800 / 2800."""
    assert max_margin_noise.risk_exponent(Clouds(50, 1000, 6.0)) == pytest.approx(64800 / 2800)
    for d in (2000, 60_000):
        clouds = Clouds(max_margin_noise.N, d, max_margin_noise.level(d))
        assert max_margin_noise.risk_exponent(clouds) == pytest.approx(max_margin_noise.LEVEL)


def test_logistic_descent_tends_to_the_widest_margin():
    """Points (1, 0) and (0, -2) of labels 1 and -1: margins are equal along (2, 1)."""
    x = torch.tensor([[[1.0, 0.0], [0.0, -2.0]]], dtype=F64)
    y = torch.tensor([[1.0, -1.0]], dtype=F64)
    w = max_margin_noise.descend(x, y)[0]
    assert (w[0] / w[1]).item() == pytest.approx(2, rel=0.01)
