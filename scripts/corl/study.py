"""One training of the study of returns by CORL's own classes, for all of its seeds."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
import yaml
from torch import Tensor

from rlop.data.dataset import Dataset
from rlop.data.transforms import transform
from rlop.experiments.returns_settings import EPISODES, SEEDS, Setting
from rlop.experiments.returns_study import Training, cpu_seconds, record_of
from rlop.training.evaluate import Evaluator
from rlop.types import Spec
from scripts.corl.checkout import CONFIGS, SCRIPTS
from scripts.corl.classes import TorchRun

FOLDERS = {
    "BC": "bc",
    "TD3BC": "td3_bc",
    "IQL": "iql",
    "CQL": "cql",
    "EDAC": "edac",
    "ReBRAC": "rebrac",
}
# Of CORL's options, those for its logs, its evaluation, and where it keeps and takes data.
ELSEWHERE = ("project", "group", "name", "checkpoints_path", "load_model", "device")


class Run(Protocol):
    """One run of an agent of CORL's."""

    def train(self, updates: int) -> None:
        """Take gradient steps."""
        ...

    def act(self, obs: Tensor) -> Tensor:
        """Return greedy actions, `[B, S] -> [B, m]`."""
        ...


class Player:
    """A run as what the evaluator plays; it has one run."""

    device = torch.device("cpu")

    def __init__(self, run: Run, spec: Spec) -> None:
        self.run, self.spec = run, spec

    def act(self, obs: Tensor) -> Tensor:
        """Return greedy actions, `[1, n, S] -> [1, n, m]`."""
        return self.run.act(obs[0])[None]

    def one_run(self, run: int) -> Player:
        """Return itself."""
        return self


def run_setting(setting: Setting, raw: Dataset, seeds: Sequence[int] = SEEDS) -> Training:
    """Train the seeds of a setting one after another; play at half time and at the end.

    Args:
        setting: what is trained; the agent's options are CORL's but for the minibatch.
        raw: its data, not transformed.
        seeds: of the runs.
    """
    started = cpu_seconds()
    data = transform(raw, setting.transforms)
    options = options_of(setting)
    half = setting.updates // 2

    returns = np.empty((2, len(seeds)))
    for index, seed in enumerate(seeds):
        run = maker(setting.agent)(setting.agent, data, options, setting.batch_size, seed)
        evaluate = Evaluator(data.spec.env_id, [seed], EPISODES, spec=data.spec)
        for part in range(2):
            run.train(half)
            returns[part, index] = evaluate(Player(run, data.spec))["eval/return"][0]
        evaluate.close()

    config = {**options, "batch_size": setting.batch_size}
    steps, versions = [half, 2 * half], {"CORL": commit()}
    return record_of(setting, seeds, data, config, started, steps, returns, versions=versions)


def maker(agent: str) -> Callable[..., Run]:
    """Return what makes a run of an agent."""
    if agent != "ReBRAC":
        return TorchRun
    from scripts.corl.rebrac import JaxRun

    return JaxRun


def options_of(setting: Setting) -> Mapping[str, Any]:
    """Return what CORL's configuration of an agent on the data's level sets."""
    path = CONFIGS / FOLDERS[setting.agent] / setting.source / "medium_v2.yaml"
    options = yaml.safe_load(path.read_text())
    return {name: value for name, value in options.items() if name not in ELSEWHERE}


def commit() -> str:
    """Return the commit of the checkout."""
    command = ["git", "-C", str(SCRIPTS), "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
