"""Adversarial examples in random networks: a short step along the gradient flips the output's sign.

Row 1: Bartlett, Bubeck and Cherapanamjeri, "Adversarial Examples in Multi-Layer Random ReLU
Networks", arXiv:2106.12611, and Bartlett's talk at the workshop. The networks have Gaussian
parameters in He's initialization and hidden layers as wide as the input, d; |x|^2 = d.

1. The output f(x) is standard normal over networks and |grad f| is about 1, so that the step
   -f(x) grad f / |grad f|^2 has the median length .674 / sqrt(d) relative to |x|, .674 being the
   median of the absolute value of a standard normal number.
2. It flips the sign since f is close to linear there: what is left of f after this step, which a
   linear function would bring to 0, vanishes as d grows.
3. Depth must be limited: the cosine of two inputs tends to 1 layer by layer, 1 - cosine being about
   9 pi^2 / (2 L^2) at depth L, and a network of 150 layers varies by less than 30 % of its value
   over all inputs, with constant probability.
4. The other mechanism, label noise: the least-norm interpolant of noisy labels in a regression with
   benign overfitting (five strong directions and 4000 weak ones) predicts well, and a much shorter
   step than without the noise changes its output by a given amount.

Control: a step in a random direction; a perturbation as long as the input; networks of three
layers; labels without noise, and as many weak directions as samples, where overfitting is not
benign.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rlop.experiments.outcome import Outcome
from rlop.experiments.series import power_law_exponent

NETS = {100: 400, 300: 150, 900: 60}  # dimension -> networks; small ones vary more, and cost less
LAYERS = 3  # hidden ones
FACTORS = np.arange(1, 5, 0.05)  # of the step that would reach 0 if f were linear

DEEP = 150
SHALLOW = 3
DEEP_WIDTH = 300
DEEP_NETS = 24
INPUTS = 20
NEARLY = 0.3  # a function that varies by less, relative to its mean, is close to constant

SAMPLES = 100
STRONG = 5
WEAK = 4000
NOISE = 0.5


class Attack(NamedTuple):
    """One step on one random network."""

    radius: float  # of the shortest step that flips the sign, over |x|; infinite if none does
    rest: float  # |f| after the step that would reach 0 if f were linear, over |f| before


def attack(d: int, rng: np.random.Generator, direct: bool) -> Attack:
    """Draw a network and an input, and step along the gradient.

    Args:
        d: dimension and width.
        rng: source of all random numbers.
        direct: whether to step along the gradient. If not, the radius is that of a random
            direction, and the rest that after a perturbation as long as the input, against the
            linear prediction.
    """
    weights = [rng.normal(size=(d, d), scale=(2 / d) ** 0.5) for _ in range(LAYERS)]
    head = rng.normal(size=d) / d**0.5
    x = rng.normal(size=d)

    def f(points: np.ndarray) -> np.ndarray:
        for w in weights:
            points = np.maximum(points @ w.T, 0)
        return points @ head

    gates, hidden = [], x
    for w in weights:
        hidden = np.maximum(w @ hidden, 0)
        gates.append(hidden > 0)
    value = float(hidden @ head)

    gradient = head
    for w, gate in zip(weights[::-1], gates[::-1]):
        gradient = (gradient * gate) @ w

    step = -value * gradient / (gradient @ gradient)
    if direct:
        rest = abs(float(f(x + step))) / abs(value)
    else:
        direction = rng.normal(size=d)
        step = direction / np.linalg.norm(direction) * np.linalg.norm(step)
        far = direction / np.linalg.norm(direction) * np.linalg.norm(x)
        rest = abs(float(f(x + far)) - value - float(gradient @ far)) / abs(value)

    flips = f(x + FACTORS[:, None] * step) * value < 0
    shortest = FACTORS[flips].min() if flips.any() else np.inf
    return Attack(float(shortest * np.linalg.norm(step) / np.linalg.norm(x)), rest)


class Attacks(NamedTuple):
    """Medians over networks in each dimension."""

    radius: list[float]
    rest: list[float]
    flipped: float  # share of networks that a step of `FACTORS` flips, in the largest dimension


def attacks(seed: int, direct: bool) -> Attacks:
    """Attack the networks of every dimension."""
    rng = np.random.default_rng(seed)
    radii, rests, flipped = [], [], 0.0
    for d, networks in NETS.items():
        found = [attack(d, rng, direct) for _ in range(networks)]
        radii.append(float(np.median([a.radius for a in found])))
        rests.append(float(np.median([a.rest for a in found])))
        flipped = float(np.mean([np.isfinite(a.radius) for a in found]))
    return Attacks(radii, rests, flipped)


def nearly_constant(depth: int, seed: int) -> float:
    """Count the share of networks that vary little over inputs, relative to their mean output."""
    rng = np.random.default_rng(seed)
    near = 0
    for _ in range(DEEP_NETS):
        hidden = rng.standard_normal((INPUTS, DEEP_WIDTH), dtype=np.float32)
        hidden /= np.linalg.norm(hidden, axis=1, keepdims=True)
        for _ in range(depth):
            w = rng.standard_normal((DEEP_WIDTH, DEEP_WIDTH), dtype=np.float32)
            hidden = np.maximum(hidden @ w, 0)
            hidden /= np.linalg.norm(hidden, axis=1).mean()  # the scale of the output is free

        output = hidden @ rng.normal(size=DEEP_WIDTH)
        near += int(output.std() < NEARLY * abs(output.mean()))
    return near / DEEP_NETS


class Interpolant(NamedTuple):
    """The least-norm interpolant of a regression with strong and weak directions."""

    norm: float  # of its coefficients: the inverse of the step that changes its output by 1
    excess: float  # error against the noiseless target, over the variance of the noise


def interpolate(weak: int, noise: float, seed: int) -> Interpolant:
    """Interpolate labels with noise; all the weak directions together have variance 1."""
    rng = np.random.default_rng(seed)
    scale = np.concatenate([np.ones(STRONG), np.full(weak, weak**-0.5)])
    target = np.concatenate([np.ones(STRONG) / STRONG**0.5, np.zeros(weak)])
    x = rng.normal(size=(SAMPLES, STRONG + weak)) * scale
    y = x @ target + noise * rng.normal(size=SAMPLES)

    found = np.linalg.lstsq(x, y, rcond=None)[0]
    excess = float((((found - target) * scale) ** 2).sum())
    return Interpolant(float(np.linalg.norm(found)), excess / NOISE**2)


def values_of(
    found: Attacks, deep: float, clean: Interpolant, noisy: Interpolant, benign: Interpolant
) -> dict[str, float]:
    """Name the measures."""
    dimensions = list(NETS)
    largest = dimensions[-1]
    values = {
        f"median radius * sqrt(d), d = {largest}": min(found.radius[-1], 10.0) * largest**0.5,
        "share of networks flipped, largest d": found.flipped,
        "rest after the linear step: exponent of d": power_law_exponent(dimensions, found.rest),
        "150 layers: share of networks nearly constant": deep,
        "step that changes an interpolant, noisy / clean labels": clean.norm / noisy.norm,
        "error of the noisy interpolant / variance of the noise": benign.excess,
    }
    finite = np.minimum(found.radius, 10.0)
    values["radius: exponent of d"] = power_law_exponent(dimensions, finite)
    return values


def run(seed: int) -> Outcome:
    """Attack random networks of three hidden layers in 100 to 900 dimensions."""
    found = attacks(seed, direct=True)
    clean, noisy = interpolate(WEAK, 0.0, seed), interpolate(WEAK, NOISE, seed)
    values = values_of(found, nearly_constant(DEEP, seed), clean, noisy, noisy)

    dimensions = list(NETS)
    curves = {
        "median": (dimensions, found.radius),
        ".674 / sqrt(d)": (dimensions, [0.674 * d**-0.5 for d in dimensions]),
        "rest of f after the step": (dimensions, found.rest),
    }
    return Outcome(values, curves, x="dimension and width", y="||step|| / ||x||", log="xy")


def control(seed: int) -> dict[str, float]:
    """Step in random directions, and far; shallow networks; no noise, and too few directions."""
    found = attacks(seed, direct=False)
    clean = interpolate(WEAK, 0.0, seed)
    harmful = interpolate(SAMPLES - STRONG, NOISE, seed)
    return values_of(found, nearly_constant(SHALLOW, seed), clean, clean, harmful)
