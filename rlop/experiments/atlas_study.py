"""Train the runs of the Rank Atlas and keep what they measured: one line of a file for each run.

`atlas_settings` says what is trained, `atlas_questions` what is asked; `atlas_page` writes the
page.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch

from rlop import ope
from rlop.agent import Agent
from rlop.collect.collector import collect
from rlop.config.files import read_json_lines, write_atomic
from rlop.data import Dataset, load_dataset
from rlop.envs import TabularEnv, TabularMDP, policy_return_undiscounted
from rlop.envs.make import make_env
from rlop.experiments.atlas_settings import (
    HEAVY,
    POINTS,
    PROBED,
    REPORTING,
    SOURCES,
    Arm,
    Training,
)
from rlop.logs.history import History
from rlop.probes.heavy import pack
from rlop.training.callbacks import Callback, PerRun
from rlop.training.evaluate import Evaluation, make_evaluator
from rlop.training.names import agent_class
from rlop.training.probing import probed_transitions
from rlop.training.session import train
from rlop.types import Batch

ROWS = 512  # transitions on which probes are measured
CHEAP = ("rank/", "units/", "feature/", "head/")  # what a probe of the loop begins with


@dataclass(frozen=True)
class Run:
    """One run: one seed of one configuration.

    Args:
        training: its training in `atlas_settings.trainings`.
        data: its data, a key of `atlas_settings.SOURCES`.
        agent, family, strength: see `atlas_settings.Arm`.
        alpha: weight of the conservative term.
        seed: of networks and minibatches.
        steps: gradient steps.
        seconds: of a processor, those of the training shared equally by its runs.
        diverged: whether it was frozen at its last finite values.
        returns: at the start and after each eighth of the training; None is not finite.
        fqe: value of the final policy by fitted Q evaluation; None where it was not estimated.
        probes: name -> values at `PROBED`; None is not finite or not measured.
    """

    training: str
    data: str
    agent: str
    family: str
    strength: float
    alpha: float
    seed: int
    steps: int
    seconds: float
    diverged: bool
    returns: list[float | None]
    fqe: float | None = None
    probes: Mapping[str, list[float | None]] = field(default_factory=dict)


# --- one training


def data_of(name: str, folder: Path) -> Dataset:
    """Load the data of a source; a file that is missing is collected into the folder first."""
    source = SOURCES[name]
    if source.read:
        return load_dataset(source.read)

    path = folder / f"atlas-{name.replace(', ', '-').lower()}.hdf5"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        collect(policy=source.policy, path=path, seed=19, **source.collect)
    return load_dataset(path)


class ExactReturn:
    """Expected return of the policies of all runs, as they act, in a process that is known.

    Args:
        mdp: the process.
        horizon: time limit of the return.
    """

    def __init__(self, mdp: TabularMDP, horizon: int) -> None:
        self.mdp = mdp
        self.horizon = horizon

    def __call__(self, agent: Agent) -> dict[str, np.ndarray]:
        """Return `eval/return`, `[R]`."""
        obs = torch.as_tensor(self.mdp.observations, dtype=torch.float32)
        actions = agent.act(obs.expand(len(agent.runs), *obs.shape)).numpy()

        returns = []
        for chosen in actions:
            table = np.eye(self.mdp.n_actions)[chosen]
            returns.append(policy_return_undiscounted(self.mdp, table, self.horizon))
        return {"eval/return": np.array(returns)}


def evaluation(agent: Agent, data: Dataset, episodes: int) -> Evaluation:
    """Return the evaluation of an agent: exact on gridworlds, else played."""
    env_id = data.spec.env_id
    assert env_id is not None
    if env_id.startswith("rlop/"):
        env = make_env(env_id, **data.spec.env_kwargs)
        assert isinstance(env.unwrapped, TabularEnv)
        assert env.spec is not None
        return ExactReturn(env.unwrapped.mdp, env.spec.max_episode_steps or 1000)

    played = make_evaluator(agent, env_id, data.spec.env_kwargs, episodes)
    assert played is not None
    return played


class Heavier(Callback):
    """Measure the pack of probes at a few steps.

    Args:
        agent: whose runs are measured.
        batch: on which, `[R, B, ...]`.
        steps: at which.
    """

    def __init__(self, agent: Agent, batch: Batch, steps: Sequence[int]) -> None:
        self.agent = agent
        self.batch = batch
        self.steps = steps
        self.measured: dict[int, dict[str, np.ndarray]] = {}  # step -> name -> [R]

    def on_probe(self, step: int, metrics: PerRun) -> None:
        """Measure, if it is one of the steps."""
        if step in self.steps:
            values = pack(self.agent, self.batch)
            self.measured[step] = {name: value.cpu().numpy() for name, value in values.items()}


def run_training(
    name: str,
    training: Training,
    folder: Path,
    seeds: Sequence[int] = REPORTING,
    steps: int | None = None,
    compiled: bool = False,
) -> list[Run]:
    """Train the arms of a training side by side, with every seed.

    Args:
        name: of the training.
        training: from `atlas_settings.trainings`.
        folder: of collected data.
        seeds: of every arm.
        steps: gradient steps, in place of the source's.
        compiled: whether the update is compiled.
    Returns:
        Its runs, the seed varying fastest.
    """
    source = SOURCES[training.source]
    data = data_of(training.source, folder)
    begun = time.process_time()

    options = {**source.options, **training.options}
    if not training.pack:
        options.pop("gamma")  # nothing is bootstrapped
    variants = {arm.name: dict(arm.values) for arm in training.arms}
    agent = agent_class(training.agent)(data.spec, seeds=seeds, variants=variants, **options)

    every = (steps or source.steps) // POINTS
    batch = probed_transitions(agent, data, ROWS)
    heavier = Heavier(agent, batch, [point * every for point in HEAVY] if training.pack else [])
    history = train(
        agent,
        data,
        POINTS * every,
        evaluate=evaluation(agent, data, source.episodes),
        callbacks=[heavier],
        log_every=every,
        probe_every=every,
        eval_every=every,
        checkpoint_every=0,
        probe_size=ROWS,
        compile=compiled,
        progress=False,
    )

    values: list[float | None] = [None] * len(agent.runs)
    if source.fqe is not None:
        policies = ope.policies_of(agent)
        fitted = ope.fitted_q(policies, data, resamples=0, **source.fqe)
        values = rounded([one.value for one in fitted])
    seconds = round((time.process_time() - begun) / len(agent.runs), 3)
    curves = probe_curves(history, heavier, every)
    active = agent.active.cpu().numpy()

    runs = []
    for number, (arm, seed) in enumerate(pairs(training.arms, seeds)):
        runs.append(
            Run(
                training=name,
                data=training.source,
                agent=arm.agent,
                family=arm.family,
                strength=arm.strength,
                alpha=float(arm.values.get("alpha", options.get("alpha", 0.0))),
                seed=seed,
                steps=POINTS * every,
                seconds=seconds,
                diverged=not active[number],
                returns=rounded(history.get("eval/return")[1][:, number]),
                fqe=values[number],
                probes={probe: rounded(curve[:, number]) for probe, curve in curves.items()},
            )
        )
    return runs


def pairs(arms: Sequence[Arm], seeds: Sequence[int]) -> list[tuple[Arm, int]]:
    """Return arm and seed of every run, in the order of the run axis."""
    return [(arm, seed) for arm in arms for seed in seeds]


def probe_curves(history: History, heavier: Heavier, every: int) -> dict[str, np.ndarray]:
    """Return the probes at `PROBED`, name -> `[T, R]`; NaN where one was not measured."""
    curves = {}
    for name in history.metrics:
        if name.startswith(CHEAP):
            curves[name] = history.get(name)[1][list(PROBED)]

    measured = {step // every: values for step, values in heavier.measured.items()}
    names = next(iter(measured.values()), {})
    for name, value in names.items():
        absent = np.full_like(value, np.nan)
        curves[name] = np.stack([measured.get(point, {}).get(name, absent) for point in PROBED])
    return curves


def rounded(values: Sequence[float] | np.ndarray) -> list[float | None]:
    """Round numbers to four digits; None stands for those that are not finite."""
    return [float(f"{value:.4g}") if np.isfinite(value) else None for value in values]


# --- records in a file, a run on each line


def read(path: Path) -> list[Run]:
    """Read the runs of a file; none where there is no file.

    Raises:
        InputError: a line that is no run.
    """
    return read_json_lines(path, lambda content: Run(**content), "a run")


def write(runs: Sequence[Run], path: Path) -> None:
    """Write runs, one a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(asdict(run), separators=(",", ":")) + "\n" for run in runs]
    write_atomic(path, "".join(lines).encode())
