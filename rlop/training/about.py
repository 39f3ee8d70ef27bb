"""What `rlop info` says of a data set, or of a checkpoint and the data it was trained on."""

from __future__ import annotations

from pathlib import Path

from rlop.data.formats.d4rl import find as find_d4rl
from rlop.data.formats.d4rl import state
from rlop.data.info import summary
from rlop.data.load import load_dataset
from rlop.data.scores import PREFIX
from rlop.data.stored_spec import spec_from
from rlop.training.checkpoint import load
from rlop.training.folder import CHECKPOINT
from rlop.types import Spec


def described(source: str, download: bool = False) -> str:
    """Describe a data set or a checkpoint.

    Args:
        source: name or file of a data set; a checkpoint, or its folder.
        download: fetch a data set of D4RL that is not on disk.
    Raises:
        InputError: neither of them, or what reading it refuses.
    """
    path = find(source)
    if path is not None:
        return about(path)
    if not source.startswith(PREFIX):
        return summary(load_dataset(source))

    if download:
        find_d4rl(source.removeprefix(PREFIX))
    lines = state(source)
    if not lines[0].startswith("on disk"):
        return "\n".join([*lines, f"fetch it: rlop info {source} --download"])
    return "\n".join([*lines, summary(load_dataset(source))])


def find(source: str) -> Path | None:
    """Return the checkpoint that a source names, itself or by its folder; else None."""
    path = Path(source).expanduser()
    if path.suffix == ".pt":
        return path
    return path / CHECKPOINT if (path / CHECKPOINT).is_file() else None


def about(path: Path) -> str:
    """Describe a checkpoint line by line.

    Args:
        path: the file.
    Raises:
        InputError: no such file, or not a checkpoint.
    """
    content = load(path)
    spec = spec_from(path, content["spec"])
    lines = [
        f"{path}: {content['agent']} at step {content['step']:,}",
        f"seeds: {', '.join(map(str, content['seeds']))}",
    ]
    if content["variants"]:
        lines.append(f"variants: {', '.join(content['variants'])}")
    lines.append(f"{spec.shapes}, environment {spec.env_id}")
    lines += translations(spec)

    lines.append(f"changes of the data: {'none' if not spec.changes else ''}".rstrip())
    lines += [f"  {change}" for change in spec.changes]
    return "\n".join(lines)


def translations(spec: Spec) -> list[str]:
    """Say what stands between the environment and the agent: a line for each, none if nothing does.

    Args:
        spec: of the data.
    """
    lines = []
    if spec.obs_keys:
        lines.append(f"observations: the parts {', '.join(spec.obs_keys)}, joined")
    if spec.obs_axes:
        lines.append(f"observations: axes in the order {list(spec.obs_axes)}")
    if spec.obs_normalizer is not None:
        lines.append("observations: each entry minus a mean, divided by a divisor")

    if spec.action_low is not None and spec.action_high is not None:
        low, high = list(spec.action_low), list(spec.action_high)
        lines.append(f"actions: -1 and 1 are {low} and {high} of the environment")
    if spec.action_layout is not None:
        lines.append(f"actions: of shape {spec.action_layout} in the environment")
    if spec.action_counts is not None:
        lines.append(f"actions: parts of {list(spec.action_counts)} choices, numbered row-major")
    if spec.action_start:
        lines.append(f"actions: 0 is {spec.action_start} of the environment")
    return lines
