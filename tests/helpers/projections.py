"""What the tests of projections share."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from rlop.projections import frobenius_ball_, max_norm_

InPlace = Callable[..., None]

KINDS: list[tuple[str, InPlace]] = [("max_norm", max_norm_), ("frobenius", frobenius_ball_)]


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Draw standard normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def close(actual: Tensor, expected: Tensor) -> None:
    """Compare up to the rounding of the precision."""
    tolerance = (1e-12, 1e-12) if actual.dtype == torch.float64 else (3e-7, 1e-7)
    torch.testing.assert_close(actual, expected, rtol=tolerance[0], atol=tolerance[1])


def copy_of(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy every tensor."""
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
