"""Rewards of OGBench's single tasks, computed from the simulator's states in its files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from rlop.config.checks import nearest
from rlop.types import InputError

OBJECTS = 14  # entry of a manipulation environment's qpos where its cubes begin
CUBE = 7  # entries of one cube
BALL = 15  # entry of the ant's qpos where the ball begins
NEAR = 0.04  # distance at which a cube, the drawer or the window is where it should be
N_TASKS = 5

States: TypeAlias = Mapping[str, np.ndarray]  # qpos `[N, Q]` and button_states `[N, K]`


class Task(NamedTuple):
    """One task of an environment.

    Args:
        family: maze, soccer, cube, scene or puzzle.
        env: the environment, such as `antmaze-large`.
        number: 1 to 5.
        goal: where things should be; its form depends on the family.
    """

    family: str
    env: str
    number: int
    goal: Any

    @property
    def needs(self) -> list[str]:
        """Arrays of the file that the rewards are computed from."""
        return NEEDS[self.family]


def find_task(env: str, number: int) -> Task:
    """Return a task of an environment.

    Args:
        env: such as `antmaze-large`, `visual-cube-double` or `scene`.
        number: 1 to 5; 0 stands for the environment's default task.

    Raises:
        InputError: an environment without tasks, or no such number.
    """
    if not 0 <= number <= N_TASKS:
        raise InputError(f"task = {number}: expected 1 to {N_TASKS}, or 0 for the default")

    table = _tasks()
    family, kind = _family(env)
    if family is None or kind not in table[family]:
        known = list(table.get(family or "", table))
        raise InputError(f"{env!r}: no tasks are known{nearest(kind, known)}")

    entry = table[family][kind]
    number = number or entry["default"]
    return Task(family, env, number, entry["goals"][number - 1])


def relabel(task: Task, states: States) -> tuple[np.ndarray, np.ndarray]:
    """Return rewards and terminations of a task for the states in which the actions were taken.

    The reward is minus the number of parts (cubes, buttons, drawer, window; one in the mazes) that
    are not where they should be. A state terminates in which none is.

    Args:
        task: of the environment that the states are from.
        states: the arrays that the task needs, N rows each.

    Returns:
        Rewards `[N]` float32 and terminations `[N]` bool.

    Raises:
        InputError: an array too narrow for the environment.

    Reference: `relabel_dataset` in ogbench/relabel_utils.py of OGBench 1.2.1; rewards belong to s
        of (s, a, s'), in its environments since 1.2.0, too.
    """
    success = SUCCESS[task.family](task, states)
    reward = success.sum(axis=-1) - float(success.shape[-1])
    return reward.astype(np.float32), np.asarray(success.all(axis=-1))


def _maze(task: Task, states: States) -> np.ndarray:
    """Return whether the agent is at the goal, `[N, 1]`."""
    return _at_goal(task, _columns(states, "qpos", 0, 2))


def _soccer(task: Task, states: States) -> np.ndarray:
    """Return whether the ball is at the goal, `[N, 1]`."""
    return _at_goal(task, _columns(states, "qpos", BALL, BALL + 2))


def _at_goal(task: Task, position: np.ndarray) -> np.ndarray:
    """Return whether positions `[N, 2]` are within the goal's radius, `[N, 1]`."""
    radius = 1.0 if "pointmaze" in task.env else 0.5
    distance = np.linalg.norm(position - np.array(task.goal), axis=-1)
    return (distance <= radius)[:, None]


def _cubes(task: Task, states: States) -> np.ndarray:
    """Return whether each cube is at its place, `[N, cubes]`."""
    return _near_targets(np.array(task.goal), states)


def _scene(task: Task, states: States) -> np.ndarray:
    """Return whether cubes, buttons, drawer and window are as they should be, `[N, parts]`."""
    goal = task.goal
    cubes = _near_targets(np.array(goal["cubes"]), states)
    buttons = _same_buttons(np.array(goal["buttons"]), states)

    drawer = OBJECTS + cubes.shape[1] * CUBE + buttons.shape[1]
    slides = _columns(states, "qpos", drawer, drawer + 2)
    # Python's numbers: the comparison is in the file's precision, as in OGBench.
    drawer_near = np.abs(slides[:, 0] - goal["drawer"]) <= NEAR
    window_near = np.abs(slides[:, 1] - goal["window"]) <= NEAR
    return np.column_stack([cubes, buttons, drawer_near, window_near])


def _puzzle(task: Task, states: States) -> np.ndarray:
    """Return whether each button is as it should be, `[N, buttons]`."""
    return _same_buttons(np.array([int(digit) for digit in task.goal]), states)


def _near_targets(targets: np.ndarray, states: States) -> np.ndarray:
    """Return whether each cube is near its target, `[N, cubes]`; targets are `[cubes, 3]`."""
    stop = OBJECTS + len(targets) * CUBE
    cubes = _columns(states, "qpos", OBJECTS, stop).reshape(-1, len(targets), CUBE)
    return np.linalg.norm(targets - cubes[:, :, :3], axis=-1) <= NEAR


def _same_buttons(targets: np.ndarray, states: States) -> np.ndarray:
    """Return whether each button has its target state, `[N, buttons]`."""
    buttons = states["button_states"]
    if buttons.ndim != 2 or buttons.shape[1] != len(targets):
        raise InputError(f"button_states: shape {buttons.shape}, expected [N, {len(targets)}]")
    return buttons == targets


def _columns(states: States, key: str, start: int, stop: int) -> np.ndarray:
    """Return some columns of a state array."""
    array = states[key]
    if array.ndim != 2 or array.shape[1] < stop:
        raise InputError(f"{key}: shape {array.shape}, expected [N, {stop}] or wider")
    return array[:, start:stop]


SUCCESS: dict[str, Callable[[Task, States], np.ndarray]] = {
    "maze": _maze,
    "soccer": _soccer,
    "cube": _cubes,
    "scene": _scene,
    "puzzle": _puzzle,
}
NEEDS: dict[str, list[str]] = {
    "maze": ["qpos"],
    "soccer": ["qpos"],
    "cube": ["qpos"],
    "scene": ["qpos", "button_states"],
    "puzzle": ["button_states"],
}


def _family(env: str) -> tuple[str | None, str]:
    """Return the family of an environment and its kind within it: antmaze-large is a large maze."""
    name, _, kind = env.removeprefix("visual-").rpartition("-")
    for family in SUCCESS:
        if family in (name or kind):
            return family, kind
    return None, env


@cache
def _tasks() -> dict[str, dict[str, Any]]:
    """Return the table: family, kind, then `default` and the goals of the five tasks."""
    return json.loads(files("rlop.data").joinpath("ogbench.json").read_text())["tasks"]
