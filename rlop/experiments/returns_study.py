"""Train six agents on data of D4RL's own policies, play what they learned, and keep the record.

`returns_settings` says what is trained; `returns_page` writes the page.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from rlop.config.files import read_json_lines, to_dict, write_atomic
from rlop.data.dataset import Dataset
from rlop.data.load import load_dataset
from rlop.data.scores import normalized_score
from rlop.data.transforms import transform
from rlop.experiments.records import installed
from rlop.experiments.returns_settings import (
    EPISODES,
    SEEDS,
    SETTINGS,
    SOURCES,
    TRANSITIONS,
    Setting,
)
from rlop.logs.logger import History
from rlop.training.evaluate import make_evaluator
from rlop.training.names import agent_class
from rlop.training.session import train


@dataclass(frozen=True)
class Behavior:
    """Returns of the policy that made the data, from its whole episodes.

    Args:
        source: key of `SOURCES`.
        rows: transitions.
        returns: of each episode.
    """

    source: str
    rows: int
    returns: list[float]


@dataclass(frozen=True)
class Training:
    """What one training measured.

    Args:
        source: key of `SOURCES`.
        title: of its setting.
        seeds: of its runs.
        config: of the agent, every option.
        transforms: of the data.
        updates: gradient steps of each run.
        cpu_seconds: of compiling, updates and evaluations, of all runs.
        steps: at which episodes were played, `[T]`.
        returns: mean over the episodes, `[T][R]`.
        scores: the same, normalized.
        q: mean Q of the last minibatches `[R]`, in units of the transformed rewards; None without.
        value: mean discounted return of the data in these units.
        versions: package -> version.
    """

    source: str
    title: str
    seeds: list[int]
    config: Mapping[str, Any]
    transforms: Mapping[str, Any]
    updates: int
    cpu_seconds: float
    steps: list[int]
    returns: list[list[float]]
    scores: list[list[float]]
    q: list[float] | None
    value: float
    versions: dict[str, str]


@dataclass
class Records:
    """Records of behavior policies, by source, and of trainings, by source and title."""

    behaviors: dict[str, Behavior] = field(default_factory=dict)
    trainings: dict[tuple[str, str], Training] = field(default_factory=dict)


def data_of(name: str, folder: Path) -> Dataset:
    """Load the data of a source; a file that is missing is collected into the folder first."""
    from rlop.collect.collector import collect

    source = SOURCES[name]
    path = folder / f"{name}-medium.hdf5"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        policy = f"d4rl:{source.level}"
        collect(source.env_id, policy, TRANSITIONS, path, stochastic=True, seed=0)
    return load_dataset(str(path))


def behavior_of(name: str, data: Dataset) -> Behavior:
    """Return the returns of the episodes that were not cut by the end of the data."""
    returns = data.episode_returns()
    if not data.terminated[-1] and data.episode_lengths()[-1] < data.episode_lengths().max():
        returns = returns[:-1]
    return Behavior(name, len(data), [rounded(value) for value in returns])


def run_setting(
    setting: Setting,
    raw: Dataset,
    seeds: Sequence[int] = SEEDS,
    episodes: int = EPISODES,
    compiled: bool = True,
) -> Training:
    """Train all seeds of a setting side by side; play at the start, at half time and at the end.

    Args:
        setting: what is trained.
        raw: its data, not transformed.
        seeds: of the runs.
        episodes: of an evaluation of each run.
        compiled: whether the update is compiled.
    """
    started = cpu_seconds()
    data = transform(raw, setting.transforms)
    options = {**setting.options, "batch_size": setting.batch_size}
    agent = agent_class(setting.agent)(data.spec, seeds=list(seeds), device="cpu", **options)

    half = setting.updates // 2
    evaluate = make_evaluator(agent, data.spec.env_id, data.spec.env_kwargs, episodes)
    history = train(
        agent,
        data,
        setting.updates,
        evaluate=evaluate,
        log_every=half,
        eval_every=half,
        probe_every=0,
        checkpoint_every=0,
        compile=compiled,
        progress=False,
    )

    steps, returns = history.get("eval/return")
    config, q = to_dict(agent.config), last_q(history)
    return record_of(setting, seeds, data, config, started, steps, returns, q)


def record_of(
    setting: Setting,
    seeds: Sequence[int],
    data: Dataset,
    config: Mapping[str, Any],
    started: float,
    steps: Iterable[int],
    returns: np.ndarray,
    q: list[float] | None = None,
    versions: Mapping[str, str] = MappingProxyType({}),
) -> Training:
    """Return the record of a training that just ended.

    Args:
        setting: what was trained.
        seeds: of the runs.
        data: transformed.
        config: of the agent.
        started: `cpu_seconds` before the training.
        steps: at which episodes were played, `[T]`.
        returns: mean over the episodes, `[T, R]`.
        q: mean Q of each run.
        versions: of packages beside those of `installed`.
    """
    scores = normalized_score(returns, SOURCES[setting.source].level)
    return Training(
        source=setting.source,
        title=setting.title,
        seeds=list(seeds),
        config=config,
        transforms=to_dict(setting.transforms),
        updates=setting.updates,
        cpu_seconds=round(cpu_seconds() - started, 1),
        steps=[int(step) for step in steps],
        returns=[[rounded(value) for value in row] for row in returns],
        scores=[[rounded(value) for value in row] for row in scores],
        q=q,
        value=rounded(discounted_return(data)),
        versions={**installed(), **versions},
    )


def last_q(history: History) -> list[float] | None:
    """Return the mean Q of the data's actions in the last interval that was logged, `[R]`."""
    if "q/data" not in history.metrics:
        return None
    return [rounded(value) for value in history.get("q/data")[1][-1]]


