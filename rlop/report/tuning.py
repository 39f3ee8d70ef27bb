"""What a method scores after so many online evaluations of its configurations, in NumPy.

Axes: M trials, K configurations, S scores of a configuration.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

EXPLORATION = 2.0  # weight of the bonus under the root: that of UCB1
TRIALS = 2000  # of the expectation
RESAMPLES, TRIALS_EACH = 200, 40  # of the interval


class Budget(NamedTuple):
    """Expected score of the chosen configuration after 1, 2, ... evaluations, `[pulls]` each.

    Args:
        score: the expectation.
        low, high: ends of the 95 % interval; NaN where every configuration has one score.
    """

    score: np.ndarray
    low: np.ndarray
    high: np.ndarray


def budget(
    scores: Sequence[Sequence[float]],
    pulls: int,
    subset: int = 0,
    seed: int = 0,
    trials: int = TRIALS,
) -> Budget:
    """Compute the expected score against the number of online evaluations, with its interval.

    The interval is the percentile bootstrap over the scores of every configuration: what other
    seeds of the same configurations might have given. With two or three seeds it is too narrow.

    Args:
        scores: of every configuration, one for each seed; finite.
        pulls: largest number of evaluations.
        subset: configurations that a trial draws, without replacement; 0 for all.
        seed: of trials and resamples.
        trials: of the expectation.
    Reference: Jackson, Berdica, Liesen, Whiteson and Foerster, "A Clean Slate for Offline
        Reinforcement Learning", 2025, arXiv:2504.11453, and their `evaluation.py`.
    Differs from: it, where an evaluation is one episode of one trained policy, scores are not
        scaled, configurations without an evaluation count as 0 when the best is chosen, and the
        interval is that of the Monte-Carlo error over trials.
    """
    table, counts = _table(scores)
    rng = np.random.default_rng(seed)
    chosen = bandit(np.broadcast_to(table, (trials, *table.shape)), counts, pulls, subset, rng)
    middle = chosen.mean(0)
    if counts.max() == 1:
        nothing = np.full(pulls, np.nan)
        return Budget(middle, nothing, nothing)

    # Every resample of the seeds is played by several trials.
    place = (rng.random((RESAMPLES, *table.shape)) * counts[:, None]).astype(int)
    drawn = np.take_along_axis(table[None], place, 2).repeat(TRIALS_EACH, 0)
    played = bandit(drawn, counts, pulls, subset, rng)
    means = played.reshape(RESAMPLES, TRIALS_EACH, pulls).mean(1)
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    return Budget(middle, low, high)


def bandit(
    scores: np.ndarray, counts: np.ndarray, pulls: int, subset: int, rng: np.random.Generator
) -> np.ndarray:
    """Play UCB1 over configurations; return the mean score of the one that looks best.

        pull  argmax_k  mean_k + sqrt(2 ln t / n_k),   scores scaled to [0, 1]

    A configuration without an evaluation comes first; ties are broken at random. An evaluation
    draws one of the configuration's scores.

    Args:
        scores: `[M, K, S]`; of a configuration with fewer scores the first ones count.
        counts: number of scores, `[K]`.
        pulls: number of evaluations.
        subset: configurations of a trial; 0 for all.
        rng: of everything drawn.
    Returns:
        After every evaluation the chosen configuration's mean over its scores, `[M, pulls]`.
    Reference: Auer, Cesa-Bianchi and Fischer, "Finite-time Analysis of the Multiarmed Bandit
        Problem", Machine Learning 2002, figure 1.
    """
    trials, arms, most = scores.shape
    trial = np.arange(trials)
    there = np.arange(most) < counts[:, None]  # [K, S]
    truth = (scores * there).sum(-1) / counts
    low = scores.min(where=there, initial=np.inf, axis=(1, 2))[:, None]
    high = scores.max(where=there, initial=-np.inf, axis=(1, 2))[:, None]
    span = np.where(high > low, high - low, 1.0)

    is_out = np.zeros((trials, arms), bool)
    if subset:
        is_out = rng.random((trials, arms)).argsort(1).argsort(1) >= subset

    evaluations = np.zeros((trials, arms))
    total = np.zeros((trials, arms))
    found = np.empty((trials, pulls))
    for pull in range(pulls):
        known = evaluations > 0
        at_least_one = np.maximum(evaluations, 1)
        bonus = np.sqrt(EXPLORATION * np.log(pull + 1) / at_least_one)
        index = np.where(known, total / at_least_one + bonus, np.inf)
        arm = _largest(np.where(is_out, -np.inf, index), rng)

        which = (rng.random(trials) * counts[arm]).astype(int)
        drawn = scores[trial, arm, which]
        total[trial, arm] += (drawn - low[:, 0]) / span[:, 0]
        evaluations[trial, arm] += 1

        mean = np.where(evaluations > 0, total / np.maximum(evaluations, 1), -np.inf)
        found[:, pull] = truth[trial, _largest(mean, rng)]
    return found


def _largest(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the place of the largest value in each row, one at random among equal ones."""
    is_largest = values == values.max(1, keepdims=True)
    return np.where(is_largest, rng.random(values.shape), -1.0).argmax(1)


def _table(scores: Sequence[Sequence[float]]) -> tuple[np.ndarray, np.ndarray]:
    """Return scores as `[K, S]`, filled up with 0, and the number of each configuration's."""
    counts = np.array([len(one) for one in scores])
    table = np.zeros((len(scores), counts.max()))
    for row, one in zip(table, scores):
        row[: len(one)] = one
    return table, counts
