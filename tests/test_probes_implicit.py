"""The implicit regularizer: simulated noisy TD, d x d matrices, and limits in closed form."""

import numpy as np
import pytest
import torch
from helpers.probes import gaussian, rotation
from torch.func import grad

from rlop.probes import gradient_rows, implicit_drift, implicit_regularizer
from rlop.probes.implicit import (
    discrete_lyapunov,
    implicit_parts,
    is_stable,
    label_noise_covariance,
    project,
)
from rlop.probes.kernel import td_kernel

GAMMA = 0.9
ETA = 0.02
SIGMA = 0.15


def rows_of(n, d, seed=0):
    """Gradients whose TD is stable: next ones are shrunk copies plus something else."""
    a = gaussian(n, d, seed=seed)
    b = gaussian(n, d, seed=seed + 100)
    return a, 0.5 * a.roll(1, 0) + 0.3 * b


# --- the drift of noisy TD: tanh MLP 3-6-1, n = 4, d = 30 ---


def network(parameters, x):
    hidden = torch.tanh(x @ parameters["w"].mT + parameters["b"].unsqueeze(-2))
    return (hidden @ parameters["v"].unsqueeze(-1)).squeeze(-1)


class Problem:
    """Transitions whose rewards make the parameters a zero of every TD error."""

    def __init__(self, seed=246):
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape):
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.parameters = {"w": draw(6, 3), "b": 0.5 * draw(6), "v": draw(6)}
        self.x = draw(4, 3)
        self.y = draw(4, 3)
        next_value = network(self.parameters, self.y)
        self.reward = network(self.parameters, self.x) - GAMMA * next_value

    def values(self, p):
        return network(p, self.x)

    def next_values(self, p):
        return network(p, self.y)

    def rows(self, p):
        return gradient_rows(self.values, p)

    def next_rows(self, p):
        return gradient_rows(self.next_values, p)

    def project(self, vector):
        a = self.rows(self.parameters)
        b = self.next_rows(self.parameters)
        return project(vector, a, b, GAMMA)

    def simulate(self, pairs, burn_in, steps, sigma):
        """Mean movement per step of noisy TD in antithetic pairs, gradients by hand, `[30]`."""
        generator = torch.Generator().manual_seed(99)
        copies = {}
        for name, p in self.parameters.items():
            copies[name] = p.expand(2 * pairs, *p.shape).clone()
        w, b, v = copies["w"], copies["b"], copies["v"]
        both = torch.cat([self.x, self.y])

        def mean():
            return torch.cat([w.mean(0).flatten(), b.mean(0), v.mean(0)])

        start = mean()
        for k in range(burn_in + steps):
            if k == burn_in:
                start = mean()

            hidden = torch.tanh(w @ both.mT + b.unsqueeze(-1))  # [M, 6, 8]
            q = (v.unsqueeze(1) @ hidden).squeeze(1)
            z = torch.randn(pairs, 4, generator=generator, dtype=torch.float64)
            noise = sigma * torch.cat([z, -z])
            delta = q[:, :4] - self.reward - GAMMA * q[:, 4:] + noise

            hidden = hidden[..., :4]
            back = (1 - hidden**2) * v.unsqueeze(-1) * delta.unsqueeze(1)
            v -= ETA * (hidden @ delta.unsqueeze(-1)).squeeze(-1)
            b -= ETA * back.sum(-1)
            w -= ETA * (back @ self.x)

        return self.project((mean() - start) / steps)

    def drift_of(self, potential):
        """Drift down the gradient of a potential, by automatic differentiation."""
        slope = grad(potential)(self.parameters)
        flat = torch.cat([slope[name].flatten() for name in self.parameters])
        return -ETA * self.project(flat)


def cosine(a, b):
    return (a @ b / (a.norm() * b.norm())).item()


@pytest.fixture(scope="module")
def problem():
    return Problem()


def dense_drifts(problem, sigma):
    """The drift by plain d x d matrices, and three that are wrong."""
    a = problem.rows(problem.parameters)
    b = problem.next_rows(problem.parameters)
    covariance = label_noise_covariance(a @ a.mT, a @ b.mT, GAMMA, ETA, sigma)
    spread = a.mT @ covariance @ a  # Sigma, d x d

    def square(p):
        rows = problem.rows(p)
        return (rows @ spread * rows).sum()

    def cross(p, next_rows):
        return GAMMA * (problem.rows(p) @ spread * next_rows).sum()

    return {
        "right": problem.drift_of(lambda p: 0.5 * square(p) - cross(p, b)),
        "coefficient 1": problem.drift_of(lambda p: square(p) - cross(p, b)),
        "no stop-gradient": problem.drift_of(
            lambda p: 0.5 * square(p) - cross(p, problem.next_rows(p))
        ),
        "supervised only": problem.drift_of(lambda p: 0.5 * square(p)),
    }


def predicted_drift(problem, sigma):
    return implicit_drift(
        problem.values,
        problem.next_values,
        problem.parameters,
        GAMMA,
        ETA,
        sigma,
    )


