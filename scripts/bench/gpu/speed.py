"""One run and many runs: plain eager, eager, and graphs of 32 updates."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from rlop.data import Dataset
from scripts.bench import ours, plain
from scripts.bench.gpu.timing import (
    GRAPH,
    HOW,
    LAUNCH,
    Effort,
    Memory,
    Row,
    Turn,
    loop_of,
    measured,
    rates,
    spread,
    times,
)
from scripts.bench.measure import Update
from scripts.bench.problems import CASES, Problem, transitions

ROWS = 100_000
RUNS = (1, 8, 32)
TARGET_PERIOD = 512  # updates, a multiple of a launch
CQL, (DQN_32, DQN_256, *CONSERVATIVE) = CASES["cql"][0], CASES["dqn"]


def single(problem: Problem, effort: Effort) -> Iterator[Row]:
    """Compare one run as a plain script, as eager updates and as recorded graphs."""
    data = transitions(problem, ROWS)
    update = plain.build(problem, data, effort.device)
    turns = {
        "plain PyTorch": partial(one_update, update),
        "eager": turn_of(problem, data, 1, 1, effort.device),
        GRAPH: turn_of(problem, data, 1, LAUNCH, effort.device),
    }
    found = rates(turns, effort)
    for how, values in found.items():
        yield {
            "case": problem.name,
            "how": how,
            **spread(values),
            "times plain": times(values, found["plain PyTorch"]),
            "times eager": times(values, found["eager"]),
        }


def many(problem: Problem, effort: Effort) -> Iterator[Row]:
    """Compare 1, 8 and 32 runs, eager and as graphs: updates of single runs in aggregate."""
    data = transitions(problem, ROWS)
    turns: dict[str, Turn] = {}
    memories: dict[str, Memory] = {}
    for how, launch in HOW.items():
        for runs in RUNS:
            name = f"{how}/{runs}"
            make = partial(turn_of, problem, data, runs, launch, effort.device)
            turns[name], memories[name] = measured(make, effort.device)

    found = rates(turns, effort)
    for name in turns:
        how, runs = name.split("/")
        updates = [int(runs) * value for value in found[name]]
        yield {
            "case": problem.name,
            "how": how,
            "R": int(runs),
            **spread(updates, "run updates/s"),
            "times R = 1": times(updates, found[f"{how}/1"]),
            "peak MiB": memories[name].peak,
            "kept MiB": memories[name].reserved,
        }


def one_update(update: Update) -> int:
    """Make one update of a plain script."""
    update()
    return 1


def turn_of(problem: Problem, data: Dataset, runs: int, launch: int, device: str) -> Turn:
    """Return one launch of rlop's own loop."""
    period = {} if problem.kind == "cql" else {"target_period": TARGET_PERIOD}
    agent = ours.make_agent(problem, data, runs, device=device, **period)
    return loop_of(agent, data, launch).advance


SINGLE = [partial(single, problem) for problem in (CQL, DQN_32, DQN_256, *CONSERVATIVE)]
MANY = [partial(many, problem) for problem in (CQL, DQN_256)]
