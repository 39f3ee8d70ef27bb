"""Names of agents: from a name in a configuration to the class, and back.

This is the only module below `rlop.agents` that imports it.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points

from rlop.agent import Agent
from rlop.config.checks import nearest
from rlop.config.parts import is_import_path, load_part
from rlop.types import InputError

HOME = "rlop.agents"  # the package of our agents, and the entry-point group of others


def agent_names() -> list[str]:
    """Return the names of our agents."""
    return list(import_module(HOME).__all__)


def agent_class(name: str) -> type[Agent]:
    """Return the agent of that name: one of ours, one that a package registered, or `module:Class`.

    Args:
        name: as in `agent: {name: ...}` of a configuration.
    Raises:
        InputError: for an unknown name, with the nearest one, or an import path that does not lead
            to an agent.
    """
    if is_import_path(name):
        cls = load_part(name, "an agent", "agent.name")
    elif name in agent_names():
        cls = import_module(HOME).__dict__[name]
    else:
        registered = {point.name: point for point in entry_points(group=HOME)}
        if name not in registered:
            known = [*agent_names(), *registered]
            raise InputError(f"agent.name = {name!r}: unknown agent{nearest(name, known)}")
        cls = registered[name].load()

    if not (isinstance(cls, type) and issubclass(cls, Agent)):
        raise InputError(f"agent.name = {name!r}: expected a subclass of rlop.agent.Agent")
    return cls


def agent_name(cls: type[Agent]) -> str:
    """Return the name under which `agent_class` finds the class again.

    Args:
        cls: any agent.
    """
    is_ours = cls.__module__.startswith(f"{HOME}.") and cls.__name__ in agent_names()
    if is_ours:
        return cls.__name__

    path = f"{cls.__module__}:{cls.__qualname__}"
    registered = {point.value: point.name for point in entry_points(group=HOME)}
    return registered.get(path, path)
