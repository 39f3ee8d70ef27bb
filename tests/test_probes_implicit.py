"""The implicit regularizer: against simulated noisy TD, d x d matrices, and limits in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import grad

from rlop.probes import gradient_rows, implicit_drift, implicit_regularizer, value_function
from rlop.probes.gradients import gradient_blocks, gram
from rlop.probes.implicit import (
    discrete_lyapunov,
    implicit_parts,
    is_stable,
    label_noise_covariance,
    project,
)
from rlop.probes.kernel import td_kernel

GAMMA, ETA, SIGMA = 0.9, 0.02, 0.15


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rows_of(n: int, d: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Gradients whose TD is stable: next ones are shrunk copies plus something else."""
    a, b = gaussian(n, d, seed=seed), gaussian(n, d, seed=seed + 100)
    return a, 0.5 * a.roll(1, 0) + 0.3 * b


# --- the drift of noisy TD: tanh MLP 3-6-1, n = 4, d = 30 ---


def network(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
    hidden = torch.tanh(x @ parameters["w"].mT + parameters["b"].unsqueeze(-2))
    return (hidden @ parameters["v"].unsqueeze(-1)).squeeze(-1)


class Problem:
    """Transitions whose rewards make the parameters a zero of every TD error."""

    def __init__(self, seed: int = 246) -> None:
        g = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=g, dtype=torch.float64)

        self.parameters = {"w": draw(6, 3), "b": 0.5 * draw(6), "v": draw(6)}
        self.x, self.y = draw(4, 3), draw(4, 3)
        self.reward = network(self.parameters, self.x) - GAMMA * network(self.parameters, self.y)

    def values(self, p: dict[str, Tensor]) -> Tensor:
        return network(p, self.x)

    def next_values(self, p: dict[str, Tensor]) -> Tensor:
        return network(p, self.y)

    def rows(self, p: dict[str, Tensor]) -> Tensor:
        return gradient_rows(self.values, p)

    def next_rows(self, p: dict[str, Tensor]) -> Tensor:
        return gradient_rows(self.next_values, p)

    def project(self, vector: Tensor) -> Tensor:
        return project(vector, self.rows(self.parameters), self.next_rows(self.parameters), GAMMA)

    def simulate(self, pairs: int, burn_in: int, steps: int, sigma: float) -> Tensor:
        """Mean movement per step of many noisy TD runs in antithetic pairs, hand-written gradients, `[30]`."""
        g = torch.Generator().manual_seed(99)
        w, b, v = (
            self.parameters[k].expand(2 * pairs, *self.parameters[k].shape).clone() for k in "wbv"
        )
        both = torch.cat([self.x, self.y])

        def mean() -> Tensor:
            return torch.cat([w.mean(0).flatten(), b.mean(0), v.mean(0)])

        start = mean()
        for k in range(burn_in + steps):
            if k == burn_in:
                start = mean()
            hidden = torch.tanh(w @ both.mT + b.unsqueeze(-1))  # [M, 6, 8]
            q = (v.unsqueeze(1) @ hidden).squeeze(1)
            z = torch.randn(pairs, 4, generator=g, dtype=torch.float64)
            delta = q[:, :4] - self.reward - GAMMA * q[:, 4:] + sigma * torch.cat([z, -z])
            hidden = hidden[..., :4]
            back = (1 - hidden**2) * v.unsqueeze(-1) * delta.unsqueeze(1)
            v -= ETA * (hidden @ delta.unsqueeze(-1)).squeeze(-1)
            b -= ETA * back.sum(-1)
            w -= ETA * (back @ self.x)
        return self.project((mean() - start) / steps)

    def drift_of(self, potential) -> Tensor:
        slope = grad(potential)(self.parameters)
        return -ETA * self.project(torch.cat([slope[name].flatten() for name in self.parameters]))


def cosine(a: Tensor, b: Tensor) -> float:
    return (a @ b / (a.norm() * b.norm())).item()


@pytest.fixture(scope="module")
def problem() -> Problem:
    return Problem()


def controls(problem: Problem, sigma: float) -> dict[str, Tensor]:
    """The drift by plain d x d matrices and automatic differentiation, and three that are wrong."""
    a, b = problem.rows(problem.parameters), problem.next_rows(problem.parameters)
    covariance = label_noise_covariance(a @ a.mT, a @ b.mT, GAMMA, ETA, sigma)
    spread = a.mT @ covariance @ a  # Sigma, d x d
    rows, following = problem.rows, problem.next_rows
    return {
        "right": problem.drift_of(
            lambda p: (
                0.5 * (rows(p) @ spread * rows(p)).sum() - GAMMA * (rows(p) @ spread * b).sum()
            )
        ),
        "coefficient 1": problem.drift_of(
            lambda p: (rows(p) @ spread * rows(p)).sum() - GAMMA * (rows(p) @ spread * b).sum()
        ),
        "no stop-gradient": problem.drift_of(
            lambda p: (
                0.5 * (rows(p) @ spread * rows(p)).sum()
                - GAMMA * (rows(p) @ spread * following(p)).sum()
            )
        ),
        "supervised only": problem.drift_of(lambda p: 0.5 * (rows(p) @ spread * rows(p)).sum()),
    }


