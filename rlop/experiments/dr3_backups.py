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

from rlop.experiments.gridruns import curves, mean, offline_dqn
from rlop.experiments.outcome import Outcome

BACKUPS = ("max", "behavior", "sarsa", "mc")


def run(seed: int) -> Outcome:
    """Compare dot products after 3000 steps, two runs per target."""
    histories = {backup: offline_dqn(seed, backup=backup) for backup in BACKUPS}
    dots = {backup: mean(history, "feature/dot") for backup, history in histories.items()}
    last = {backup: float(values[-1]) for backup, values in dots.items()}
    half = len(dots["max"]) // 2
    q = mean(histories["max"], "q/data")

    def growth(backup: str) -> float:
        return float(dots[backup][-1] / dots[backup][0])

    values = {
        "dot product: max / sarsa": last["max"] / last["sarsa"],
        "dot product: max / mc": last["max"] / last["mc"],
        "dot product: behavior / sarsa": last["behavior"] / last["sarsa"],
        "max: dot product, end / half": float(dots["max"][-1] / dots["max"][half]),
        "sarsa: dot product, end / start": growth("sarsa"),
        "mc: dot product, end / start": growth("mc"),
        "max: mean Q of the data, end / half": float(q[-1] / q[len(q) // 2]),
    }

    return Outcome(
        values, curves(histories, "feature/dot"), x="gradient steps", y="phi(s) . phi(s')"
    )
