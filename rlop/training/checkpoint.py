"""Write and read the whole state of a training run, atomically and without pickled code."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import torch

from rlop.config.checks import nearest
from rlop.config.files import atomic, to_dict
from rlop.types import InputError, Spec

FORMAT = 1


def save(path: str | Path, agent: Any, step: int, streams: Mapping[str, Any] | None = None) -> Path:
    """Write agent, random streams and step to `path`, whole or not at all.

    Args:
        path: the checkpoint file; an older one is replaced only once the new one is complete.
        agent: with `config`, `spec`, `seeds`, `variants`, `state_dict()`.
        step: gradient steps done.
        streams: state of the random streams, for an exact continuation.
    """
    path = Path(path)
    content = {
        "format": FORMAT,
        "agent": type(agent).__name__,
        "spec": asdict(agent.spec),
        "config": to_dict(agent.config),
        "seeds": agent.seeds if isinstance(agent.seeds, int) else list(agent.seeds),
        "variants": {k: dict(v) for k, v in agent.variants.items()} if agent.variants else None,
        "state": agent.state_dict(),
        "streams": streams,
        "step": step,
    }
    with atomic(path) as temporary:
        torch.save(content, temporary)
    return path


def load(path: str | Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """The content of a checkpoint; tensors, numbers, strings and containers only.

    Raises:
        InputError: when the file is missing, is no checkpoint, or was written by another format version.
    """
    if not Path(path).exists():
        raise InputError(f"{path}: no such checkpoint")
    if not zipfile.is_zipfile(path):  # PyTorch's older formats are not read at all
        raise InputError(f"{path}: not a checkpoint of rlop, or cut short")
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not a checkpoint of rlop ({type(error).__name__})") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path}: expected a checkpoint of format {FORMAT}")
    return content


def agent_class(name: str) -> Any:
    """The agent registered under `name` in the entry-point group `rlop.agents`.

    Raises:
        InputError: for an unknown name, with the nearest one.
    """
    found = {point.name: point for point in entry_points(group="rlop.agents")}
    if name not in found:
        raise InputError(f"agent.name = {name!r}: unknown agent{nearest(name, found)}")
    return found[name].load()


def load_agent(path: str | Path, device: torch.device | str = "cpu") -> tuple[Any, dict[str, Any]]:
    """Rebuild the agent of a checkpoint; returns it with the checkpoint's content."""
    content = load(path, device)
    spec = Spec(**{**content["spec"], "obs_shape": tuple(content["spec"]["obs_shape"])})
    cls = agent_class(content["agent"])
    agent = cls(
        spec,
        seeds=content["seeds"],
        variants=content["variants"],
        device=device,
        **content["config"],
    )
    agent.load_state_dict(content["state"])
    return agent, content
