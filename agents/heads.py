"""What stands on the features of DQN: one value for each action, or K numbers from which values are made.

A head turns the network's outputs z `[R, B, A, K]` into action values `[R, B, A]`, names the particles that stand for
the next state's value (see `rlop.losses.distributional`), and holds z of the data's action to the particles once
they are backed up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from rlop.config.schema import Count, Positive, build_choice, option, options
from rlop.losses import distributional as dist
from rlop.types import InputError

Pick = Callable[
    [Any, Any], Tensor
]  # (target values, online values) [..., A] -> the action that is backed up
Draws = dict[str, tuple[str, tuple[int, ...]]]  # random numbers of an update, as in `agent.noise`
Error = Callable[[Tensor], Tensor]  # Huber or square, elementwise


@options
class Ensemble:
    """K values for each action, each with its own backup and its own error; K = 1 is DQN.

    Reference: Agarwal, Schuurmans, Norouzi, ICML 2020, arXiv:1907.04543, Ensemble-DQN.
    """

    one_target: ClassVar[bool] = False  # whether what a transition is regressed on is one number
    by_error: ClassVar[bool] = (
        True  # whether the loss is a function of differences, Huber or square
    )
    n: Count = option(200, "values for each action, K")

    def draws(self) -> Draws:
        """The random numbers that one update needs."""
        return {}

    def split(self, outputs: Tensor) -> Tensor:
        """A network's outputs `[..., A K]` as z `[..., A, K]`."""
        return outputs.unflatten(-1, (-1, self.n))

    def mix(self, z: Tensor, noise: Mapping[str, Tensor]) -> Tensor:
        """What the update sees of the outputs."""
        return z

    def mean(self, z: Tensor) -> Tensor:
        """Action values `[R, B, A]`."""
        return z.mean(-1)

    def best(self, z: Tensor, z_online: Tensor | None, pick: Pick) -> Tensor:
        """The action that is backed up, picked by action values `[R, B]`."""
        return pick(self.mean(z), None if z_online is None else self.mean(z_online))

    def particles(
        self, z: Tensor, z_online: Tensor | None, pick: Pick
    ) -> tuple[Tensor, Tensor | None]:
        """Next state's particles and their weights, `[R, B, J]` each, from the target and the online network's z."""
        action = pick(z.mT, None if z_online is None else z_online.mT)  # of each head
        return dist.select_atoms(z, action), None

    def loss(self, z: Tensor, particles: Tensor, weights: Tensor | None, error: Error) -> Tensor:
        """Loss of each transition `[R, B]`: z `[R, B, K]` of the data's action against what was backed up."""
        return error(z - particles).mean(-1)


@options
class Scalar(Ensemble):
    """One value for each action."""

    one_target: ClassVar[bool] = True
    n: Count = option(1, "values for each action")

    def __post_init__(self) -> None:
        if self.n != 1:
            raise InputError(f"n = {self.n}: expected 1; an ensemble has more")


@options
class REM(Ensemble):
    """Random convex combinations of K values, each an ensemble member for one update.

    Online and target network share the mixture; agents act on the plain mean of the heads.

    Reference: Agarwal, Schuurmans, Norouzi, ICML 2020, arXiv:1907.04543, random ensemble mixture.
    """

    num_convex_combinations: Count = option(
        1, "mixtures of one update, C; the loss is the mean of theirs"
    )

    def draws(self) -> Draws:
        """One mixture for the whole minibatch of a run."""
        return {"mixture": ("uniform", (self.n, self.num_convex_combinations))}

    def mix(self, z: Tensor, noise: Mapping[str, Tensor]) -> Tensor:
        """`[R, B, A, K] -> [R, B, A, C]`."""
        return z @ dist.convex_weights(noise["mixture"]).unsqueeze(1)


@options
class Quantile(Ensemble):
    """K quantiles of the return: QR-DQN.

    Reference: Dabney et al., AAAI 2018, arXiv:1710.10044.
    """

    by_error: ClassVar[bool] = False

    def particles(
        self, z: Tensor, z_online: Tensor | None, pick: Pick
    ) -> tuple[Tensor, Tensor | None]:
        """The quantiles of the action with the best mean."""
        return dist.select_atoms(z, self.best(z, z_online, pick)), None

    def loss(self, z: Tensor, particles: Tensor, weights: Tensor | None, error: Error) -> Tensor:
        """Quantile Huber loss, kappa 1."""
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
                f"n = {self.n}, v_min = {self.v_min}, v_max = {self.v_max}: expected n >= 2 and v_min < v_max"
            )

    def values(self, z: Tensor) -> Tensor:
        """The returns that the probabilities are of, `[n]`."""
        return dist.support(self.v_min, self.v_max, self.n, z)

    def mean(self, z: Tensor) -> Tensor:
        """Expected returns."""
        return z.softmax(-1) @ self.values(z)

    def particles(
        self, z: Tensor, z_online: Tensor | None, pick: Pick
    ) -> tuple[Tensor, Tensor | None]:
        """All returns, with the probabilities of the action with the best mean as weights."""
        weights = dist.select_atoms(z, self.best(z, z_online, pick)).softmax(-1)
        return self.values(z).expand_as(weights), weights

    def loss(self, z: Tensor, particles: Tensor, weights: Tensor | None, error: Error) -> Tensor:
        """Cross-entropy against the projected particles."""
        weights = torch.ones_like(particles) if weights is None else weights
        return dist.cross_entropy(
            z, dist.project_categorical(particles, weights, self.v_min, self.v_max, self.n)
        )


@options
class HLGauss(Categorical):
    """Probabilities of n bins, as logits, trained towards a normal distribution around an ordinary target.

    Reference: Farebrother et al., "Stop Regressing", ICML 2024, arXiv:2403.03950.
    """

    one_target: ClassVar[bool] = True
    sigma: Positive = option(0.75, "standard deviation of the target, in widths of a bin")

    def values(self, z: Tensor) -> Tensor:
        """Middles of the bins, `[n]`."""
        return dist.bin_centers(self.v_min, self.v_max, self.n, z)

    def particles(
        self, z: Tensor, z_online: Tensor | None, pick: Pick
    ) -> tuple[Tensor, Tensor | None]:
        """One: the mean of the action with the best mean."""
        values = self.mean(z)
        action = pick(values, None if z_online is None else self.mean(z_online))
        return dist.select_atoms(values.unsqueeze(-1), action), None

    def loss(self, z: Tensor, particles: Tensor, weights: Tensor | None, error: Error) -> Tensor:
        """Cross-entropy against the smoothed target."""
        return dist.cross_entropy(
            z, dist.hl_gauss(particles.squeeze(-1), self.v_min, self.v_max, self.n, self.sigma)
        )


HEADS: dict[str, type[Ensemble]] = {
    "scalar": Scalar,
    "ensemble": Ensemble,
    "rem": REM,
    "quantile": Quantile,
    "categorical": Categorical,
    "hl_gauss": HLGauss,
}


def make_head(head: str | Mapping[str, Any]) -> Ensemble:
    """The head that `name` or `{name: {option: value}}` asks for.

    Raises:
        InputError: for an unknown name or option, an impossible value, or more than one head.
    """
    return build_choice(HEADS, head, "head")
