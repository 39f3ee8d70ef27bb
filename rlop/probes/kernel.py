"""Kernels of a value network: smallest eigenvalues, change during training, predicted risk."""

from __future__ import annotations

import torch
from torch import Tensor

from rlop.probes.gradients import (
    Parameters,
    Values,
    gradient_blocks,
    gram,
    guarded,
    per_matrix,
)
from rlop.probes.shapes import check_matrices, check_shape, check_square, shapes_of


@torch.no_grad()
def ntk(values: Values, parameters: Parameters) -> Tensor:
    """Compute the Gram matrix of the gradients of Q: the empirical neural tangent kernel.

        K_ij = grad Q(s_i, a_i) . grad Q(s_j, a_j),  gradients with respect to all parameters

    Args:
        values: parameters to Q(s_i, a_i), `[*lead, n]`, e.g. from `value_function`.
        parameters: by name, each `[*lead, ...]`.
    Returns:
        `[*lead, n, n]` float64, as exact as the dtype of the network allows.
    Reference: Jacot, Gabriel, Hongler, NeurIPS 2018, arXiv:1806.07572.
    """
    blocks = gradient_blocks(values, parameters)
    return gram(blocks, blocks)


@torch.no_grad()
def last_layer_gram(features: Tensor, action: Tensor | None = None) -> Tensor:
    """Compute the part of `ntk` that belongs to the weights of a linear head.

        K_ij = phi_i . phi_j,  times 1[a_i = a_j] where the head has one row per action

    Args:
        features: phi, `[..., n, d]`.
        action: `[..., n]` int64 for a head with a row per action; None for a single output.
    Returns:
        `[..., n, n]` float64.
    Raises:
        ValueError: when shapes do not fit.
    """
    check_matrices("features", features)
    phi = features.double()
    product = phi @ phi.mT
    if action is None:
        return product

    check_shape("action", action, features.shape[:-1])
    same_action = action.unsqueeze(-1) == action.unsqueeze(-2)
    return product * same_action


def td_kernel(
    data: Tensor,
    cross: Tensor,
    gamma: float | Tensor,
) -> Tensor:
    """Compute how the TD errors of n transitions drive each other.

        d delta / dt = -L delta under TD's gradient flow,  L = (A - gamma B) A^T = K - gamma K'^T

    Args:
        data: K = A A^T, `[..., n, n]`.
        cross: K' = A B^T, rows of A by rows of B, same shape.
        gamma: discount factor, or one per leading index `[...]`.
    Returns:
        L, `[..., n, n]`, not symmetric. TD is stable where all eigenvalues have positive real
        parts.
    Raises:
        ValueError: unless both are square and of one shape.
    """
    check_square("data", data)
    if cross.shape != data.shape:
        expected = f"{shapes_of(data)} as data has"
        raise ValueError(f"cross: expected {expected}, got {shapes_of(cross)}")

    return data - per_matrix(gamma, data) * cross.mT


@torch.no_grad()
def min_eigenvalue(kernel: Tensor) -> Tensor:
    """Compute the smallest eigenvalue of a symmetric kernel.

        mu = lambda_min(K) in the Polyak-Lojasiewicz condition ||grad L||^2 >= 2 mu L,
        L = 1/2 sum_i (Q_i - y_i)^2

    It is the decay rate of the error component that is fitted most slowly.

    Args:
        kernel: K, `[..., n, n]`.
    Returns:
        `[...]` float64; NaN where K is not finite.
    Reference: Liu, Zhu, Belkin, "Loss landscapes and optimization in over-parameterized non-linear
        systems and neural networks", 2020, arXiv:2003.00307.
    """
    return guarded(torch.linalg.eigvalsh, kernel.double())[..., 0]


@torch.no_grad()
def kernel_change(kernel: Tensor, initial: Tensor) -> Tensor:
    """Measure how far a network is from lazy training, where its tangent kernel is constant.

        ||K_T - K_0||_F / ||K_0||_F

    Args:
        kernel: K_T, `[..., n, n]`.
        initial: K_0 on the same rows, same shape.
    Returns:
        `[...]` float64; NaN or infinite where K_0 is zero, NaN where something is not finite.
    Raises:
        ValueError: unless both are square and of one shape.
    Reference: Liu, Zhu, Belkin, "On the linearity of large non-linear models", NeurIPS 2020,
        arXiv:2010.01092.
    """
    check_square("kernel", kernel)
    if kernel.shape != initial.shape:
        expected = f"{shapes_of(kernel)} as kernel has"
        raise ValueError(f"initial: expected {expected}, got {shapes_of(initial)}")

    change = kernel.double() - initial.double()
    scale = torch.linalg.matrix_norm(initial.double())
    return torch.linalg.matrix_norm(change) / scale


