"""Records of experiments as lines for the terminal and as `REPRODUCTION.md`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from rlop.experiments.catalogue import Abstract, Clause, Measure, Workshop
from rlop.experiments.provenance import Commit
from rlop.experiments.records import Record, Records, seconds_per_seed
from rlop.experiments.verdicts import (
    FEWEST_SEEDS,
    NO_VERDICT,
    NOT_REPRODUCED,
    REPRODUCED,
    UNDECIDED,
    UNTESTED,
    Result,
    Sample,
    clause_verdict,
    result,
)

VERDICTS = (REPRODUCED, NOT_REPRODUCED, UNDECIDED, UNTESTED, NO_VERDICT)
PICTURES = "docs/reproduction"  # folder beside the page, NUMBER.png in it

HEAD = f"""# Reproduction

The 51 abstracts of the workshop "Over-parameterization: Pitfalls and Opportunities" (ICML 2021):
what each claims, clause by clause, and what the experiments here measured. Made by
`scripts/reproduce.py`; the claims and bands are those of `rlop/experiments/workshop.yaml`.

How to read it. A **measure** is one number of an experiment, given as the mean over independent
seeds with its 95 % Student-t interval. Its **band** was written down before the runs that decide,
from what stands under "source"; the date and commit are those of its last change. The measure is
*{REPRODUCED}* if the interval lies inside of the band, *{NOT_REPRODUCED}* if the two have nothing
in common, else *{UNDECIDED}*; below {FEWEST_SEEDS} seeds there is no verdict. "Seeds" counts those
whose own number lies in the band. The **control** is the same number where the effect is absent by
construction: it must not pass the band, or the measure could not fail. A **clause** takes the worst
verdict of its measures. **Cost** is processor time for one seed, run and control together.
"""


def band(measure: Measure) -> str:
    """Write the accepted band as `[a, b]`, `>= a` or `<= b`."""
    low, high = _short(measure.low), _short(measure.high)
    if math.isinf(measure.high):
        return f">= {low}"
    if math.isinf(measure.low):
        return f"<= {high}"
    if low == high:  # narrower than four digits show
        low, high = f"{measure.low:.7g}", f"{measure.high:.7g}"

    return f"[{low}, {high}]"


def interval(sample: Sample) -> str:
    """Write a mean with its interval as `m [a, b]`; one number alone where there is no interval."""
    if not sample.values:
        return "-"
    mean, low, high = sample.interval
    if math.isnan(low) or low == high:
        return _short(mean)
    return f"{_short(mean)} [{_short(low)}, {_short(high)}]"


def _short(value: float) -> str:
    return f"{value:.4g}"


def lines_of(record: Record, measures: Sequence[Measure]) -> str:
    """Write a record for the terminal: a line with its cost, and one for each measure."""
    name = f"{record.experiment}, seed {record.seed}, {record.part}"
    lines = [f"{name} ({record.seconds:.0f} s)"]
    for measure in measures:
        value = _short(record.values[measure.name])
        lines.append(f"    {measure.name:60} {value:>10}  {band(measure):20} {measure.source}")
    return "\n".join(lines)


def summary(catalogue: Workshop, records: Records, rows: Sequence[int]) -> str:
    """Write one line for each abstract for the terminal: its clauses by verdict, and its cost."""
    lines = []
    for abstract in catalogue.abstracts:
        if abstract.number in rows:
            counts = Counter(clause_verdict(clause, records) for clause in abstract.clauses)
            told = ", ".join(
                f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict]
            )
            cost = seconds_per_seed(records.records, abstract.experiments)
            lines.append(
                f"{abstract.number:3} {abstract.title[:50]:50} {told} ({cost:.0f} s a seed)"
            )
    return "\n".join(lines)


def markdown(
    catalogue: Workshop,
    records: Records,
    commits: Mapping[tuple[str, str], Commit],
    pictures: Collection[int] = (),
) -> str:
    """Write the whole of `REPRODUCTION.md`.

    Args:
        catalogue: abstracts with their clauses and bands.
        records: numbers of the runs.
        commits: (experiment, name of a measure) -> commit of the last change of its band; empty if
            unknown.
        pictures: numbers of the abstracts that have a picture in `PICTURES`.
    """
    clauses: Counter[str] = Counter()
    for abstract in catalogue.abstracts:
        clauses.update(clause_verdict(clause, records) for clause in abstract.clauses)
    told = ", ".join(f"{clauses[verdict]} {verdict}" for verdict in VERDICTS if clauses[verdict])

    parts = [HEAD, _made_by(records, bool(commits)), f"{clauses.total()} clauses: {told}.\n"]
    parts.append("| # | abstract | reproduced | not reproduced | undecided | not tested | cost |")
    parts.append("|---|---|---|---|---|---|---|")
    for abstract in catalogue.abstracts:
        parts.append(_summary(abstract, records))
    for abstract in catalogue.abstracts:
        parts.append(_section(abstract, records, commits, abstract.number in pictures))
    return "\n".join(parts) + "\n"


def _made_by(records: Records, has_git: bool) -> str:
    """Say from what the numbers are: command, dates, commits, versions, seeds, cost."""
    if not records.records:
        return "Nothing was run yet.\n"

    days = sorted({record.day for record in records.records})
    commits = sorted({record.commit or "unknown" for record in records.records})
    seeds = sorted({record.seed for record in records.records})
    versions = records.records[0].versions
    packages = ", ".join(f"{name} {number}" for name, number in versions.items())
    hours = sum(record.seconds for record in records.records) / 3600

    lines = [
        f"Made by `{records.command}` from {len(records.records)} runs and controls, "
        f"{days[0]} to {days[-1]}, seeds {', '.join(map(str, seeds))}, at commit "
        f"{', '.join(commits)} (+: with changes), with {packages}; {hours:.1f} hours of processor "
        "time.",
    ]
    if not has_git:
        lines.append("The commits of the bands are unknown: this page was written without git.")
    return " ".join(lines) + "\n"


def _summary(abstract: Abstract, records: Records) -> str:
    """Write the abstract's row of the first table."""
    counts = Counter(clause_verdict(clause, records) for clause in abstract.clauses)
    cells = [str(abstract.number), f"[{abstract.title}](#row-{abstract.number})"]
    for verdict in (REPRODUCED, NOT_REPRODUCED, UNDECIDED, UNTESTED):
        cells.append(str(counts[verdict] or ""))
    cells.append(_cost(abstract, records) if abstract.experiments else "")
    return _row(cells)


