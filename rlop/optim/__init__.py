"""Optimizers with per-run scalars."""

from rlop.optim.adam import Adam, adam_, fused_adam_
from rlop.optim.axis import on_the_host, per_run
from rlop.optim.clip import clip_runs, run_norms

__all__ = ["Adam", "adam_", "clip_runs", "fused_adam_", "on_the_host", "per_run", "run_norms"]
