"""Train the settings of DR3's study and keep what they measured.

`dr3_settings` says what is trained; `dr3_claims` judges, `dr3_page` writes the page.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rlop.config.files import read_json_lines, write_atomic
from rlop.data import Dataset, load_dataset
from rlop.experiments.dr3_settings import SOURCES, Setting
from rlop.logs.logger import History
from rlop.training.evaluate import make_evaluator
from rlop.training.names import agent_class
from rlop.training.session import train

POINTS = 12  # evaluations after that of the untrained agent
GRAIN = 320  # steps between evaluations are a multiple of every target period


@dataclass(frozen=True)
class Record:
    """What one setting measured.

    Args:
        setting: its name in `dr3_settings.settings`.
        runs: (arm, seed) of every run.
        steps: at which features were measured and games played, `[T]`.
        curves: metric -> `[T][R]`; what updates report lacks the first point. None is not finite.
        rows: transitions.
        seconds: of the training.
        machine: on which it ran.
    """

    setting: str
    runs: list[tuple[str, int]]
    steps: list[int]
    curves: dict[str, list[list[float | None]]]
    rows: int
    seconds: float
    machine: str = ""

    def of(self, metric: str, arm: str, seeds: Sequence[int]) -> np.ndarray:
        """Return a metric of one arm, `[T, n]` for n seeds, NaN where it is not finite.

        Raises:
            KeyError: a metric, an arm or a seed that is not there.
        """
        columns = [self.runs.index((arm, seed)) for seed in seeds if (arm, seed) in self.runs]
        if len(columns) != len(seeds):
            raise KeyError(arm)
        return np.array(self.curves[metric], float)[:, columns]

    def until(self, step: int) -> Record:
        """Return the record as if the training had ended at a step."""
        count = sum(at <= step for at in self.steps)
        curves = {}
        for metric, rows in self.curves.items():
            skipped = len(self.steps) - len(rows)  # what updates report lacks the first point
            curves[metric] = rows[: count - skipped]
        return replace(self, steps=self.steps[:count], curves=curves)

    @property
    def arms(self) -> list[str]:
        """The arms, in order."""
        return list(dict.fromkeys(arm for arm, _ in self.runs))


def data_of(name: str, folder: Path) -> Dataset:
    """Load the data of a source; a file that is missing is collected into the folder first."""
    source = SOURCES[name]
    if source.read:
        return load_dataset(source.read)

    from rlop.collect.collector import collect

    path = folder / f"dr3-{name}.hdf5"
    if not path.exists():
        collect(path=path, **source.collect)
    return load_dataset(str(path))


def run_setting(
    name: str, setting: Setting, folder: Path, steps: int | None = None, device: str = "cpu"
) -> Record:
    """Train every run of a setting side by side, and play.

    Args:
        name: of the setting.
        setting: from `dr3_settings.settings`.
        folder: of collected data.
        steps: gradient steps, in place of the setting's.
        device: of the training; games are played on the CPU.
    """
    data = data_of(setting.source, folder)
    options = {**SOURCES[setting.source].options, **setting.options}
    agent = agent_class(setting.agent)(
        data.spec, seeds=setting.seeds, variants=setting.arms, device=device, **options
    )

    evaluate = make_evaluator(agent, data.spec.env_id, data.spec.env_kwargs, setting.episodes)
    every = max(1, (steps or setting.steps) // POINTS // GRAIN) * GRAIN
    begun = time.perf_counter()
    history = train(
        agent,
        data,
        POINTS * every,
        evaluate=evaluate,
        log_every=every,
        probe_every=every,
        eval_every=every,
        checkpoint_every=0,
        probe_size=1024,
        compile=False,
        progress=False,
    )

    runs = [(arm, seed) for arm in setting.arms for seed in setting.seeds]
    return Record(
        setting=name,
        runs=runs,
        steps=[point * every for point in range(POINTS + 1)],
        curves=curves_of(history),
        rows=len(data),
        seconds=round(time.perf_counter() - begun, 1),
        machine=torch.cuda.get_device_name() if device != "cpu" else "CPU",
    )


KEPT = (
    *("eval/return", "feature/dot", "feature/cosine", "feature/norm"),
    *("rank/srank", "rank/effective_rank", "q/data"),
)


def curves_of(history: History) -> dict[str, list[list[float | None]]]:
    """Return the metrics that the page reads, to four digits."""
    curves = {}
    for metric in KEPT:
        if metric in history.metrics:
            curves[metric] = [rounded(row) for row in history.get(metric)[1]]
    return curves


def rounded(row: Iterable[float]) -> list[float | None]:
    """Round numbers to four digits; None stands for those that are not finite."""
    return [float(f"{value:.4g}") if np.isfinite(value) else None for value in row]


# --- records in a file, one a line


@dataclass
class Records:
    """Records of settings, and of drifts at trained networks.

    Args:
        settings: name -> record.
        drifts: (backup, seed) -> measures of `trained_drift`.
    """

    settings: dict[str, Record] = field(default_factory=dict)
    drifts: dict[tuple[str, int], dict[str, float]] = field(default_factory=dict)


def read(path: Path) -> Records:
    """Read records.

    Raises:
        InputError: a line that is no record.
    """
    records = Records()
    for one in read_json_lines(path, _record):
        if isinstance(one, Record):
            records.settings[one.setting] = one
        else:
            key, values = one
            records.drifts[key] = values
    return records


def _record(content: dict[str, Any]) -> Record | tuple[tuple[str, int], dict[str, float]]:
    """Return the record of a setting, or the key and the measures of a drift."""
    if "drift" in content:
        return (content["drift"], content["seed"]), content["values"]
    content["runs"] = [(arm, seed) for arm, seed in content["runs"]]
    return Record(**content)


def write(records: Records, path: Path) -> None:
    """Write records in the order of their names."""
    lines: list[Mapping[str, object]] = []
    for _, record in sorted(records.settings.items()):
        lines.append(vars(record))
    for (backup, seed), values in sorted(records.drifts.items()):
        lines.append({"drift": backup, "seed": seed, "values": values})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, "".join(json.dumps(line) + "\n" for line in lines).encode())
