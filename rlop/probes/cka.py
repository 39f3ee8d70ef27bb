"""Centered kernel alignment: which layers, steps or runs hold the same representation.

"The same" means up to rotation and scale.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rlop.probes.shapes import shapes_of


def _centered_gram(features: Tensor) -> Tensor:
    """Center a Gram matrix without bias.

    Returns:
        `[..., n, n]` with a zero diagonal, whose inner products are n (n - 3) times unbiased HSIC.
    """
    if features.ndim < 2 or features.shape[-2] < 4:
        raise ValueError(f"features: expected [..., n, d] with n >= 4, got {shapes_of(features)}")

    n = features.shape[-2]
    phi = features.double()
    off_diagonal = 1 - torch.eye(n, dtype=phi.dtype, device=phi.device)
    gram = (phi @ phi.mT) * off_diagonal

    mean = gram.sum(-1) / (n - 2)
    mean = mean - mean.sum(-1, keepdim=True) / (2 * (n - 1))
    centered = gram - mean.unsqueeze(-1) - mean.unsqueeze(-2)
    return centered * off_diagonal


@torch.no_grad()
def unbiased_hsic(x: Tensor, y: Tensor) -> Tensor:
    """Compute an unbiased estimate of the dependence of two representations of the same n rows.

        <K~, L~> / (n (n - 3)),  K = X X^T with zero diagonal, L = Y Y^T likewise
        K~_ij = K_ij - m_i - m_j off the diagonal and 0 on it
        m_i = 1/(n - 2) sum_j K_ij - 1/(2 (n - 1) (n - 2)) sum_jk K_jk

    Kernels are linear. The estimate is unbiased, so it may be negative, and its mean over
    minibatches estimates the same number as all rows at once.

    Args:
        x: `[..., n, d]`, n >= 4.
        y: `[..., n, d']`, the same rows.
    Returns:
        `[...]` float64.
    Raises:
        ValueError: when the rows differ or are fewer than 4.
    Reference: Song et al., "Feature selection via dependence maximization", JMLR 2012; for
        minibatches Nguyen, Raghu, Kornblith, ICLR 2021, arXiv:2010.15327.
    """
    if x.shape[:-1] != y.shape[:-1]:
        raise ValueError(f"x and y: expected the same rows, got {shapes_of(x, y)}")

    n = x.shape[-2]
    product = _centered_gram(x) * _centered_gram(y)
    return product.sum((-2, -1)) / (n * (n - 3))


class CKA:
    """Alignment of every pair of L representations, accumulated over minibatches.

        CKA_kl = H_kl / sqrt(H_kk H_ll),  H the mean unbiased HSIC over minibatches

    To follow a network over training, pass its features at several steps; to compare seeds, pass
    the features of each run.

    Reference: Kornblith et al., ICML 2019, arXiv:1905.00414; Nguyen, Raghu, Kornblith 2022,
        arXiv:2202.07184.
    """

    def __init__(self) -> None:
        self._sum: Tensor | None = None
        self._batches = 0

    @torch.no_grad()
    def add(self, layers: Sequence[Tensor]) -> None:
        """Add one minibatch: L representations `[..., n, d_l]` of the same n >= 4 rows.

        Raises:
            ValueError: when the rows or the leading axes differ, within or between minibatches.
        """
        shapes = [tuple(layer.shape) for layer in layers]
        if len({shape[:-1] for shape in shapes}) != 1:
            raise ValueError(f"layers: expected the same rows, got {shapes}")

        n = layers[0].shape[-2]
        grams = []
        for layer in layers:
            grams.append(_centered_gram(layer).flatten(-2))
        flat = torch.stack(grams, dim=-2)  # [..., L, n n]
        hsic = flat @ flat.mT / (n * (n - 3))

        if self._sum is None:
            self._sum = hsic
        elif self._sum.shape == hsic.shape:
            self._sum = self._sum + hsic
        else:
            expected = f"expected {shapes_of(self._sum)} pairs as before"
            raise ValueError(f"layers: {expected}, got {shapes_of(hsic)}")
        self._batches += 1

    @property
    def hsic(self) -> Tensor:
        """H, `[..., L, L]` float64."""
        if self._sum is None:
            raise ValueError("CKA: expected at least one minibatch")
        return self._sum / self._batches

    @property
    def matrix(self) -> Tensor:
        """CKA, `[..., L, L]` float64: 1 on the diagonal, about 0 for independent representations.

        NaN for a representation whose own H is not positive: constant features, or too few rows.
        """
        hsic = self.hsic
        scale = hsic.diagonal(dim1=-2, dim2=-1)
        scale = scale.where(scale > 0, torch.nan).sqrt()
        norms = scale.unsqueeze(-1) * scale.unsqueeze(-2)
        return hsic / norms


def cka_matrix(layers: Sequence[Tensor], batch_size: int | None = None) -> Tensor:
    """Compute CKA of every pair of representations of the same rows.

    Between runs: `cka_matrix(features.unbind(0))` gives `[R, R]` for features `[R, n, d]`.

    Args:
        layers: L tensors `[..., n, d_l]`; widths may differ.
        batch_size: rows of a minibatch, at least 4; rows that do not fill the last minibatch are
            dropped. None takes all rows at once.
    Returns:
        `[..., L, L]` float64, see `CKA`.
    Raises:
        ValueError: when the rows differ or are fewer than 4.
    """
    if not layers:
        raise ValueError("layers: expected at least one")

    n = min(layer.shape[-2] for layer in layers)
    size = n if batch_size is None else batch_size
    if size < 4 or size > n:
        raise ValueError(f"batch_size = {size}: expected 4 to the number of rows, {n}")

    cka = CKA()
    for start in range(0, n - size + 1, size):
        rows = slice(start, start + size)
        cka.add([layer[..., rows, :] for layer in layers])
    return cka.matrix
