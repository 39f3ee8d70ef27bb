"""Which TD targets make the features of consecutive states align?

Reference: Kumar, Agarwal, Courville, Ma, Tucker, Levine, "DR3: Value-Based Deep Reinforcement Learning Requires
Explicit Regularization", ICLR 2022, arXiv:2112.04716, section 3.1: on two Atari games the mean dot product
phi(s, a) . phi(s', a') rises without bound under Q-learning and under TD whose next actions come from a model of the
behaviour policy, and stays flat under offline SARSA and under regression on Monte-Carlo returns; Q converges meanwhile.

Shown: the same four targets on a gridworld with 2000 transitions. Out of the four claims, tested one by one, those on
the behaviour model and on flatness did not hold when this was first tried.
"""

from __future__ import annotations

import math

from rlop.experiments.gridruns import curves, mean, offline_dqn
from rlop.experiments.outcome import Measure, Outcome


def run(seed: int = 0) -> Outcome:
    """Dot products after 3000 steps, two runs per target."""
    histories = {
        backup: offline_dqn(seed, backup=backup) for backup in ("max", "behaviour", "sarsa", "mc")
    }
    dot = {backup: mean(history, "feature/dot") for backup, history in histories.items()}
    end = {backup: values[-1] for backup, values in dot.items()}
    q = mean(histories["max"], "q/data")
    half = len(dot["max"]) // 2
    measures = (
        Measure(
            "dot product: max / sarsa",
            float(end["max"] / end["sarsa"]),
            1.3,
            math.inf,
            "> 1, here at least 1.3",
        ),
        Measure(
            "dot product: max / mc",
            float(end["max"] / end["mc"]),
            1.3,
            math.inf,
            "> 1, here at least 1.3",
        ),
        Measure(
            "dot product: behaviour / sarsa",
            float(end["behaviour"] / end["sarsa"]),
            1.3,
            math.inf,
            "as max / sarsa",
        ),
        Measure(
            "max: dot product, end / half",
            float(dot["max"][-1] / dot["max"][half]),
            1.1,
            math.inf,
            "keeps rising",
        ),
        Measure(
            "sarsa: dot product, end / start",
            float(end["sarsa"] / dot["sarsa"][0]),
            0.5,
            2.0,
            "flat",
        ),
        Measure("mc: dot product, end / start", float(end["mc"] / dot["mc"][0]), 0.5, 2.0, "flat"),
        Measure(
            "max: mean Q of the data, end / half",
            float(q[-1] / q[len(q) // 2]),
            0.8,
            1.25,
            "1: Q converges",
        ),
    )
    return Outcome(
        measures,
        curves(histories, "feature/dot"),
        x="gradient steps",
        y="phi(s) . phi(s')",
        report_only=True,
    )
