"""Behavior policies that `backup: behavior` draws the next action from.

With unique observations, the data took one action at each: a policy that only counts would return
that action, and the backup would be SARSA. A cloned or a known policy also draws actions that the
data never took there, which is what DR3's section 3.1 calls out of sample.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, TypeAlias, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike

from rlop.config.parts import load_part
from rlop.config.schema import (
    Count,
    Index,
    NonEmpty,
    Positive,
    Probability,
    build_choice,
    option,
    options,
)
from rlop.data.dataset import Dataset
from rlop.logs.messages import say
from rlop.training.loop import Loop
from rlop.training.options import TrainOptions
from rlop.types import InputError

from .bc import BC

Probabilities: TypeAlias = Callable[[np.ndarray], ArrayLike]  # [n, *S] -> [n, A]

COLUMN = "next_policy"  # of the batch, and of `infos`
AT_ONCE = 4096  # observations
PARTS = 20  # of a cloning, after each of which it is scored
TOLERANCE = 1e-3  # of a sum of probabilities, against 1


@options
class Counts:
    """Frequencies of the data's own actions at an observation; observations must repeat."""

    def add_to(self, data: Dataset, device: torch.device) -> Dataset:
        """Return the data with `next_policy` `[N, A]`."""
        return data.with_next_policy()


@options
class Cloned:
    """A policy cloned from the data by cross-entropy, one for all runs.

    Some episodes are held out. The clone is the network, among twenty on the way, with the smallest
    cross-entropy on them.
    """

    seed: Index = option(0, "of the clone's network, batches and held-out episodes")
    steps: Count = option(2000, "gradient steps of the clone")
    hidden: Annotated[tuple[Count, ...], NonEmpty()] = option((64, 64), "widths of the clone")
    lr: Positive = option(1e-3, "learning rate of the clone")
    held_out: Probability = option(0.1, "share of the episodes that score the clone; 0: the last")

    def add_to(self, data: Dataset, device: torch.device) -> Dataset:
        """Return the data with `next_policy` `[N, A]`, the clone's at the next observations."""
        held = self.held(data)
        scored = np.flatnonzero(held)
        clone = BC(
            data.spec,
            seeds=[self.seed],
            device=device,
            hidden=self.hidden,
            lr=self.lr,
            batch_size=min(128, int((~held).sum())),
        )
        part = max(1, self.steps // PARTS)
        schedule = TrainOptions(
            steps=part * -(-self.steps // part),
            log_every=part,  # so that no launch goes beyond a part
            probe_every=0,
            probe_size=1,
            eval_every=0,
            checkpoint_every=0,
            compile=False,
        )
        loop = Loop(clone, data.subset(~held), schedule)

        best, policy = np.inf, np.empty(0)
        while loop.step < schedule.steps:
            loop.advance()
            if loop.step % part:
                continue
            loss = self.loss(clone, data, scored)
            if loss <= best:
                best, policy = loss, probabilities(clone, data.next_obs)

        if len(scored):
            say(f"{data.name}: behavior cloned, cross-entropy {best:.3f} on {len(scored)} rows")
        return with_policy(data, policy)

    def held(self, data: Dataset) -> np.ndarray:
        """Mark the rows of the held-out episodes, `[N]` bool; at least one episode trains."""
        count = min(round(self.held_out * data.n_episodes), data.n_episodes - 1)
        drawn = np.random.default_rng(self.seed).choice(data.n_episodes, count, replace=False)
        is_held = np.isin(np.arange(data.n_episodes), drawn)
        return np.repeat(is_held, data.episode_lengths())

    def loss(self, clone: BC, data: Dataset, rows: np.ndarray) -> float:
        """Return the mean cross-entropy of the data's actions at some rows; 0 for no rows."""
        if not len(rows):
            return 0.0
        chances = probabilities(clone, data.obs[rows])
        taken = np.take_along_axis(chances, data.action[rows][:, None], axis=1)
        return float(-np.log(np.maximum(taken, 1e-30)).mean())


@options
class Known:
    """The policy that acted, where it is known."""

    policy: str | None = option(
        None,
        "module:function of observations [n, *S] that returns probabilities [n, A]; "
        "null: the data's own infos/next_policy",
    )

    def add_to(self, data: Dataset, device: torch.device) -> Dataset:
        """Return the data with `next_policy` `[N, A]`, the known one."""
        if self.policy is None:
            if COLUMN not in data.infos:
                raise InputError(
                    f"{data.name}: behavior.known: no infos/{COLUMN} in the data; expected policy, "
                    "the module:function of observations that gives it, or behavior: bc"
                )
            return with_policy(data, data.infos[COLUMN])

        function = load_part(self.policy, "a function of observations", "behavior.known.policy")
        if not callable(function):
            raise InputError(f"behavior.known.policy: {self.policy!r}: expected a function")
        known = cast(Probabilities, function)
        try:
            chances = np.concatenate([np.asarray(known(part)) for part in parts(data.next_obs)])
        except Exception as error:  # the function is the user's
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise InputError(f"behavior.known.policy: {self.policy}: {reason}") from error
        return with_policy(data, chances)


Source: TypeAlias = Counts | Cloned | Known
SOURCES: Mapping[str, type[Source]] = {"counts": Counts, "bc": Cloned, "known": Known}


def with_policy(data: Dataset, policy: ArrayLike) -> Dataset:
    """Return the data with `next_policy` `[N, A]`; terminated rows get the uniform policy.

    Raises:
        InputError: another shape, or rows that are not probabilities.
    """
    n_actions = data.spec.n_actions
    table = np.array(policy, np.float32)
    if n_actions is None or table.shape != (len(data), n_actions):
        raise InputError(
            f"{data.name}: behavior: probabilities {table.shape}, expected {(len(data), n_actions)}"
        )
    table[data.terminated] = 1 / n_actions  # targets mask it
    is_off = ~(np.abs(table.sum(1) - 1) < TOLERANCE) | (table < 0).any(1)
    if is_off.any():
        row = int(is_off.argmax())
        raise InputError(
            f"{data.name}: behavior: row {row} sums to {table[row].sum():g}, "
            "expected probabilities of the actions"
        )
    return replace(data, extra={**data.extra, COLUMN: table})


@torch.no_grad()
def probabilities(clone: BC, obs: np.ndarray) -> np.ndarray:
    """Return the clone's probabilities of the actions, `[n, *S]` to `[n, A]` float32."""
    answers = []
    for part in parts(obs):
        given = torch.from_numpy(part).to(clone.device).unsqueeze(0)
        answers.append(F.softmax(clone.actor(given)[1][0], -1).cpu().numpy())
    return np.concatenate(answers)


def parts(obs: np.ndarray) -> list[np.ndarray]:
    """Cut observations, which may be stacked frames, into arrays of at most `AT_ONCE`."""
    return [np.array(obs[i : i + AT_ONCE]) for i in range(0, len(obs), AT_ONCE)]


def make_source(source: str | Mapping[str, object]) -> Source:
    """Build a source from `name` or `{name: {option: value}}`.

    Raises:
        InputError: for an unknown name or option, an impossible value, or more than one source.
    """
    return build_choice(SOURCES, source, "behavior")
