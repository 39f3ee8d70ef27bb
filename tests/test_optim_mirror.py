"""SGD and SMD: against torch.optim, closed forms and convex programs, run by run."""

import numpy as np
import pytest
import torch
from helpers.nets import assert_runs_close, copies_of_runs, step_runs
from scipy.optimize import minimize

from rlop.optim import RMD, SGD, SMD, entropy_, sgd_, smd_
from rlop.types import InputError

F64 = torch.float64


# --- SGD ---


def test_sgd_equals_torch_for_every_run():
    torch.manual_seed(0)
    rates, momenta = [0.1, 0.01, 0.1], [0.0, 0.9, 0.5]
    ours = [torch.randn(3, 4, 2), torch.randn(3, 4)]
    theirs = copies_of_runs(ours)

    optimizer = SGD(ours, torch.tensor(rates), torch.tensor(momenta))
    peers = []
    for parameters, lr, momentum in zip(theirs, rates, momenta, strict=True):
        peers.append(torch.optim.SGD(parameters, lr=lr, momentum=momentum))

    for _ in range(50):
        grads = [torch.randn_like(p) for p in ours]
        optimizer.apply(grads)
        step_runs(peers, theirs, grads)
    assert_runs_close(ours, theirs, rtol=1e-4, atol=1e-5)


# --- SMD ---


def test_mirror_steps_by_hand():
    """Step from 4, -1 and 0; the last one jumps for q = 3.

    q = 2:  4 - 0.4, -1 - 0.1, 0 + 0.2
    q = 3:  sqrt(16 - 0.4), -sqrt(1 + 0.1), sqrt(0.2)
    """
    w = torch.tensor([[4.0, -1.0, 0.0]]).repeat(2, 1)
    gradient = torch.tensor([[0.4, 0.1, -0.2]]).repeat(2, 1)

    smd_([w], [gradient], torch.ones(2), torch.tensor([2.0, 3.0]))
    expected = torch.tensor([[3.6, -1.1, 0.2], [3.949684, -1.048809, 0.447214]])
    torch.testing.assert_close(w, expected)


def test_the_step_equals_the_authors_at_q_times_the_rate():
    """Their update, written from the formula.

    u = q |w|^(q-1) sign(w) - lr g,  w = sign(u) |u/q|^(1/(q-1))
    """
    rng = np.random.default_rng(0)
    w, g = rng.normal(size=(3, 8)), rng.normal(size=(3, 8))
    q, lr = np.array([[1.1], [2.0], [3.0]]), np.array([[0.01], [0.1], [0.05]])
    u = q * np.abs(w) ** (q - 1) * np.sign(w) - q * lr * g
    expected = np.sign(u) * np.abs(u / q) ** (1 / (q - 1))

    ours = torch.from_numpy(w.copy())
    smd_([ours], [torch.from_numpy(g)], torch.from_numpy(lr[:, 0]), torch.from_numpy(q[:, 0]))
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
    w, g = torch.randn(2, 5), torch.randn(2, 5)
    rates = torch.tensor([0.1, 0.3])
    expected = w - rates.unsqueeze(1) * g

    by_powers = w.clone()
    smd_([by_powers], [g], rates, torch.full((2,), 2.0))
    torch.testing.assert_close(by_powers, expected, rtol=1e-6, atol=1e-7)
    for reference in ("zero", "init"):
        p = w.clone()
        SMD([p], rates, reference=reference).apply([g])
        torch.testing.assert_close(p, expected, rtol=1e-6, atol=1e-7)


def sparse_problem(seed):
    """n = 20, d = 100, a 3-sparse target."""
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

    solution = minimize(
        lambda v: (np.abs(x.T @ v) ** p).sum() / p - y @ v,
        np.linalg.solve(x @ x.T, y),
        jac=lambda v: x @ primal(v) - y,
        method="BFGS",
        options={"gtol": 1e-10, "maxiter": 5000},
    )
    return primal(solution.x)


