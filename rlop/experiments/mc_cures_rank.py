"""Is bootstrapping to blame for the loss of feature rank? Regression on Monte-Carlo returns as the control.

Reference: Kumar, Agarwal, Ghosh, Levine, "Implicit Under-Parameterization Inhibits Data-Efficient Deep Reinforcement
Learning", ICLR 2021, arXiv:2010.14498, which sees no loss of rank when the same networks regress on returns; DR3
(arXiv:2112.04716) builds on it.

Shown: offline DQN on a gridworld with 2000 transitions, bootstrapped targets against returns, by two measures of rank.
srank (how many singular values hold 99 % of their sum) agrees with the claim; the effective rank (exponential of the
entropy) falls for both, so that Monte-Carlo does not cure rank loss in general.
"""

from __future__ import annotations

import math

from rlop.experiments.gridruns import curves, mean, offline_dqn
from rlop.experiments.outcome import Measure, Outcome
from rlop.logs.logger import History


def kept(history: History, name: str) -> float:
    """Share of a metric's initial value that is left at the end."""
    values = mean(history, name)
    return float(values[-1] / values[0])


def run(seed: int = 0) -> Outcome:
    """After 3000 steps, two runs each; the start is the network at initialisation."""
    histories = {backup: offline_dqn(seed, backup=backup) for backup in ("max", "mc")}
    rank, entropy = (
        {b: kept(h, name) for b, h in histories.items()}
        for name in ("rank/srank", "rank/effective_rank")
    )
    measures = (
        Measure("srank kept: mc - max", rank["mc"] - rank["max"], 0.0, math.inf, "> 0"),
        Measure("srank kept by mc", rank["mc"], 0.9, math.inf, "about 1: no loss"),
        Measure(
            "effective rank kept: mc - max", entropy["mc"] - entropy["max"], 0.0, math.inf, "> 0"
        ),
        Measure("effective rank kept by mc", entropy["mc"], 0.9, math.inf, "about 1: no loss"),
    )
    shown = curves(histories, "rank/effective_rank") | {
        f"{label}, srank": curve for label, curve in curves(histories, "rank/srank").items()
    }
    return Outcome(measures, shown, x="gradient steps", y="effective rank, srank", report_only=True)
