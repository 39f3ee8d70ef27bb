"""What the process of JAX reads: parameters, data, rows and random numbers of one of our agents."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rlop.agent import Agent, Noise
from rlop.data import Dataset
from rlop.data.sampler import Streams, Table

COMPARED_PERIOD = 100  # updates between two copies of a target network in a comparison
RATES = {"q": "lr", "critics": "lr", "policy": "policy_lr", "entropy": "entropy_lr"}
NUMBERS = ("gamma", "alpha", "tau", "target_entropy")
TOTALS = ("loss/total", "loss/policy", "loss/entropy")  # metrics, in the order of the learners


def write_arrays(path: Path, agent: Agent, data: Dataset, count: int) -> np.ndarray:
    """Write the arrays; then return our losses on the same rows, `[K, L, R]` for L learners.

    The agent is trained by K updates.

    Args:
        path: of the `.npz` file.
        agent: all of its runs have the same hyper-parameters.
        data: the data set.
        count: K.
    """
    columns = agent.prepare(data).columns()
    table = Table(columns, agent.device)
    streams = Streams(agent.runs.seeds, agent.batch_size, len(table), agent.noise, agent.device)
    rows, noise = streams.take(count)

    arrays: dict[str, np.ndarray] = {"rows": rows.cpu().numpy()}
    arrays |= parameters_of(agent) | numbers_of(agent)
    arrays |= {f"columns/{name}": np.asarray(column) for name, column in columns.items()}
    for name, values in noise.items():
        kind = agent.noise[name][0]
        arrays[f"noise/{kind}/{name}"] = values.cpu().numpy()
    np.savez(path, **arrays)  # type: ignore[arg-type]  # its overloads want no mapping
    return our_losses(agent, table, rows, noise)


def parameters_of(agent: Agent) -> dict[str, np.ndarray]:
    """Return the parameters and the learning rate of every learner."""
    arrays: dict[str, np.ndarray] = {}
    for learner, part in agent.learners.items():
        for name, parameter in part.parameters.items():
            arrays[f"parameters/{learner}/{name}"] = parameter.detach().cpu().numpy()
        arrays[f"rates/{learner}"] = np.array(agent.runs.values[RATES[learner]][0])
    return arrays


def numbers_of(agent: Agent) -> dict[str, np.ndarray]:
    """Return the hyper-parameters of the losses, and the periods of the target network."""
    numbers = {"target_period": agent.target_period, "compared_period": COMPARED_PERIOD}
    numbers |= {name: agent.runs.values[name][0] for name in NUMBERS if name in agent.runs.values}
    return {f"numbers/{name}": np.array(number) for name, number in numbers.items()}


def our_losses(agent: Agent, table: Table, rows: Tensor, noise: Noise) -> np.ndarray:
    """Update an agent on rows `[K, R, B]`; return the losses of its learners, `[K, L, R]`."""
    copies = agent.target_period > 1
    losses = []
    for k in range(len(rows)):
        of_one = {name: values[k] for name, values in noise.items()}
        metrics = agent.update(table.gather(rows[k]), of_one)
        losses.append(torch.stack([metrics[name] for name in TOTALS if name in metrics]))
        if not copies or (k + 1) % COMPARED_PERIOD == 0:
            agent.update_target()
    return torch.stack(losses).cpu().numpy()


def difference(theirs: np.ndarray, ours: np.ndarray) -> float:
    """Return the largest difference of losses `[K, L, R]`, relative to a loss's mean magnitude."""
    magnitude = np.abs(ours).mean(0)
    return float((np.abs(theirs - ours) / magnitude).max())


def first_losses(answer: Mapping[str, object]) -> np.ndarray:
    """Return the losses in the first answer of the process of JAX, `[K, L, R]`."""
    return np.array(answer["losses"])
