"""D4RL's tasks on Gymnasium's environments: the same observations, actions in [-1, 1], the simulator's state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

from rlop.config.checks import check_known
from rlop.types import InputError

Make = Callable[..., gymnasium.Env[Any, Any]]

SAME = {
    "Hopper",
    "HalfCheetah",
    "Walker2d",
    "AdroitHandDoor",
    "AdroitHandHammer",
    "AdroitHandRelocate",
}
OTHER = {
    "Ant": "27 or 105 observations, D4RL's ant has 111",
    "FrankaKitchen": "59 observations, positions and velocities; D4RL's kitchen has 60, positions and a goal",
    "PointMaze": "another origin and another maze than D4RL's maze2d",
}
# D4RL's evaluation mazes (U_MAZE_TEST, BIG_MAZE_TEST, HARDEST_MAZE_TEST): # wall, r start, g goal.
MAZES = {
    "AntMaze_UMaze": "##### #r..# ###.# #g..# #####",
    "AntMaze_Medium": "######## #r.##..# #..#...# ##...### #..#...# #.#..#.# #...#.g# ########",
    "AntMaze_Large": "############ #r...#.....# #.##.#.#.#.# #......#...# #.####.###.# #..#.#.....# ##.#.#.#.### "
    "#..#...#.g.# ############",
}


def d4rl_env(env_id: str, layout: str, make: Make, **kwargs: Any) -> gymnasium.Env[Any, Any]:
    """An environment in which a policy trained on D4RL's data can act.

    Hopper, HalfCheetah, Walker2d and Adroit's door, hammer and relocate are Gymnasium's own, whose observations are
    D4RL's. AdroitHandPen gets D4RL's 100 steps and ends when the pen is dropped. AntMaze becomes D4RL's task: see
    `D4RLAntMaze`. No physics engine is D4RL's, so scores are "D4RL-normalised on Gymnasium".

    In gymnasium-robotics 1.4.2 door, hammer and relocate pay +0.1 per unit of distance between hand and object, where
    D4RL takes 0.1 off: a few units of return in a range of thousands.

    Args:
        env_id: Gymnasium id.
        layout: only "d4rl" is known.
        make: builds it, as `gymnasium.make`.
        kwargs: for `make`.

    Raises:
        InputError: an unknown layout, or an environment that cannot be brought into it.
    """
    check_known("layout", layout, ["d4rl"])
    name, _, version = env_id.rpartition("-v")
    if name in SAME:
        return make(env_id, **kwargs)
    if name == "AdroitHandPen":
        return DroppedPen(make(env_id, **{"max_episode_steps": 100, **kwargs}))
    if name in MAZES and version == "4":
        rows = [
            [1 if cell == "#" else 0 if cell == "." else cell for cell in row]
            for row in MAZES[name].split()
        ]
        # Rows run towards +y in D4RL and towards -y here: upside down, only the origin is another.
        return D4RLAntMaze(make(env_id, maze_map=rows[::-1], continuing_task=False, **kwargs))
    why = OTHER.get(
        name.split("_")[0], "known are Hopper, HalfCheetah, Walker2d, AntMaze_*-v4 and AdroitHand*"
    )
    why = "expected version -v4, whose ant has D4RL's 29 observations" if name in MAZES else why
    raise InputError(f"env_id {env_id!r}: cannot be brought into layout 'd4rl': {why}")


class DroppedPen(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Adroit's pen ends when it is dropped, as in D4RL: a height below 0.075, which observation 26 is."""

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As the environment's, but terminated when the pen has been dropped."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        return obs, reward, bool(terminated or obs[26] < 0.075), truncated, info


class D4RLAntMaze(gymnasium.Wrapper[Any, Any, Any, Any]):
    """D4RL's antmaze, version 2, on gymnasium-robotics's: observations, origin, start, goal, reward, end and ant.

    Observations are position, joint angles and velocities `[29]`, with the origin in the start cell and without the
    goal. The goal is drawn anew in every episode, in D4RL's square beside the middle of its cell. Reward is 1 and the
    episode ends within 0.5 of it. The ant's torque (30, not 150), time step (0.02 s, not 0.01) and contact softness are
    D4RL's too: with them its model, built from D4RL's XML, moves the same to rounding.

    Reference: locomotion/maze_env.py, ant.py, goal_reaching_env.py and assets/ant.xml of D4RL.
    """

    maze: Any

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self.maze = env.unwrapped
        self.maze.position_noise_range = 0.0
        ant, scale = self.maze.ant_env, self.maze.maze.maze_size_scaling
        ant._reset_noise_scale = 0.1
        ant.model.opt.timestep = 0.02
        ant.model.actuator_gear[:, 0] = 30.0
        ant.model.geom_solimp[:, :3] = 0.8, 0.8, 0.01
        (self.origin,), (goal,) = (
            self.maze.maze.unique_reset_locations,
            self.maze.maze.unique_goal_locations,
        )
        self.corner, self.scale = goal - self.origin, scale
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (29,))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Draw a start and a goal; `options` are ignored."""
        obs, info = self.env.reset(seed=seed)
        draw = self.maze.np_random.uniform
        self.goal = self.corner + self.scale * (draw(0, 0.25, 2) + draw(0, 0.125, 2))
        self.maze.goal = self.goal + self.origin
        return self._flat(obs), info

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One action; reward 1 and terminated within 0.5 of the goal."""
        obs, _, _, truncated, info = self.env.step(action)
        flat = self._flat(obs)
        reached = bool(np.linalg.norm(flat[:2] - self.goal) <= 0.5)
        return flat, float(reached), reached, truncated, info

    def _flat(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        return np.concatenate([obs["achieved_goal"] - self.origin, obs["observation"]]).astype(
            np.float32
        )


def to_unit(actions: np.ndarray, space: gymnasium.Space[Any]) -> np.ndarray:
    """Actions of a bounded Box as data sets hold them: 2 (a - low) / (high - low) - 1, float32.

    Args:
        actions: `[n, *A]` in the environment's units.
        space: its action space; where it is discrete or has no bounds, actions are returned as they are.
    """
    if not bounded(space):
        return actions
    assert isinstance(space, gymnasium.spaces.Box)
    low, span = space.low.astype(np.float64), space.high.astype(np.float64) - space.low
    return (2 * (actions - low) / np.where(span > 0, span, 1) - 1).astype(np.float32)


def from_unit(actions: np.ndarray, space: gymnasium.Space[Any]) -> np.ndarray:
    """The inverse of `to_unit`: low + (a + 1) / 2 (high - low), with a clipped to [-1, 1]; `[n, *A]` to `[n, *A]`."""
    if not bounded(space):
        return actions
    assert isinstance(space, gymnasium.spaces.Box)
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    return (low + (np.clip(actions, -1, 1) + 1) / 2 * (high - low)).astype(space.dtype)


def bounded(space: gymnasium.Space[Any]) -> bool:
    """Whether actions of this space are stored in [-1, 1]: a Box with finite bounds."""
    return isinstance(space, gymnasium.spaces.Box) and space.is_bounded()


def simulator(env: gymnasium.Env[Any, Any]) -> Any:
    """What holds `qpos` and `qvel` of a MuJoCo environment; None for other environments."""
    whole: Any = env.unwrapped
    parts = (getattr(whole, name, None) for name in ("ant_env", "point_env", "robot_env"))
    found = (getattr(part, "data", None) for part in (whole, *parts))
    return next((data for data in found if hasattr(data, "qpos") and hasattr(data, "qvel")), None)
