"""Linear stacks and factorized layers against closed forms."""

from itertools import pairwise

import pytest
import torch
from helpers.nets import descend
from helpers.training import train_steps
from rlop.agents import DQN
from torch import nn

from rlop.nets import Linear, LinearStack, reset_runs
from rlop.nets.factorized import (
    FactorizedLinear,
    frobenius_decay,
    frobenius_penalty,
    truncated_svd,
)
from rlop.optim import Adam
from rlop.probes.rank import effective_rank, singular_values
from rlop.types import InputError

F64 = torch.float64


# --- linear stack ---


@pytest.mark.parametrize("lead", [(2,), (2, 3)])
@pytest.mark.parametrize("init", ["default", "orthogonal"])
def test_a_collapsed_stack_is_the_same_map(lead, init):
    stack = LinearStack(lead, 6, 4, init)
    reset_runs(stack, [0, 1])
    stack.double()
    x = torch.randn(*lead, 5, 6, dtype=F64)
    torch.testing.assert_close(x @ stack.collapse().mT, stack(x), rtol=1e-10, atol=1e-10)


def test_an_orthogonal_stack_starts_at_an_isometry():
    stack = LinearStack((2, 3), 6, 4, "orthogonal")
    reset_runs(stack, [0, 1])
    x = torch.randn(2, 3, 5, 6)
    torch.testing.assert_close(stack(x).norm(dim=-1), x.norm(dim=-1), rtol=1e-5, atol=1e-5)


def rank_of_code(length, x):
    """Effective rank of the code of a linear autoencoder after training, `[R]`."""
    runs, _, size = x.shape
    encoder = Linear((runs,), size, size)
    stack = LinearStack((runs,), size, length)
    decoder = Linear((runs,), size, size)
    net = nn.Sequential(encoder, stack, decoder)
    reset_runs(net, range(runs))

    optimizer = Adam(net.parameters(), 1e-3)
    for _ in range(300):
        descend(optimizer, net.parameters(), (net(x) - x).square().mean((1, 2)))
    return effective_rank(singular_values(net[:2](x).detach()))


def test_more_linear_layers_make_the_code_of_a_linear_autoencoder_lower_in_rank():
    spectrum = torch.arange(1, 17) ** -0.5
    x = torch.randn(1, 128, 16, generator=torch.Generator().manual_seed(0)) * spectrum
    ranks = [rank_of_code(length, x.expand(2, -1, -1)) for length in (0, 2, 4, 8)]

    for shallow, deep in pairwise(ranks):
        assert (deep < shallow - 1).all(), ranks
    assert (ranks[0] > 12).all()
    assert (ranks[-1] < 6).all()


# --- factors ---


def test_truncated_svd_is_the_balanced_best_approximation_of_its_rank():
    w = torch.randn(2, 7, 5, dtype=F64)
    u, v = truncated_svd(w, 3)

    # Eckart-Young: what is left are the smaller singular values.
    left = (w - u @ v).square().sum((-2, -1))
    torch.testing.assert_close(left, torch.linalg.svdvals(w)[:, 3:].square().sum(-1))
    torch.testing.assert_close(u.mT @ u, v @ v.mT)


def test_truncated_svd_without_values_has_singular_values_one():
    u, v = truncated_svd(torch.randn(2, 7, 5, dtype=F64), 3, keep_values=False)
    values = torch.linalg.svdvals(u @ v)
    torch.testing.assert_close(values[:, :3], torch.ones(2, 3, dtype=F64))


def test_frobenius_decay_by_hand_and_without_the_product():
    u, v = torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0, 4.0]])  # U V = [[3, 4], [6, 8]]
    assert frobenius_decay(u, v).item() == 125.0

    u, v = torch.randn(3, 2, 7, 4, dtype=F64), torch.randn(3, 2, 4, 5, dtype=F64)
    u.requires_grad_()
    value = frobenius_decay(u, v)
    torch.testing.assert_close(value, (u @ v).square().sum((-2, -1)))

    (gradient,) = torch.autograd.grad(value.sum(), u)
    torch.testing.assert_close(gradient, 2 * (u @ v) @ v.mT)


def test_factors_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="rank 6"):
        truncated_svd(torch.zeros(2, 7, 5), 6)
    with pytest.raises(ValueError, match="expected"):
        frobenius_decay(torch.zeros(7, 4), torch.zeros(5, 4))


def drawn(init, seeds):
    """A factorized layer of rank 10."""
    layer = FactorizedLinear((len(seeds),), 40, 30, 10, init)
    reset_runs(layer, seeds)
    return layer


@pytest.mark.parametrize("init", ["he", "spectral", "spectral_ones"])
def test_factorized_linear_is_its_product_and_depends_on_the_seed_alone(init):
    layer = drawn(init, [3, 4])
    x = torch.randn(2, 5, 40)
    w = layer.u @ layer.v
    torch.testing.assert_close(layer(x), x @ w.mT + layer.bias.unsqueeze(1), rtol=1e-4, atol=1e-5)
    assert (torch.linalg.svdvals(w)[:, 10:] < 1e-5).all()
    assert torch.equal(drawn(init, [4]).u[0], layer.u[1])


def test_factorized_linear_starts_as_its_initialization_says():
    spectral, ones, he = (drawn(init, [3, 4]) for init in ("spectral", "spectral_ones", "he"))
    values = torch.linalg.svdvals(ones.u @ ones.v)[:, :10]
    torch.testing.assert_close(values, torch.ones(2, 10))
    assert (he.u @ he.v).var().item() == pytest.approx(2 / 40, rel=0.15)

    # The largest singular values of a dense layer with the same seed.
    dense = Linear((2,), 40, 30)
    reset_runs(dense, [3, 4])
    values = torch.linalg.svdvals(spectral.u @ spectral.v)[:, :10]
    torch.testing.assert_close(values, torch.linalg.svdvals(dense.weight)[:, :10])


PENALTIES = {
    "in Python": {"frobenius": {"coef": [0.0, 10.0], "fn": frobenius_penalty}},
    "by import path": {"rlop.nets.factorized:frobenius_penalty": [0.0, 10.0]},
}


@pytest.mark.parametrize("regularizers", PENALTIES.values(), ids=PENALTIES)
def test_the_penalty_on_factors_is_a_term_of_the_loss(tiny, regularizers):
    small = {"hidden": (16, 16), "batch_size": 8, "lr": 1e-3, "target_period": 3}
    agent = DQN(tiny.spec, layers={"factorized": 3}, regularizers=regularizers, **small)
    (name,) = regularizers
    without, penalized = train_steps(agent, tiny, 100)[f"reg/{name}"]
    assert penalized < 0.8 * without

    dense = DQN(tiny.spec, regularizers=regularizers, **small)
    with pytest.raises(InputError, match="no factorized layers"):
        train_steps(dense, tiny, 1)
