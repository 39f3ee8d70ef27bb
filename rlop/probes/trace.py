"""Trace of the Gauss-Newton matrix: what label noise penalizes.

By the argument of DR3, TD itself penalizes or inflates it too. Near interpolation the Hessian of
(1/2n) sum_i e_i^2 is G = (1/n) sum_i grad f_i grad f_i^T, and

    tr G = (1/n) sum_i |grad f_i|^2

Reference: Blanc, Gupta, Valiant and Valiant, COLT 2020, arXiv:1904.09080 (the regularizer); Damian,
Ma and Lee, NeurIPS 2021, arXiv:2106.06530 (its trace form, and the estimate by noise).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor
from torch.func import jacrev, vmap

from rlop.probes.shapes import check_matrices, shapes_of

# (parameters by name, *inputs [*lead, n, ...]) -> [*lead, n] or [*lead, n, K]
Function: TypeAlias = Callable[..., Tensor]


def head_trace(features: Tensor, bias: bool = True) -> Tensor:
    """Compute the part of the trace that belongs to the last layer.

        mean |phi|^2 + 1 for an output w . phi + b

    Args:
        features: phi, `[..., n, d]`.
        bias: whether the layer has one.
    Returns:
        `[...]`.
    Raises:
        ValueError: for fewer than two axes.
    """
    check_matrices("features", features)
    return features.detach().square().sum(-1).mean(-1) + float(bias)


def gauss_newton_trace(
    fn: Function,
    parameters: Mapping[str, Tensor],
    *inputs: Tensor,
    lead: int = 0,
    chunk: int | None = None,
) -> Tensor:
    """Compute the trace over all given parameters exactly, from the gradient of every sample.

        net = torch.nn.Sequential(...)

        def fn(p, x):
            return torch.func.functional_call(net, p, (x,))

        gauss_newton_trace(fn, dict(net.named_parameters()), obs)

    Args:
        fn: the network as a function of its parameters; with K outputs their traces add up.
        parameters: name -> `[*lead, ...]`; omit those that should not count.
        inputs: each `[*lead, n, ...]`.
        lead: number of leading (run, critic) axes. Runs must not mix, because all are
            differentiated at once.
        chunk: samples whose gradients are in memory at once; None for all n.
    Returns:
        `[*lead]`, detached.
    Raises:
        ValueError: when the leading axes of parameters, inputs or outputs differ.
    """
    axes = _leading_axes(parameters, inputs, lead)

    def sample_trace(*sample: Tensor) -> Tensor:
        batch = [x.unsqueeze(lead) for x in sample]

        def outputs(p: dict[str, Tensor]) -> Tensor:
            return _outputs(fn(p, *batch), axes).flatten(0, lead).sum(0)

        squares = []
        for gradient in jacrev(outputs)(dict(parameters)).values():  # [K, *lead, ...]
            flat = gradient.square().reshape(len(gradient), *axes, -1)
            squares.append(flat.sum((0, -1)))
        return torch.stack(squares).sum(0)

    traces = vmap(sample_trace, in_dims=lead, chunk_size=chunk)(*inputs)
    return traces.mean(0).detach()


def noise_trace(
    fn: Function,
    parameters: Mapping[str, Tensor],
    *inputs: Tensor,
    signs: Tensor,
    lead: int = 0,
) -> Tensor:
    """Estimate the trace without bias from k backward passes.

        (1/k) sum_k (1/n) | sum_i s_ki grad f_i |^2,   s = -1 or 1 at random

    For networks whose gradients per sample do not fit into memory.

    Args:
        fn: as in `gauss_newton_trace`.
        parameters, inputs, lead: likewise.
        signs: `[k, n]` for one output per sample, `[k, n, K]` for K outputs; the same for all runs.
    Returns:
        `[*lead]`, detached.
    Raises:
        ValueError: when shapes do not fit.
    """
    axes = _leading_axes(parameters, inputs, lead)
    leaves = {name: p.detach().requires_grad_() for name, p in parameters.items()}
    outputs = _outputs(fn(leaves, *inputs), axes)  # [*lead, n, K]

    # With one output, the signs may lack the axis of outputs.
    n, n_outputs = outputs.shape[lead:]
    shapes: list[tuple[int, ...]] = [(n, n_outputs)]
    if n_outputs == 1:
        shapes.append((n,))
    if signs.shape[1:] not in shapes:
        expected = f"expected [k, n] or [k, n, K] for {shapes_of(outputs)}"
        raise ValueError(f"signs: {expected}, got {shapes_of(signs)}")

    total = torch.zeros(axes, dtype=outputs.dtype, device=outputs.device)
    for sign in signs.reshape(len(signs), n, n_outputs):
        signed_sum = (sign * outputs).sum()
        gradients = torch.autograd.grad(signed_sum, list(leaves.values()), retain_graph=True)
        for gradient in gradients:
            total += gradient.square().reshape(*axes, -1).sum(-1)
    return total / (len(signs) * n)


def _leading_axes(
    parameters: Mapping[str, Tensor],
    inputs: Sequence[Tensor],
    lead: int,
) -> torch.Size:
    """Return the leading axes that parameters and inputs share."""
    axes = inputs[0].shape[:lead]
    for tensor in (*parameters.values(), *inputs):
        if len(axes) < lead or tensor.shape[:lead] != axes:
            expected = f"expected {lead} leading axes {tuple(axes)} everywhere"
            raise ValueError(f"{expected}, got {shapes_of(tensor)}")
    return axes


def _outputs(outputs: Tensor, axes: torch.Size) -> Tensor:
    """Return a network's outputs, `[*lead, n]` or `[*lead, n, K]`, as `[*lead, n, K]`."""
    further_axes = outputs.ndim - len(axes)
    if outputs.shape[: len(axes)] != axes or further_axes not in (1, 2):
        lead = f"*{tuple(axes)}"
        expected = f"expected [{lead}, n] or [{lead}, n, K]"
        raise ValueError(f"outputs: {expected}, got {shapes_of(outputs)}")
    return outputs if further_axes == 2 else outputs.unsqueeze(-1)
