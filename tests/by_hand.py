"""Training step by step, without the library's loop."""

from rlop.data.sampler import Streams, Table


def updates(agent, data, steps, update=None):
    """So many updates on the agent's own batches, target network included; returns the last metrics."""
    table = Table(agent.prepare(data).columns())
    streams = Streams(agent.runs.seeds, agent.batch_size, len(table), agent.noise)
    for step in range(steps):
        index, noise = streams.next()
        metrics = (update or agent.update)(table.gather(index), noise)
        if (step + 1) % agent.target_period == 0:
            agent.update_target()
    return metrics
