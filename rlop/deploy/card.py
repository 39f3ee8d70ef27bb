"""The model card of an exported policy: what it is, what it was trained on, how it scored."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, TypeAlias

import rlop
from rlop.config.files import to_dict
from rlop.runs import Runs
from rlop.types import Spec

About: TypeAlias = dict[str, dict[str, object]]  # section -> name -> value
CONFIGURATION = "configuration"  # the section that is written as one block
PACKAGES = ("torch", "numpy", "gymnasium")


def about_run(agent: str, runs: Runs, run: int, config: object) -> About:
    """Return what an agent knows of one of its runs.

    Args:
        agent: name of the agent.
        runs: all of its runs.
        run: index of the one.
        config: of the agent.
    """
    values = {name: numbers[run] for name, numbers in runs.values.items()}
    plain = json.loads(json.dumps(to_dict(config), default=str))  # functions become their names
    return {
        "policy": {"agent": agent, "run": runs.labels[run], "seed": runs.seeds[run]},
        CONFIGURATION: {**plain, **values},
    }


def about_data(spec: Spec) -> dict[str, object]:
    """Return what the properties of a data set say beyond their defaults."""
    plain = Spec(spec.obs_shape)
    facts = {}
    for name, value in spec.__dict__.items():
        if name in ("obs_shape", "obs_dtype") or value != plain.__dict__[name]:
            facts[name] = value
    return facts


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that compute a policy."""
    installed = {name: version(name) for name in PACKAGES}
    return {"python": platform.python_version(), "rlop": rlop.__version__, **installed}


def card(title: str, about: Mapping[str, Mapping[str, object]]) -> str:
    """Write a model card in Markdown.

    Args:
        title: of the page.
        about: section -> name -> value.
    """
    lines = [f"# {title}", ""]
    for section, facts in about.items():
        lines += [f"## {section.capitalize()}", ""]
        if section == CONFIGURATION:
            lines += ["```json", json.dumps(facts, indent=1), "```"]
        else:
            lines += [f"- {name}: {shown(value)}" for name, value in facts.items()]
        lines.append("")
    return "\n".join(lines)


def shown(value: Any) -> str:
    """Return a value as the card shows it: numbers short, long lists by their length."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        listed = [shown(item) for item in value]
        return ", ".join(listed) if len(listed) <= 8 else f"{len(listed)} values"
    return str(value)
