"""Agents, one file each, installed as `rlop.agents`."""

from .bc import BC
from .cql import CQL
from .dqn import DQN, DiscreteCQL
from .iql import IQL
from .neural_td import NeuralTD

__all__ = ["BC", "CQL", "DQN", "IQL", "DiscreteCQL", "NeuralTD"]
