"""The kernels of the experiment on depth: against networks, autograd and simulation."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Generator

from rlop.experiments import depth


def wide_kernel(a, b, layers, width, linear, generator):
    """The tangent kernel of one random network, summed over equal pixels, in NTK scale.

    The head has one weight for each channel and pixel; its own and the layers' gradients count.
    """
    channels = [1, *[width] * layers]
    weights = []
    for n_in, n_out in pairwise(channels):
        scale = 1.0 if linear else 2**0.5
        kernel = torch.randn(n_out, n_in, 3, 3, generator=generator, dtype=torch.float64)
        weights.append((kernel.requires_grad_(), scale / (9 * n_in) ** 0.5))
    pixels = a.shape[-1] ** 2
    head = torch.randn(width, *a.shape[-2:], generator=generator, dtype=torch.float64)
    head.requires_grad_()

    gradients = []
    for image in (a, b):
        x = image[None, None]
        for kernel, scale in weights:
            x = F.conv2d(x, kernel * scale, padding=1)
            x = x if linear else x.relu()
        output = (x[0] * head).sum() / (width * pixels) ** 0.5
        parts = torch.autograd.grad(output, [head, *[kernel for kernel, _ in weights]])
        gradients.append(torch.cat([part.flatten() for part in parts]))
    return (gradients[0] @ gradients[1]).item()


@pytest.mark.parametrize("linear", [True, False])
def test_the_kernel_is_that_of_a_wide_network(linear):
    generator = Generator().manual_seed(0)
    a, b = torch.rand(2, 5, 5, generator=generator, dtype=torch.float64)
    (exact,) = depth.cntk(a[None], b[None], (2,), linear)
    samples = [wide_kernel(a, b, 2, 256, linear, generator) for _ in range(30)]
    assert sum(samples) / 30 == pytest.approx(exact.item(), rel=0.06)


def test_pixel_weights_by_hand():
    """One average: 4/9 in a corner, 6/9 at an edge, 1 inside."""
    weights = depth.pixel_weights(1).view(depth.FRAME, depth.FRAME)
    inside = weights[5, 5]
    assert (weights[0, 0] / inside).item() == pytest.approx(4 / 9)
    assert (weights[0, 5] / inside).item() == pytest.approx(6 / 9)
    assert (depth.pixel_weights(0) == 1).all()


def test_the_bias_of_an_untransformed_regression_is_known(monkeypatch):
    """A projection onto 60 of 121 dimensions misses 61 / 121 of an isotropic target."""
    monkeypatch.setattr(depth, "DRAWS", 2)
    bias, variance = depth.linear_risks(Generator().manual_seed(0), 0)
    assert bias[0].item() == pytest.approx(61 / 121)
    # E tr (X X')^-1 = n / (d - n - 1), here relative to a unit of noise variance.
    assert variance[0].item() == pytest.approx(depth.NOISE**2 * 60 / 60, rel=0.2)
