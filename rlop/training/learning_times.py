"""When an agent learns and forgets transitions, seen at the probes of its training."""

from __future__ import annotations

import math

import torch

from rlop.agent import Agent
from rlop.config.checks import check_range
from rlop.data.dataset import Dataset
from rlop.logs.history import History
from rlop.probes.learning import LearningTime
from rlop.probes.model import AgentView, value_learner
from rlop.training.callbacks import Callback, PerRun
from rlop.training.probing import probed_transitions


class LearningTimes(Callback):
    """Record when each of some transitions has a small TD error for the first time, and loses it.

        times = rlop.LearningTimes(agent, data, tau=0.1)
        rlop.train(agent, data, callbacks=[times])
        times.summary()

    The error is that of the online network to the greedy target of the target network, the mean
    over critics. It is measured at every probe, always at the same transitions. A resume starts a
    new record.

    Args:
        agent: an agent with action values.
        data: the data set that it is trained on.
        tau: error below which a transition counts as learned, in units of the target.
        size: transitions that are followed.
    Raises:
        InputError: for an agent without action values, or a tau or size that is not positive.
    """

    def __init__(self, agent: Agent, data: Dataset, tau: float, size: int = 1024) -> None:
        value_learner(agent)
        check_range("tau", tau, low=0, low_open=True)
        check_range("size", size, low=1)
        self.agent = agent
        self.tau = tau
        self.batch = probed_transitions(agent, data, size)
        self._forget()

    def _forget(self) -> None:
        runs, size = self.batch.reward.shape
        self.record = LearningTime(runs, size, self.tau, self.agent.device)
        self.rows = torch.arange(size, device=self.agent.device).expand(runs, size)

    def on_start(self, history: History) -> None:
        """Start a new record."""
        self._forget()

    @torch.no_grad()
    def on_probe(self, step: int, metrics: PerRun) -> None:
        """Note which transitions are fitted."""
        view = AgentView(self.agent, self.batch, size=1)
        q = view.q(view.parameters, self.batch.obs, self.batch.action)
        error = q - view.over_critics(view.target)
        error = error if error.ndim == 2 else error.mean(1)
        self.record.add(step, error, self.rows)

    def summary(self) -> dict[str, list[float | None]]:
        """Return `learned`, `time` and `forgotten` of `LearningTime.summary`, one for each run.

        None where a run has learned nothing, or was not probed.
        """
        result: dict[str, list[float | None]] = {}
        for name, values in self.record.summary().items():
            result[name] = [value if math.isfinite(value) else None for value in values.tolist()]
        return result
