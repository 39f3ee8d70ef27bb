"""Measure every run of an agent on its data: what the doctor's findings are drawn from."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import suppress

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from rlop.agent import Agent
from rlop.data.dataset import Dataset
from rlop.data.sampler import Streams, Table
from rlop.doctor.measures import (
    FRESH,
    REFIT_ROWS,
    Measured,
    as_measured,
    feature_changes,
    limit_of,
    refit_ratio,
    returns_at,
    value_measures,
)
from rlop.logs.history import History
from rlop.nets.linear import Linear
from rlop.probes.churn import policy_churn, value_churn
from rlop.probes.gradient_activity import inactive_fraction, layer_gradients
from rlop.probes.model import AgentView
from rlop.probes.unseen import at_bound
from rlop.training.probing import measure_agent, probed_transitions
from rlop.training.resets import Resets
from rlop.types import Batch, InputError

MINIBATCHES = 4  # of the gradients of units
LATE = 0.75  # share of the training from which on values should have come to rest


def measure_runs(
    agent: Agent,
    data: Dataset,
    history: History | None = None,
    size: int = 0,
    refit_steps: int = 100,
) -> list[Measured]:
    """Measure every run of an agent; the agent is not changed.

    Args:
        agent: the agent, with R runs.
        data: what it was trained on, in the units of its training.
        history: record of the training, for what needs a course of time.
        size: transitions measured; 0 for max(2048, 4 D).
        refit_steps: budget of the refit; 0 leaves it out.
    Returns:
        For each run name -> value; what could not be measured is absent.
    """
    batch = probed_transitions(agent, data, size)
    start = at_start(agent)
    found = feature_changes(measure_agent(agent, batch), measure_agent(start, batch))
    found["run/frozen"] = (~agent.active).double()

    if agent.spec.n_actions is None:
        with suppress(InputError):  # a value function has no policy
            found["policy/bound"] = at_bound(agent.act(batch.obs))
    if agent.main.target is not None:
        found |= _values(agent, data, batch)
        found |= _learning(agent, data, batch)
        if refit_steps:
            found["plasticity/refit"] = _refit(agent, start, batch, refit_steps)

    runs = [as_measured(found, run) for run in range(len(agent.runs))]
    if history is not None:
        for run, measured in enumerate(runs):
            measured |= _course(history, run, measured)
    return runs


def at_start(agent: Agent) -> Agent:
    """Return a copy of an agent whose main network, and encoder, are as before training."""
    start = copy.deepcopy(agent)
    with torch.no_grad():
        for key, learner in start.learners.items():
            if learner is start.main or key == "encoder":
                for name, parameter in learner.parameters.items():
                    parameter.copy_(agent.learners[key].initial[name])
    return start


# --- values


def q_of(agent: Agent, batch: Batch, action: Tensor) -> Tensor:
    """Return Q(s, a), averaged over critics, `[R, n]`."""
    view = AgentView(agent, batch, 1)
    with torch.no_grad():
        q = view.q(view.parameters, batch.obs, action)
    return q if view.discrete else q.mean(1)


def _values(agent: Agent, data: Dataset, batch: Batch) -> dict[str, Tensor]:
    """Compare the values of actions with returns, with each other, and with what is possible."""
    q_data = q_of(agent, batch, batch.action)
    q_policy = q_of(agent, batch, agent.act(batch.obs))
    q_random = q_of(agent, batch, _random_actions(agent, batch))
    gamma = agent.runs.tensor("gamma", agent.device).double()

    found = value_measures(q_data, q_policy, q_random, *returns_at(data, batch, gamma))
    largest = torch.stack([q_data.abs().amax(-1), q_policy.abs().amax(-1)]).amax(0)
    found["value/limit"] = largest.double() / limit_of(data, gamma)
    return found


def _random_actions(agent: Agent, batch: Batch) -> Tensor:
    """Draw a uniform action for every row, the same for all runs."""
    rows = batch.reward.shape[1]
    generator = torch.Generator().manual_seed(0)
    if agent.spec.n_actions is not None:
        drawn = torch.randint(agent.spec.n_actions, (rows,), generator=generator)
    else:
        drawn = 2 * torch.rand(rows, *agent.spec.action_shape, generator=generator) - 1
    return drawn.to(agent.device).expand_as(batch.action)


# --- learning


def _learning(agent: Agent, data: Dataset, batch: Batch) -> dict[str, Tensor]:
    """Measure gradients of units, and what one more update moves, on a copy of the agent."""
    trial = copy.deepcopy(agent)
    table = Table(trial.prepare(data).columns(), trial.device)
    streams = Streams(trial.runs.seeds, trial.batch_size, len(table), trial.noise, trial.device)
    draws = [streams.next() for _ in range(MINIBATCHES)]

    def loss() -> Tensor:
        total = torch.zeros((), device=trial.device)
        for index, noise in draws:
            losses, _ = trial.losses(trial.main.relaxed(table.gather(index)), noise)
            total = total + next(iter(losses.values())).sum()
        return total

    network = trial.main.online
    layers = [module for module in network.modules() if isinstance(module, Linear)]
    gradients = layer_gradients(layers[:-1], loss)
    found = {}
    if gradients:
        shares = [inactive_fraction(gradient) for gradient in gradients]
        per_layer = [share.reshape(len(share), -1).mean(1) for share in shares]
        found["units/inactive"] = torch.stack(per_layer).mean(0)

    before, action = q_of(trial, batch, batch.action), trial.act(batch.obs)
    index, noise = draws[0]
    trial.update(table.gather(index), noise)
    spread = before.double().std(-1, correction=0)
    found["churn/value"] = value_churn(before, q_of(trial, batch, batch.action)) / spread
    found["churn/policy"] = policy_churn(action, trial.act(batch.obs))
    return found


def _refit(agent: Agent, start: Agent, batch: Batch, steps: int) -> Tensor:
    """Compare the refit of every run with that of fresh networks, `[R]`: 1 is as good."""
    rows = slice(0, REFIT_ROWS)
    obs, action = agent.encode(batch.obs[:, rows]).detach(), batch.action[:, rows]
    network = start.main.online
    by_action = agent.spec.n_actions is None

    def outputs(parameters: Mapping[str, Tensor]) -> Tensor:
        inputs = (obs, action) if by_action else (obs,)
        values = functional_call(network, dict(parameters), inputs)[1]
        return values.unsqueeze(-1) if by_action else values

    resets = Resets(start)
    draws = [resets.draw(number) for number in range(FRESH + 1)]
    ratio = refit_ratio(outputs, agent.main.parameters, draws, steps)
    return ratio.reshape(len(ratio), -1).mean(1)


# --- the record


def _course(history: History, run: int, measured: Measured) -> Measured:
    """Return how far the target still moved late in the training, in the unit of the returns."""
    if "q/target" not in history.metrics or "value/spread" not in measured:
        return {}
    steps, values = history.get("q/target")
    late = values[steps >= LATE * steps[-1], run]
    if len(late) < 2 or not np.isfinite(late).all():
        return {}
    return {"value/drift": float(abs(late[-1] - late[0]) / measured["value/spread"])}
