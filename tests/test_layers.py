"""Stacks, factors, norms and spheres against closed forms and torch.nn; the option group."""

import copy
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from helpers.training import parameters_of, train_steps
from rlop.agents import BC, CQL, DQN
from torch import nn

from rlop.config.files import overrides_only, to_dict
from rlop.data.sampler import Table
from rlop.nets import (
    MLP,
    Critics,
    Layers,
    Linear,
    LinearStack,
    MinAtarTorso,
    QNetwork,
    reset_runs,
    with_layers,
)
from rlop.nets.factorized import (
    FactorizedLinear,
    effective_parameters,
    frobenius_decay,
    frobenius_penalty,
    truncated_svd,
)
from rlop.nets.norms import BatchNorm, HypersphericalLinear, Sphere, batch_norm, unit_rows_
from rlop.optim import Adam
from rlop.optim.learner import Learner
from rlop.probes.rank import effective_rank, singular_values
from rlop.training.loop import compiled
from rlop.types import InputError

SMALL = {"hidden": (16, 16), "batch_size": 8, "target_period": 3, "lr": 1e-3}
OPTIONS = {
    "stack": {"linear_stack": 2},
    "isometries": {"linear_stack": 2, "stack_init": "orthogonal"},
    "factors": {"factorized": 3},
    "masks": {"density": 0.3},
    "layer": {"norm": "layer"},
    "batch": {"norm": "batch"},
    "renorm": {"norm": "batch_renorm"},
    "spheres": {"hyperspherical": True},
    "unit": {"feature_norm": 2.0, "norm": "layer"},
    "mup": {"parametrization": "mup", "base_width": 4, "zero_head": True},
}


def make(kind, data, seeds, layers):
    own = {CQL: {"policy_hidden": (8,), "action_samples": 2}, BC: {"target_period": None}}.get(
        kind, {}
    )
    options = {name: value for name, value in {**SMALL, **own}.items() if value is not None}
    return kind(data.spec, seeds=seeds, layers=layers, **options)


# --- linear stack ---


@pytest.mark.parametrize("lead", [(2,), (2, 3)])
@pytest.mark.parametrize("init", ["default", "orthogonal"])
def test_a_collapsed_stack_is_the_same_map(lead, init):
    stack = LinearStack(lead, 6, 4, init)
    reset_runs(stack, [0, 1])
    stack.double()
    x = torch.randn(*lead, 5, 6, dtype=torch.float64)
    torch.testing.assert_close(x @ stack.collapse().mT, stack(x), rtol=1e-10, atol=1e-10)
    if init == "orthogonal":
        torch.testing.assert_close(stack(x).norm(dim=-1), x.norm(dim=-1), rtol=1e-6, atol=1e-6)


def test_more_linear_layers_make_the_code_of_a_linear_autoencoder_lower_in_rank():
    size, runs = 16, 2
    x = (
        torch.randn(1, 128, size, generator=torch.Generator().manual_seed(0))
        * torch.arange(1, size + 1) ** -0.5
    )
    x, ranks = x.expand(runs, -1, -1), []
    for length in (0, 2, 4, 8):
        encoder, stack, decoder = (
            Linear((runs,), size, size),
            LinearStack((runs,), size, length),
            Linear((runs,), size, size),
        )
        net = nn.ModuleList([encoder, stack, decoder])
        reset_runs(net, range(runs))
        optimizer, params = Adam(net.parameters(), 1e-3), list(net.parameters())
        for _ in range(300):
            loss = (decoder(stack(encoder(x))) - x).square().mean((1, 2)).sum()
            optimizer.apply(list(torch.autograd.grad(loss, params)))
        ranks.append(effective_rank(singular_values(stack(encoder(x)).detach())))
    for shallow, deep in pairwise(ranks):
        assert (deep < shallow - 1).all(), ranks
    assert (ranks[0] > 12).all()
    assert (ranks[-1] < 6).all()


# --- factors ---


def test_truncated_svd_is_the_best_approximation_of_its_rank():
    w = torch.randn(2, 7, 5, dtype=torch.float64)
    u, v = truncated_svd(w, 3)
    values = torch.linalg.svdvals(w)
    torch.testing.assert_close(
        (w - u @ v).square().sum((-2, -1)), values[:, 3:].square().sum(-1)
    )  # Eckart-Young
    torch.testing.assert_close(u.mT @ u, v @ v.mT)  # balanced
    u, v = truncated_svd(w, 3, keep_values=False)
    torch.testing.assert_close(
        torch.linalg.svdvals(u @ v)[:, :3], torch.ones(2, 3, dtype=torch.float64)
    )
    with pytest.raises(ValueError, match="rank 6"):
        truncated_svd(w, 6)


