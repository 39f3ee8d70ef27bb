"""Is bootstrapping to blame for the loss of feature rank? Monte-Carlo regression as the control.

Reference: Kumar, Agarwal, Ghosh, Levine, "Implicit Under-Parameterization Inhibits Data-Efficient
Deep Reinforcement Learning", ICLR 2021, arXiv:2010.14498, which reports no loss of rank when the
same networks regress on returns; DR3 (arXiv:2112.04716) builds on it.

Shown: offline DQN on a gridworld with 2000 transitions, bootstrapped targets against returns, by
two measures of rank. srank (how many singular values hold 99 % of their sum) agrees with the claim;
the effective rank (exponential of the entropy) falls for both, so that Monte-Carlo does not cure
rank loss in general.
"""

from __future__ import annotations

from rlop.experiments.gridruns import curves, mean, offline_dqn
from rlop.experiments.outcome import Outcome
from rlop.logs.logger import History


def share_kept(history: History, metric: str) -> float:
    """Divide the last value of a metric by its first."""
    values = mean(history, metric)
    return float(values[-1] / values[0])


def run(seed: int) -> Outcome:
    """Compare ranks after 3000 steps with those at initialization, two runs each."""
    histories = {backup: offline_dqn(seed, backup=backup) for backup in ("max", "mc")}
    srank = {name: share_kept(history, "rank/srank") for name, history in histories.items()}
    effective = {
        name: share_kept(history, "rank/effective_rank") for name, history in histories.items()
    }

    values = {
        "srank kept: mc - max": srank["mc"] - srank["max"],
        "srank kept by mc": srank["mc"],
        "effective rank kept: mc - max": effective["mc"] - effective["max"],
        "effective rank kept by mc": effective["mc"],
    }

    shown = curves(histories, "rank/effective_rank")
    for label, curve in curves(histories, "rank/srank").items():
        shown[f"{label}, srank"] = curve

    return Outcome(values, shown, x="gradient steps", y="effective rank, srank")
