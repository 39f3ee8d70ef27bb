"""The vector-scaling loss against NumPy, row by row."""

import numpy as np
import pytest
import torch

from rlop.losses import td
from rlop.losses.imbalance import action_counts, vs_logits, vs_loss

COUNTS = torch.tensor([60, 30, 10])
WEIGHT = torch.tensor([0.5, 1.0, 2.0])
F64 = torch.float64


def numpy_vs_loss(logits, action, counts, gamma, tau, weight):
    """The form of the paper: each class has its factor Delta and its shift iota."""
    delta = (counts / counts.max()) ** gamma
    iota = tau * np.log(counts / counts.sum())
    losses = []
    for row, y in zip(np.exp(delta * logits + iota), action, strict=True):
        losses.append(-weight[y] * np.log(row[y] / row.sum()))
    return np.array(losses)


@pytest.mark.parametrize(("gamma", "tau"), [(0.0, 0.0), (0.3, 1.0), (0.0, 1.0), (0.4, 0.0)])
def test_vs_loss_equals_numpy_for_one_value_and_for_one_per_run(gamma, tau):
    logits, action = torch.randn(2, 5, 3, dtype=F64), torch.randint(3, (2, 5))

    def expected(run, gamma, tau):
        arrays = logits[run].numpy(), action[run].numpy(), COUNTS.numpy()
        return torch.from_numpy(numpy_vs_loss(*arrays, gamma, tau, WEIGHT.numpy()))

    one_value = vs_loss(logits, action, COUNTS, gamma, tau, WEIGHT)
    for run in range(2):
        torch.testing.assert_close(one_value[run], expected(run, gamma, tau), rtol=1e-12, atol=0)

    gammas, taus = torch.tensor([gamma, 0.1]), torch.tensor([tau, 2.0])
    per_run = vs_loss(logits, action, COUNTS, gammas, taus, WEIGHT)
    torch.testing.assert_close(per_run[0], expected(0, gamma, tau), rtol=1e-6, atol=0)
    torch.testing.assert_close(per_run[1], expected(1, 0.1, 2.0), rtol=1e-6, atol=0)


def test_the_conservative_gap_of_adjusted_logits_is_the_vs_loss():
    logits, action = torch.randn(2, 4, 3, dtype=F64), torch.randint(3, (2, 4))
    gamma, tau = torch.tensor([0.3, 0.0]), torch.tensor([1.0, 0.5])

    adjusted = vs_logits(logits, COUNTS, gamma, tau)
    gap = td.conservative_gap(adjusted, td.select(adjusted, action), torch.ones(2))
    torch.testing.assert_close(gap, vs_loss(logits, action, COUNTS, gamma, tau), rtol=1e-6, atol=0)


def test_without_gamma_and_tau_it_is_cross_entropy():
    q, action = torch.randn(2, 5, 3), torch.randint(3, (2, 5))
    unseen = torch.tensor([7, 0, 3])
    gap = td.conservative_gap(q, td.select(q, action), torch.ones(2))

    torch.testing.assert_close(vs_loss(q, action, unseen, 0.0, 0.0), gap)
    assert torch.equal(vs_logits(q, unseen, torch.zeros(2), torch.zeros(2)), q)


def test_two_classes_of_equal_count_give_the_binary_loss():
    """w log(1 + exp(iota - Delta f)), where f = f_1 - f_0 and iota is the shifts' difference."""
    f = torch.tensor([[[0.2, 1.5]]])
    loss = vs_loss(f, torch.tensor([[1]]), torch.tensor([50, 50]), 0.7, 1.0)
    margin = f[..., 1] - f[..., 0]
    torch.testing.assert_close(loss, torch.log1p(torch.exp(-margin)))


def test_a_rare_action_gets_the_larger_margin():
    """At equal logits the loss is minus the log frequency."""
    q = torch.zeros(1, 2, 3)
    common, rare = vs_loss(q, torch.tensor([[0, 2]]), COUNTS, 0.0, 1.0)[0].tolist()
    assert (common, rare) == pytest.approx((-np.log(0.6), -np.log(0.1)))


def test_an_action_never_taken_counts_as_taken_once_and_stays_among_those_pushed_down():
    logits = torch.randn(1, 5, 3, requires_grad=True)
    numbers = torch.tensor([0.3]), torch.tensor([1.0])
    never = vs_logits(logits, torch.tensor([7.0, 0.0, 9.0]), *numbers)
    once = vs_logits(logits, torch.tensor([7.0, 1.0, 9.0]), *numbers)
    assert torch.equal(never, once)

    gap = td.conservative_gap(never, never[..., 0], torch.ones(1))
    (gradient,) = torch.autograd.grad(gap.sum(), logits)
    assert gradient.isfinite().all()
    assert (gradient[..., 1] > 0).all()


def test_counts_are_of_every_action():
    action = np.array([3, 0, 3, 1])
    assert action_counts(action, 5, torch.device("cpu")).tolist() == [1.0, 1.0, 0.0, 2.0, 0.0]


def test_counts_of_other_actions_are_refused():
    with pytest.raises(ValueError, match=r"counts: expected \[A\]"):
        vs_logits(torch.zeros(2, 3, 4), COUNTS, 0.0, 0.0)