def test_predicted_drift_is_that_of_simulated_noisy_td(problem):
    predicted = predicted_drift(problem, SIGMA)
    simulated = problem.simulate(pairs=1500, burn_in=150, steps=100, sigma=SIGMA)
    assert cosine(predicted, simulated) > 0.99
    assert 0.95 < (predicted.norm() / simulated.norm()).item() < 1.05

    drifts = dense_drifts(problem, SIGMA)
    torch.testing.assert_close(drifts["right"], predicted)
    assert cosine(drifts["coefficient 1"], simulated) < 0.6
    assert cosine(drifts["no stop-gradient"], simulated) < -0.5
    assert cosine(drifts["supervised only"], simulated) < 0.3


@pytest.mark.slow
def test_prediction_is_exact_as_the_noise_vanishes(problem):
    sigma = 0.05
    predicted = predicted_drift(problem, sigma)
    simulated = problem.simulate(pairs=20_000, burn_in=300, steps=300, sigma=sigma)
    assert cosine(predicted, simulated) > 0.9999
    assert (predicted - simulated).norm() < 0.02 * predicted.norm()


# --- covariance, parts, projection: against d x d NumPy ---


def dense_spread(a, b, gamma, eta, sigma):
    """Sigma by iterating its d x d equation."""
    a = a.numpy()
    b = b.numpy()
    step = np.eye(a.shape[1]) - eta * a.T @ (a - gamma * b)
    noise = eta**2 * sigma**2 * a.T @ a
    spread = np.zeros_like(noise)
    for _ in range(4000):
        spread = step @ spread @ step.T + noise
    return spread


def forms(a, spread, b):
    """sum_i a_i^T Sigma b_i."""
    return np.einsum("ij,jk,ik->", a, spread, b)


def test_gram_form_equals_the_dense_lyapunov_equation():
    a, b = rows_of(5, 12)
    spread = dense_spread(a, b, 0.9, 0.01, 0.3)
    supervised = 0.5 * forms(a, spread, a)
    coadaptation = -0.9 * forms(a, spread, b)

    parts = implicit_regularizer(a, b, 0.9, 0.01, 0.3)
    np.testing.assert_allclose(parts.supervised, supervised, rtol=1e-8)
    np.testing.assert_allclose(parts.coadaptation, coadaptation, rtol=1e-8)
    np.testing.assert_allclose(parts.total, supervised + coadaptation, rtol=1e-8)


def test_a_repeated_transition_counts_twice_and_does_no_harm():
    a, b = rows_of(4, 12)
    a = torch.cat([a, a[:1]])
    b = torch.cat([b, b[:1]])
    spread = dense_spread(a, b, 0.9, 0.01, 0.3)
    parts = implicit_regularizer(a, b, 0.9, 0.01, 0.3)
    np.testing.assert_allclose(parts.supervised, 0.5 * forms(a, spread, a), rtol=1e-8)


def test_covariance_solves_its_equation_to_rounding():
    a, b = rows_of(6, 20)
    data = a @ a.mT
    cross = a @ b.mT
    c = label_noise_covariance(data, cross, 0.9, 0.01, 0.3)

    identity = torch.eye(6, dtype=torch.float64)
    step = identity - 0.01 * (data - 0.9 * cross.mT)
    residual = c - step @ c @ step.mT - (0.01 * 0.3) ** 2 * identity
    assert residual.abs().max() < 1e-12 * c.abs().max()


def test_without_discounting_it_is_that_of_supervised_learning():
    a, b = rows_of(5, 12)
    eta = 1e-5
    sigma = 0.7
    parts = implicit_regularizer(a, b, 0.0, eta, sigma)

    # Blanc et al.: Sigma = eta sigma^2 / 2 on the rows of A.
    expected = eta * sigma**2 / 4 * a.square().sum()
    torch.testing.assert_close(parts.total, expected, rtol=1e-3, atol=0)
    assert parts.coadaptation == 0


def test_isotropic_spread_gives_the_penalty_of_dr3():
    a, b = rows_of(5, 12)
    data = a @ a.mT
    parts = implicit_parts(data, a @ b.mT, torch.linalg.inv(data), 0.9)
    torch.testing.assert_close(parts.coadaptation, -0.9 * (a * b).sum())
    torch.testing.assert_close(parts.supervised, 0.5 * (a * a).sum())


def test_projection_keeps_every_target_fitted():
    a, b = rows_of(5, 12)
    v = gaussian(12, seed=7)
    kept = project(v, a, b, 0.9)
    zero = torch.zeros(5, dtype=torch.float64)
    torch.testing.assert_close((a - 0.9 * b) @ kept, zero, atol=1e-12, rtol=0)
    torch.testing.assert_close(project(kept, a, b, 0.9), kept)  # idempotent

    # What is removed lies in the span of the rows of A.
    removed = v - kept
    torch.testing.assert_close(torch.linalg.pinv(a) @ (a @ removed), removed)


# --- the Lyapunov equation ---


