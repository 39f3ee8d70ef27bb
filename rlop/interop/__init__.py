"""Other people's trainings and networks: probes during them, and weights read from their files."""

from rlop.interop.d3rlpy import D3rlpyProbe
from rlop.interop.network_probe import NetworkProbe
from rlop.interop.networks import load_network
from rlop.interop.sb3 import ProbeCallback
from rlop.interop.values import ActionValues, transitions

__all__ = [
    "ActionValues",
    "D3rlpyProbe",
    "NetworkProbe",
    "ProbeCallback",
    "load_network",
    "transitions",
]
