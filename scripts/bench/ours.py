"""rlop's own update, as its training loop runs it.

Random streams, gather, update, target network and the sums of the metrics are all in it.
"""

from __future__ import annotations

from typing import Any

from rlop.agents import BC, CQL, DQN, EDAC, IQL, TD3BC, DiscreteCQL, ReBRAC

from rlop.agent import Agent
from rlop.data import Dataset
from rlop.training.loop import Loop, TrainOptions
from scripts.bench.measure import Update
from scripts.bench.problems import CONTINUOUS, CRITICS, SAMPLES, TARGET_PERIOD, Problem

AGENTS: dict[str, type[Agent]] = {
    "cql": CQL,
    "dqn": DQN,
    "discrete-cql": DiscreteCQL,
    "bc": BC,
    "td3bc": TD3BC,
    "rebrac": ReBRAC,
    "iql": IQL,
    "edac": EDAC,
}


def make_agent(problem: Problem, data: Dataset, runs: int = 1, **options: Any) -> Agent:
    """Build the agent of a problem, with `runs` seeds."""
    sizes: dict[str, Any] = {"hidden": problem.hidden, "batch_size": problem.batch}
    if problem.kind in CONTINUOUS and problem.kind != "bc":
        sizes["policy_hidden"] = problem.hidden
    if problem.kind == "cql":
        sizes["action_samples"] = SAMPLES
    elif problem.kind == "rebrac":
        sizes["layer_norm"] = False  # as in the peer
    elif problem.kind == "edac":
        sizes["n_critics"] = CRITICS
    elif problem.kind not in CONTINUOUS:
        sizes["network"] = problem.network
        sizes["target_period"] = TARGET_PERIOD

    return AGENTS[problem.kind](data.spec, seeds=runs, **{**sizes, **options})


def build(
    problem: Problem, data: Dataset, runs: int = 1, compile: bool = False, **options: Any
) -> Update:
    """Return one turn of `Loop.run`, without its periodic tasks."""
    agent = make_agent(problem, data, runs, **options)
    loop = Loop(agent, data, TrainOptions(compile=compile))
    if compile:
        loop.advance()  # the first update of a training is never compiled
    return loop.advance
