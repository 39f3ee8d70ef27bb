"""Targets and losses by hand and against NumPy in float64."""

import numpy as np
import pytest
import torch

from rlop.losses import imbalance, td


def test_target_bootstraps_through_a_time_out_and_not_through_a_termination():
    reward = torch.tensor([[1.0, 1.0]])
    terminated = torch.tensor(
        [[0.0, 1.0]]
    )  # the first row may be a time-out: it is not marked here at all
    target = td.td_target(
        reward, torch.tensor([[10.0, 10.0]]), terminated, torch.ones(1, 2), torch.tensor([0.9])
    )
    torch.testing.assert_close(target, torch.tensor([[10.0, 1.0]]))


def test_target_uses_each_runs_gamma_and_the_multi_step_discount():
    ones, zeros = torch.ones(2, 1), torch.zeros(2, 1)
    target = td.td_target(zeros, ones, zeros, torch.full((2, 1), 0.25), torch.tensor([0.5, 0.8]))
    torch.testing.assert_close(target, torch.tensor([[0.125], [0.2]]))


def test_target_carries_no_gradient():
    value = torch.ones(1, 1, requires_grad=True)
    zeros = torch.zeros(1, 1)
    assert not td.td_target(zeros, value, zeros, zeros, torch.ones(1)).requires_grad


def test_target_moves_every_particle_alike():
    values, one = torch.tensor([[[10.0, 20.0, 30.0]]]), torch.ones(1, 1)
    target = td.td_target(one, values, 0 * one, one, torch.tensor([0.5]))
    torch.testing.assert_close(target, torch.tensor([[[6.0, 11.0, 16.0]]]))
    with pytest.raises(ValueError, match="td_target"):
        td.td_target(
            torch.ones(1, 2), values, torch.zeros(1, 2), torch.ones(1, 2), torch.tensor([0.5])
        )


def test_double_backs_up_the_online_networks_choice():
    picked = td.BACKUPS["double"](
        torch.tensor([[[1.0, 5.0]]]), torch.tensor([[[3.0, 2.0]]]), None, {}
    )
    assert picked.item() == 0


@pytest.mark.parametrize(("u", "action"), [(0.0, 0), (0.1999, 0), (0.2, 2), (0.999999, 2)])
def test_sampling_by_inversion_skips_actions_without_mass(u, action):
    assert td.sample_action(torch.tensor([[0.2, 0.0, 0.8]]), torch.tensor([u])).item() == action


def test_sampling_frequencies():
    policy = torch.tensor([0.1, 0.6, 0.3]).expand(20_000, 3)
    drawn = td.sample_action(policy, torch.rand(20_000, generator=torch.Generator().manual_seed(0)))
    np.testing.assert_allclose(
        np.bincount(drawn, minlength=3) / 20_000, [0.1, 0.6, 0.3], atol=0.015
    )


def test_huber_and_mse_by_hand():
    error = torch.tensor([0.5, -3.0])
    torch.testing.assert_close(td.huber(error), torch.tensor([0.125, 2.5]))
    torch.testing.assert_close(
        td.huber(error), torch.nn.functional.huber_loss(error, torch.zeros(2), reduction="none")
    )
    torch.testing.assert_close(td.mse(error), torch.tensor([0.25, 9.0]))


def test_conservative_gap_is_cross_entropy_at_temperature_one_and_numpy_elsewhere():
    q = torch.randn(2, 3, 4, dtype=torch.float64)
    action = torch.randint(4, (2, 3))
    data = td.select(q, action)
    entropy = torch.nn.functional.cross_entropy(
        q.flatten(0, 1), action.flatten(), reduction="none"
    ).view(2, 3)
    torch.testing.assert_close(
        td.conservative_gap(q, data, torch.ones(2, dtype=torch.float64)), entropy
    )
    t = np.array([0.5, 2.0])[:, None]
    expected = t * np.log(np.exp(q.numpy() / t[..., None]).sum(-1)) - data.numpy()
    np.testing.assert_allclose(
        td.conservative_gap(q, data, torch.tensor([0.5, 2.0]).double()), expected, rtol=1e-12
    )


