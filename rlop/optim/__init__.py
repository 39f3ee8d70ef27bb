"""Optimizers with per-run scalars."""

from rlop.optim.adam import Adam, adam_, per_run
from rlop.optim.clip import clip_runs, run_norms

__all__ = ["Adam", "adam_", "clip_runs", "per_run", "run_norms"]
