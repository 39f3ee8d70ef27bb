"""What a configuration would train: its runs, their memory and time. Nothing is written."""

from __future__ import annotations

import time
from inspect import signature

import torch

from rlop.agent import Agent
from rlop.data import load_dataset
from rlop.data.dataset import Dataset
from rlop.data.load import find_reader, is_cached
from rlop.data.transforms import transform
from rlop.data.units import in_env_units
from rlop.training.loop import Loop
from rlop.training.options import Experiment, TrainOptions
from rlop.training.run import is_to_be_collected, make_agent

WARM_UP = 5  # updates before the measured ones
MEASURED_SECONDS = 1.0
MIB = 2**20


def plan(experiment: Experiment) -> str:
    """Return the text of `rlop train --dry-run`.

    The time is that of uncompiled updates measured on the device of the training, without
    evaluation; the memory is that of parameters, optimizer and data.

    Raises:
        InputError: for any option of the configuration that does not fit.
    """
    torch.set_num_threads(experiment.threads or 1)
    data = data_on_disk(experiment)
    if isinstance(data, str):
        return data

    agent = make_agent(experiment, data)
    lines = [f"{agent.name} on {data.name} ({len(data):,} transitions), {len(agent.runs)} runs:"]
    lines += [f"  {label}" for label in run_lines(agent)]

    seconds = seconds_per_step(agent, data)
    total = duration(seconds * experiment.steps)
    lines += [
        f"memory: {mebibytes(agent, data):,.1f} MiB for parameters, optimizer and data",
        f"time:   about {total} for {experiment.steps:,} steps, without evaluation "
        f"({1 / seconds:,.0f} steps/s uncompiled on {agent.device})",
        "nothing was written",
    ]
    return "\n".join(lines)


def data_on_disk(experiment: Experiment) -> Dataset | str:
    """Load the data if that downloads and writes nothing; else return the reason."""
    if is_to_be_collected(experiment):
        return f"{experiment.data} does not exist yet: `rlop train` collects it first"
    if experiment.window:
        return f"{experiment.data} is read in windows, which a dry run does not load"

    options = dict(experiment.data_options)
    if "download" in signature(find_reader(experiment.data)).parameters:
        options["download"] = False
    if "cache" in options and not is_cached(experiment.data, options):
        return f"{experiment.data} has no cache yet: `rlop train` makes it first"
    data = in_env_units(load_dataset(experiment.data, **options), experiment.env)
    return transform(data, experiment.transforms)


def run_lines(agent: Agent) -> list[str]:
    """Return a line for each run: its label, its seed, and the values that distinguish it."""
    lines = []
    for label, values in zip(agent.runs.labels, agent.runs.hparams):
        told_apart = ", ".join(f"{name} = {value}" for name, value in values.items())
        lines.append(f"{label}: {told_apart}")
    return lines


def mebibytes(agent: Agent, data: Dataset) -> float:
    """Return the memory of parameters, their optimizer and copies, and the columns of the data."""
    state = _bytes_of(agent.state_dict())
    columns = sum(column.nbytes for column in data.columns().values())
    return (state + columns) / MIB


def _bytes_of(state: object) -> int:
    """Return the bytes of all tensors in nested containers."""
    if isinstance(state, torch.Tensor):
        return state.numel() * state.element_size()
    if isinstance(state, dict):
        return sum(_bytes_of(value) for value in state.values())
    if isinstance(state, (list, tuple)):
        return sum(_bytes_of(value) for value in state)
    return 0


def seconds_per_step(agent: Agent, data: Dataset) -> float:
    """Measure the updates of a training for about a second."""
    options = TrainOptions(compile=False, updates_per_launch=1)
    loop = Loop(agent, data, options)
    for _ in range(WARM_UP):
        loop.advance()

    steps, started = 0, time.perf_counter()
    while time.perf_counter() - started < MEASURED_SECONDS:
        loop.advance()
        steps += 1
    if agent.device.type == "cuda":
        torch.cuda.synchronize(agent.device)
    return (time.perf_counter() - started) / steps


def duration(seconds: float) -> str:
    """Return a time in the unit that fits it."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    if seconds < 72 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"