def test_frobenius_decay_by_hand_and_without_the_product():
    u, v = torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0, 4.0]])  # U V = [[3, 4], [6, 8]]
    assert frobenius_decay(u, v).item() == 125.0
    u, v = (
        torch.randn(3, 2, 7, 4, dtype=torch.float64),
        torch.randn(3, 2, 4, 5, dtype=torch.float64),
    )
    u.requires_grad_()
    value = frobenius_decay(u, v)
    torch.testing.assert_close(value, (u @ v).square().sum((-2, -1)))
    (gradient,) = torch.autograd.grad(value.sum(), u)
    torch.testing.assert_close(gradient, 2 * (u @ v) @ v.mT)
    with pytest.raises(ValueError, match="expected"):
        frobenius_decay(u, v.mT)


def test_effective_parameters():
    assert effective_parameters(5, 4, 2) == 14
    assert effective_parameters(5, 4, 4) == 20  # full rank: all of them
    with pytest.raises(ValueError, match="rank"):
        effective_parameters(5, 4, 5)


@pytest.mark.parametrize("init", ["he", "spectral", "spectral_ones"])
def test_factorized_linear_is_its_product_and_starts_as_it_says(init):
    layer = FactorizedLinear((2,), 40, 30, 10, init)
    reset_runs(layer, [3, 4])
    x = torch.randn(2, 5, 40)
    w = layer.u @ layer.v
    torch.testing.assert_close(layer(x), x @ w.mT + layer.bias.unsqueeze(1), rtol=1e-4, atol=1e-5)
    alone = FactorizedLinear((1,), 40, 30, 10, init)
    reset_runs(alone, [4])
    assert torch.equal(alone.u[0], layer.u[1])
    values = torch.linalg.svdvals(w)
    assert (values[:, 10:] < 1e-5).all()
    if init == "spectral_ones":
        torch.testing.assert_close(values[:, :10], torch.ones(2, 10))
    elif init == "spectral":  # the largest singular values of a dense layer with the same seed
        dense = Linear((2,), 40, 30)
        reset_runs(dense, [3, 4])
        torch.testing.assert_close(values[:, :10], torch.linalg.svdvals(dense.weight)[:, :10])
    else:
        assert w.var().item() == pytest.approx(2 / 40, rel=0.15)


def test_the_penalty_on_factors_is_a_term_of_the_loss(tiny):
    term = {"frobenius": {"coef": [0.0, 10.0], "fn": frobenius_penalty}}
    agent = DQN(tiny.spec, layers={"factorized": 3}, regularizers=term, **SMALL)
    metrics = train_steps(agent, tiny, 100)
    assert metrics["reg/frobenius"][1] < 0.8 * metrics["reg/frobenius"][0]
    with pytest.raises(InputError, match="no factorized layers"):
        train_steps(DQN(tiny.spec, regularizers=term, **SMALL), tiny, 1)


# --- norms ---


