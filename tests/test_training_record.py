"""Recorded launches, with a stand-in for CUDA graphs on the CPU."""

import pytest
import torch
from helpers.agents import ROWS
from helpers.capture import pretend

from rlop.data.sampler import Streams, Table
from rlop.training.compile import Forms, Launch
from rlop.training.sums import Sums

K = 3
CALLS = 3


def tensors_of(state, name=""):
    """Return copies of all tensors in nested containers, by their path."""
    if isinstance(state, torch.Tensor):
        return {name: state.detach().clone()}
    items = ()
    if isinstance(state, dict):
        items = state.items()
    elif isinstance(state, (list, tuple)):
        items = enumerate(state)
    found = {}
    for key, value in items:
        found |= tensors_of(value, f"{name}/{key}")
    return found


def launch_of(agent, data):
    """Return a launch of K updates that gather their own batch, its sums, and its streams."""
    table = Table(agent.prepare(data).columns())
    streams = Streams(agent.runs.seeds, agent.batch_size, len(table), agent.noise)
    sums = Sums()

    def update(rows, noise):
        sums.add(agent.update(table.gather(rows), noise))

    update(*streams.next())  # makes the sums
    return Launch(agent, Forms(update, update, 1), K, sums), streams


@pytest.mark.parametrize("runs", [1, 8])
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_a_replay_equals_the_updates_to_the_bit(row, runs, tiny, moves, monkeypatch):
    pretend(monkeypatch)
    data = moves if row.continuous else tiny
    eager, recorded = row.make(data, seeds=runs), row.make(data, seeds=runs)
    plain, streams = launch_of(eager, data)
    launch, _ = launch_of(recorded, data)
    launch.records = True

    for _ in range(CALLS):
        rows, noise = streams.take(K)
        plain(rows, noise)
        launch(rows, noise)
        assert torch.equal(launch.sums.total, plain.sums.total)
    trained = tensors_of(recorded.state_dict())
    for name, value in tensors_of(eager.state_dict()).items():
        assert torch.equal(trained[name], value), name


READS = {
    "item": lambda loss: loss.sum().item(),
    "condition": lambda loss: bool((loss > 0).all()),
    "rows of a mask": lambda loss: loss[loss > 0],
    "tolist": lambda loss: loss.tolist(),
    "numpy": lambda loss: loss.numpy(),
    "cpu": lambda loss: loss.cpu(),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS.keys())
def test_an_update_that_waits_for_the_device_cannot_be_recorded(read, tiny, monkeypatch):
    pretend(monkeypatch)
    agent = ROWS["DQN"].make(tiny, seeds=2)
    table = Table(agent.prepare(tiny).columns())

    def update(rows, noise):
        metrics = agent.update(table.gather(rows), noise)
        read(metrics["loss/total"])
        return metrics

    launch = Launch(agent, Forms(update, update, 1), K)
    streams = Streams(agent.runs.seeds, agent.batch_size, len(table), agent.noise)
    launch(*streams.take(K))  # not recorded: any read will do
    launch.records = True
    with pytest.raises(RuntimeError, match="not permitted when stream is capturing"):
        launch(*streams.take(K))
