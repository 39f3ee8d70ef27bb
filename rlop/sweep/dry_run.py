"""What a sweep would run, its time and memory, without running it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlop.report.tables import aligned
from rlop.sweep.launches import Group, Launch
from rlop.sweep.plan import Plan
from rlop.sweep.sizing import Cost
from rlop.sweep.table import steps_of
from rlop.training.plan import duration

REASONS = 3  # that are shown of why something was not measured


@dataclass(frozen=True)
class Estimate:
    """Seconds and mebibytes of a launch; None where they are unknown."""

    seconds: float | None
    mebibytes: float | None


def preview(plan: Plan, found: Sequence[Group], costs: Sequence[Cost | str], jobs: int) -> str:
    """Return the text of `rlop sweep --dry-run`.

    Args:
        plan: of the sweep.
        found: its groups, in the order of the launches.
        costs: of each group, or why there is none.
        jobs: launches at a time.
    """
    settings = len(plan.configurations)
    runs = sum(launch.runs for launch in plan.launches)
    columns = [["launch"], ["runs"], ["steps"], ["time"], ["memory"]]
    estimates, reasons = [], []
    for launch, cost in zip(plan.launches, _of_launches(plan, found, costs)):
        estimate = _estimate(launch, cost)
        estimates.append(estimate)
        if isinstance(cost, str) and cost not in reasons:
            reasons.append(cost)
        cells = [
            launch.name,
            str(launch.runs),
            f"{steps_of(launch):,}",
            "-" if estimate.seconds is None else duration(estimate.seconds),
            "-" if estimate.mebibytes is None else f"{estimate.mebibytes / 1024:.2f} GiB",
        ]
        for column, cell in zip(columns, cells):
            column.append(cell)

    lines = [f"{settings} configurations, {runs} runs, in {len(plan.launches)} launches:"]
    lines.append(aligned(columns))
    for launch in plan.launches:
        if launch.settings:
            lines.append(f"{launch.name} holds {'; '.join(launch.settings)}")
    lines += reasons[:REASONS]
    if len(reasons) > REASONS:
        lines.append(f"... and {len(reasons) - REASONS} more could not be measured")
    lines.append(_total(estimates, jobs))
    lines.append("nothing was written")
    return "\n".join(lines)


def _of_launches(
    plan: Plan, found: Sequence[Group], costs: Sequence[Cost | str]
) -> list[Cost | str]:
    """Return the cost of each launch: launches stand in the order of their groups."""
    result: list[Cost | str] = []
    for group, cost in zip(found, costs):
        left = len(group.members)
        while left > 0:
            left -= max(1, len(plan.launches[len(result)].settings))
            result.append(cost)
    return result


def _estimate(launch: Launch, cost: Cost | str) -> Estimate:
    if isinstance(cost, str):
        return Estimate(None, None)
    count = max(1, len(launch.settings))
    return Estimate(cost.seconds(count) * steps_of(launch), cost.mebibytes(count))


def _total(estimates: Sequence[Estimate], jobs: int) -> str:
    """Return the time of all launches, the next one on the job that is free first."""
    ends = [0.0] * jobs
    for estimate in estimates:
        if estimate.seconds is None:
            return "total:  unknown, since not all launches could be measured"
        ends[ends.index(min(ends))] += estimate.seconds
    return (
        f"total:  about {duration(max(ends))}, {jobs} at a time, "
        "by uncompiled updates on this machine, without evaluation"
    )
