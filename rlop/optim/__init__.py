"""Optimizers of stacked runs, with one learning rate per run."""

from __future__ import annotations

from rlop._imports import moved_attribute
from rlop.optim.adam import Adam, adam_, fused_adam_
from rlop.optim.choice import MakeOptimizer, optimizer_maker, optimizer_options
from rlop.optim.clip import clip_runs, run_norms
from rlop.optim.rmd import RMD, slack_, unsigned_loss
from rlop.optim.sgd import SGD, sgd_
from rlop.optim.smd import SMD, entropy_, smd_

__all__ = [
    "RMD",
    "SGD",
    "SMD",
    "Adam",
    "MakeOptimizer",
    "adam_",
    "clip_runs",
    "entropy_",
    "fused_adam_",
    "optimizer_maker",
    "optimizer_options",
    "run_norms",
    "sgd_",
    "slack_",
    "smd_",
    "unsigned_loss",
]


def __getattr__(name: str) -> object:
    """Return the object that an old name refers to, with a warning."""
    return moved_attribute(__name__, name)
