"""Targets and losses by hand and against NumPy in float64."""

import numpy as np
import pytest
import torch

from rlop.losses import td

# --- targets ---


def test_target_bootstraps_through_a_time_out_and_not_through_a_termination():
    reward = torch.tensor([[1.0, 1.0]])
    next_value = torch.tensor([[10.0, 10.0]])
    terminated = torch.tensor([[0.0, 1.0]])  # a time-out is not marked at all

    target = td.td_target(reward, next_value, terminated, torch.ones(1, 2), torch.tensor([0.9]))
    torch.testing.assert_close(target, torch.tensor([[10.0, 1.0]]))


def test_target_uses_each_runs_gamma_and_the_multi_step_discount():
    ones, zeros = torch.ones(2, 1), torch.zeros(2, 1)
    discount, gamma = torch.full((2, 1), 0.25), torch.tensor([0.5, 0.8])

    target = td.td_target(zeros, ones, zeros, discount, gamma)
    torch.testing.assert_close(target, torch.tensor([[0.125], [0.2]]))


def test_target_carries_no_gradient():
    value = torch.ones(1, 1, requires_grad=True)
    zeros = torch.zeros(1, 1)
    assert not td.td_target(zeros, value, zeros, zeros, torch.ones(1)).requires_grad


def test_target_moves_every_particle_alike():
    values = torch.tensor([[[10.0, 20.0, 30.0]]])
    one, zero = torch.ones(1, 1), torch.zeros(1, 1)

    target = td.td_target(one, values, zero, one, torch.tensor([0.5]))
    torch.testing.assert_close(target, torch.tensor([[[6.0, 11.0, 16.0]]]))


def test_max_and_double_back_up_the_choices_of_different_networks():
    target, online = torch.tensor([[[1.0, 5.0]]]), torch.tensor([[[3.0, 2.0]]])
    assert td.BACKUPS["max"](target, online, None, {}).item() == 1
    assert td.BACKUPS["double"](target, online, None, {}).item() == 0


@pytest.mark.parametrize(("u", "action"), [(0.0, 0), (0.1999, 0), (0.2, 2), (0.999999, 2)])
def test_sampling_by_inversion_skips_actions_without_mass(u, action):
    policy = torch.tensor([[0.2, 0.0, 0.8]])
    assert td.sample_action(policy, torch.tensor([u])).item() == action


def test_sampling_stays_in_range_where_probabilities_sum_to_less_than_the_uniform_number():
    """Ten times .1 ends below 1 in float32, and so may a policy that was rounded."""
    largest = torch.tensor([1 - 2**-24])
    assert td.sample_action(torch.tensor([[0.5, 0.4]]), largest).item() == 1
    assert td.sample_action(torch.full((1, 10), 0.1) * (1 - 1e-6), largest).item() == 9


def test_sampling_frequencies():
    policy = torch.tensor([0.1, 0.6, 0.3])
    uniform = torch.rand(20_000, generator=torch.Generator().manual_seed(0))

    actions = td.sample_action(policy.expand(20_000, 3), uniform)
    shares = torch.bincount(actions, minlength=3) / 20_000
    torch.testing.assert_close(shares, policy, atol=0.015, rtol=0)


def test_target_network_update_per_run():
    target, online = torch.zeros(3, 2, 2), torch.ones(3, 2, 2)
    td.update_target_([target], [online], torch.tensor([1.0, 0.25, 0.005]))

    torch.testing.assert_close(target[:, 0, 0], torch.tensor([1.0, 0.25, 0.005]))
    assert torch.equal(target[0], online[0])


# --- losses ---


def test_mse_has_no_half():
    torch.testing.assert_close(td.mse(torch.tensor([0.5, -3.0])), torch.tensor([0.25, 9.0]))


@pytest.mark.parametrize("delta", [1.0, 0.25, 2.5])
def test_huber_is_quadratic_up_to_delta_and_linear_beyond(delta):
    error = torch.tensor([0.0, 0.1, -0.24, 0.25, 1.0, -2.5, 2.6, -7.0], dtype=torch.float64)
    size = error.abs()
    linear = delta * (size - delta / 2)

    expected = torch.where(size <= delta, error.square() / 2, linear)
    torch.testing.assert_close(td.huber(error, delta), expected)


def test_conservative_gap_is_cross_entropy_at_temperature_one():
    q = torch.randn(2, 3, 4, dtype=torch.float64)
    action = torch.randint(4, (2, 3))
    gap = td.conservative_gap(q, td.select(q, action), torch.ones(2, dtype=torch.float64))

    flat = torch.nn.functional.cross_entropy(q.flatten(0, 1), action.flatten(), reduction="none")
    torch.testing.assert_close(gap, flat.view(2, 3))


def test_conservative_gap_equals_numpy_at_each_runs_temperature():
    q = torch.randn(2, 3, 4, dtype=torch.float64)
    data = q[..., 1]
    t = np.array([0.5, 2.0])[:, None]

    soft_maximum = t * np.log(np.exp(q.numpy() / t[..., None]).sum(-1))
    gap = td.conservative_gap(q, data, torch.from_numpy(t[:, 0]))
    np.testing.assert_allclose(gap, soft_maximum - data.numpy(), rtol=1e-12)


# --- shapes ---


@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (td.select, [(2, 3, 4), (2, 1)]),
        (td.sample_action, [(2, 3, 4), (2, 1)]),
        (td.td_target, [(2, 3), (2, 1), (2, 3), (2, 3), (2,)]),
        (td.td_target, [(1, 2), (1, 1, 3), (1, 2), (1, 2), (1,)]),
        (td.conservative_gap, [(2, 3, 4), (2, 1), (2,)]),
        (td.importance_values, [(2, 5, 3, 4), (2, 1, 4)]),
    ],
)
def test_shapes_that_would_broadcast_are_refused(function, shapes):
    with pytest.raises(ValueError, match=f"{function.__name__}: shapes differ"):
        function(*[torch.zeros(shape) for shape in shapes])
