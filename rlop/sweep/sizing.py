"""How many configurations a launch gets: what a few updates of one and of several of them cost."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, inf
from pathlib import Path
from typing import NamedTuple

import torch

from rlop.config.files import to_dict
from rlop.data.dataset import Dataset
from rlop.logs.messages import say
from rlop.sweep.file import Values
from rlop.sweep.launches import Checked, Group, Launch, launches
from rlop.training.plan import data_on_disk, seconds_per_step
from rlop.training.run import experiment_of, make_agent, peak_mebibytes
from rlop.types import InputError

COMPARED = 8  # configurations of the larger of the two launches that are measured
UNMEASURED_RUNS = 64  # of a launch, where nothing could be measured
SHARE = 0.8  # of the free memory that launches may fill, the machine's and a GPU's
MEBI = 2**20


@dataclass(frozen=True)
class Line:
    """A cost that grows with the number of configurations in a launch."""

    fixed: float
    each: float

    def __call__(self, count: float) -> float:
        """Return the cost of a launch of so many configurations."""
        return self.fixed + self.each * count

    def most(self, limit: float) -> float:
        """Return how many configurations cost no more than a limit; infinity where each is free."""
        if self.each <= 0:
            return inf
        return max(0, int((limit - self.fixed) / self.each))


@dataclass(frozen=True)
class Cost:
    """What the launches of a group cost on this machine.

    Args:
        seconds: of one step.
        mebibytes: of the process, at most, its data included.
        gpu: mebibytes of its GPU, at most; None without one.
        gpu_free: mebibytes of that GPU that launches can get.
    """

    seconds: Line
    mebibytes: Line
    gpu: Line | None = None
    gpu_free: float = inf


class GpuMemory(NamedTuple):
    """Mebibytes of a GPU: what this process has taken at most, and what one like it could get."""

    peak: float
    free: float


def measure(group: Group) -> Cost | str:
    """Measure launches of one and of several configurations in a process of their own.

    Returns:
        The cost; or why there is none.
    """
    counts = list(dict.fromkeys([1, min(len(group.members), COMPARED)]))
    values = [_launch(group.members[:count], group).values for count in counts]
    answer = in_child(values)
    if isinstance(answer, str):
        return answer

    seconds = [row["seconds"] for row in answer]
    mebibytes = [row["mebibytes"] for row in answer]
    cost = Cost(_line(counts, seconds), _line(counts, mebibytes))
    if "gpu" not in answer[0]:
        return cost

    gpu = _line(counts, [row["gpu"] for row in answer])
    return replace(cost, gpu=gpu, gpu_free=min(row["gpu_free"] for row in answer))


def in_child(configurations: Sequence[Values]) -> list[dict[str, float]] | str:
    """Return what `measured_here` says in a new process, whose peak memory is that of a launch."""
    done = subprocess.run(
        [sys.executable, "-m", "rlop.sweep.sizing"],
        input=json.dumps(to_dict(configurations)),
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        answer: list[dict[str, float]] | str = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        reason = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        return f"not measured: {reason.removeprefix('rlop: ')}"
    return answer


def measured_here(configurations: Sequence[Values]) -> list[dict[str, float]] | str:
    """Measure the launches of these configurations, which have their data in common.

    Returns:
        Seconds of a step, peak memory of the process, and that of its GPU where it has one, for
        each; or why there is nothing.
    """
    try:
        data = data_on_disk(experiment_of(configurations[0], "sweep"))
        if isinstance(data, str):
            return data

        rows = [_row(values, data) for values in configurations]
    except InputError as error:
        return f"not measured: {error}"
    return rows


def _row(values: Values, data: Dataset) -> dict[str, float]:
    """Measure the launch of one configuration."""
    agent = make_agent(experiment_of(values, "sweep"), data)
    forget_gpu(agent.device)
    row = {"seconds": seconds_per_step(agent, data), "mebibytes": peak_mebibytes() or 0.0}
    gpu = gpu_memory(agent.device)
    return row if gpu is None else {**row, "gpu": gpu.peak, "gpu_free": gpu.free}


def forget_gpu(device: torch.device) -> None:
    """Give back what earlier measurements hold of a GPU, and let its peak begin again."""
    if device.type == "cuda":
        gc.collect()  # an agent refers to itself
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def gpu_memory(device: torch.device) -> GpuMemory | None:
    """Return what a GPU has for this process; None for another device."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    held = torch.cuda.memory_reserved(device)
    return GpuMemory(torch.cuda.max_memory_reserved(device) / MEBI, (free + held) / MEBI)


def counts(
    found: Sequence[Group],
    costs: Sequence[Cost | str | None],
    jobs: int,
    room: float | None,
    gpu_share: float | None = None,
) -> list[int]:
    """Return the number of launches of each group.

    They are as few as memory allows, but of about one length where there is more than one job.

    Args:
        found: the groups.
        costs: of each group, where known.
        jobs: launches at a time.
        room: mebibytes for one launch; None for no limit.
        gpu_share: of a GPU's free memory that is for one launch; by default jobs share one GPU.
    """
    gpu_share = 1 / jobs if gpu_share is None else gpu_share
    known = [cost for cost in costs if isinstance(cost, Cost)]
    lengths = []
    for group, cost in zip(found, costs):
        steps = group.members[0].experiment.steps
        runs = sum(item.runs for item in group.members)
        if len(known) == len(found) and isinstance(cost, Cost):
            lengths.append(steps * cost.seconds(len(group.members)))
        else:
            lengths.append(float(steps * runs))

    target = sum(lengths) / jobs
    result = []
    for group, cost, length in zip(found, costs, lengths):
        size = len(group.members)
        for_jobs = round(length / target)
        for_memory = ceil(size / _largest(group, cost, room, gpu_share))
        result.append(min(size, max(1, for_jobs, for_memory)))
    return result


def _largest(group: Group, cost: Cost | str | None, room: float | None, gpu_share: float) -> int:
    """Return how many configurations of a group fit into one launch; at least one."""
    if not isinstance(cost, Cost):
        return max(1, UNMEASURED_RUNS // group.members[0].runs)
    fitting: list[float] = [len(group.members)]
    if room is not None:
        fitting.append(cost.mebibytes.most(room))
    if cost.gpu is not None:
        fitting.append(cost.gpu.most(SHARE * gpu_share * cost.gpu_free))
    return max(1, int(min(fitting)))


def measured(found: Sequence[Group]) -> list[Cost | str]:
    """Measure all groups, one after the other."""
    costs = []
    for number, group in enumerate(found, start=1):
        say(f"measuring {number} of {len(found)}: {_launch(group.members[:1], group).name}")
        costs.append(measure(group))
    return costs


def free_mebibytes() -> float | None:
    """Return the memory that programs can still get, where the system tells."""
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return None
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return float(value.split()[0]) / 2**10
    return None


def _launch(members: Sequence[Checked], group: Group) -> Launch:
    return launches([Group(tuple(members), group.varying)], lambda _: 1)[0]


def _line(counts: Sequence[int], values: Sequence[float]) -> Line:
    if len(values) == 1:
        return Line(0.0, values[0])
    each = max(0.0, (values[1] - values[0]) / (counts[1] - counts[0]))
    return Line(values[0] - each, each)


if __name__ == "__main__":
    print(json.dumps(measured_here(json.load(sys.stdin))))
