"""Importance-weighted and doubly robust values, and their intervals, in NumPy and float64.

Axes: E episodes, T steps, M resamples. `multiplicity` `[M, E]` says how often each resample holds
each episode; a row of ones is the data themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

SAMPLES = 2000  # resamples of an interval
CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """A value with its interval.

    Args:
        value: the estimate.
        low, high: ends of its 95 % interval; NaN where there is none.
    """

    value: float
    low: float
    high: float


def cumulative_ratios(ratio: np.ndarray) -> np.ndarray:
    """Multiply the ratios of an episode up to each step.

        rho_t = prod_{k <= t} pi(a_k | s_k) / mu(a_k | s_k)

    Args:
        ratio: pi / mu of each step, `[..., E, T]`; 1 where there is no step.
    Returns:
        `[..., E, T]`.
    Reference: Precup, Sutton and Singh, "Eligibility Traces for Off-Policy Policy Evaluation",
        ICML 2000, section 3.
    """
    return np.cumprod(ratio, axis=-1)


def per_decision(
    weight: np.ndarray,
    gain: np.ndarray,
    counts: np.ndarray,
    gamma: float,
    multiplicity: np.ndarray,
    normalized: bool = False,
) -> np.ndarray:
    """Weight what every step gains by the ratios up to it, and sum over discounted steps.

        ordinary     sum_t gamma^t  sum_i rho_it x_it / sum_i c_it
        normalized   sum_t gamma^t  sum_i rho_it x_it / sum_i rho_it c_it

    With rewards as gains x these are per-decision importance sampling, unbiased, and its weighted
    form, which is biased and consistent and stays between the least and the largest return.

    Args:
        weight: rho, `[E, T]`.
        gain: x, `[E, T]`; 0 where there is no step.
        counts: c, `[E, T]` bool, see `rlop.ope.grid.Grid`.
        gamma: discount.
        multiplicity: `[M, E]`.
        normalized: divide by the sum of the weights in place of the number of episodes.
    Returns:
        `[M]`; steps at which no weight is left gain nothing.
    Reference: Precup et al. 2000, equations of per-decision IS and weighted per-decision IS;
        Thomas and Brunskill, "Data-Efficient Off-Policy Policy Evaluation for Reinforcement
        Learning", ICML 2016, arXiv:1604.00923, whose weights are those of `normalized`.
    Differs from: both in that an episode that was cut does not count after its cut, where they
        have episodes of one length.
    """
    total = multiplicity @ (weight * gain)  # [M, T]
    divisor = multiplicity @ ((weight if normalized else 1.0) * counts)
    mean = np.divide(total, divisor, out=np.zeros_like(total), where=divisor > 0)
    return mean @ gamma ** np.arange(gain.shape[-1])


def surprise(
    reward: np.ndarray,
    q: np.ndarray,
    next_value: np.ndarray,
    terminated: np.ndarray,
    gamma: float,
) -> np.ndarray:
    """Return what a step brings beyond a model, r + gamma V(s') - Q(s, a), elementwise.

    V(s') is 0 after a terminal step. A cut step has one, which stands for all that follows.

    Args:
        reward: r.
        q: Q(s, a) of the model, same shape.
        next_value: V(s') = sum_a' pi(a' | s') Q(s', a'), same shape.
        terminated: bool, same shape.
        gamma: discount.
    """
    return reward + gamma * next_value * ~terminated - q


def doubly_robust(
    weight: np.ndarray,
    gain: np.ndarray,
    counts: np.ndarray,
    first_value: np.ndarray,
    gamma: float,
    multiplicity: np.ndarray,
    normalized: bool = False,
) -> np.ndarray:
    """Correct a model's value of the first states by weighted surprises.

        mean_i V(s_i0) + sum_t gamma^t  mean_i rho_it (r_it + gamma V(s_i,t+1) - Q(s_it, a_it))

    This is the recursion V_DR(t) = V(s_t) + ratio_t (r_t + gamma V_DR(t+1) - Q(s_t, a_t)), written
    out. It is unbiased for episodes of one length if mu is known, whatever the model, and right
    if the model is. With V = Q = 0 it is per-decision importance sampling.

    Args:
        weight: rho, `[E, T]`.
        gain: of `surprise`, `[E, T]`; 0 where there is no step.
        counts: as in `per_decision`.
        first_value: V(s_0), `[E]`.
        gamma: discount.
        multiplicity: `[M, E]`.
        normalized: divide by the sum of the weights: weighted doubly robust, biased, with less
            variance.
    Returns:
        `[M]`.
    Reference: Jiang and Li, "Doubly Robust Off-policy Value Evaluation for Reinforcement Learning",
        ICML 2016, arXiv:1511.03722, equation 10; weighted: Thomas and Brunskill 2016, section 4.
    Differs from: both in that a cut episode ends with the model's value of where it was cut, not
        with 0.
    """
    base = multiplicity @ first_value / multiplicity.sum(1)
    return base + per_decision(weight, gain, counts, gamma, multiplicity, normalized)


def effective_episodes(weight: np.ndarray) -> float:
    """Return (sum_i rho_i)^2 / sum_i rho_i^2 of the weights at the end of the episodes.

    So many episodes of the policy itself would say as much; with a few, every weighted value is
    that of a few episodes.

    Args:
        weight: rho, `[E, T]`.
    Reference: Kong, "A note on importance sampling using standardized weights", 1992.
    """
    last = weight[:, -1]
    squares = float((last**2).sum())
    return float(last.sum()) ** 2 / squares if squares > 0 else 0.0


def bootstrapped(
    statistic: Callable[[np.ndarray], np.ndarray], multiplicity: np.ndarray
) -> Estimate:
    """Estimate a value with a percentile interval over resampled episodes.

    Args:
        statistic: multiplicity `[M, E]` -> `[M]`.
        multiplicity: from `resamples`; with a single episode there is no interval.
    Reference: Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979; of importance
        weighting: Thomas, Theocharous and Ghavamzadeh, "High Confidence Policy Improvement",
        ICML 2015.
    """
    episodes = multiplicity.shape[1]
    value = float(statistic(np.ones((1, episodes)))[0])
    if episodes < 2:
        return Estimate(value, np.nan, np.nan)

    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(statistic(multiplicity), [tail, 1 - tail])
    return Estimate(value, float(low), float(high))


def resamples(episodes: int, seed: int, samples: int = SAMPLES) -> np.ndarray:
    """Draw how often each resample holds each episode, `[M, E]` float64; rows sum to E.

    Args:
        episodes: E.
        seed: of the draw.
        samples: M.
    """
    rng = np.random.default_rng(seed)
    return rng.multinomial(episodes, np.full(episodes, 1 / episodes), size=samples).astype(float)
