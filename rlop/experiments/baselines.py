"""Every module of the workshop on its own, in offline DQN and discrete CQL.

Two data sets: 4,000 steps in the gridworld, where the plain agents' exact returns are neither 0 nor
perfect (the only one of four tried), and 10,000 steps in CartPole by a PPO policy that acts at
random three times in ten.

Every module has the same budget: three strengths, the plain agent three learning rates. Four seeds
choose the strength, by the area under the curve; eight others report. Strengths were chosen before
anything was run: the value of the paper or its code if it exists (see the docstring of the module),
and ten times less and more; otherwise three values that span a range. Those of RMD move a slack by
about a third, a thirtieth and a three-hundredth of its error per visit (lr / (lam B)).

Whether a module does anything is measured early, since two trainings that differ by a rounding
drift apart in the end: after `EARLY` steps, by the distance between its parameters and those of the
same agent without it at the same seeds, over the distance that these have moved. Below `INERT`, one
percent, it is called inert. The row `nothing` is the control: an l2 penalty of a size that rounding
swallows. A module with other parameters than the plain agent acts by construction.

`scripts/reproduce.py baselines` runs this; `rlop.experiments.baselines_table` writes the results.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NotRequired, TypeAlias, TypedDict

import numpy as np
import torch
from torch import Tensor

from rlop.agent import Agent
from rlop.config.files import write_atomic
from rlop.data import Dataset, load_dataset
from rlop.logs.history import History
from rlop.training.evaluate import make_evaluator
from rlop.training.names import agent_class
from rlop.training.session import train

Strength: TypeAlias = float | str | None  # None for the plain agent
Options: TypeAlias = dict[str, Any]  # of an agent

STEPS = 2500
SEEDS = 8  # that report
TUNING_SEEDS = 4
FIRST_SEED, FIRST_TUNING_SEED = 101, 1001
EARLY = 500  # steps after which a module has acted, or is inert
INERT = 0.01
EVALUATIONS = 5  # during a training
EPISODES = 5  # of an evaluation
MEASURES = {"score": "eval/return", "srank": "rank/srank", "dot": "feature/dot"}


class Row(TypedDict):
    """Numbers of the runs at one strength, one per seed; null where one is not finite."""

    strength: Strength
    tuning: list[float | None]  # mean return, of the seeds that choose the strength
    change: list[float | None]  # see `changes`; empty with other parameters than the plain agent's
    score: list[float | None]  # last return
    auc: list[float | None]  # mean return
    srank: list[float | None]
    dot: list[float | None]
    active: list[float | None]  # 0 for a run that diverged


class Record(TypedDict):
    """Result of one training: rows, or the error that stopped it."""

    task: str
    agent: str
    module: str
    settings: list[int]  # steps, seeds, and steps of `changes`
    seconds: NotRequired[float]
    rows: NotRequired[list[Row]]
    error: NotRequired[str]


@dataclass(frozen=True)
class Module:
    """One module and the strengths at which it is tried.

    Args:
        name: name in the table.
        key: the agent's option, dotted; the last part takes the strength.
        strengths: three of them.
        sweeps: whether they can share a training; if not, each has its own.
        options: further options of the agent.
        agents: agents that it applies to.
        base: options of the agent without the module, where it is not the plain one.
    """

    name: str
    key: str
    strengths: tuple[Strength, ...]
    sweeps: bool = True
    options: Mapping[str, object] = field(default_factory=dict)
    agents: tuple[str, ...] = ("DQN", "DiscreteCQL")
    base: Mapping[str, object] = field(default_factory=dict)


def _regularizer(name: str, *strengths: float) -> Module:
    return Module(name, f"regularizers.{name}", strengths)


def _static(name: str, key: str, *strengths: Strength, **options: object) -> Module:
    """Declare a module whose strength changes the network, so that each needs its own training."""
    return Module(name, key, strengths, sweeps=False, options=options)


SGD = {"optimizer": {"sgd": {"momentum": 0.9}}}
SMD = {"optimizer": {"smd": {"q": 2.0}}, "lr": 1e-1}
SHRINK = {"kind": "shrink_and_perturb"}
HYPER = {"layers": {"hyperspherical": True}}

PLAIN = Module("plain, lr", "lr", (3e-4, 1e-3, 3e-3))
NOTHING = Module("nothing, control", "regularizers.l2", (1e-14, 1e-13, 1e-12))
MODULES = (
    PLAIN,
    NOTHING,
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
    Module("sgd, momentum .9", "lr", (1e-3, 1e-2, 1e-1), options=SGD),
    Module("smd q", "optimizer.smd.q", (1.1, 2.0, 3.0), options={"lr": 1e-2}),
    Module("rmd lambda", "optimizer.rmd.lam", (0.01, 0.1, 1.0), options={"lr": 1e-1}, base=SMD),
    Module("logit adjustment", "logit_adjustment.tau", (0.3, 1.0, 3.0), agents=("DiscreteCQL",)),
    _static("normalization", "layers.norm", "layer", "batch", "batch_renorm"),
    _static("linear stack", "layers.linear_stack", 1, 2, 4),
    _static("factorized rank", "layers.factorized", 4, 8, 16),
    _static("density", "layers.density", 0.5, 0.2, 0.1),
    _static("feature length", "layers.feature_norm", 1.0, 4.0, 16.0),
    Module("hyperspherical, lr", "lr", (3e-4, 1e-3, 3e-3), options=HYPER),
    _static("muP, base width", "layers.base_width", 16, 32, 64, layers={"parametrization": "mup"}),
    _static("redo every", "resets.every", 100, 250, 500, resets={"kind": "redo"}),
    _static("shrink and perturb every", "resets.every", 100, 250, 500, resets=SHRINK),
)

AGENTS: dict[str, Options] = {"DQN": {}, "DiscreteCQL": {"alpha": 1.0}}
TASKS: dict[str, Options] = {"gridworld": {"gamma": 0.97}, "CartPole": {"gamma": 0.99}}
COMMON: Options = {"hidden": (64, 64), "lr": 1e-3, "batch_size": 32, "target_period": 100}
GRID = "gridworld?observation=random&steps=4000&epsilon=0.5,1.0"
CARTPOLE = "cartpole.hdf5"  # in the folder of the results


@dataclass(frozen=True)
class Job:
    """One training: a module with some strengths, in one agent on one data set."""

    task: str
    agent: str
    module: Module
    strengths: tuple[Strength, ...]

    @property
    def name(self) -> str:
        """Name of the file of its result."""
        strengths = " ".join(map(str, self.strengths))
        words = f"{self.task} {self.agent} {self.module.name} {strengths}"
        return "".join(c if c.isalnum() or c == "." else "-" for c in words)


def jobs(names: Sequence[str] | None = None) -> list[Job]:
    """Return all trainings, or those of the modules with these names."""
    result = []
    for task in TASKS:
        for agent in AGENTS:
            for module in MODULES:
                is_wanted = names is None or module.name in names
                if is_wanted and agent in module.agents:
                    result += _launches(task, agent, module)

    return result


def _launches(task: str, agent: str, module: Module) -> list[Job]:
    if module.sweeps:
        return [Job(task, agent, module, module.strengths)]
    return [Job(task, agent, module, (strength,)) for strength in module.strengths]


def options_of(job: Job) -> Options:
    """Assemble the options of the agent of a training."""
    options: Options = {**COMMON, **TASKS[job.task], **AGENTS[job.agent], **job.module.options}
    # Sections are copied, since modules share them.
    *sections, last = job.module.key.split(".")
    section = options
    for name in sections:
        section[name] = dict(section.get(name, {}))
        section = section[name]

    section[last] = list(job.strengths) if job.module.sweeps else job.strengths[0]
    return options


def data_of(task: str, folder: Path) -> Dataset:
    """Load the data set of a task; `collect_cartpole` makes that of CartPole."""
    return load_dataset(GRID if task == "gridworld" else str(folder / CARTPOLE))


def collect_cartpole(folder: Path) -> None:
    """Write CartPole's data set into a folder, unless the file exists."""
    from rlop.collect.collector import collect

    if not (folder / CARTPOLE).exists():
        collect("CartPole-v1", "ppo:20000", 10_000, folder / CARTPOLE, epsilon=0.3)


