"""SGD, SMD and RMD: against torch.optim, convex programs and ridge regression, run by run."""

import copy

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from rlop.optim import (
    RMD,
    SGD,
    SMD,
    entropy_,
    optimizer_maker,
    optimizer_options,
    sgd_,
    slack_,
    smd_,
    unsigned_loss,
)
from rlop.types import InputError

F64 = torch.float64


# --- SGD ---


def test_sgd_equals_torch_for_every_run():
    torch.manual_seed(0)
    rates, momenta = [0.1, 0.01, 0.1], [0.0, 0.9, 0.5]
    ours = [torch.randn(3, 4, 2), torch.randn(3, 4)]
    theirs = [[p[run].clone().requires_grad_() for p in ours] for run in range(3)]
    settings = zip(theirs, rates, momenta, strict=True)
    peers = [torch.optim.SGD(ps, lr=lr, momentum=momentum) for ps, lr, momentum in settings]
    optimizer = SGD(ours, torch.tensor(rates), torch.tensor(momenta))
    for _ in range(50):
        grads = [torch.randn_like(p) for p in ours]
        optimizer.apply(grads)
        for run, peer in enumerate(peers):
            for p, g in zip(theirs[run], grads, strict=True):
                p.grad = g[run].clone()
            peer.step()
    for run in range(3):
        for a, b in zip(ours, theirs[run], strict=True):
            torch.testing.assert_close(a[run], b.detach(), rtol=1e-4, atol=1e-5)


# --- SMD ---


def test_mirror_steps_by_hand():
    """Step from 4, -1 and 0; the last one jumps for q = 3.

    q = 2:  4 - 0.4, -1 - 0.1, 0 + 0.2
    q = 3:  sqrt(16 - 0.4), -sqrt(1 + 0.1), sqrt(0.2)
    """
    w = torch.tensor([[4.0, -1.0, 0.0]]).repeat(2, 1)
    smd_(
        [w],
        [torch.tensor([[0.4, 0.1, -0.2]]).repeat(2, 1)],
        torch.ones(2),
        torch.tensor([2.0, 3.0]),
    )
    torch.testing.assert_close(w, torch.tensor([[3.6, -1.1, 0.2], [3.949684, -1.048809, 0.447214]]))


def test_the_step_equals_the_authors_at_q_times_the_rate():
    """Their update, written from the formula.

    u = q |w|^(q-1) sign(w) - lr g,  w = sign(u) |u/q|^(1/(q-1))
    """
    rng = np.random.default_rng(0)
    w, g = rng.normal(size=(3, 8)), rng.normal(size=(3, 8))
    q, lr = np.array([1.1, 2.0, 3.0]), np.array([0.01, 0.1, 0.05])
    u = q[:, None] * np.abs(w) ** (q - 1)[:, None] * np.sign(w) - (q * lr)[:, None] * g
    expected = np.sign(u) * np.abs(u / q[:, None]) ** (1 / (q - 1))[:, None]
    ours = torch.from_numpy(w.copy())
    smd_([ours], [torch.from_numpy(g)], torch.from_numpy(lr), torch.from_numpy(q))
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-9)


def test_around_a_reference_the_step_is_that_of_the_difference():
    torch.manual_seed(0)
    w, r, g = (torch.randn(2, 5, dtype=F64) for _ in range(3))
    q, lr = torch.tensor([1.5, 3.0], dtype=F64), torch.full((2,), 0.1, dtype=F64)
    shifted, moved = w - r, w.clone()
    smd_([shifted], [g], lr, q)
    smd_([moved], [g], lr, q, [r])
    torch.testing.assert_close(moved, shifted + r)


def test_at_q_2_the_reference_does_not_matter_and_it_is_gradient_descent():
    torch.manual_seed(0)
    w = torch.randn(2, 5)
    g = torch.randn(2, 5)
    rates = torch.tensor([0.1, 0.3])
    found = []
    for make in (
        lambda p: SGD(p, rates),
        lambda p: SMD(p, rates),
        lambda p: SMD(p, rates, reference="init"),
    ):
        p = w.clone()
        make([p]).apply([g])
        found.append(p)
    p = w.clone()
    smd_([p], [g], rates, torch.full((2,), 2.0))
    for other in (*found[1:], p):
        torch.testing.assert_close(other, found[0], rtol=1e-6, atol=1e-7)


