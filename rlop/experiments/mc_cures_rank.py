"""Is bootstrapping to blame for the loss of feature rank? Monte-Carlo regression as the comparison.

Row 13, arXiv:2112.04716: "the regularizer recapitulates recent empirical findings regarding the
rank collapse of learned features", which are those of Kumar, Agarwal, Ghosh and Levine, "Implicit
Under-Parameterization Inhibits Data-Efficient Deep Reinforcement Learning", ICLR 2021,
arXiv:2010.14498: bootstrapped targets lose rank, regression on returns does not.

Here: both on a gridworld whose observations never repeat (`gridruns`), by two measures of rank,
srank (how many singular values hold 99 % of their sum) and the effective rank (exponential of the
entropy), each as the logarithm of its ratio.

Control: both arms regress on returns, with other networks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from rlop.experiments.fit import child_seeds
from rlop.experiments.gridruns import curves, data_of, last, offline_dqn, part
from rlop.experiments.outcome import Outcome
from rlop.logs.logger import History

RANKS = ("srank", "effective_rank")


def compared(bootstrapped: History, regressed: History) -> dict[str, float]:
    """Return the logarithm of each rank's ratio at the end."""
    values = {}
    for rank in RANKS:
        ratio = last(bootstrapped, f"rank/{rank}") / last(regressed, f"rank/{rank}")
        values[f"log of {rank}, max - mc"] = math.log(ratio)
    return values


def run(seed: int) -> Outcome:
    """Compare the ranks after training on the data of one seed."""
    data_seed, seed_of_networks = child_seeds(seed, 2)
    data = data_of(data_seed)
    histories = {}
    for backup in ("max", "mc"):
        histories[backup] = offline_dqn(seed_of_networks, data, backup=backup)

    shown = {}
    for rank in RANKS:
        for label, curve in curves(histories, f"rank/{rank}").items():
            shown[f"{label}, {rank}"] = curve
    values = compared(histories["max"], histories["mc"])
    return Outcome(values, shown, x="gradient steps", y="rank")


def control(seed: int) -> Mapping[str, float]:
    """Compare two trainings on the same targets."""
    data_seed, seed_of_networks = child_seeds(seed, 2)
    alike = offline_dqn(seed_of_networks, data_of(data_seed), networks=4, backup="mc")
    return compared(part(alike, slice(0, 2)), part(alike, slice(2, None)))
