"""Normalizations and spheres against torch.nn and by hand."""

import copy

import pytest
import torch
from torch import nn

from rlop.nets.norms import BatchNorm, HypersphericalLinear, Sphere, batch_norm, unit_rows_


def batch_statistics(x):
    """Mean and variance over the batch, `[*lead, D]` each."""
    return x.mean(-2), x.var(-2, correction=0)


def test_batch_norm_equals_torch_in_training():
    ours = BatchNorm((2,), 4, momentum=0.9)
    theirs = [nn.BatchNorm1d(4, momentum=0.1) for _ in range(2)]
    for _ in range(5):
        x = torch.randn(2, 8, 4)
        y = ours(x)
        for run, peer in enumerate(theirs):
            torch.testing.assert_close(y[run], peer(x[run]), rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(ours.mean[run], peer.running_mean)

    # PyTorch's running variance is unbiased, ours is the batch's own.
    peer = theirs[0].eval()
    peer.running_var.copy_(ours.variance[0])
    torch.testing.assert_close(ours.eval()(x)[0], peer(x[0]), rtol=1e-4, atol=1e-5)


def test_passes_that_record_no_gradient_use_the_running_statistics_and_leave_them():
    layer = BatchNorm((2,), 4, momentum=0.9)
    for _ in range(5):
        layer(torch.randn(2, 8, 4))
    x = torch.randn(2, 8, 4)
    before = layer.mean.clone(), layer.variance.clone()
    expected = batch_norm(x, *before)

    with torch.no_grad():
        torch.testing.assert_close(layer(x), expected)
    target_network = copy.deepcopy(layer).requires_grad_(False)
    torch.testing.assert_close(target_network(x), expected)
    torch.testing.assert_close(layer.eval()(x), expected)
    assert torch.equal(layer.mean, before[0])
    assert torch.equal(layer.variance, before[1])


@pytest.mark.parametrize("warmup", [0, 1, 3])
def test_renormalization_starts_at_the_pass_after_the_warm_up(warmup):
    layer = BatchNorm((1,), 3, renorm=True, warmup=warmup)
    for passes in range(warmup + 2):
        x = 2 * torch.randn(1, 64, 3) + 5  # far from the initial running statistics
        is_plain = torch.allclose(layer(x), batch_norm(x, *batch_statistics(x)), atol=1e-3)
        assert is_plain == (passes < warmup)


def test_renormalization_gives_what_running_statistics_give_unless_clipped():
    layer = BatchNorm((1,), 3, renorm=True, warmup=20)
    for _ in range(400):
        x = 2 * torch.randn(1, 64, 3) + 5
        before = layer.mean.clone(), layer.variance.clone()
        y = layer(x)
    torch.testing.assert_close(y, batch_norm(x, *before), rtol=1e-4, atol=1e-4)

    # A batch that is 10 times as wide, and far away, meets both limits.
    plain = batch_norm(x, *batch_statistics(x))
    torch.testing.assert_close(layer(10 * x + 1000), 3 * plain + 5, rtol=1e-3, atol=1e-3)


def test_running_statistics_survive_a_batch_that_is_not_finite():
    layer = BatchNorm((2,), 3)
    x = torch.randn(2, 8, 3)
    x[0, 0] = torch.nan
    layer(x)
    assert torch.isfinite(layer.mean).all()
    assert not layer.mean[0].any()
    assert layer.mean[1].any()


def test_a_sphere_by_hand():
    x = torch.tensor([[0.6, 0.8], [0.0, 0.0]])
    torch.testing.assert_close(Sphere(5.0)(x), torch.tensor([[3.0, 4.0], [0.0, 0.0]]))


@pytest.mark.parametrize(
    ("shift", "weight", "x", "expected"),
    [
        (None, [0.6, 0.8], [30.0, 40.0], 2 * (0.36 + 0.64)),
        (3.0, [0.0, 0.0, 1.0], [0.0, 4.0], 2 * 0.6),  # 3 / |(0, 4, 3)|
    ],
)
def test_hyperspherical_layers_by_hand(shift, weight, x, expected):
    layer = HypersphericalLinear((1,), 2, 1, shift)
    layer.weight.data[:] = torch.tensor(weight)
    layer.scale.data[:] = 2.0
    assert layer(torch.tensor([[x]])).item() == pytest.approx(expected)


def test_unit_rows_keep_their_direction_and_zeros():
    weight = torch.randn(2, 3, 4)
    weight[0, 0] = 0
    direction = torch.nn.functional.normalize(weight, dim=-1)
    unit_rows_(weight)
    torch.testing.assert_close(weight, direction)
