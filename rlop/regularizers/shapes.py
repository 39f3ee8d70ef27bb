"""Shape checks and means that the penalties on features share; all work on plain tensors."""

from __future__ import annotations

from torch import Tensor


def check_features(features: Tensor) -> None:
    """Raise ValueError unless the tensor is a stack of non-empty matrices.

    Args:
        features: `[..., B, D]`.
    """
    if features.ndim < 2 or 0 in features.shape[-2:]:
        raise ValueError(f"features: expected a non-empty [..., B, D], got {tuple(features.shape)}")


def check_pair(features: Tensor, next_features: Tensor, mask: Tensor | None = None) -> None:
    """Raise ValueError unless the shapes agree exactly; shapes that would broadcast are rejected.

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


def masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Sum the rows that count and divide by B, so that a batch with many terminals weighs less.

    Args:
        values: `[..., B]`.
        mask: the same shape, float or bool; None counts every row.
    Returns:
        `[...]`.
    """
    if mask is None:
        return values.mean(-1)
    return (values * mask.to(values.dtype)).mean(-1)
