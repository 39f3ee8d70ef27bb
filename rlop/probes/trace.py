"""Trace of the Gauss-Newton matrix: what label noise, and by the DR3 argument TD itself, penalizes or inflates.

Near interpolation the Hessian of (1/2n) sum_i e_i^2 is G = (1/n) sum_i grad f_i grad f_i^T, and

    tr G = (1/n) sum_i |grad f_i|^2

Reference: Blanc, Gupta, Valiant and Valiant, COLT 2020, arXiv:1904.09080 (the regularizer); Damian, Ma and Lee,
NeurIPS 2021, arXiv:2106.06530 (its trace form, and the estimate by noise).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.func import jacrev, vmap

Function = Callable[
    ..., Tensor
]  # (parameters by name, *inputs [*lead, n, ...]) -> [*lead, n] or [*lead, n, K]


def head_trace(features: Tensor, bias: bool = True) -> Tensor:
    """Trace of the last layer's part alone: for an output w . phi + b it is mean |phi|^2 + 1.

    Args:
        features: phi, `[..., n, d]`.
        bias: whether the layer has one.
    Returns:
        `[...]`.
    Raises:
        ValueError: for fewer than two axes.
    """
    if features.ndim < 2:
        raise ValueError(f"features: expected [..., n, d], got {tuple(features.shape)}")
    return features.detach().square().sum(-1).mean(-1) + float(bias)


def gauss_newton_trace(
    fn: Function,
    parameters: Mapping[str, Tensor],
    *inputs: Tensor,
    lead: int = 0,
    chunk: int | None = None,
) -> Tensor:
    """Trace over all parameters given, exactly, from the gradient of every sample.

        net = torch.nn.Sequential(...)
        gauss_newton_trace(lambda p, x: torch.func.functional_call(net, p, (x,)), dict(net.named_parameters()), obs)

    Args:
        fn: the network as a function of its parameters; with K outputs their traces add up.
        parameters: name -> `[*lead, ...]`; leave out those that shall not count.
        inputs: each `[*lead, n, ...]`.
        lead: number of leading (run, critic) axes. Runs must not mix, for all are differentiated at once.
        chunk: samples whose gradients are held at once; None for all n.
    Returns:
        `[*lead]`, detached.
    Raises:
        ValueError: when the leading axes of parameters, inputs or outputs differ.
    """
    axes = _lead(parameters, inputs, lead)

    def one(*sample: Tensor) -> Tensor:
        batch = [x.unsqueeze(lead) for x in sample]
        grads = jacrev(lambda p: _outputs(fn(p, *batch), axes).flatten(0, lead).sum(0))(
            dict(parameters)
        )  # [K, *lead, ...]
        return torch.stack(
            [g.square().reshape(len(g), *axes, -1).sum((0, -1)) for g in grads.values()]
        ).sum(0)

    return vmap(one, in_dims=lead, chunk_size=chunk)(*inputs).mean(0).detach()


def noise_trace(
    fn: Function, parameters: Mapping[str, Tensor], *inputs: Tensor, signs: Tensor, lead: int = 0
) -> Tensor:
    """Unbiased estimate of the same from k backward passes, for networks whose gradients per sample do not fit.

        (1/k) sum_k (1/n) | sum_i s_ki grad f_i |^2,   s = -1 or 1 at random

    Args:
        fn: as in `gauss_newton_trace`.
        parameters, inputs, lead: likewise.
        signs: `[k, n]` for one output a sample, `[k, n, K]` for K outputs; the same for all runs.
    Returns:
        `[*lead]`, detached.
    Raises:
        ValueError: when shapes do not fit.
    """
    axes = _lead(parameters, inputs, lead)
    leaves = {name: p.detach().requires_grad_() for name, p in parameters.items()}
    outputs = _outputs(fn(leaves, *inputs), axes)  # [*lead, n, K]
    if (
        signs.ndim not in (2, 3)
        or signs.reshape(*signs.shape[:2], -1).shape[1:] != outputs.shape[lead:]
    ):
        raise ValueError(
            f"signs: expected [k, n] or [k, n, K] for {tuple(outputs.shape)}, got {tuple(signs.shape)}"
        )
    total = torch.zeros(axes, dtype=outputs.dtype, device=outputs.device)
    for sign in signs.reshape(len(signs), *outputs.shape[lead:]):
        for g in torch.autograd.grad(
            (sign * outputs).sum(), list(leaves.values()), retain_graph=True
        ):
            total += g.square().reshape(*axes, -1).sum(-1)
    return total / (len(signs) * outputs.shape[lead])


def _lead(parameters: Mapping[str, Tensor], inputs: Sequence[Tensor], lead: int) -> torch.Size:
    """The leading axes that parameters and inputs share."""
    axes = inputs[0].shape[:lead]
    for tensor in (*parameters.values(), *inputs):
        if len(axes) < lead or tensor.shape[:lead] != axes:
            raise ValueError(
                f"expected {lead} leading axes {tuple(axes)} everywhere, got {tuple(tensor.shape)}"
            )
    return axes


def _outputs(outputs: Tensor, axes: torch.Size) -> Tensor:
    """What the network gives, `[*lead, n]` or `[*lead, n, K]`, as `[*lead, n, K]`."""
    if outputs.shape[: len(axes)] != axes or outputs.ndim - len(axes) not in (1, 2):
        raise ValueError(
            f"outputs: expected [*{tuple(axes)}, n] or [*{tuple(axes)}, n, K], got {tuple(outputs.shape)}"
        )
    return outputs if outputs.ndim == len(axes) + 2 else outputs.unsqueeze(-1)
