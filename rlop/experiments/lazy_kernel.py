"""Wide networks obey the PL condition of their tangent kernel, which hardly moves.

Reference: Liu, Zhu, Belkin, "Loss Landscapes and Optimization in Over-Parameterized Non-Linear
Systems and Neural Networks", arXiv:2003.00307, "On the linearity of large non-linear models",
arXiv:2010.01092, and Belkin's talk at the workshop (row 2).

f(x) = sum_i a_i erf(w_i . x) / sqrt(m), both layers trained from signs a_i and standard normal w_i
on ten random labels in five dimensions, widths 32 to 1024. For L = ||r||^2 / 2 and the tangent
kernel K = J J', ||grad L||^2 = r' K r >= 2 lambda_min(K) L: the PL condition holds with
lambda_min(K). With erf the kernel of infinite width, and so its least eigenvalue lambda, is a
closed form; the theory works in the region where lambda_min(K) >= lambda / 2. Measured:

- Not convex, even close to a minimum: the least eigenvalue of the Hessian of L, over the largest,
  a distance of .1 from the end of training.
- PL on most of the parameter space: lambda_min(K) / lambda, the least of twenty points drawn like
  the start. Descent must then be as fast as (1 - eta lambda / 2)^2 a step, and SGD on single
  samples as fast as randomized Kaczmarz steps, 1 - lambda / (2 n max K_ii).
- The speed is that of the least eigenvalue: the measured rate of the last steps over its
  prediction, for the widest network.
- Transition to linearity: the Hessian of f is of order 1 / sqrt(m), with it the change of the
  kernel and the distance from the linearized model's training (at most: signs average out).

Controls. The first three: a network with one neuron, seven parameters less than needed for ten
labels, judged by the same lambda; for convexity a model that is linear in its parameters. The last:
the same wide networks under a nonlinear output, f + f^2 / 4, whose Hessian does not shrink at any
width (arXiv:2010.01092, section 4).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from rlop.experiments.fit import child_seeds
from rlop.experiments.outcome import Outcome
from rlop.experiments.series import power_law_exponent

WIDTHS = (32, 128, 512, 1024)
D = 5
SAMPLES = 10
DRAWS = 3  # of data and start, at every width
POINTS = 20  # of the parameter space
STEPS = 1500  # of descent, at the rate 1 / lambda_max(K)
EPOCHS = 150  # of SGD on single samples
SOLVED = 1e-14  # squared error at which descent ends
NEAR = 0.1  # distance from the end of training at which the Hessian is taken


class Model(NamedTuple):
    """A two-layer network on fixed inputs; `bend` is the curvature of its output."""

    a: Tensor  # [m]
    w: Tensor  # [m, D]
    bend: float

    def moved(self, step: Tensor) -> Model:
        """Subtract a step of all parameters, `[m (D + 1)]`."""
        m = len(self.a)
        return Model(self.a - step[:m], self.w - step[m:].view(m, D), self.bend)

    def linear_part(self, x: Tensor) -> Tensor:
        """Compute f, `[N]`."""
        return torch.erf(x @ self.w.T) @ self.a / math.sqrt(len(self.a))

    def __call__(self, x: Tensor) -> Tensor:
        """Compute the output, `[N]`."""
        f = self.linear_part(x)
        return f + self.bend * f.square() / 2

    def jacobian(self, x: Tensor) -> Tensor:
        """Compute the gradients of the outputs, `[N, m (D + 1)]`."""
        z = x @ self.w.T
        by_w = (slope(z) * self.a)[:, :, None] * x[:, None]
        rows = torch.cat([torch.erf(z), by_w.flatten(1)], 1) / math.sqrt(len(self.a))
        return rows * (1 + self.bend * self.linear_part(x))[:, None]


def slope(z: Tensor) -> Tensor:
    """Differentiate erf."""
    return 2 / math.sqrt(math.pi) * torch.exp(-z.square())


def start(width: int, bend: float, generator: Generator) -> Model:
    """Draw a network: signs in the second layer, a standard normal first one."""
    a = 2.0 * torch.randint(2, (width,), generator=generator).double() - 1
    w = torch.randn(width, D, generator=generator, dtype=torch.float64)
    return Model(a, w, bend)


def infinite_kernel(x: Tensor) -> Tensor:
    """Return the tangent kernel of infinite width, `[N, N]`.

    With S = x x', from the arcsine law and its derivative:

        E erf(u) erf(v)   = 2 / pi arcsin(2 S_uv / sqrt((1 + 2 S_uu) (1 + 2 S_vv)))
        E erf'(u) erf'(v) = 4 / pi / sqrt((1 + 2 S_uu) (1 + 2 S_vv) - 4 S_uv^2)
    """
    s = x @ x.T
    scale = 1 + 2 * s.diagonal()
    product = scale[:, None] * scale
    values = 2 / math.pi * torch.arcsin(2 * s / product.sqrt())
    slopes = 4 / math.pi / (product - 4 * s.square()).sqrt()
    return values + s * slopes


def hessian_norm(model: Model, x: Tensor) -> float:
    """Return the largest spectral norm of the output's Hessian over the inputs.

    Without a bend the Hessian has one block for each neuron, which acts on a_i and on w_i along x
    alone: a 2 x 2 matrix. A bend adds bend * grad f grad f', about the whole norm in wide networks.
    """
    f = model.linear_part(x)
    z = x @ model.w.T
    length = x.norm(dim=1, keepdim=True)
    off = slope(z) * length
    corner = -2 * z * slope(z) * model.a * length.square()
    block = (corner.abs() + (corner.square() + 4 * off.square()).sqrt()) / 2
    norm = block.amax(1) / math.sqrt(len(model.a)) * (1 + model.bend * f).abs()

    gradient = Model(model.a, model.w, 0.0).jacobian(x)
    return torch.maximum(norm, abs(model.bend) * gradient.square().sum(1)).max().item()


class Training(NamedTuple):
    """Measurements of one training by gradient descent."""

    end: Model
    change: float  # of K, relative
    distance: float  # from the linearized model's outputs, the largest over the course
    speed: float  # logarithm of the loss that is left, over that of the PL bound
    rate: float  # of the last steps, over that of the least eigenvalue


def train(model: Model, x: Tensor, y: Tensor, least: float) -> Training:
    """Fit labels by gradient descent, next to the linearized model at the same rate.

    Args:
        model: the start.
        x: inputs `[N, D]`.
        y: what is to be added to the outputs at the start, `[N]`.
        least: least eigenvalue of the kernel of infinite width.
    """
    target = model(x) + y
    rows = model.jacobian(x)
    kernel = rows @ rows.T
    lr = 1 / torch.linalg.eigvalsh(kernel)[-1].item()
    linear = -y
    distance = 0.0
    losses: list[float] = []

    for _ in range(STEPS):
        residual = model(x) - target
        losses.append(residual.square().sum().item())
        if losses[-1] < SOLVED:
            break
        distance = max(distance, (residual - linear).norm().item())
        model = model.moved(lr * (residual @ model.jacobian(x)))
        linear = linear - lr * kernel @ linear

    steps = len(losses) - 1
    quarter = steps - steps // 4
    rows = model.jacobian(x)
    last_kernel = rows @ rows.T
    # Where the condition fails, the speed that the theory promises is that of its region.
    last_least = max(torch.linalg.eigvalsh(last_kernel)[0].item(), least / 2)
    return Training(
        end=model,
        change=((last_kernel - kernel).norm() / kernel.norm()).item(),
        distance=distance / y.norm().item(),
        speed=math.log(losses[-1] / losses[0]) / (2 * steps * math.log1p(-lr * least / 2)),
        rate=math.log(losses[-1] / losses[quarter])
        / (2 * (steps - quarter) * math.log1p(-lr * last_least)),
    )


def sgd_speed(model: Model, x: Tensor, y: Tensor, least: float, generator: Generator) -> float:
    """Return the logarithm of the loss that SGD leaves, over that of the bound for Kaczmarz."""
    target = model(x) + y
    lr = 1 / model.jacobian(x).square().sum(1).max().item()
    first = y.square().sum().item()
    steps = 0

    for _ in range(EPOCHS):
        for i in torch.randperm(SAMPLES, generator=generator).tolist():
            row = x[i : i + 1]
            residual = model(row) - target[i]
            model = model.moved(lr * (residual @ model.jacobian(row)))
            steps += 1

    last = (model(x) - target).square().sum().item()
    return math.log(last / first) / (steps * math.log1p(-lr * least / 2 / SAMPLES))


def curvature(model: Model, x: Tensor, y: Tensor, generator: Generator) -> float:
    """Return the least eigenvalue over the largest of the loss's Hessian near a minimum.

    Args:
        model: a network that fits the labels.
        x: inputs.
        y: the labels.
        generator: generator of the direction in which the Hessian is taken.
    """
    step = torch.randn(model.a.numel() * (D + 1), generator=generator, dtype=torch.float64)
    near = model.moved(NEAR * step / step.norm())

    def loss(parameters: Tensor) -> Tensor:
        network = Model(parameters[: len(near.a)], parameters[len(near.a) :].view_as(near.w), 0.0)
        return (network(x) - y).square().sum() / 2

    parameters = torch.cat([near.a, near.w.flatten()])
    eigenvalues = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, parameters))
    return (eigenvalues[0] / eigenvalues[-1]).item()


def problem(seed: int) -> tuple[Tensor, Tensor, Generator]:
    """Draw inputs `[N, D]` and labels +-1 `[N]`; return them with the generator of the rest."""
    generator = Generator().manual_seed(seed)
    x = torch.randn(SAMPLES, D, generator=generator, dtype=torch.float64)
    y = 2.0 * torch.randint(2, (SAMPLES,), generator=generator).double() - 1
    return x, y, generator


def conditions(seed: int, width: int) -> dict[str, float]:
    """Measure the PL condition and the speed of training at one width; the worst of the draws."""
    least_ratios: list[float] = []
    speeds: list[float] = []
    sgd_speeds: list[float] = []
    rates: list[float] = []
    for child in child_seeds(seed, DRAWS):
        x, y, generator = problem(child)
        least = torch.linalg.eigvalsh(infinite_kernel(x))[0].item()
        for _ in range(POINTS):
            rows = start(width, 0.0, generator).jacobian(x)
            least_ratios.append(torch.linalg.eigvalsh(rows @ rows.T)[0].item() / least)

        training = train(start(width, 0.0, generator), x, y, least)
        speeds.append(training.speed)
        rates.append(training.rate)
        sgd_speeds.append(sgd_speed(start(width, 0.0, generator), x, y, least, generator))

    return {
        "least eigenvalue of K / that of infinite width, least of the points": min(least_ratios),
        "log loss of descent / that of its PL bound, least": min(speeds),
        "log loss of SGD / that of its bound, least": min(sgd_speeds),
        "rate of the last steps / that of the least eigenvalue": sum(rates) / DRAWS,
    }


def scaling(seed: int, bend: float) -> dict[str, list[float]]:
    """Measure by width the Hessian's norm, change of the kernel and distance from linear."""
    result: dict[str, list[float]] = {name: [] for name in SCALED}
    for width in WIDTHS:
        rows: list[tuple[float, float, float]] = []
        for child in child_seeds(seed, DRAWS):
            x, y, generator = problem(child)
            model = start(width, bend, generator)
            training = train(model, x, y / 2, 1.0)
            rows.append((hessian_norm(model, x), training.change, training.distance))
        for name, numbers in zip(SCALED, zip(*rows)):
            result[name].append(sum(numbers) / DRAWS)
    return result


