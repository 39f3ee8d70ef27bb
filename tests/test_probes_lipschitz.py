"""Sensitivity to the state, and attacks on greedy actions."""

import pytest
import torch
from helpers.probes import gaussian

from rlop.probes import flip_radius, sensitivity
from rlop.probes.lipschitz import state_gradient


def test_slope_of_a_linear_function_is_the_norm_of_its_weights():
    weights = torch.tensor([1.0, 2, 2], dtype=torch.float64)
    slopes = sensitivity(lambda x: x @ weights, gaussian(2, 8, 3))
    three = torch.full((2,), 3.0, dtype=torch.float64)
    torch.testing.assert_close(slopes.at, three)
    torch.testing.assert_close(slopes.between, three)


def test_slopes_of_a_quadratic_are_the_lengths_of_states_and_of_their_midpoints():
    states = gaussian(2, 8, 3)
    gradient = state_gradient(lambda x: x.square().sum(-1), states)
    torch.testing.assert_close(gradient, 2 * states)

    slopes = sensitivity(lambda x: x.square().sum(-1) / 2, states)
    half_way = (states + states.roll(4, 1)) / 2
    torch.testing.assert_close(slopes.at, states.norm(dim=-1).mean(-1))
    torch.testing.assert_close(slopes.between, half_way.norm(dim=-1).mean(-1))


def test_flip_of_linear_values_is_the_distance_to_the_boundary():
    weights = torch.tensor([[1.0, 0], [0, 1], [-5, 0]], dtype=torch.float64)
    states = torch.tensor([[3.0, 1], [1, 4], [0.1, -1]], dtype=torch.float64)

    def q_values(x):
        return x @ weights.mT  # x_1, x_2, -5 x_1

    # (3, 1): to x_1 = x_2.  (1, 4): to x_2 = -5 x_1, nearer than x_1 = x_2 at 3 / sqrt 2.
    # (0.1, -1): to x_1 = 0.
    expected = torch.tensor([2 / 2**0.5, 9 / 26**0.5, 0.1], dtype=torch.float64)
    flip = flip_radius(q_values, states, overshoot=0.0)
    torch.testing.assert_close(flip.distance, expected)
    torch.testing.assert_close(flip.relative, expected / states.norm(dim=-1))
    assert flip_radius(q_values, states, overshoot=0.01).flipped.all()
    assert not flip_radius(q_values, states, overshoot=-0.01).flipped.any()


def test_values_that_ignore_the_state_cannot_be_attacked():
    constant = torch.tensor([1.0, 2.0])
    flip = flip_radius(lambda x: 0 * x[..., :1] + constant, torch.ones(3, 4))
    assert flip.distance.isinf().all()
    assert not flip.flipped.any()


def random_relu_network(d, seed):
    """Values f and -f of a network with two hidden layers of width d."""
    first = gaussian(d, d, seed=10 * seed) * (2 / d) ** 0.5
    second = gaussian(d, d, seed=10 * seed + 1) * (2 / d) ** 0.5
    head = gaussian(1, d, seed=10 * seed + 9) / d**0.5

    def values(x):
        hidden = (x @ first.mT).relu()
        hidden = (hidden @ second.mT).relu()
        f = hidden @ head.mT
        return torch.cat([f, -f], -1)

    return values


@pytest.mark.parametrize("d", [100, 400])
def test_a_random_relu_network_is_flipped_by_a_step_of_order_one_over_root_d(d):
    lengths = []
    flipped = []
    for seed in range(20):
        values = random_relu_network(d, seed)
        states = gaussian(20, d, seed=1000 + seed)
        lengths.append(flip_radius(values, states, overshoot=0.0).relative)
        flipped.append(flip_radius(values, states, overshoot=0.5).flipped.double())

    # To first order |f| / (||grad f|| ||x||) is |N(0, 1)| / sqrt d, with median 0.6745 / sqrt d.
    median = torch.cat(lengths).median().item()
    assert median * d**0.5 == pytest.approx(0.6745, rel=0.15)
    assert torch.cat(flipped).mean() > 0.9


def test_states_and_values_are_checked():
    with pytest.raises(ValueError, match="states"):
        state_gradient(lambda x: x.sum(-1), torch.ones(3, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match="two actions"):
        flip_radius(lambda x: x[..., :1], torch.ones(3, 2))
    with pytest.raises(ValueError, match="one per row"):
        flip_radius(lambda x: x.sum(-2), torch.ones(4, 3, 2))
