"""One data set in memory: NumPy columns in episode order, and the transforms that backups need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from rlop.data.columns import make_columns
from rlop.data.returns import behaviour_policy, end_index, n_step_rows, returns_to_go
from rlop.types import InputError, Spec


@dataclass(eq=False, repr=False)
class Dataset:
    """N transitions in episode order. Build one with `Dataset.from_arrays` or `rlop.load_dataset`; treat it as fixed.

    Args:
        obs: `[N, *S]` float32, uint8 or bool; an array, or `rlop.data.dqn_replay.stacks.Stacks`.
        action: `[N]` int64, or `[N, *A]` float32.
        reward: `[N]` float32.
        next_obs: `[N, *S]`, like `obs`.
        terminated: `[N]` bool, the episode ended for good and nothing follows.
        truncated: `[N]` bool, the rows stop here but the process went on: time-out, end of file, cut.
        spec: shapes and environment.
        name: what messages call it.
        infos: further arrays `[N, ...]`, carried along and used by nothing.
        extra: columns that some backups need: `next_action`, `next_policy`, `mc_return`.
        discount: `[N]` float32 gamma^(m-1) of rows that span m steps, set by `n_step`; None for one-step rows.
        end: `[N]` bool, last row of each episode; by default terminated | truncated.
    """

    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    next_obs: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    spec: Spec
    name: str = "arrays"
    infos: dict[str, np.ndarray] = field(default_factory=dict)
    extra: dict[str, np.ndarray] = field(default_factory=dict)
    discount: np.ndarray | None = None
    end: np.ndarray = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.end is None:
            self.end = self.terminated | self.truncated
            self.end[-1] = True

    @classmethod
    def from_arrays(
        cls,
        obs: Any,
        action: Any,
        reward: Any,
        terminated: Any,
        truncated: Any,
        next_obs: Any = None,
        *,
        n_actions: int | None = None,
        env_id: str | None = None,
        env_kwargs: Mapping[str, Any] | None = None,
        name: str = "arrays",
        infos: Mapping[str, np.ndarray] | None = None,
    ) -> Dataset:
        """A data set from arrays in episode order; arrays that have the right dtype already are not copied.

        With `next_obs` every row is kept, time-outs included, so that backups look through time limits. Without it
        the next row's observation is taken. A truncated row's successor is then unknown, so these rows (and the last
        one, unless it terminated) are dropped and the row before becomes the cut. Terminated rows keep whatever
        follows, the very last one its own observation: targets mask it.

        Args:
            obs: `[N, *S]`; float32, uint8 and bool stay as they are, all else becomes float32.
            action: integers `[N]` or `[N, 1]` for discrete actions, floats `[N, *A]` for continuous ones.
            reward: `[N]` or `[N, 1]`.
            terminated: `[N]` bool.
            truncated: `[N]` bool; where both flags are set the row counts as terminated.
            next_obs: `[N, *S]`, or None.
            n_actions: number of discrete actions; by default the largest action in the data plus one.
            env_id: Gymnasium id of the environment, for evaluation.
            env_kwargs: keyword arguments for `gymnasium.make`.
            name: what messages call the data set.
            infos: further arrays `[N, ...]`.

        Raises:
            InputError: lengths differ, no rows, wrong dtype or shape, NaN or infinity, an action out of range.
        """
        arrays = (obs, action, reward, terminated, truncated, next_obs)
        columns, infos, n_actions = make_columns(*arrays, n_actions, infos or {})
        shape, dtype = columns["obs"].shape[1:], str(columns["obs"].dtype)
        spec = Spec(
            shape, n_actions, columns["action"].shape[1:], dtype, env_id, dict(env_kwargs or {})
        )
        return cls(**columns, spec=spec, name=name, infos=infos)

    def __len__(self) -> int:
        return len(self.reward)

    def __repr__(self) -> str:
        return f"Dataset({self.name!r}, {len(self)} transitions)"

    @property
    def episode_ends(self) -> np.ndarray:
        """Index of the last row of each episode, `[E]`."""
        return np.flatnonzero(self.end)

    @property
    def n_episodes(self) -> int:
        """Number of episodes E, parts of episodes included."""
        return int(self.end.sum())

    def episode_lengths(self) -> np.ndarray:
        """Rows of each episode, `[E]`."""
        return np.diff(self.episode_ends, prepend=-1)

    def episode_returns(self) -> np.ndarray:
        """Undiscounted sum of the rewards of each episode's rows, `[E]` float64."""
        self._need_one_step("episode_returns")
        starts = np.append(0, self.episode_ends[:-1] + 1)
        return np.add.reduceat(self.reward, starts, dtype=np.float64)

    def subset(self, rows: Any) -> Dataset:
        """The data set restricted to some rows; a row whose successor is gone becomes truncated, unless terminated.

        Args:
            rows: indices, or a mask `[N]`.

        Raises:
            InputError: a mask of another length, indices out of range, or no rows.
        """
        index = np.asarray(rows)
        if index.dtype == bool:
            if index.shape != (len(self),):
                raise InputError(f"rows: mask of shape {index.shape}, expected ({len(self)},)")
            index = np.flatnonzero(index)
        if index.ndim != 1 or index.size == 0 or index.dtype.kind not in "iu":
            raise InputError(
                f"rows: {index.dtype} of shape {index.shape}, expected at least one row's index"
            )
        if index.min() < 0 or index.max() >= len(self):
            raise InputError(f"rows: {index.min()}..{index.max()}, expected 0..{len(self) - 1}")
        follows = np.append(index[1:] == index[:-1] + 1, False)
        end = self.end[index] | ~follows
        truncated = self.truncated[index] | (end & ~self.terminated[index])
        take = slice(index[0], index[-1] + 1) if follows[:-1].all() else index  # a slice is a view
        return replace(
            self,
            **{
                key: getattr(self, key)[take]
                for key in ("obs", "action", "reward", "next_obs", "terminated")
            },
            truncated=truncated,
            end=end,
            infos={key: value[take] for key, value in self.infos.items()},
            extra={key: value[take] for key, value in self.extra.items()},
            discount=None if self.discount is None else self.discount[take],
        )

    def with_mc_returns(self, gamma: float, tail: float = 0.01) -> Dataset:
        """Add `mc_return` `[N]`, the discounted return to the end of the episode, on the rows where it is known.

        It is known where the episode terminates, or where what lies behind the cut weighs gamma^(rows left) <= tail.

        Raises:
            InputError: gamma or tail is no fraction, no row is left, or the rows are n-step sums already.
        """
        self._need_one_step("with_mc_returns")
        if not (0 <= gamma <= 1 and 0 <= tail < 1):
            raise InputError(
                f"gamma = {gamma}, tail = {tail}: expected 0 <= gamma <= 1 and 0 <= tail < 1"
            )
        stop = end_index(self.end)
        weight = gamma ** (stop - np.arange(len(self)) + 1.0)
        known = self.terminated[stop] | (weight <= tail)
        if not known.any():
            raise InputError(
                f"{self.name}: no Monte-Carlo return is known: no episode terminates, and of the longest cut one "
                f"gamma^{self.episode_lengths().max()} = {weight.min():.2g} > tail = {tail}; lower gamma or raise tail"
            )
        returns = returns_to_go(self.reward, self.end, gamma).astype(np.float32)
        return replace(self, extra={**self.extra, "mc_return": returns}).subset(known)

    def with_next_action(self) -> Dataset:
        """Add `next_action`, that of the next row (0 in terminated rows), and drop the cut rows that have none.

        Raises:
            InputError: no row is left, or the rows are n-step sums already.
        """
        self._need_one_step("with_next_action")
        following = np.roll(self.action, -1, axis=0)
        following[self.end] = 0
        known = ~self.end | self.terminated
        if not known.any():
            raise InputError(
                f"{self.name}: no row has a next action: every episode is a single cut row"
            )
        return replace(self, extra={**self.extra, "next_action": following}).subset(known)

    def with_next_policy(self, min_repeat: float = 2.0) -> Dataset:
        """Add `next_policy` `[N, A]`, how often the data took each action at exactly next_obs; see `behaviour_policy`.

        Rows that lead to an observation at which no action was taken are dropped. Terminated rows get the uniform
        policy, which targets mask.

        Args:
            min_repeat: the fewest rows per distinct observation, on average, with which frequencies mean anything.

        Raises:
            InputError: actions are continuous, observations hardly repeat, or most rows would be dropped.
        """
        self._need_one_step("with_next_policy")
        if self.spec.n_actions is None or not isinstance(
            self.obs, np.ndarray
        ):  # stacked frames hardly repeat
            raise InputError(
                f"{self.name}: backup 'behaviour' needs discrete actions and plain arrays; use 'sarsa'"
            )
        policy, visits, repeat = behaviour_policy(
            self.obs, self.action, self.next_obs, self.spec.n_actions
        )
        lost = (visits == 0) & ~self.terminated
        if repeat < min_repeat or 2 * lost.sum() > (~self.terminated).sum():
            raise InputError(
                f"{self.name}: backup 'behaviour' needs repeated observations, found {repeat:.2g} rows per distinct "
                f"one and {lost.sum()} of {len(self)} rows that lead to one never acted in; use 'sarsa'"
            )
        policy[self.terminated] = 1 / self.spec.n_actions
        return replace(self, extra={**self.extra, "next_policy": policy}).subset(~lost)

    def n_step(self, n: int, gamma: float) -> Dataset:
        """Rows that span up to n steps: summed discounted reward, and next_obs and flags of the last step.

        A span is cut at the end of the episode; cut by a truncation it still bootstraps, from the last next_obs
        there is. `discount` becomes gamma^(m-1) for a span of m steps. Columns named `next_*` are the last step's.

        Raises:
            InputError: n < 1, gamma out of range, or the rows are n-step sums already.
        """
        self._need_one_step("n_step")
        if n < 1 or not 0 <= gamma <= 1:
            raise InputError(f"n = {n}, gamma = {gamma}: expected n >= 1 and 0 <= gamma <= 1")
        reward, last = n_step_rows(self.reward, self.end, n, gamma)
        span = last - np.arange(len(self))
        return replace(
            self,
            reward=reward.astype(np.float32),
            next_obs=self.next_obs if n == 1 else self.next_obs[last],
            terminated=self.terminated[last],
            truncated=self.truncated[last],
            discount=(gamma ** span.astype(np.float64)).astype(np.float32),
            extra={k: v[last] if k.startswith("next_") else v for k, v in self.extra.items()},
        )

    def columns(self) -> dict[str, np.ndarray]:
        """What a sampler draws from: obs, action, reward, next_obs, terminated, discount (float32), and the extras."""
        discount = np.ones(len(self), np.float32) if self.discount is None else self.discount
        columns = {key: getattr(self, key) for key in ("obs", "action", "reward", "next_obs")}
        return {
            **columns,
            "terminated": self.terminated.astype(np.float32),
            "discount": discount,
            **self.extra,
        }

    def _need_one_step(self, what: str) -> None:
        if self.discount is not None:
            raise InputError(f"{self.name}: {what} needs one-step rows; call it before n_step")
