"""One training as a typed configuration: what `rlop train` and the scripts run."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from rlop.agent import Agent
from rlop.agent_checks import usable_device
from rlop.config.checks import show
from rlop.config.files import overrides_only, read_yaml, write_atomic
from rlop.config.overrides import apply_overrides
from rlop.config.schema import PLAIN, build, flags_of, options_of, with_preset
from rlop.data import Dataset, load_dataset
from rlop.data.dqn_replay.window import RollingWindow
from rlop.data.transforms import transform
from rlop.data.units import in_env_units
from rlop.logs.logger import History
from rlop.logs.messages import LOGGER, say
from rlop.training.callbacks import Callback, EarlyStopping
from rlop.training.evaluate import make_evaluator
from rlop.training.folder import CONFIG, RunFolder, new_folder
from rlop.training.learning_times import LearningTimes
from rlop.training.names import agent_class
from rlop.training.options import Experiment, TrainOptions
from rlop.training.session import origin_of, train_in
from rlop.training.video import Video
from rlop.types import InputError

DEFAULT_AGENT = "DQN"
LEARNING_TIME = "learning_time.json"  # in the folder of the training
COLLECTED = (".hdf5", ".h5")  # what `rlop collect` writes


def from_args(argv: Sequence[str], default: str | Path | None = None) -> tuple[Experiment, str]:
    """Read `[CONFIG.yaml] [--key value ...]`; return the experiment and its name.

    The options of the agent are checked here too, before any data is read.

    Args:
        argv: the arguments.
        default: the configuration if the arguments name none.
    Raises:
        InputError: naming the file or key, and the nearest key that exists.
    """
    arguments = list(argv)
    names_a_file = arguments and not arguments[0].startswith("--")
    path = arguments.pop(0) if names_a_file else _resumed_config(arguments) or default
    if path is None:
        raise InputError("no configuration file; expected: CONFIG.yaml [--key value ...]")

    values = apply_overrides(read_yaml(path), arguments, flags_of(Experiment))
    return experiment_of(values, str(path)), Path(path).stem


def experiment_of(values: Mapping[str, Any], where: str) -> Experiment:
    """Read a configuration from plain values, and check the options of its agent.

    Args:
        values: as of a YAML file.
        where: the file, for messages.
    Raises:
        InputError: naming the file or key, and the nearest key that exists.
    """
    agent = values.get("agent", {})
    is_section = isinstance(agent, Mapping) and PLAIN not in agent
    if is_section:  # otherwise `build` says what is wrong
        _check_agent(values, where)
    return build(Experiment, values, where=where)


def _resumed_config(arguments: Sequence[str]) -> Path | None:
    """Return the configuration in the folder that `--resume RUN` names, or None without one.

    Raises:
        InputError: the folder holds none.
    """
    folder = apply_overrides({}, arguments, flags_of(Experiment)).get("resume")
    if not isinstance(folder, str):
        return None
    path = Path(folder).expanduser() / CONFIG
    if not path.is_file():
        raise InputError(
            f"{path}: no such file, expected the folder of a training by `rlop train`; a training "
            "of another version continues with: rlop train CONFIG.yaml --resume RUN"
        )
    return path


def _check_agent(values: Mapping[str, Any], where: str) -> None:
    """Check the options of the agent, and that each key is in its section."""
    options = dict(values.get("agent", {}))
    try:
        cls = agent_class(_take_name(options))
    except InputError as error:
        raise InputError(f"{where}: {error}") from None

    of_experiment, of_agent = options_of(Experiment), options_of(cls.Config)
    for key in values:
        if key not in of_experiment and key in of_agent:
            raise InputError(f"{where}: unknown key '{key}', did you mean 'agent.{key}'?")
    for key in options:
        if key not in of_agent and key in of_experiment:
            raise InputError(f"{where}: unknown key 'agent.{key}', did you mean '{key}'?")

    build(cls.Config, with_preset(options, cls.presets), where=where, key="agent")


def agent_name(experiment: Experiment) -> str:
    """Return the name of a configuration's agent."""
    return _take_name(dict(experiment.agent))


