"""The numbers of the regularizers of outputs and weights: by hand, or in closed form."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.regularizers import context, network_of, network_with_head, normal
from numpy.linalg import norm
from torch import Tensor, nn

from rlop.probes import active_neurons
from rlop.regularizers import (
    L2Init,
    PathNorm,
    SpectralDecoupling,
    l2,
    neuron_products,
    path_norm,
    spectral_decoupling,
)
from rlop.types import InputError

# --- outputs ---


def test_spectral_decoupling_has_the_half_that_the_released_code_has_not() -> None:
    q = torch.tensor([[1.0, 3.0], [-2.0, 0.0]])
    assert spectral_decoupling(q) == 0.5 * q.square().mean() == 1.75
    assert spectral_decoupling(q, 1.0) == 0.5 * (0 + 4 + 9 + 1) / 4
    one_each = spectral_decoupling(q.expand(3, 2, 2), torch.tensor([0.0, 1, 2]))
    torch.testing.assert_close(one_each, torch.tensor([1.75, 1.75, 2.75]))


def test_spectral_decoupling_about_the_batch_mean_is_half_the_variance() -> None:
    q = (normal(2, 5, 3) + 100).requires_grad_()
    penalty = SpectralDecoupling(reference="batch_mean")(SimpleNamespace(q_values=q))
    variance = q.detach().numpy().reshape(2, -1).var(1)
    np.testing.assert_allclose(penalty.detach(), variance / 2, rtol=1e-10)

    # It leaves the mean alone.
    (grad,) = torch.autograd.grad(penalty.sum(), q)
    torch.testing.assert_close(grad.sum((1, 2)), torch.zeros(2).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(grad, (q - q.mean((1, 2), keepdim=True)).detach() / 15)


# --- weights ---


def test_l2_and_l2_init_by_hand() -> None:
    parameters = {
        "w": torch.tensor([[[1.0, 2.0]], [[0.0, 3.0]]]),
        "b": torch.tensor([[1.0], [2.0]]),
    }
    initial = {"w": torch.ones(2, 1, 2), "b": torch.ones(2, 1)}
    assert torch.equal(l2(parameters, lead=1), torch.tensor([6.0, 13.0]))
    assert torch.equal(l2(parameters, initial, lead=1), torch.tensor([1.0, 6.0]))
    assert l2(parameters) == 19.0


def test_l2_init_is_zero_at_the_initial_parameters_and_l2_about_them_elsewhere() -> None:
    ctx = context()
    at_start = SimpleNamespace(parameters=ctx.initial, initial=ctx.initial)
    assert torch.equal(L2Init()(at_start), torch.zeros(3, dtype=torch.float64))
    assert torch.equal(L2Init()(ctx), l2(ctx.parameters, ctx.initial, lead=1))
    assert (L2Init()(ctx) > 0).all()


def test_l2_is_half_of_torchs_weight_decay() -> None:
    decayed_net = nn.Linear(3, 2).double()
    penalized_net = copy.deepcopy(decayed_net)
    decayed = torch.optim.SGD(decayed_net.parameters(), lr=0.1, weight_decay=0.02)
    penalized = torch.optim.SGD(penalized_net.parameters(), lr=0.1)

    x = normal(5, 3)
    decayed_net(x).square().mean().backward()
    penalty = l2(dict(penalized_net.named_parameters()))
    (penalized_net(x).square().mean() + 0.01 * penalty).backward()
    decayed.step()
    penalized.step()
    for mine, yours in zip(penalized_net.parameters(), decayed_net.parameters()):
        torch.testing.assert_close(mine, yours)


# Three layers: lengths of rows 5, 2 and 1, 3; of columns 1, 3 and 2, 1.
LAYERS = {
    "torso.layers.0.weight": torch.tensor([[3.0, 4.0], [0.0, 2.0]]),
    "torso.layers.1.weight": torch.tensor([[1.0, 0.0], [0.0, 3.0]]),
    "torso.layers.1.bias": torch.tensor([9.0, 9.0]),
    "head.weight": torch.tensor([[2.0, -1.0]]),
}


def test_path_norm_by_hand() -> None:
    first, second, _, head = LAYERS.values()
    assert neuron_products(first, second).tolist() == [5.0, 6.0]
    assert neuron_products(second, head).tolist() == [2.0, 3.0]
    assert path_norm([first, second, head]) == 5 + 6 + 2 + 3
    assert path_norm([second, head]) == 2 + 3


@pytest.mark.parametrize(("depth", "expected"), [("all", 16.0), ("last", 5.0)])
def test_path_norm_of_all_layers_or_of_the_last_one_and_the_head(
    depth: str, expected: float
) -> None:
    parameters = {name: torch.stack([w, 2 * w]) for name, w in LAYERS.items()}
    ctx = SimpleNamespace(parameters=parameters, features=torch.zeros(2, 7, 2))
    assert PathNorm(depth=depth)(ctx).tolist() == [expected, 4 * expected]


def test_path_norm_refuses_a_network_without_hidden_layers() -> None:
    with pytest.raises(InputError, match=r"path_norm: weights: expected .* two layers, got 1"):
        PathNorm().attach(network_with_head(2, 3, 4), "relu", [0, 1])
    one_run = {name: parameter[None] for name, parameter in LAYERS.items()}
    assert PathNorm().attach(network_of(one_run), "relu", [0]) == PathNorm()


def test_path_norm_takes_a_channel_for_a_unit() -> None:
    # 2 runs, 3 channels of 4 positions.
    conv, dense = normal(2, 3, 2, 3, 3), normal(2, 5, 3 * 4, seed=1)
    w = norm(conv.numpy().reshape(2, 3, -1), axis=-1)
    v = np.sqrt(np.square(dense.numpy().reshape(2, 5, 3, 4)).sum((1, 3)))
    np.testing.assert_allclose(path_norm([conv, dense], lead=1), (v * w).sum(-1), rtol=1e-12)

    next_conv = normal(2, 4, 3, 3, 3, seed=2)
    v = np.sqrt(np.square(next_conv.numpy()).sum((1, 3, 4)))
    np.testing.assert_allclose(path_norm([conv, next_conv], lead=1), (v * w).sum(-1), rtol=1e-12)


def half_decay(w: Tensor, v: Tensor) -> Tensor:
    """Half the squared lengths of incoming and outgoing weights."""
    return 0.5 * (w.square().sum() + v.square().sum())


def test_weight_decay_of_balanced_neurons_is_the_path_norm_and_never_less() -> None:
    w, b, v = normal(7, 3), normal(7, seed=1), normal(2, 7, seed=2)
    x = normal(20, 3, seed=3)

    def outputs(w: Tensor, b: Tensor, v: Tensor) -> Tensor:
        return torch.relu(x @ w.T + b) @ v.T

    for seed in range(5):
        c = normal(7, seed=10 + seed).exp()
        scaled_w, scaled_v = c[:, None] * w, v / c
        torch.testing.assert_close(outputs(scaled_w, c * b, scaled_v), outputs(w, b, v))
        torch.testing.assert_close(path_norm([scaled_w, scaled_v]), path_norm([w, v]))
        assert half_decay(scaled_w, scaled_v) > path_norm([w, v])

    best = (torch.linalg.vector_norm(v, dim=0) / torch.linalg.vector_norm(w, dim=1)).sqrt()
    torch.testing.assert_close(half_decay(best[:, None] * w, v / best), path_norm([w, v]))


Penalty = Callable[[Tensor, Tensor], Tensor]


def fit(penalty: Penalty, coef: float, steps: int = 1500) -> tuple[float, Tensor, Tensor]:
    """Fit a tent with two knots by a network 100 wide, full batch, with Adam.

    Returns:
        The error and the weights of both layers.
    """
    torch.manual_seed(0)
    x = torch.linspace(-1, 1, 32, dtype=torch.float64)[:, None]
    y = torch.relu(x + 0.3) - 2 * torch.relu(x - 0.2)
    hidden, head = nn.Linear(1, 100).double(), nn.Linear(100, 1).double()
    net = nn.Sequential(hidden, nn.ReLU(), head)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    decrease = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)

    for _ in range(steps):
        loss = (net(x) - y).square().mean()
        optimizer.zero_grad()
        (loss + coef * penalty(hidden.weight, head.weight)).backward()
        optimizer.step()
        decrease.step()
    return loss.item(), hidden.weight.detach(), head.weight.detach()


def test_trained_with_the_path_norm_or_with_weight_decay_the_minimum_is_the_same() -> None:
    def path(w: Tensor, v: Tensor) -> Tensor:
        return path_norm([w, v])

    _, *plain = fit(path, 0.0)
    path_error, *by_path = fit(path, 1e-3)
    decay_error, *by_decay = fit(half_decay, 1e-3)

    assert path_error == pytest.approx(decay_error, rel=0.05)
    assert path(*by_path).item() == pytest.approx(path(*by_decay).item(), rel=0.01)
    assert path(*by_path) < 0.75 * path(*plain)
    counts = [active_neurons(*weights, tol=1e-2) for weights in (plain, by_path, by_decay)]
    assert max(counts[1:]) < 0.6 * counts[0]

    # Decay has balanced every neuron; the path norm leaves their scales alone.
    assert half_decay(*by_decay).item() == pytest.approx(path(*by_decay).item(), rel=0.02)
    assert half_decay(*by_path) > 2 * path(*by_path)


def test_active_neurons_by_hand() -> None:
    incoming = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-3, 0.0]]).expand(2, 3, 2)
    outgoing = torch.tensor([[1.0, 5.0, 0.5]]).expand(2, 1, 3).clone()
    outgoing[1] *= 10
    # Products 5, 0, 5e-4, and ten times that.
    assert active_neurons(incoming, outgoing).tolist() == [1, 2]
    outgoing[1, 0, 0] = torch.nan
    assert active_neurons(incoming, outgoing).isnan().tolist() == [False, True]
