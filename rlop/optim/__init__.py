"""Optimizers with per-run scalars."""

from rlop.optim.adam import Adam, adam_, fused_adam_
from rlop.optim.choice import MakeOptimizer, optimizer_maker, optimizer_options
from rlop.optim.clip import clip_runs, run_norms
from rlop.optim.rmd import RMD, slack_, unsigned_loss
from rlop.optim.sgd import SGD, sgd_
from rlop.optim.smd import SMD, entropy_, smd_
from rlop.runs import on_the_host, per_run

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
    "on_the_host",
    "optimizer_maker",
    "optimizer_options",
    "per_run",
    "run_norms",
    "sgd_",
    "slack_",
    "smd_",
    "unsigned_loss",
]
