"""One data set: NumPy columns in episode order, and the transforms that backups need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike

from rlop.data.columns import float_column, make_columns, record_of_dropped, row_index
from rlop.data.joined import Mixture
from rlop.data.mapped import converted, ones, take
from rlop.data.native import Bound, Counts, detached
from rlop.data.recorded import recorded_actions, recorded_obs
from rlop.data.returns import behavior_policy, end_index, n_step_rows, returns_to_go
from rlop.types import InputError, Spec


@dataclass(eq=False, repr=False)
class Dataset:
    """N transitions in episode order.

    Build one with `Dataset.from_arrays` or `rlop.load_dataset`, and treat it as immutable.

    Args:
        obs: `[N, *S]` float32, uint8 or bool; an array, or what looks like one: stacked frames,
            `rlop.data.dqn_replay.stacks.Stacks`, or several sources, `rlop.data.joined.Joined`.
        action: `[N]` int64, or `[N, *A]` float32.
        reward: `[N]` float32.
        next_obs: `[N, *S]`, like `obs`.
        terminated: `[N]` bool, the episode ended for good and nothing follows.
        truncated: `[N]` bool, the rows stop although the process went on: time-out, end of file.
        spec: shapes and environment.
        name: what messages call it.
        infos: further arrays `[N, ...]`, carried along and used by nothing.
        extra: columns that some backups need: `next_action`, `next_policy`, `mc_return`.
        keys: role -> name of the array in the file it was read from, see
            `rlop.data.formats.keys.NAMES`.
        discount: `[N]` float32 gamma^(m-1) of rows that span m steps, set by `n_step`; None for
            one-step rows.
        end: `[N]` bool, last row of each episode; by default terminated | truncated.
        mixture: the sources of the rows, where `rlop.data.mix` has joined several.
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
    keys: dict[str, str] = field(default_factory=dict)
    discount: np.ndarray | None = None
    end: np.ndarray = None  # type: ignore[assignment]  # __post_init__ fills it
    mixture: Mixture | None = None

    def __post_init__(self) -> None:
        if self.end is None:
            self.end = self.terminated | self.truncated
            self.end[-1] = True

    @classmethod
    def from_arrays(
        cls,
        obs: ArrayLike,
        action: ArrayLike,
        reward: ArrayLike,
        terminated: ArrayLike,
        truncated: ArrayLike,
        next_obs: ArrayLike | None = None,
        *,
        n_actions: Counts | None = None,
        env_id: str | None = None,
        env_kwargs: Mapping[str, object] | None = None,
        name: str = "arrays",
        infos: Mapping[str, ArrayLike] | None = None,
        action_low: Bound | None = None,
        action_high: Bound | None = None,
        action_start: int = 0,
        action_units: str = "native",
        n_states: int | None = None,
        reuse: bool = False,
    ) -> Dataset:
        """Build a data set from arrays in episode order; fitting arrays are not copied.

        With `next_obs` every row is kept, time-outs included, so that backups look through time
        limits. Without it the next row's observation is taken. A truncated row's successor is then
        unknown, so these rows (and the last one, unless it terminated) are dropped and the row
        before becomes the cut; `spec.changes` says how many. Terminated rows keep the observation
        that follows, the very last one its own: targets mask it.

        Args:
            obs: `[N, *S]`; float32, uint8 and bool stay as they are, all else becomes float32;
                integers `[N]` or `[N, 1]` of a discrete observation become one-hot.
            action: integers `[N]` or `[N, 1]` for discrete actions, `[N, k]` for those of k parts,
                floats `[N, *A]` for continuous ones, which are flattened.
            reward: `[N]` or `[N, 1]`.
            terminated: `[N]` bool.
            truncated: `[N]` bool; where both flags are set the row counts as terminated.
            next_obs: `[N, *S]`, or None.
            n_actions: number of discrete actions, or choices of each part; by default the largest
                action in the data plus one.
            env_id: Gymnasium id of the environment, for evaluation.
            env_kwargs: keyword arguments for `gymnasium.make`.
            name: what messages call the data set.
            infos: further arrays `[N, ...]`.
            action_low: the environment's lowest continuous action, a number or one per dimension;
                actions are brought to [-1, 1].
            action_high: the highest.
            action_start: the environment's first discrete action; actions are numbered from 0.
            action_units: `native`; or `unit` for actions that are in [-1, 1], or numbered from 0,
                already.
            n_states: number of discrete observations; by default what the environment says.
            reuse: let the arrays be overwritten where rows are dropped, which saves their size in
                memory.

        Raises:
            InputError: lengths differ, no rows, wrong dtype or shape, NaN or infinity, an action
                out of range.
        """
        obs, next_obs = recorded_obs(detached(obs), detached(next_obs), n_states, env_id)
        own = recorded_actions(
            detached(action), n_actions, action_low, action_high, action_start, action_units
        )
        columns = make_columns(
            obs,
            own.action,
            detached(reward),
            detached(terminated),
            detached(truncated),
            next_obs,
            own.n_actions,
            {key: detached(values) for key, values in (infos or {}).items()},
            reuse,
        )

        arrays = columns.arrays
        spec = Spec(
            obs_shape=arrays["obs"].shape[1:],
            n_actions=columns.n_actions,
            action_shape=arrays["action"].shape[1:],
            obs_dtype=str(arrays["obs"].dtype),
            env_id=env_id,
            env_kwargs=dict(env_kwargs or {}),
            action_low=own.low,
            action_high=own.high,
            action_start=action_start,
            action_layout=own.layout,
            action_counts=own.counts,
            changes=record_of_dropped(columns.dropped, columns.dropped + len(arrays["obs"])),
        )

        return cls(
            obs=arrays["obs"],
            action=arrays["action"],
            reward=arrays["reward"],
            next_obs=arrays["next_obs"],
            terminated=arrays["terminated"],
            truncated=arrays["truncated"],
            spec=spec,
            name=name,
            infos=columns.infos,
        )

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
        """Count the rows of each episode, `[E]`."""
        return np.diff(self.episode_ends, prepend=-1)

    def episode_returns(self) -> np.ndarray:
        """Sum the rewards of each episode's rows, undiscounted, `[E]` float64."""
        self._need_one_step("episode_returns")
        starts = np.append(0, self.episode_ends[:-1] + 1)
        return np.add.reduceat(self.reward, starts, dtype=np.float64)

    def subset(self, rows: ArrayLike) -> Dataset:
        """Restrict the data set to some rows.

        A row whose successor is not among them becomes truncated, unless it terminated.

        Args:
            rows: indices, or a mask `[N]`.

        Raises:
            InputError: a mask of another length, indices out of range, or no rows.
        """
        index = row_index(rows, len(self))
        follows = index[1:] == index[:-1] + 1
        follows = np.append(follows, False)

        end = self.end[index] | ~follows
        truncated = self.truncated[index] | (end & ~self.terminated[index])

        part: slice | np.ndarray = index
        if follows[:-1].all():
            part = slice(index[0], index[-1] + 1)  # a view, not a copy

        discount = self.discount
        if discount is not None:
            discount = take(discount, part)
        mixture = self.mixture
        if mixture is not None:
            mixture = mixture.of(part)

        return replace(
            self,
            obs=take(self.obs, part),
            action=take(self.action, part),
            reward=take(self.reward, part),
            next_obs=take(self.next_obs, part),
            terminated=take(self.terminated, part),
            truncated=truncated,
            end=end,
            infos={key: take(value, part) for key, value in self.infos.items()},
            extra={key: take(value, part) for key, value in self.extra.items()},
            discount=discount,
            mixture=mixture,
        )

    def with_mc_returns(self, gamma: float, tail: float = 0.01) -> Dataset:
        """Add `mc_return` `[N]`, the discounted return to the end of the episode.

        Only rows whose return is known are kept: rows of episodes that terminate, and rows from
        which the rewards after the cut weigh gamma^(rows left) <= tail.

        Raises:
            InputError: gamma or tail is no fraction, no row is left, or the rows are n-step sums
                already.
        """
        self._need_one_step("with_mc_returns")
        if not (0 <= gamma <= 1 and 0 <= tail < 1):
            raise InputError(
                f"gamma = {gamma}, tail = {tail}: expected 0 <= gamma <= 1 and 0 <= tail < 1"
            )

        stop = end_index(self.end)
        weight = gamma ** (stop - np.arange(len(self)) + 1.0)
        is_known = self.terminated[stop] | (weight <= tail)
        if not is_known.any():
            longest = self.episode_lengths().max()
            raise InputError(
                f"{self.name}: no Monte-Carlo return is known: no episode terminates, and of the "
                f"longest cut one gamma^{longest} = {weight.min():.2g} > tail = {tail}; "
                "lower gamma or raise tail"
            )

        returns = self._summed(returns_to_go(self.reward, self.end, gamma), "with_mc_returns")
        return self._with_extra("mc_return", returns).subset(is_known)

    def with_next_action(self) -> Dataset:
        """Add `next_action`, the action of the next row, and drop the cut rows that have none.

        Terminated rows get action 0, which targets mask.

        Raises:
            InputError: no row is left, or the rows are n-step sums already.
        """
        self._need_one_step("with_next_action")
        following = np.roll(self.action, -1, axis=0)
        following[self.end] = 0

        has_next = ~self.end | self.terminated
        if not has_next.any():
            raise InputError(
                f"{self.name}: no row has a next action: every episode is a single cut row"
            )
        return self._with_extra("next_action", following).subset(has_next)

    def with_next_policy(self, min_repeat: float = 2.0) -> Dataset:
        """Add `next_policy` `[N, A]`, how often the data took each action at exactly next_obs.

        Rows that lead to an observation at which no action was taken are dropped. Terminated rows
        get the uniform policy, which targets mask. See `behavior_policy`.

        Args:
            min_repeat: the fewest rows per distinct observation, on average, with which
                frequencies mean anything.

        Raises:
            InputError: actions are continuous, observations hardly repeat, or most rows would be
                dropped.
        """
        self._need_one_step("with_next_policy")
        n_actions = self.spec.n_actions
        is_plain = isinstance(self.obs, np.ndarray)  # stacked frames hardly repeat
        if n_actions is None or not is_plain:
            raise InputError(
                f"{self.name}: behavior: counts needs discrete actions and plain arrays; "
                "use behavior: bc, or backup: sarsa"
            )

        policy, visits, repeat = behavior_policy(self.obs, self.action, self.next_obs, n_actions)
        lost = (visits == 0) & ~self.terminated
        most_are_lost = 2 * lost.sum() > (~self.terminated).sum()
        if repeat < min_repeat or most_are_lost:
            raise InputError(
                f"{self.name}: behavior: counts needs repeated observations, found {repeat:.2g} "
                f"rows per distinct one and {lost.sum()} of {len(self)} rows that lead to one "
                "never acted in; use behavior: bc"
            )

        policy[self.terminated] = 1 / n_actions
        return self._with_extra("next_policy", policy).subset(~lost)

    def n_step(self, n: int, gamma: float) -> Dataset:
        """Let every row span up to n steps: summed discounted reward, and the last step's outcome.

        A span is cut at the end of the episode; cut by a truncation it still bootstraps, from the
        last next_obs of the episode. `discount` becomes gamma^(m-1) for a span of m steps.
        next_obs, both flags and the columns named `next_*` are the last step's.

        Raises:
            InputError: n < 1, gamma out of range, or the rows are n-step sums already.
        """
        self._need_one_step("n_step")
        if n < 1 or not 0 <= gamma <= 1:
            raise InputError(f"n = {n}, gamma = {gamma}: expected n >= 1 and 0 <= gamma <= 1")

        reward, last = n_step_rows(self.reward, self.end, n, gamma)
        steps_ahead = (last - np.arange(len(self))).astype(np.float64)

        # Columns of the next step belong to the last one of the span.
        extra = {
            key: take(column, last) if key.startswith("next_") else column
            for key, column in self.extra.items()
        }

        return replace(
            self,
            reward=self._summed(reward, f"n_step = {n}"),
            next_obs=self.next_obs if n == 1 else take(self.next_obs, last),
            terminated=self.terminated[last],
            truncated=self.truncated[last],
            discount=(gamma**steps_ahead).astype(np.float32),
            extra=extra,
        )

    def columns(self) -> dict[str, np.ndarray]:
        """Return the columns that a sampler draws from.

        Returns:
            obs, action, reward, next_obs, terminated, discount (both float32), and the extras.
        """
        discount = self.discount
        if discount is None:
            discount = ones(self.reward)

        return {
            "obs": self.obs,
            "action": self.action,
            "reward": self.reward,
            "next_obs": self.next_obs,
            "terminated": converted(self.terminated, np.float32),
            "discount": discount,
            **self.extra,
        }

    def _summed(self, rewards: np.ndarray, what: str) -> np.ndarray:
        """Return sums of rewards as float32, refusing those that are too large for it."""
        try:
            return float_column("reward", rewards)
        except InputError as error:
            raise InputError(f"{self.name}: {what}: sums of {error}") from None

    def _with_extra(self, key: str, column: np.ndarray) -> Dataset:
        return replace(self, extra={**self.extra, key: column})

    def _need_one_step(self, what: str) -> None:
        if self.discount is not None:
            raise InputError(f"{self.name}: {what} needs one-step rows; call it before n_step")
