"""Every module of the workshop alone in offline DQN and discrete CQL, at three strengths and eight seeds each.

Two data sets: 4,000 steps in the gridworld, where the plain agents' exact returns are neither 0 nor perfect (the one of
four tried), and 10,000 in CartPole by a PPO policy that acts at random three times in ten. Strengths were chosen before
anything was run: the value of the paper or its code where there is one (see the docstring of the module), and ten times
less and more; otherwise three values that span a range.

`scripts/reproduce.py baselines` runs this and writes what `rlop.experiments.baselines_table` makes of it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rlop.config.files import write_atomic
from rlop.data import Dataset, load_dataset
from rlop.logs.logger import History
from rlop.training.names import agent_class
from rlop.training.evaluate import make_evaluator
from rlop.training.loop import train

STEPS, SEEDS, EVALUATIONS, EPISODES = 2500, 8, 5, 5
MEASURES = {"score": "eval/return", "srank": "rank/srank", "dot": "feature/dot"}


@dataclass(frozen=True)
class Module:
    """One module and the strengths that it is tried at.

    Args:
        name: in the table.
        key: the agent's option, dotted; the last part takes the strength.
        strengths: three of them.
        sweeps: whether they can share a launch; if not, each has its own.
        options: further options of the agent.
        agents: that it makes sense with.
    """

    name: str
    key: str
    strengths: tuple[Any, ...]
    sweeps: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)
    agents: tuple[str, ...] = ("DQN", "DiscreteCQL")


def _regularizer(name: str, *strengths: float) -> Module:
    return Module(name, f"regularizers.{name}", strengths)


def _static(name: str, key: str, *strengths: Any, **options: Any) -> Module:
    return Module(name, key, strengths, sweeps=False, options=options)


PLAIN = Module("plain", "", (None,), sweeps=False)
MODULES = (
    PLAIN,
    _regularizer("dr3", 0.003, 0.03, 0.3),
    _regularizer("cosine", 0.01, 0.1, 1.0),
    _regularizer("peer", 1e-4, 1e-3, 1e-2),
    _regularizer("beer", 1e-4, 1e-3, 1e-2),
    _regularizer("srank_penalty", 1e-4, 1e-3, 1e-2),
    _regularizer("pc_share", 0.1, 1.0, 10.0),
    _regularizer("feature_decorrelation", 1e-3, 1e-2, 1e-1),
    _regularizer("feature_norm", 1e-4, 1e-3, 1e-2),
    _regularizer("infer", 0.01, 0.1, 1.0),
    _regularizer("spectral_decoupling", 3e-4, 3e-3, 3e-2),
    _regularizer("path_norm", 1e-5, 1e-4, 1e-3),
    _regularizer("l2", 1e-5, 1e-4, 1e-3),
    _regularizer("l2_init", 1e-4, 1e-3, 1e-2),
    Module("max_norm", "projections.max_norm", (3.0, 10.0, 30.0)),
    Module("frobenius", "projections.frobenius", (1.0, 3.0, 10.0)),
    Module("target noise", "target_noise.scale", (0.03, 0.1, 0.3)),
    Module(
        "sgd, momentum .9",
        "lr",
        (1e-3, 1e-2, 1e-1),
        options={"optimizer": {"sgd": {"momentum": 0.9}}},
    ),
    Module("smd q", "optimizer.smd.q", (1.1, 2.0, 3.0), options={"lr": 1e-2}),
    Module("rmd lambda", "optimizer.rmd.lam", (0.3, 3.0, 30.0), options={"lr": 1e-2}),
    Module("logit adjustment", "logit_adjustment.tau", (0.3, 1.0, 3.0), agents=("DiscreteCQL",)),
    _static("normalization", "layers.norm", "layer", "batch", "batch_renorm"),
    _static("linear stack", "layers.linear_stack", 1, 2, 4),
    _static("factorized rank", "layers.factorized", 4, 8, 16),
    _static("density", "layers.density", 0.5, 0.2, 0.1),
    _static("feature length", "layers.feature_norm", 1.0, 4.0, 16.0),
    _static("hyperspherical", "layers.hyperspherical", True),
    _static("muP, base width", "layers.base_width", 16, 32, 64, layers={"parametrization": "mup"}),
    _static("redo every", "resets.every", 300, 1000, 1500, resets={"kind": "redo"}),
    _static(
        "shrink and perturb every",
        "resets.every",
        300,
        1000,
        1500,
        resets={"kind": "shrink_and_perturb"},
    ),
)
AGENTS = {"DQN": {}, "DiscreteCQL": {"alpha": 1.0}}
COMMON = {"hidden": (64, 64), "lr": 1e-3, "batch_size": 32, "target_period": 100}
GRID = "gridworld?observation=random&steps=4000&epsilon=0.5,1.0"
CARTPOLE = "cartpole.hdf5"  # in the folder of the results
TASKS = {"gridworld": {"gamma": 0.97}, "CartPole": {"gamma": 0.99}}


@dataclass(frozen=True)
class Job:
    """One launch: a module with some strengths, in one agent on one data set."""

    task: str
    agent: str
    module: Module
    strengths: tuple[Any, ...]

    @property
    def name(self) -> str:
        """Of the file of its result."""
        words = f"{self.task} {self.agent} {self.module.name} {' '.join(map(str, self.strengths))}"
        return "".join(c if c.isalnum() or c == "." else "-" for c in words)


def jobs(names: tuple[str, ...] | None = None) -> list[Job]:
    """All launches, or those of the modules with these names."""
    wanted = [module for module in MODULES if names is None or module.name in names]
    return [
        Job(task, agent, module, strengths)
        for task in TASKS
        for agent in AGENTS
        for module in wanted
        if agent in module.agents
        for strengths in ([module.strengths] if module.sweeps else [(s,) for s in module.strengths])
    ]


def options_of(job: Job) -> dict[str, Any]:
    """What the agent of a launch is made with."""
    options: dict[str, Any] = {
        **COMMON,
        **TASKS[job.task],
        **AGENTS[job.agent],
        **job.module.options,
    }
    if job.module.key:
        *path, last = job.module.key.split(".")
        place = options
        for part in path:
            place[part] = dict(place.get(part, {}))
            place = place[part]
        place[last] = list(job.strengths) if job.module.sweeps else job.strengths[0]
    return options


def data_of(task: str, folder: Path) -> Dataset:
    """The data set of a task; see `collect_cartpole`."""
    return load_dataset(GRID if task == "gridworld" else str(folder / CARTPOLE))


def collect_cartpole(folder: Path) -> None:
    """Write CartPole's data set into a folder, unless it is there."""
    from rlop.collect.collector import collect

    if not (folder / CARTPOLE).exists():
        collect("CartPole-v1", "ppo:20000", 10_000, folder / CARTPOLE, epsilon=0.3)