def sparse_problem(seed):
    """The oracle's: n = 20, d = 100, a 3-sparse target."""
    rng = np.random.default_rng(seed)
    target = np.zeros(100)
    target[:3] = rng.choice((-1.0, 1.0), 3)
    x = rng.normal(size=(20, 100)) / np.sqrt(20)
    return x, x @ target


def least_norm(x, y, q):
    """Solve argmin ||w||_q^q / q with x w = y, by its dual.

    v maximizes y v - sum |x^T v|^p / p,  1/p + 1/q = 1
    """
    p = q / (q - 1)

    def primal(v):
        u = x.T @ v
        return np.sign(u) * np.abs(u) ** (p - 1)

    found = minimize(
        lambda v: (np.abs(x.T @ v) ** p).sum() / p - y @ v,
        np.linalg.solve(x @ x.T, y),
        jac=lambda v: x @ primal(v) - y,
        method="BFGS",
        options={"gtol": 1e-10, "maxiter": 5000},
    )
    return primal(found.x)


def test_each_potential_ends_at_its_own_interpolator():
    """Bands: 30 % around norms measured once on a problem of these sizes."""
    x, y = sparse_problem(0)
    a, b = torch.from_numpy(x), torch.from_numpy(y)
    w = 1e-4 * torch.randn(4, 100, dtype=F64, generator=torch.Generator().manual_seed(0))
    w[3] = 0
    q, lr = torch.tensor([[1.1, 2.0, 3.0, 1.1], [0.01, 0.1, 0.005, 0.01]], dtype=F64)
    optimizer = SMD([w], lr, q)
    for _ in range(4000):
        optimizer.apply([(w @ a.T - b) @ a])
    torch.testing.assert_close(w @ a.T, b.expand(4, -1), atol=5e-3, rtol=0)
    _, plain, even, sparsest = w.numpy()
    np.testing.assert_allclose(plain, np.linalg.pinv(x) @ y, atol=1e-3)  # up to the start at 1e-4
    np.testing.assert_allclose(even, least_norm(x, y, 3.0), atol=1e-5)
    np.testing.assert_allclose(
        sparsest, least_norm(x, y, 1.1), atol=2e-2
    )  # a start at 1e-4 is far from 0 for q = 1.1
    norms = {p: np.linalg.norm(w.numpy(), p, axis=1) for p in (1, 2, np.inf)}
    assert norms[1][:2] == pytest.approx([4.97, 5.85], rel=0.3)
    assert norms[2][:2] == pytest.approx([1.12, 0.741], rel=0.3)
    assert norms[np.inf][1:3] == pytest.approx([0.22, 0.155], rel=0.3)
    assert norms[1][3] < norms[1][0] < norms[1][1] < norms[1][2]
    assert norms[np.inf][0] > norms[np.inf][1] > norms[np.inf][2]


def test_entropy_keeps_signs_and_finds_the_interpolator_of_least_divergence():
    """From w = c the interpolator is nearest in sum w log(w/c) - w.

    Its optimality: log(w/c) lies in the row space.
    """
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(5, 20)))
    y = x @ torch.from_numpy(rng.uniform(0.5, 2.0, size=20))
    w = torch.full((1, 20), 0.3, dtype=F64)
    for _ in range(3000):
        entropy_([w], [(w @ x.T - y) @ x], torch.tensor([0.01], dtype=F64))
    torch.testing.assert_close(w[0] @ x.T, y, atol=1e-8, rtol=0)
    assert (w > 0).all()
    dual = (w[0] / 0.3).log()
    torch.testing.assert_close(
        x.T @ torch.linalg.lstsq(x.T, dual).solution, dual, atol=1e-8, rtol=0
    )
    signed, mirrored = torch.tensor([[0.5, 0.0]]), torch.tensor([[-0.5, 0.0]])
    entropy_([signed], [torch.tensor([[1.0, 1.0]])], torch.ones(1))
    entropy_([mirrored], [torch.tensor([[-1.0, 1.0]])], torch.ones(1))
    assert torch.equal(signed, -mirrored)
    assert signed[0, 0].item() == pytest.approx(0.5 * np.exp(-1))


