"""`overhead`: what happens beside the updates, at the default intervals, and what regularizers add to an update."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

import rlop
from rlop.config.files import to_dict
from rlop.data import Dataset
from rlop.logs.logger import Logger
from rlop.logs.progress import Progress
from rlop.regularizers import REGULARIZERS
from rlop.training.evaluate import make_evaluator
from rlop.training.loop import Loop, TrainOptions
from rlop.training.run import Experiment
from rlop.types import InputError
from scripts.bench import ours
from scripts.bench.measure import Update, paired_ratio, race, repeats, show, summary, table, timed
from scripts.bench.problems import CASES, Problem, transitions

TIMES = 5  # that probe, log and checkpoint are timed; evaluation once, since it takes seconds
PROJECTIONS = {"max_norm": 10.0, "frobenius": 10.0}
COEF = 1e-3


def subjects() -> list[tuple[Problem, Callable[[int], Dataset]]]:
    """Problems with data that name the environment to evaluate in."""
    gridworld = Problem("DQN 2x256, batch 64", "dqn", batch=64, obs=(16,), actions=5)
    minatar = Problem("MinAtar DQN", "dqn", "minatar", (128,), 32, (10, 10, 4), actions=3)
    cheetah = CASES["cql"][0]
    return [
        (
            gridworld,
            lambda rows: rlop.load_dataset(
                f"gridworld?observation=random&steps={rows}&epsilon=0.1,0.5,1.0"
            ),
        ),
        (minatar, lambda rows: transitions(minatar, rows, "MinAtar/Breakout-v1")),
        (cheetah, lambda rows: transitions(cheetah, rows, "HalfCheetah-v5")),
    ]


def benchmark(options: Any) -> dict[str, Any]:
    """Percent of the updates' time, of everything beside them and of every term, by CPU time on one thread."""
    torch.set_num_threads(1)
    found: dict[str, Any] = {"beside": {}, "terms": {}}
    for problem, load in subjects():
        data = load(options.rows)
        found["beside"][problem.name] = beside = besides(problem, data)
        print(text_beside(problem, beside), flush=True)
        if problem.network == "mlp":
            found["terms"][problem.name] = added = terms(
                problem, data, options.rounds, options.seconds
            )
            lines = [
                [name, show(v.get("percent"), "+.1f"), v.get("note", "")]
                for name, v in added.items()
            ]
            print(table([f"{problem.name}, with", "% of an update", ""], lines), flush=True)
    return found


def besides(problem: Problem, data: Dataset) -> dict[str, Any]:
    """Milliseconds of an update, and of each thing with its interval and its percentage."""
    agent, standard = ours.make_agent(problem, data), TrainOptions(compile=False)
    with tempfile.TemporaryDirectory() as folder:
        loop = Loop(agent, data, standard, None)
        update = ours.stepper(loop)
        once = summary([timed(update, repeats(update, 0.2))["cpu"] for _ in range(TIMES)])["median"]
        with Logger(folder, agent.runs.labels, agent.runs.hparams, to_dict(standard)) as board:
            costs = {
                "probe": (loop.probe, standard.probe_every),
                "log": (log_call(loop, board), standard.log_every),
                "checkpoint": (lambda: loop.save(Path(folder)), standard.checkpoint_every),
            }
            parts = {name: part(call, every, once, TIMES) for name, (call, every) in costs.items()}
        parts["evaluate"] = evaluation(agent, data, standard.eval_every, once)
    return {
        "update_ms": once,
        "parts": parts,
        "percent": sum(p.get("percent", 0.0) for p in parts.values()),
    }


def part(call: Callable[[], object], every: int, update_ms: float, times: int) -> dict[str, float]:
    """CPU milliseconds of one call, after one that warms up, and what it adds to `every` updates in percent."""
    if times > 1:
        call()
    ms = summary([timed(call, 1)["cpu"] for _ in range(times)])["median"]
    return {"ms": ms, "every": every, "percent": 100 * ms / (every * update_ms)}


def log_call(loop: Loop, board: Logger) -> Callable[[], None]:
    """Writing one line of metrics, all those that an update has."""
    launch, sums = loop.advance()
    values = dict(zip(launch.names, sums.double().numpy()))
    quiet = Progress(loop.options.steps, enabled=False)
    return lambda: loop.log(dict(values), 1.0, board, quiet)


def evaluation(agent: Any, data: Dataset, every: int, update_ms: float) -> dict[str, Any]:
    """As `rlop train` evaluates by default; random data give untrained policies, whose episodes may be short."""
    try:
        evaluate = make_evaluator(
            agent, data.spec.env_id, data.spec.env_kwargs, Experiment.eval_episodes
        )
    except (InputError, ImportError) as error:
        return {"note": str(error).splitlines()[0]}
    found = part(lambda: evaluate(agent), every, update_ms, times=1)
    evaluate.close()
    return found


def terms(
    problem: Problem, data: Dataset, rounds: int, seconds: float
) -> dict[str, dict[str, Any]]:
    """Regularizer or projection -> percent that it adds to an update, each raced against the plain one."""
    wanted = {name: {"regularizers": {name: COEF}} for name in REGULARIZERS}
    wanted |= {name: {"projections": {name: radius}} for name, radius in PROJECTIONS.items()}
    found: dict[str, dict[str, Any]] = {name: {} for name in wanted}
    updates: dict[str, Update] = {"": ours.build(problem, data)}
    for name, options in wanted.items():
        try:
            updates[name] = ours.build(problem, data, **options)
            updates[name]()
        except (InputError, ValueError) as error:  # not every term is for every kind of agent
            updates.pop(name, None)
            found[name] = {"note": str(error).splitlines()[0]}
    samples = race(updates, rounds, seconds)
    for name in updates:
        if name:
            found[name] = {
                "percent": 100 * (paired_ratio(samples[""]["cpu"], samples[name]["cpu"]) - 1)
            }
    return found


def text_beside(problem: Problem, found: Mapping[str, Any]) -> str:
    rows = [
        [
            name,
            show(p.get("ms"), ".1f"),
            show(p.get("every"), "d"),
            show(p.get("percent")),
            p.get("note", ""),
        ]
        for name, p in found["parts"].items()
    ]
    rows.append(["together", "", "", show(found["percent"]), ""])
    title = f"\n{problem.name}: {found['update_ms']:.2f} ms an update"
    return title + "\n" + table(["beside it", "CPU ms", "every", "% of the updates", ""], rows)
