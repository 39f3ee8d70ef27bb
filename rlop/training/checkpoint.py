"""Write and read the whole state of a training, atomically and without unpickling."""

from __future__ import annotations

import inspect
import pickle
import sys
import zipfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import torch

from rlop.agent import Agent
from rlop.config.checks import nearest
from rlop.config.files import atomic, to_dict
from rlop.config.parts import is_import_path, load_part
from rlop.types import InputError, Spec

FORMAT = 2
SECTIONS = ("regularizers", "projections")  # of a configuration, whose parts may be functions
AGENTS = ("BC", "CQL", "DQN", "DiscreteCQL", "NeuralTD")  # in `rlop.agents`


def save(
    path: str | Path, agent: Agent, step: int, streams: Mapping[str, Any] | None = None
) -> Path:
    """Write agent, random streams and step to `path`, whole or not at all.

    Args:
        path: the checkpoint file; an older one is replaced only once the new one is complete.
        agent: its configuration and state.
        step: gradient steps done.
        streams: state of the random streams, for an exact continuation.
    """
    path = Path(path)
    seeds = agent.seeds if isinstance(agent.seeds, int) else list(agent.seeds)
    variants = None
    if agent.variants:
        variants = {name: dict(changes) for name, changes in agent.variants.items()}

    content = {
        "format": FORMAT,
        "agent": agent_name(type(agent)),
        "spec": asdict(agent.spec),
        "config": stored_config(agent.config),
        "seeds": seeds,
        "variants": variants,
        "state": agent.state_dict(),
        "streams": streams,
        "step": step,
    }
    with atomic(path) as temporary:
        torch.save(content, temporary)
    return path


def load(path: str | Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Return the content of a checkpoint: tensors, numbers, text and containers only.

    Args:
        path: the checkpoint file.
        device: where its tensors go.
    Raises:
        InputError: when the file is missing, is no checkpoint, or is of a format that is not known.
    """
    if not Path(path).exists():
        raise InputError(f"{path}: no such checkpoint")
    if not zipfile.is_zipfile(path):  # PyTorch's older formats are not read at all
        raise InputError(f"{path}: not a checkpoint of rlop, or cut short")
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not a checkpoint of rlop ({type(error).__name__})") from None

    found = content.get("format") if isinstance(content, dict) else None
    if found == 1:
        return from_format_1(content)
    if found != FORMAT:
        raise InputError(f"{path}: expected a checkpoint of format {FORMAT}")
    return content


def load_agent(
    path: str | Path,
    device: torch.device | str = "cpu",
    *,
    allow: Collection[str] = (),
    parts: Mapping[str, Callable[..., Any]] | None = None,
) -> tuple[Agent, dict[str, Any]]:
    """Rebuild the agent of a checkpoint; return it with the checkpoint's content.

    A checkpoint may be a stranger's: the parts that it names by import path are used only from
    modules that are imported already, or that the caller allows.

    Args:
        path: the checkpoint file.
        device: where the agent goes.
        allow: modules that may be imported, as `my_pkg.reg`.
        parts: name of a regularizer or projection -> its function, for those given as functions in
            Python.
    Raises:
        InputError: for a file that is no checkpoint, or a part that is not available here.
    """
    content = load(path, device)
    spec = Spec(**{**content["spec"], "obs_shape": tuple(content["spec"]["obs_shape"])})
    check_paths(path, content["agent"], allow)
    config = with_functions(path, content["config"], allow, parts or {})
    cls = agent_class(content["agent"])
    agent = cls(spec, seeds=content["seeds"], variants=content["variants"], device=device, **config)
    agent.load_state_dict(content["state"])
    return agent, content


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

    import rlop.agents

    registered = {point.name: point for point in entry_points(group="rlop.agents")}
    if name in AGENTS:
        return rlop.agents.__dict__[name]
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


def stored_config(config: Any) -> dict[str, Any]:
    """Return a configuration as a checkpoint holds it: with names in place of functions."""
    stored = to_dict(config)
    for section in SECTIONS:
        for name, entry in stored.get(section, {}).items():
            if isinstance(entry, dict) and "fn" in entry:
                entry["fn"] = function_name(config.__dict__[section][name]["fn"])
    return stored


def function_name(function: Callable[..., Any]) -> str:
    """Return the import path of a function, `module:name`; of another object, `module:<Class>`."""
    if inspect.isroutine(function):
        return f"{function.__module__}:{function.__qualname__}"
    cls = type(function)
    return f"{cls.__module__}:<{cls.__qualname__}>"


def check_paths(path: str | Path, name: str, allow: Collection[str]) -> None:
    """Raise InputError for an import path in a checkpoint whose module is neither imported nor
    allowed.
    """
    module = name.partition(":")[0]
    if is_import_path(name) and module not in sys.modules and module not in allow:
        raise InputError(
            f"{path}: names {name!r}, and a checkpoint imports nothing: "
            f"import {module} first, or allow it (allow=[{module!r}], --allow {module})"
        )


def with_functions(
    path: str | Path,
    config: Mapping[str, Any],
    allow: Collection[str],
    parts: Mapping[str, Callable[..., Any]],
) -> dict[str, Any]:
    """Return a checkpoint's configuration with its regularizers and projections checked, and
    functions put back.
    """
    result = dict(config)
    for section in SECTIONS:
        terms = {}
        for name, entry in config.get(section, {}).items():
            check_paths(path, name, allow)
            if isinstance(entry, Mapping) and "fn" in entry:
                entry = {**entry, "fn": find_function(path, name, entry["fn"], allow, parts)}
            terms[name] = entry
        if terms:
            result[section] = terms
    return result


def find_function(
    path: str | Path,
    name: str,
    stored: str,
    allow: Collection[str],
    parts: Mapping[str, Callable[..., Any]],
) -> Callable[..., Any]:
    """Return the function of a regularizer or projection that was given as one in Python."""
    if name in parts:
        return parts[name]
    # Lambdas, local functions, methods and objects have no import path.
    _, _, attribute = stored.partition(":")
    if not attribute.isidentifier():
        raise InputError(
            f"{path}: {name!r} was a function without an import path ({stored}); give it again: "
            f"load_agent(..., parts={{{name!r}: function}})"
        )
    check_paths(path, stored, allow)
    function = load_part(stored, "a function")
    if not callable(function):
        raise InputError(f"{path}: {name!r} is {stored!r}, expected a function")
    return function


def from_format_1(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a checkpoint of the first format in the words of the present one."""
    config = dict(content["config"])
    if config.get("backup") == "behaviour":
        config["backup"] = "behavior"

    state = content["state"]
    if content["agent"] in ("DQN", "DiscreteCQL"):
        state = {"q": state}
    elif content["agent"] == "BC":
        state = {"policy": state}
    elif content["agent"] == "NeuralTD":
        state = {"value": state["learner"], "mean": state["mean"], "longest": state["longest"]}
    return {**content, "format": FORMAT, "config": config, "state": state}
