"""What the Rank Atlas trains: data, agents, arms and seeds, written before the runs.

A *training* has R runs side by side: arms (a regularizer with a strength) x conservative weights x
seeds. Everything was chosen on the seeds 1 to 3; the seeds `REPORTING` report.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from rlop.experiments.ope_study import wandering

Policy: TypeAlias = Callable[[np.ndarray, np.random.Generator], np.ndarray]

REPORTING = (201, 202, 203, 204)

POINTS = 8  # evaluations after that of the untrained agent, an eighth of the training apart
PROBED = (0, 1, 2, 4, 8)  # eighths at which probes are kept
HEAVY = PROBED[1:]  # and those of the pack are measured: at the start they are of random weights
EARLY = 2  # eighths after which probes predict what comes
FALL = 0.5  # share of what a run earned at its peak that a collapsed one has lost
GRAIN = 0.02  # share of the best run's return below which returns are called equal
LEARNED = 0.1  # share of the best run's return that a run must reach at its peak to have learned


# --- data


def balancing(obs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Push CartPole's cart to the side to which the pole falls, `[n, 4] -> [n]`."""
    return (obs[:, 2] + 0.5 * obs[:, 3] > 0).astype(np.int64)


def following(obs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Move Breakout's paddle to the column of the ball, `[n, 10, 10, 4] -> [n]`."""
    columns = np.arange(obs.shape[2])
    paddle = (obs[..., 0].any(1) * columns).max(-1)
    ball = (obs[..., 1].any(1) * columns).max(-1)
    return np.where(ball < paddle, 1, np.where(ball > paddle, 2, 0)).astype(np.int64)


@dataclass(frozen=True)
class Source:
    """Data of a training.

    Args:
        options: of every agent on these data.
        floor: return of a policy that acts at random.
        steps: gradient steps of a run.
        episodes: of an evaluation; the gridworlds' are exact.
        read: what `rlop.load_dataset` takes; "" for a file that is collected.
        policy: acts while a file is collected.
        collect: further arguments of `rlop.collect.collector.collect`.
        fqe: options of fitted Q evaluation of the final policies; None for none.
    """

    options: Mapping[str, Any]
    floor: float
    steps: int = 1600
    episodes: int = 5
    read: str = ""
    policy: Policy = balancing
    collect: Mapping[str, Any] = field(default_factory=dict)
    fqe: Mapping[str, Any] | None = None


SMALL = {"hidden": (64, 64), "lr": 1e-3, "batch_size": 32, "gamma": 0.95}
SWUNG = {
    **SMALL,
    "batch_size": 64,
    "policy_hidden": (64, 64),
    "policy_lr": 1e-3,
    "tau": 0.02,
}
FQE = {"gamma": 0.95, "steps": 400, "batch_size": 128, "hidden": (64,), "lr": 3e-3, "tau": 0.02}
CARTPOLE = {"env_id": "CartPole-v1", "env_kwargs": {"max_episode_steps": 200}, "steps": 5000}

SOURCES: dict[str, Source] = {
    "mixed grid": Source(
        SMALL,
        floor=0.17,
        read="gridworld?size=8&observation=random&steps=4000&epsilon=0.5,1.0",
        fqe=FQE,
    ),
    "narrow grid": Source(
        SMALL,
        floor=0.11,
        read="gridworld?size=8&observation=random&steps=1000&epsilon=0.3&seed=1",
        fqe=FQE,
    ),
    "distance grid": Source(
        SMALL,
        floor=19.5,
        read="gridworld?size=8&observation=smooth&reward=distance&steps=2000&epsilon=1.0&seed=2",
        fqe=FQE,
    ),
    "CartPole, good": Source(SMALL, floor=24.0, collect={**CARTPOLE, "epsilon": 0.3}, fqe=FQE),
    "CartPole, poor": Source(SMALL, floor=24.0, collect={**CARTPOLE, "epsilon": 0.8}, fqe=FQE),
    "Pendulum": Source(
        SWUNG,
        floor=-1200.0,
        policy=wandering,
        collect={"env_id": "Pendulum-v1", "steps": 10_000, "n_envs": 50},
    ),
    "Breakout": Source(
        {"hidden": (64,), "lr": 1e-3, "batch_size": 32, "gamma": 0.97},
        floor=0.5,
        steps=800,
        policy=following,
        collect={"env_id": "MinAtar/Breakout-v1", "steps": 10_000, "epsilon": 0.3},
    ),
}


# --- arms


@dataclass(frozen=True)
class Arm:
    """A setting that is trained with every seed.

    Args:
        agent: what the page calls it: DQN, CQL, IQL, BC, ReBRAC.
        family: plain, or what is varied: a regularizer, layer norm, a learning rate.
        strength: its coefficient, radius or rate; 0 for plain.
        values: hyper-parameter -> value, on the run axis.
    """

    agent: str
    family: str
    strength: float
    values: Mapping[str, float]

    @property
    def name(self) -> str:
        """A label that no other arm of a training has."""
        return f"{self.agent}, {self.family} {self.strength:g}"


ALPHA = 0.3  # conservative weight of CQL with discrete actions

# Family -> hyper-parameter on the run axis, strengths from weak to strong.
FAMILIES: dict[str, tuple[str, tuple[float, ...]]] = {
    "dr3": ("regularizers.dr3", (0.001, 0.01, 0.1)),
    "feature_norm": ("regularizers.feature_norm", (0.001, 0.01, 0.1)),
    "l2": ("regularizers.l2", (1e-5, 1e-4, 1e-3)),
    "max_norm": ("projections.max_norm", (16.0, 8.0, 4.0)),
    "srank_penalty": ("regularizers.srank_penalty", (0.001, 0.01, 0.1)),
}
ALL = ("dr3", "feature_norm", "l2", "max_norm")
FEW = ("dr3", "feature_norm")
FREE = 1e6  # radius of a ball that nothing leaves


def arms(
    agent: str, families: Sequence[str], values: Mapping[str, float], plain: bool = True
) -> list[Arm]:
    """Return an agent without and with each regularizer at each strength.

    Args:
        agent: see `Arm`.
        families: keys of `FAMILIES`.
        values: hyper-parameters that all of these have.
        plain: whether the agent without any is among them.
    """
    listed = [Arm(agent, "plain", 0.0, values)] if plain else []
    for family in families:
        name, strengths = FAMILIES[family]
        for strength in strengths:
            listed.append(Arm(agent, family, strength, {**values, name: strength}))
    return listed


def terms(families: Sequence[str]) -> dict[str, Any]:
    """Return the options under which every run has each term, at no strength unless it says so."""
    regularizers = {family: 0.0 for family in families if family != "max_norm"}
    projections = {"max_norm": FREE} if "max_norm" in families else {}
    return {"regularizers": regularizers, "projections": projections}


# --- trainings


@dataclass(frozen=True)
class Training:
    """One process: arms side by side, each with every seed.

    Args:
        source: key of `SOURCES`.
        agent: class of `rlop.agents`.
        arms: see `Arm`.
        options: of the agent, in addition to the source's.
        pack: whether the agent has action values, which the pack measures.
    """

    source: str
    agent: str
    arms: Sequence[Arm]
    options: Mapping[str, Any]
    pack: bool = True


TARGET = {"target_period": 50}
VALUE = {"policy_hidden": (64, 64), "policy_lr": 1e-3, "value_lr": 1e-3, "tau": 0.02}
RATES = (3e-4, 1e-3, 3e-3)  # of behavior cloning, which has no penalties

DISCRETE = tuple(name for name in SOURCES if name not in ("Pendulum", "Breakout"))


def both(families: Sequence[str], plain: bool = True) -> list[Arm]:
    """Return DQN's arms and those of CQL, which differ in the conservative weight alone."""
    return [
        *arms("DQN", families, {"alpha": 0.0}, plain),
        *arms("CQL", families, {"alpha": ALPHA}, plain),
    ]


def trainings() -> dict[str, Training]:
    """Return every training by name, in the order in which they run."""
    table: dict[str, Training] = {}
    for source in DISCRETE:
        options = {**TARGET, **terms(ALL)}
        table[f"{source} DQN"] = Training(source, "DQN", both(ALL), options)

    normed = [Arm("DQN", "layer_norm", 1.0, {"alpha": 0.0})]
    normed.append(Arm("CQL", "layer_norm", 1.0, {"alpha": ALPHA}))
    cloned = [Arm("BC", "lr", rate, {"lr": rate}) for rate in RATES]
    for source in DISCRETE:
        options = {**TARGET, "layer_norm": True}
        table[f"{source} layer norm"] = Training(source, "DQN", normed, options)
        table[f"{source} BC"] = Training(source, "BC", cloned, {}, pack=False)

    table["Pendulum IQL"] = Training(
        "Pendulum", "IQL", arms("IQL", FEW, {}), {**terms(FEW), "value_lr": 1e-3}
    )
    rebrac = {**terms(FEW), "layer_norm": False}
    table["Pendulum ReBRAC"] = Training("Pendulum", "ReBRAC", arms("ReBRAC", FEW, {}), rebrac)
    for source in DISCRETE:
        options = {**VALUE, **terms(FEW)}
        table[f"{source} IQL"] = Training(source, "IQL", arms("IQL", FEW, {}), options)

    few = {**TARGET, **terms(("dr3",))}
    table["Breakout DQN"] = Training("Breakout", "DQN", both(("dr3",)), few)
    penalty = {**TARGET, **terms(("srank_penalty",))}
    for source in DISCRETE:
        table[f"{source} srank"] = Training(
            source, "DQN", both(("srank_penalty",), plain=False), penalty
        )
    conservative = {**terms(FEW), "action_samples": 3, "alpha": 1.0}
    table["Pendulum CQL"] = Training("Pendulum", "CQL", arms("CQL", FEW, {}), conservative)
    return table
