"""One training as a typed configuration: data, agent, schedule; what `rlop train` and the scripts run."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from rlop.config.checks import check_range
from rlop.config.files import read_yaml
from rlop.config.overrides import apply_overrides
from rlop.config.schema import build
from rlop.data import Dataset, load_dataset
from rlop.data.dqn_replay.window import RollingWindow
from rlop.data.transforms import transform
from rlop.logs.logger import History
from rlop.training.checkpoint import agent_class
from rlop.training.evaluate import make_evaluator
from rlop.training.loop import TrainOptions, train
from rlop.types import InputError


@dataclass(frozen=True)
class CollectOptions:
    """How to make the data file when it is not there; see `rlop collect --help`."""

    env: str
    policy: str = "random"
    mix: dict[str, float] = field(
        default_factory=dict
    )  # policy -> share of the steps, instead of `policy`
    shuffle: bool = False  # interleave the episodes of a mixture
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    epsilon: float = 0.0
    steps: int = 50_000
    seed: int = 0


@dataclass(frozen=True)
class Experiment(TrainOptions):
    """Keys of a configuration file, beside those of `TrainOptions`."""

    data: str = "gridworld"  # what `load_dataset` takes
    data_options: dict[str, Any] = field(default_factory=dict)  # its keyword arguments
    window: int = 0  # checkpoints of a replay log in memory at a time, drawn anew every `reload_every` steps; 0: all
    transforms: dict[str, dict[str, Any]] = field(
        default_factory=dict
    )  # in order, see rlop/data/transforms.py
    collect: CollectOptions | None = None  # makes the data file if it is missing
    agent: dict[str, Any] = field(default_factory=dict)  # name, and the agent's own options
    seeds: int | list[int] = 1
    variants: dict[str, dict[str, float]] | None = None  # name -> {hyper-parameter: value}
    env: str | None = None  # environment to evaluate in; default: the one the data names
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    eval_episodes: int = 20
    eval_epsilon: float | None = (
        None  # probability of a random action; default: 0.001 for Atari, else 0
    )
    logdir: str | None = None  # default: runs/<config>-<time>
    resume: bool = False
    device: str = "auto"  # auto, cpu, cuda, cuda:1, ...
    threads: int = 0  # CPU threads of PyTorch; 0: one, which small networks are fastest with

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("eval_episodes", "threads", "window"):
            check_range(name, getattr(self, name), low=0)
        if bool(self.window) != bool(self.reload_every):
            raise InputError(
                f"window = {self.window}, reload_every = {self.reload_every}: expected both, or neither"
            )
        if self.eval_epsilon is not None:
            check_range("eval_epsilon", self.eval_epsilon, low=0, high=1)


def from_args(argv: Sequence[str], default: str | None = None) -> tuple[Experiment, str]:
    """`[CONFIG.yaml] [--key value ...]` to an experiment and its name.

    Raises:
        InputError: naming the file or key, and the nearest key there is.
    """
    argv = list(argv)
    path = argv.pop(0) if argv and not argv[0].startswith("--") else default
    if path is None:
        raise InputError("no configuration file; expected: CONFIG.yaml [--key value ...]")
    return build(Experiment, apply_overrides(read_yaml(path), argv), where=str(path)), Path(
        path
    ).stem


def pick_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one, else the CPU.

    Raises:
        InputError: for a device PyTorch cannot use here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError):
        raise InputError(
            f"device = {name!r}: not available here; expected auto, cpu or cuda[:index]"
        ) from None


def data_of(experiment: Experiment) -> Dataset | RollingWindow:
    """Load the data set; collect it first when its file is missing and the configuration says how."""
    if experiment.window:
        return RollingWindow(
            experiment.data,
            experiment.window,
            prepare=lambda data: transform(data, experiment.transforms),
            **experiment.data_options,
        )
    wanted = experiment.collect
    if wanted is not None and not Path(experiment.data).exists():
        from rlop.collect.collector import collect

        print(
            f"{experiment.data} is not there: collecting {wanted.steps} steps of {wanted.env}",
            file=sys.stderr,
        )
        Path(experiment.data).parent.mkdir(parents=True, exist_ok=True)
        collect(
            wanted.env,
            wanted.mix or wanted.policy,
            wanted.steps,
            experiment.data,
            epsilon=wanted.epsilon,
            shuffle=wanted.shuffle,
            seed=wanted.seed,
            env_kwargs=wanted.env_kwargs,
        )
    return transform(
        load_dataset(experiment.data, **experiment.data_options), experiment.transforms
    )


def run(experiment: Experiment, name: str = "run") -> tuple[Any, History, Path]:
    """Load data, make the agent, train, evaluate; returns agent, record and log folder.

    Raises:
        InputError: before any training, for anything in the configuration that does not fit.
    """
    torch.set_num_threads(experiment.threads or 1)
    device = pick_device(experiment.device)
    data = data_of(experiment)
    options = dict(experiment.agent)
    cls = agent_class(options.pop("name", "DQN"))
    agent = cls(
        data.spec, seeds=experiment.seeds, variants=experiment.variants, device=device, **options
    )
    env_id = experiment.env or data.spec.env_id
    env_kwargs = experiment.env_kwargs or data.spec.env_kwargs
    reference = experiment.data if experiment.data.startswith("d4rl:") else env_id
    evaluate = make_evaluator(
        agent, env_id, env_kwargs, experiment.eval_episodes, reference, experiment.eval_epsilon
    )
    logdir = Path(experiment.logdir or f"runs/{name}-{time.strftime('%Y%m%d-%H%M%S')}")
    print(
        f"{len(agent.runs)} runs of {cls.__name__} on {data.name} ({len(data):,} transitions), logs in {logdir}"
    )
    options = {key: getattr(experiment, key) for key in TrainOptions.__dataclass_fields__}
    started = time.perf_counter()
    history = train(
        agent, data, logdir=logdir, evaluate=evaluate, resume=experiment.resume, **options
    )
    print(cost(experiment.steps, len(agent.runs), time.perf_counter() - started))
    return agent, history, logdir


def cost(steps: int, runs: int, seconds: float) -> str:
    """One line: time, steps per second, peak memory of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        2**20 if sys.platform != "darwin" else 2**30
    )
    return f"{seconds:.0f} s, {steps / seconds:,.0f} steps/s for {runs} runs together, peak memory {peak:.2f} GiB"
