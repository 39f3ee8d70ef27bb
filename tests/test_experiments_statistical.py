"""The small pieces of maths in the statistical experiments; test_experiments.py holds the bands."""

from __future__ import annotations

import math
from importlib import import_module

import pytest
import torch

from rlop.experiments.outcome import Measure

NAMES = [
    "basis_pursuit",
    "block_structure",
    "class_variance",
    "depth",
    "disagreement",
    "distributed_regression",
    "flip_radius",
    "flip_rate",
    "fourier_features",
    "imbalanced_gmm",
    "implicit_rank",
    "label_corruption",
    "learning_time",
    "lipschitz_width",
    "low_rank_training",
    "momentum",
    "path_norm_sparsity",
    "polynomial_kare",
    "pruning",
    "shattering",
    "siblings",
    "single_neuron",
    "static_sparsity",
    "strong_weak_features",
    "support_vectors",
    "two_moons",
]


def module(name):
    return import_module(f"rlop.experiments.{name}")


@pytest.mark.parametrize("name", NAMES)
def test_every_experiment_says_whose_claim_it_is(name):
    text = " ".join(module(name).__doc__.split())
    assert "Row" in text
    assert (
        "arXiv" in text
        or "2021 workshop" in " ".join(text.split())
        or "title was not found" in text
    )


def test_a_seed_gives_the_same_numbers_again_and_another_seed_others():
    once, again, other = (module("single_neuron").run(seed) for seed in (0, 0, 1))
    assert once == again
    assert [m.value for m in once.measures] != [m.value for m in other.measures]


def test_digits_without_scikit_learn_name_the_extra(monkeypatch):
    from rlop.experiments.digits import load_digits
    from rlop.types import InputError

    monkeypatch.setitem(__import__("sys").modules, "sklearn.datasets", None)
    with pytest.raises(InputError, match=r"rlop\[supervised\]"):
        load_digits()


def test_basis_pursuit_finds_the_sparse_solution_that_least_squares_misses():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 30, 60, generator=generator, dtype=torch.float64)
    w = torch.zeros(60, dtype=torch.float64)
    w[[3, 17, 40]] = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    found = module("basis_pursuit").basis_pursuit(x, (x @ w), steps=3000)[0]
    assert torch.allclose(found, w, atol=1e-4)


def test_max_margin_multipliers_meet_the_optimality_conditions():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(12, 20, generator=generator, dtype=torch.float64)
    y = torch.arange(12) % 2 * 2.0 - 1
    q = (y[:, None] * x) @ (y[:, None] * x).T
    alpha = module("support_vectors").dual(q, sweeps=500)
    slack = q @ alpha - 1  # margin minus 1
    assert (alpha >= 0).all()
    assert slack.min() > -1e-8
    assert (alpha * slack).abs().max() < 1e-8


def test_kernel_of_logistic_regression_is_at_its_optimum():
    m = module("strong_weak_features")
    generator = torch.Generator().manual_seed(0)
    phi = torch.randn(1, m.N, 300, generator=generator, dtype=torch.float64) / 300**0.5
    y = torch.randint(2, (1, m.N), generator=generator).double() * 2 - 1
    w = m.logistic(phi, y).requires_grad_()
    loss = (
        torch.nn.functional.softplus(-y * (phi @ w)[..., 0]).mean() + m.RIDGE / 2 * w.square().sum()
    )
    (gradient,) = torch.autograd.grad(loss, w)
    assert gradient.abs().max() < 1e-6


def test_single_neuron_gradient_is_that_of_the_population_loss():
    # a quarter of E (x D x)^2 = 2 ||D||^2 + tr(D)^2, differentiated by autograd
    w = torch.randn(
        3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    ).requires_grad_()
    teacher = torch.zeros(5, 5, dtype=torch.float64)
    teacher[0, 0] = 1
    difference = w.mT @ w - teacher
    loss = (2 * difference.square().sum() + difference.trace() ** 2) / 4
    (gradient,) = torch.autograd.grad(loss, w)
    assert torch.allclose(gradient, 2 * w @ difference + difference.trace() * w)


def test_first_share_converges_to_that_of_the_first_component():
    x = torch.randn(2, 40, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [3.0, 2, 1, 1, 1, 1]
    )
    u = torch.nn.functional.normalize(torch.ones(2, 6, 1), dim=1)
    for _ in range(100):
        share, u = module("block_structure").first_share(x, u)
    s = torch.linalg.svdvals(x - x.mean(1, keepdim=True)).square()
    assert torch.allclose(share, s[:, 0] / s.sum(-1), atol=1e-5)


def test_learning_times_by_hand():
    correct = torch.tensor([[0, 1, 0], [1, 0, 0], [1, 1, 0]], dtype=torch.bool)[:, None]
    times, lost = module("learning_time").learning_times(correct)
    assert times.tolist() == [[2, 1, 4]]
    assert lost.tolist() == [[0, 1, 0]]


def test_rank_correlation_with_ties_by_hand():
    a, b = torch.tensor([1.0, 2, 2, 3]), torch.tensor([10.0, 20, 20, 30])
    assert module("learning_time").rank_correlation(a, b) == pytest.approx(1)
    assert module("learning_time").rank_correlation(a, -b) == pytest.approx(-1)


def test_variance_ratio_by_hand():
    # class means -1 and 1 around 0: between 1; distances 1 to them: within 1
    features = torch.tensor([[[-2.0], [0.0], [0.0], [2.0]]])
    assert module("class_variance").variance_ratio(
        features, torch.tensor([0, 0, 1, 1]), 2
    ).item() == pytest.approx(1)


def test_calibration_gap_is_0_for_runs_that_are_right_and_2_for_runs_that_agree_on_an_error():
    gap, y = module("disagreement").calibration_gap, torch.tensor([0, 1, 2])
    assert gap(y.expand(2, -1), y) == 0
    # Votes are 1 for a wrong class and 0 for the right one: off by 1 on 3 entries, and by 3 of 27
    # on the others.
    assert gap(torch.tensor([[1, 2, 0]] * 2), y) == pytest.approx((1 * 3 + 3 / 27 * 27) / 3)


def test_masks_of_siblings_keep_the_share_of_weights():
    from rlop.experiments.fit import network

    net = network([0, 0, 1], 6, (8,), 4)
    masks = module("siblings").prune(net)
    kept = sum(m.flatten(1).sum(-1) for m in masks.values())
    assert kept.tolist() == [round(0.2 * 80)] * 3


def test_pruning_cuts_the_smallest_of_what_is_left():
    m = module("pruning")
    w = torch.tensor([[[0.1, -0.2, 0.3, -0.4, 0.5]]])
    masks = m.cut({"a.weight": w}, {"a.weight": torch.ones_like(w, dtype=torch.bool)})
    assert masks["a.weight"].tolist() == [[[False, False, True, True, True]]]


def test_measures_hold_inside_their_band_only():
    assert Measure("", 1.0, 0, 1, "").holds
    assert not Measure("", math.nan, 0, 1, "").holds
