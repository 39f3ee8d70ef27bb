"""The checkpoints among which one is selected, and the data in the units of each."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from rlop.agent import Agent
from rlop.data.dataset import Dataset
from rlop.data.load import load_dataset
from rlop.data.transforms import normalized, transform
from rlop.deploy.load import found_at, last_evaluation, record_of
from rlop.doctor.source import data_settings
from rlop.logs.history import History
from rlop.logs.messages import say
from rlop.ope.policies import Policies, policies_of
from rlop.report.groups import record_folders
from rlop.report.titles import SCORES
from rlop.training.checkpoint import agent_of
from rlop.training.feed import check_data
from rlop.training.folder import CHECKPOINT
from rlop.types import InputError

Transforms: TypeAlias = Mapping[str, Mapping[str, object]]

# Transforms of what networks read and give out, and of rewards. Others choose episodes, which are
# all valued here, or normalize observations by the training's own numbers, which an agent keeps.
INPUTS = ("transpose", "scale_actions", "clip_actions")
REWARDS = ("scale_reward", "scale_reward_by_return_range", "antmaze_reward", "relabel")


@dataclass(frozen=True)
class Trained:
    """The last checkpoint of a training, with R candidates.

    Args:
        name: of its folder or file, as it was given.
        file: of the checkpoint.
        agent: with R runs.
        step: of the checkpoint.
        history: record beside it; None if there is none of these runs.
        source: data that the configuration names.
        transforms: of the configuration.
    """

    name: str
    file: Path
    agent: Agent
    step: int
    history: History | None
    source: str | None
    transforms: Transforms

    @property
    def labels(self) -> list[str]:
        """Names of the candidates."""
        labels = self.agent.runs.labels
        return [self.name] if len(labels) == 1 else [f"{self.name}: {label}" for label in labels]

    def policies(self) -> Policies:
        """Return the policies of the runs, as functions of observations that are not normalized."""
        act = policies_of(self.agent)
        return lambda obs: act(normalized(obs, self.agent.spec))

    def own(self, data: Dataset) -> Dataset:
        """Return data with the rewards and the normalization of the training."""
        rewards = {name: options for name, options in self.transforms.items() if name in REWARDS}
        rewarded = transform(data, rewards)
        spec = self.agent.spec
        if spec.obs_normalizer is None:
            return rewarded
        return replace(
            rewarded,
            obs=normalized(np.asarray(rewarded.obs), spec),
            next_obs=normalized(np.asarray(rewarded.next_obs), spec),
            spec=replace(rewarded.spec, obs_normalizer=spec.obs_normalizer),
        )

    def score(self, name: str) -> np.ndarray:
        """Return the last evaluation up to the checkpoint, `[R]`; NaN where there is none."""
        found = last_evaluation(self.history, self.step)
        missing = np.full(len(self.agent.runs), np.nan)
        return missing if found is None else found.scores.get(name, missing)

    def logged(self, name: str) -> np.ndarray:
        """Return what a metric was at the last log up to the checkpoint, `[R]`; NaN without one."""
        missing = np.full(len(self.agent.runs), np.nan)
        if self.history is None or name not in self.history.metrics:
            return missing
        steps, values = self.history.get(name)
        before = values[steps <= self.step]
        return before[-1] if len(before) else missing


def trainings(sources: Sequence[str], allow: Collection[str] = ()) -> list[Trained]:
    """Load the last checkpoint of every training in folders, and checkpoints that are named.

    A folder of a training that has none yet is left out, with a message.

    Args:
        sources: log folders, folders of them, or files of checkpoints.
        allow: modules that may be imported, see `rlop.load_agent`.
    Raises:
        InputError: no checkpoint, or one that cannot be read.
    """
    found: dict[Path, Trained] = {}
    for source in sources:
        path = Path(source).expanduser()
        for place in [path] if path.is_file() else record_folders(path):
            if place.is_dir() and not (place / CHECKPOINT).exists():
                say(f"{place}: holds no checkpoint, left out")
                continue
            one = _trained(place, allow)
            found.setdefault(one.file.resolve(), one)
    if not found:
        raise InputError(f"{', '.join(sources)}: found no {CHECKPOINT}, expected one")
    return list(found.values())


def _trained(place: Path, allow: Collection[str]) -> Trained:
    """Load the checkpoint of a file, or the last one of a folder."""
    file, content = found_at(place, "cpu")
    agent = agent_of(file, content, "cpu", allow)
    source, transforms = data_settings(file.parent, allow)
    history = record_of(file.parent, agent)
    return Trained(str(place), file, agent, content["step"], history, source, transforms)


def shared_data(source: str, trained: Sequence[Trained]) -> Dataset:
    """Load data as all trainings read them, with the rewards of the data themselves.

    Args:
        source: name or file.
        trained: the trainings.
    Raises:
        InputError: trainings that read observations or give out actions in different ways, or data
            that they cannot read.
    """
    inputs = []
    for one in trained:
        inputs.append({key: options for key, options in one.transforms.items() if key in INPUTS})
        if inputs[-1] != inputs[0]:
            raise InputError(
                f"--select: {trained[0].name} and {one.name} have other transforms of actions or "
                "axes, expected checkpoints that read the same data"
            )
    data = transform(load_dataset(source), inputs[0])
    for one in trained:
        try:
            check_data(replace(one.agent.spec, obs_normalizer=data.spec.obs_normalizer), data)
        except InputError as error:
            raise InputError(f"{one.name}: {error}") from None
    return data


def score_name(trained: Sequence[Trained]) -> str | None:
    """Return the score that most candidates have on record; None without any."""
    counts = {
        name: sum(int(np.isfinite(one.score(name)).sum()) for one in trained) for name in SCORES
    }
    best = max(counts, key=counts.__getitem__)
    return best if counts[best] else None