def test_target_network_update_per_run():
    target, online = torch.zeros(3, 2, 2), torch.ones(3, 2, 2)
    td.update_target_([target], [online], torch.tensor([1.0, 0.25, 0.005]))
    torch.testing.assert_close(target[:, 0, 0], torch.tensor([1.0, 0.25, 0.005]))
    assert torch.equal(target[0], online[0])


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(ValueError, match="shapes differ"):
        td.select(torch.zeros(2, 3, 4), torch.zeros(2, 1, dtype=torch.int64))
    with pytest.raises(ValueError, match="shapes differ"):
        td.td_target(
            torch.zeros(2, 3),
            torch.zeros(2, 1),
            torch.zeros(2, 3),
            torch.zeros(2, 3),
            torch.ones(2),
        )


COUNTS = torch.tensor([60, 30, 10])


def numpy_vs(logits, action, counts, gamma, tau, weight):
    """Row by row, in the form of the paper: each class its own factor Delta and shift iota."""
    delta, iota = (counts / counts.max()) ** gamma, tau * np.log(counts / counts.sum())
    z = np.exp(delta * logits + iota)
    return np.array(
        [-weight[y] * np.log(row[y] / row.sum()) for row, y in zip(z, action, strict=True)]
    )


@pytest.mark.parametrize(("gamma", "tau"), [(0.0, 0.0), (0.3, 1.0), (0.0, 1.0), (0.4, 0.0)])
def test_vs_loss_equals_numpy_for_one_value_and_for_one_per_run(gamma, tau):
    logits, action = torch.randn(2, 5, 3, dtype=torch.float64), torch.randint(3, (2, 5))
    weight = torch.tensor([0.5, 1.0, 2.0])
    expected = [
        numpy_vs(logits[r].numpy(), action[r].numpy(), COUNTS.numpy(), gamma, tau, [0.5, 1, 2])
        for r in (0, 1)
    ]
    np.testing.assert_allclose(
        imbalance.vs_loss(logits, action, COUNTS, gamma, tau, weight), expected, rtol=1e-12
    )
    per_run = imbalance.vs_loss(
        logits, action, COUNTS, torch.tensor([gamma, 0.1]), torch.tensor([tau, 2.0]), weight
    )
    torch.testing.assert_close(per_run[0], torch.tensor(expected[0]), rtol=1e-6, atol=0)
    other = numpy_vs(logits[1].numpy(), action[1].numpy(), COUNTS.numpy(), 0.1, 2.0, [0.5, 1, 2])
    torch.testing.assert_close(per_run[1], torch.tensor(other), rtol=1e-6, atol=0)


def test_vs_loss_without_gamma_and_tau_is_cross_entropy_and_the_conservative_gap():
    q, action = torch.randn(2, 5, 3), torch.randint(3, (2, 5))
    unseen = torch.tensor([7, 0, 3])
    gap = td.conservative_gap(q, td.select(q, action), torch.ones(2))
    torch.testing.assert_close(imbalance.vs_loss(q, action, unseen, 0.0, 0.0), gap)
    assert torch.equal(imbalance.vs_logits(q, unseen, 0.0, 0.0), q)


def test_vs_logits_of_two_classes_are_the_binary_loss():
    # w log(1 + e^{iota} e^{-Delta f}) with equal factors: Delta f = Delta (f_1 - f_0), iota the
    # difference of shifts
    f, counts, tau = torch.tensor([[[0.2, 1.5]]]), torch.tensor([50, 50]), 1.0
    loss = imbalance.vs_loss(f, torch.tensor([[1]]), counts, 0.7, tau)
    torch.testing.assert_close(loss, torch.log1p(torch.exp(-(f[..., 1] - f[..., 0]))))


def test_vs_loss_wants_a_larger_margin_for_the_rare_action():
    q = torch.zeros(1, 2, 3)
    common, rare = imbalance.vs_loss(q, torch.tensor([[0, 2]]), COUNTS, 0.0, 1.0)[0].tolist()
    assert (common, rare) == pytest.approx(
        (-np.log(0.6), -np.log(0.1))
    )  # at equal logits, minus the log frequency


def test_an_action_never_taken_stays_among_those_pushed_down():
    q = torch.tensor([[[0.0, 5.0, 0.0]]], requires_grad=True)
    loss = imbalance.vs_loss(q, torch.tensor([[0]]), torch.tensor([99, 0, 100]), 0.3, 1.0)
    (grad,) = torch.autograd.grad(loss.sum(), q)
    assert loss.isfinite()
    assert grad[0, 0, 1] > 0


def test_vs_loss_refuses_counts_of_other_actions():
    with pytest.raises(ValueError, match=r"counts: expected \[A\]"):
        imbalance.vs_loss(
            torch.zeros(2, 3, 4), torch.zeros(2, 3, dtype=torch.int64), COUNTS, 0.0, 0.0
        )
