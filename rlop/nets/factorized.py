"""Layers whose weight is a product of two thin matrices, W = U V: a hard cap on the rank."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor, nn

from rlop.config.checks import check_known
from rlop.nets.linear import stacked_affine, undrawn
from rlop.types import InputError, TDContext, needs


def truncated_svd(weight: Tensor, rank: int, keep_values: bool = True) -> tuple[Tensor, Tensor]:
    """Factorize the best approximation of a matrix by one of lower rank.

        W = P S Q^T:  U = P_r S_r^(1/2), V = S_r^(1/2) Q_r^T

    Without the singular values, U = P_r and V = Q_r^T.

    Args:
        weight: `[..., O, I]`.
        rank: r, at most min(O, I).
        keep_values: False sets every singular value to 1.
    Returns:
        U `[..., O, r]` and V `[..., r, I]`.
    Reference: Kamalakara et al., "Exploring Low Rank Training of Deep Neural Networks", 2022,
        arXiv:2209.13569: "spectral" initialization, and "spectral ones".
    """
    if weight.ndim < 2 or not 1 <= rank <= min(weight.shape[-2:]):
        raise ValueError(
            f"weight {tuple(weight.shape)}, rank {rank}: "
            "expected [..., O, I] and 1 <= rank <= min(O, I)"
        )

    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    kept = values[..., :rank]
    root = kept.sqrt() if keep_values else torch.ones_like(kept)

    u = left[..., :rank] * root.unsqueeze(-2)
    v = root.unsqueeze(-1) * right[..., :rank, :]
    return u, v


def frobenius_decay(u: Tensor, v: Tensor) -> Tensor:
    """Return the squared Frobenius norm of a product of two factors, without forming it.

        ||U V||_F^2 = tr(U^T U V V^T)

    It is weight decay of the product; decay of each factor, ||U||_F^2 + ||V||_F^2, is an upper
    bound on twice the product's nuclear norm.

    Args:
        u: `[..., O, r]`.
        v: `[..., r, I]`.
    Returns:
        `[...]`.
    Reference: Khodak, Tenenholtz, Mackey and Fusi, "Initialization and Regularization of Factorized
        Neural Layers", ICLR 2021, arXiv:2105.01029.
    """
    if u.ndim < 2 or u.shape[:-2] != v.shape[:-2] or u.shape[-1] != v.shape[-2]:
        raise ValueError(
            f"u {tuple(u.shape)}, v {tuple(v.shape)}: expected [..., O, r] and [..., r, I]"
        )
    gram_u = u.mT @ u
    gram_v = v @ v.mT
    return (gram_u * gram_v).sum((-2, -1))


@needs()
def frobenius_penalty(ctx: TDContext) -> Tensor:
    """Sum `frobenius_decay` over the factorized layers and critics of the online network.

    A regularizer by import path:

        regularizers: {rlop.nets.factorized:frobenius_penalty: 1.0e-4}

    Raises:
        InputError: for a network without factorized layers.
    """
    decays = []
    for name, u in ctx.parameters.items():
        layer, _, factor = name.rpartition(".")
        if factor == "u":
            v = ctx.parameters[f"{layer}.v"]
            decay = frobenius_decay(u, v)  # [R], or [R, E]
            decays.append(decay.reshape(len(u), -1).sum(1))

    if not decays:
        raise InputError(
            "frobenius_penalty: the network has no factorized layers, expected layers.factorized"
        )
    return torch.stack(decays).sum(0)


def _dense(weight: Tensor, generator: Generator) -> Tensor:
    """Draw a weight as `Linear` does."""
    fan_in = weight.shape[-1]
    bound = fan_in**-0.5
    return weight.uniform_(-bound, bound, generator=generator)


def _he(weight: Tensor, rank: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Draw both factors so that the entries of their product have He's variance 2/I."""
    *lead, n_out, n_in = weight.shape
    u = weight.new_empty(*lead, n_out, rank)
    v = weight.new_empty(*lead, rank, n_in)
    u.normal_(0, rank**-0.5, generator=generator)
    v.normal_(0, (2 / n_in) ** 0.5, generator=generator)
    return u, v


def _spectral(weight: Tensor, rank: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Draw a dense weight, and factorize it."""
    return truncated_svd(_dense(weight, generator), rank)


def _spectral_ones(weight: Tensor, rank: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Draw a dense weight, and factorize it with singular values 1."""
    return truncated_svd(_dense(weight, generator), rank, keep_values=False)


INITS: dict[str, Callable[[Tensor, int, Generator], tuple[Tensor, Tensor]]] = {
    "he": _he,
    "spectral": _spectral,
    "spectral_ones": _spectral_ones,
}


class FactorizedLinear(nn.Module):
    """Stacked affine layer of rank at most r, U V x + b.

    Parameters are u `[*lead, O, r]`, v `[*lead, r, I]` and bias `[*lead, O]`. They start from the
    truncated SVD of a weight drawn as `Linear` draws it (`spectral`), from the same with singular
    values 1 (`spectral_ones`), or from normal numbers such that the entries of U V have He's
    variance 2/I (`he`). The bias is drawn as in `Linear`.

    Args:
        lead: leading axes of the parameters, `(R,)` or `(R, E)`.
        in_features: I.
        out_features: O.
        rank: r, at most min(O, I).
        init: a key of `INITS`.
    Raises:
        InputError: for another rank or initialization.
    Reference: Kamalakara et al., arXiv:2209.13569; Khodak et al., arXiv:2105.01029.
    """

    def __init__(
        self,
        lead: Sequence[int],
        in_features: int,
        out_features: int,
        rank: int,
        init: str = "spectral",
    ) -> None:
        super().__init__()
        check_known("factorized_init", init, INITS)
        full_rank = min(in_features, out_features)
        if not 1 <= rank <= full_rank:
            raise InputError(f"factorized = {rank}: expected a rank in [1, {full_rank}]")

        self.rank = rank
        self.init = init
        self.u = undrawn(*lead, out_features, rank)
        self.v = undrawn(*lead, rank, in_features)
        self.bias = undrawn(*lead, out_features)

    def reset_run(self, run: int, generator: Generator) -> None:
        """Draw the parameters of one run."""
        shape = (*self.u[run].shape[:-1], self.v.shape[-1])
        u, v = INITS[self.init](self.u.data.new_empty(shape), self.rank, generator)
        self.u.data[run] = u
        self.v.data[run] = v

        fan_in = shape[-1]
        bound = fan_in**-0.5
        self.bias.data[run].uniform_(-bound, bound, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[*lead, B, I]` to `[*lead, B, O]` through r numbers, in the dtype of `x`."""
        u = self.u.to(x.dtype)
        v = self.v.to(x.dtype)
        return stacked_affine(x @ v.mT, u, self.bias.to(x.dtype))
