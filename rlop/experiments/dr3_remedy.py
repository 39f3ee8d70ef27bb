"""DR3 keeps consecutive features from aligning, and the effective rank is higher although nothing asks for it.

Reference: Kumar, Agarwal, Courville, Ma, Tucker, Levine, "DR3: Value-Based Deep Reinforcement Learning Requires
Explicit Regularization", ICLR 2022, arXiv:2112.04716, sections 4 and 5.

Shown: offline DQN on a gridworld with 2000 transitions, without and with the penalty.
"""

from __future__ import annotations

import math

from rlop.experiments.gridruns import curves, mean, offline_dqn
from rlop.experiments.outcome import Measure, Outcome

COEF = 0.003


def run(seed: int = 0) -> Outcome:
    """After 3000 steps, two runs each."""
    histories = {
        name: offline_dqn(seed, regularizers={"dr3": coef})
        for name, coef in (("DQN", 0.0), ("DQN + DR3", COEF))
    }

    def ratio(metric: str) -> float:
        plain, fixed = (mean(history, metric)[-1] for history in histories.values())
        return float(fixed / plain)

    measures = (
        Measure(
            "dot product: with / without", ratio("feature/dot"), 0.0, 0.5, "< 1, here at most half"
        ),
        Measure(
            "effective rank: with / without", ratio("rank/effective_rank"), 1.0, math.inf, "> 1"
        ),
        Measure(
            "srank: with / without", ratio("rank/srank"), 0.9, math.inf, "no lower, but for noise"
        ),
        Measure("mean Q of the data: with / without", ratio("q/data"), 0.5, 1.2, "Q stays a value"),
    )
    return Outcome(
        measures,
        curves(histories, "feature/dot"),
        x="gradient steps",
        y="phi(s) . phi(s')",
        log="y",
    )
