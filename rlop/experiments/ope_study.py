"""How right `rlop.ope` is where the truth is known: a gridworld, exactly, and Pendulum, played.

Sizes and settings were chosen on seeds below 100. The seeds that decide are `DECIDING`.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypedDict, cast

import gymnasium
import numpy as np

from rlop import ope
from rlop.collect.collector import collect
from rlop.config.files import read_json_lines, write_atomic
from rlop.data.dataset import Dataset
from rlop.data.formats.generate import generate
from rlop.data.load import load_dataset
from rlop.envs import GridWorld, epsilon_greedy, gridworld, optimal_q, policy_return
from rlop.ope.behavior import behavior_at
from rlop.ope.estimates import corrected, cross_fitted, weights_of
from rlop.ope.formulas import Estimate
from rlop.ope.fqe import FQEOptions
from rlop.ope.grid import grid_of
from rlop.ope.policies import answers

DECIDING = {
    "gridworld": list(range(1001, 1011)),
    "pendulum": list(range(1001, 1004)),
    "coverage": list(range(1001, 1201)),
}

# The gridworld: gamma, the behavior's share of random actions, and time limit.
GAMMA, RANDOM, LIMIT = 0.9, 0.6, 50
RANKED: dict[str, Any] = {
    "steps": 1500,
    "batch_size": 128,
    "hidden": (64,),
    "lr": 3e-3,
}  # options of FQE
COVERED: dict[str, Any] = {"steps": 250, "batch_size": 64, "hidden": (32,), "lr": 1e-2}
TARGETS = (0.0, 0.3, 0.9)  # shares of random actions of the policies whose intervals are counted

# Pendulum: gamma, transitions, and shares of the swing-up torque that the policies apply.
SWING: dict[str, Any] = {
    "gamma": 0.95,
    "steps": 3000,
    "batch_size": 128,
    "hidden": (64, 64),
    "lr": 1e-3,
    "tau": 0.02,
}
TRANSITIONS = 20_000
SHARES = (1.0, 0.75, 0.5, 0.3, 0.15, 0.0, -0.3, -1.0)
EPISODES = 50  # played for the truth of each policy


class Record(TypedDict):
    """One data set: what each estimator said of each policy, and the truth."""

    study: str
    seed: int
    seconds: float  # of a processor
    truth: list[float]
    estimates: dict[str, list[Estimate]]


# --- the gridworld


def world() -> tuple[GridWorld, np.ndarray]:
    """Return the gridworld and its optimal values `[S, A]`."""
    mdp = gridworld(5, walls=0.1, observation="tabular", seed=3)
    return mdp, optimal_q(mdp, GAMMA)


def rolled(mdp: GridWorld, seed: int, steps: int) -> tuple[Dataset, np.ndarray]:
    """Return data of one epsilon-greedy policy, and its probabilities `[N, A]`."""
    columns = generate(mdp, steps, epsilon=RANDOM, gamma=GAMMA, max_episode_steps=LIMIT, seed=seed)
    data = Dataset.from_arrays(
        columns["observations"],
        columns["actions"],
        columns["rewards"],
        columns["terminals"],
        columns["timeouts"],
        columns["next_observations"],
        n_actions=mdp.n_actions,
        name=f"gridworld, seed {seed}",
    )
    behavior = epsilon_greedy(optimal_q(mdp, GAMMA), RANDOM)
    return data, behavior[columns["infos/state"]]


def eight_policies(q: np.ndarray, seed: int) -> np.ndarray:
    """Return optimal policies with more and more random actions, and two greedy for noise."""
    shares = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    rng = np.random.default_rng(seed)
    tables = [epsilon_greedy(q, share) for share in shares]
    for noise in (0.1, 0.3):
        tables.append(epsilon_greedy(q + noise * rng.normal(size=q.shape), 0.2))
    return np.stack(tables)


def rank_on_gridworld(seed: int) -> tuple[list[float], dict[str, list[Estimate]]]:
    """Value eight policies of the gridworld by FQE on one data set."""
    mdp, q = world()
    tables = eight_policies(q, seed)
    data, _ = rolled(mdp, seed, steps=4000)
    policies = ope.policies_of_tables(mdp, tables)
    found = ope.fitted_q(policies, data, resamples=0, gamma=GAMMA, seed=seed, **RANKED)
    return [policy_return(mdp, table, GAMMA) for table in tables], {"FQE": found}


def cover_on_gridworld(seed: int) -> tuple[list[float], dict[str, list[Estimate]]]:
    """Estimate three policies of the gridworld with intervals, by every estimator."""
    mdp, q = world()
    tables = np.stack([epsilon_greedy(q, share) for share in TARGETS])
    data, known = rolled(mdp, seed, steps=2000)
    policies = ope.policies_of_tables(mdp, tables)

    found = {}
    for name, weighted in (("per-decision IS", False), ("weighted IS", True)):
        found[name] = ope.importance(
            policies, data, known, gamma=GAMMA, weighted=weighted, seed=seed
        )

    # What `ope.doubly_robust` does, with one model for all three.
    options = FQEOptions(gamma=GAMMA, seed=seed, **COVERED)
    model = cross_fitted(policies, data, options)
    grid, chances = grid_of(data), answers(policies, data.obs, data.spec)
    behaviors = {"doubly robust": known, "doubly robust, counted": behavior_at(data, "counts")}
    for name, behavior in behaviors.items():
        weights = weights_of(chances, behavior, data, grid)
        found[name] = corrected(model, weights, data, grid, GAMMA, weighted=False, seed=seed)
    weights = weights_of(chances, known, data, grid)
    found["weighted doubly robust"] = corrected(
        model, weights, data, grid, GAMMA, weighted=True, seed=seed
    )
    return [policy_return(mdp, table, GAMMA) for table in tables], found


# --- Pendulum


def swing_up(obs: np.ndarray) -> np.ndarray:
    """Return the torques in [-2, 2] that swing the pendulum up and hold it, `[n, 3] -> [n]`."""
    cosine, sine, speed = obs.T
    lacking_energy = (speed**2 / 6 + 5 * (cosine - 1)).clip(-1, 1)
    swing = -2 * np.sign(speed) * lacking_energy
    hold = -(8 * np.arctan2(sine, cosine) + 2 * speed)
    return np.where(cosine > 0.85, hold, swing).clip(-2, 2)


def wandering(obs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Act as the data do: swing up, with every second torque uniform; `[n, 1]`."""
    torque = swing_up(obs)
    is_random = rng.random(len(obs)) < 0.5
    torque = np.where(is_random, rng.uniform(-2, 2, len(obs)), torque)
    return torque[:, None].astype(np.float32)


