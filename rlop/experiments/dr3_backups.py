"""Which TD targets make the features of consecutive states align?

Row 13, arXiv:2112.04716: the abstract blames the noise of bootstrapping for degenerate features.
Kumar, Agarwal, Courville, Ma, Tucker and Levine, "DR3: Value-Based Deep Reinforcement Learning
Requires Explicit Regularization", section 3.1, test it so: the mean dot product
phi(s, a) . phi(s', a') rises without bound under Q-learning and under TD whose next actions come
from the behavior policy, out of sample, and stays flat under SARSA, whose next actions are the
data's, and under regression on Monte-Carlo returns.

Here: the same four targets on a gridworld whose observations never repeat (`gridruns`), so that an
action drawn from the known policy is out of sample, 3,000 updates, two networks for each target.
The dot product is the product of a cosine and of norms, so the cosine has a measure of its own.

Control: all four targets are Monte-Carlo returns, with other networks, so that no difference
between them is one of targets; for growth, networks that hardly learn (rate 1e-7); for flatness,
SARSA and Monte-Carlo with DR3 of the opposite sign, which aligns features by construction.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from rlop.experiments.fit import child_seeds
from rlop.experiments.gridruns import curves, data_of, growth, last, offline_dqn
from rlop.experiments.outcome import Outcome
from rlop.logs.logger import History

DOT = "feature/dot"
BACKUPS = ("max", "behavior", "sarsa", "mc")
ALIGNING = -0.01  # coefficient of DR3 that rewards what it penalizes


def options_of(backup: str) -> dict[str, str]:
    """Return the options of DQN for a target; the behavior policy is the one that acted."""
    if backup == "behavior":
        return {"backup": backup, "behavior": "known"}
    return {"backup": backup}


def compared(histories: Mapping[str, History]) -> dict[str, float]:
    """Compare targets with SARSA's, at the end of training."""
    values = {}
    for backup in ("max", "behavior"):
        ratio = last(histories[backup], DOT) / last(histories["sarsa"], DOT)
        values[f"log of the dot product, {backup} - sarsa"] = math.log(ratio)

        cosines = [last(histories[name], "feature/cosine") for name in (backup, "sarsa")]
        values[f"cosine, {backup} - sarsa"] = cosines[0] - cosines[1]
    return values


def run(seed: int) -> Outcome:
    """Compare the four targets on the data of one seed."""
    data_seed, seed_of_networks = child_seeds(seed, 2)
    data = data_of(data_seed)
    histories = {}
    for backup in BACKUPS:
        histories[backup] = offline_dqn(seed_of_networks, data, **options_of(backup))

    values = compared(histories)
    for backup in ("max", "sarsa", "mc"):
        values[f"{backup}: dot product, end / half"] = growth(histories[backup], DOT)
    return Outcome(
        values, curves(histories, DOT), x="gradient steps", y="phi(s) . phi(s')", log="y"
    )


def control(seed: int) -> Mapping[str, float]:
    """Measure where targets do not differ, nothing is learned, or alignment is rewarded."""
    data_seed, *seeds = child_seeds(seed, 2 + len(BACKUPS))
    data = data_of(data_seed)
    histories = {}
    for backup, own in zip(BACKUPS, seeds):
        histories[backup] = offline_dqn(own, data, backup="mc")
    values = compared(histories)

    still = offline_dqn(seeds[0], data, lr=1e-7)
    values["max: dot product, end / half"] = growth(still, DOT)
    for backup in ("sarsa", "mc"):
        aligned = offline_dqn(seeds[0], data, backup=backup, regularizers={"dr3": ALIGNING})
        values[f"{backup}: dot product, end / half"] = growth(aligned, DOT)
    return values
