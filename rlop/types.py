"""Data types that every part of the library shares.

Axes, always in this order: R runs, E critics, B batch, A actions, D features, N transitions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

# The command line and the option classes need `InputError` alone, without half a second of torch.
if TYPE_CHECKING:
    from torch import Tensor


class InputError(ValueError):
    """Invalid user input; the message is one line with the value and what was expected."""


class Interrupted(KeyboardInterrupt):
    """A signal asked a training to end; its state was saved.

    Args:
        number: of the signal; the exit code of a command is 128 more, as a shell reports it.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@dataclass(frozen=True)
class Spec:
    """The properties of a data set that an agent must know before its first batch.

    Args:
        obs_shape: shape of one observation.
        n_actions: number of discrete actions; None for continuous actions.
        action_shape: shape of one continuous action; () for discrete actions.
        obs_dtype: NumPy name of the stored dtype; `uint8` observations are scaled by 1/255 in the
            network.
        env_id: Gymnasium id of the environment the data came from, when known.
        env_kwargs: keyword arguments for `gymnasium.make(env_id)`.
        obs_normalizer: mean and divisor of every entry of an observation, in order, if the data's
            observations are normalized (`rlop.data.transforms.normalize_obs`); the observations
            that an agent acts on must then be normalized, too.
        obs_keys: parts of the environment's dictionary observations, in the order in which the data
            join them; () for other observations.
        obs_axes: axes of the environment's observations in the order of the data's, as
            `numpy.transpose` takes them; () for the same order.
        action_low: the environment's continuous actions that are -1 in the data, one number per
            dimension; None if unknown.
        action_high: those that are 1.
        action_start: the environment's first discrete action, which is 0 in the data.
        action_layout: shape of the environment's continuous actions, if the data flatten them.
        action_counts: choices of each part of a MultiDiscrete action, which the data number
            row-major as one discrete action.
        changes: what was done to the data, in order, for people to read: rows that were dropped
            when they were read, and every transform.
    """

    obs_shape: tuple[int, ...]
    n_actions: int | None = None
    action_shape: tuple[int, ...] = ()
    obs_dtype: str = "float32"
    env_id: str | None = None
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    obs_normalizer: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    obs_keys: tuple[str, ...] = ()
    obs_axes: tuple[int, ...] = ()
    action_low: tuple[float, ...] | None = None
    action_high: tuple[float, ...] | None = None
    action_start: int = 0
    action_layout: tuple[int, ...] | None = None
    action_counts: tuple[int, ...] | None = None
    changes: tuple[str, ...] = ()

    @property
    def shapes(self) -> str:
        """Describe the observations and actions that an agent's networks depend on."""
        actions = (
            f"continuous {self.action_shape}"
            if self.n_actions is None
            else f"{self.n_actions} discrete"
        )
        return f"observations {self.obs_shape} {self.obs_dtype}, {actions} actions"


class Batch(NamedTuple):
    """One minibatch for each of R runs.

    `discount` is gamma^(m-1) for a transition that spans m steps (1 for one-step data), so that the
    TD target is `reward + gamma * discount * (1 - terminated) * value(next_obs)`; a time-out leaves
    `terminated` 0 and bootstraps.
    """

    obs: Tensor  # [R, B, *obs_shape]
    action: Tensor  # [R, B] int64, or [R, B, *action_shape]
    reward: Tensor  # [R, B]
    next_obs: Tensor  # [R, B, *obs_shape]
    terminated: Tensor  # [R, B] float, 1 where the episode ended for good
    discount: Tensor  # [R, B]
    index: Tensor  # type: ignore[assignment]  # [R, B] int64, row in the data set
    extra: dict[
        str, Tensor
    ]  # columns that only some backups need: next_action, next_policy, mc_return


KEPT = "terms."  # prefix of the parameters and buffers that regularizers keep in a network


@dataclass(frozen=True)
class TDContext:
    """Everything that a regularizer may read in one update of R runs.

    `next_features` come from the online network, with gradient; `next_features_target` come from
    the target network and `initial_features` from the network at initialization, both without
    gradient. Each is None when no regularizer of the agent asked for it (see `needs`). With E
    critics, features and values have an axis E after R. `slopes` are there for critics of
    continuous actions alone, with gradient.
    """

    features: Tensor  # [R, B, D] (or [R, E, B, D]) phi(s, a), input of the last linear layer
    q: Tensor  # [R, B] value of the data action
    q_values: Tensor  # [R, B, A] value of every action, or of the candidates an agent values
    target: Tensor  # [R, B] TD target, detached
    action: Tensor  # [R, B]
    terminated: Tensor  # [R, B] float
    index: Tensor  # [R, B]
    next_features: Tensor | None = None  # [R, B, D] phi(s', a')
    next_features_target: Tensor | None = None  # [R, B, D]
    initial_features: Tensor | None = None  # [R, B, D] phi0(s, a)
    reward: Tensor | None = None  # [R, B], summed over n steps for n-step data
    discount: Tensor | None = None  # [R, B] factor of the next value: gamma, or gamma^n for n steps
    slopes: Tensor | None = None  # [R, E, B, m] dQ_e(s, a)/da
    parameters: Mapping[str, Tensor] = field(
        default_factory=dict
    )  # online network, by name, each [R, ...]
    initial: Mapping[str, Tensor] = field(default_factory=dict)  # the same at initialization


OPTIONAL = frozenset(
    {"next_features", "next_features_target", "initial_features", "reward", "discount"}
)
# Not every agent has these; who declares nothing does not get them.
ON_REQUEST = frozenset({"slopes"})

Metrics: TypeAlias = "dict[str, Tensor]"  # name -> [R], detached, on the device
Penalty: TypeAlias = "Callable[[TDContext], Tensor]"  # -> [R], unweighted


@dataclass(frozen=True)
class Declared:
    """A penalty function that declares which optional fields of `TDContext` it reads.

    Args:
        function: `TDContext` to `[R]`, unweighted.
        needs: names of the fields.
    """

    function: Penalty
    needs: frozenset[str]

    def __call__(self, ctx: TDContext) -> Tensor:
        """Call the function."""
        return self.function(ctx)


def needs(*fields: str) -> Callable[[Penalty], Declared]:
    """Declare which optional fields of `TDContext` a function reads; no agent computes the others.

        @needs("reward")
        def my_penalty(ctx: TDContext) -> Tensor: ...

    Without it, a function gets every optional field but `slopes`.

    Args:
        fields: names of optional fields.
    """

    def declare(function: Penalty) -> Declared:
        return Declared(function, frozenset(fields))

    return declare
