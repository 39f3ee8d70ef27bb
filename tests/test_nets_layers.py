"""The option group `layers`: what it makes of a network, and in agents."""

from dataclasses import replace

import pytest
import torch
from helpers.training import parameters_of, train_steps
from rlop.agents import BC, CQL, DQN
from torch import nn

from rlop.config.files import overrides_only, to_dict
from rlop.data.sampler import Table
from rlop.nets import MLP, Critics, Layers, Linear, MinAtarTorso, QNetwork, reset_runs, with_layers
from rlop.nets.factorized import FactorizedLinear
from rlop.nets.norms import BatchNorm
from rlop.optim.learner import Learner
from rlop.training.compile import Compiled
from rlop.types import InputError

SMALL = {"hidden": (16, 16), "batch_size": 8, "lr": 1e-3}
AGENTS = {
    DQN: {"target_period": 3},
    CQL: {"target_period": 3, "policy_hidden": (8,), "action_samples": 2},
    BC: {},
}
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


def make(kind, data, seeds=1, **options):
    """A small agent."""
    return kind(data.spec, seeds=seeds, **{**SMALL, **AGENTS[kind], **options})


# --- networks ---


def critics_with(**layers):
    """Critics of two runs with these layers."""
    network = with_layers(Critics(5, 2, (2, 3), (16, 8)), Layers(**layers))
    reset_runs(network, [0, 1])
    return network


def test_layers_that_are_not_larger_than_the_rank_stay_dense():
    kinds = [type(layer) for layer in critics_with(factorized=7).torso.layers]
    assert kinds == [Linear, FactorizedLinear]  # 16x7 and 8x16


def test_a_linear_stack_makes_features_without_activation():
    torso = critics_with(linear_stack=3).torso
    assert torso.after[0].collapse().shape == (2, 3, 8, 8)
    assert torso.activation == "identity"


def test_features_have_the_length_asked_for():
    network = critics_with(feature_norm=3.0)
    phi, _ = network(torch.randn(2, 4, 5), torch.randn(2, 4, 2))
    torch.testing.assert_close(phi.norm(dim=-1), torch.full((2, 3, 4), 3.0))
    assert network.torso.activation == "relu"


def test_a_norm_follows_each_layer_whose_bias_it_makes_useless():
    network = critics_with(norm="batch")
    assert isinstance(network.torso.layers[1][1], BatchNorm)
    assert "torso.layers.1.0.bias" not in dict(network.named_parameters())
    assert "torso.layers.1.0.bias" in network.state_dict()


def test_only_the_first_hyperspherical_layer_shifts_its_input():
    shifts = [layer.shift for layer in critics_with(hyperspherical=True).torso.layers]
    assert shifts == [3.0, None]


def test_layers_reach_the_part_after_the_convolutions():
    network = QNetwork(MinAtarTorso(2, (10, 10, 4), 32), 3, 2)
    with_layers(network, Layers(norm="layer", density=0.1))
    reset_runs(network, [0, 1])
    assert network(torch.rand(2, 3, 10, 10, 4))[1].shape == (2, 3, 3)

    share = network.torso.hidden[0].mask.double().mean().item()
    assert share == pytest.approx(0.1, abs=1e-4)


def network_with(layers, precision):
    """A Q-network of two runs with these layers."""
    network = QNetwork(MLP((2,), 5, (16, 16, 16), precision=precision), 3, 2)
    reset_runs(with_layers(network, Layers(**layers)), [0, 1])
    return network.eval()


@pytest.mark.parametrize("layers", OPTIONS.values(), ids=OPTIONS)
def test_all_layers_take_bf16_products(layers):
    obs = torch.randn(2, 20, 5)
    exact, _ = network_with(layers, "fp32")(obs)
    rounded, _ = network_with(layers, "bf16")(obs)
    error = (rounded - exact).norm() / exact.norm()
    assert rounded.dtype == torch.float32
    assert 0 < error < 0.05


@pytest.mark.parametrize("layers", OPTIONS.values(), ids=OPTIONS)
def test_all_layers_compute_in_the_dtype_of_their_parameters(layers):
    network = network_with(layers, "fp32").double()
    for output in network(torch.randn(2, 20, 5)):
        assert output.dtype == torch.float64


def test_a_learner_needs_no_layers_of_ours():
    net = nn.Linear(3, 2)
    learner = Learner(net, lr=torch.tensor([0.1, 0.1]))
    learner.project()
    learner.update_target()
    assert torch.isfinite(net.weight).all()


# --- agents ---


@pytest.mark.parametrize("layers", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("kind", AGENTS)
def test_one_option_switches_layers_on_and_a_run_alone_equals_itself_among_three(
    kind, layers, tiny, moves
):
    data = moves if kind is CQL else tiny
    many = make(kind, data, 3, layers=layers)
    alone = make(kind, data, [1], layers=layers)
    before = {name: p.clone() for name, p in parameters_of(alone).items()}

    among = train_steps(many, data, 7)
    single = train_steps(alone, data, 7)
    for name, value in single.items():
        assert value[0].item() == pytest.approx(among[name][1].item(), rel=1e-3, abs=1e-4), name
    after = parameters_of(alone)
    assert any(not torch.equal(after[name], start) for name, start in before.items())

    again = make(kind, data, [1], layers=layers)
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
        {"parametrization": "mup", "base_width": 4},
    ],
)
def test_compiled_equals_eager_in_one_graph(layers, tiny):
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    eager = make(DQN, tiny, 2, layers=layers, max_grad_norm=1.0)
    graph = make(DQN, tiny, 2, layers=layers, max_grad_norm=1.0)
    counter = CompileCounter()

    expected = train_steps(eager, tiny, 5)
    metrics = train_steps(graph, tiny, 5, Compiled(graph.update, backend=counter))
    for name, value in expected.items():
        torch.testing.assert_close(metrics[name], value, rtol=1e-3, atol=1e-5)
    assert counter.frame_count == 1


def test_unit_rows_hold_after_every_update(tiny):
    agent = make(DQN, tiny, 2, layers={"hyperspherical": True})
    train_steps(agent, tiny, 10)
    for layer in agent.online.torso.layers:
        lengths = layer.weight.norm(dim=-1)
        torch.testing.assert_close(lengths, torch.ones_like(lengths))


def test_the_target_network_copies_running_statistics(tiny):
    agent = make(DQN, tiny, layers={"norm": "batch"})
    train_steps(agent, tiny, 3)
    online = agent.online.torso.layers[0][1]
    target = agent.target.torso.layers[0][1]
    assert online.mean.any()
    assert torch.equal(online.mean, target.mean)
    assert online.passes == 3


# --- options ---


def test_the_defaults_change_nothing(tiny):
    plain = make(DQN, tiny)
    assert type(plain.online.torso) is MLP
    assert overrides_only(plain.config).keys() == {*SMALL, *AGENTS[DQN]}

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
    with pytest.raises(InputError, match=message) as caught:
        make(DQN, tiny, layers=layers)
    assert "\n" not in str(caught.value)


def test_what_contradicts_other_options_is_refused(tiny, moves):
    with pytest.raises(InputError, match="layer_norm = false"):
        make(DQN, tiny, layers={"norm": "batch"}, layer_norm=True)
    with pytest.raises(InputError, match=r"init = orthogonal: not with layers.density"):
        make(CQL, moves, layers={"density": 0.5}, init="orthogonal")
