"""Small reproductions of the workshop's claims: one module each, with `run(seed) -> Outcome`."""

from rlop.experiments.outcome import Outcome

__all__ = ["Outcome"]