@pytest.mark.parametrize(
    "options", [{"q": 1.1}, {"q": 3.0}, {"potential": "entropy"}, {"q": 3.0, "reference": "init"}]
)
def test_no_gradient_no_move_and_no_overflow(options):
    w = torch.tensor([[0.1234567, -3.3], [0.1, 0.2]])
    start = w.clone()
    optimizer = SMD([w], 1.0, **options)
    for _ in range(100):
        optimizer.apply([torch.tensor([[0.0, 0.0], [1.0, 1.0]])], torch.tensor([True, False]))
    assert torch.equal(w, start)
    for _ in range(3):
        optimizer.apply([torch.tensor([[-3e37, 3e37], [1.0, 1.0]])], torch.tensor([True, True]))
    assert w.isfinite().all()


# --- RMD ---


def ridge_problem():
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(50, 200))) / 200**0.5
    y = x @ torch.from_numpy(rng.normal(size=200)) + torch.from_numpy(rng.normal(size=50))
    return x, y


def ridge(x, y, lam, centre):
    """argmin lam |y - x w|^2 / 2 + |w - centre|^2 / 2."""
    return centre + x.T @ torch.linalg.solve(
        x @ x.T + torch.eye(len(x), dtype=F64) / lam, y - x @ centre
    )


LAMBDAS = [0.3, 3.0, 30.0]


@pytest.mark.parametrize("centred", [False, True])
def test_signed_rmd_is_ridge_regression(centred):
    x, y = ridge_problem()
    centre = centred * torch.randn(200, dtype=F64, generator=torch.Generator().manual_seed(1))
    w = centre.repeat(3, 1).requires_grad_()
    lam = torch.tensor(LAMBDAS, dtype=F64)
    optimizer = RMD([w], 50 * torch.tensor([0.3, 0.8, 0.8], dtype=F64), lam, reference="init")
    optimizer.allot(50)
    index = torch.stack(
        [torch.randperm(50, generator=torch.Generator().manual_seed(k)) for k in range(3)]
    )
    for _ in range(1000):
        z = optimizer.read(index)
        error = torch.einsum("rd,rnd->rn", w, x[index]) - y[index] + z
        gradient, slope = torch.autograd.grad((error.square() / 2).mean(-1).sum(), [w, z])
        optimizer.apply([gradient])
        optimizer.relax(index, slope)
    for run, value in enumerate(LAMBDAS):
        exact = ridge(x, y, value, centre)
        assert ((w[run] - exact).norm() / exact.norm()).item() < 1e-12
    torch.testing.assert_close(optimizer.slack.detach(), y - w.detach() @ x.T, atol=1e-12, rtol=0)


def test_unsigned_rmd_comes_near_ridge_sample_by_sample():
    """Algorithm 1 once more, plainly, for the very numbers; distances from ridge in bands."""
    x, y = ridge_problem()
    lam, lr = torch.tensor(LAMBDAS, dtype=F64), torch.tensor([0.15, 0.5, 0.5], dtype=F64)
    w = torch.zeros(3, 200, dtype=F64, requires_grad=True)
    optimizer = RMD([w], lr, lam, form="unsigned")
    optimizer.allot(50)
    plain_w, plain_z = np.zeros((3, 200)), np.zeros((3, 50))
    for step in range(40 * 50):
        i = step % 50
        index = torch.full((3, 1), i)
        z = optimizer.read(index)
        loss = unsigned_loss((w @ x[i] - y[i]).square() / 2, z)
        gradient, slope = torch.autograd.grad(loss.sum(), [w, z])
        optimizer.apply([gradient])
        optimizer.relax(index, slope)
        if step < 500:
            residual = plain_w @ x[i].numpy() - y[i].item()
            c = lr.numpy() * (plain_z[:, i] - np.abs(residual))
            plain_w += (c * np.sign(residual))[:, None] * x[i].numpy()
            plain_z[:, i] -= c / lam.numpy()
            if step == 499:
                np.testing.assert_allclose(w.detach().numpy(), plain_w, atol=1e-5)
                np.testing.assert_allclose(optimizer.slack.detach().numpy(), plain_z, atol=1e-5)
    for run, value in enumerate(LAMBDAS):
        exact = ridge(x, y, value, torch.zeros(200, dtype=F64))
        assert ((w[run] - exact).norm() / exact.norm()).item() < 0.1

        def objective(v, value=value):
            return (value * (y - x @ v).square().sum() / 2 + v.square().sum() / 2).item()

        assert objective(w[run].detach()) < 1.01 * objective(exact)


