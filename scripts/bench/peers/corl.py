"""CORL's classes from a checkout in $CORL_DIR, fed by its own replay buffer as in its scripts.

Differences that remain: EDAC steps its policy before its critics and measures the spread of random
actions' values; IQL moves the policy's learning rate.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from rlop.data import Dataset
from scripts.bench.measure import Update
from scripts.bench.problems import CRITICS, SAMPLES, Problem
from scripts.corl.classes import TorchRun

# Kind of a problem -> the agent, and its options beside the defaults of its script.
AGENTS: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "bc": ("BC", {}),
    "td3bc": ("TD3BC", {}),
    "iql": ("IQL", {}),
    "cql": ("CQL", {"cql_n_actions": SAMPLES}),
    "edac": ("EDAC", {"num_critics": CRITICS}),
    "rebrac": ("ReBRAC", {"critic_ln": False}),  # as d3rlpy's
}
PER_CALL = 32  # updates of ReBRAC in a call of JAX, as in a call of our compiled updates
ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


def build(problem: Problem, data: Dataset) -> Update:
    """Return CORL's update on its replay buffer."""
    agent, options = AGENTS[problem.kind]
    if problem.kind in ("edac", "rebrac"):
        options = {**options, "hidden_dim": problem.hidden[0]}
    if agent == "ReBRAC":
        return repeated(jax_run(data, options, problem.batch), PER_CALL)
    return repeated(TorchRun(agent, data, options, problem.batch, seed=0).train, 1)


def jax_run(data: Dataset, options: Mapping[str, object], batch: int) -> Callable[[int], None]:
    """Return what trains ReBRAC, by JAX on one thread."""
    os.environ.setdefault("XLA_FLAGS", ONE_THREAD)
    from scripts.corl.rebrac import JaxRun

    return JaxRun("ReBRAC", data, options, batch, seed=0).train


def repeated(train: Callable[[int], None], updates: int) -> Update:
    """Return what makes so many updates in a call, and says so."""

    def update() -> int:
        train(updates)
        return updates

    return update
