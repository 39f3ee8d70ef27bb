"""Depth beyond interpolation: the test risk of convolutional kernels falls with depth, then rises.

Row 21: Nichani, Radhakrishnan and Uhler, "Increasing Depth Leads to U-Shaped Test Risk in
Over-parameterized Convolutional Networks", arXiv:2010.09610.

Claims of the abstract, and what is measured for each:

1. The test risk of the convolutional neural tangent kernel (CNTK) falls with depth, then rises. The
   exact kernel of convolutions of 3 x 3 with zero padding, ReLU and a head that averages over the
   pixels interpolates 100 digits, put at random places of frames of 11 x 11 pixels. The best depth
   is chosen on one half of the test digits, and compared with the shallowest and the deepest kernel
   on the other half.
2. Without the ReLU, the kernel is x' M_L x, a depth-dependent linear transformation of the pixels.
   The recursion of the CNTK is compared with this formula: M_L = (L + 1) diag(A^L 1), with A the
   average over 3 x 3 neighbors.
3. For linear regression under that transformation the test risk is U-shaped in the depth, and the
   depth that is best for the bias is known in a simplified setting: with Gaussian inputs and a
   target drawn from N(0, M_l), least-norm interpolation after M_l is Bayes-optimal without noise,
   so that the bias is least at the depth l. The variance is computed too. Both are exact for each
   draw of the inputs, and averaged over 20 draws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from rlop.experiments.digits import CLASSES, load_digits
from rlop.experiments.fit import child_seeds
from rlop.experiments.outcome import Outcome

DEPTHS = (1, 2, 3, 5, 8, 12, 20, 40)
N = 100
N_TEST = 200
FRAME = 11  # pixels on each side; a digit has 8
GRAY = 0.05  # added to all pixels: the kernel of a black image has no direction

BEST = 5  # depth that the linear target is drawn for
LINEAR_DEPTHS = (0, 1, 2, 5, 12, 40)
SAMPLES = 60  # of the linear regression, in FRAME^2 dimensions
DRAWS = 20
NOISE = 0.3  # standard deviation, relative to that of the target


Kernel: TypeAlias = Callable[[Tensor, Tensor], list[Tensor]]  # two sets -> one kernel per depth


class Risks(NamedTuple):
    """Test risks by depth, each `[depths]`."""

    chosen: Tensor  # squared error on the first half
    squared: Tensor  # on the second half
    wrong: Tensor  # share of wrong classes there


def run(seed: int) -> Outcome:
    """Interpolate digits with kernels of eight depths, and Gaussian data with linear ones."""
    digits, inputs, linear = child_seeds(seed, 3)
    risks = kernel_risks(digits, Generator().manual_seed(inputs), relu_kernels)
    bias, variance = linear_risks(Generator().manual_seed(linear), BEST)
    values = {**named(risks, bias, variance), **formula_gap(inputs, linear=True)}

    curves = {
        "CNTK: squared error": (DEPTHS, risks.squared.tolist()),
        "CNTK: share of wrong classes": (DEPTHS, risks.wrong.tolist()),
        "linear: bias": (LINEAR_DEPTHS, bias.tolist()),
        "linear: variance": (LINEAR_DEPTHS, variance.tolist()),
    }
    return Outcome(values, curves, x="convolutional layers", y="test risk")


def control(seed: int) -> Mapping[str, float]:
    """Use settings in which depth does nothing, or only one thing.

    Linear layers of 1 x 1 give one kernel at every depth, but for its scale. A linear target drawn
    for depth 0 only rises with depth, one drawn for depth 40 only falls. The formula is compared
    with the kernel of ReLU networks.
    """
    digits, inputs, linear = child_seeds(seed, 3)
    risks = kernel_risks(digits, Generator().manual_seed(inputs), pixel_kernels)
    values = named(risks, *linear_risks(Generator().manual_seed(linear), 0))
    falling = named(risks, *linear_risks(Generator().manual_seed(linear), 40))
    right = "linear: risk at depth 40 / at 5"
    return {**values, right: falling[right], **formula_gap(inputs, linear=False)}


def named(risks: Risks, bias: Tensor, variance: Tensor) -> dict[str, float]:
    """Compare the ends of every curve with its middle."""
    best = int(risks.chosen.argmin())
    squared, wrong, total = risks.squared, risks.wrong, bias + variance
    middle = LINEAR_DEPTHS.index(BEST)
    others = torch.cat([bias[:middle], bias[middle + 1 :]])
    return {
        "CNTK: squared error at depth 1 / at the best": (squared[0] / squared[best]).item(),
        "CNTK: squared error at depth 40 / at the best": (squared[-1] / squared[best]).item(),
        "CNTK: wrong classes at depth 1 - at the best": (wrong[0] - wrong[best]).item(),
        "CNTK: wrong classes at depth 40 - at the best": (wrong[-1] - wrong[best]).item(),
        "linear: risk at depth 0 / at 5": (total[0] / total[middle]).item(),
        "linear: risk at depth 40 / at 5": (total[-1] / total[middle]).item(),
        "linear: least bias at other depths / bias at 5": (others.min() / bias[middle]).item(),
    }


# --- the exact kernel


def framed(x: Tensor, generator: Generator) -> Tensor:
    """Put each digit at a random place of a larger frame, `[B, 64] -> [B, FRAME, FRAME]`."""
    frames = torch.zeros(len(x), FRAME, FRAME)
    places = torch.randint(FRAME - 7, (len(x), 2), generator=generator).tolist()
    for image, pixels, (i, j) in zip(frames, x.view(-1, 8, 8), places):
        image[i : i + 8, j : j + 8] = pixels
    return frames + GRAY


def average(values: Tensor) -> Tensor:
    """Average over 3 x 3 neighbors, with zeros beyond the edge, `[..., H, W]`."""
    shape = values.shape
    return F.avg_pool2d(values.reshape(-1, 1, *shape[-2:]), 3, stride=1, padding=1).view(shape)


def cntk(a: Tensor, b: Tensor, depths: tuple[int, ...], linear: bool = False) -> list[Tensor]:
    """Compute the tangent kernels of convolutional networks of infinite width.

    Only the covariances of equal pixels are needed, since the head averages over pixels of the
    kernel of equal ones (no pooling of the features). For every layer, with the covariance K of its
    inputs, the variances, their angle, and He's scale, the ReLU gives

        S = sqrt(v v') (c (pi - acos c) + sqrt(1 - c^2)) / pi,   S' = (pi - acos c) / pi

    and the tangent kernel grows as T <- average(T S') + average(S).

    Args:
        a, b: images `[n, H, W]` and `[m, H, W]`.
        depths: numbers of convolutional layers.
        linear: whether to leave the ReLUs out.
    Returns:
        A kernel `[n, m]` for each depth.
    Reference: Arora, Du, Hu, Li, Salakhutdinov and Wang, "On Exact Computation with an Infinitely
        Wide Neural Net", arXiv:1904.11955; "vanilla CNTK".
    """
    covariance = average(a[:, None] * b)
    variance_a, variance_b = average(a * a), average(b * b)
    tangent = covariance
    kernels = []

    for depth in range(1, max(depths) + 1):
        if linear:
            activated, slope = covariance, torch.ones(())
        else:
            size = (variance_a[:, None] * variance_b).clamp_min(1e-20).sqrt()
            cosine = (covariance / size).clamp(-1, 1)
            angle = torch.pi - cosine.acos()
            slope = angle / torch.pi
            activated = size * (
                cosine * slope + (1 - cosine * cosine).clamp_min(0).sqrt() / torch.pi
            )

        tangent = tangent * slope
        if depth in depths:
            kernels.append((tangent + activated).mean((-1, -2)))
        covariance = average(activated)
        tangent = average(tangent) + covariance
        variance_a, variance_b = average(variance_a), average(variance_b)

    return kernels


def relu_kernels(a: Tensor, b: Tensor) -> list[Tensor]:
    """Compute the CNTK of every depth."""
    return cntk(a, b, DEPTHS)


def pixel_kernels(a: Tensor, b: Tensor) -> list[Tensor]:
    """Compute the kernel of linear layers of 1 x 1 of every depth, up to scale."""
    return [a.flatten(1) @ b.flatten(1).T] * len(DEPTHS)


def kernel_risks(seed: int, generator: Generator, kernel: Kernel) -> Risks:
    """Interpolate digits with the kernels of all depths, and test on two halves of others."""
    data = load_digits(N, seed)
    x = framed(data.x, generator)
    x_test = framed(data.x_test[:N_TEST], generator)
    y_test = data.y_test[:N_TEST]

    targets = F.one_hot(data.y, CLASSES).double() - 1 / CLASSES
    test_targets = F.one_hot(y_test, CLASSES).double() - 1 / CLASSES
    half = N_TEST // 2
    rows = []
    for train, test in zip(kernel(x, x), kernel(x_test, x)):
        # float32 kernels are only that accurate.
        jitter = 1e-6 * train.diagonal().double().mean() * torch.eye(N, dtype=torch.float64)
        outputs = test.double() @ torch.linalg.solve(train.double() + jitter, targets)
        squared = (outputs - test_targets).square().sum(1)
        wrong = (outputs.argmax(1) != y_test).double()
        rows.append(
            torch.stack([squared[:half].mean(), squared[half:].mean(), wrong[half:].mean()])
        )
    return Risks(*torch.stack(rows, 1))


# --- linear regression under the transformation of a linear kernel


def pixel_weights(depth: int) -> Tensor:
    """Return the diagonal of A^depth 1, one weight for each pixel of a frame, with mean 1."""
    weights = torch.ones(1, FRAME, FRAME, dtype=torch.float64)
    for _ in range(depth):
        weights = average(weights)
    return (weights / weights.mean()).flatten()


def formula_gap(seed: int, linear: bool) -> dict[str, float]:
    """Compare the recursion of the kernel with x' M_L x, at depths 1 to 12."""
    generator = Generator().manual_seed(seed)
    x = torch.randn(20, FRAME, FRAME, generator=generator, dtype=torch.float64)
    depths = (1, 2, 5, 12)
    gap = 0.0
    for depth, kernel in zip(depths, cntk(x, x, depths, linear)):
        weighted = x.flatten(1) * pixel_weights(depth)
        formula = weighted @ x.flatten(1).T
        scaled = formula * (kernel.diagonal().sum() / formula.diagonal().sum())
        gap = max(gap, ((kernel - scaled).norm() / kernel.norm()).item())
    return {"linear kernel: distance of recursion and transformation": gap}


def linear_risks(generator: Generator, best: int) -> tuple[Tensor, Tensor]:
    """Compute bias and variance of least-norm interpolation after each transformation.

    With inputs X `[n, d]`, the estimate after M is w^ = M X' (X M X')^-1 y. The target has
    independent coordinates of variances m, M of the depth `best`, so that the expected bias is
    tr((I - P) diag(m) (I - P)') with P = M X' (X M X')^-1 X; the variance is that of the noise
    times the squared norm of M X' (X M X')^-1.

    Returns:
        Bias and variance relative to the size of the target, `[depths]` each.
    """
    target = pixel_weights(best)
    rows = []
    for _ in range(DRAWS):
        x = torch.randn(SAMPLES, FRAME**2, generator=generator, dtype=torch.float64)
        row = []
        for depth in LINEAR_DEPTHS:
            weighted = pixel_weights(depth)[:, None] * x.T
            inverse = torch.linalg.solve(x @ weighted, weighted, left=False)
            missed = torch.eye(FRAME**2, dtype=torch.float64) - inverse @ x
            bias = (missed.square() * target).sum() / target.sum()
            row.append(torch.stack([bias, NOISE**2 * inverse.square().sum()]))
        rows.append(torch.stack(row))
    bias, variance = torch.stack(rows).mean(0).unbind(1)
    return bias, variance