def test_a_minibatch_as_the_authors_code_has_it():
    """lr_t = lr (s - z)/s on the mean loss, and every z of the batch up by (lr/lam)(s - z)."""
    lr, lam = torch.tensor([0.1, 0.2], dtype=F64), torch.tensor([4.0, 1.0], dtype=F64)
    w = torch.tensor([[1.0, -2.0], [0.5, 0.3]], dtype=F64, requires_grad=True)
    x = torch.tensor([[1.0, 0.5], [-1.0, 2.0], [0.3, 0.3]], dtype=F64)
    optimizer = RMD([w], lr, lam, form="unsigned")
    optimizer.allot(5)
    with torch.no_grad():
        optimizer.slack.copy_(
            torch.tensor([[0.1, 9.0, 9.0, 0.2, 0.3], [5.0, 9.0, 9.0, 4.0, 6.0]], dtype=F64)
        )
    index = torch.tensor([[0, 3, 4], [4, 3, 0]])
    z = optimizer.read(index)
    mean_loss = (w @ x.T).cosh().mean(-1)
    (plain,) = torch.autograd.grad(mean_loss.sum(), w, retain_graph=True)
    s, level = (2 * mean_loss).sqrt().detach(), torch.tensor([0.2, 5.0], dtype=F64)
    expected = w.detach() - (lr * (s - level) / s).unsqueeze(1) * plain
    risen = torch.tensor([0.1, 0.2, 0.3], dtype=F64) + (lr / lam * (s - level))[0]
    gradient, slope = torch.autograd.grad(unsigned_loss(mean_loss, z).sum(), [w, z])
    optimizer.apply([gradient])
    optimizer.relax(index, slope)
    torch.testing.assert_close(w.detach(), expected, atol=1e-10, rtol=0)
    assert s[1] < level[1]  # so that run climbs, by design
    torch.testing.assert_close(optimizer.slack[0, [0, 3, 4]].detach(), risen, atol=1e-10, rtol=0)
    assert optimizer.slack[0, 1:3].tolist() == [9.0, 9.0]


def test_unsigned_loss_has_a_gradient_at_zero_loss():
    loss = torch.zeros(2, requires_grad=True)
    unsigned_loss(loss, torch.zeros(2, 3)).sum().backward()
    assert loss.grad.isfinite().all()
    with pytest.raises(ValueError, match="slack"):
        unsigned_loss(loss, torch.zeros(3, 2))


def test_slacks_of_a_sample_drawn_twice_of_critics_and_of_a_frozen_run():
    slack = torch.zeros(2, 3, 4)  # [R, E, N]
    index = torch.tensor([[1, 1], [0, 2]])
    slope = torch.ones(2, 3, 2) * torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1)
    slope[1] = float("nan")
    slack_(slack, index, slope, torch.tensor([0.5, 0.5]), torch.tensor([True, False]))
    assert slack[0].tolist() == [[0, -1, 0, 0], [0, -2, 0, 0], [0, -3, 0, 0]]
    assert not slack[1].any()
    with pytest.raises(ValueError, match="slack"):
        slack_(slack, index, slope[:, :2], torch.ones(2))


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


# --- all of them ---

