"""`overhead`: the cost of tasks between updates, and of regularizers within updates.

Probe, log, checkpoint and evaluation are measured at their default intervals.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import torch

import rlop
from rlop.agent import Agent
from rlop.config.files import to_dict
from rlop.data import Dataset
from rlop.logs.logger import Logger
from rlop.logs.progress import Progress
from rlop.regularizers import REGULARIZERS
from rlop.training.evaluate import make_evaluator
from rlop.training.loop import Loop, TrainOptions
from rlop.training.probing import measure_agent
from rlop.training.run import Experiment
from rlop.training.saving import Saver
from rlop.types import InputError
from scripts.bench import ours
from scripts.bench.measure import Update, paired_ratio, race, repeats, show, summary, table, timed
from scripts.bench.problems import CASES, Problem, transitions

TIMES = 5  # that probe, log and checkpoint are timed; evaluation once, since it takes seconds
PROJECTIONS = {"max_norm": 10.0, "frobenius": 10.0}
COEF = 1e-3


class Cost(TypedDict, total=False):
    """Cost of one operation; if it has no numbers, the note says why."""

    ms: float  # CPU milliseconds of one call
    every: int  # updates between two calls
    percent: float  # of the updates' time
    note: str


class Overhead(TypedDict):
    """Costs of everything between the updates of one problem."""

    update_ms: float
    parts: dict[str, Cost]
    percent: float


class Result(TypedDict):
    """Result of the subject, by problem."""

    between: dict[str, Overhead]
    terms: NotRequired[dict[str, dict[str, Cost]]]


def subjects() -> list[tuple[Problem, Callable[[int], Dataset]]]:
    """Return problems, each with a function from rows to data that name an environment."""
    gridworld = Problem("DQN 2x256, batch 64", "dqn", batch=64, obs=(16,), actions=5)
    minatar = Problem("MinAtar DQN", "dqn", "minatar", (128,), 32, (10, 10, 4), actions=3)
    cheetah = CASES["cql"][0]

    def gridworld_data(rows: int) -> Dataset:
        options = f"observation=random&steps={rows}&epsilon=0.1,0.5,1.0"
        return rlop.load_dataset(f"gridworld?{options}")

    return [
        (gridworld, gridworld_data),
        (minatar, lambda rows: transitions(minatar, rows, "MinAtar/Breakout-v1")),
        (cheetah, lambda rows: transitions(cheetah, rows, "HalfCheetah-v5")),
    ]


def benchmark(options: argparse.Namespace) -> Result:
    """Measure everything in percent of the updates' CPU time, on one thread."""
    torch.set_num_threads(1)
    result: Result = {"between": {}, "terms": {}}
    for problem, load in subjects():
        data = load(options.rows)
        overhead = measure_overhead(problem, data)
        result["between"][problem.name] = overhead
        print(overhead_text(problem, overhead), flush=True)

        if problem.network == "mlp":
            added = measure_terms(problem, data, options.rounds, options.seconds)
            result["terms"][problem.name] = added
            print(terms_text(problem, added), flush=True)

    return result


def measure_overhead(problem: Problem, data: Dataset) -> Overhead:
    """Time an update, and each thing that happens between updates."""
    agent = ours.make_agent(problem, data)
    schedule = TrainOptions(compile=False)
    loop = Loop(agent, data, schedule)
    times = [timed(loop.advance, repeats(loop.advance, 0.2))["cpu"] for _ in range(TIMES)]
    update_ms = summary(times)["median"]

    parts: dict[str, Cost] = {}
    with tempfile.TemporaryDirectory() as folder:
        runs = agent.runs
        with Logger(folder, runs.labels, runs.hparams, to_dict(schedule)) as logger:
            log = log_call(loop, logger)
            probe = partial(measure_agent, agent, loop.probe_batch)
            parts["probe"] = cost(probe, schedule.probe_every, update_ms, TIMES)
            parts["log"] = cost(log, schedule.log_every, update_ms, TIMES)
            save = partial(Saver(loop, Path(folder)).save, logger)
            parts["checkpoint"] = cost(save, schedule.checkpoint_every, update_ms, TIMES)

    parts["evaluate"] = evaluation(agent, data, schedule.eval_every, update_ms)
    percent = sum(part.get("percent", 0.0) for part in parts.values())
    return {"update_ms": update_ms, "parts": parts, "percent": percent}