def rank_on_pendulum(seed: int) -> tuple[list[float], dict[str, list[Estimate]]]:
    """Value eight policies of Pendulum by FQE on one data set, and play them for the truth."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "pendulum.hdf5"
        collect("Pendulum-v1", wandering, TRANSITIONS, path, n_envs=50, seed=seed)
        data = load_dataset(path)

    def policies(obs: np.ndarray) -> np.ndarray:
        share = np.array(SHARES)[:, None, None]
        return share * swing_up(obs)[None, :, None] / 2  # actions of data are in [-1, 1]

    found = ope.fitted_q(policies, data, resamples=0, seed=seed, **SWING)
    truth = [played(share, SWING["gamma"], seed) for share in SHARES]
    return truth, {"FQE": found}


def played(share: float, gamma: float, seed: int) -> float:
    """Play a policy of Pendulum; return the mean discounted return of its episodes."""
    returns = []
    with gymnasium.make("Pendulum-v1") as env:
        for episode in range(EPISODES):
            obs, _ = env.reset(seed=EPISODES * seed + episode)
            total, weight, is_over = 0.0, 1.0, False
            while not is_over:
                torque = share * swing_up(obs[None])
                obs, reward, terminated, truncated, _ = env.step(torque.astype(np.float32))
                total += weight * float(reward)
                weight *= gamma
                is_over = terminated or truncated
            returns.append(total)
    return float(np.mean(returns))


# --- records

STUDIES: dict[str, Callable[[int], tuple[list[float], dict[str, list[Estimate]]]]] = {
    "gridworld": rank_on_gridworld,
    "pendulum": rank_on_pendulum,
    "coverage": cover_on_gridworld,
}


def read(path: Path) -> list[Record]:
    """Return the records of a file, one a line; none if there is no file.

    Raises:
        InputError: a line that is no record.
    """

    def record(content: Any) -> Record:
        for name, found in content["estimates"].items():
            content["estimates"][name] = [Estimate(*map(_number, numbers)) for numbers in found]
        return cast(Record, content)

    return read_json_lines(path, record)


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def decide(
    path: Path,
    wanted: Mapping[str, Sequence[int]] = DECIDING,
    say: Callable[[str], None] = print,
) -> list[Record]:
    """Estimate what has no record yet; each record is written at once.

    Args:
        path: of the records.
        wanted: study -> seeds.
        say: called with a line for each record.
    """
    records = read(path)
    done = {(record["study"], record["seed"]) for record in records}
    for study, seeds in wanted.items():
        for seed in seeds:
            if (study, seed) in done:
                continue
            began = time.process_time()
            truth, estimates = STUDIES[study](seed)
            seconds = round(time.process_time() - began, 1)
            record = Record(
                study=study, seed=seed, seconds=seconds, truth=truth, estimates=estimates
            )
            records.append(record)
            lines = [json.dumps(rounded(record)) + "\n" for record in records]
            write_atomic(path, "".join(lines).encode())
            say(f"{study}, seed {seed}: {seconds} s")
    return records


def rounded(record: Record) -> dict[str, object]:
    """Return a record with numbers of five digits; null where there is none."""

    def short(value: float) -> float | None:
        return float(f"{value:.5g}") if np.isfinite(value) else None

    estimates = {}
    for name, found in record["estimates"].items():
        estimates[name] = [[short(number) for number in estimate] for estimate in found]
    truth = [short(value) for value in record["truth"]]
    return {**record, "truth": truth, "estimates": estimates}