def discounted_return(data: Dataset, gamma: float = 0.99) -> float:
    """Return the mean discounted return of the data's rows, of those from which it is known."""
    return float(data.with_mc_returns(gamma).extra["mc_return"].mean())


def cpu_seconds() -> float:
    """Return the processor time of this process and of the compilers that it started."""
    return sum(os.times()[:4])


def rounded(value: float) -> float:
    """Return a number with five digits."""
    return float(f"{value:.5g}")


# --- records in a file, one a line


def decide(
    path: Path,
    folder: Path,
    settings: Sequence[Setting] = SETTINGS,
    say: Callable[[str], None] = print,
    run: Callable[[Setting, Dataset], Training] | None = None,
) -> Records:
    """Train what has no record yet; each record is written at once.

    Args:
        path: of the records.
        folder: of the data.
        settings: what is trained, in this order.
        say: called with a line for each record.
        run: trains a setting on data that are not transformed; None is `run_setting`.
    """
    run = run or run_setting
    records = read(path)
    for setting in settings:
        if (setting.source, setting.title) in records.trainings:
            continue
        data = data_of(setting.source, folder)
        if setting.source not in records.behaviors:
            records.behaviors[setting.source] = behavior_of(setting.source, data)

        training = run(setting, data)
        records.trainings[setting.source, setting.title] = training
        write(records, path)
        score = np.mean(training.scores[-1])
        seconds = training.cpu_seconds
        say(f"{setting.source}, {setting.title}: score {score:.1f} in {seconds:.0f} CPU s")
    return records


def read(path: Path) -> Records:
    """Return the records of a file, one a line; none if there is no file.

    Raises:
        InputError: a line that is no record.
    """
    records = Records()
    for one in read_json_lines(path, _record):
        if isinstance(one, Training):
            records.trainings[one.source, one.title] = one
        else:
            records.behaviors[one.source] = one
    return records


def _record(content: Mapping[str, Any]) -> Training | Behavior:
    return Training(**content) if "title" in content else Behavior(**content)


def write(records: Records, path: Path) -> None:
    """Write the behavior policies, then the trainings, in the order in which they came."""
    both: list[Behavior | Training] = [
        *records.behaviors.values(),
        *records.trainings.values(),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, "".join(json.dumps(asdict(one)) + "\n" for one in both).encode())
