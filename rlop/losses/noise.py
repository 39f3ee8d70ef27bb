"""Target transforms: noise on what a network is fitted to, drawn afresh at every step and never stored.

Gradient descent with such noise prefers flat minima. Near interpolation it descends L + lambda R with

    lambda = lr sigma^2 / (B (1 - beta)),   R = -(1 + beta)/(2 lr) tr log(I - lr/(2 (1 + beta)) Hess L)

for minibatches of B and heavy-ball momentum beta; for small lr, R is tr Hess L / 4, and the Hessian there is the
Gauss-Newton matrix whose trace `rlop.probes.trace` measures.

Reference: Damian, Ma and Lee, "Label Noise SGD Provably Prefers Flat Global Minimizers", NeurIPS 2021,
arXiv:2106.06530, for a loss of errors squared over 2.
"""

from __future__ import annotations

import torch
from torch import Tensor


def label_noise(target: Tensor, noise: Tensor, scale: Tensor) -> Tensor:
    """target + scale * std(target) * noise: a TD target with fresh noise, in units of the minibatch's own spread.

    Args:
        target: `[R, B]`, detached.
        noise: `[R, B]`, standard normal, or signs -1 and 1.
        scale: `[R]`; 0 leaves the target as it is.
    Returns:
        `[R, B]`. The standard deviation is that of the B numbers, over B and not B - 1: a batch of one has no noise.
    Reference: Blanc et al., COLT 2020, arXiv:1904.09080; Damian, Ma and Lee, NeurIPS 2021, arXiv:2106.06530.
    """
    if target.shape != noise.shape or target.ndim != 2:
        raise ValueError(
            f"label_noise: expected [R, B] twice, got {tuple(target.shape)} and {tuple(noise.shape)}"
        )
    return target + scale.unsqueeze(-1) * target.std(-1, correction=0, keepdim=True) * noise


def flip_labels(label: Tensor, uniform: Tensor, probability: Tensor, n_labels: int) -> Tensor:
    """Each label with probability p replaced by one of the others, all equally likely.

    Args:
        label: int64 `[R, B]`, in 0..n_labels - 1.
        uniform: `[R, B]` in [0, 1), decides both whether and to what.
        probability: p `[R]`, in [0, 1].
        n_labels: at least 2.
    Returns:
        int64 `[R, B]`.
    Reference: Damian, Ma and Lee, arXiv:2106.06530, label noise in classification.
    """
    if label.shape != uniform.shape or label.ndim != 2:
        raise ValueError(
            f"flip_labels: expected [R, B] twice, got {tuple(label.shape)} and {tuple(uniform.shape)}"
        )
    p = probability.unsqueeze(-1)
    other = (uniform / p.clamp_min(1e-12) * (n_labels - 1)).long().clamp_max(n_labels - 2)
    return torch.where(uniform < p, (label + 1 + other) % n_labels, label)
