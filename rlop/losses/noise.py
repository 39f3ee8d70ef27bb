"""Target transforms: fresh noise at every step on what a network is fitted to, never stored.

Gradient descent with such noise prefers flat minima. Near interpolation it descends L + lambda R

    lambda = lr sigma^2 / (B (1 - beta))
    R      = -(1 + beta)/(2 lr) tr log(I - lr/(2 (1 + beta)) Hess L)

for minibatches of B and heavy-ball momentum beta. For small lr, R is tr Hess L / 4, and the Hessian
there is the Gauss-Newton matrix whose trace `rlop.probes.trace` measures.

Reference: Damian, Ma and Lee, "Label Noise SGD Provably Prefers Flat Global Minimizers", NeurIPS
    2021, arXiv:2106.06530, for a loss of errors squared over 2.
"""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST_PROBABILITY = 1e-12  # keeps the quotient finite where no label is flipped


def label_noise(target: Tensor, noise: Tensor, scale: Tensor) -> Tensor:
    """Add fresh noise to TD targets, in units of the minibatch's own spread.

        target + scale std(target) noise

    The standard deviation is that of the B numbers, over B and not B - 1: a batch of one has no
    noise.

    Args:
        target: `[R, B]`, detached.
        noise: `[R, B]`, standard normal, or signs -1 and 1.
        scale: `[R]`; 0 leaves the target as it is.
    Returns:
        `[R, B]`.
    Reference: Blanc et al., COLT 2020, arXiv:1904.09080; Damian, Ma and Lee, NeurIPS 2021,
        arXiv:2106.06530.
    """
    _check_pair("label_noise", target, noise)
    spread = scale.unsqueeze(-1) * target.std(-1, correction=0, keepdim=True)
    return target + spread * noise


def flip_labels(label: Tensor, uniform: Tensor, probability: Tensor, n_labels: int) -> Tensor:
    """Replace each label with probability p by one of the others, all equally likely.

    Args:
        label: int64 `[R, B]`, in 0..n_labels - 1.
        uniform: `[R, B]` in [0, 1), decides both whether and to what.
        probability: p `[R]`, in [0, 1].
        n_labels: at least 2.
    Returns:
        int64 `[R, B]`.
    Reference: Damian, Ma and Lee, arXiv:2106.06530, label noise in classification.
    """
    _check_pair("flip_labels", label, uniform)
    p = probability.unsqueeze(-1)
    is_flipped = uniform < p

    # Given that it is below p, uniform / p is uniform again: it picks the other label.
    rescaled = uniform / p.clamp_min(SMALLEST_PROBABILITY)
    other = (rescaled * (n_labels - 1)).long().clamp_max(n_labels - 2)
    return torch.where(is_flipped, (label + 1 + other) % n_labels, label)


def _check_pair(name: str, numbers: Tensor, random: Tensor) -> None:
    """Raise ValueError unless numbers and random numbers are `[R, B]` both."""
    if numbers.shape != random.shape or numbers.ndim != 2:
        raise ValueError(
            f"{name}: expected [R, B] twice, got {tuple(numbers.shape)} and {tuple(random.shape)}"
        )
