"""Measure whether a data set is fit to be learned from."""

from __future__ import annotations

import numpy as np

from rlop.data.dataset import Dataset
from rlop.data.info import chain_gap
from rlop.doctor.measures import Measured

QUERIES = 500  # rows whose nearest neighbor is looked for
CANDIDATES = 4000  # rows among which
BYTES = 1 << 26  # largest observations that are compared


def measure_data(data: Dataset, seed: int = 0) -> Measured:
    """Measure a data set.

    Args:
        data: at least one transition.
        seed: of the rows that are compared.
    Returns:
        Values of `data/*`; what could not be measured is absent.
    """
    found = {
        "data/flat": float(data.reward.min() == data.reward.max()),
        # The last row always ends: what counts are the ends that the data marked.
        "data/ends": (data.n_episodes - 1) / len(data),
    }
    if len(data) > 1:
        _, rows = chain_gap(data)
        found["data/broken"] = rows / (len(data) - 1)
    varied = behavior_variety(data, seed)
    if varied is not None:
        found["data/varied"] = varied
    return found


def behavior_variety(data: Dataset, seed: int = 0) -> float | None:
    """Compare the actions of similar states from different episodes with those of any two states.

        E d(a(s), a(s'))  with s' nearest to s,  over  E d(a(s), a(s''))  with s'' any

    d is whether two actions differ, or their squared distance. 0 means that one action belongs to
    every state, so that no other was ever tried; 1 that actions do not depend on the state.

    Args:
        data: the data set.
        seed: of the rows that are compared.
    Returns:
        The ratio; None where there is one episode, one action, or observations are too large.
    """
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(data))[:CANDIDATES]
    rows.sort()
    obs = np.asarray(data.obs[rows], np.float32).reshape(len(rows), -1)
    episode = (np.cumsum(data.end) - data.end)[rows]
    if episode[0] == episode[-1] or obs.nbytes > BYTES:
        return None

    queries = rng.permutation(len(rows))[:QUERIES]
    squares = np.square(obs).sum(1)
    distance = squares - 2 * obs[queries] @ obs.T
    distance[episode[queries][:, None] == episode] = np.inf
    nearest = distance.argmin(1)

    action = data.action[rows]
    chance = _difference(action[queries], action[rng.permutation(len(rows))[: len(queries)]])
    if chance == 0:
        return 0.0
    return float(_difference(action[queries], action[nearest]) / chance)


def _difference(first: np.ndarray, second: np.ndarray) -> float:
    """Return how far apart two lists of actions are on average."""
    if first.ndim == 1:
        return float((first != second).mean())
    return float(np.square(first - second).reshape(len(first), -1).sum(1).mean())
