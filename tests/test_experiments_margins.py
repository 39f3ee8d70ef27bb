"""The experiments on max-margin classifiers of noisy mixtures: formulas by hand or a second way."""

import math

import pytest
import torch
import torch.nn.functional as F

from rlop.experiments import max_margin_noise, mixtures, robust_margin
from rlop.experiments.mixtures import Clouds, Mixture

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


@pytest.mark.parametrize(("q", "expected"), [(2, 0.5), (1, 0.6141)])
def test_robust_errors_by_hand(q, expected):
    """w = (3, 4), mu = (1, 3): w . mu = 15; eps 3 costs 15 in l2, eps 2.35 costs 16.45 in l1."""
    w = torch.tensor([[3.0, 4.0]], dtype=F64)
    mu = torch.tensor([1.0, 3.0], dtype=F64)
    eps = 3.0 if q == 2 else 2.35
    error = robust_margin.robust_error(w, mu, eps, q).item()
    assert error == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("name", ["l2", "linf"])
def test_no_perturbation_of_the_size_lowers_a_margin_further(name):
    """The margin is that of the worst point of the ball: one point attains it."""
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(1, 5, generator=generator, dtype=F64)
    x = torch.randn(1, 1, 5, generator=generator, dtype=F64)
    data = Mixture(x, torch.ones(1, 1, dtype=F64), w[0])
    q = robust_margin.DUAL[name]
    least = robust_margin.margins(w, data, 0.3, q).item()

    moves = torch.randn(1000, 5, generator=generator, dtype=F64)
    moves = F.normalize(moves, dim=1) if name == "l2" else moves / moves.abs().amax(1, keepdim=True)
    assert ((x[0] + 0.3 * moves) @ w[0]).min().item() > least
    worst = F.normalize(w[0], dim=0) if name == "l2" else w[0].sign()
    assert ((x[0, 0] - 0.3 * worst) @ w[0]).item() == pytest.approx(least)


def test_robust_training_lowers_the_robust_loss_of_every_set():
    data = mixtures.draw(Clouds(10, 40, 3.0), 2, 0)
    w = robust_margin.train(data, 0.1, 1)
    margin = robust_margin.margins(w, data, 0.1, 1)
    assert (F.softplus(-margin).mean(1) < 0.1 * math.log(2)).all()
