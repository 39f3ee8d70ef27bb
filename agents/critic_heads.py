"""Output heads of critics Q_e(s, a): one value, or K numbers that describe a distribution.

Their options are those of DQN's heads. The critics of a run are compared by their expected values;
the loss is that of the distribution against particles of the target, which are those of the critic
with the lowest expected value. A head with a single target has no axis J of particles.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from torch import Tensor

from rlop.config.schema import Count, build_choice, option, options
from rlop.losses import distributional as dist
from rlop.losses import td
from rlop.nets import Critics

from .heads import Error, HLGauss, Quantile, Scalar


@options
class ScalarCritic(Scalar):
    """One value of each critic."""

    def mean(self, z: Tensor) -> Tensor:
        """Return the values: `[..., 1]` to `[...]`."""
        return z.squeeze(-1)

    def lowest(self, z: Tensor) -> Tensor:
        """Return the lowest value of all critics: `[R, E, B, 1]` to `[R, B]`."""
        return z.squeeze(-1).amin(1)

    def best_of(
        self, critics: Critics, obs: Tensor, actions: Tensor, min_first: bool
    ) -> tuple[Tensor, Tensor]:
        """Return the pessimistic value of the best action and its index, see `best_value`."""
        return best_value(critics, obs, actions, min_first)

    def loss(self, z: Tensor, particles: Tensor, weights: Tensor | None, error: Error) -> Tensor:
        """Return the error of the values: z `[..., 1]` and target `[...]` to `[...]`."""
        return error(z.squeeze(-1) - particles)


@options
class HLGaussCritic(HLGauss):
    """Probabilities of n bins, as logits, trained toward a normal distribution around the target.

    Reference: Farebrother et al., "Stop Regressing", ICML 2024, arXiv:2403.03950.
    """

    def lowest(self, z: Tensor) -> Tensor:
        """Return the lowest expected value of all critics: `[R, E, B, n]` to `[R, B]`."""
        return self.mean(z).amin(1)

    def best_of(
        self, critics: Critics, obs: Tensor, actions: Tensor, min_first: bool
    ) -> tuple[Tensor, Tensor]:
        """Return the pessimistic value of the best action and its index, see `best_value`."""
        return best_value(critics, obs, actions, min_first)


@options
class QuantileCritic(Quantile):
    """K quantiles of the return of each critic.

    Reference: Dabney et al., AAAI 2018, arXiv:1710.10044.
    """

    n: Count = option(32, "quantiles, K")  # as d3rlpy's QRQFunctionFactory

    def lowest(self, z: Tensor) -> Tensor:
        """Return the quantiles of the lowest expected value: `[R, E, B, K]` to `[R, B, K]`."""
        critic = self.mean(z).argmin(1)
        return dist.select_atoms(z.movedim(1, 2), critic)

    def best_of(
        self, critics: Critics, obs: Tensor, actions: Tensor, min_first: bool
    ) -> tuple[Tensor, Tensor]:
        """Return the quantiles `[R, B, K]` of action and critic that `td.pessimistic_max` names.

        Args and second result: as of `best_value`.
        """
        z = critics.outputs(obs, actions)[1]  # [R, E, B, N, K]
        _, action, critic = td.pessimistic_max(self.mean(z), min_first)

        of_action = action.unsqueeze(1).expand(z.shape[:3])
        at_action = dist.select_atoms(z, of_action)  # [R, E, B, K]
        return dist.select_atoms(at_action.movedim(1, 2), critic), action


CriticHead: TypeAlias = ScalarCritic | QuantileCritic | HLGaussCritic

CRITIC_HEADS: dict[str, type[CriticHead]] = {
    "scalar": ScalarCritic,
    "quantile": QuantileCritic,
    "hl_gauss": HLGaussCritic,
}


def best_value(
    critics: Critics, obs: Tensor, actions: Tensor, min_first: bool
) -> tuple[Tensor, Tensor]:
    """Return the pessimistic value of the best of N actions `[R, B]`, and its index `[R, B]`.

    Args:
        critics: that value the actions.
        obs: `[R, B, *obs_shape]`.
        actions: `[R, B, N, m]`.
        min_first: order of minimum and maximum, see `td.pessimistic_max`.
    """
    value, action, _ = td.pessimistic_max(critics.values(obs, actions), min_first)
    return value, action


def make_critic_head(head: str | Mapping[str, object]) -> CriticHead:
    """Build a head from `name` or `{name: {option: value}}`.

    Raises:
        InputError: for an unknown name or option, an impossible value, or more than one head.
    """
    return build_choice(CRITIC_HEADS, head, "head")
