"""Measure the representation of every run of an agent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlop import probes
from rlop.agent import Agent
from rlop.data.dataset import Dataset
from rlop.data.sampler import probe_batch
from rlop.logs.pictures import matrix, spectrum
from rlop.probes.heavy import CKA_ROWS
from rlop.types import Batch


def probe_agent(agent: Agent, data: Dataset, size: int = 0) -> dict[str, np.ndarray]:
    """Measure the representation of every run of an agent on a data set.

    The transitions are those on which training with the same `probe_size` measures it.

    Args:
        agent: one of `rlop.agents`, or your own.
        data: the data set.
        size: transitions measured; 0 for max(2048, 4 D).
    Returns:
        `rank/*`, `units/*`, `feature/*` and `head/norm`, `[R]` each, averaged over critics.
    """
    return measure_agent(agent, probed_transitions(agent, data, size))


def probed_transitions(agent: Agent, data: Dataset, size: int = 0) -> Batch:
    """Draw the transitions on which an agent is measured.

    Args:
        agent: the agent.
        data: the data set.
        size: number of transitions; 0 for max(2048, 4 D).
    """
    size = size or max(2048, 4 * agent.head_weight.shape[-1])
    return probe_batch(data.columns(), size, len(agent.runs), agent.device)


def measure_agent(agent: Agent, batch: Batch, heavier: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Measure the representation of every run on a batch; see `probe_agent`.

    Args:
        agent: the agent.
        batch: `[R, B, ...]`.
        heavier: names of `rlop.probes.heavy.PROBES` that are measured, too.
    """
    features, next_features = agent.features(batch)
    mask = 1 - batch.terminated
    if features.ndim == 4:  # [R, E, n, D]: one mask for all critics
        mask = mask.unsqueeze(1).expand(features.shape[:-1])

    measures = probes.measure(features, next_features, mask, agent.head_weight, agent.activation)
    averaged = {}
    for name, value in measures.items():
        averaged[name] = value.reshape(len(value), -1).mean(1).cpu().numpy()

    if heavier:
        for name, value in probes.pack(agent, batch, heavier).items():
            averaged[name] = value.cpu().numpy()
    return averaged


def pictures_of(
    agent: Agent, batch: Batch, heavier: Sequence[str] = ()
) -> dict[str, list[np.ndarray]]:
    """Draw the singular values of every run's features, and the CKA of the runs if it is measured.

    Args:
        agent: the agent.
        batch: `[R, B, ...]`.
        heavier: names of the measures; `cka/seeds` adds the CKA.
    Returns:
        tag -> gray pictures: of every run, or of the first one for what concerns all.
    """
    features, _ = agent.features(batch)
    spectra = probes.singular_values(features).cpu().numpy()
    pictures = {"spectrum of the features": [spectrum(values) for values in spectra]}

    if "cka/seeds" in heavier:
        rows = min(CKA_ROWS, features.shape[-2])
        pairs = probes.cka_matrix(features.unbind(0), rows)  # [R, R] or [E, R, R]
        mean = pairs.reshape(-1, *pairs.shape[-2:]).mean(0)
        pictures["CKA of the runs"] = [matrix(mean.cpu().numpy())]
    return pictures
