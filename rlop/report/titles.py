"""What each metric is called in words, its unit, which direction is better, and its range."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

HIGHER, LOWER, NEITHER = "higher is better", "lower is better", ""


class Metric(NamedTuple):
    """How a report speaks of a metric.

    Args:
        title: in words.
        unit: of its values, or "".
        better: which direction is better; "" where neither is, as for ranks.
        low, high: what its values can be.
    """

    title: str
    unit: str = ""
    better: str = NEITHER
    low: float = -math.inf
    high: float = math.inf


TITLES = {
    "eval/return": Metric("Return", "reward per episode", HIGHER),
    "eval/d4rl_score": Metric("D4RL score", "0 random, 100 expert", HIGHER),
    "eval/normalized_score": Metric("Normalized score", "0 random, 100 expert", HIGHER),
    "eval/human_normalized": Metric("Human-normalized score", "0 random, 1 human", HIGHER),
    "eval/dqn_normalized": Metric("DQN-normalized score", "0 random, 1 DQN", HIGHER),
    "eval/length": Metric("Length of episodes", "steps", low=0),
    "eval/q_error": Metric("Error to Q*", "root mean square", LOWER, low=0),
    "eval/q_error_max": Metric("Largest error to Q*", "", LOWER, low=0),
    "loss/td": Metric("TD loss", "", low=0),
    "loss/total": Metric("Total loss"),
    "loss/conservative": Metric("Conservative term"),
    "loss/policy": Metric("Policy loss"),
    "loss/bc": Metric("Imitation loss"),
    "loss/validation": Metric("Loss on held-out data", "", LOWER),
    "q/data": Metric("Value of the data's actions"),
    "q/target": Metric("TD target"),
    "q/policy": Metric("Value of the policy's actions"),
    "q/random": Metric("Value of random actions"),
    "policy/entropy": Metric("Entropy of the policy", "nats"),
    "policy/accuracy": Metric("Agreement with the data's actions", "share", HIGHER, 0, 1),
    "policy/error": Metric("Distance to the data's actions", "", LOWER, 0),
    "rank/srank": Metric("srank of the features", "dimensions", low=0),
    "rank/effective_rank": Metric("Effective rank of the features", "dimensions", low=0),
    "rank/stable_rank": Metric("Stable rank of the features", "dimensions", low=0),
    "rank/pca_rank": Metric("PCA rank of the features", "dimensions", low=0),
    "rank/feature_rank": Metric("Rank of the scaled features", "dimensions", low=0),
    "rank/feature_rank_unscaled": Metric("Rank of the features as they are", "dimensions", low=0),
    "rank/lyle_rank": Metric("Feature rank after Lyle et al.", "dimensions", low=0),
    "rank/participation_ratio": Metric("Participation ratio", "dimensions", low=0),
    "feature/norm": Metric("Norm of the features", "", low=0),
    "feature/dot": Metric("Dot product of consecutive features"),
    "feature/cosine": Metric("Cosine of consecutive features", "", low=-1, high=1),
    "head/norm": Metric("Norm of the last layer", "", low=0),
    "units/dormant": Metric("Dormant units", "share", LOWER, 0, 1),
    "units/dead": Metric("Dead units", "share", LOWER, 0, 1),
    "grad/norm": Metric("Norm of the gradient", "", low=0),
    "run/active": Metric("Runs that are active", "share", low=0, high=1),
    "time/steps_per_s": Metric("Speed", "steps per second", low=0),
}
PREFIXES = {
    "reg/": ("Penalty {}", -math.inf),
    "grad/norm_": ("Norm of the gradient of {}", 0.0),
    "rank/": ("{} of the features", 0.0),
    "units/": ("Units: {}", -math.inf),
    "loss/": ("Loss {}", -math.inf),
}
SCORES = (
    "eval/d4rl_score",
    "eval/normalized_score",
    "eval/human_normalized",
    "eval/dqn_normalized",
    "eval/return",
)
# The value that stands for the task solved, of scores that compare across tasks.
SOLVED = {
    "eval/d4rl_score": 100.0,
    "eval/normalized_score": 100.0,
    "eval/human_normalized": 1.0,
    "eval/dqn_normalized": 1.0,
}
# Undiscounted or not, no episode of these tasks can return less or more; with rewards of a
# configuration's own, which its name shows, it may.
RETURN_RANGES = {
    "gridworld": (0.0, 1.0),
    "CartPole-v0": (0.0, 200.0),
    "CartPole-v1": (0.0, 500.0),
    "Acrobot-v1": (-500.0, 0.0),
    "MountainCar-v0": (-200.0, 0.0),
}
# What a report shows when nothing else is asked for, in this order.
SHOWN = (
    *SCORES,
    "eval/q_error",
    "loss/td",
    "q/data",
    "rank/srank",
    "rank/effective_rank",
    "feature/norm",
    "feature/dot",
    "feature/cosine",
    "units/dormant",
    "grad/norm",
)
REPRESENTATION = (
    "rank/srank",
    "rank/effective_rank",
    "feature/norm",
    "feature/dot",
    "feature/cosine",
    "units/dormant",
)


def metric(key: str) -> Metric:
    """Return what is known of a metric; an unknown one is called by its key.

    Args:
        key: name as logged.
    """
    if key in TITLES:
        return TITLES[key]
    for prefix, (title, low) in PREFIXES.items():
        if key.startswith(prefix):
            name = key.removeprefix(prefix).replace("_", " ")
            return Metric(title.format(name), low=low)
    return Metric(key)


def titled(key: str) -> str:
    """Return a title with the unit and the better direction in parentheses."""
    known = metric(key)
    about = ", ".join(part for part in (known.unit, known.better) if part)
    return f"{known.title} ({about})" if about else known.title


def possible(key: str, tasks: Sequence[str]) -> tuple[float, float]:
    """Return the lowest and the highest value that a metric can have on these tasks.

    Args:
        key: name as logged.
        tasks: names of the data or environments, as configurations have them.
    """
    known = metric(key)
    if key != "eval/return":
        return known.low, known.high

    ranges = []
    for task in tasks:
        matching = [limits for name, limits in RETURN_RANGES.items() if task.startswith(name)]
        if not matching or "reward" in task:
            return known.low, known.high
        ranges.append(matching[0])
    lows, highs = zip(*ranges) if ranges else ((known.low,), (known.high,))
    return min(lows), max(highs)
