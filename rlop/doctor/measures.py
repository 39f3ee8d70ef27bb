"""Names of the doctor's measures, and how each is made comparable between networks and tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from rlop.data.dataset import Dataset
from rlop.data.returns import end_index, returns_to_go
from rlop.probes.refit import Outputs, Parameters, refit_error, standardized
from rlop.probes.return_gap import return_gap
from rlop.probes.unseen import unseen_gap
from rlop.types import Batch

Measured: TypeAlias = dict[str, float]  # name -> value; what was not measured is absent

Returns: TypeAlias = tuple[Tensor, Tensor]  # discounted returns, and whether they are known

REFIT_ROWS = 256
FRESH = 3  # networks that a refit is compared with
TAIL = 0.01  # weight of what follows a cut up to which a return counts as known

# name -> what it is, in words and with its unit
MEASURES: dict[str, str] = {
    "rank/effective": "effective rank, as a multiple of that at the start",
    "units/dormant": "share of units that are dormant",
    "units/inactive": "share of units without gradient",
    "feature/dot": "dot product of consecutive features, as a multiple of that at the start",
    "feature/angle": "1 - cosine between consecutive features, as a multiple of that at the start",
    "feature/cosine": "cosine between consecutive features",
    "feature/norm": "length of the features, as a multiple of that at the start",
    "run/frozen": "frozen at its last finite values (1) or not (0)",
    "value/limit": "largest value, as a multiple of the largest that rewards allow",
    "value/mean": "mean value above the mean return, in standard deviations of returns",
    "value/best": "mean value above the best return, in standard deviations of returns",
    "value/worst": "mean value below the worst return, in standard deviations of returns",
    "value/policy": "the policy's actions above the data's, in standard deviations of returns",
    "value/random": "random actions below the worst return, in standard deviations of returns",
    "value/spread": "standard deviation of returns",
    "value/drift": "movement of the target late in training, in standard deviations of returns",
    "policy/bound": "share of the policy's action entries at the end of [-1, 1]",
    "plasticity/refit": "error left by a refit, as a multiple of a fresh network's",
    "churn/value": "change of values by one update, in standard deviations of values",
    "churn/policy": "change of actions by one update",
    "data/flat": "every reward is the same (1) or not (0)",
    "data/ends": "share of rows that end an episode",
    "data/varied": "disagreement of actions in similar states, as a share of that of any two",
    "data/broken": "share of rows whose next observation is not that of the next row",
}


def feature_changes(
    now: Mapping[str, np.ndarray],
    start: Mapping[str, np.ndarray],
) -> dict[str, Tensor]:
    """Return the measures of features, those with a scale as multiples of their start.

    Args:
        now: from `rlop.probes.measure`, `[R]` each.
        start: the same of the networks before training.
    """
    found = {
        "rank/effective": now["rank/effective_rank"] / start["rank/effective_rank"],
        "units/dormant": now["units/dormant"],
        "feature/norm": now["feature/norm"] / start["feature/norm"],
    }
    if "feature/dot" in now and "feature/dot" in start:
        # Features of other activations may start at a dot product around 0.
        scale = np.maximum(np.abs(start["feature/dot"]), 1e-3 * start["feature/norm"] ** 2)
        found["feature/dot"] = now["feature/dot"] / scale
        found["feature/cosine"] = now["feature/cosine"]
        found["feature/angle"] = (1 - now["feature/cosine"]) / (1 - start["feature/cosine"])
    return {name: torch.as_tensor(value) for name, value in found.items()}


def value_measures(
    q_data: Tensor,
    q_policy: Tensor,
    q_random: Tensor,
    returns: Tensor,
    known: Tensor,
) -> dict[str, Tensor]:
    """Compare the values of three actions at the same states with the returns, `[R]` each.

    Args:
        q_data: values of the data's actions, `[R, n]`.
        q_policy: of the policy's.
        q_random: of random ones.
        returns: discounted returns that followed.
        known: whether each is known.
    """
    gap = return_gap(q_data, returns, known)
    return {
        "value/mean": gap.mean,
        "value/best": gap.best,
        "value/worst": gap.worst,
        "value/policy": unseen_gap(q_data, q_policy, gap.spread),
        "value/random": return_gap(q_random, returns, known).worst,
        "value/spread": gap.spread,
    }


def limit_of(data: Dataset, gamma: Tensor) -> Tensor:
    """Return the largest absolute value that rewards allow, max |r| / (1 - gamma).

    NaN where there is no limit: gamma = 1, or no reward.
    """
    largest = float(np.abs(data.reward).max())
    limit = largest / (1 - gamma)
    return limit.where(limit.isfinite() & (limit > 0), torch.nan)


def returns_at(data: Dataset, batch: Batch, gamma: Tensor) -> Returns:
    """Return the discounted returns that followed the rows of a batch, and which are known.

    A return is known where the episode terminates, or where what follows its cut weighs little.

    Args:
        data: the data set; sums of several steps have no returns of their own.
        batch: `[R, n, ...]` of its rows.
        gamma: `[R]`.
    Returns:
        Returns and marks, `[R, n]` each.
    """
    rows = batch.index.cpu()
    if data.discount is not None:
        return torch.zeros(rows.shape), torch.zeros(rows.shape, dtype=torch.bool)

    stop = end_index(data.end)
    left = stop - np.arange(len(data)) + 1.0
    returns, marks = [], []
    for run, number in enumerate(gamma.tolist()):
        known = data.terminated[stop] | (number**left <= TAIL)
        total = returns_to_go(data.reward, data.end, number)
        returns.append(torch.from_numpy(total)[rows[run]])
        marks.append(torch.from_numpy(known)[rows[run]])
    device = batch.reward.device
    return torch.stack(returns).to(device), torch.stack(marks).to(device)


def as_measured(found: Mapping[str, Tensor], run: int) -> Measured:
    """Return the values of one run; those that are not numbers are left out.

    Args:
        found: name -> `[R]`.
        run: index of the run.
    """
    values = {name: float(value[run]) for name, value in found.items()}
    return {name: value for name, value in values.items() if not np.isnan(value)}


def refit_ratio(
    outputs: Outputs, trained: Parameters, draws: Sequence[Parameters], steps: int
) -> Tensor:
    """Compare the refit of a network with the median of fresh ones: 1 is as good.

    Args:
        outputs: see `refit_error`.
        trained: parameters of the network.
        draws: those of fresh networks; the outputs of the last one are the change to fit.
        steps: budget of each fit.
    Returns:
        `[...]`; infinity where the fit did not stay finite, and so learned nothing.
    """
    with torch.no_grad():
        change = standardized(outputs(draws[-1]))
    error = refit_error(outputs, trained, change, steps)
    fresh = [refit_error(outputs, draw, change, steps) for draw in draws[:-1]]
    ratio = error / torch.stack(fresh).median(0).values
    return ratio.where(~error.isnan(), torch.inf)