@torch.no_grad()
def kare(
    kernel: Tensor,
    target: Tensor,
    ridge: float | Tensor,
) -> Tensor:
    """Estimate the test error of kernel ridge regression from its training data (KARE).

        [ 1/n y^T (K/n + ridge I)^-2 y ] / [ 1/n tr (K/n + ridge I)^-1 ]^2

    The kernel alignment risk estimator is a mean squared error that counts the noise of test
    targets too. For TD targets it shows how well this kernel would generalize to targets of new
    transitions, not how good these targets are. Invariant to scaling kernel and ridge together.

    Args:
        kernel: K of the training rows, `[..., n, n]`.
        target: y, `[..., n]`.
        ridge: lambda > 0 in 1/n sum (f - y)^2 + lambda ||f||^2, or `[...]`.
    Returns:
        `[...]` float64; NaN where something is not finite.
    Raises:
        ValueError: when shapes do not fit or a ridge is not positive.
    Reference: Jacot, Simsek, Spadaro, Hongler, Gabriel, "Kernel Alignment Risk Estimator", NeurIPS
        2020, arXiv:2006.09796.
    """
    check_square("kernel", kernel)
    check_shape("target", target, kernel.shape[:-1])
    shift = _positive("ridge", ridge, kernel)

    # eigh raises for the whole stack when one matrix is not finite.
    n = kernel.shape[-1]
    finite = (kernel.isfinite().all(-1) & target.isfinite()).all(-1)
    kernel = kernel.double().where(finite[..., None, None], 0)
    eigenvalues, vectors = torch.linalg.eigh(kernel / n)

    inverse = 1 / (eigenvalues + shift)  # [..., n]
    along = (vectors.mT @ target.double().unsqueeze(-1)).squeeze(-1)
    numerator = (along * inverse).square().mean(-1)
    estimate = numerator / inverse.mean(-1).square()
    return estimate.where(finite, torch.nan)


@torch.no_grad()
def signal_capture_threshold(
    eigenvalues: Tensor,
    n: int,
    ridge: float | Tensor,
) -> Tensor:
    """Find the eigenvalue above which n rows suffice to learn a direction of a kernel.

        theta = ridge + theta/n sum_k t_k / (t_k + theta)

    In kernel ridge regression direction k keeps a share t_k / (t_k + theta) of the target.

    Args:
        eigenvalues: t_k >= 0 of the kernel's integral operator, `[..., k]`.
        n: training rows.
        ridge: lambda > 0, or `[...]`.
    Returns:
        theta, `[...]` float64.
    Raises:
        ValueError: when a ridge is not positive.
    Reference: Jacot et al. 2020, arXiv:2006.09796.
    """
    t = eigenvalues.double()
    ridge = _positive("ridge", ridge, t.unsqueeze(-1)).squeeze(-1)

    # Start above the root of a convex function: from there Newton's steps never cross it.
    theta = ridge + t.sum(-1) / n
    for _ in range(100):
        share = t / (t + theta.unsqueeze(-1))
        excess = theta - ridge - theta * share.sum(-1) / n
        slope = 1 - share.square().sum(-1) / n
        theta = theta - excess / slope
    return theta


@torch.no_grad()
def predicted_risk(
    eigenvalues: Tensor,
    coefficients: Tensor,
    n: int,
    ridge: float | Tensor,
    noise: float = 0.0,
) -> Tensor:
    """Predict the test error of kernel ridge regression on n rows, from the true spectrum.

        d theta / d ridge * ( sum_k [theta / (t_k + theta)]^2 c_k^2 + noise^2 ),
        theta by `signal_capture_threshold`

    Args:
        eigenvalues: t_k, `[..., k]`.
        coefficients: c_k of the target function in the orthonormal eigenbasis, same shape.
        n: training rows.
        ridge: lambda > 0, or `[...]`.
        noise: standard deviation of the targets' noise.
    Returns:
        `[...]` float64; counts the noise of test targets.
    Raises:
        ValueError: when a ridge is not positive.
    Reference: Jacot et al. 2020, arXiv:2006.09796.
    """
    theta = signal_capture_threshold(eigenvalues, n, ridge).unsqueeze(-1)
    t = eigenvalues.double()
    learned_share = t / (t + theta)
    missed_share = theta / (t + theta)
    slope = 1 / (1 - learned_share.square().sum(-1) / n)
    missed = (missed_share * coefficients.double()).square().sum(-1)
    return slope * (missed + noise**2)


@torch.no_grad()
def seem_eigenvalue(
    data: Tensor,
    cross: Tensor,
    gamma: float | Tensor,
    normalize: bool = True,
) -> Tensor:
    """Compute the eigenvalue that shows whether TD errors amplify themselves: above 0 they do.

        max Re lambda( gamma K(X*, X) - K(X, X) ),  X = (s, a), X* = (s', pi(s'))

    Args:
        data: K(X, X) = A A^T, `[..., n, n]`.
        cross: A B^T, that is K(X, X*), same shape.
        gamma: discount factor, or `[...]`.
        normalize: divide by the Frobenius norm of the matrix, as the authors' code logs it: in
            [-1, 1], and on one scale for all networks and batch sizes.
    Returns:
        `[...]` float64; NaN where a kernel is not finite or, normalized, zero.
    Reference: Yue et al., "Understanding, Predicting and Better Resolving Q-Value Divergence in
        Offline-RL", NeurIPS 2023, arXiv:2310.04411.
    Differs from: the authors' code, which divides each gradient by the root of the number of
        parameters (no difference once normalized) and bootstraps from terminal transitions too.
    """
    driving = -td_kernel(data.double(), cross.double(), gamma)
    largest = guarded(lambda m: torch.linalg.eigvals(m).real, driving).amax(-1)
    if not normalize:
        return largest
    return largest / torch.linalg.matrix_norm(driving)


def _positive(
    name: str,
    value: float | Tensor,
    like: Tensor,
) -> Tensor:
    """Return a positive number, or one per matrix, as `[..., 1]` in float64."""
    numbers = per_matrix(value, like.double()).squeeze(-1)
    if not (numbers > 0).all():
        raise ValueError(f"{name} = {value}: expected > 0")
    return numbers
