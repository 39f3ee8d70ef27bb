"""The page of claims about neural TD: what each says, its measures with their bands, verdicts.

Bands were written before the runs that they judge, from the theorem or the plain sense of the
claim; `FIXED` is their date.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from rlop.experiments.neural_td_claims import (
    EPSILONS,
    KINDS,
    OFF_POLICY_RADII,
    ON_POLICY_RADII,
    TIMES_NU,
    TUNED_EPSILONS,
    WIDTH_RADII,
    WIDTHS,
    Values,
)
from rlop.report.statistics import mean_ci

FIXED = "2026-11-26"
COMMAND = "python scripts/claims.py neural-td --only"
THEOREM = "upper bound of the theorem"
PLAIN = "the claim; 1 would be no difference"
BETTER = 1.05  # ratio above which one is better than the other

HEAD = """# Neural TD, claim by claim

What Cayci, Satpathi, He and Srikant (arXiv:2103.01391) prove or say, measured with
`rlop.agents.NeuralTD` on single transitions of a small process whose values have a known norm nu =
1 (`rlop/experiments/neural_td_process.py`). Mean and 95 % Student-t interval over {count} seeds
({seeds}), which share the process but neither network nor samples; row 32 of REPRODUCTION.md draws
a new process for each seed. Bands are of {fixed}, before these seeds were run: *holds* if the
interval lies inside, *fails* if outside, else *undecided*; rows without a band are reported. The
theorem asks for some 10^7 neurons at these eps, 256 were trained: the measures say what happens
outside of its conditions, too. Made by `python scripts/claims.py neural-td` ({minutes:.0f} minutes
of processor time); every cell by the command of its row.
"""


class Record(TypedDict):
    """Result of one part, as `scripts/claims.py` keeps it."""

    part: str
    seeds: list[int]
    seconds: float
    values: Values


@dataclass(frozen=True)
class Row:
    """One measure of a part, with its band.

    Args:
        part: of `rlop.experiments.neural_td_claims.plan`.
        measure: its name there.
        low: lower end of the band.
        high: upper end.
        source: why this band.
    """

    part: str
    measure: str
    low: float = -math.inf
    high: float = math.inf
    source: str = ""


@dataclass(frozen=True)
class Series:
    """Measures of a part that are reported side by side, without bands.

    Args:
        part: of `rlop.experiments.neural_td_claims.plan`.
        label: what the row of the table says.
        measures: their names.
    """

    part: str
    label: str
    measures: tuple[str, ...]


@dataclass(frozen=True)
class Claim:
    """A claim in our words, what has to be said about its test, and its measures."""

    text: str
    note: str
    rows: tuple[Row | Series, ...]


def _series(part: str, stem: str, ends: Sequence[object]) -> Series:
    """Build the series of the measures `stem` + each end."""
    label = f"{stem}{', '.join(map(str, ends))}"
    return Series(part, label, tuple(f"{stem}{end}" for end in ends))


def _theory(kind: str, high: float) -> tuple[Row | Series, ...]:
    part = f"theory-{kind}"
    samples = _series(part, "samples to ", EPSILONS)
    return samples, Row(part, "exponent", high=high, source=THEOREM)


def _tuned() -> tuple[Row | Series, ...]:
    rows: list[Row | Series] = []
    for kind in KINDS:
        rows.append(_series("tuned", f"{kind}: samples to ", TUNED_EPSILONS))
        rows.append(_series("tuned", f"{kind}: step for ", TUNED_EPSILONS))
        rows.append(_series("tuned", f"{kind}: ", ["exponent"]))

    for kind in KINDS[:2]:
        for epsilon in TUNED_EPSILONS:
            measure = f"{kind} / max_norm: samples to {epsilon}"
            rows.append(Row("tuned", measure, low=BETTER, source=PLAIN))
    return tuple(rows)


def _widths() -> tuple[Row | Series, ...]:
    bands = {"free": -1 / 6, "frobenius": -1 / 8, "max_norm": -1 / 2}
    rows: list[Row | Series] = []
    for radius in WIDTH_RADII:
        for kind in KINDS:
            label = f"{kind}({radius:g})"
            rows.append(_series("width", f"{label}: error at m = ", WIDTHS))
            rows.append(Row("width", f"{label}: exponent of m", high=bands[kind], source=THEOREM))
    return tuple(rows)


def _equal_radius() -> tuple[Row | Series, ...]:
    settings = []
    for radius in ON_POLICY_RADII:
        settings += [f"R = {radius:g} nu, lr {lr:g}" for lr in (0.1, 1.0)]

    rows: list[Row | Series] = []
    for kind in KINDS:
        rows.append(_series("radius", f"{kind}: error, ", settings))
    for kind in KINDS[:2]:
        for setting in settings[2:]:  # below nu the theorem promises nothing
            measure = f"{kind} / max_norm: error, {setting}"
            rows.append(Row("radius", measure, low=BETTER, source=PLAIN))
    return tuple(rows)


def _off_policy() -> tuple[Row | Series, ...]:
    settings = [f"R = {radius:g}" for radius in OFF_POLICY_RADII]
    rows: list[Row | Series] = [Row("off-policy", "free: diverged", low=1, source="the claim")]
    for kind in KINDS[1:]:
        rows.append(_series("off-policy", f"{kind}: error of the average, ", settings))
        for setting in settings:
            measure = f"{kind}: largest |V| / R, {setting}"
            rows.append(Row("off-policy", measure, 0, 1, "|V| <= R |x| in either ball"))

    for setting in settings:
        measure = f"frobenius / max_norm: largest |V|, {setting}"
        rows.append(Row("off-policy", measure, low=BETTER, source=PLAIN))
    return tuple(rows)


CLAIMS = (
    Claim(
        "Samples to an error eps: eps^-4 with a ball around each neuron, eps^-6 without, eps^-4 "
        "with one ball around all (Cai et al.).",
        "With the step sizes of the theory, which shrink as eps^2 and, without a projection, as "
        "eps^4. In the linearized limit without noise, whose solution is closed, the exponents "
        "here would be about 3.3 and 4.8: most of the difference is the smaller step.",
        (
            *_theory("max_norm", high=4),
            *_theory("frobenius", high=4),
            *_theory("free", high=6),
        ),
    ),
    Claim(
        "A ball around each neuron needs fewer samples, also where each algorithm takes its best "
        "constant step.",
        "The step is the best of five, by other seeds; equal budgets. A run that does not get "
        "there counts with all its samples.",
        _tuned(),
    ),
    Claim(
        "Neurons: eps^-2 with a ball around each, eps^-6 without, eps^-8 with one ball around all: "
        "the error that is left falls at least as m^-1/2, m^-1/6, m^-1/8.",
        "At the constant step .1 after 20,000 samples, R in units of nu in brackets. The paper's "
        "body was not at hand: its exponents of the width are from summaries.",
        _widths(),
    ),
    Claim(
        "The error of the averaged iterate lies under its bound, (1 + 2 R) nu / (eps (1 - gamma) "
        "sqrt(T)) + 3 eps, at all T.",
        "The bound is below the RMS of V itself, which is the error of the start, at the smallest "
        "eps only, after about 200,000 samples.",
        (Row("theory-max_norm", "largest error / bound", 0, 1, THEOREM),),
    ),
    Claim(
        "The averaged iterate is the one to return.",
        "At the constant step 1, after all samples.",
        tuple(
            Row("tuned", f"{kind}: last error / averaged", low=BETTER, source=PLAIN)
            for kind in KINDS
        ),
    ),
    Claim(
        "Without a projection no neuron leaves the ball of radius lambda / sqrt(m) before the "
        "error is reached, with probability at least 1 - delta.",
        "At the four eps and the steps of the theory, lambda = 1.2 nu times 0.16 / eps; delta = "
        ".1. Below, when the first neuron leaves smaller balls at the smallest eps.",
        (
            Row("theory-free", "share that leaves lambda before eps", 0, 0.1, "delta"),
            _series("theory-free", "first exit from ", [f"{times:g} nu" for times in TIMES_NU]),
        ),
    ),
    Claim(
        "At equal radius R > nu a ball around each neuron serves better than one around all, and "
        "better than none: on policy.",
        "After 6,000 samples.",
        _equal_radius(),
    ),
    Claim(
        "The same off policy, where free TD diverges (V = 0).",
        "Every state is drawn equally often and leads to one whose input is twice as large.",
        _off_policy(),
    ),
)


def verdict(values: Sequence[float], low: float, high: float) -> str:
    """Compare the 95 % interval of a mean with a band.

    Returns:
        `holds` if the interval lies inside, `fails` if outside or where a value is NaN, else
        `undecided`.
    """
    _, lower, upper = mean_ci(values)
    if low <= lower and upper <= high:
        return "holds"
    if lower <= high and upper >= low:
        return "undecided"
    return "fails"


def page(records: Sequence[Record]) -> str:
    """Write the page from the records of all parts that have run."""
    values = {record["part"]: record["values"] for record in records}
    seeds = records[0]["seeds"]
    minutes = sum(record["seconds"] for record in records) / 60
    parts = [
        HEAD.format(
            count=len(seeds), seeds=f"{seeds[0]} to {seeds[-1]}", fixed=FIXED, minutes=minutes
        )
    ]
    for number, claim in enumerate(CLAIMS, 1):
        parts.append(f"## {number}. {claim.text}\n")
        if claim.note:
            parts.append(f"{claim.note}\n")
        parts.append("| measure | mean [interval] | band | source | verdict | command |")
        parts.append("|---|---|---|---|---|---|")
        parts += [line(row, values.get(row.part, {})) for row in claim.rows]
        parts.append("")
    return "\n".join(parts)


def line(row: Row | Series, values: Values) -> str:
    """Write one line of a table; a measure that was not run says so."""
    kind = row.part.removeprefix("theory-")
    prefix = f"{kind}: " if kind != row.part else ""
    command = f"`{COMMAND} {row.part}`"

    if isinstance(row, Series):
        texts = [interval(numbers(values.get(measure, ()))) for measure in row.measures]
        return table_line([prefix + row.label, "; ".join(texts), "", "", "", command])

    measured = numbers(values.get(row.measure, ()))
    judged = verdict(measured, row.low, row.high) if measured else ""
    name = prefix + row.measure
    return table_line([name, interval(measured), band(row), row.source, judged, command])


def table_line(cells: Sequence[str]) -> str:
    """Write a line of a Markdown table."""
    escaped = [cell.replace("|", "\\|") for cell in cells]
    return f"| {' | '.join(escaped)} |"


def numbers(values: Sequence[float | None]) -> list[float]:
    """Return values with NaN where there is none."""
    return [math.nan if value is None else value for value in values]


def interval(values: Sequence[float]) -> str:
    """Write mean and interval; median and count where some values are not finite."""
    if not values:
        return "not run"
    finite = np.isfinite(values)
    if not finite.all():
        missing = f"not within the run in {(~finite).sum()} of {len(values)}"
        if not finite.any():
            return missing
        return f"{np.median(np.asarray(values)[finite]):.3g} median of the others, {missing}"

    mean, low, high = mean_ci(values)
    return f"{mean:.3g} [{low:.3g}, {high:.3g}]" if len(values) > 1 else f"{mean:.3g}"


def band(row: Row) -> str:
    """Write the band of a row."""
    if math.isinf(row.high):
        return f"at least {row.low:.3g}"
    return f"at most {row.high:.3g}" if math.isinf(row.low) else f"{row.low:g} to {row.high:g}"