MAKERS = {
    "sgd": lambda p, lr: SGD(p, lr, 0.9),
    "smd": lambda p, lr: SMD(p, lr, torch.linspace(1.2, 3.0, len(lr)), reference="init"),
    "entropy": lambda p, lr: SMD(p, lr, potential="entropy"),
    "rmd": lambda p, lr: RMD(p, lr, 2.0, q=1.5),
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_saved_state_continues_identically_and_step_reads_grad(name):
    torch.manual_seed(0)
    start, grads = torch.rand(2, 3), [torch.randn(2, 3) for _ in range(6)]
    p, q = (start.clone().requires_grad_() for _ in range(2))
    first, second = (
        MAKERS[name]([p], torch.tensor([0.1, 0.2])),
        MAKERS[name]([q], torch.tensor([0.7, 0.7])),
    )
    index = torch.tensor([[0, 1], [1, 2]])
    if name == "rmd":
        first.allot(4)
        first.relax(index, torch.randn(2, 2))
    for g in grads[:3]:
        first.apply([g])
    with torch.no_grad():
        q.copy_(p)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for g in grads[3:]:
        first.apply([g])
        q.grad = g
        second.step()
    assert torch.equal(p, q)
    if name == "rmd":
        assert torch.equal(first.read(index), second.read(index))
        assert second.read(index).requires_grad
    with pytest.raises(ValueError, match="closures"):
        first.step(lambda: 0.0)


@pytest.mark.parametrize("name", MAKERS)
def test_a_run_alone_equals_itself_among_others(name):
    torch.manual_seed(0)
    start, lr = torch.rand(3, 4) + 0.1, torch.tensor([0.1, 0.01, 0.03])
    many = start.clone()
    all_runs = MAKERS[name]([many], lr)
    alone = [start[run : run + 1].clone() for run in range(3)]
    singles = [MAKERS[name]([p], lr[run : run + 1]) for run, p in enumerate(alone)]
    if name == "smd":
        for run, single in enumerate(singles):
            single.param_groups[0]["q"].copy_(all_runs.param_groups[0]["q"][run])
    for _ in range(20):
        g = torch.randn(3, 4)
        all_runs.apply([g])
        for run, single in enumerate(singles):
            single.apply([g[run : run + 1]])
    torch.testing.assert_close(torch.cat(alone), many, rtol=1e-5, atol=1e-6)


def test_the_choice_of_a_configuration():
    params, numbers = (
        [torch.zeros(2, 3)],
        {"optimizer.lam": torch.tensor([1.0, 2.0]), "optimizer.q": torch.ones(2) * 2},
    )
    options = optimizer_options({"rmd": {"lam": [1.0, 2.0]}})
    optimizer = optimizer_maker(options, numbers, form="unsigned", betas=(0.1, 0.2))(
        params, torch.ones(2)
    )
    assert isinstance(optimizer, RMD)
    assert optimizer.unsigned
    assert optimizer.param_groups[0]["lam"].tolist() == [1.0, 2.0]
    make = optimizer_maker(optimizer_options("adam"), {}, betas=(0.1, 0.2), eps=1e-3, form="signed")
    adam = make(params, torch.ones(2))
    assert adam.param_groups[0]["betas"] == (0.1, 0.2)
    assert optimizer_options({"sgd": None}).momentum == 0.0
    assert optimizer_options({"smd": {"q": 1.1}}).q == 1.1


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        ("adamw", "did you mean 'adam'"),
        ({"sgd": {}, "rmd": {"lam": 1}}, "expected one"),
        ({}, "expected one"),
        ("rmd", "lam: missing"),
        ({"rmd": {"lam": 0}}, "lam = 0"),
        ({"rmd": {"lam": [1, -1]}}, r"lam\[1\] = -1"),
        ({"smd": {"q": 1.0}}, "q = 1"),
        ({"smd": {"potential": "entropie"}}, "'entropy'"),
        ({"smd": {"potential": "entropy", "q": 3}}, "takes no q"),
        ({"sgd": {"momentum": 1.0}}, "momentum = 1"),
        ({"sgd": {"nesterov": True}}, "unknown key 'optimizer.sgd.nesterov'"),
        ({"sgd": 0.9}, "expected a mapping"),
    ],
)
def test_bad_choices_are_one_line_that_names_them(optimizer, message):
    with pytest.raises(InputError, match=message) as caught:
        optimizer_options(optimizer)
    assert "optimizer" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_arguments_of_the_classes():
    p = [torch.zeros(2, 3)]
    for make, option in (
        (SMD, {"potential": "l1"}),
        (SMD, {"reference": "last"}),
        (RMD, {"lam": 1.0, "form": "x"}),
    ):
        with pytest.raises(InputError, match="unknown"):
            make(p, 0.1, **option)
    with pytest.raises(ValueError, match="zip"):
        sgd_(p, [], p, torch.ones(2), torch.zeros(2))
