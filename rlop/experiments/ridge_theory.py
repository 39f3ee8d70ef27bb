"""Asymptotic formulas of ridge regression: what it learns of each direction, and its error.

Kernel ridge regression on n samples with ridge r, whose kernel has eigenvalues l_i, acts like a
shrinkage by l_i / (l_i + k), with the effective ridge k that solves

    n = sum_i l_i / (l_i + k) + r / k.

A target of coefficients t_i in the eigenfunctions and noise of variance s^2 leave the error

    (sum_i t_i^2 k^2 / (l_i + k)^2 + s^2 df / n) / (1 - df / n),   df = sum_i l_i^2 / (l_i + k)^2,

the noise of a test label not included. References: Dicker, "Ridge regression and asymptotic minimax
estimation over spheres of growing dimension", arXiv:1601.03900; Canatar, Bordelon, Pehlevan,
"Spectral bias and task-model alignment", arXiv:2006.13198; Montanari and Zhong, arXiv:2007.12826.
"""

from __future__ import annotations

import numpy as np


def effective_ridge(
    eigenvalues: np.ndarray, n: float, ridge: float, counts: np.ndarray | float = 1.0
) -> float:
    """Solve for the effective ridge k.

    Args:
        eigenvalues: of the kernel as an operator, or of the covariance of the features.
        n: number of samples.
        ridge: what is added to the diagonal of the kernel matrix, that is n times the strength of a
            penalty on a mean of squares; 0 only with more eigenvalues than samples.
        counts: how often each eigenvalue occurs.
    """
    total = float(np.sum(counts * eigenvalues)) + ridge
    low, high = -60.0, float(np.log(total / n))  # of log k; at the upper end the sum is below n
    for _ in range(100):
        middle = (low + high) / 2
        k = np.exp(middle)
        if np.sum(counts * eigenvalues / (eigenvalues + k)) + ridge / k > n:
            low = middle
        else:
            high = middle
    return float(np.exp((low + high) / 2))


def ridge_error(
    eigenvalues: np.ndarray,
    target: np.ndarray,
    noise: float,
    n: float,
    ridge: float,
    counts: np.ndarray | float = 1.0,
) -> float:
    """Evaluate the asymptotic error of ridge regression against the noiseless target.

    Args:
        eigenvalues: of the kernel or covariance.
        target: squared norm of the target in the space of each eigenvalue.
        noise: variance of the noise.
        n: number of samples.
        ridge: what is added to the diagonal of the kernel matrix.
        counts: how often each eigenvalue occurs.
    """
    k = effective_ridge(eigenvalues, n, ridge, counts)
    freedom = float(np.sum(counts * (eigenvalues / (eigenvalues + k)) ** 2)) / n
    bias = float(np.sum(target * (k / (eigenvalues + k)) ** 2))
    return (bias + noise * freedom) / (1 - freedom)


def spherical_harmonics(d: int, degrees: int) -> np.ndarray:
    """Count the independent polynomials of each degree on the sphere, `[degrees]`."""
    counts = [1.0, float(d)]
    for degree in range(1, degrees - 1):
        ratio = (2 * degree + d) / (2 * degree + d - 2) * (degree + d - 2) / (degree + 1)
        counts.append(counts[-1] * ratio)
    return np.array(counts[:degrees])


def sphere_eigenvalues(kernel: np.ndarray, nodes: np.ndarray, d: int, degrees: int) -> np.ndarray:
    """Integrate the eigenvalues of a kernel of <x, x'> on the unit sphere in d dimensions.

    Args:
        kernel: the kernel at `nodes`.
        nodes: points in [-1, 1], dense and at equal distances.
        d: dimension.
        degrees: number of eigenvalues, from degree 0.
    """
    weight = (1 - nodes**2) ** ((d - 3) / 2)
    weight = weight / weight.sum()

    before, polynomial = np.ones_like(nodes), nodes
    values = [np.sum(weight * kernel), np.sum(weight * kernel * nodes)]
    for degree in range(1, degrees - 1):
        rising = (2 * degree + d - 2) * nodes * polynomial - degree * before
        before, polynomial = polynomial, rising / (degree + d - 2)
        values.append(np.sum(weight * kernel * polynomial))

    return np.array(values[:degrees])
