"""Trainings of `NeuralTD` on a known process, followed by their error."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from rlop.agents import NeuralTD
from rlop.experiments.neural_td_process import Process
from rlop.training.callbacks import Callback, PerRun
from rlop.training.session import train

Settings = Mapping[str, Mapping[str, float]]  # name -> {option: value}


@dataclass(frozen=True)
class Followed:
    """What was seen of each run while it learned; axes: T times, K settings, N seeds.

    Args:
        steps: samples drawn, `[T]`.
        averaged: RMS error of V(.; W_mean), `[T, K, N]`.
        last: of V(.; W), likewise.
        largest: largest |V(.; W)| over the states, likewise.
        travel: sqrt(m) max_i |w_i - w_i(0)|, the radius that would hold every neuron, likewise.
        settings: names along K.
        active: whether a run is still finite at the end, `[K, N]`.
    """

    steps: np.ndarray
    averaged: np.ndarray
    last: np.ndarray
    largest: np.ndarray
    travel: np.ndarray
    settings: tuple[str, ...]
    active: np.ndarray

    def setting(self, name: str) -> int:
        """Return the place of a setting along K."""
        return self.settings.index(name)


class Watch(Callback):
    """Measure the values of every run whenever the training logs.

    Args:
        agent: the agent in training.
        process: gives states and their true values.
    """

    def __init__(self, agent: NeuralTD, process: Process) -> None:
        self.agent = agent
        self.value = torch.as_tensor(process.value, dtype=torch.float32)
        states = torch.as_tensor(process.states, dtype=torch.float32)
        self.states = states.expand(len(agent.runs), *states.shape)
        self.steps: list[int] = []
        self.seen: dict[str, list[np.ndarray]] = {}

    def on_log(self, step: int, metrics: PerRun) -> None:
        """Note errors, sizes and distances, `[R]` each."""
        averaged, last = self.agent.values(self.states), self.agent.values(self.states, last=True)
        self.steps.append(step)
        self._note("averaged", (averaged - self.value).square().mean(-1).sqrt())
        self._note("last", (last - self.value).square().mean(-1).sqrt())
        self._note("largest", last.abs().amax(-1))
        self._note("travel", self.agent.travel())

    def _note(self, name: str, values: torch.Tensor) -> None:
        self.seen.setdefault(name, []).append(values.numpy())


def follow(
    process: Process,
    seeds: Sequence[int],
    settings: Settings,
    steps: int,
    *,
    every: int,
    **options: object,
) -> Followed:
    """Train on single transitions, as the theory does, and follow every run.

    Args:
        process: where transitions are drawn from, each independently.
        seeds: of networks and samples, N.
        settings: name -> swept options of `NeuralTD`, K.
        steps: samples of every run.
        every: samples between two looks.
        options: further options of `NeuralTD`.
    """
    data = process.data()
    agent = NeuralTD(
        data.spec,
        seeds=seeds,
        variants=settings,
        batch_size=1,
        gamma=process.gamma,
        **options,
    )
    watch = Watch(agent, process)
    train(
        agent,
        data,
        steps,
        log_every=every,
        probe_every=0,
        eval_every=0,
        checkpoint_every=0,
        progress=False,
        callbacks=[watch],
    )

    shape = (-1, len(settings), len(seeds))
    seen = {name: np.stack(values).reshape(shape) for name, values in watch.seen.items()}
    active = agent.active.numpy().reshape(shape[1:])
    return Followed(np.array(watch.steps), **seen, settings=tuple(settings), active=active)


def samples_to_reach(followed: Followed, name: str, error: float) -> np.ndarray:
    """Return the samples after which the averaged iterate's error is first at most `error`, `[N]`.

    NaN for a run that does not get there.
    """
    reached = followed.averaged[:, followed.setting(name)] <= error
    first = followed.steps[reached.argmax(0)].astype(float)
    return np.where(reached.any(0), first, math.nan)


def slope(x: Sequence[float], y: np.ndarray) -> np.ndarray:
    """Fit the exponent p of y ~ x^p to every column, `[K]` and `[K, N] -> [N]`."""
    log_x = np.log(np.asarray(x, float))
    centered = log_x - log_x.mean()
    return centered @ np.log(y) / (centered @ centered)