def cost(call: Callable[[], object], every: int, update_ms: float, times: int) -> Cost:
    """Time a call, in percent of the updates between two of its calls.

    Args:
        call: the first one warms up, unless `times` is 1.
        every: updates between two calls.
        update_ms: CPU milliseconds of an update.
        times: calls that are timed; the median counts.
    """
    if times > 1:
        call()
    ms = summary([timed(call, 1)["cpu"] for _ in range(times)])["median"]
    return {"ms": ms, "every": every, "percent": 100 * ms / (every * update_ms)}


def log_call(loop: Loop, logger: Logger) -> Callable[[], None]:
    """Return a call that writes one line with all the metrics of an update."""
    loop.advance()
    count = loop.sums.count
    quiet = Progress(loop.options.steps, enabled=False)

    def log() -> None:
        # The loop counts from zero when it has logged.
        loop.sums.count = count
        loop.log(logger, quiet)

    return log


def evaluation(agent: Agent, data: Dataset, every: int, update_ms: float) -> Cost:
    """Time an evaluation as `rlop train` does it by default.

    Random data give untrained policies, whose episodes may be short.
    """
    episodes = Experiment.eval_episodes
    try:
        evaluate = make_evaluator(agent, data.spec.env_id, data.spec.env_kwargs, episodes)
    except (InputError, ImportError) as error:
        return {"note": str(error).splitlines()[0]}

    result = cost(lambda: evaluate(agent), every, update_ms, times=1)
    evaluate.close()
    return result


def measure_terms(problem: Problem, data: Dataset, rounds: int, seconds: float) -> dict[str, Cost]:
    """Measure what each regularizer and projection adds to an update, raced against a plain one."""
    options_of: dict[str, dict[str, Any]] = {}
    for name in REGULARIZERS:
        options_of[name] = {"regularizers": {name: COEF}}

    for name, radius in PROJECTIONS.items():
        options_of[name] = {"projections": {name: radius}}

    result: dict[str, Cost] = {name: {} for name in options_of}
    updates: dict[str, Update] = {"": ours.build(problem, data)}
    for name, options in options_of.items():
        try:
            update = ours.build(problem, data, **options)
            update()
            updates[name] = update
        except (InputError, ValueError) as error:  # not every term suits every kind of agent
            result[name] = {"note": str(error).splitlines()[0]}

    samples = race(updates, rounds, seconds)
    plain = samples.pop("")
    for name, sample in samples.items():
        result[name] = {"percent": 100 * (paired_ratio(plain["cpu"], sample["cpu"]) - 1)}

    return result


def overhead_text(problem: Problem, overhead: Overhead) -> str:
    """Write the table of one problem."""
    rows = []
    for name, part in overhead["parts"].items():
        rows.append(
            [
                name,
                show(part.get("ms"), ".1f"),
                show(part.get("every"), "d"),
                show(part.get("percent")),
                part.get("note", ""),
            ]
        )

    rows.append(["together", "", "", show(overhead["percent"]), ""])
    title = f"\n{problem.name}: {overhead['update_ms']:.2f} ms an update"
    return title + "\n" + table(["side task", "CPU ms", "every", "% of the updates", ""], rows)


def terms_text(problem: Problem, added: dict[str, Cost]) -> str:
    """Write the table of regularizers and projections."""
    rows = []
    for name, term in added.items():
        rows.append([name, show(term.get("percent"), "+.1f"), term.get("note", "")])
    return table([f"{problem.name}, with", "% of an update", ""], rows)
