"""Training step by step, without the library's loop."""

import torch

from rlop.agent import Agent
from rlop.data.sampler import Streams, Table


def train_steps(agent, data, steps, update=None, partial=None):
    """Make updates on the agent's own batches, target network included; return the last metrics."""
    update = update or agent.update
    partial = partial or agent.partial_update
    table = Table(agent.prepare(data).columns())
    streams = Streams(agent.runs.seeds, agent.batch_size, len(table), agent.noise)
    for step in range(steps):
        index, noise = streams.next()
        form = partial if step % agent.policy_period else update
        metrics = form(table.gather(index), noise)
        if (step + 1) % agent.target_period == 0:
            agent.update_target()
    return metrics


def parameters_of(agent: Agent) -> dict[str, torch.Tensor]:
    """Every parameter of an agent, by learner and name."""
    parameters = {}
    for name, learner in agent.learners.items():
        for key, parameter in learner.parameters.items():
            parameters[f"{name}.{key}"] = parameter
    return parameters


def first_batch(agent, data, dtype=torch.float32):
    """Return the first minibatch that a training would draw, and its noise.

    Args:
        agent: whose seeds and noise are used.
        data: prepared for it, where it needs that.
        dtype: of all real numbers.
    """
    table = Table(data.columns())
    streams = Streams(agent.runs.seeds, agent.batch_size, len(table), agent.noise)
    index, noise = streams.next()
    batch = table.gather(index)

    columns = {}
    for name, column in batch._asdict().items():
        if name != "extra" and column.is_floating_point():
            columns[name] = column.to(dtype)
    noise = {name: drawn.to(dtype) for name, drawn in noise.items()}
    return batch._replace(**columns), noise


def all_rows(data, runs=1):
    """Return the whole data set as one minibatch, the same for every run."""
    return Table(data.columns()).gather(torch.arange(len(data)).expand(runs, -1))


# A configuration that trains in a moment.
SMALL_CONFIG = {
    "data": "gridworld?size=3&steps=60",
    "steps": 2,
    "log_every": 1,
    "probe_every": 0,
    "eval_every": 0,
    "compile": False,
    "agent": {"name": "DQN", "hidden": [4], "batch_size": 4},
}
