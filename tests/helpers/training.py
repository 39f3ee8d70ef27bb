"""Training step by step, without the library's loop."""

import torch

from rlop.agent import Agent
from rlop.data.sampler import Streams, Table


def train_steps(agent, data, steps, update=None):
    """Make updates on the agent's own batches, target network included; return the last metrics."""
    update = update or agent.update
    table = Table(agent.prepare(data).columns())
    streams = Streams(agent.runs.seeds, agent.batch_size, len(table), agent.noise)
    for step in range(steps):
        index, noise = streams.next()
        metrics = update(table.gather(index), noise)
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
