"""Run-stacked parameters against `torch.nn` and `torch.optim`, run by run."""

import torch


def copies_of_runs(parameters):
    """Split stacked parameters `[R, ...]` into one list of plain parameters for each run."""
    runs = []
    for run in range(len(parameters[0])):
        runs.append([p[run].detach().clone().requires_grad_() for p in parameters])
    return runs


def step_runs(optimizers, runs, grads):
    """Give each run's plain parameters their slice of stacked gradients, and step."""
    for run, (optimizer, parameters) in enumerate(zip(optimizers, runs, strict=True)):
        for p, grad in zip(parameters, grads, strict=True):
            p.grad = grad[run].clone()
        optimizer.step()


def assert_runs_close(stacked, runs, **tolerance):
    """Compare stacked parameters with the plain ones of each run."""
    for run, parameters in enumerate(runs):
        for ours, theirs in zip(stacked, parameters, strict=True):
            torch.testing.assert_close(ours[run], theirs.detach(), **tolerance)


def descend(optimizer, parameters, loss):
    """Make one step down a loss, summed over runs."""
    optimizer.apply(list(torch.autograd.grad(loss.sum(), list(parameters))))
