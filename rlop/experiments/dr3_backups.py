"""Which TD targets make the features of consecutive states align?

Row 13, arXiv:2112.04716: the abstract blames the noise of bootstrapping for degenerate features.
Kumar, Agarwal, Courville, Ma, Tucker and Levine, "DR3: Value-Based Deep Reinforcement Learning
Requires Explicit Regularization", section 3.1, test it so: the mean dot product
phi(s, a) . phi(s', a') rises without bound under Q-learning and under TD whose next actions come
from the behavior policy, out of sample, and stays flat under SARSA, whose next actions are the
data's, and under regression on Monte-Carlo returns.

Here: the same four targets on a gridworld whose observations never repeat (`gridruns`), so that an
action drawn from the known policy is out of sample, 2,400 updates, two networks for each target.
The dot product is the product of a cosine and of norms, so the cosine has a measure of its own.

Control: all targets are Monte-Carlo returns, with other networks, so that no difference between
them is one of targets; for growth, networks that hardly learn (rate 1e-7); for flatness, SARSA and
Monte-Carlo with a penalty that rewards what DR3 penalizes, which aligns features by construction.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from rlop.experiments.fit import child_seeds
from rlop.experiments.gridruns import POINTS, curves, data_of, growth, last, offline_dqn, part
from rlop.experiments.outcome import Outcome
from rlop.logs.logger import History
from rlop.regularizers import dr3
from rlop.types import TDContext, needs

DOT = "feature/dot"
COMPARED = ("max", "behavior", "sarsa")
ALIGNING = {"rlop.experiments.dr3_backups:aligning": 0.01}
OF_BACKUP: dict[str, dict[str, Any]] = {
    "max": {"backup": "max"},
    "behavior": {"backup": "behavior", "behavior": "known"},  # the policy that acted
    "sarsa": {"backup": "sarsa"},
    "mc": {"backup": "mc"},
}


@needs("next_features")
def aligning(ctx: TDContext) -> Tensor:
    """Return DR3 with the opposite sign, `[R]`."""
    assert ctx.next_features is not None
    return -dr3(ctx.features, ctx.next_features)


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
    for backup, options in OF_BACKUP.items():
        histories[backup] = offline_dqn(seed_of_networks, data, **options)

    values = compared(histories)
    for backup in ("max", "sarsa", "mc"):
        values[f"{backup}: dot product, end / half"] = growth(histories[backup], DOT)
    return Outcome(
        values, curves(histories, DOT), x="gradient steps", y="phi(s) . phi(s')", log="y"
    )


def control(seed: int) -> Mapping[str, float]:
    """Measure where targets do not differ, nothing is learned, or alignment is rewarded."""
    data_seed, seed_of_networks = child_seeds(seed, 2)
    data = data_of(data_seed)
    alike = offline_dqn(seed_of_networks, data, networks=len(COMPARED), backup="mc")
    alone = {name: part(alike, slice(i, i + 1)) for i, name in enumerate(COMPARED)}
    values = compared(alone)

    still = offline_dqn(seed_of_networks, data, steps=10 * POINTS, lr=1e-7)
    values["max: dot product, end / half"] = growth(still, DOT)
    for backup in ("sarsa", "mc"):
        aligned = offline_dqn(seed_of_networks, data, backup=backup, regularizers=ALIGNING)
        values[f"{backup}: dot product, end / half"] = growth(aligned, DOT)
    return values