def _cost(abstract: Abstract, records: Records) -> str:
    return f"{seconds_per_seed(records.records, abstract.experiments):.0f} s"


def _row(cells: Sequence[str]) -> str:
    # A bar inside a cell would end it.
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _section(
    abstract: Abstract,
    records: Records,
    commits: Mapping[tuple[str, str], Commit],
    has_picture: bool,
) -> str:
    """Write the abstract's section: its claim by clauses, their measures, picture and note."""
    number = abstract.number
    reference = f" arXiv:{abstract.arxiv}." if abstract.arxiv else ""
    lines = [
        f'\n<a id="row-{number}"></a>\n\n## {number}. {abstract.title}\n',
        f"{abstract.authors}.{reference}",
    ]
    if abstract.experiments:
        names = ", ".join(f"`{name}`" for name in abstract.experiments)
        lines[-1] += f" Experiments: {names}; {_cost(abstract, records)} for one seed."

    for clause in abstract.clauses:
        lines += _clause(clause, records, commits)
    if has_picture:
        lines.append(f"\n![{abstract.title}]({PICTURES}/{number}.png)")
    if abstract.note:
        lines.append(f"\n{abstract.note}")
    return "\n".join(lines)


def _clause(
    clause: Clause, records: Records, commits: Mapping[tuple[str, str], Commit]
) -> list[str]:
    """Write a clause with its verdict, and a table of its measures or the reason for none."""
    lines = [f"\n**{clause_verdict(clause, records)}**: {clause.text}"]
    if clause.untested:
        return [*lines, f"\nNot tested: {clause.untested}"]

    lines += [
        "\n| measure | mean [95 %] | band | seeds | control [95 %] | verdict | source |",
        "|---|---|---|---|---|---|---|",
    ]
    for measure in clause.measures:
        place = (measure.experiment, measure.name)
        lines.append(measure_row(result(measure, records), commits.get(place)))
    return lines


def measure_row(result: Result, commit: Commit | None) -> str:
    """Write the row of a measure.

    Args:
        result: the measure with its numbers.
        commit: commit of the last change of its band, None if unknown.
    """
    measure = result.measure
    source = f"{measure.source} ({measure.fixed.isoformat()}"
    if commit is not None:
        source += f", {commit.name}" if commit.name else ", not committed"
    source += ")"
    if measure.moved:
        source += f"; moved: {measure.moved}"

    control = interval(result.control)
    if result.control.values and not result.has_power:
        control += " passes: no power"
    cells = (
        measure.name,
        interval(result.run),
        band(measure),
        f"{result.run.inside(measure)} of {len(result.run.values)}",
        control,
        result.verdict,
        source,
    )
    return _row(cells)
