"""D4RL's tasks on Gymnasium's environments: the same observations, starts, rewards and ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, SupportsFloat, runtime_checkable

import gymnasium
import numpy as np

from rlop.config.checks import check_known
from rlop.envs.spaces import Env, Info, Wrapper

# The conversion of actions, importable from here as well.
from rlop.envs.spaces import bounded as bounded
from rlop.envs.spaces import from_unit as from_unit
from rlop.envs.spaces import to_unit as to_unit
from rlop.types import InputError

# Environments of Gymnasium whose observations are D4RL's.
SAME = {
    "Hopper",
    "HalfCheetah",
    "Walker2d",
    "AdroitHandDoor",
    "AdroitHandHammer",
    "AdroitHandRelocate",
}
# First part of a name -> why it cannot become D4RL's.
OTHER = {
    "Ant": "27 or 105 observations, D4RL's ant has 111",
    "FrankaKitchen": "59 observations, positions and velocities; "
    "D4RL's kitchen has 60, positions and a goal",
    "PointMaze": "another origin and another maze than D4RL's maze2d",
}
KNOWN = "known are Hopper, HalfCheetah, Walker2d, AntMaze_*-v4 and AdroitHand*"

# D4RL's evaluation mazes (U_MAZE_TEST, BIG_MAZE_TEST, HARDEST_MAZE_TEST): # wall, r start, g goal.
MAZES = {
    "AntMaze_UMaze": (
        "#####",
        "#r..#",
        "###.#",
        "#g..#",
        "#####",
    ),
    "AntMaze_Medium": (
        "########",
        "#r.##..#",
        "#..#...#",
        "##...###",
        "#..#...#",
        "#.#..#.#",
        "#...#.g#",
        "########",
    ),
    "AntMaze_Large": (
        "############",
        "#r...#.....#",
        "#.##.#.#.#.#",
        "#......#...#",
        "#.####.###.#",
        "#..#.#.....#",
        "##.#.#.#.###",
        "#..#...#.g.#",
        "############",
    ),
}

PEN_STEPS = 100  # D4RL's time limit of Adroit's pen
PEN_HEIGHT = 26  # observation that is the pen's height
PEN_DROPPED = 0.075  # height below which D4RL ends the episode
GOAL_RADIUS = 0.5  # distance at which D4RL's ant has reached its goal


def d4rl_env(
    env_id: str,
    layout: str,
    make: Callable[..., Env],
    **kwargs: object,
) -> Env:
    """Make an environment in which a policy trained on D4RL's data can act.

    Hopper, HalfCheetah, Walker2d and Adroit's door, hammer and relocate are Gymnasium's own, whose
    observations are D4RL's. AdroitHandPen gets D4RL's 100 steps and ends when the pen is dropped.
    AntMaze becomes D4RL's task: see `D4RLAntMaze`. The physics engine is not D4RL's, so scores are
    "D4RL-normalized on Gymnasium".

    In gymnasium-robotics 1.4.2 door, hammer and relocate pay +0.1 per unit of distance between hand
    and object, where D4RL subtracts 0.1: a few units of return in a range of thousands.

    Args:
        env_id: Gymnasium id.
        layout: only "d4rl" is known.
        make: function that makes it, such as `gymnasium.make`.
        kwargs: keyword arguments for `make`.
    Returns:
        The environment.
    Raises:
        InputError: an unknown layout, or an environment that cannot be brought into it.
    """
    check_known("layout", layout, ["d4rl"])
    name, _, version = env_id.rpartition("-v")

    if name in SAME:
        return make(env_id, **kwargs)

    if name == "AdroitHandPen":
        options = {"max_episode_steps": PEN_STEPS, **kwargs}
        return DroppedPen(make(env_id, **options))

    if name in MAZES and version == "4":
        maze_map = maze_of(name)
        return D4RLAntMaze(make(env_id, maze_map=maze_map, continuing_task=False, **kwargs))

    if name in MAZES:
        reason = "expected version -v4, whose ant has D4RL's 29 observations"
    else:
        reason = OTHER.get(name.split("_")[0], KNOWN)
    raise InputError(f"env_id {env_id!r}: cannot be brought into layout 'd4rl': {reason}")


def maze_of(name: str) -> list[list[int | str]]:
    """Return D4RL's maze as gymnasium-robotics reads it: 1 wall, 0 free, r start, g goal."""
    symbols: dict[str, int | str] = {"#": 1, ".": 0}
    rows: list[list[int | str]] = []
    for line in MAZES[name]:
        rows.append([symbols.get(cell, cell) for cell in line])

    # Rows run towards +y in D4RL and towards -y here: with reversed rows, only the origin differs.
    return rows[::-1]


