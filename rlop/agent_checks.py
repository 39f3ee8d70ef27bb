"""Checks of what an agent's own code returns; each names the method and what was expected."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from rlop.types import InputError, Metrics

REQUIRED_METRICS = ("loss/total",)  # of every update, [R] each
NOISE = ("uniform", "normal")  # kinds of random numbers


def usable_device(device: torch.device | str) -> torch.device:
    """Return a device on which PyTorch can compute here.

    Raises:
        InputError: there is none of that name.
    """
    try:
        torch.empty(0, device=device)
        return torch.device(device)
    except (RuntimeError, AssertionError, TypeError, ValueError):
        raise InputError(
            f"device = {str(device)!r}: not available here; expected cpu or cuda[:index]"
        ) from None


@contextmanager
def memory_named(fault: str) -> Iterator[None]:
    """Let memory that is refused be an InputError.

    Args:
        fault: the beginning of the message.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        out_of_memory = isinstance(error, MemoryError) or "allocate" in reason
        overflows = "overflow" in reason or "too large" in reason
        if not (out_of_memory or overflows):
            raise
        raise InputError(f"{fault} ({reason[:120] or type(error).__name__})") from None


def check_drawn(name: str, networks: Mapping[str, nn.Module]) -> None:
    """Raise InputError if a parameter was never drawn, or is not finite.

    Args:
        name: of the agent, for the message.
        networks: of its learners, by name.
    """
    parameters = nn.ModuleDict(networks).named_parameters()
    for key, parameter in parameters:
        if not torch.isfinite(parameter).all():
            learner, _, own = key.partition(".")
            raise InputError(
                f"{name}.make_learners: {learner}: parameter {own} was not drawn; expected a call "
                "of rlop.nets.reset_runs(network, seeds) before its learner is made"
            )


def check_noise(name: str, noise: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
    """Raise InputError unless every random number has a known kind and a shape.

    Args:
        name: of the agent, for the message.
        noise: from `Agent.make_noise`.
    """
    for key, value in noise.items():
        if not (isinstance(value, tuple) and len(value) == 2 and value[0] in NOISE):
            raise InputError(
                f"{name}.make_noise: {key!r}: expected one of {NOISE} and a shape without the run "
                f"axis, got {value!r}"
            )


def check_losses(name: str, losses: object, learners: Collection[str], runs: int) -> None:
    """Raise InputError unless there is one loss `[R]` for each learner.

    Args:
        name: of the agent, for the message.
        losses: from `Agent.losses`.
        learners: their names.
        runs: R.
    """
    if not isinstance(losses, dict) or losses.keys() != set(learners):
        found = list(losses) if isinstance(losses, dict) else type(losses).__name__
        raise InputError(
            f"{name}.losses: expected one loss for each learner, {list(learners)}, found {found}"
        )
    for key, loss in losses.items():
        if not isinstance(loss, Tensor) or loss.shape != (runs,):
            shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise InputError(
                f"{name}.losses: loss {key!r}: expected one number per run, ({runs},), got {shape}"
            )


def check_metrics(metrics: Metrics, runs: int, name: str, penalties: Collection[str] = ()) -> None:
    """Check the metrics of an agent's first update.

    Args:
        metrics: what `Agent.update` returned.
        runs: R.
        name: of the agent, for the message.
        penalties: names of its regularizers.
    Raises:
        InputError: naming a required metric that is missing, a metric that is not `[R]`, or a
            regularizer that the loss leaves out.
    """
    for required in REQUIRED_METRICS:
        if required not in metrics:
            raise InputError(
                f"{name}.update: metric {required!r} is missing; "
                f"expected it, `[R]`, among {sorted(metrics)}"
            )

    for penalty in penalties:
        if f"reg/{penalty}" not in metrics:
            raise InputError(
                f"{name}.losses: regularizers.{penalty} is not in the loss; expected the total and "
                "the metrics of self.penalties.add_to(loss, context)"
            )

    for key, value in metrics.items():
        if value.shape != (runs,):
            raise InputError(
                f"{name}.update: metric {key!r} has shape {tuple(value.shape)}; "
                f"expected one number a run, ({runs},)"
            )
