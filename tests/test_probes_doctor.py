"""Churn, gradient activity, gaps of values, and plasticity, against numbers made by hand."""

import pytest
import torch
from helpers.probes import gaussian
from torch import nn
from torch.func import functional_call

from rlop.probes import (
    at_bound,
    inactive_fraction,
    layer_gradients,
    policy_churn,
    refit_error,
    return_gap,
    unseen_gap,
    value_churn,
)
from rlop.probes.refit import standardized


def test_a_unit_with_little_gradient_is_inactive_at_any_scale_of_the_loss():
    # Mean sizes 3, 0.02, 0 and 0.98 of a layer whose mean is 1.
    rows = torch.tensor([[3.0, 0.03, 0.0, -0.98], [-3.0, -0.01, 0.0, 0.98]])
    assert inactive_fraction(rows) == pytest.approx(0.25)
    assert inactive_fraction(rows, tau=0.05) == pytest.approx(0.5)
    assert inactive_fraction(1e6 * rows, tau=0.05) == pytest.approx(0.5)
    assert inactive_fraction(torch.zeros(2, 4)) == 1


def test_gradients_of_a_layer_are_those_before_its_activation():
    torch.manual_seed(0)
    hidden, head = nn.Linear(3, 4), nn.Linear(4, 1)
    x, y = torch.randn(6, 3), torch.randn(6)

    def loss():
        return (head(hidden(x).relu()).squeeze(-1) - y).square().sum()

    (gradients,) = layer_gradients([hidden], loss)
    before = hidden(x)
    error = head(before.relu()).squeeze(-1) - y
    expected = 2 * error.unsqueeze(-1) * head.weight * (before > 0)
    torch.testing.assert_close(gradients, expected)
    assert hidden.weight.grad is None
    assert not hidden._forward_hooks


def test_calls_without_gradient_do_not_count_and_several_calls_stand_in_a_row():
    layer = nn.Linear(2, 2)
    x = torch.eye(2)

    def loss():
        with torch.no_grad():
            layer(x)
        return layer(x).sum() + 3 * layer(x).sum()

    (gradients,) = layer_gradients([layer, nn.Linear(2, 2)], loss)
    assert gradients.tolist() == [[1, 1], [1, 1], [3, 3], [3, 3]]


def test_churn_of_values_and_of_actions():
    before = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    after = torch.tensor([[1.5, 1.0], [0.0, 0.0]])
    assert value_churn(before, after).tolist() == [0.75, 0]

    assert policy_churn(torch.tensor([0, 1, 2, 3]), torch.tensor([0, 1, 0, 0])) == 0.5
    moved = policy_churn(torch.zeros(2, 2), torch.tensor([[1.0, 0.0], [0.0, -1.0]]))
    assert moved == 0.5
    with pytest.raises(ValueError, match="before and after"):
        value_churn(before, after[0])


def test_the_gap_to_returns_is_in_standard_deviations_of_known_returns():
    returns = torch.tensor([0.0, 2.0, 1e9])
    known = torch.tensor([True, True, False])
    gap = return_gap(torch.tensor([3.0, 5.0, 77.0]), returns, known)  # mean Q 4, G 1 +- 1
    assert [part.item() for part in gap] == [3, 2, -4, 1]

    for known_rows in ([False, False, False], [True, False, False]):
        nothing = return_gap(returns, returns, torch.tensor(known_rows))
        assert all(part.isnan() for part in nothing)
    assert return_gap(returns, torch.full((3,), 0.1)).mean.isnan()


def test_the_gap_of_other_actions():
    q_data = torch.tensor([[0.0, 2.0], [1.0, 1.0]])
    gap = unseen_gap(q_data, q_data + 3)
    assert gap[0] == 3
    assert gap[1].isnan()
    assert unseen_gap(q_data, q_data - 1, torch.tensor([2.0, 4.0])).tolist() == [-0.5, -0.25]


def test_entries_at_the_end_of_the_range():
    action = torch.tensor([[[1.0, -0.9995], [0.5, -1.0]], [[0.0, 0.99], [0.1, 0.2]]])
    assert at_bound(action).tolist() == [0.75, 0]


def test_a_refit_leaves_what_the_budget_does_not_reach():
    # One weight, output w x on x = 1: Adam's first step is lr times the sign of the gradient.
    parameters = {"w": torch.tensor([[2.0]], dtype=torch.float64)}

    def outputs(values):
        return torch.ones(4, 1, dtype=torch.float64) @ values["w"]

    change = torch.full((4, 1), 1.0, dtype=torch.float64)
    assert refit_error(outputs, parameters, change, steps=0) == 1
    assert refit_error(outputs, parameters, change, steps=1, lr=0.1) == pytest.approx(0.81)
    assert refit_error(outputs, parameters, change, steps=300, lr=0.1) < 1e-3
    assert parameters["w"] == 2


def test_refits_of_several_networks_do_not_mix():
    """Network 0 has no live unit and learns no more than a bias; network 1 does."""
    weight = torch.randn(2, 8, 3, generator=torch.Generator().manual_seed(0))
    bias = torch.zeros(2, 1, 8)
    bias[0] = -100
    parameters = {
        "w": weight,
        "b": bias,
        "v": torch.full((2, 8, 1), 0.1),
        "c": torch.zeros(2, 1, 1),
    }
    x = gaussian(32, 3).float()
    change = standardized(x[:, :1])

    def outputs(p):
        return (x @ p["w"].mT + p["b"]).relu() @ p["v"] + p["c"]

    dead, alive = refit_error(outputs, parameters, change, steps=100, lr=0.02)
    assert dead == pytest.approx(1, abs=1e-3)
    assert alive < 0.2

    alone = refit_error(outputs, {k: p[1:] for k, p in parameters.items()}, change, 100, 0.02)
    torch.testing.assert_close(alone[0], alive)


def test_a_refit_of_values_far_from_zero_is_that_of_values_near_it():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 1)).double()
    x = gaussian(20, 3)
    change = standardized(gaussian(20, 1, seed=1))
    near = dict(net.named_parameters())
    far = {**near, "2.bias": near["2.bias"] + 1e4}

    def outputs(p):
        return functional_call(net, p, (x,))

    torch.testing.assert_close(
        refit_error(outputs, near, change), refit_error(outputs, far, change), rtol=1e-4, atol=0
    )


def test_standardized_columns():
    values = standardized(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
    assert values.tolist() == [[-1, 0], [1, 0]]
