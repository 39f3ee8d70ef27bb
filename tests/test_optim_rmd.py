"""Regularizer mirror descent against ridge regression and the paper's algorithm, run by run."""

import numpy as np
import pytest
import torch

from rlop.optim import RMD, slack_, unsigned_loss

F64 = torch.float64
LAMBDAS = [0.3, 3.0, 30.0]


def ridge_problem():
    """50 samples in 200 dimensions, with noise."""
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(50, 200))) / 200**0.5
    y = x @ torch.from_numpy(rng.normal(size=200)) + torch.from_numpy(rng.normal(size=50))
    return x, y


def ridge(x, y, lam, center):
    """argmin lam |y - x w|^2 / 2 + |w - center|^2 / 2."""
    gram = x @ x.T + torch.eye(len(x), dtype=F64) / lam
    return center + x.T @ torch.linalg.solve(gram, y - x @ center)


def relative_distance(a, b):
    """|a - b| / |b|."""
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize("centered", [False, True])
def test_signed_rmd_is_ridge_regression(centered):
    x, y = ridge_problem()
    center = centered * torch.randn(200, dtype=F64, generator=torch.Generator().manual_seed(1))
    w = center.repeat(3, 1).requires_grad_()
    lr = 50 * torch.tensor([0.3, 0.8, 0.8], dtype=F64)
    optimizer = RMD([w], lr, torch.tensor(LAMBDAS, dtype=F64), reference="init")
    optimizer.allot(50)

    orders = []
    for seed in range(3):
        orders.append(torch.randperm(50, generator=torch.Generator().manual_seed(seed)))
    index = torch.stack(orders)
    for _ in range(1000):
        z = optimizer.read(index)
        error = torch.einsum("rd,rnd->rn", w, x[index]) - y[index] + z
        loss = (error.square() / 2).mean(-1)
        gradient, slope = torch.autograd.grad(loss.sum(), [w, z])
        optimizer.apply([gradient])
        optimizer.relax(index, slope)

    for run, lam in enumerate(LAMBDAS):
        assert relative_distance(w[run], ridge(x, y, lam, center)) < 1e-12
    torch.testing.assert_close(optimizer.slack.detach(), y - w.detach() @ x.T, atol=1e-12, rtol=0)


def unsigned_steps(x, y, lam, lr, steps):
    """Algorithm 1 of the paper, sample by sample, in NumPy."""
    w, z = np.zeros((3, 200)), np.zeros((3, 50))
    for step in range(steps):
        i = step % 50
        residual = w @ x[i] - y[i]
        c = lr * (z[:, i] - np.abs(residual))
        w += (c * np.sign(residual))[:, None] * x[i]
        z[:, i] -= c / lam
    return w, z


def test_unsigned_rmd_is_algorithm_1_and_comes_near_ridge():
    """The distances from ridge were measured once, and stand in bands."""
    x, y = ridge_problem()
    lam = torch.tensor(LAMBDAS, dtype=F64)
    lr = torch.tensor([0.15, 0.5, 0.5], dtype=F64)
    w = torch.zeros(3, 200, dtype=F64, requires_grad=True)
    optimizer = RMD([w], lr, lam, form="unsigned")
    optimizer.allot(50)

    plain_w, plain_z = unsigned_steps(x.numpy(), y.numpy(), lam.numpy(), lr.numpy(), 500)
    for step in range(40 * 50):
        i = step % 50
        index = torch.full((3, 1), i)
        z = optimizer.read(index)
        loss = unsigned_loss((w @ x[i] - y[i]).square() / 2, z)
        gradient, slope = torch.autograd.grad(loss.sum(), [w, z])
        optimizer.apply([gradient])
        optimizer.relax(index, slope)
        if step == 499:
            np.testing.assert_allclose(w.detach().numpy(), plain_w, atol=1e-5)
            np.testing.assert_allclose(optimizer.slack.detach().numpy(), plain_z, atol=1e-5)

    def objective(v, lam):
        return (lam * (y - x @ v).square().sum() / 2 + v.square().sum() / 2).item()

    for run, value in enumerate(LAMBDAS):
        exact = ridge(x, y, value, torch.zeros(200, dtype=F64))
        assert relative_distance(w[run], exact) < 0.1
        assert objective(w[run].detach(), value) < 1.01 * objective(exact, value)