class DroppedPen(Wrapper):
    """Adroit's pen task that ends when the pen is dropped, as in D4RL."""

    def step(self, action: np.ndarray) -> tuple[np.ndarray, SupportsFloat, bool, bool, Info]:
        """Take one action; also terminated when the pen has been dropped."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        dropped = obs[PEN_HEIGHT] < PEN_DROPPED
        return obs, reward, bool(terminated or dropped), truncated, info


class D4RLAntMaze(Wrapper):
    """D4RL's antmaze, version 2, built on the one of gymnasium-robotics.

    It changes observations, origin, start, goal, reward, end and ant. Observations are position,
    joint angles and velocities `[29]`, with the origin in the start cell and without the goal.
    Every episode draws a goal in D4RL's square, which is not centered in the goal's cell. Within
    0.5 of the goal, the reward is 1 and the episode ends. The ant's torque (30, not 150), time step
    (0.02 s, not 0.01) and contact softness are D4RL's too: with them, the ant moves as a model
    built from D4RL's XML, up to rounding.

    Reference: locomotion/maze_env.py, ant.py, goal_reaching_env.py and assets/ant.xml of D4RL.
    """

    maze: Any  # of gymnasium-robotics, which has no types

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.maze = env.unwrapped
        self.maze.position_noise_range = 0.0

        # The ant of D4RL's ant.xml.
        ant = self.maze.ant_env
        ant._reset_noise_scale = 0.1
        ant.model.opt.timestep = 0.02
        ant.model.actuator_gear[:, 0] = 30.0
        ant.model.geom_solimp[:, :3] = 0.8, 0.8, 0.01

        (self.origin,) = self.maze.maze.unique_reset_locations
        (goal,) = self.maze.maze.unique_goal_locations
        self.corner = goal - self.origin
        self.scale = self.maze.maze.maze_size_scaling
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (29,))

    def reset(
        self,
        *,
        seed: int | None = None,
        options: dict[str, object] | None = None,
    ) -> tuple[np.ndarray, Info]:
        """Draw a start and a goal; `options` are ignored."""
        obs, info = self.env.reset(seed=seed)
        draw = self.maze.np_random.uniform
        self.goal = self.corner + self.scale * (draw(0, 0.25, 2) + draw(0, 0.125, 2))
        self.maze.goal = self.goal + self.origin
        return self._flat(obs), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, Info]:
        """Take one action; reward 1 and terminated within 0.5 of the goal."""
        obs, _, _, truncated, info = self.env.step(action)
        flat = self._flat(obs)
        reached = bool(np.linalg.norm(flat[:2] - self.goal) <= GOAL_RADIUS)
        return flat, float(reached), reached, truncated, info

    def _flat(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        position = obs["achieved_goal"] - self.origin
        return np.concatenate([position, obs["observation"]]).astype(np.float32)


@runtime_checkable
class Physics(Protocol):
    """State of a MuJoCo simulation."""

    qpos: np.ndarray
    qvel: np.ndarray


def simulator(env: Env) -> Physics | None:
    """Return the MuJoCo data with `qpos` and `qvel`; None for other environments."""
    candidates: list[object] = [env.unwrapped]

    # In gymnasium-robotics the simulation belongs to a part of the environment.
    for part in ("ant_env", "point_env", "robot_env"):
        candidates.append(getattr(env.unwrapped, part, None))

    for candidate in candidates:
        data = getattr(candidate, "data", None)
        if isinstance(data, Physics):
            return data
    return None