def test_batch_norm_equals_torch_in_training_and_in_use():
    ours, theirs = (
        BatchNorm((2,), 4, momentum=0.9),
        [nn.BatchNorm1d(4, momentum=0.1) for _ in range(2)],
    )
    for _ in range(5):
        x = torch.randn(2, 8, 4)
        y = ours(x)
        for run, peer in enumerate(theirs):
            torch.testing.assert_close(y[run], peer(x[run]), rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(ours.mean[run], peer.running_mean)
    x = torch.randn(2, 8, 4)
    with torch.no_grad():
        y, before = ours(x), ours.mean.clone()
    assert torch.equal(ours.mean, before)
    expected = batch_norm(x, ours.mean, ours.variance)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(ours.eval()(x), expected)
    torch.testing.assert_close(
        copy.deepcopy(ours).train().requires_grad_(False)(x), expected
    )  # a target network
    # torch's running variance is unbiased, ours is the batch's own
    theirs[0].eval().running_var.mul_(0).add_(ours.variance[0])
    torch.testing.assert_close(y[0], theirs[0](x[0]), rtol=1e-4, atol=1e-5)


def test_batch_renorm_gives_what_running_statistics_give_unless_clipped():
    layer = BatchNorm((1,), 3, renorm=True, warmup=20)
    for step in range(400):
        x = 2 * torch.randn(1, 64, 3) + 5
        plain = batch_norm(x, x.mean(-2), x.var(-2, correction=0))
        before = layer.mean.clone(), layer.variance.clone()
        y = layer(x)
        if step < 20:
            torch.testing.assert_close(y, plain)
    torch.testing.assert_close(y, batch_norm(x, *before), rtol=1e-4, atol=1e-4)
    # clipped: a batch that is 10 times as wide and far away
    torch.testing.assert_close(layer(10 * x + 1000), 3 * plain + 5, rtol=1e-3, atol=1e-3)


def test_running_statistics_survive_a_batch_that_is_not_finite():
    layer = BatchNorm((2,), 3)
    x = torch.randn(2, 8, 3)
    x[0, 0] = torch.nan
    layer(x)
    assert torch.isfinite(layer.mean).all()
    assert layer.mean[0].abs().sum() == 0
    assert layer.mean[1].abs().sum() > 0


def test_sphere_and_hyperspherical_layers_by_hand():
    assert torch.equal(
        Sphere(5.0)(torch.tensor([[3.0, 4.0], [0.0, 0.0]])), torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    )
    layer = HypersphericalLinear((1,), 2, 1, shift=None)
    layer.weight.data[:], layer.scale.data[:] = torch.tensor([[[0.6, 0.8]]]), 2.0
    assert layer(torch.tensor([[[30.0, 40.0]]])).item() == pytest.approx(2 * (0.36 + 0.64))
    first = HypersphericalLinear((1,), 2, 1, shift=3.0)
    first.weight.data[:], first.scale.data[:] = torch.tensor([[[0.0, 0.0, 1.0]]]), 1.0
    assert first(torch.tensor([[[0.0, 4.0]]])).item() == pytest.approx(0.6)  # 3 / |(0, 4, 3)|
    weight = torch.randn(2, 3, 4)
    direction = torch.nn.functional.normalize(weight, dim=-1)
    unit_rows_(weight)
    torch.testing.assert_close(weight, direction)


# --- the option group ---


@pytest.mark.parametrize("layers", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("kind", [DQN, CQL, BC])
def test_one_option_switches_layers_on_and_a_run_alone_equals_itself_among_three(
    kind, layers, tiny, moves
):
    data = moves if kind is CQL else tiny
    many = make(kind, data, 3, layers)
    alone = make(kind, data, [1], layers)
    before = {name: p.clone() for name, p in parameters_of(alone).items()}
    among = train_steps(many, data, 12)
    single = train_steps(alone, data, 12)

    for name, value in single.items():
        assert value[0].item() == pytest.approx(among[name][1].item(), rel=1e-3, abs=1e-4), name
    after = parameters_of(alone)
    assert any(not torch.equal(after[name], start) for name, start in before.items())

    again = make(kind, data, [1], layers)
    again.load_state_dict(alone.state_dict())
    batch = Table(data.columns()).gather(torch.arange(8).unsqueeze(0))
    features, _ = alone.features(batch)
    assert torch.equal(again.features(batch)[0], features)
    assert features.shape[-1] == alone.head_weight.shape[-1] == 16


@pytest.mark.parametrize(
    "layers",
    [
        {"factorized": 3, "norm": "batch_renorm", "linear_stack": 1, "feature_norm": 1.0},
        {"density": 0.3, "norm": "batch"},
        {"hyperspherical": True, "zero_head": True},
    ],
)
def test_compiled_equals_eager_in_one_graph(layers, tiny):
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    eager, graph = (
        DQN(tiny.spec, seeds=2, layers=layers, max_grad_norm=1.0, **SMALL) for _ in range(2)
    )
    counter = CompileCounter()
    expected, found = (
        train_steps(eager, tiny, 5),
        train_steps(graph, tiny, 5, compiled(graph.update, backend=counter)),
    )
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-3, atol=1e-5)
    assert counter.frame_count == 1


def test_the_network_is_what_the_option_says():
    def network(**layers):
        return with_layers(Critics(5, 2, (2, 3), (16, 8)), Layers(**layers))

    assert [type(m) for m in network(factorized=7).torso.layers] == [
        Linear,
        FactorizedLinear,
    ]  # 16x7 stays dense
    assert network(linear_stack=3).torso.after[0].collapse().shape == (2, 3, 8, 8)
    assert network(linear_stack=1).torso.activation == "identity"
    assert network(feature_norm=1.0).torso.activation == "relu"
    wide = network(norm="batch")
    assert isinstance(wide.torso.layers[1][1], BatchNorm)
    unit = network(feature_norm=3.0)
    reset_runs(unit, [0, 1])
    phi, _ = unit(torch.randn(2, 4, 5), torch.randn(2, 4, 2))
    torch.testing.assert_close(phi.norm(dim=-1), torch.full((2, 3, 4), 3.0))
    spheres = network(hyperspherical=True)
    assert [m.shift for m in spheres.torso.layers] == [3.0, None]


def test_layers_reach_the_part_after_the_convolutions():
    network = with_layers(
        QNetwork(MinAtarTorso(2, (10, 10, 4), 32), 3, 2), Layers(norm="layer", density=0.1)
    )
    reset_runs(network, [0, 1])
    assert network(torch.rand(2, 3, 10, 10, 4))[1].shape == (2, 3, 3)
    assert network.torso.hidden[0].mask.double().mean().item() == pytest.approx(0.1, abs=1e-4)


def test_unit_rows_hold_after_every_update_and_the_target_copies_statistics(tiny):
    agent = DQN(tiny.spec, seeds=2, layers={"hyperspherical": True}, **SMALL)
    train_steps(agent, tiny, 10)
    for layer in agent.online.torso.layers:
        torch.testing.assert_close(layer.weight.norm(dim=-1), torch.ones_like(layer.weight[..., 0]))
    agent = DQN(tiny.spec, layers={"norm": "batch"}, **SMALL)
    train_steps(agent, tiny, 3)
    online, target = agent.online.torso.layers[0][1], agent.target.torso.layers[0][1]
    assert online.mean.abs().sum() > 0
    assert torch.equal(online.mean, target.mean)
    assert online.passes == 3


def test_the_defaults_change_nothing(tiny):
    plain = DQN(tiny.spec, **SMALL)
    assert type(plain.online.torso) is MLP
    assert overrides_only(plain.config).keys() == SMALL.keys()
    changed = replace(plain.config, layers=Layers(density=0.5))
    assert overrides_only(changed)["layers"] == {"density": 0.5}
    assert DQN(tiny.spec, **to_dict(changed)).config == changed


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ({"densty": 0.1}, "layers.densty.*did you mean 'density'"),
        ({"density": 0}, r"layers.density = 0.*\(0, 1\]"),
        ({"linear_stack": -1}, "layers.linear_stack = -1"),
        ({"norm": "bach"}, "layers.norm.*did you mean 'batch'"),
        ({"factorized": 4, "density": 0.5}, "layers.factorized: not together with density"),
        ({"parametrization": "mup", "linear_stack": 2}, "linear_stack: not with parametrization"),
        ({"hyperspherical": True, "norm": "layer"}, "layers.norm = layer: not with hyperspherical"),
        ({"factorized_init": "he"}, "does nothing without factorized"),
        ({"base_width": 32}, "does nothing without parametrization"),
        ({"factorized": 16}, "layers.factorized = 16: no hidden layer is larger"),
        ({"factorized": 0}, "layers.factorized = 0"),
        ({"feature_norm": 0}, "layers.feature_norm = 0"),
        (0.1, "layers = 0.1: expected a mapping"),
    ],
)
def test_nonsense_is_refused_in_one_line(tiny, layers, message):
    with pytest.raises(InputError, match=message):
        DQN(tiny.spec, layers=layers, **SMALL)


def test_what_contradicts_other_options_is_refused(tiny, moves):
    with pytest.raises(InputError, match="layer_norm = false"):
        DQN(tiny.spec, layers={"norm": "batch"}, layer_norm=True, **SMALL)
    with pytest.raises(InputError, match=r"init = orthogonal: not with layers.density"):
        CQL(moves.spec, layers={"density": 0.5}, init="orthogonal")


def test_a_learner_needs_no_layers_of_ours():
    net = nn.Linear(3, 2)
    learner = Learner(net, lr=torch.tensor([0.1, 0.1]))
    learner.project()
    learner.update_target()
    assert torch.isfinite(net.weight).all()
