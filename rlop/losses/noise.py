"""Noise on targets and labels, drawn at every step and never stored.

Gradient descent with such noise prefers flat minima. Near interpolation it descends L + lambda R

    lambda = lr sigma^2 / (B (1 - beta))
    R      = -(1 + beta)/(2 lr) tr log(I - lr/(2 (1 + beta)) Hess L)

for minibatches of B and heavy-ball momentum beta. For small lr, R is tr Hess L / 4, and the Hessian
there is the Gauss-Newton matrix whose trace `rlop.probes.trace` measures.

Reference: Damian, Ma and Lee, "Label Noise SGD Provably Prefers Flat Global Minimizers", NeurIPS
    2021, arXiv:2106.06530, for the loss of an error e^2 / 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from rlop.config.schema import Index, NonNegative, Probability, Sweep, option, options
from rlop.runs import SweptOptions
from rlop.types import InputError

SMALLEST_PROBABILITY = 1e-12  # keeps the quotient finite where no label is flipped


def label_noise(target: Tensor, noise: Tensor, scale: Tensor) -> Tensor:
    """Add fresh noise to TD targets, in units of the minibatch's own spread.

        target + scale std(target) noise

    The standard deviation of the B numbers is over B, not B - 1: a batch of one has no noise.

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


@options
class TargetNoise(SweptOptions):
    """Noise on TD targets, drawn at every step; see `label_noise`."""

    swept: ClassVar[tuple[str, ...]] = ("scale",)
    scale: Sweep[NonNegative] = option(
        description="size of the noise, in standard deviations of the minibatch's targets"
    )
    kind: Literal["gaussian", "sign"] = option("gaussian", "normal, or one of two values")
    off_after: Index | None = option(None, "gradient steps with noise; null for all")

    def draws(self, batch_size: int) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Return the random numbers of one step, as in `rlop.agent.NoiseShapes`."""
        kind = "normal" if self.kind == "gaussian" else "uniform"
        return {"target": (kind, (batch_size,))}

    def __call__(self, target: Tensor, drawn: Tensor, scale: Tensor, steps: Tensor) -> Tensor:
        """Return the noisy target `[R, B]`.

        Args:
            target: `[R, B]`.
            drawn: random numbers `[R, B]`.
            scale: `[R]`.
            steps: gradient steps done, `[]`.
        """
        unit = drawn if self.kind == "gaussian" else torch.where(drawn < 0.5, -1.0, 1.0)
        return label_noise(target, unit, until(self.off_after, scale, steps))


@options
class LabelNoise(SweptOptions):
    """Labels replaced by a random other action, drawn at every step; see `flip_labels`."""

    swept: ClassVar[tuple[str, ...]] = ("probability",)
    probability: Sweep[Probability] = option(description="of another action as label")
    off_after: Index | None = option(None, "gradient steps with noise; null for all")

    def draws(self, batch_size: int) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Return the random numbers of one step, as in `rlop.agent.NoiseShapes`."""
        return {"label": ("uniform", (batch_size,))}

    def __call__(
        self,
        label: Tensor,
        drawn: Tensor,
        probability: Tensor,
        steps: Tensor,
        n_actions: int,
    ) -> Tensor:
        """Return the noisy labels `[R, B]`.

        Args:
            label: `[R, B]`.
            drawn: uniform random numbers `[R, B]`.
            probability: `[R]`.
            steps: gradient steps done, `[]`.
            n_actions: A.
        """
        return flip_labels(label, drawn, until(self.off_after, probability, steps), n_actions)


class BootstrapConfig:
    """Base of the options of an agent with a bootstrapped target."""

    target_period: int = 1  # gradient steps between target updates
    target_noise: TargetNoise | None = None


def noisy_target(
    target: Tensor,
    drawn: Mapping[str, Tensor],
    options: TargetNoise | None,
    hyper: Mapping[str, Tensor],
    steps: Tensor,
) -> Tensor:
    """Return the target `[R, B]`, with noise if the agent's `target_noise` is set.

    Args:
        target: `[R, B]`.
        drawn: the random numbers of the update, by name.
        options: `target_noise`, or None.
        hyper: the agent's numbers `[R]`, by name.
        steps: gradient steps done, `[]`.
    """
    if options is None:
        return target
    if "target" not in drawn:
        raise InputError(
            "target_noise: the agent's make_noise has no 'target'; it ends with "
            "`| super().make_noise()`"
        )
    return options(target, drawn["target"], hyper["target_noise.scale"], steps)


def until(last: int | None, value: Tensor, steps: Tensor) -> Tensor:
    """Return the value in the first `last` steps, then zero.

    A comparison of tensors, since an update must not branch on values.

    Args:
        last: number of steps; None for all.
        value: `[R]`.
        steps: gradient steps done, `[]`.
    """
    return value if last is None else value * (steps < last)
