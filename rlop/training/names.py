"""Names of agents: from a name in a configuration to the class, and back.

The only place below `rlop.agents` that reaches it.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points

from rlop.agent import Agent
from rlop.config.checks import nearest
from rlop.config.parts import is_import_path, load_part
from rlop.types import InputError

AGENTS = ("BC", "CQL", "DQN", "DiscreteCQL", "NeuralTD")  # in `rlop.agents`


def agent_class(name: str) -> type[Agent]:
    """Return the agent of that name: one of ours, one registered by a package, or `module:Class`.

    Args:
        name: as in `agent: {name: ...}` of a configuration.
    Raises:
        InputError: for an unknown name, with the nearest one, or an import path that leads nowhere.
    """
    if is_import_path(name):
        cls = load_part(name, "an agent")
        if not (isinstance(cls, type) and issubclass(cls, Agent)):
            raise InputError(f"agent.name = {name!r}: expected a subclass of rlop.agent.Agent")
        return cls

    registered = {point.name: point for point in entry_points(group="rlop.agents")}
    if name in AGENTS:
        return import_module("rlop.agents").__dict__[name]
    if name not in registered:
        known = [*AGENTS, *registered]
        raise InputError(f"agent.name = {name!r}: unknown agent{nearest(name, known)}")
    return registered[name].load()


def agent_name(cls: type[Agent]) -> str:
    """Return the name under which `agent_class` finds the class again."""
    registered = {point.value: point.name for point in entry_points(group="rlop.agents")}
    path = f"{cls.__module__}:{cls.__qualname__}"
    if cls.__module__.startswith("rlop.agents.") and cls.__name__ in AGENTS:
        return cls.__name__
    return registered.get(path, path)
