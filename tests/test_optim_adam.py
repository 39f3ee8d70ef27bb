"""Per-run Adam and clipping against torch.optim and by hand."""

import copy

import pytest
import torch

from rlop.optim import Adam, adam_, clip_runs, fused_adam_, run_norms


def test_adam_equals_torch_for_every_run_and_learning_rate():
    torch.manual_seed(0)
    start = [torch.randn(3, 4, 2), torch.randn(3, 4)]
    rates = [1e-1, 1e-2, 1e-3]
    ours = [p.clone().requires_grad_() for p in start]
    optimizer = Adam(ours, torch.tensor(rates), betas=(0.8, 0.99), eps=1e-5)
    theirs = [[p[run].clone().requires_grad_() for p in start] for run in range(3)]
    peers = [
        torch.optim.Adam(ps, lr=lr, betas=(0.8, 0.99), eps=1e-5)
        for ps, lr in zip(theirs, rates, strict=True)
    ]
    for _ in range(200):
        grads = [torch.randn_like(p) for p in start]
        optimizer.apply(grads)
        for run, peer in enumerate(peers):
            for p, g in zip(theirs[run], grads, strict=True):
                p.grad = g[run].clone()
            peer.step()
        for run in range(3):
            for a, b in zip(ours, theirs[run], strict=True):
                torch.testing.assert_close(a[run], b, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("rates", [[1e-2], [1e-2, 1e-2, 1e-3, 0.0], [1e-2] * 4])
def test_the_fused_step_equals_the_plain_one_step_by_step(rates):
    runs = len(rates)
    states = [
        [[torch.zeros(runs, *shape) for shape in ((5, 3), (5,))] for _ in range(3)]
        for _ in range(2)
    ]
    counters = [torch.zeros(()), torch.zeros(())]
    for _ in range(100):
        grads = [
            torch.randn(runs, 3, 5).mT,
            torch.randn(runs, 5),
        ]  # transposed, as autograd hands them out
        for step, (params, means, squares), counter in zip(
            (adam_, fused_adam_), states, counters, strict=True
        ):
            step(params, grads, means, squares, counter, torch.tensor(rates), (0.9, 0.99), 1e-6)
        for plain, fused in zip(
            *([t for group in state for t in group] for state in states), strict=True
        ):
            torch.testing.assert_close(fused, plain, rtol=2e-5, atol=1e-6)
    assert counters[0] == counters[1] == 100


def test_step_reads_grad():
    a, b = (torch.ones(2, 3, requires_grad=True) for _ in range(2))
    first, second = Adam([a], 0.1), Adam([b], 0.1)
    first.apply([torch.full((2, 3), 2.0)])
    b.grad = torch.full((2, 3), 2.0)
    second.step()
    assert torch.equal(a, b)
    assert a[0, 0].item() == pytest.approx(0.9, abs=1e-6)  # Adam's first step has size lr


def test_inactive_runs_do_not_move():
    p = torch.zeros(2, 3, requires_grad=True)
    optimizer = Adam([p], 0.1)
    optimizer.apply([torch.ones(2, 3)])
    optimizer.apply([torch.ones(2, 3)], active=torch.tensor([True, False]))
    assert p[0, 0].item() == pytest.approx(-0.2, abs=1e-5)
    assert p[1, 0].item() == pytest.approx(-0.1, abs=1e-5)


def test_state_round_trip_continues_identically():
    grads = [torch.randn(2, 3) for _ in range(6)]
    p, q = (torch.zeros(2, 3, requires_grad=True) for _ in range(2))
    first, second = Adam([p], 0.1), Adam([q], 0.7)
    for g in grads[:3]:
        first.apply([g])
    with torch.no_grad():
        q.copy_(p)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for g in grads[3:]:
        first.apply([g])
        second.apply([g])
    assert torch.equal(p, q)


def test_norms_and_clipping_run_by_run():
    grads = [torch.tensor([[3.0], [0.3]]), torch.tensor([[4.0], [0.4]])]
    norms = run_norms(grads)
    torch.testing.assert_close(norms, torch.tensor([5.0, 0.5]))
    clipped = clip_runs(grads, norms, torch.tensor([True, True]), 1.0)
    torch.testing.assert_close(run_norms(clipped), torch.tensor([1.0, 0.5]))


def test_a_run_with_nan_is_zeroed_and_its_neighbour_untouched():
    grads = [torch.tensor([[float("nan"), 1.0], [1.0, 2.0]])]
    norms = run_norms(grads)
    for limit in (None, 10.0):
        (clipped,) = clip_runs(grads, norms, torch.isfinite(norms), limit)
        assert torch.equal(clipped, torch.tensor([[0.0, 0.0], [1.0, 2.0]]))
