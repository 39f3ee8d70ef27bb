"""Other people's trainings and networks: probes during them, and weights read from their files."""

from rlop.interop.networks import load_network

__all__ = ["load_network"]
