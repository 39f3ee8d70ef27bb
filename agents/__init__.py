"""Agents, one file each, installed as `rlop.agents`."""

from .bc import BC
from .cql import CQL
from .dqn import DQN, DiscreteCQL
from .neural_td import NeuralTD

__all__ = ["BC", "CQL", "DQN", "DiscreteCQL", "NeuralTD"]
