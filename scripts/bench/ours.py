"""rlop's own update, as its training loop runs it: random streams, gather, update, target network, metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rlop.agents import CQL, DQN, DiscreteCQL

from rlop.data import Dataset
from rlop.training.loop import Loop, TrainOptions
from scripts.bench.problems import SAMPLES, TARGET_PERIOD, Problem

AGENTS = {"cql": CQL, "dqn": DQN, "discrete-cql": DiscreteCQL}


def make_agent(problem: Problem, data: Dataset, runs: int = 1, **options: Any) -> Any:
    """The agent of a problem, with `runs` seeds."""
    if problem.kind == "cql":
        sizes = {
            "hidden": problem.hidden,
            "policy_hidden": problem.hidden,
            "action_samples": SAMPLES,
        }
    else:
        sizes = {
            "hidden": problem.hidden,
            "network": problem.network,
            "target_period": TARGET_PERIOD,
        }
    return AGENTS[problem.kind](
        data.spec, seeds=runs, batch_size=problem.batch, **{**sizes, **options}
    )


def build(
    problem: Problem, data: Dataset, runs: int = 1, compile: bool = False, **options: Any
) -> Callable[[], object]:
    agent = make_agent(problem, data, runs, **options)
    return stepper(Loop(agent, data, TrainOptions(compile=compile), None))


def stepper(loop: Loop) -> Callable[[], object]:
    """One turn of `Loop.run`, without what is due only now and then."""
    total: Any = None

    def update() -> object:
        nonlocal total
        _, values = loop.advance()
        total = values if total is None else total.add_(values)
        return total

    return update
