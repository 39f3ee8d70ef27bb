"""Agents, one file each, installed as `rlop.agents`."""

from .bc import BC
from .cql import CQL
from .dqn import DQN, DiscreteCQL

__all__ = ["BC", "CQL", "DQN", "DiscreteCQL"]
