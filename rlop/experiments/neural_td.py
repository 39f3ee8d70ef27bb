"""Neural TD with a ball around each neuron, without, and with one ball around all of them.

Row 32: Cayci, Satpathi, He, Srikant, "Sample Complexity and Overparameterization Bounds for
Temporal-Difference Learning With Neural Network Approximation", IEEE TAC 2023, arXiv:2103.01391;
the single ball is that of Cai, Yang, Lee, Wang, NeurIPS 2019, arXiv:1905.10027.

The clauses of the abstract: (a) both algorithms, projection-free and max-norm, converge at the
rates of bounds; (b) max-norm improves the sample complexity, and (c) the number of neurons, both
dramatically; (d) by the geometry of the function class; (e) the proof stops the process when a
neuron leaves a ball. The agent is `rlop.agents.NeuralTD`, on single transitions of a process that
is drawn for each seed and whose values have norm nu = 1 (`neural_td_process`): (a) the error lies
under the bound at all T, and T grows no faster than eps^-4 and eps^-6 at the theory's steps; (b)
samples at the best constant step of five, chosen by other networks at equal budgets; (c) the error
of 16 neurons at an equal step, R = 2 nu; (d) equal radius where TD diverges off policy; (e) the
share of errors before which a free neuron has left lambda. Values are means over `NETWORKS`.

The control: values of norm 8, beyond the ball and the samples; two arms that are the same algorithm
(a ball too large to be reached); a free process in place of a bounded one, and the other way round;
a lambda that is a twentieth. `docs/neural_td.md` has the same claims at more and larger settings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rlop.experiments.fit import child_seeds
from rlop.experiments.neural_td_claims import (
    RADIUS,
    RATES,
    error_over_bound,
    share_outside,
    theory_step,
)
from rlop.experiments.neural_td_process import Process, off_policy, on_policy
from rlop.experiments.neural_td_runs import Followed, follow, samples_to_reach, slope
from rlop.experiments.outcome import Curve, Outcome

NETWORKS = 4
EPSILONS = (0.26, 0.21, 0.17)  # the RMS of the values is about .4
TUNED_EPSILON = 0.04
FEW = 16  # neurons
OFF_RADIUS = 5.0
UNREACHED = 1e6  # radius that no neuron travels
WIDTH = 256
ONE = {"1": {"lr": 1.0}}  # a single step size


@dataclass(frozen=True)
class Setting:
    """What is measured, or its control.

    Args:
        free: samples at the theory's steps without a ball.
        max_norm: samples at the theory's steps with balls.
        compared: samples of the comparisons on policy.
        off: samples off policy.
        norm: of the values; the theory takes 1.
        radius: of the balls whose samples are compared.
        few_radius: of the balls around few neurons.
        smaller: divisor of lambda.
        exchanges: whether free and bounded are exchanged off policy.
    """

    free: int = 16_000
    max_norm: int = 8_000
    compared: int = 2_000
    off: int = 5_000
    norm: float = 1.0
    radius: float = RADIUS
    few_radius: float = 2.0
    smaller: float = 1.0
    exchanges: bool = False


CONTROL = Setting(
    free=3_000,
    max_norm=3_000,
    compared=200,
    off=600,
    norm=8.0,
    radius=UNREACHED,
    few_radius=UNREACHED,
    smaller=20.0,
    exchanges=True,
)


def run(seed: int) -> Outcome:
    """Measure the clauses on processes and networks of this seed."""
    return measure(seed, Setting())


def control(seed: int) -> Mapping[str, float]:
    """Measure the same where the effects are absent by construction."""
    return measure(seed, CONTROL).values


def measure(seed: int, setting: Setting) -> Outcome:
    """Measure every clause.

    Args:
        seed: of processes, networks and samples.
        setting: sizes, and what a control changes.
    """
    of_process, of_off_policy, *networks = child_seeds(seed, 2 + 2 * NETWORKS)
    reporting, tuning = networks[:NETWORKS], networks[NETWORKS:]

    process = on_policy(of_process, setting.norm)
    values, curves = at_theory_steps(process, reporting, setting)
    process = on_policy(of_process)
    values |= at_best_steps(process, reporting, tuning, setting)
    values |= with_few_neurons(process, reporting, setting)
    values |= without_a_stationary_law(off_policy(of_off_policy), reporting, setting)
    return Outcome(values, curves, x="samples", y="RMS error of the average", log="xy")


def at_theory_steps(
    process: Process, seeds: Sequence[int], setting: Setting
) -> tuple[dict[str, float], dict[str, Curve]]:
    """Compare with the bounds: errors, samples to three of them, neurons that leave."""
    values: dict[str, float] = {}
    curves: dict[str, Curve] = {}
    for kind, count in (("free", setting.free), ("max_norm", setting.max_norm)):
        settings = {}
        for epsilon in EPSILONS:
            lr = theory_step(kind, epsilon, process.gamma, EPSILONS[0])
            settings[str(epsilon)] = {"lr": lr}
        followed = followed_at(process, seeds, settings, count, 50, kind, RADIUS)

        counts = np.stack([samples_to_reach(followed, str(eps), eps) for eps in EPSILONS])
        # An error that is never reached takes infinitely many samples.
        exponents = slope([1 / epsilon for epsilon in EPSILONS], counts)
        exponents = np.where(np.isnan(counts).any(0), math.inf, exponents)
        values[f"{kind}: exponent of the samples in 1 / eps"] = mean(exponents)
        for epsilon in EPSILONS:
            place = followed.setting(str(epsilon))
            label = f"{kind}, step for {epsilon:g}"
            curves[label] = (followed.steps, followed.averaged[:, place].mean(1))

        if kind == "max_norm":
            ratio = error_over_bound(followed, EPSILONS, process.gamma)
            values["max_norm: largest error / bound"] = mean(ratio)
        else:
            last = followed.averaged[-1, followed.setting(str(EPSILONS[-1]))]
            values["free: last error / eps"] = mean(last / EPSILONS[-1])
            radii = [RADIUS * EPSILONS[0] / epsilon / setting.smaller for epsilon in EPSILONS]
            outside = share_outside(followed, EPSILONS, radii)
            values["free: share of errors before which a neuron leaves lambda"] = mean(outside)
    return values, curves


def at_best_steps(
    process: Process, reporting: Sequence[int], tuning: Sequence[int], setting: Setting
) -> dict[str, float]:
    """Compare the samples to a small error, each kind at its best constant step of five."""
    settings = {str(lr): {"lr": lr} for lr in RATES}
    both = [*reporting, *tuning]
    samples = {}
    for kind in ("free", "max_norm"):
        followed = followed_at(process, both, settings, setting.compared, 10, kind, setting.radius)
        counts = np.stack([samples_to_reach(followed, name, TUNED_EPSILON) for name in settings])
        counts = np.log(np.where(np.isnan(counts), setting.compared, counts))  # [rates, seeds]
        chosen = counts[:, len(reporting) :].mean(1).argmin()
        samples[kind] = counts[chosen, : len(reporting)].mean()
    ratio = math.exp(samples["free"] - samples["max_norm"])
    return {f"free / max_norm: samples to {TUNED_EPSILON:g} at the best step": ratio}


def with_few_neurons(process: Process, seeds: Sequence[int], setting: Setting) -> dict[str, float]:
    """Compare the errors of narrow networks after equal samples at an equal step."""
    error = {}
    for kind in ("free", "frobenius", "max_norm"):
        steps = setting.compared
        followed = followed_at(
            process, seeds, ONE, steps, steps, kind, setting.few_radius, width=FEW
        )
        error[kind] = mean(followed.averaged[-1, 0])
    return {
        f"{kind} / max_norm: error of {FEW} neurons": error[kind] / error["max_norm"]
        for kind in ("free", "frobenius")
    }


def without_a_stationary_law(
    process: Process, seeds: Sequence[int], setting: Setting
) -> dict[str, float]:
    """Compare the largest |V| off policy, at equal radius."""
    largest: dict[str, np.ndarray] = {}
    diverged = {}
    for kind in ("free", "frobenius", "max_norm"):
        followed = followed_at(process, seeds, ONE, setting.off, 20, kind, OFF_RADIUS)
        largest[kind] = followed.largest[:, 0].max(0)
        diverged[kind] = 1 - mean(followed.active[0])

    free, bounded, other = "free", "max_norm", "frobenius"
    if setting.exchanges:
        free, bounded, other = bounded, free, bounded
    ratio = largest[other] / largest["max_norm"]
    return {
        "off policy, free: share that diverges": diverged[free],
        "off policy, max_norm: largest |V| / R": mean(largest[bounded]) / OFF_RADIUS,
        "off policy, frobenius / max_norm: largest |V|": mean(ratio),
    }


def followed_at(
    process: Process,
    seeds: Sequence[int],
    settings: Mapping[str, Mapping[str, float]],
    steps: int,
    every: int,
    kind: str,
    radius: float,
    width: int = WIDTH,
) -> Followed:
    """Train one kind of projection; arguments as of `follow`."""
    return follow(
        process,
        seeds,
        settings,
        steps,
        every=every,
        width=width,
        projection=kind,
        radius=radius,
    )


def mean(values: np.ndarray) -> float:
    """Average over the networks; NaN if a value is."""
    return float(np.mean(values))
