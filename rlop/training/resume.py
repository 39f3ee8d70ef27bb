"""What a training was made with, and how two trainings differ: a resume changes none of it."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch

from rlop.agent import Agent
from rlop.config.files import overrides_only, to_dict
from rlop.data.dataset import Dataset
from rlop.data.dqn_replay.window import RollingWindow
from rlop.data.fingerprint import fingerprint
from rlop.runs import seed_list
from rlop.training.checkpoint import stored_config
from rlop.training.evaluate import Evaluation, Evaluator
from rlop.training.exact import TabularEvaluator
from rlop.training.names import agent_name
from rlop.training.options import TrainOptions
from rlop.types import Batch, InputError

# Options that a resume may change: they decide what is logged and saved, not what is learned.
FREE = (
    "steps",
    "log_every",
    "probe_every",
    "probes",
    "eval_every",
    "checkpoint_every",
    "updates_per_launch",
    "compile",  # the resolved value is compared
)
# The methods and options that make an algorithm; a subclass without any of them is the same.
ALGORITHM = (
    "Config",
    "make_learners",
    "make_noise",
    "prepare",
    "losses",
    "bootstrap",
    "act",
    "features",
)
PACKAGES = ("rlop", "torch", "numpy", "gymnasium")
SHOWN = 60  # characters of a value in a message


def identity_of(
    agent: Agent,
    data: Dataset | RollingWindow,
    probed: Batch,
    options: TrainOptions,
    compiles: bool | None,
    evaluate: Evaluation | None,
) -> dict[str, Any]:
    """Describe what a training is made with, in plain values by section.

    Args:
        agent: of the training.
        data: of the training; draw 0 of a rolling window is in memory.
        probed: the transitions that are probed.
        options: the schedule.
        compiles: whether updates are compiled, None if not yet decided.
        evaluate: of the training.
    """
    schedule = to_dict(options)
    if not options.validation:
        del schedule["validation"]  # which checkpoints of earlier versions do not know
    values = {
        "agent.name": algorithm_name(type(agent)),
        "agent": stored_config(agent.config),
        "seeds": seed_list(agent.seeds),
        "variants": to_dict(agent.variants or {}),
        "spec": to_dict(asdict(agent.spec)),
        "data": _data_identity(data),
        "probe": fingerprint({"index": probed.index[0].cpu().numpy()}),
        "evaluation": evaluation_identity(evaluate),
        "compile": compiles,
        "device": agent.device.type,
        **{name: value for name, value in schedule.items() if name not in FREE},
    }
    return plain(values)


def plain(values: Mapping[str, object]) -> dict[str, Any]:
    """Return nested values as JSON has them; of other objects, the name of their class.

    A checkpoint with a pickled object could not be read again.
    """
    text = json.dumps(to_dict(values), default=lambda value: type(value).__qualname__)
    result: dict[str, Any] = json.loads(text)
    return result


def algorithm_name(cls: type[Agent]) -> str:
    """Return the name of the class that an agent has its algorithm from."""
    for base in cls.__mro__:
        if any(name in base.__dict__ for name in ALGORITHM):
            return agent_name(base)
    return agent_name(cls)


def _data_identity(data: Dataset | RollingWindow) -> dict[str, Any]:
    if isinstance(data, RollingWindow):
        drawn = {"n_files": data.n_files, "seed": data.seed, "files": list(data.suffixes)}
        return {**fingerprint(data.draw(0).columns()), **drawn}
    return fingerprint(data.columns())


def evaluation_identity(evaluate: Evaluation | None) -> dict[str, Any]:
    """Describe an evaluation; {} for a function of the user's own, about which nothing is known."""
    if evaluate is None:
        return {"env": None}
    if isinstance(evaluate, Evaluator):
        return {
            "env": evaluate.env_id,
            "env_kwargs": to_dict(evaluate.env_kwargs),
            "episodes": int(np.sum(evaluate.quota)),
            "epsilon": evaluate.epsilon,
        }
    if isinstance(evaluate, TabularEvaluator):
        return {"env": "the exact MDP", "horizon": evaluate.horizon}
    return {}


def with_newer_options(old: Mapping[str, Any], agent: Agent) -> dict[str, Any]:
    """Return the identity of a checkpoint with the options that are newer than it.

    It was trained as with their defaults.

    Args:
        old: from `identity_of`.
        agent: of the present training; options with other values than their defaults stay unset.
    """
    changed = overrides_only(agent.config)
    values = plain(stored_config(agent.config))
    defaults = {name: value for name, value in values.items() if name not in changed}
    return {**old, "agent": {**defaults, **old["agent"]}}


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """List what differs between two trainings, as `agent.gamma = 0.99 -> 0.5`.

    Args:
        old: from `identity_of`, of the checkpoint.
        new: of the present training.
    """
    if old.get("agent.name") != new["agent.name"]:  # whose options have nothing in common
        sections = ("agent", "variants", "probe")
        old = {name: value for name, value in old.items() if name not in sections}
        new = {name: value for name, value in new.items() if name not in sections}
    if {} in (old.get("evaluation"), new["evaluation"]):
        old, new = {**old, "evaluation": {}}, {**new, "evaluation": {}}

    if old.get("data") == new["data"]:  # whose record may be of an earlier version's words
        old, new = _without_changes(old), _without_changes(new)

    before, after = _flat(old), _flat(new)
    found = []
    for name in dict.fromkeys([*before, *after]):
        if before.get(name) != after.get(name):
            found.append(f"{name} = {_shown(before, name)} -> {_shown(after, name)}")
    return found


def _without_changes(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return an identity without the words for what was done to its data."""
    spec = {name: value for name, value in values.get("spec", {}).items() if name != "changes"}
    return {**values, "spec": spec}


def _flat(values: Mapping[str, Any], key: str = "") -> dict[str, Any]:
    """Return nested values by their dotted names."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        dotted = f"{key}.{name}" if key and name else key or name
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, dotted)
        elif not isinstance(value, Mapping):
            flat[dotted] = value
    return flat


def _shown(values: Mapping[str, Any], name: str) -> str:
    if name not in values:
        return "unset"
    text = " ".join(str(values[name]).split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def check_same(where: str, old: object, new: Mapping[str, Any]) -> None:
    """Raise InputError if a training is not the one that a checkpoint is of.

    Args:
        where: the checkpoint, for the message.
        old: its identity.
        new: of the present training.
    """
    if not isinstance(old, Mapping):
        raise InputError(f"{where}: identity: expected a mapping")
    found = differences(old, new)
    if found:
        raise InputError(
            f"{where}: a resume changes nothing, but these differ (checkpoint -> now): "
            f"{'; '.join(found)}; --fork NEW goes on under other options in another folder"
        )


def versions() -> dict[str, str]:
    """Return the versions of what computes, and its number of threads."""
    found = {"python": platform.python_version(), "torch": str(torch.__version__)}
    for name in PACKAGES:
        try:
            found.setdefault(name, version(name))
        except PackageNotFoundError:  # a checkout
            continue
    return {**found, "threads": str(torch.get_num_threads())}
