"""From functions of plain tensors to functions of `TDContext`: critics one by one, terminal transitions left out."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from rlop.config.checks import check_known
from rlop.types import Regularizer, TDContext, needs

SIDES = {"online": "next_features", "target": "next_features_target"}


def check_features(features: Tensor) -> None:
    """Raise ValueError unless the tensor is a stack of non-empty matrices.

    Args:
        features: `[..., B, D]`.
    """
    if features.ndim < 2 or 0 in features.shape[-2:]:
        raise ValueError(f"features: expected a non-empty [..., B, D], got {tuple(features.shape)}")


def check_pair(features: Tensor, next_features: Tensor, mask: Tensor | None = None) -> None:
    """Raise ValueError for shapes that do not fit, also where they would broadcast.

    Args:
        features: `[..., B, D]`.
        next_features: the same shape.
        mask: `[..., B]` or None.
    """
    if features.ndim < 2 or features.shape != next_features.shape:
        shapes = f"{tuple(features.shape)} and {tuple(next_features.shape)}"
        raise ValueError(
            f"features and next_features: expected one shape [..., B, D], got {shapes}"
        )
    if mask is not None and mask.shape != features.shape[:-1]:
        raise ValueError(f"mask: expected {tuple(features.shape[:-1])}, got {tuple(mask.shape)}")


def masked_mean(value: Tensor, mask: Tensor | None) -> Tensor:
    """Sum of the rows that count, over B: a batch with many terminals weighs less.

    Args:
        value: `[..., B]`.
        mask: the same shape, float or bool; None counts every row.
    """
    return (value if mask is None else value * mask.to(value.dtype)).mean(-1)


def over_critics(value: Tensor) -> Tensor:
    """Sum over critics: `[R, E]` gives `[R]`, and `[R]` itself.

    Args:
        value: one number for each run, or for each critic of each run.
    """
    return value.sum(1) if value.ndim == 2 else value


def per_critic(value: Tensor, ctx: TDContext) -> Tensor:
    """A column of the batch `[R, B]`, shaped like the features without their last axis: `[R, B]` or `[R, E, B]`.

    Args:
        value: the same for all critics.
        ctx: whose features tell whether there are several.
    """
    return value if ctx.features.ndim == 3 else value.unsqueeze(1).expand(ctx.features.shape[:-1])


def required(ctx: TDContext, field: str, name: str) -> Tensor:
    """An optional field of the context.

    Args:
        ctx: the context.
        field: its field.
        name: of the regularizer, for the message.
    Raises:
        ValueError: when nobody filled it.
    """
    value = getattr(ctx, field)
    if value is None:
        raise ValueError(f"TDContext.{field}: {name} needs it, got None")
    return value


def of_features(function: Callable[[Tensor], Tensor]) -> Regularizer:
    """A regularizer from a function of phi(s, a) alone.

    Args:
        function: `[..., B, D]` to `[...]`.
    """

    @needs()
    def penalty(ctx: TDContext) -> Tensor:
        return over_critics(function(ctx.features))

    return penalty


def of_pairs(
    name: str,
    function: Callable[[Tensor, Tensor, Tensor | None], Tensor],
    next_features: str = "online",
    stop_gradient: bool = False,
    mask_terminal: bool = True,
) -> Regularizer:
    """A regularizer from a function of phi(s, a) and phi(s', a').

    Args:
        name: of the regularizer, for messages.
        function: `(features, next_features, mask)`, shaped `[..., B, D]` twice and `[..., B]` or None, to `[...]`.
        next_features: phi(s', a') of the `online` or of the `target` network.
        stop_gradient: no gradient through phi(s', a').
        mask_terminal: leave out terminal transitions, whose next state is not defined in some data sets.
    Raises:
        InputError: for an unknown side.
    """
    check_known(f"{name}: next_features", next_features, SIDES)
    side = SIDES[next_features]

    @needs(side)
    def penalty(ctx: TDContext) -> Tensor:
        phi_next = required(ctx, side, name)
        mask = per_critic(1 - ctx.terminated, ctx) if mask_terminal else None
        return over_critics(
            function(ctx.features, phi_next.detach() if stop_gradient else phi_next, mask)
        )

    return penalty
