"""DR3 keeps consecutive features from aligning, and raises the effective rank as a side effect.

Reference: Kumar, Agarwal, Courville, Ma, Tucker, Levine, "DR3: Value-Based Deep Reinforcement
Learning Requires Explicit Regularization", ICLR 2022, arXiv:2112.04716, sections 4 and 5.

Shown: offline DQN on a gridworld with 2000 transitions, without and with the penalty. Nothing in
the penalty refers to the rank.
"""

from __future__ import annotations

from rlop.experiments.gridruns import curves, mean, offline_dqn
from rlop.experiments.outcome import Outcome

COEF = 0.003


def run(seed: int) -> Outcome:
    """Compare both agents after 3000 steps, two runs each."""
    plain = offline_dqn(seed, regularizers={"dr3": 0.0})
    penalized = offline_dqn(seed, regularizers={"dr3": COEF})

    def ratio(metric: str) -> float:
        return float(mean(penalized, metric)[-1] / mean(plain, metric)[-1])

    values = {
        "dot product: with / without": ratio("feature/dot"),
        "effective rank: with / without": ratio("rank/effective_rank"),
        "srank: with / without": ratio("rank/srank"),
        "mean Q of the data: with / without": ratio("q/data"),
    }

    histories = {"DQN": plain, "DQN + DR3": penalized}
    return Outcome(
        values, curves(histories, "feature/dot"), x="gradient steps", y="phi(s) . phi(s')", log="y"
    )
