"""Which TD targets make the features of consecutive states align?

Reference: Kumar, Agarwal, Courville, Ma, Tucker, Levine, "DR3: Value-Based Deep Reinforcement
Learning Requires Explicit Regularization", ICLR 2022, arXiv:2112.04716, section 3.1: on two Atari
games the mean dot product phi(s, a) . phi(s', a') rises without bound under Q-learning and under TD
whose next actions come from a model of the behavior policy, and stays flat under offline SARSA and
under regression on Monte-Carlo returns; Q converges meanwhile.

Shown: the same four targets on a gridworld with 2000 transitions. Of the four claims, tested
one by one, those on the behavior model and on flatness did not hold when this was first tried.
"""

from __future__ import annotations

import math

from rlop.experiments.gridruns import curves, mean, offline_dqn
from rlop.experiments.outcome import Measure, Outcome

BACKUPS = ("max", "behavior", "sarsa", "mc")


def run(seed: int = 0) -> Outcome:
    """Compare dot products after 3000 steps, two runs per target."""
    histories = {backup: offline_dqn(seed, backup=backup) for backup in BACKUPS}
    dots = {backup: mean(history, "feature/dot") for backup, history in histories.items()}
    last = {backup: float(values[-1]) for backup, values in dots.items()}
    half = len(dots["max"]) // 2
    q = mean(histories["max"], "q/data")

    def growth(backup: str) -> float:
        return float(dots[backup][-1] / dots[backup][0])

    measures = (
        Measure(
            "dot product: max / sarsa",
            last["max"] / last["sarsa"],
            low=1.3,
            high=math.inf,
            expected="> 1, here at least 1.3",
        ),
        Measure(
            "dot product: max / mc",
            last["max"] / last["mc"],
            low=1.3,
            high=math.inf,
            expected="> 1, here at least 1.3",
        ),
        Measure(
            "dot product: behavior / sarsa",
            last["behavior"] / last["sarsa"],
            low=1.3,
            high=math.inf,
            expected="as max / sarsa",
        ),
        Measure(
            "max: dot product, end / half",
            float(dots["max"][-1] / dots["max"][half]),
            low=1.1,
            high=math.inf,
            expected="keeps rising",
        ),
        Measure(
            "sarsa: dot product, end / start",
            growth("sarsa"),
            low=0.5,
            high=2.0,
            expected="flat",
        ),
        Measure(
            "mc: dot product, end / start",
            growth("mc"),
            low=0.5,
            high=2.0,
            expected="flat",
        ),
        Measure(
            "max: mean Q of the data, end / half",
            float(q[-1] / q[len(q) // 2]),
            low=0.8,
            high=1.25,
            expected="1: Q converges",
        ),
    )

    return Outcome(
        measures,
        curves(histories, "feature/dot"),
        x="gradient steps",
        y="phi(s) . phi(s')",
        report_only=True,
    )