def test_each_potential_ends_at_its_own_interpolator():
    """Bands: 30 % around norms measured once on a problem of these sizes."""
    x, y = sparse_problem(0)
    a, b = torch.from_numpy(x), torch.from_numpy(y)
    w = 1e-4 * torch.randn(4, 100, dtype=F64, generator=torch.Generator().manual_seed(0))
    w[3] = 0
    q = torch.tensor([1.1, 2.0, 3.0, 1.1], dtype=F64)
    lr = torch.tensor([0.01, 0.1, 0.005, 0.01], dtype=F64)

    optimizer = SMD([w], lr, q)
    for _ in range(4000):
        optimizer.apply([(w @ a.T - b) @ a])
    torch.testing.assert_close(w @ a.T, b.expand(4, -1), atol=5e-3, rtol=0)

    # Up to the start at 1e-4, which for q = 1.1 is far from 0.
    _, plain, even, sparsest = w.numpy()
    np.testing.assert_allclose(plain, np.linalg.pinv(x) @ y, atol=1e-3)
    np.testing.assert_allclose(even, least_norm(x, y, 3.0), atol=1e-5)
    np.testing.assert_allclose(sparsest, least_norm(x, y, 1.1), atol=2e-2)

    one, two, largest = (np.linalg.norm(w.numpy(), p, axis=1) for p in (1, 2, np.inf))
    assert one[:2] == pytest.approx([4.97, 5.85], rel=0.3)
    assert two[:2] == pytest.approx([1.12, 0.741], rel=0.3)
    assert largest[1:3] == pytest.approx([0.22, 0.155], rel=0.3)
    assert one[3] < one[0] < one[1] < one[2]
    assert largest[0] > largest[1] > largest[2]


def test_entropy_finds_the_interpolator_of_least_divergence():
    """From w = c the interpolator is nearest in sum w log(w/c) - w.

    Its optimality: log(w/c) lies in the row space.
    """
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(5, 20)))
    y = x @ torch.from_numpy(rng.uniform(0.5, 2.0, size=20))
    w = torch.full((1, 20), 0.3, dtype=F64)
    lr = torch.tensor([0.01], dtype=F64)

    for _ in range(3000):
        entropy_([w], [(w @ x.T - y) @ x], lr)
    torch.testing.assert_close(w[0] @ x.T, y, atol=1e-8, rtol=0)
    assert (w > 0).all()

    dual = (w[0] / 0.3).log()
    in_row_space = x.T @ torch.linalg.lstsq(x.T, dual).solution
    torch.testing.assert_close(in_row_space, dual, atol=1e-8, rtol=0)


def test_entropy_keeps_signs_and_zeros_and_mirrors_negative_weights():
    positive, negative = torch.tensor([[0.5, 0.0]]), torch.tensor([[-0.5, 0.0]])
    entropy_([positive], [torch.tensor([[1.0, 1.0]])], torch.ones(1))
    entropy_([negative], [torch.tensor([[-1.0, 1.0]])], torch.ones(1))

    assert torch.equal(positive, -negative)
    assert positive[0].tolist() == pytest.approx([0.5 * np.exp(-1), 0.0])


POTENTIALS = [
    {"q": 1.1},
    {"q": 3.0},
    {"potential": "entropy"},
    {"q": 3.0, "reference": "init"},
]


@pytest.mark.parametrize("options", POTENTIALS)
def test_a_weight_without_gradient_and_a_frozen_run_keep_their_bits(options):
    w = torch.tensor([[0.1234567, -3.3], [0.1, 0.2]])
    start = w.clone()
    optimizer = SMD([w], 1.0, **options)

    for _ in range(100):
        optimizer.apply([torch.tensor([[0.0, 0.0], [1.0, 1.0]])], torch.tensor([True, False]))
    assert torch.equal(w, start)


@pytest.mark.parametrize("options", POTENTIALS)
def test_a_step_that_overflows_is_not_taken(options):
    w = torch.tensor([[0.1234567, -3.3], [0.1, 0.2]])
    optimizer = SMD([w], 1.0, **options)
    for _ in range(3):
        optimizer.apply([torch.tensor([[-3e37, 3e37], [1.0, 1.0]])])
    assert w.isfinite().all()


# --- arguments ---


@pytest.mark.parametrize(
    ("make", "option"),
    [
        (SMD, {"potential": "l1"}),
        (SMD, {"reference": "last"}),
        (RMD, {"lam": 1.0, "form": "x"}),
    ],
)
def test_unknown_names_of_the_classes_are_refused(make, option):
    with pytest.raises(InputError, match="unknown"):
        make([torch.zeros(2, 3)], 0.1, **option)


def test_each_parameter_needs_its_gradient_and_its_reference():
    p = [torch.zeros(2, 3)]
    with pytest.raises(ValueError, match="zip"):
        sgd_(p, [], p, torch.ones(2), torch.zeros(2))
    with pytest.raises(ValueError, match="reference: expected 1 tensors, got 2"):
        SMD(p, 0.1, reference=[p[0], p[0]])
