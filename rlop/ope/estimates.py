"""Values of policies from data alone: what `rlop.ope` is called for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from rlop.config.schema import build
from rlop.data.dataset import Dataset
from rlop.ope import formulas
from rlop.ope.behavior import Behavior, behavior_at
from rlop.ope.formulas import Estimate, bootstrapped, cumulative_ratios, surprise
from rlop.ope.fqe import FQEOptions, check_data, fit_q
from rlop.ope.grid import Grid, grid_of
from rlop.ope.policies import Policies, answers
from rlop.report.statistics import student_t
from rlop.types import InputError

FOLDS = 2  # of the episodes, for a model that did not see those that it is corrected by


def fitted_q(
    policies: Policies,
    data: Dataset,
    *,
    resamples: int = 8,
    device: torch.device | str = "cpu",
    **options: object,
) -> list[Estimate]:
    """Estimate the discounted value of every policy by fitted Q evaluation.

        for estimate in rlop.ope.fitted_q(rlop.ope.policies_of(agent), data, gamma=0.99):
            print(estimate.value, estimate.low, estimate.high)

    The value is that of the first states of the data's episodes, without a time limit: a cut
    bootstraps. The interval is value -+ t_{K-1} s, where s is the standard deviation over K fits,
    each to a resample of the episodes and from networks of its own. It says how far data and
    networks move the estimate, and nothing of what the data do not show.

    Args:
        policies: see `rlop.ope.policies`.
        data: for discrete or continuous actions.
        resamples: K; less than 2 gives no interval, and costs least.
        device: where it is computed.
        options: fields of `rlop.ope.fqe.FQEOptions`.
    Returns:
        One estimate for each policy; NaN of one whose network diverged.
    Raises:
        InputError: an option, data or an answer of the policies that does not fit.
    Reference: see `rlop.ope.fqe.fit_q`; the resamples: Hao et al., "Bootstrapping Fitted Q-
        Evaluation for Off-Policy Inference", ICML 2021, arXiv:2102.03607.
    """
    chosen = build(FQEOptions, options, where="fitted_q")
    check_data(data)
    episodes = data.n_episodes
    weights = np.ones((1, episodes))
    if resamples > 1:
        drawn = formulas.resamples(episodes, chosen.seed, resamples)
        weights = np.concatenate([weights, drawn])

    model = fit_q(policies, data, chosen, weights, device)
    first = data.obs[grid_of(data).first]
    values = model.values(first, answers(policies, first, data.spec))  # [P, W, episodes]
    means = (values * weights).sum(-1) / weights.sum(-1)

    estimates = []
    for value, *others in means.tolist():
        half = math.nan
        if resamples > 1:
            half = student_t(formulas.CONFIDENCE, resamples - 1) * float(np.std(others, ddof=1))
        estimates.append(Estimate(value, value - half, value + half))
    return estimates


def importance(
    policies: Policies,
    data: Dataset,
    behavior: Behavior,
    *,
    gamma: float = 0.99,
    weighted: bool = True,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> list[Estimate]:
    """Estimate the discounted return of every policy by per-decision importance sampling.

    It is the return within the lengths of the data's episodes. The interval is the percentile
    bootstrap over episodes.

    Args:
        policies: with discrete actions.
        data: with discrete actions.
        behavior: with which probabilities the data's policy acted, see `rlop.ope.behavior_at`.
        gamma: discount.
        weighted: divide by the sum of the weights: biased, and much less variable.
        seed: of the bootstrap.
        device: where a clone of the behavior is trained.
    Raises:
        InputError: continuous actions, or what `behavior_at` refuses.
    Reference: see `rlop.ope.formulas.per_decision`.
    """
    grid = usable(data, gamma)
    chances = answers(policies, data.obs, data.spec)
    reward = grid.lay(data.reward)
    drawn = formulas.resamples(data.n_episodes, seed)

    estimates = []
    for weight in weights_of(chances, behavior_at(data, behavior, device), data, grid):

        def value(multiplicity: np.ndarray, weight: np.ndarray = weight) -> np.ndarray:
            return formulas.per_decision(
                weight, reward, grid.counts, gamma, multiplicity, normalized=weighted
            )

        estimates.append(bootstrapped(value, drawn))
    return estimates


def doubly_robust(
    policies: Policies,
    data: Dataset,
    behavior: Behavior,
    *,
    weighted: bool = False,
    device: torch.device | str = "cpu",
    **options: object,
) -> list[Estimate]:
    """Estimate the discounted value of every policy by fitted Q evaluation and importance weights.

    The model of an episode is fitted to the other half of the episodes: an episode that had a part
    in its own model would correct it too little. The interval is the percentile bootstrap over
    episodes, for the models that were fitted.

    Args:
        policies: with discrete actions.
        data: with discrete actions and at least two episodes.
        behavior: with which probabilities the data's policy acted, see `rlop.ope.behavior_at`.
        weighted: divide by the sum of the weights: biased, with less variance.
        device: where models, and a clone of the behavior, are trained.
        options: fields of `rlop.ope.fqe.FQEOptions`.
    Raises:
        InputError: continuous actions, a single episode, or what `behavior_at` refuses.
    Reference: see `rlop.ope.formulas.doubly_robust`; the two halves: Chernozhukov et al., "Double/
        debiased machine learning", Econometrics Journal 2018; in reinforcement learning: Kallus
        and Uehara, "Double Reinforcement Learning", JMLR 2020, arXiv:1908.08526.
    """
    chosen = build(FQEOptions, options, where="doubly_robust")
    grid = usable(data, chosen.gamma)
    chances = answers(policies, data.obs, data.spec)
    weights = weights_of(chances, behavior_at(data, behavior, device), data, grid)
    model = cross_fitted(policies, data, chosen, device)
    return corrected(model, weights, data, grid, chosen.gamma, weighted, chosen.seed)


class Model(NamedTuple):
    """Values of every policy at every row, `[P, N]` each, by a fit without the row's episode.

    Args:
        now: V(s).
        then: V(s').
        taken: Q(s, a) of the data's action.
    """

    now: np.ndarray
    then: np.ndarray
    taken: np.ndarray


def cross_fitted(
    policies: Policies, data: Dataset, options: FQEOptions, device: torch.device | str = "cpu"
) -> Model:
    """Fit one model of every policy to each half of the episodes, and value the other half by it.

    Args:
        policies: the P policies.
        data: with discrete actions.
        options: of the fits.
        device: where they are computed.
    Raises:
        InputError: a single episode.
    """
    episodes = data.n_episodes
    if episodes < FOLDS:
        raise InputError(f"{data.name}: doubly_robust: one episode, expected at least {FOLDS}")
    fold = np.random.default_rng(options.seed).permutation(episodes) % FOLDS
    weights = (fold != np.arange(FOLDS)[:, None]).astype(float)  # [W, episodes]
    fitted = fit_q(policies, data, options, weights, device)

    chances = answers(policies, data.obs, data.spec)
    following = answers(policies, data.next_obs, data.spec)
    by_fold = (
        fitted.values(data.obs, chances),
        fitted.values(data.next_obs, following),
        fitted.taken(data.obs, data.action),
    )
    of_row = np.repeat(fold, data.episode_lengths())[None, None]
    now, then, taken = (np.take_along_axis(values, of_row, 1)[:, 0] for values in by_fold)
    return Model(now, then, taken)


def corrected(
    model: Model,
    weights: Sequence[np.ndarray],
    data: Dataset,
    grid: Grid,
    gamma: float,
    weighted: bool,
    seed: int,
) -> list[Estimate]:
    """Correct a model of every policy by its weighted surprises.

    Args:
        model: of the P policies.
        weights: cumulative ratios of every policy, `[E, T]` each.
        data: the data.
        grid: of its episodes.
        gamma: discount.
        weighted: see `doubly_robust`.
        seed: of the bootstrap.
    """
    gains = surprise(data.reward, model.taken, model.then, data.terminated, gamma)
    drawn = formulas.resamples(data.n_episodes, seed)

    estimates = []
    for weight, gain, now in zip(weights, grid.lay(gains), model.now, strict=True):
        first = now[grid.first]

        def value(
            multiplicity: np.ndarray,
            weight: np.ndarray = weight,
            gain: np.ndarray = gain,
            first: np.ndarray = first,
        ) -> np.ndarray:
            return formulas.doubly_robust(
                weight, gain, grid.counts, first, gamma, multiplicity, normalized=weighted
            )

        estimates.append(bootstrapped(value, drawn))
    return estimates


def weights_of(
    chances: np.ndarray, behavior: np.ndarray, data: Dataset, grid: Grid
) -> list[np.ndarray]:
    """Return the cumulative ratios of every policy, `[E, T]` each.

    Args:
        chances: pi of every policy, `[P, N, A]`.
        behavior: mu, `[N, A]`.
        data: whose actions were taken.
        grid: of its episodes.
    """
    rows = np.arange(len(data))
    ratios = chances[:, rows, data.action].astype(np.float64) / behavior[rows, data.action]
    return [cumulative_ratios(grid.lay(ratio, filler=1.0)) for ratio in ratios]


def usable(data: Dataset, gamma: float) -> Grid:
    """Return the episodes of data that importance weights can be used on.

    Raises:
        InputError: rows of several steps, or gamma out of range.
    """
    check_data(data)
    if not 0 <= gamma <= 1:
        raise InputError(f"gamma = {gamma}: expected 0 <= gamma <= 1")
    return grid_of(data)