SCALED = ("norm of the Hessian of f", "change of K", "distance from linear training")


def exponents(by_width: dict[str, list[float]]) -> dict[str, float]:
    """Return the exponents of the width."""
    return {
        f"{name}: exponent of the width": power_law_exponent(WIDTHS, numbers)
        for name, numbers in by_width.items()
    }


CONVEXITY = "least / largest eigenvalue of the loss's Hessian near a minimum"


def run(seed: int) -> Outcome:
    """Measure all of them on three draws of data and start."""
    x, y, generator = problem(seed)
    model = start(WIDTHS[0], 0.0, generator)
    target = model(x) + y
    training = train(model, x, y, 1.0)
    by_width = scaling(seed, 0.0)

    values = {
        CONVEXITY: curvature(training.end, x, target, generator),
        **conditions(seed, WIDTHS[-1]),
        **exponents(by_width),
    }
    curves = {name: (WIDTHS, numbers) for name, numbers in by_width.items()}
    return Outcome(values, curves, x="width", y="mean of three draws", log="xy")


def control(seed: int) -> dict[str, float]:
    """Measure the same on a linear model, on one neuron, and under a nonlinear output."""
    x, _, generator = problem(seed)
    rows = start(WIDTHS[0], 0.0, generator).jacobian(x)
    eigenvalues = torch.linalg.eigvalsh(rows.T @ rows)
    return {
        CONVEXITY: (eigenvalues[0] / eigenvalues[-1]).item(),
        **conditions(seed, 1),
        **exponents(scaling(seed, 0.5)),
    }
