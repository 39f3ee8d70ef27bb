"""Per-run Adam and clipping against torch.optim and by hand."""

import copy

import pytest
import torch
from helpers.nets import assert_runs_close, copies_of_runs, step_runs

from rlop.optim import Adam, adam_, clip_runs, fused_adam_, run_norms

SHAPES = ((5, 3), (5,))  # of a weight and a bias


# --- Adam ---


def test_adam_equals_torch_for_every_run_and_learning_rate():
    torch.manual_seed(0)
    rates = [1e-1, 1e-2, 1e-3]
    constants = {"betas": (0.8, 0.99), "eps": 1e-5}
    ours = [torch.randn(3, 4, 2).requires_grad_(), torch.randn(3, 4).requires_grad_()]
    theirs = copies_of_runs(ours)

    optimizer = Adam(ours, torch.tensor(rates), **constants)
    peers = []
    for parameters, lr in zip(theirs, rates, strict=True):
        peers.append(torch.optim.Adam(parameters, lr=lr, **constants))

    for _ in range(200):
        grads = [torch.randn_like(p) for p in ours]
        optimizer.apply(grads)
        step_runs(peers, theirs, grads)
        assert_runs_close(ours, theirs, rtol=2e-5, atol=2e-5)


def new_state(runs):
    """Parameters, means and squares of zero."""
    state = []
    for _ in range(3):
        state.append([torch.zeros(runs, *shape) for shape in SHAPES])
    return state


@pytest.mark.parametrize("rates", [[1e-2], [1e-2, 1e-2, 1e-3, 0.0], [1e-2] * 4])
def test_the_fused_step_equals_the_plain_one_step_by_step(rates):
    runs = len(rates)
    plain, fused = new_state(runs), new_state(runs)
    plain_count, fused_count = torch.zeros(()), torch.zeros(())
    lr, betas, eps = torch.tensor(rates), (0.9, 0.99), 1e-6

    for _ in range(100):
        transposed = torch.randn(runs, 3, 5).mT  # as autograd hands them out
        grads = [transposed, torch.randn(runs, 5)]
        for step_, (params, means, squares), count in (
            (adam_, plain, plain_count),
            (fused_adam_, fused, fused_count),
        ):
            step_(params, grads, means, squares, count, lr, betas, eps)

        for plain_tensors, fused_tensors in zip(plain, fused, strict=True):
            torch.testing.assert_close(fused_tensors, plain_tensors, rtol=2e-5, atol=1e-6)
    assert plain_count == fused_count == 100


def test_step_reads_grad():
    a, b = (torch.ones(2, 3, requires_grad=True) for _ in range(2))
    Adam([a], 0.1).apply([torch.full((2, 3), 2.0)])

    b.grad = torch.full((2, 3), 2.0)
    Adam([b], 0.1).step()
    assert torch.equal(a, b)
    assert a[0, 0].item() == pytest.approx(0.9, abs=1e-6)  # Adam's first step has size lr


def test_inactive_runs_do_not_move():
    p = torch.zeros(2, 3, requires_grad=True)
    optimizer = Adam([p], 0.1)
    optimizer.apply([torch.ones(2, 3)])
    before = p.detach().clone()

    optimizer.apply([torch.ones(2, 3)], active=torch.tensor([True, False]))
    assert p[0, 0].item() == pytest.approx(-0.2, abs=1e-5)
    assert torch.equal(p[1], before[1])


def test_a_saved_state_continues_identically():
    grads = [torch.randn(2, 3) for _ in range(6)]
    p, q = (torch.zeros(2, 3, requires_grad=True) for _ in range(2))
    first, second = Adam([p], 0.1), Adam([q], 0.7)
    for grad in grads[:3]:
        first.apply([grad])

    second.load_state_dict(copy.deepcopy(first.state_dict()))
    with torch.no_grad():
        q.copy_(p)
    for grad in grads[3:]:
        first.apply([grad])
        second.apply([grad])
    assert torch.equal(p, q)


# --- clipping ---


@pytest.mark.parametrize("runs", [1, 2])
def test_norms_and_clipping_run_by_run(runs):
    weights, biases = torch.tensor([[3.0], [0.3]]), torch.tensor([[4.0], [0.4]])
    grads = [weights[:runs], biases[:runs]]
    norms = run_norms(grads)
    torch.testing.assert_close(norms, torch.tensor([5.0, 0.5])[:runs])

    clipped = clip_runs(grads, norms, torch.ones(runs, dtype=torch.bool), 1.0)
    torch.testing.assert_close(run_norms(clipped), torch.tensor([1.0, 0.5])[:runs])


@pytest.mark.parametrize("limit", [None, 10.0])
def test_a_run_with_nan_is_zeroed_and_its_neighbor_untouched(limit):
    grads = [torch.tensor([[float("nan"), 1.0], [1.0, 2.0]])]
    norms = run_norms(grads)

    (clipped,) = clip_runs(grads, norms, torch.isfinite(norms), limit)
    assert torch.equal(clipped, torch.tensor([[0.0, 0.0], [1.0, 2.0]]))
