"""Small reproductions of the workshop's claims: one module each, with `run(seed) -> Outcome`."""

from rlop.experiments.outcome import Measure, Outcome

__all__ = ["Measure", "Outcome"]
