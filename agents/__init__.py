"""Agents, one file each, installed as `rlop.agents`."""

from .bc import BC
from .cql import CQL
from .dqn import DQN, DiscreteCQL
from .iql import IQL
from .neural_td import NeuralTD
from .rebrac import TD3BC, ReBRAC
from .sacn import EDAC, SACN

__all__ = [
    "BC",
    "CQL",
    "DQN",
    "EDAC",
    "IQL",
    "SACN",
    "TD3BC",
    "DiscreteCQL",
    "NeuralTD",
    "ReBRAC",
]
