"""Options of a training: its schedule, and the keys of a configuration file."""

from __future__ import annotations

from typing import Literal

from rlop.config.schema import (
    Count,
    Fraction,
    Index,
    Positive,
    Probability,
    option,
    options,
)
from rlop.types import InputError


@options
class TrainOptions:
    """Schedule: how often to log, probe, evaluate and checkpoint, in gradient steps; 0 is never."""

    steps: Count = option(100_000, "gradient steps of every run")
    log_every: Index = option(1000, "steps between logged means of the metrics")
    probe_every: Index = option(1000, "steps between measures of the representation")
    probe_size: Index = option(
        0, "transitions in the fixed probe batch; 0 for max(2048, 4 D), at most the data"
    )
    validation: Fraction = option(
        0.0, "share of the data, in whole episodes, held out for loss/validation at every probe"
    )
    probes: tuple[str, ...] = option(
        (), "heavier measures at every probe, by name: those of rlop.probes.pack"
    )
    eval_every: Index = option(10_000, "steps between evaluations")
    checkpoint_every: Index = option(50_000, "steps between checkpoints")
    reload_every: Index = option(0, "steps between draws of the data, where a window is set")
    compile: Literal["auto", True, False] = option(
        "auto", "the update as one graph; auto: where compiling pays off"
    )
    updates_per_launch: Index = option(
        0, "updates of one launch; 0: compiled or on CUDA, as many as the intervals allow, else one"
    )


@options
class CollectOptions:
    """How to make the data file where it is missing; see `rlop collect --help`."""

    env: str = option(description="Gymnasium id")
    policy: str = option("random", "random, sb3:FILE.zip, ppo:STEPS, sac:STEPS, ...")
    mix: dict[str, float] = option({}, "policy -> share of the steps, instead of one policy")
    shuffle: bool = option(False, "episodes of a mixture in random order")
    env_kwargs: dict[str, object] = option({}, "keyword arguments of the environment")
    epsilon: Probability = option(0.0, "probability of a uniformly random action")
    steps: Count = option(50_000, "transitions")
    seed: Index = option(0, "of environments, exploration and training")


@options
class EarlyStoppingOptions:
    """When to stop before the last step; see `rlop.EarlyStopping`."""

    metric: str = option("eval/return", "any metric that is logged")
    patience: Count = option(10, "times it may be logged in a row without an improvement")
    mode: Literal["max", "min"] = option("max", "max: more is better; min: less is")
    runs: Literal["mean", "all"] = option(
        "mean", "mean: of the mean over the runs; all: once no single run improves"
    )


@options
class LearningTimeOptions:
    """What to record of learning and forgetting; see `rlop.LearningTimes`."""

    tau: Positive = option(description="TD error below which a transition counts as learned")
    size: Count = option(1024, "transitions that are followed")


@options
class Experiment(TrainOptions):
    """A training from data to log folder."""

    data: str = option("gridworld", "name or file, as `rlop.load_dataset` takes it")
    data_options: dict[str, object] = option({}, "keyword arguments of its reader")
    window: Index = option(
        0, "checkpoints of a replay log in memory at a time, redrawn every reload_every; 0: all"
    )
    transforms: dict[str, dict[str, object]] = option(
        {}, "changes of the data in order, name -> options, see rlop/data/transforms.py"
    )
    collect: CollectOptions | None = option(None, "makes the data file if it is missing")
    agent: dict[str, object] = option({}, "name, and the agent's own options")
    seeds: int | list[int] = option(1, "how many, or which; each setting is trained with all")
    variants: dict[str, dict[str, float]] | None = option(
        None, "name -> {hyper-parameter: value}, settings that are trained side by side"
    )
    env: str | None = option(None, "environment to evaluate in; default: the one of the data")
    env_kwargs: dict[str, object] = option({}, "keyword arguments of that environment")
    eval_episodes: Index = option(20, "episodes of an evaluation; 0 for no evaluation")
    eval_epsilon: Probability | None = option(
        None, "probability of a random action there; default: 0.001 for Atari, else 0"
    )
    video_every: Index = option(
        0, "evaluations between two films of the first run's policy, see rlop.Video; 0: no films"
    )
    early_stopping: EarlyStoppingOptions | None = option(
        None, "stop before the last step, once a metric no longer improves"
    )
    learning_time: LearningTimeOptions | None = option(
        None, "record at every probe when transitions are learned, into learning_time.json"
    )
    logdir: str | None = option(None, "folder of the logs; default: runs/CONFIG-TIME")
    resume: bool | str = option(
        False, "continue the training in logdir; or the folder of a training to continue there"
    )
    fork: str | None = option(
        None, "with resume: folder to go on in under changed options, the other one stays as it is"
    )
    device: str = option("auto", "auto, cpu, cuda, cuda:1, ...")
    devices: int | str | list[int | str] | None = option(
        None, "0,1 or cpu,cpu: the runs are split over them, a process each, in device-0, ..."
    )
    threads: Index = option(
        0, "CPU threads of PyTorch; 0 for one, with which small networks are fastest"
    )

    def __post_init__(self) -> None:
        if bool(self.window) != bool(self.reload_every):
            raise InputError(
                f"window = {self.window}, reload_every = {self.reload_every}: "
                "expected both, or neither"
            )
        if self.fork is not None and not self.resume:
            raise InputError(f"fork = {self.fork}: expected resume with it, as in --resume RUN")
        if isinstance(self.resume, str) and self.logdir not in (None, self.resume):
            raise InputError(
                f"logdir = {self.logdir}, resume = {self.resume}: expected one folder; "
                "fork: NEW continues in another one"
            )
