"""CORL's classes from a checkout in $CORL_DIR, fed by its own replay buffer as in its scripts.

Differences that remain: EDAC steps its policy before its critics and measures the spread of random
actions' values; IQL moves the policy's learning rate. What the scripts import beside PyTorch for
environments and logs is not needed and replaced by mocks.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import torch

from rlop.data import Dataset
from scripts.bench.measure import Update
from scripts.bench.problems import CRITICS, SAMPLES, Problem

UNUSED = ("d4rl", "gym", "wandb", "pyrallis", "tqdm", "tqdm.auto")
SCRIPTS = Path(os.environ.get("CORL_DIR", "missing")) / "algorithms" / "offline"
if not SCRIPTS.is_dir():
    raise ModuleNotFoundError("no checkout in $CORL_DIR", name="CORL, a checkout in $CORL_DIR")


def build(problem: Problem, data: Dataset) -> Update:
    """Return CORL's update on its replay buffer."""
    makers = {"bc": bc, "td3bc": td3bc, "iql": iql, "cql": cql, "edac": edac}
    names = {"bc": "any_percent_bc", "td3bc": "td3_bc"}
    module = script(names.get(problem.kind, problem.kind))
    (n_obs,) = problem.obs
    buffer = module.ReplayBuffer(n_obs, problem.actions, len(data))
    buffer.load_d4rl_dataset(
        {
            "observations": data.obs,
            "actions": data.action,
            "rewards": data.reward,
            "next_observations": data.next_obs,
            "terminals": data.terminated,
        }
    )
    step = makers[problem.kind](module, problem)
    return lambda: step(buffer.sample(problem.batch))


def script(name: str) -> ModuleType:
    """Import one of its scripts."""
    spec = importlib.util.spec_from_file_location(f"corl_{name}", SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    mocks = {unused: mock.MagicMock() for unused in UNUSED}
    with mock.patch.dict(sys.modules, {**mocks, spec.name: module}):
        spec.loader.exec_module(module)
    return module


def adam(network: torch.nn.Module) -> torch.optim.Adam:
    """Make the optimizer of one network."""
    return torch.optim.Adam(network.parameters(), lr=3e-4)


def bc(module: Any, problem: Problem) -> Callable[[Any], object]:
    """Make BC, whose network has two layers of 256."""
    (n_obs,) = problem.obs
    actor = module.Actor(n_obs, problem.actions, 1.0)
    return module.BC(1.0, actor, adam(actor)).train


def td3bc(module: Any, problem: Problem) -> Callable[[Any], object]:
    """Make TD3+BC, whose networks have two layers of 256."""
    (n_obs,) = problem.obs
    actor = module.Actor(n_obs, problem.actions, 1.0)
    first, second = (module.Critic(n_obs, problem.actions) for _ in range(2))
    trainer = module.TD3_BC(1.0, actor, adam(actor), first, adam(first), second, adam(second))
    return trainer.train


def iql(module: Any, problem: Problem) -> Callable[[Any], object]:
    """Make IQL with a Gaussian policy, two layers of 256 everywhere."""
    (n_obs,) = problem.obs
    q, v = module.TwinQ(n_obs, problem.actions), module.ValueFunction(n_obs)
    actor = module.GaussianPolicy(n_obs, problem.actions, 1.0)
    trainer = module.ImplicitQLearning(1.0, actor, adam(actor), q, adam(q), v, adam(v))
    return trainer.train


def cql(module: Any, problem: Problem) -> Callable[[Any], object]:
    """Make CQL(H) from its first update on, three layers of 256 everywhere."""
    (n_obs,) = problem.obs
    first, second = (module.FullyConnectedQFunction(n_obs, problem.actions) for _ in range(2))
    actor = module.TanhGaussianPolicy(n_obs, problem.actions, 1.0)
    learners = (first, adam(first), second, adam(second), actor, adam(actor))
    options = {"target_entropy": -problem.actions, "bc_steps": 0, "cql_n_actions": SAMPLES}
    return module.ContinuousCQL(*learners, **options).train


def edac(module: Any, problem: Problem) -> Callable[[Any], object]:
    """Make EDAC, whose networks have three layers."""
    (n_obs,), width = problem.obs, problem.hidden[0]
    actor = module.Actor(n_obs, problem.actions, width)
    critic = module.VectorizedCritic(n_obs, problem.actions, width, CRITICS)
    return module.EDAC(actor, adam(actor), critic, adam(critic)).update
