"""The implicit regularizer of noisy semi-gradient TD: its value, its two parts, and its drift.

Near parameters that fit every target, TD with noise on its targets is an Ornstein-Uhlenbeck process
around a manifold of equally good parameters, and drifts along that manifold. With rows
a_i = grad Q_i of A and b_i = grad Q'_i of B, both `[n, d]`, and gradient steps of size eta on the
sum over n transitions:

    noise      theta <- theta - eta sum_i a_i (Q_i - r_i - gamma Q'_i + sigma z_i),
               z_i independent, variance 1
    spread     Sigma = A^T C A,  C = (I - eta L) C (I - eta L)^T + eta^2 sigma^2 I,
               L = (A - gamma B) A^T
    potential  R = sum_i ( 1/2 a_i^T Sigma a_i - gamma a_i^T Sigma b_i )
    drift      E[theta_{k+1} - theta_k] = -eta P grad R,
               with Sigma and all b_i held fixed in the gradient

The first part of R is that of supervised learning. The second, which only TD has, rewards gradients
of consecutive state-action pairs for aligning, which DR3 counteracts. No d x d matrix is formed.

A terminal transition has b_i = 0; per-transition discounts scale rows of B. Networks of R runs give
`[R, n, d]`.

Reference: Kumar et al., "DR3", ICLR 2022, arXiv:2112.04716, section 3.2 and theorem 3.1. Sigma for
supervised learning: Blanc et al., COLT 2020, arXiv:1904.09080, and Damian et al., NeurIPS 2021,
arXiv:2106.06530.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import grad

from rlop.probes.gradients import (
    Parameters,
    Values,
    gradient_rows,
    guarded,
    per_matrix,
)
from rlop.probes.kernel import td_kernel
from rlop.probes.shapes import check_matrices, check_same_shape, check_shape, check_square


class Implicit(NamedTuple):
    """R_TD and its parts, `[...]` each: `total = supervised + coadaptation`."""

    total: Tensor
    supervised: Tensor  # 1/2 sum_i a_i^T Sigma a_i
    coadaptation: Tensor  # -gamma sum_i a_i^T Sigma b_i: the more a_i and b_i align, the lower


def spectral_radius(matrix: Tensor) -> Tensor:
    """Compute the largest modulus of an eigenvalue.

    Args:
        matrix: `[..., n, n]`.
    Returns:
        `[...]`; NaN where the matrix is not finite.
    """
    return guarded(lambda m: torch.linalg.eigvals(m).abs(), matrix).amax(-1)


def discrete_lyapunov(matrix: Tensor, noise: Tensor) -> Tensor:
    """Solve C = M C M^T + Q by doubling.

    C is the stationary covariance of x <- M x + noise of covariance Q.

    Args:
        matrix: M `[..., n, n]`, preferably float64: near radius 1 float32 does not satisfy the
            equation.
        noise: Q, same shape, symmetric.
    Returns:
        C, `[..., n, n]`.
    Raises:
        ValueError: when M has a spectral radius of 1 or more (or is not finite), so that no
            stationary covariance exists, or when the residual of the equation is more than 1e-6 of
            Q.
    """
    check_square("matrix", matrix)
    check_shape("noise", noise, matrix.shape)
    radius = spectral_radius(matrix)
    if not (radius < 1).all():
        raise ValueError(
            f"spectral radius {radius.max():.6g}: expected < 1, there is no stationary covariance"
        )

    # The second round solves for the residual: near radius 1 most of it is rounding.
    solution = torch.zeros_like(noise)
    for _ in range(2):
        missing = noise - (solution - matrix @ solution @ matrix.mT)
        solution = solution + _doubling(matrix, missing)

    residual = solution - matrix @ solution @ matrix.mT - noise
    residual = residual.abs().amax((-2, -1))
    tolerance = 1e-6 * noise.abs().amax((-2, -1))
    if not (residual <= tolerance).all():
        too_close = f"the spectral radius {radius.max():.12g} is too close to 1"
        raise ValueError(f"residual {residual.max():.3g}: {too_close}")
    return solution


def _doubling(matrix: Tensor, noise: Tensor) -> Tensor:
    """Compute sum_k M^k Q M^k^T over 2^60 terms."""
    for _ in range(60):
        noise = noise + matrix @ noise @ matrix.mT
        matrix = matrix @ matrix
    return noise


def label_noise_covariance(
    data: Tensor,
    cross: Tensor,
    gamma: float | Tensor,
    eta: float | Tensor,
    sigma: float | Tensor = 1.0,
) -> Tensor:
    """Compute C of the stationary spread Sigma = A^T C A under independent noise on the targets.

        C = (I - eta L) C (I - eta L)^T + eta^2 sigma^2 I
        for small eta  L C + C L^T = eta sigma^2 I

    Solved in an orthonormal basis of the rows of A, so that repeated transitions, which make L
    singular, do no harm: directions with less than 1e-10 of the largest eigenvalue of K are left
    out.

    Args:
        data, cross: K = A A^T and K' = A B^T, `[..., n, n]` float64.
        gamma: discount factor, or `[...]`.
        eta: step size, or `[...]`.
        sigma: standard deviation of the noise on a target, or `[...]`.
    Returns:
        `[..., n, n]`.
    Raises:
        ValueError: where TD diverges at this step size, see `discrete_lyapunov`, or a kernel is not
            finite.
    """
    drift, basis, size = _reduced(data, cross, gamma)
    step = _kept(size) - per_matrix(eta, data) * drift
    amplitude = per_matrix(eta, data) * per_matrix(sigma, data)
    noise = torch.diag_embed(size) * amplitude**2
    return basis @ discrete_lyapunov(step, noise) @ basis.mT


def is_stable(
    data: Tensor,
    cross: Tensor,
    gamma: float | Tensor,
    eta: float | Tensor,
) -> Tensor:
    """Return whether noisy TD stays near parameters that fit its targets.

    Args:
        data, cross, gamma, eta: as for `label_noise_covariance`, which needs stable TD.
    Returns:
        bool `[...]`.
    """
    drift, _, size = _reduced(data, cross, gamma)
    step = _kept(size) - per_matrix(eta, data) * drift
    return spectral_radius(step) < 1


def _kept(size: Tensor) -> Tensor:
    """Return the identity on the directions that are kept, `[..., n, n]`."""
    return torch.diag_embed((size > 0).to(size.dtype))


def _reduced(
    data: Tensor,
    cross: Tensor,
    gamma: float | Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Reduce L to the span of the rows of A, with K = U D U^T.

    Returns:
        D^1/2 U^T L U D^-1/2, U D^-1/2 and D; entries that are nearly 0 in D are 0 in all three.
    """
    kernel = td_kernel(data, cross, gamma)
    if not kernel.isfinite().all():
        raise ValueError("data and cross: expected finite kernels")

    size, vectors = torch.linalg.eigh(data)
    kept = size > 1e-10 * size[..., -1:]
    size = size.where(kept, 0)
    root = size.sqrt().unsqueeze(-2)
    basis = vectors * (1 / root).where(kept.unsqueeze(-2), 0)
    drift = (vectors * root).mT @ kernel @ basis
    return drift, basis, size