def test_a_minibatch_as_the_authors_code_has_it():
    """lr_t = lr (s - z)/s on the mean loss, and every z of the batch up by (lr/lam)(s - z)."""
    lr, lam = torch.tensor([0.1, 0.2], dtype=F64), torch.tensor([4.0, 1.0], dtype=F64)
    w = torch.tensor([[1.0, -2.0], [0.5, 0.3]], dtype=F64, requires_grad=True)
    x = torch.tensor([[1.0, 0.5], [-1.0, 2.0], [0.3, 0.3]], dtype=F64)
    slacks = torch.tensor([[0.1, 9.0, 9.0, 0.2, 0.3], [5.0, 9.0, 9.0, 4.0, 6.0]], dtype=F64)
    index = torch.tensor([[0, 3, 4], [4, 3, 0]])

    optimizer = RMD([w], lr, lam, form="unsigned")
    optimizer.allot(5)
    with torch.no_grad():
        optimizer.slack.copy_(slacks)
    z = optimizer.read(index)
    mean_loss = (w @ x.T).cosh().mean(-1)

    # The step by hand, at the mean slacks of the two batches.
    (plain,) = torch.autograd.grad(mean_loss.sum(), w, retain_graph=True)
    s = (2 * mean_loss).sqrt().detach()
    level = torch.tensor([0.2, 5.0], dtype=F64)
    assert s[1] < level[1]  # so that run climbs, by design
    expected = w.detach() - (lr * (s - level) / s).unsqueeze(1) * plain
    raised = slacks[0, [0, 3, 4]] + (lr / lam * (s - level))[0]

    gradient, slope = torch.autograd.grad(unsigned_loss(mean_loss, z).sum(), [w, z])
    optimizer.apply([gradient])
    optimizer.relax(index, slope)
    torch.testing.assert_close(w.detach(), expected, atol=1e-10, rtol=0)
    torch.testing.assert_close(optimizer.slack[0, [0, 3, 4]].detach(), raised, atol=1e-10, rtol=0)
    assert optimizer.slack[0, 1:3].tolist() == [9.0, 9.0]


def test_unsigned_loss_has_a_gradient_at_zero_loss():
    loss = torch.zeros(2, requires_grad=True)
    unsigned_loss(loss, torch.zeros(2, 3)).sum().backward()
    assert loss.grad.isfinite().all()


def test_slacks_of_a_sample_drawn_twice_of_critics_and_of_a_frozen_run():
    slack = torch.zeros(2, 3, 4)  # [R, E, N]
    index = torch.tensor([[1, 1], [0, 2]])
    slope = torch.ones(2, 3, 2) * torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1)
    slope[1] = float("nan")

    slack_(slack, index, slope, torch.tensor([0.5, 0.5]), torch.tensor([True, False]))
    assert slack[0].tolist() == [[0, -1, 0, 0], [0, -2, 0, 0], [0, -3, 0, 0]]
    assert not slack[1].any()


def test_slacks_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="slack"):
        unsigned_loss(torch.zeros(2), torch.zeros(3, 2))

    slack, index = torch.zeros(2, 3, 4), torch.zeros(2, 2, dtype=torch.long)
    with pytest.raises(ValueError, match="slack"):
        slack_(slack, index, torch.zeros(2, 2, 2), torch.ones(2))


def test_slacks_are_allotted_once_and_kept():
    optimizer = RMD([torch.zeros(2, 3)], 0.1, 1.0)
    with pytest.raises(ValueError, match="allot"):
        optimizer.read(torch.zeros(2, 1, dtype=torch.long))

    optimizer.allot(7)
    with torch.no_grad():
        optimizer.slack.fill_(1.0)
    optimizer.allot(7)
    assert optimizer.slack.sum() == 14

    optimizer.allot(8)
    assert optimizer.slack.shape == (2, 8)
    assert not optimizer.slack.any()
