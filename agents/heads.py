"""Output heads of DQN: one value for each action, or K numbers from which values are computed.

A head turns the network's outputs z `[R, B, A, K]` into action values `[R, B, A]`, gives the
particles that represent the next state's value (see `rlop.losses.distributional`), and computes the
loss of the data action's z against the particles of the target.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor

from rlop.agent import NoiseShapes
from rlop.config.schema import Count, Positive, build_choice, option, options
from rlop.losses import distributional as dist
from rlop.losses.noise import TargetNoise
from rlop.losses.td import select
from rlop.optim import optimizer_options
from rlop.optim.choice import RMDOptions
from rlop.types import InputError

# (target network's values, online network's values) [..., A] -> action that is backed up [...]
Pick: TypeAlias = Callable[[Tensor, Tensor | None], Tensor]
Error: TypeAlias = Callable[[Tensor], Tensor]  # Huber or square, elementwise


@options
class Ensemble:
    """K values for each action, each with its own backup and its own error; K = 1 is DQN.

    Reference: Agarwal, Schuurmans, Norouzi, ICML 2020, arXiv:1907.04543, Ensemble-DQN.
    """

    one_target: ClassVar[bool] = False  # a transition is regressed on a single number
    by_error: ClassVar[bool] = True  # the loss is a function of differences, Huber or square

    n: Count = option(200, "values for each action, K")

    def draws(self) -> NoiseShapes:
        """Return kinds and shapes of the random numbers that one update needs."""
        return {}

    def split(self, outputs: Tensor) -> Tensor:
        """Return a network's outputs `[..., A K]` as z `[..., A, K]`."""
        return outputs.unflatten(-1, (-1, self.n))

    def mix(self, z: Tensor, noise: Mapping[str, Tensor]) -> Tensor:
        """Return the outputs as the update uses them."""
        return z

    def mean(self, z: Tensor) -> Tensor:
        """Return action values: z `[..., A, K]` to `[..., A]`."""
        return z.mean(-1)

    def at(self, z: Tensor, action: Tensor) -> Tensor:
        """Return the numbers of one action: z `[R, B, A, K]` and int64 `[R, B]` to `[R, B, K]`."""
        return dist.select_atoms(z, action)

    def target(self, particles: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the mean of the target's particles, `[R, B, J]` to `[R, B]`."""
        return particles.mean(-1) if weights is None else (weights * particles).sum(-1)

    def single(self, target: Tensor) -> Tensor:
        """Return a target `[R, B]` as its only particle."""
        return target.unsqueeze(-1)

    def best(self, z: Tensor, z_online: Tensor | None, pick: Pick) -> Tensor:
        """Return the action that is backed up, picked by action values `[R, B]`."""
        online = None if z_online is None else self.mean(z_online)
        return pick(self.mean(z), online)

    def particles(
        self, z: Tensor, z_online: Tensor | None, pick: Pick
    ) -> tuple[Tensor, Tensor | None]:
        """Return the next state's particles, `[R, B, J]`, and their weights, None if all are equal.

        Args:
            z: outputs of the target network at s', `[R, B, A, K]`.
            z_online: outputs of the online network at s', if the backup reads them.
            pick: function of the backup that chooses the action.
        """
        # Each of the K values picks its own action.
        online = None if z_online is None else z_online.mT
        action = pick(z.mT, online)
        return dist.select_atoms(z, action), None

    def loss(self, z: Tensor, particles: Tensor, weights: Tensor | None, error: Error) -> Tensor:
        """Return the loss of each transition, `[R, B]`.

        Args:
            z: outputs of the data's action, `[R, B, K]`.
            particles: particles of the target, `[R, B, J]`.
            weights: weights of the particles; None if they are equal.
            error: elementwise loss of a difference.
        """
        return error(z - particles).mean(-1)


@options
class Scalar(Ensemble):
    """One value for each action. Its tensors lack the axes K and J, which would cost operations."""

    one_target: ClassVar[bool] = True
    n: Count = option(1, "values for each action")

    def __post_init__(self) -> None:
        if self.n != 1:
            raise InputError(f"n = {self.n}: expected 1; an ensemble has more")

    def split(self, outputs: Tensor) -> Tensor:
        """Return a network's outputs `[..., A]`."""
        return outputs

    def mean(self, z: Tensor) -> Tensor:
        """Return action values, which are z."""
        return z

    def at(self, z: Tensor, action: Tensor) -> Tensor:
        """Return the value of one action: z `[R, B, A]` and int64 `[R, B]` to `[R, B]`."""
        return select(z, action)

    def target(self, particles: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the target, which is its only particle."""
        return particles

    def single(self, target: Tensor) -> Tensor:
        """Return the target, which is its only particle."""
        return target

    def particles(
        self, z: Tensor, z_online: Tensor | None, pick: Pick
    ) -> tuple[Tensor, Tensor | None]:
        """Return the next state's value, `[R, B]`."""
        return select(z, pick(z, z_online)), None

    def loss(self, z: Tensor, particles: Tensor, weights: Tensor | None, error: Error) -> Tensor:
        """Return the error of the value, `[R, B]`."""
        return error(z - particles)


@options
class REM(Ensemble):
    """Random convex combinations of K values, each an ensemble member for one update.

    Online and target network share the mixture; agents act on the plain mean of the heads.

    Reference: Agarwal, Schuurmans, Norouzi, ICML 2020, arXiv:1907.04543, random ensemble mixture.
    """

    num_convex_combinations: Count = option(
        1, "mixtures of one update, C; the loss is the mean of theirs"
    )

    def draws(self) -> NoiseShapes:
        """Return one mixture for the whole minibatch of a run."""
        return {"mixture": ("uniform", (self.n, self.num_convex_combinations))}

    def mix(self, z: Tensor, noise: Mapping[str, Tensor]) -> Tensor:
        """Return C convex combinations of the K values: `[R, B, A, K]` to `[R, B, A, C]`."""
        weights = dist.convex_weights(noise["mixture"])  # [R, K, C]
        return z @ weights.unsqueeze(1)


@options
class Quantile(Ensemble):
    """K quantiles of the return: QR-DQN.

    Reference: Dabney et al., AAAI 2018, arXiv:1710.10044.
    """

    by_error: ClassVar[bool] = False

    def particles(
        self, z: Tensor, z_online: Tensor | None, pick: Pick
    ) -> tuple[Tensor, Tensor | None]:
        """Return the quantiles of the action with the best mean."""
        action = self.best(z, z_online, pick)
        return dist.select_atoms(z, action), None

    def loss(self, z: Tensor, particles: Tensor, weights: Tensor | None, error: Error) -> Tensor:
        """Return the quantile Huber loss with kappa 1."""
        return dist.quantile_huber(z, particles)


@options
class Categorical(Ensemble):
    """Probabilities of n returns between two ends, as logits: C51.

    Reference: Bellemare, Dabney, Munos, ICML 2017, arXiv:1707.06887.
    """

    by_error: ClassVar[bool] = False
    n: Count = option(51, "returns of the support")
    v_min: float = option(-10.0, "lowest return")
    v_max: float = option(10.0, "highest return")

    def __post_init__(self) -> None:
        if not (self.n >= 2 and self.v_min < self.v_max):
            raise InputError(
                f"n = {self.n}, v_min = {self.v_min}, v_max = {self.v_max}: "
                "expected n >= 2 and v_min < v_max"
            )

    def values(self, z: Tensor) -> Tensor:
        """Return the support of the distribution, `[n]`."""
        return dist.support(self.v_min, self.v_max, self.n, z)

    def mean(self, z: Tensor) -> Tensor:
        """Return expected returns: logits `[..., A, n]` to `[..., A]`."""
        return z.softmax(-1) @ self.values(z)

    def particles(
        self, z: Tensor, z_online: Tensor | None, pick: Pick
    ) -> tuple[Tensor, Tensor | None]:
        """Return the support, weighted by the probabilities of the action with the best mean."""
        action = self.best(z, z_online, pick)
        weights = dist.select_atoms(z, action).softmax(-1)
        return self.values(z).expand_as(weights), weights

    def loss(self, z: Tensor, particles: Tensor, weights: Tensor | None, error: Error) -> Tensor:
        """Return the cross-entropy against the particles, projected onto the support."""
        if weights is None:
            weights = torch.ones_like(particles)
        target = dist.project_categorical(particles, weights, self.v_min, self.v_max, self.n)
        return dist.cross_entropy(z, target)


@options
class HLGauss(Categorical):
    """Probabilities of n bins, as logits, trained toward a normal distribution around a
    single target. Targets lack the axis J.

    Reference: Farebrother et al., "Stop Regressing", ICML 2024, arXiv:2403.03950.
    """

    one_target: ClassVar[bool] = True
    sigma: Positive = option(0.75, "standard deviation of the target, in widths of a bin")

    def values(self, z: Tensor) -> Tensor:
        """Return the centers of the bins, `[n]`."""
        return dist.bin_centers(self.v_min, self.v_max, self.n, z)

    def particles(
        self, z: Tensor, z_online: Tensor | None, pick: Pick
    ) -> tuple[Tensor, Tensor | None]:
        """Return the mean of the action with the best mean, `[R, B]`."""
        return select(self.mean(z), self.best(z, z_online, pick)), None

    def target(self, particles: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the target, which is its only particle."""
        return particles

    def single(self, target: Tensor) -> Tensor:
        """Return the target, which is its only particle."""
        return target

    def loss(self, z: Tensor, particles: Tensor, weights: Tensor | None, error: Error) -> Tensor:
        """Return the cross-entropy against the smoothed target."""
        target = dist.hl_gauss(particles, self.v_min, self.v_max, self.n, self.sigma)
        return dist.cross_entropy(z, target)


HEADS: dict[str, type[Ensemble]] = {
    "scalar": Scalar,
    "ensemble": Ensemble,
    "rem": REM,
    "quantile": Quantile,
    "categorical": Categorical,
    "hl_gauss": HLGauss,
}


def check_fit(
    head: Ensemble,
    choice: str | Mapping[str, object],
    target_noise: TargetNoise | None,
    optimizer: str | dict[str, object],
) -> None:
    """Reject options of an agent that do not fit its head.

    Args:
        head: of the agent.
        choice: its option `head`.
        target_noise, optimizer: options of the agent.
    Raises:
        InputError: for label noise without a single target, and RMD without a single value.
    """
    if target_noise is not None and not head.one_target:
        raise InputError(
            f"target_noise: not with head {name_of(choice)}, "
            "expected one with a single target: scalar or hl_gauss"
        )
    uses_rmd = isinstance(optimizer_options(optimizer), RMDOptions)
    if uses_rmd and not isinstance(head, Scalar):
        raise InputError(
            f"optimizer rmd: not with head {name_of(choice)}, "
            "its slacks are of one value for each transition"
        )


def name_of(choice: str | Mapping[str, object]) -> str:
    """Return the name of the head that an option `head` chooses."""
    return choice if isinstance(choice, str) else next(iter(choice))


def make_head(head: str | Mapping[str, object]) -> Ensemble:
    """Build a head from `name` or `{name: {option: value}}`.

    Raises:
        InputError: for an unknown name or option, an impossible value, or more than one head.
    """
    return build_choice(HEADS, head, "head")