def _take_name(options: dict[str, object]) -> str:
    """Remove the agent's name from its options and return it."""
    name = options.pop("name", DEFAULT_AGENT)
    if not isinstance(name, str):
        raise InputError(
            f"agent.name = {show(name)}: expected the name of an agent, as in DQN or module:Class"
        )
    return name


def pick_device(name: str) -> torch.device:
    """Return the device of that name; `auto` is CUDA if available, else the CPU.

    Raises:
        InputError: for a device that PyTorch cannot use on this machine.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return usable_device(name)


def data_of(experiment: Experiment) -> Dataset | RollingWindow:
    """Load the data set; collect it first if its file is missing and the configuration says how."""
    if experiment.window:
        return RollingWindow(
            experiment.data,
            experiment.window,
            prepare=lambda data: transform(data, experiment.transforms),
            **experiment.data_options,  # type: ignore[arg-type]  # the reader checks its own options
        )

    if is_to_be_collected(experiment):
        _collect(experiment)
    data = load_dataset(experiment.data, **experiment.data_options)
    data = in_env_units(data, experiment.env)
    return transform(data, experiment.transforms)


def is_to_be_collected(experiment: Experiment) -> bool:
    """Return whether the data file is missing and the configuration says how to make it."""
    path = Path(experiment.data)
    names_a_file = path.suffix.lower() in COLLECTED  # and not a source such as d4rl:NAME
    return experiment.collect is not None and names_a_file and not path.exists()


def _collect(experiment: Experiment) -> None:
    """Make the data file."""
    from rlop.collect.collector import collect

    source = experiment.collect
    assert source is not None  # `is_to_be_collected`
    mix: Mapping[Any, float] = source.mix  # `Mapping` is invariant in its keys
    say(f"{experiment.data} does not exist: collecting {source.steps} steps of {source.env}")
    Path(experiment.data).parent.mkdir(parents=True, exist_ok=True)
    collect(
        source.env,
        mix or source.policy,
        source.steps,
        experiment.data,
        epsilon=source.epsilon,
        shuffle=source.shuffle,
        seed=source.seed,
        env_kwargs=source.env_kwargs,
    )


def make_agent(experiment: Experiment, data: Dataset | RollingWindow) -> Agent:
    """Make the agent of a configuration for its data.

    Raises:
        InputError: for options that do not fit the agent or the data.
    """
    options = dict(experiment.agent)
    cls = agent_class(_take_name(options))

    # The environment of the configuration is the policy's, also after its checkpoint is loaded.
    env_kwargs = experiment.env_kwargs or data.spec.env_kwargs
    env_id = experiment.env or data.spec.env_id
    return cls(
        replace(data.spec, env_id=env_id, env_kwargs=env_kwargs),
        seeds=experiment.seeds,
        variants=experiment.variants,
        device=pick_device(experiment.device),
        **options,
    )


def run(
    experiment: Experiment, name: str = "run", data: Dataset | RollingWindow | None = None
) -> tuple[Agent, History, Path]:
    """Load data, make the agent, train and evaluate it.

    Args:
        experiment: the configuration.
        name: beginning of the name of the log folder, if the configuration gives no folder.
        data: those of the configuration, from `data_of`, where they are loaded already.
    Returns:
        The agent, the record of its metrics, and the log folder.
    Raises:
        InputError: before any training, for any option of the configuration that does not fit.
    """
    if experiment.devices is not None:
        raise InputError(
            f"devices = {experiment.devices}: expected `rlop train`, which splits runs"
        )
    torch.set_num_threads(experiment.threads or 1)
    pick_device(experiment.device)  # a device that is missing is reported before data is read
    data = data_of(experiment) if data is None else data
    agent = make_agent(experiment, data)

    env_id, env_kwargs = agent.spec.env_id, agent.spec.env_kwargs
    reference = experiment.data if experiment.data.startswith("d4rl:") else env_id
    evaluate = make_evaluator(
        agent, env_id, env_kwargs, experiment.eval_episodes, reference, experiment.eval_epsilon
    )

    origin, folder = _folders(experiment, name)
    say(
        f"{len(agent.runs)} runs of {agent.name} on {data.name} ({len(data):,} transitions), "
        f"logs in {folder.path}"
    )

    is_quiet = not LOGGER.isEnabledFor(logging.INFO)
    options = build(TrainOptions, schedule_of(experiment), where="")
    callbacks: list[Callback] = []
    if experiment.early_stopping is not None:
        callbacks.append(EarlyStopping(**asdict(experiment.early_stopping)))
    if experiment.video_every:
        callbacks.append(_video(experiment, agent, folder.path))
    times: LearningTimes | None = None
    if experiment.learning_time is not None:
        followed = data.draw(0) if isinstance(data, RollingWindow) else data
        times = LearningTimes(agent, followed, **asdict(experiment.learning_time))
        callbacks.append(times)
    started = time.perf_counter()
    with folder:
        history = train_in(
            folder,
            agent,
            data,
            options,
            evaluate,
            origin,
            progress=False if is_quiet else None,
            config=_continued(experiment),
            callbacks=callbacks,
        )
        if times is not None:
            summary = {"labels": list(agent.runs.labels), **times.summary()}
            write_atomic(folder.path / LEARNING_TIME, json.dumps(summary, indent=1).encode())
    steps = max(history.steps, default=experiment.steps)  # fewer if it stopped early
    say(cost(int(steps), len(agent.runs), time.perf_counter() - started))
    return agent, history, folder.path


def _video(experiment: Experiment, agent: Agent, folder: Path) -> Video:
    """Make what films the policy at evaluations.

    Raises:
        InputError: there are no evaluations to film, or the environment cannot be filmed.
    """
    env_id, every = agent.spec.env_id, experiment.video_every
    if env_id is None or not experiment.eval_episodes or not experiment.eval_every:
        raise InputError(f"video_every = {every}: expected evaluations, and there are none")
    return Video(agent, env_id, folder, every, env_kwargs=agent.spec.env_kwargs)


def _folders(experiment: Experiment, name: str) -> tuple[Path | None, RunFolder]:
    """Return the folder to continue from, or None, and the one to train in."""
    resume, logdir = experiment.resume, experiment.logdir
    if resume is False and logdir is None:
        return None, RunFolder(new_folder("runs", name), is_new=True)

    home = resume if isinstance(resume, str) else logdir
    folder = None if home is None else Path(home).expanduser()
    # A configuration with `resume: true` can be started again and again, the first time as well.
    is_first = resume is True and folder is not None and not folder.exists()
    origin = origin_of(folder, bool(resume) and not is_first)
    path = folder if experiment.fork is None else Path(experiment.fork).expanduser()
    assert path is not None  # `origin_of` refuses a resume without a folder
    return origin, RunFolder(path)


def _continued(experiment: Experiment) -> dict[str, object]:
    """Return the configuration that a resume reads: without what it says itself."""
    values = overrides_only(experiment)
    for name in ("logdir", "resume", "fork"):
        values.pop(name, None)
    return values


def schedule_of(experiment: Experiment) -> dict[str, Any]:
    """Return the options of `TrainOptions` from an experiment."""
    return {name: experiment.__dict__[name] for name in options_of(TrainOptions)}


def cost(steps: int, runs: int, seconds: float) -> str:
    """Return one line: time, steps per second and, if the system reports it, peak memory."""
    line = f"{seconds:.0f} s, {steps / seconds:,.0f} steps/s for {runs} runs together"
    peak = peak_mebibytes()
    return line if peak is None else f"{line}, peak memory {peak / 1024:.2f} GiB"


def peak_mebibytes() -> float | None:
    """Return the most memory that this process has taken, where the system tells."""
    try:
        import resource
    except ImportError:  # Windows
        return None

    # The unit of the peak is KiB on Linux and bytes on macOS.
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
