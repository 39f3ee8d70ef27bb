"""Load a policy from what a training left: a log folder, or a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from rlop.agent import Agent
from rlop.config.checks import check_range
from rlop.deploy.card import about_data
from rlop.deploy.policy import Policy
from rlop.envs.given import Given
from rlop.envs.spaces import Space
from rlop.logs.history import RECORD, History, read_metrics
from rlop.logs.logger import safe_labels
from rlop.logs.messages import say
from rlop.report.statistics import mean_ci
from rlop.training.checkpoint import agent_of, load
from rlop.training.folder import CHECKPOINT, newest
from rlop.types import InputError

BEST = "best"
SCORE = "eval/return"


class Evaluated(NamedTuple):
    """The last evaluation that a checkpoint's parameters can have had.

    Args:
        step: of the evaluation.
        scores: metric -> `[R]`.
    """

    step: int
    scores: dict[str, np.ndarray]


def load_policy(
    path: str | Path,
    run: int | str = BEST,
    *,
    epsilon: float = 0.0,
    env: Given | None = None,
    observation_space: Space | None = None,
    action_space: Space | None = None,
    device: torch.device | str = "cpu",
    allow: Collection[str] = (),
    parts: Mapping[str, Callable[..., Any]] | None = None,
) -> Policy:
    """Load a trained policy, which acts in the environment's own observations and actions.

        policy = rlop.load_policy("runs/hopper")
        action = policy(obs)

    Args:
        path: a checkpoint, or a log folder, whose last one is taken; if that is damaged, the one
            before it.
        run: index or label of a run; `best` is the one with the highest return in the last
            evaluation before the checkpoint, which the record beside it holds.
        epsilon: probability of a uniformly random action.
        env: the environment, for its spaces: an id, an environment, or a function that makes one;
            None is the one that the data named. Needed only where the data do not say enough.
        observation_space: the environment's, in place of `env`.
        action_space: the same.
        device: where the policy computes.
        allow: modules from which a stranger's checkpoint may import, see `rlop.load_agent`.
        parts: functions that the checkpoint names, see `rlop.load_agent`.
    Raises:
        InputError: no checkpoint, an unknown run, no evaluation to tell the best of several runs,
            an agent without a policy, or an environment that does not fit or is not known.
    """
    check_range("epsilon", epsilon, low=0, high=1)
    path = Path(path).expanduser()
    file, content = found_at(path, device)
    agent = agent_of(file, content, device, allow, parts)

    history = record_of(file.parent, agent)
    evaluated = last_evaluation(history, content["step"])
    index = best_run(file, agent, evaluated) if run == BEST else agent.runs.find(run)
    policy = agent.policy(
        index,
        env=env,
        observation_space=observation_space,
        action_space=action_space,
        epsilon=epsilon,
    )

    policy.about["policy"]["step"] = content["step"]
    data = {} if history is None else {"name": history.config.get("data", "not recorded")}
    scores = about_score(agent, index, evaluated)
    if run == BEST and evaluated is not None and len(agent.runs) > 1:
        scores["choice"] = f"the best of {len(agent.runs)} runs by this very score: biased upward"
    policy.about |= {"data": {**data, **about_data(agent.spec)}, "score": scores}
    return policy


def found_at(path: Path, device: torch.device | str) -> tuple[Path, dict[str, Any]]:
    """Return the file and content of a checkpoint, or of the last one in a folder that is whole.

    Raises:
        InputError: there is none.
    """
    if not path.is_dir():
        return path, load(path, device)
    found = newest(path, device)
    if found is None:
        raise InputError(f"{path / CHECKPOINT}: no such checkpoint")
    return found


def record_of(folder: Path, agent: Agent) -> History | None:
    """Return the record beside a checkpoint; None where there is none of these runs."""
    if not (folder / RECORD).is_file():
        return None
    history = read_metrics(folder)
    return history if history.labels == safe_labels(agent.runs.labels) else None


def last_evaluation(history: History | None, step: int) -> Evaluated | None:
    """Return the last evaluation up to a step that found a return; None without one."""
    if history is None or SCORE not in history.metrics:
        return None
    steps, returns = history.get(SCORE)
    is_usable = (steps <= step) & np.isfinite(returns).any(1)
    if not is_usable.any():
        return None

    at = int(steps[is_usable][-1])
    scores = {}
    for name, (logged_at, values) in history.metrics.items():
        if name.startswith("eval/") and at in logged_at:
            scores[name] = values[list(logged_at).index(at)]
    return Evaluated(at, scores)


def best_run(file: Path, agent: Agent, evaluated: Evaluated | None) -> int:
    """Return the run with the highest return, and say which.

    Raises:
        InputError: several runs, and no evaluation.
    """
    labels = agent.runs.labels
    if len(labels) == 1:
        return 0
    if evaluated is None:
        raise InputError(
            f"{file}: no evaluation tells the best of its {len(labels)} runs; expected run = 0 to "
            f"{len(labels) - 1}, or a label such as {labels[0]!r}"
        )
    returns = evaluated.scores[SCORE]
    best = int(np.nanargmax(returns))
    say(f"run {labels[best]}: return {returns[best]:.6g} at step {evaluated.step}, the best")
    return best


def about_score(agent: Agent, run: int, evaluated: Evaluated | None) -> dict[str, object]:
    """Return the scores of a run, and means over the runs of the same setting with intervals."""
    if evaluated is None:
        return {"evaluation": "none in the record"}

    def setting(hparams: Mapping[str, object]) -> dict[str, object]:
        return {name: value for name, value in hparams.items() if name != "seed"}

    hparams = agent.runs.hparams
    alike = [i for i in range(len(hparams)) if setting(hparams[i]) == setting(hparams[run])]
    facts: dict[str, object] = {"step": evaluated.step}
    for name, values in evaluated.scores.items():
        facts[name] = float(values[run])
        if len(alike) > 1:
            mean, low, high = mean_ci(values[alike])
            facts[f"{name} over {len(alike)} seeds"] = (
                f"{mean:.6g}, 95% interval {low:.6g} to {high:.6g}"
            )
    return facts