def prepare_process() -> None:
    """Prepare a process for trainings: one thread, and no slow arithmetic with denormal numbers."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


def run_job(job: Job, folder: Path, steps: int = STEPS, seeds: int = SEEDS) -> Record:
    """Run one training, or read its result if the folder holds it.

    Args:
        job: the training.
        folder: folder of the results and of CartPole's data.
        steps: gradient steps of the training.
        seeds: runs for each strength.
    Returns:
        A record with a row for each strength, or with `error`.
    """
    path = folder / f"{job.name}.json"
    if path.exists():
        kept: Record = json.loads(path.read_text())
        if kept["settings"] == [steps, seeds, EARLY]:
            return kept

    record: Record = {
        "task": job.task,
        "agent": job.agent,
        "module": job.module.name,
        "settings": [steps, seeds, EARLY],
    }

    started = time.process_time()
    try:
        rows = measure(job, data_of(job.task, folder), steps, seeds)
    except Exception as error:  # one that fails must not hide the others
        record["error"] = f"{type(error).__name__}: {error}"
        return record

    record["seconds"] = round(time.process_time() - started, 1)
    record["rows"] = rows
    write_atomic(path, json.dumps(record, indent=1).encode())
    return record


def measure(job: Job, data: Dataset, steps: int, seeds: int) -> list[Row]:
    """Train, and collect the runs' numbers for every strength."""
    reporting, tuning = seeds_of(seeds)
    agent = agent_class(job.agent)(data.spec, seeds=[*reporting, *tuning], **options_of(job))
    evaluate = make_evaluator(agent, data.spec.env_id, data.spec.env_kwargs, EPISODES)
    assert evaluate is not None  # both tasks have an environment

    every = max(1, steps // EVALUATIONS)
    try:
        history = train(
            agent,
            data,
            steps,
            evaluate=evaluate,
            probe_every=every,
            eval_every=every,
            log_every=every,
            compile=False,
            progress=False,
        )
    finally:
        evaluate.close()

    change = changes(job, data, min(steps, EARLY), reporting)
    reports = np.isin(agent.runs.seeds, reporting)
    rows = []
    for strength in job.strengths:
        chosen = np.ones(len(agent.runs), bool)
        if job.module.sweeps:
            chosen = np.array(agent.runs.values[swept_name(job.module.key)]) == strength
        row = last_values(history, strength, chosen & reports)
        row["tuning"] = _finite(mean_return(history, chosen & ~reports))
        row["change"] = change[strength]
        rows.append(row)
    return rows


def seeds_of(count: int) -> tuple[list[int], list[int]]:
    """Return the seeds that report, and half as many that choose the strength."""
    half = max(1, count * TUNING_SEEDS // SEEDS)
    tuning = range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + half)
    return list(range(FIRST_SEED, FIRST_SEED + count)), list(tuning)


def changes(
    job: Job, data: Dataset, steps: int, seeds: Sequence[int]
) -> dict[Strength, list[float | None]]:
    """Measure how far a module has moved the parameters, at each strength.

        |theta - theta_plain| / |theta_plain - theta_0|

    Args:
        job: names module and strengths.
        data: what is trained on.
        steps: of training.
        seeds: of the runs.
    Returns:
        strength -> one number per seed; none where the parameters are others than the plain ones.
    """
    without = {**COMMON, **TASKS[job.task], **AGENTS[job.agent], **job.module.base}
    plain = agent_class(job.agent)(data.spec, seeds=seeds, **without)
    start = flat(plain)
    agent = agent_class(job.agent)(data.spec, seeds=seeds, **options_of(job))
    if shapes_of(plain) != shapes_of(agent):
        return {strength: [] for strength in job.strengths}

    for one in (plain, agent):
        train(one, data, steps, log_every=0, probe_every=0, compile=False, progress=False)

    moved = (flat(plain) - start).norm(dim=1)
    by_strength = flat(agent).unflatten(0, (len(job.strengths), len(seeds)))
    change = (by_strength - flat(plain)).norm(dim=2) / moved
    return {s: _finite(row.numpy()) for s, row in zip(job.strengths, change)}


def flat(agent: Agent) -> Tensor:
    """Return a copy of the main network's parameters, `[R, n]`."""
    parts = [p.detach().flatten(1) for p in agent.main.parameters.values()]
    return torch.cat(parts, dim=1)


def shapes_of(agent: Agent) -> dict[str, torch.Size]:
    """Return the shape of every parameter of the main network of one run."""
    return {name: p.shape[1:] for name, p in agent.main.parameters.items()}


def swept_name(key: str) -> str:
    """Return the name under which the runs store an option: its first and last part.

    The name of an optimizer, the part between them, is omitted.
    """
    parts = key.split(".")
    return parts[0] if len(parts) == 1 else f"{parts[0]}.{parts[-1]}"


def last_values(history: History, strength: Strength, runs: np.ndarray) -> Row:
    """Collect the numbers of the runs that are marked `[R]`."""

    def last(metric: str) -> np.ndarray:
        _, values = history.get(metric)
        return values[-1, runs]

    return {
        "strength": strength,
        "tuning": [],
        "change": [],
        "score": _finite(last(MEASURES["score"])),
        "srank": _finite(last(MEASURES["srank"])),
        "dot": _finite(last(MEASURES["dot"])),
        "auc": _finite(mean_return(history, runs)),
        "active": _finite(last("run/active")),
    }


def mean_return(history: History, runs: np.ndarray) -> np.ndarray:
    """Return the mean return of all evaluations in training, of the runs that are marked `[R]`."""
    _, returns = history.get(MEASURES["score"])
    return returns[1:, runs].mean(0)  # the first is the untrained policy's


def _finite(values: np.ndarray) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]
