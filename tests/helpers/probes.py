"""Random matrices with known properties."""

import torch


def gaussian(*shape, seed=0):
    """Standard normal numbers in float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def whole_numbers(high, *shape, seed=0):
    """Uniform int64 numbers in [0, high)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(high, shape, generator=generator)


def rotation(d, seed=0):
    """An orthogonal matrix `[d, d]`."""
    return torch.linalg.qr(gaussian(d, d, seed=seed)).Q


def spectrum(*values):
    """Singular values in float64."""
    return torch.tensor(values, dtype=torch.float64)


def with_spectrum(s, n, d):
    """A matrix `[n, d]` with these singular values, the others 0."""
    u = rotation(n, seed=1)[:, : len(s)]
    v = rotation(d, seed=2)[:, : len(s)]
    return u * s @ v.mT
