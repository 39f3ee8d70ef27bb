"""PEER and BEER: keep the features of an action-value network away from its target network's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from rlop.config.schema import option, options
from rlop.regularizers.base import (
    Regularizer,
    nonterminal,
    repeat_over_critics,
    required,
    sum_over_critics,
)
from rlop.regularizers.cosine import cosines
from rlop.regularizers.dr3 import dr3, warn_if_unbounded
from rlop.regularizers.shapes import check_pair, masked_mean
from rlop.types import Penalty, TDContext

PRESETS: dict[str, Mapping[str, object]] = {
    # sweetice/PEER-CVPR23 and sweetice/BEER-ICLR2024 have no terminal mask
    "peer/official": {"mask_terminal": False},
    "beer/official": {"mask_terminal": False},
}


def peer(features: Tensor, next_features_target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Compute the mean dot product of phi(s, a) with the target network's phi'(s', a').

        1/B sum_b m_b phi(s_b, a_b) . stop_gradient( phi'(s'_b, a'_b) )

    It is `dr3` with a target network on the second side.

    Args:
        features: online phi(s, a), `[..., B, D]`.
        next_features_target: the target network's, same shape; detached here.
        mask: 1 - terminated, `[..., B]`, float or bool; the sum is divided by B with a mask as
            well.
    Returns:
        `[...]`, unweighted.
    Raises:
        ValueError: when shapes differ.
    Reference: He et al., "Frustratingly Easy Regularization on Representation Can Boost Deep
        Reinforcement Learning", CVPR 2023, arXiv:2205.14557; the formula is the one in the
        authors' code, bullet_mujoco/peer.py.
    """
    return dr3(features, next_features_target.detach(), mask)


@options
class PEER(Regularizer):
    """`peer` of every critic, summed.

    Coefficients in the authors' code: 5e-4 on Atari, default 1e-3 on PyBullet.

    Differs from: the authors' code, which counts terminal transitions; `peer/official` does too.
    """

    mask_terminal: bool = option(True, "leave out terminal transitions")

    @property
    def needs(self) -> frozenset[str]:
        """The target network's features of the next state."""
        return frozenset({"next_features_target"})

    def attach(self, network: nn.Module, activation: str, seeds: Sequence[int]) -> Penalty:
        """Warn of a penalty that is unbounded below on these features."""
        warn_if_unbounded("signed", activation, "peer")
        return self

    def __call__(self, ctx: TDContext) -> Tensor:
        """Compute the penalty of each run, `[R]`."""
        next_features = required(ctx.next_features_target, "next_features_target", self)
        mask = nonterminal(ctx) if self.mask_terminal else None
        return sum_over_critics(peer(ctx.features, next_features, mask))


def beer(
    features: Tensor,
    next_features: Tensor,
    next_features_target: Tensor,
    reward: Tensor,
    discount: Tensor,
    head_weight: Tensor,
    mask: Tensor | None = None,
) -> Tensor:
    """Compute by how much the features' cosine exceeds the bound of the Bellman equation.

        1/B sum_b m_b relu( cos(phi, phi'_target) - bound ),
        bound = [ |phi|^2 + g^2 |phi'|^2 - r^2 / |w|^2 ] / (2 g |phi| |phi'_target|),
        without gradient

    because r = w . (phi - g phi') and so |r| <= |w| |phi - g phi'|. A row with a zero vector or
    with g = 0 has no bound and counts as 0.

    Args:
        features: online phi(s, a), `[..., B, D]`, the only one that gets a gradient.
        next_features: online phi(s', a'), same shape.
        next_features_target: the target network's phi'(s', a'), same shape.
        reward: r, `[..., B]`.
        discount: g, the factor of the next value, `[..., B]`.
        head_weight: w, `[..., A, D]`, as a whole: with several actions the head is one vector of
            length A D, in which phi(s) stands for the features of (s, a).
        mask: 1 - terminated, `[..., B]`, float or bool; the sum is divided by B with a mask as
            well.
    Returns:
        `[...]` in [0, 2], unweighted.
    Raises:
        ValueError: when shapes differ.
    Reference: He et al., "Adaptive Regularization of Representation Rank as an Implicit Constraint
        of Bellman Equation", ICLR 2024, arXiv:2404.12754; the formula is the one in the authors'
        code, BEER.py, at discount 0.99.
    Differs from: that code, where a bound may be below -1, the least value of a cosine: the value
        here is lower then, the gradient is the same.
    """
    check_pair(features, next_features, mask)
    _check_columns(features, reward, discount, head_weight)

    similarity = cosines(features, next_features_target.detach())
    bound, is_bounded = _bellman_bound(
        features, next_features, next_features_target, reward, discount, head_weight
    )
    return masked_mean(torch.relu(similarity - bound).where(is_bounded, 0), mask)


def _check_columns(features: Tensor, reward: Tensor, discount: Tensor, head_weight: Tensor) -> None:
    for name, column in (("reward", reward), ("discount", discount)):
        if column.shape != features.shape[:-1]:
            expected, actual = tuple(features.shape[:-1]), tuple(column.shape)
            raise ValueError(f"{name}: expected {expected}, got {actual}")

    same_lead = head_weight.shape[:-2] == features.shape[:-2]
    same_width = head_weight.shape[-1] == features.shape[-1]
    if not (same_lead and same_width):
        raise ValueError(
            f"head_weight: expected [..., A, D] for features {tuple(features.shape)}, "
            f"got {tuple(head_weight.shape)}"
        )


@torch.no_grad()
def _bellman_bound(
    features: Tensor,
    next_features: Tensor,
    next_features_target: Tensor,
    reward: Tensor,
    discount: Tensor,
    head_weight: Tensor,
) -> tuple[Tensor, Tensor]:
    """Compute the upper bound on the cosine, `[..., B]`, and where it exists, `[..., B]`."""
    head = head_weight.square().sum((-2, -1)).unsqueeze(-1)
    head = head.clamp_min(torch.finfo(features.dtype).tiny)
    square = features.square().sum(-1)
    next_square = next_features.square().sum(-1)

    target_length = torch.linalg.vector_norm(next_features_target, dim=-1)
    scale = 2 * discount * square.sqrt() * target_length
    distance = square + discount.square() * next_square - reward.square() / head
    bound = distance / scale.where(scale > 0, 1)

    # Not "> 0": a scale of NaN must show in the penalty instead of counting as 0.
    return bound.clamp_min(-1), scale != 0


@options
class BEER(Regularizer):
    """`beer` of every critic, summed.

    Coefficient in the authors' code: 1e-3. With n-step rewards the n-step Bellman equation gives
    the bound.

    Differs from: the authors' code, which counts terminal transitions although the Bellman
        equation has no next value there; `beer/official` does too.
    """

    mask_terminal: bool = option(True, "leave out terminal transitions, which have no next value")

    @property
    def needs(self) -> frozenset[str]:
        """Both networks' features of the next state, and what the Bellman equation reads."""
        return frozenset({"next_features", "next_features_target", "reward", "discount"})

    def __call__(self, ctx: TDContext) -> Tensor:
        """Compute the penalty of each run, `[R]`; reads `head.weight` among the parameters."""
        reward = required(ctx.reward, "reward", self)
        discount = required(ctx.discount, "discount", self)
        penalty = beer(
            ctx.features,
            required(ctx.next_features, "next_features", self),
            required(ctx.next_features_target, "next_features_target", self),
            repeat_over_critics(reward, ctx),
            repeat_over_critics(discount, ctx),
            ctx.parameters["head.weight"],
            nonterminal(ctx) if self.mask_terminal else None,
        )
        return sum_over_critics(penalty)
