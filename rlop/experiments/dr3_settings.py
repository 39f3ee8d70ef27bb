"""What `dr3_study` trains: data, agents and arms of every setting, written before the runs.

Four kinds of data: two gridworlds, every transition of a PPO training in CartPole and in two games
of MinAtar, and steps of D4RL's own policy of hopper-medium-v2 on Gymnasium's Hopper. Arms of one
setting train side by side, each with every seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Arms: TypeAlias = dict[str, dict[str, float]]  # arm -> hyper-parameter -> value

TUNING = (1, 2)
REPORTING = (101, 102, 103, 104, 105, 106, 107, 108)
EVERYONE = (*TUNING, *REPORTING)

NOISY_GRID = "gridworld?observation=random&steps=1000&epsilon=0.5&noise=0.3"
GRID = "gridworld?observation=random&steps=4000&epsilon=0.5,1.0"


@dataclass(frozen=True)
class Source:
    """Data of a setting.

    Args:
        read: what `rlop.load_dataset` takes; "" for a file that is collected.
        collect: arguments of `rlop.collect.collector.collect`, for a file.
        options: of every agent on these data.
    """

    options: Mapping[str, Any]
    read: str = ""
    collect: Mapping[str, Any] = field(default_factory=dict)


def _replay(env_id: str, steps: int) -> dict[str, Any]:
    """Keep every transition of a PPO training, as a replay buffer of its size would."""
    return {"env_id": env_id, "policy": f"replay:ppo:{steps}", "steps": steps, "seed": 16}


SMALL = {"hidden": (64, 64), "lr": 1e-3, "batch_size": 32, "target_period": 160, "gamma": 0.97}
MINATAR = {"hidden": (128,), "lr": 2.5e-4, "batch_size": 32, "target_period": 320}
HOPPER = {
    "preset": "cql/corl",
    "hidden": (256, 256),
    "policy_hidden": (256, 256),
    "action_samples": 4,
    "lr": 9e-4,  # three times the usual, as DR3's longer trainings on D4RL
    "policy_lr": 3e-4,
}

SOURCES: dict[str, Source] = {
    "noisy grid": Source(SMALL, read=NOISY_GRID),
    "grid": Source(SMALL, read=GRID),
    "CartPole": Source({**SMALL, "gamma": 0.99}, collect=_replay("CartPole-v1", 20_000)),
    "Breakout": Source(MINATAR, collect=_replay("MinAtar/Breakout-v1", 200_000)),
    "SpaceInvaders": Source(MINATAR, collect=_replay("MinAtar/SpaceInvaders-v1", 200_000)),
    "Hopper": Source(
        HOPPER,
        collect={
            "env_id": "Hopper-v4",
            "policy": "d4rl:hopper-medium-v2",
            "steps": 200_000,
            "seed": 0,
        },
    ),
}


@dataclass(frozen=True)
class Setting:
    """One training of the study.

    Args:
        source: key of `SOURCES`.
        agent: name of the agent.
        arms: trained side by side.
        options: of the agent, in addition to the source's.
        steps: gradient steps at most; a run on a GPU took as many as its share of time allowed.
        seeds: of every arm.
        episodes: of an evaluation.
    """

    source: str
    agent: str
    arms: Arms
    options: Mapping[str, Any]
    steps: int
    seeds: tuple[int, ...] = EVERYONE
    episodes: int = 24


PLAIN: Arms = {"plain": {}}
STOPPED = "dr3/workflow"  # stops the gradient through phi(s', a')
NOISY = "rlop.experiments.noisy_dr3:NoisyDR3"
COEFS = (0.001, 0.01, 0.1, 1.0)
SRANK_COEFS = (1e-4, 1e-3, 1e-2, 1e-1)
NOISY_COEFS = (0.001, 0.01, 0.1)

# Terms that some arms use and others have at 0: which terms are present is static.
TERMS: dict[str, Any] = {"dr3": 0.0, STOPPED: {"coef": 0.0, "mask_terminal": True}}

AGENTS: dict[str, dict[str, Any]] = {
    "DQN": {"regularizers": {**TERMS, NOISY: 0.0}},
    "CQL": {"alpha": 0.1, "regularizers": TERMS},
    "REM": {"head": {"rem": {"n": 50}}, "regularizers": TERMS},
}
BACKUPS: dict[str, dict[str, Any]] = {
    "max": {},
    "behavior": {
        "backup": "behavior",
        "behavior": {"bc": {"steps": 3000, "hidden": (128,)}},
    },
    "sarsa": {"backup": "sarsa"},
    "mc": {"backup": "mc"},
    "known": {"backup": "behavior", "behavior": "known"},
}


def dr3_arms(stopped: tuple[float, ...], noisy: tuple[float, ...] = ()) -> Arms:
    """Return the arms of one agent: plain, DR3, with stopped gradient, under label noise."""
    arms = dict(PLAIN)
    for coef in COEFS:
        arms[f"dr3 {coef:g}"] = {"regularizers.dr3": coef}
    for coef in stopped:
        arms[f"stop-gradient {coef:g}"] = {f"regularizers.{STOPPED}": coef}
    for coef in noisy:
        arms[f"label noise {coef:g}"] = {f"regularizers.{NOISY}": coef}
    return arms


def settings() -> dict[str, Setting]:
    """Return every setting by name."""
    table: dict[str, Setting] = {}
    for source in ("noisy grid", "CartPole", "Breakout", "SpaceInvaders"):
        steps = 60_000 if SOURCES[source].options is MINATAR else 24_000
        for backup, options in BACKUPS.items():
            if backup == "known" and source != "noisy grid":
                continue  # nobody knows the policy of a replay
            name = f"{source} {backup}"
            table[name] = Setting(source, "DQN", PLAIN, options, steps, REPORTING)

    for source in ("grid", "CartPole"):
        for name, options in AGENTS.items():
            arms = dr3_arms((0.01, 0.1))
            if name == "DQN":
                arms = dr3_arms((0.001, 0.01, 0.1), NOISY_COEFS)
            table[f"{source} {name}"] = Setting(source, "DQN", arms, options, 24_000, episodes=20)
        for name, alpha in (("DQN", 0.0), ("CQL", 0.1)):
            for coef in SRANK_COEFS:
                arm = {f"srank {coef:g}": {"regularizers.srank_penalty": coef}}
                given = {"alpha": alpha, "regularizers": {"srank_penalty": 0.0}}
                table[f"{source} {name} srank {coef:g}"] = Setting(
                    source, "DQN", arm, given, 24_000, episodes=20
                )

    for source in ("Breakout", "SpaceInvaders"):
        for name in ("CQL", "REM"):
            arms = dr3_arms((0.01, 0.1))
            table[f"{source} {name}"] = Setting(source, "DQN", arms, AGENTS[name], 150_000)

    hopper: Arms = dict(PLAIN)
    for coef in (0.001, 0.03):
        hopper[f"dr3 {coef:g}"] = {"regularizers.dr3": coef}
    table["Hopper CQL"] = Setting(
        "Hopper", "CQL", hopper, {"regularizers": {"dr3": 0.0}}, 150_000, REPORTING, 8
    )
    return table