def prepare_process() -> None:
    """What a process that runs launches does first: one thread, and no slow arithmetic with numbers near 0."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


def run_job(job: Job, folder: Path, steps: int = STEPS, seeds: int = SEEDS) -> dict[str, Any]:
    """Run one launch, or read its result if it is there: a record with a row for each strength, or with `error`."""
    path = folder / f"{job.name}.json"
    if path.exists() and (kept := json.loads(path.read_text()))["settings"] == [steps, seeds]:
        return kept
    head = {
        "task": job.task,
        "agent": job.agent,
        "module": job.module.name,
        "settings": [steps, seeds],
    }
    started = time.process_time()
    try:
        rows = measure(job, data_of(job.task, folder), steps, seeds)
    except Exception as error:  # one that fails must not hide the others
        return {**head, "error": f"{type(error).__name__}: {error}"}
    record = {**head, "seconds": round(time.process_time() - started, 1), "rows": rows}
    write_atomic(path, json.dumps(record, indent=1).encode())
    return record


def measure(job: Job, data: Dataset, steps: int, seeds: int) -> list[dict[str, Any]]:
    """Train; for every strength the runs' last score, mean score, last srank and last feature dot product."""
    agent = agent_class(job.agent)(data.spec, seeds=seeds, **options_of(job))
    evaluate = make_evaluator(agent, data.spec.env_id, data.spec.env_kwargs, EPISODES)
    every = max(1, steps // EVALUATIONS)
    try:
        often: dict[str, Any] = {"probe_every": every, "eval_every": every, "log_every": every}
        history = train(
            agent, data, steps, evaluate=evaluate, progress=False, compile=False, **often
        )
    finally:
        evaluate.close()
    if not job.module.sweeps:
        return [{"strength": job.strengths[0], **ends(history, np.ones(len(agent.runs), bool))}]
    group, *_, last = job.module.key.split(".") if "." in job.module.key else ("", job.module.key)
    own = np.array(
        agent.runs.values[f"{group}.{last}".lstrip(".")]
    )  # the name of an optimizer is not part of it
    return [{"strength": s, **ends(history, own == s)} for s in job.strengths]


def ends(history: History, runs: np.ndarray) -> dict[str, list[float]]:
    """Numbers of the runs that are marked `[R]`; a value that is not finite becomes null."""
    found = {name: history.get(metric)[1][-1, runs] for name, metric in MEASURES.items()}
    found["auc"] = history.get("eval/return")[1][1:, runs].mean(0)  # without the untrained policy's
    found["active"] = history.get("run/active")[1][-1, runs]
    return {
        name: [float(v) if np.isfinite(v) else None for v in values]
        for name, values in found.items()
    }  # type: ignore[misc]
