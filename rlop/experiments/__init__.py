"""Reproductions of the workshop's claims: one module each.

Each has `run(seed) -> Outcome`, and `control(seed)`, which returns the same values where the effect
is absent by construction.
"""

from rlop.experiments.outcome import Outcome

__all__ = ["Outcome"]