def test_predicted_drift_is_that_of_simulated_noisy_td(problem: Problem) -> None:
    predicted = implicit_drift(
        problem.values, problem.next_values, problem.parameters, GAMMA, ETA, SIGMA
    )
    simulated = problem.simulate(pairs=1500, burn_in=150, steps=100, sigma=SIGMA)
    assert cosine(predicted, simulated) > 0.99
    assert 0.95 < (predicted.norm() / simulated.norm()).item() < 1.05
    drifts = controls(problem, SIGMA)
    torch.testing.assert_close(drifts.pop("right"), predicted)
    cosines = {name: cosine(drift, simulated) for name, drift in drifts.items()}
    assert cosines["coefficient 1"] < 0.6, cosines
    assert cosines["no stop-gradient"] < -0.5, cosines
    assert cosines["supervised only"] < 0.3, cosines


@pytest.mark.slow
def test_prediction_is_exact_as_the_noise_vanishes(problem: Problem) -> None:
    sigma = 0.05
    predicted = implicit_drift(
        problem.values, problem.next_values, problem.parameters, GAMMA, ETA, sigma
    )
    simulated = problem.simulate(pairs=20_000, burn_in=300, steps=300, sigma=sigma)
    assert cosine(predicted, simulated) > 0.9999
    assert (predicted - simulated).norm() < 0.02 * predicted.norm()


# --- covariance, parts, projection: against d x d NumPy ---


def dense(a: Tensor, b: Tensor, gamma: float, eta: float, sigma: float) -> np.ndarray:
    """Sigma by iterating its d x d equation."""
    a, b = a.numpy(), b.numpy()
    g = a.T @ (a - gamma * b)
    step, noise = np.eye(a.shape[1]) - eta * g, eta**2 * sigma**2 * a.T @ a
    spread = np.zeros_like(noise)
    for _ in range(4000):
        spread = step @ spread @ step.T + noise
    return spread


def test_gram_form_equals_the_dense_lyapunov_equation() -> None:
    a, b = rows_of(5, 12)
    spread = dense(a, b, 0.9, 0.01, 0.3)
    found = implicit_regularizer(a, b, 0.9, 0.01, 0.3)
    supervised = 0.5 * np.einsum("ij,jk,ik->", a, spread, a)
    coadaptation = -0.9 * np.einsum("ij,jk,ik->", a, spread, b)
    np.testing.assert_allclose(found.supervised, supervised, rtol=1e-8)
    np.testing.assert_allclose(found.coadaptation, coadaptation, rtol=1e-8)
    np.testing.assert_allclose(found.total, supervised + coadaptation, rtol=1e-8)


def test_covariance_solves_its_equation_to_rounding() -> None:
    a, b = rows_of(6, 20)
    data, cross = a @ a.mT, a @ b.mT
    c = label_noise_covariance(data, cross, 0.9, 0.01, 0.3)
    step = torch.eye(6, dtype=torch.float64) - 0.01 * (data - 0.9 * cross.mT)
    residual = c - step @ c @ step.mT - (0.01 * 0.3) ** 2 * torch.eye(6, dtype=torch.float64)
    assert residual.abs().max() < 1e-12 * c.abs().max()


def test_a_repeated_transition_counts_twice_and_does_no_harm() -> None:
    a, b = rows_of(4, 12)
    a, b = torch.cat([a, a[:1]]), torch.cat([b, b[:1]])
    spread = dense(a, b, 0.9, 0.01, 0.3)
    found = implicit_regularizer(a, b, 0.9, 0.01, 0.3)
    np.testing.assert_allclose(
        found.supervised, 0.5 * np.einsum("ij,jk,ik->", a, spread, a), rtol=1e-8
    )


def test_without_discounting_it_is_that_of_supervised_learning() -> None:
    a, b = rows_of(5, 12)
    eta, sigma = 1e-5, 0.7
    found = implicit_regularizer(a, b, 0.0, eta, sigma)
    expected = (
        eta * sigma**2 / 4 * a.square().sum()
    )  # Blanc et al.: Sigma = eta sigma^2 / 2 on the rows of A
    torch.testing.assert_close(found.total, expected, rtol=1e-3, atol=0)
    assert found.coadaptation == 0


def test_isotropic_spread_gives_the_penalty_of_dr3() -> None:
    a, b = rows_of(5, 12)
    data, cross = a @ a.mT, a @ b.mT
    parts = implicit_parts(data, cross, torch.linalg.inv(data), 0.9)
    torch.testing.assert_close(parts.coadaptation, -0.9 * (a * b).sum())
    torch.testing.assert_close(parts.supervised, 0.5 * (a * a).sum())