def implicit_parts(
    data: Tensor,
    cross: Tensor,
    covariance: Tensor,
    gamma: float | Tensor,
) -> Implicit:
    """Compute R for a given spread of the parameters, from Gram matrices alone.

        1/2 tr(K C K) - gamma tr(K C K'),  Sigma = A^T C A

    C = K^-1 corresponds to Sigma = I on the span of the rows of A, and makes the second part -gamma
    times the unnormalized DR3 penalty over all parameters, sum_i a_i . b_i.

    Args:
        data, cross: K and K', `[..., n, n]`, see `td_kernel`.
        covariance: C, same shape.
        gamma: discount factor, or `[...]`.
    Returns:
        Total, supervised and co-adaptation part, `[...]` each.
    """
    spread = data @ covariance
    supervised = 0.5 * (spread * data.mT).sum((-2, -1))
    coadaptation = -gamma * (spread * cross.mT).sum((-2, -1))
    return Implicit(supervised + coadaptation, supervised, coadaptation)


@torch.no_grad()
def implicit_regularizer(
    rows: Tensor,
    next_rows: Tensor,
    gamma: float | Tensor,
    eta: float | Tensor,
    sigma: float | Tensor = 1.0,
) -> Implicit:
    """Compute R_TD of the module's docstring at parameters that fit their targets, in float64.

    Args:
        rows: A, gradients of Q(s_i, a_i), `[..., n, d]`.
        next_rows: B, gradients of Q(s'_i, a'_i), same shape; 0 where terminal.
        gamma: discount factor, or `[...]`.
        eta: step size of gradient descent on the sum of half squared errors, or `[...]`.
        sigma: standard deviation of the noise on a target, or `[...]`.
    Returns:
        Total, supervised and co-adaptation part, `[...]` each.
    Raises:
        ValueError: when shapes differ, or where TD diverges.
    Differs from: a form with equal coefficients, whose gradient is the same only when the second
        factor of the first part is held fixed too. The tests measure which of them noisy TD
        follows.
    """
    a, b = _check_rows(rows, next_rows)
    data = a @ a.mT
    cross = a @ b.mT
    covariance = label_noise_covariance(data, cross, gamma, eta, sigma)
    return implicit_parts(data, cross, covariance, gamma)


