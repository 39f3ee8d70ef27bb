"""Options that agents share: optimizer, noise on targets and labels, adjusted logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from rlop.config.schema import Index, NonNegative, Probability, Sweep, option, options
from rlop.losses import noise
from rlop.runs import SweptOptions
from rlop.types import Batch


@options
class TargetNoise(SweptOptions):
    """Label noise on TD targets, drawn afresh at every step; see `noise.label_noise`."""

    swept: ClassVar[tuple[str, ...]] = ("scale",)
    scale: Sweep[NonNegative] = option(
        description="size of the noise, in standard deviations of the minibatch's targets"
    )
    kind: Literal["gaussian", "sign"] = option("gaussian", "normal, or one of two values")
    off_after: Index | None = option(None, "gradient steps with noise; null for all")

    def draws(self, batch_size: int) -> dict[str, tuple[str, tuple[int, ...]]]:
        """The random numbers that one step needs, as in `agent.noise`."""
        return {"target": ("normal" if self.kind == "gaussian" else "uniform", (batch_size,))}

    def __call__(self, target: Tensor, drawn: Tensor, scale: Tensor, steps: Tensor) -> Tensor:
        """The noisy target `[R, B]`, from random numbers `[R, B]`, `scale` `[R]` and the steps done
        `[]`.
        """
        unit = drawn if self.kind == "gaussian" else torch.where(drawn < 0.5, -1.0, 1.0)
        return noise.label_noise(target, unit, _until(self.off_after, scale, steps))


@options
class LabelNoise(SweptOptions):
    """Labels flipped to a random other action, drawn afresh at every step.

    See `noise.flip_labels`.
    """

    swept: ClassVar[tuple[str, ...]] = ("probability",)
    probability: Sweep[Probability] = option(description="of another action as label")
    off_after: Index | None = option(None, "gradient steps with noise; null for all")

    def draws(self, batch_size: int) -> dict[str, tuple[str, tuple[int, ...]]]:
        """The random numbers that one step needs, as in `agent.noise`."""
        return {"label": ("uniform", (batch_size,))}

    def __call__(
        self, label: Tensor, drawn: Tensor, probability: Tensor, steps: Tensor, n_actions: int
    ) -> Tensor:
        """The noisy labels `[R, B]`, from uniforms `[R, B]`, `probability` `[R]` and the steps done
        `[]`.
        """
        return noise.flip_labels(
            label, drawn, _until(self.off_after, probability, steps), n_actions
        )


@options
class LogitAdjustment(SweptOptions):
    """The VS-loss in place of the cross-entropy of the data's actions; see `td.vs_logits`."""

    swept: ClassVar[tuple[str, ...]] = ("gamma", "tau")
    gamma: Sweep[NonNegative] = option(0.3, "multiplies logits by (N_a / N_max)^gamma")
    tau: Sweep[NonNegative] = option(1.0, "adds tau log(N_a / N)")


def relaxed(error: Tensor, batch: Batch) -> Tensor:
    """The error Q - y `[R, ..., B]`, with RMD Q - (y - z), z the slacks that `Learner.relaxed` put
    into the batch.
    """
    return error + batch.extra["slack"].view_as(error) if "slack" in batch.extra else error


def noisy_target(
    target: Tensor,
    drawn: Mapping[str, Tensor],
    options: TargetNoise | None,
    hyper: Mapping[str, Tensor],
    steps: Tensor,
) -> Tensor:
    """The target `[R, B]`, with the noise that `target_noise` of an agent asks for."""
    return (
        target
        if options is None
        else options(target, drawn["target"], hyper["target_noise.scale"], steps)
    )


def action_counts(action: Any, n_actions: int, device: torch.device) -> Tensor:
    """How often the data take each action: NumPy int64 `[N]` to float `[A]`."""
    return torch.bincount(torch.from_numpy(action), minlength=n_actions).float().to(device)


def _until(last: int | None, value: Tensor, steps: Tensor) -> Tensor:
    """The value in the first `last` steps, then zero: a comparison of tensors, for the update has
    no branches.
    """
    return value if last is None else value * (steps < last)