def test_projection_keeps_every_target_fitted() -> None:
    a, b = rows_of(5, 12)
    v = gaussian(12, seed=7)
    kept = project(v, a, b, 0.9)
    torch.testing.assert_close(
        (a - 0.9 * b) @ kept, torch.zeros(5, dtype=torch.float64), atol=1e-12, rtol=0
    )
    torch.testing.assert_close(project(kept, a, b, 0.9), kept)  # idempotent
    removed = v - kept  # lies in the span of the rows of A
    torch.testing.assert_close(torch.linalg.pinv(a) @ (a @ removed), removed)


# --- runs, stability, errors ---


def test_a_run_alone_equals_the_run_among_others() -> None:
    pairs = [rows_of(4, 10, seed=s) for s in range(3)]
    a, b = (torch.stack(x) for x in zip(*pairs, strict=True))
    gamma, eta = torch.tensor([0.9, 0.5, 0.0]), torch.tensor([0.01, 0.02, 0.03])
    many = implicit_regularizer(a, b, gamma, eta, 0.2)
    for i, (x, y) in enumerate(pairs):
        alone = implicit_regularizer(x, y, gamma[i], eta[i], 0.2)
        for one, among in zip(alone, many, strict=True):
            torch.testing.assert_close(one, among[i])


def test_drift_of_stacked_networks_is_that_of_each() -> None:
    problems = [Problem(246), Problem(12)]
    stacked = {k: torch.stack([p.parameters[k] for p in problems]) for k in "wbv"}
    x, y = (torch.stack([getattr(p, name) for p in problems]) for name in "xy")
    many = implicit_drift(
        lambda p: network(p, x), lambda p: network(p, y), stacked, GAMMA, ETA, SIGMA
    )
    for i, p in enumerate(problems):
        alone = implicit_drift(p.values, p.next_values, p.parameters, GAMMA, ETA, SIGMA)
        torch.testing.assert_close(many[i], alone)


def test_unstable_td_is_named() -> None:
    a = gaussian(3, 8)
    assert not is_stable(a @ a.mT, 2 * a @ a.mT, 0.9, 0.01)
    assert is_stable(a @ a.mT, 0.5 * a @ a.mT, 0.9, 0.01)
    with pytest.raises(ValueError, match=r"spectral radius 1.*expected < 1"):
        implicit_regularizer(a, 2 * a, 0.9, 0.01)
    with pytest.raises(ValueError, match="spectral radius"):
        implicit_regularizer(a, 0 * a, 0.9, 10.0)  # too large a step
    with pytest.raises(ValueError, match="spectral radius"):
        discrete_lyapunov(torch.eye(2), torch.eye(2))
    with pytest.raises(ValueError, match="spectral radius nan"):
        discrete_lyapunov(torch.full((2, 2), torch.nan), torch.eye(2))


def test_lyapunov_of_a_scalar() -> None:
    m, q = torch.tensor([[0.5]], dtype=torch.float64), torch.tensor([[3.0]], dtype=torch.float64)
    assert discrete_lyapunov(m, q).item() == pytest.approx(3 / (1 - 0.25), rel=1e-12)


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match="rows and next_rows"):
        implicit_regularizer(gaussian(3, 4), gaussian(3, 5), 0.9, 0.1)
    with pytest.raises(ValueError, match="cross"):
        td_kernel(gaussian(3, 3), gaussian(3, 4), 0.9)
    with pytest.raises(ValueError, match="noise"):
        discrete_lyapunov(torch.zeros(2, 2), torch.zeros(3, 3))


# --- gradients of any module ---


def test_gradient_rows_of_a_module_are_those_of_backward() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    x, action = gaussian(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    rows = gradient_rows(value_function(net, x, action), dict(net.named_parameters())).detach()
    for i in range(6):
        expected = torch.autograd.grad(net(x[i])[action[i]], list(net.parameters()))
        torch.testing.assert_close(rows[i], torch.cat([g.flatten() for g in expected]))


def test_gradients_of_one_output_and_of_two_arguments() -> None:
    class Critic(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 1).double()

        def forward(self, obs: Tensor, action: Tensor) -> Tensor:
            return self.layer(torch.cat([obs, action], -1))

    critic, obs, action = Critic(), gaussian(4, 2), gaussian(4, 1, seed=1)
    blocks = gradient_blocks(value_function(critic, (obs, action)), dict(critic.named_parameters()))
    torch.testing.assert_close(blocks["layer.weight"].detach(), torch.cat([obs, action], -1))
    expected = torch.cat([obs, action], -1) @ torch.cat([obs, action], -1).mT + 1
    torch.testing.assert_close(gram(blocks, blocks).detach(), expected)


def test_gradient_errors() -> None:
    net = nn.Linear(4, 3)
    with pytest.raises(ValueError, match="action: expected"):
        gradient_rows(value_function(net, torch.zeros(2, 4)), dict(net.named_parameters()))
    with pytest.raises(ValueError, match=r"w \(3,\): expected leading axes \(2,\)"):
        gradient_rows(lambda p: p["w"].sum() * torch.ones(2, 5), {"w": torch.ones(3)})
    with pytest.raises(ValueError, match="different parameters"):
        gram({"a": torch.zeros(2, 2)}, {"b": torch.zeros(2, 2)})
