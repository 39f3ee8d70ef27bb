"""Agents, one file each, installed as `rlop.agents`."""

from .dqn import DQN, DiscreteCQL

__all__ = ["DQN", "DiscreteCQL"]
