"""PEER and BEER: keep the features of an action-value network away from those of its target network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rlop.regularizers.adapt import (
    check_pair,
    masked_mean,
    of_pairs,
    over_critics,
    per_critic,
    required,
)
from rlop.regularizers.cosine import cosines
from rlop.regularizers.dr3 import dr3
from rlop.types import Regularizer, TDContext, needs

PRESETS: dict[str, Mapping[str, Any]] = {
    # sweetice/PEER-CVPR23 and sweetice/BEER-ICLR2024 know no terminal mask
    "peer/official": {"mask_terminal": False},
    "beer/official": {"mask_terminal": False},
}


def peer(features: Tensor, next_features_target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean dot product of phi(s, a) with the target network's phi'(s', a').

        1/B sum_b m_b phi(s_b, a_b) . stop_gradient( phi'(s'_b, a'_b) )

    It is `dr3` with a target network on the second side.

    Args:
        features: online phi(s, a), `[..., B, D]`.
        next_features_target: the target network's, same shape; detached here.
        mask: 1 - terminated, `[..., B]`, float or bool; the sum is divided by B with a mask as well.
    Returns:
        `[...]`, unweighted.
    Raises:
        ValueError: when shapes differ.
    Reference: He et al., "Frustratingly Easy Regularization on Representation Can Boost Deep Reinforcement Learning",
        CVPR 2023, arXiv:2205.14557; the formula is that of the authors' code, bullet_mujoco/peer.py.
    """
    return dr3(features, next_features_target.detach(), mask)


def peer_regularizer(mask_terminal: bool = True) -> Regularizer:
    """`peer` as a regularizer of the run-axis update.

    Coefficients in the authors' code: 5e-4 on Atari, default 1e-3 on PyBullet.

    Args:
        mask_terminal: leave out terminal transitions; the authors' code counts them.
    Returns:
        A function of `TDContext` that returns `[R]`.
    """
    penalty = of_pairs("peer", peer, "target", True, mask_terminal)
    penalty.form = "signed"  # type: ignore[attr-defined]  # for `warn_if_unbounded`
    return penalty


def beer(
    features: Tensor,
    next_features: Tensor,
    next_features_target: Tensor,
    reward: Tensor,
    discount: Tensor,
    head_weight: Tensor,
    mask: Tensor | None = None,
) -> Tensor:
    """How far consecutive features are more alike than the Bellman equation allows, in cosines.

        1/B sum_b m_b relu( cos(phi, phi'_target) - bound ),
        bound = [ |phi|^2 + g^2 |phi'|^2 - r^2 / |w|^2 ] / (2 g |phi| |phi'_target|),  without gradient

    because r = w . (phi - g phi') and so |r| <= |w| |phi - g phi'|. A row with a zero vector or with g = 0 has no
    bound and counts 0.

    Args:
        features: online phi(s, a), `[..., B, D]`, the only one that gets a gradient.
        next_features: online phi(s', a'), same shape.
        next_features_target: the target network's phi'(s', a'), same shape.
        reward: r, `[..., B]`.
        discount: g, what the next value is multiplied with, `[..., B]`.
        head_weight: w, `[..., A, D]`, as a whole: with several actions the head is one vector of length A D, and
            phi(s) stands for the features of (s, a) in it.
        mask: 1 - terminated, `[..., B]`, float or bool; the sum is divided by B with a mask as well.
    Returns:
        `[...]` in [0, 2], unweighted.
    Raises:
        ValueError: when shapes differ.
    Reference: He et al., "Adaptive Regularization of Representation Rank as an Implicit Constraint of Bellman
        Equation", ICLR 2024, arXiv:2404.12754; the formula is that of the authors' code, BEER.py, at discount 0.99.
    Differs from: that code, where a bound may be below -1, any cosine's least: the value here is lower then, the
        gradient is the same.
    """
    check_pair(features, next_features, mask)
    for name, column in (("reward", reward), ("discount", discount)):
        if column.shape != features.shape[:-1]:
            raise ValueError(
                f"{name}: expected {tuple(features.shape[:-1])}, got {tuple(column.shape)}"
            )
    if head_weight.shape[:-2] != features.shape[:-2] or head_weight.shape[-1] != features.shape[-1]:
        raise ValueError(
            f"head_weight: expected [..., A, D] for {tuple(features.shape)}, got {tuple(head_weight.shape)}"
        )
    cosine = cosines(features, next_features_target.detach())
    bound, exists = _bound(
        features, next_features, next_features_target, reward, discount, head_weight
    )
    return masked_mean(torch.relu(cosine - bound).where(exists, 0), mask)


@torch.no_grad()
def _bound(
    phi: Tensor,
    phi_next: Tensor,
    phi_target: Tensor,
    reward: Tensor,
    discount: Tensor,
    head_weight: Tensor,
) -> tuple[Tensor, Tensor]:
    """Upper bound on the cosine `[..., B]`, and where there is one."""
    head = head_weight.square().sum((-2, -1)).unsqueeze(-1).clamp_min(torch.finfo(phi.dtype).tiny)
    here, there = phi.square().sum(-1), phi_next.square().sum(-1)
    scale = 2 * discount * here.sqrt() * torch.linalg.vector_norm(phi_target, dim=-1)
    bound = (here + discount.square() * there - reward.square() / head) / scale.where(scale > 0, 1)
    return bound.clamp_min(-1), scale != 0  # not "> 0": what is not finite is to be seen


def beer_regularizer(mask_terminal: bool = True) -> Regularizer:
    """`beer` as a regularizer of the run-axis update. Coefficient in the authors' code: 1e-3.

    Of n-step rewards it is the n-step Bellman equation that bounds.

    Args:
        mask_terminal: leave out terminal transitions, of which the equation says something else; the authors' code
            counts them.
    Returns:
        A function of `TDContext` that returns `[R]`; it reads `head.weight` among the parameters.
    """
    fields = ("next_features", "next_features_target", "reward", "discount")

    @needs(*fields)
    def penalty(ctx: TDContext) -> Tensor:
        phi_next, phi_target, reward, discount = (required(ctx, field, "beer") for field in fields)
        mask = per_critic(1 - ctx.terminated, ctx) if mask_terminal else None
        columns = per_critic(reward, ctx), per_critic(discount, ctx)
        return over_critics(
            beer(ctx.features, phi_next, phi_target, *columns, ctx.parameters["head.weight"], mask)
        )

    return penalty