def test_lyapunov_of_a_scalar():
    solution = discrete_lyapunov(
        torch.tensor([[0.5]], dtype=torch.float64),
        torch.tensor([[3.0]], dtype=torch.float64),
    )
    assert solution.item() == pytest.approx(3 / (1 - 0.25), rel=1e-12)


@pytest.mark.parametrize("distance", [1e-2, 1e-5, 1e-9])
def test_lyapunov_near_radius_one_is_the_closed_form_of_a_symmetric_matrix(distance):
    basis = rotation(3)
    eigenvalues = torch.tensor([1 - distance, -0.5, 0.1], dtype=torch.float64)
    solution = discrete_lyapunov(basis * eigenvalues @ basis.mT, basis @ basis.mT)

    # Rounding of M alone moves 1 - m^2 by 1e-16, relative to the distance.
    variance = 1 / ((1 - eigenvalues) * (1 + eigenvalues))
    expected = basis * variance @ basis.mT
    tolerance = max(1e-12, 1e-14 / distance)
    torch.testing.assert_close(solution, expected, rtol=tolerance, atol=tolerance / distance)


def test_lyapunov_near_radius_one_is_solved_for_its_residual_too():
    # One round of doubling misses this equation by 1.5e-6, which would be refused.
    eigenvalues = torch.linspace(-0.5, 0.5, 8, dtype=torch.float64)
    eigenvalues[-1] = 1 - 1e-9
    not_normal = 0.3 * torch.triu(gaussian(8, 8, seed=11), 1)
    basis = rotation(8, seed=2)
    matrix = basis @ (torch.diag(eigenvalues) + not_normal) @ basis.mT
    noise = torch.eye(8, dtype=torch.float64)

    solution = discrete_lyapunov(matrix, noise)
    missed = solution - matrix @ solution @ matrix.mT - noise
    assert missed.abs().max() < 1e-6


def test_lyapunov_of_a_jordan_block_is_that_of_its_kronecker_form():
    # It amplifies before it contracts.
    matrix = torch.tensor([[0.99, 1.0], [0.0, 0.99]], dtype=torch.float64)
    noise = torch.eye(2, dtype=torch.float64)
    solution = discrete_lyapunov(matrix, noise)
    kronecker = torch.eye(4, dtype=torch.float64) - torch.kron(matrix, matrix)
    expected = torch.linalg.solve(kronecker, noise.flatten())
    torch.testing.assert_close(solution.flatten(), expected, rtol=1e-6, atol=0)


def test_lyapunov_refuses_a_radius_of_one_and_what_is_not_finite():
    with pytest.raises(ValueError, match=r"spectral radius 1: expected < 1"):
        discrete_lyapunov(torch.eye(2), torch.eye(2))
    with pytest.raises(ValueError, match="spectral radius nan"):
        discrete_lyapunov(torch.full((2, 2), torch.nan), torch.eye(2))


# --- runs, stability, shapes ---


def test_a_run_alone_equals_the_run_among_others():
    pairs = [rows_of(4, 10, seed=seed) for seed in range(3)]
    a = torch.stack([rows for rows, _ in pairs])
    b = torch.stack([next_rows for _, next_rows in pairs])
    gamma = torch.tensor([0.9, 0.5, 0.0])
    eta = torch.tensor([0.01, 0.02, 0.03])
    together = implicit_regularizer(a, b, gamma, eta, 0.2)
    for run in range(3):
        alone = implicit_regularizer(a[run], b[run], gamma[run], eta[run], 0.2)
        for one, among in zip(alone, together, strict=True):
            torch.testing.assert_close(one, among[run])


def test_drift_of_stacked_networks_is_that_of_each():
    problems = [Problem(246), Problem(12)]
    x = torch.stack([problem.x for problem in problems])
    y = torch.stack([problem.y for problem in problems])
    parameters = {}
    for name in "wbv":
        parameters[name] = torch.stack([problem.parameters[name] for problem in problems])

    together = implicit_drift(
        lambda p: network(p, x),
        lambda p: network(p, y),
        parameters,
        GAMMA,
        ETA,
        SIGMA,
    )
    for run, problem in enumerate(problems):
        torch.testing.assert_close(together[run], predicted_drift(problem, SIGMA))


def test_unstable_td_is_named():
    a = gaussian(3, 8)
    data = a @ a.mT
    assert is_stable(data, 0.5 * data, 0.9, 0.01)
    assert not is_stable(data, 2 * data, 0.9, 0.01)
    with pytest.raises(ValueError, match=r"spectral radius 1.*expected < 1"):
        implicit_regularizer(a, 2 * a, 0.9, 0.01)

    too_large_a_step = 10.0
    with pytest.raises(ValueError, match="spectral radius"):
        implicit_regularizer(a, 0 * a, 0.9, too_large_a_step)


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="rows and next_rows"):
        implicit_regularizer(gaussian(3, 4), gaussian(3, 5), 0.9, 0.1)
    with pytest.raises(ValueError, match="cross"):
        td_kernel(gaussian(3, 3), gaussian(3, 4), 0.9)
    with pytest.raises(ValueError, match="noise"):
        discrete_lyapunov(torch.zeros(2, 2), torch.zeros(3, 3))
