"""Measure how often the intervals of reports hold the interquartile mean they are meant for.

    python scripts/coverage.py

For each number of runs: the share of nominal 95 % intervals, in percent, for scores of four
distributions, as shipped in `rlop/report/intervals.py`; and the same for the bootstrap alone.
"""

import argparse

import numpy as np

from rlop.report.aggregates import bootstrap, interquartile_mean
from rlop.report.intervals import interval

COUNTS = (3, 4, 5, 6, 7, 8, 10, 16)
DISTRIBUTIONS = {
    "normal": lambda rng, size: rng.normal(size=size),
    "uniform": lambda rng, size: rng.uniform(size=size),
    "log-normal": lambda rng, size: rng.lognormal(sigma=0.5, size=size),
    "two values": lambda rng, size: (rng.uniform(size=size) < 0.3) + rng.normal(0, 0.1, size),
}


def truth(draw, rng) -> float:
    """Return the interquartile mean of a distribution, from two million draws."""
    ordered = np.sort(draw(rng, 2_000_000))
    return float(ordered[500_000:1_500_000].mean())


def coverage(draw, count: int, trials: int, seed: int = 0) -> tuple[float, float]:
    """Return the percentage of intervals that hold the truth: the report's, and the bootstrap's."""
    rng = np.random.default_rng([seed, count])
    middle = truth(draw, rng)
    # Every column is a group of runs of its own.
    values = draw(rng, (count, trials))
    low, high = interval(values)

    def each(drawn):
        return interquartile_mean(np.moveaxis(drawn, -1, 1)[..., None])

    narrow, wide = bootstrap(each, values, samples=500)
    shown = ((low <= middle) & (middle <= high)).mean()
    plain = ((narrow <= middle) & (middle <= wide)).mean()
    return 100 * shown, 100 * plain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=4000, help="groups for each number")
    args = parser.parse_args()

    print("runs ", *(f"{name:>12}" for name in DISTRIBUTIONS), "   (bootstrap alone)")
    for count in COUNTS:
        pairs = [coverage(draw, count, args.trials) for draw in DISTRIBUTIONS.values()]
        shown = " ".join(f"{value:12.1f}" for value, _ in pairs)
        plain = " ".join(f"{value:.1f}" for _, value in pairs)
        print(f"{count:4}  {shown}    ({plain})")


if __name__ == "__main__":
    main()
