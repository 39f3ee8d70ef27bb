"""DR3 keeps consecutive features from aligning; does the agent perform better, and more stably?

Row 13, Kumar, Agarwal, Courville, Ma, Tucker and Levine, "DR3: Value-Based Deep Reinforcement
Learning Requires Explicit Regularization", arXiv:2112.04716: "DR3 minimizes the similarity of
learned features of the Q-network at consecutive state-action tuples", and "combined with existing
offline RL methods, substantially improves both performance and stability".

Here: CQL (alpha 0.1) with DR3 at the paper's coefficient for CQL, 0.03, which nothing tuned here,
and without, on 2,000 steps of a gridworld whose observations never repeat (`gridruns`), 4,800
updates, three networks for each arm. Returns are exact. Performance is the average over the
training and the end, stability the loss from the peak. `docs/dr3.md` has larger settings.

Control: both arms without DR3, with other networks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from rlop.experiments.fit import child_seeds
from rlop.experiments.gridruns import curves, data_of, last, offline_dqn, part
from rlop.experiments.outcome import Outcome
from rlop.logs.logger import History
from rlop.report.statistics import stability
from rlop.runs import Variants

COEF = 0.03
STEPS = 4800
NETWORKS = 3


def cql(seed: int, data_seed: int, networks: int, variants: Variants) -> History:
    """Train CQL on the data of a seed; networks are those of each variant."""
    data = data_of(data_seed, rows=2000, epsilon="0.5,1.0")
    return offline_dqn(
        seed,
        data,
        steps=STEPS,
        networks=networks,
        plays=True,
        alpha=0.1,
        regularizers={"dr3": 0.0},
        variants=variants,
    )


def halves(history: History) -> tuple[History, History]:
    """Cut the runs of a training in two."""
    return part(history, slice(0, NETWORKS)), part(history, slice(NETWORKS, None))


def compared(with_dr3: History, without: History) -> dict[str, float]:
    """Compare dot products, ranks and returns of two arms."""
    values = {}
    for word, metric in (("dot product", "feature/dot"), ("srank", "rank/srank")):
        ratio = last(with_dr3, metric) / last(without, metric)
        values[f"log of the {word}, with - without"] = math.log(ratio)

    returns = [stability(history.get("eval/return")[1][1:], 2) for history in (with_dr3, without)]
    for name in ("average", "final", "unlearning"):
        difference = np.mean(returns[0][name]) - np.mean(returns[1][name])
        values[f"{name} return, with - without"] = float(difference)
    values["loss from the peak, with - without"] = values.pop("unlearning return, with - without")
    return values


def run(seed: int) -> Outcome:
    """Compare both arms on the data of one seed."""
    data_seed, seed_of_networks = child_seeds(seed, 2)
    variants = {"CQL": {}, "CQL + DR3": {"regularizers.dr3": COEF}}
    without, with_dr3 = halves(cql(seed_of_networks, data_seed, NETWORKS, variants))

    shown = curves({"CQL": without, "CQL + DR3": with_dr3}, "eval/return")
    values = compared(with_dr3, without)
    return Outcome(values, shown, x="gradient steps", y="exact return")


def control(seed: int) -> Mapping[str, float]:
    """Compare networks that are all trained without DR3."""
    data_seed, seed_of_networks = child_seeds(seed, 2)
    return compared(*halves(cql(seed_of_networks, data_seed, 2 * NETWORKS, {"CQL": {}})))
