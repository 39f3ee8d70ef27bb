"""The Gaussian squashed by tanh: its density against PyTorch, and on the bounds."""

import pytest
import torch

from rlop.losses import tanh_gaussian

MEAN, LOG_STD = torch.tensor([0.3]).double(), torch.tensor([-0.4]).double()


def test_the_density_integrates_to_one():
    grid = torch.linspace(-1, 1, 40_001, dtype=torch.float64)[1:-1].unsqueeze(-1)
    mean, log_std = MEAN.expand_as(grid), LOG_STD.expand_as(grid)
    density = tanh_gaussian.log_prob(mean, log_std, grid).exp()

    assert torch.trapezoid(density, grid[:, 0]).item() == pytest.approx(1, abs=1e-4)


def test_the_density_of_a_draw_is_that_of_the_action_and_of_pytorch():
    unit = torch.tensor([[0.1], [-1.7], [2.2]]).double()
    action, log_density = tanh_gaussian.sample(MEAN, LOG_STD, unit)
    mean, log_std = MEAN.expand_as(action), LOG_STD.expand_as(action)
    torch.testing.assert_close(tanh_gaussian.log_prob(mean, log_std, action), log_density)

    reference = torch.distributions.TransformedDistribution(
        torch.distributions.Normal(MEAN, LOG_STD.exp()), torch.distributions.TanhTransform()
    )
    torch.testing.assert_close(reference.log_prob(action).sum(-1), log_density)


def test_the_density_is_finite_where_tanh_is_flat():
    mean = torch.full((1, 2), 30.0, requires_grad=True)
    action, log_density = tanh_gaussian.sample(mean, torch.zeros(1, 2), torch.zeros(1, 2))
    assert (action == 1).all()
    assert torch.isfinite(log_density)

    (gradient,) = torch.autograd.grad(log_density.sum(), mean)
    assert torch.isfinite(gradient).all()


def test_actions_on_the_bounds_count_as_lying_just_inside():
    mean, log_std = torch.zeros(1, 2), torch.zeros(1, 2)
    on_the_bounds = tanh_gaussian.log_prob(mean, log_std, torch.tensor([[1.0, -1.0]]))
    inside = torch.tensor([[1 - 1e-6, -1 + 1e-6]])

    assert torch.isfinite(on_the_bounds)
    assert torch.equal(on_the_bounds, tanh_gaussian.log_prob(mean, log_std, inside))


def test_draws_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="expected the shape of mean"):
        tanh_gaussian.sample(torch.zeros(5, 2), torch.zeros(5, 2), torch.zeros(4, 2))
    with pytest.raises(ValueError, match="shapes differ"):
        tanh_gaussian.log_prob(torch.zeros(5, 2), torch.zeros(5, 2), torch.zeros(5, 1))