def project(
    vector: Tensor,
    rows: Tensor,
    next_rows: Tensor,
    gamma: float | Tensor,
) -> Tensor:
    """Compute the part of a displacement that remains after TD has fitted its targets again.

        P v = v - A^T [ (A - gamma B) A^T ]^-1 (A - gamma B) v

    P projects obliquely: onto the null space of A - gamma B, along the rows of A.

    Args:
        vector: v, `[..., d]`.
        rows, next_rows: A and B, `[..., n, d]`.
        gamma: discount factor, or `[...]`.
    Returns:
        `[..., d]`.
    """
    residual = rows - per_matrix(gamma, rows) * next_rows
    moved = residual @ vector.unsqueeze(-1)
    weights = torch.linalg.solve(residual @ rows.mT, moved)
    return vector - (rows.mT @ weights).squeeze(-1)


def implicit_drift(
    values: Values,
    next_values: Values,
    parameters: Parameters,
    gamma: float | Tensor,
    eta: float | Tensor,
    sigma: float | Tensor = 1.0,
) -> Tensor:
    """Predict the drift of the parameters in one step of noisy TD, along those that fit.

        -eta P grad R = -eta P sum_i Hess(Q_i) Sigma (a_i - gamma b_i)

    Holds to leading order in sigma^2 at parameters with zero TD error on every transition.

    Args:
        values: parameters to Q(s_i, a_i), `[*lead, n]`, e.g. from `value_function`; preferably
            float64.
        next_values: parameters to Q(s'_i, a'_i), same shape, times 1 - terminated.
        parameters: by name, each `[*lead, ...]`.
        gamma, eta, sigma: as for `implicit_regularizer`.
    Returns:
        `[*lead, d]`, parameters concatenated in their order.
    Raises:
        ValueError: where TD diverges.
    """
    plain = {name: p.detach() for name, p in parameters.items()}
    rows = gradient_rows(values, plain)
    next_rows = gradient_rows(next_values, plain)
    a, b = _check_rows(rows, next_rows)
    data = a @ a.mT
    cross = a @ b.mT
    covariance = label_noise_covariance(data, cross, gamma, eta, sigma)

    # Row i is Sigma (a_i - gamma b_i). With it held fixed, R's gradient is that of a sum of rows.
    driving = data - per_matrix(gamma, data) * cross
    spread = (covariance @ driving).mT @ a

    def potential(p: dict[str, Tensor]) -> Tensor:
        return (gradient_rows(values, p) * spread).sum()

    slope = grad(potential)(plain)
    lead = a.shape[:-2]
    parts = [slope[name].reshape(*lead, -1) for name in plain]
    flat = torch.cat(parts, dim=-1).double()
    return -per_matrix(eta, a)[..., 0] * project(flat, a, b, gamma)


def _check_rows(rows: Tensor, next_rows: Tensor) -> tuple[Tensor, Tensor]:
    check_matrices("rows", rows)
    check_same_shape("rows and next_rows", "n, d", rows, next_rows)
    return rows.double(), next_rows.double()
