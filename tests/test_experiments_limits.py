"""Convolutions, infinite widths, structured data, sparsity and pruning, against numbers by hand."""

import math

import numpy as np
import pytest
import torch

from rlop.experiments import (
    conv_sdp,
    feature_limit,
    linear_conv,
    lipschitz_width,
    multi_channel_conv,
    pruning,
    static_sparsity,
    strong_weak_features,
)


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_one_input_channel_is_realized_as_by_the_single_channel_network():
    kernels, output = normal(3, 4), normal(3, 8)
    found = multi_channel_conv.realized(kernels[:, None], output)
    torch.testing.assert_close(found[0], linear_conv.realized(kernels, output))


@pytest.mark.parametrize("size", [1, 8])
def test_the_norms_of_one_input_channel_are_those_of_the_single_channel_network(size):
    beta = normal(8)
    found = multi_channel_conv.smallest_norm(beta[None], size)
    assert found == pytest.approx(linear_conv.closed_form(beta, size))


def test_a_sine_is_sparse_in_fourier_space_and_a_pulse_is_not():
    sine = torch.sin(2 * math.pi * torch.arange(16) / 16)
    assert multi_channel_conv.sparsity(sine) == pytest.approx(math.sqrt(2) / 4, rel=1e-5)
    assert multi_channel_conv.sparsity(torch.eye(16)[3]) == pytest.approx(1)


def test_the_program_gives_the_norm_of_a_pulse_for_every_size():
    pytest.importorskip("cvxpy")
    pulse = torch.zeros(1, 4, dtype=torch.float64)
    pulse[0, 0] = 3.0
    for size in (1, 2, 4):
        assert conv_sdp.smallest(pulse, size) == pytest.approx(2 * 2 * 3, rel=1e-5)


def moments_of(out, hidden):
    n = len(out)
    return hidden.T @ hidden / n, out.T @ hidden / n, out.T @ out / n


@pytest.mark.parametrize("rate", [0.1, 0.7])
@pytest.mark.parametrize("outputs", [1, 3])
def test_the_moments_of_a_network_follow_its_neurons_step_by_step(outputs, rate):
    rng = np.random.default_rng(0)
    out, hidden = rng.normal(size=(5, outputs)), rng.normal(size=(5, 30))
    w = rng.normal(size=(outputs, 30))
    state = feature_limit.Moments(*moments_of(out, hidden))
    for _ in range(2):
        g = state.b - w
        out, hidden = out - rate * hidden @ g.T, hidden - rate * out @ g
        state = feature_limit.step(state, g, rate)

    for found, expected in zip(state, moments_of(out, hidden)):
        assert found == pytest.approx(expected)


def test_the_kernel_limit_leaves_the_features_where_they_are():
    g = np.ones((1, 30))
    state = feature_limit.kernel_step(feature_limit.limit_moments(1), g, 0.5)
    assert (state.a == np.eye(30)).all()
    assert (state.c == 1).all()
    assert state.b == pytest.approx(-g)  # -.5 (A + c) g


@pytest.mark.parametrize("width", [8, 200])
def test_a_new_output_has_the_mean_squares_of_random_weights(width):
    """Over draws, the mean of b b' is A / n, and that of c is 1."""
    rng = np.random.default_rng(0)
    state = feature_limit.drawn_moments(2, width, rng)
    draws = [feature_limit.new_output(state, width, rng) for _ in range(3000)]
    squares = np.mean([draw.b.T @ draw.b for draw in draws], axis=0)
    assert squares == pytest.approx(state.a / width, abs=0.1 * np.abs(state.a).max() / width)
    assert np.mean([draw.c for draw in draws]) == pytest.approx(1, abs=0.05)


def test_the_moments_of_rectified_numbers_are_those_known_by_hand():
    rows = np.array([[2.0, 0.0], [0.0, 1.0], [-2.0, 0.0]])
    moments = strong_weak_features.relu_moments(rows)
    assert moments[0, 0] == pytest.approx(2)  # half of the variance
    assert moments[0, 1] == pytest.approx(2 / (2 * math.pi))  # (1 / sqrt(2 pi))^2 times 2
    assert moments[0, 2] == pytest.approx(0)  # never both above 0


def test_the_chance_to_disagree_is_the_angle_over_pi():
    cosine = math.cos(0.3 * math.pi)
    assert strong_weak_features.disagreement(0, 4.0, 2 * cosine) == pytest.approx(0.3, abs=1e-3)
    # An output that is always positive is wrong half of the time.
    assert strong_weak_features.disagreement(50.0, 2501.0, 0.5) == pytest.approx(0.5, abs=1e-3)


def test_labels_that_nothing_is_known_of_are_guessed():
    rng = np.random.default_rng(0)
    rows, direction = np.zeros((20, 10)), np.zeros(10)
    rows[:, :5], direction[7] = rng.normal(size=(20, 5)), 1.0
    assert strong_weak_features.square_error(rows, direction) == pytest.approx(0.5, abs=1e-3)


def test_a_linear_function_and_a_cap_have_the_gradients_known_by_hand():
    # Points e_i with signs that add up to 0: the constant is 0, the gradient the signs.
    x, y = np.eye(4), np.array([1.0, 1.0, -1.0, -1.0])
    assert lipschitz_width.linear_gradient(x, y) == pytest.approx(2)
    # A cap rises from 0 at the threshold .6 to 1; at midpoints, .5, none is active.
    assert lipschitz_width.cap_gradient(x, y) == pytest.approx(1 / 0.4)


def test_sparse_networks_have_as_many_weights_as_dense_ones():
    assert static_sparsity.widened(16, 1, 0.25) == 64
    width = static_sparsity.widened(13, 2, 0.25)
    assert 0.25 * (width**2 + 74 * width) == pytest.approx(13**2 + 74 * 13, rel=0.02)


def test_the_contribution_of_a_choice_is_its_share_of_the_improvement():
    whole = pruning.Errors(validation=[0.3, 0.1], test=[0.3, 0.2])
    arm = pruning.Errors(validation=[0.2, 0.25], test=[0.27, 0.1])
    assert arm.best == 0.27  # the round is chosen on validation
    assert pruning.contribution("extra training", arm, whole) == pytest.approx(0.3)
    assert pruning.contribution("scoring", arm, whole) == pytest.approx(0.7)


def test_all_weights_may_be_cut_at_once():
    scores = {"a.weight": torch.arange(1.0, 11.0).view(1, 2, 5)}
    masks = {"a.weight": torch.ones(1, 2, 5, dtype=torch.bool)}
    assert pruning.cut(scores, masks, share=0.9)["a.weight"].sum() == 1
