"""Projections of the layers of a network: in place, stacked, compiled, and their options."""

from __future__ import annotations

import math
import sys
import types
from collections.abc import Callable, Mapping

import pytest
import torch
from helpers.projections import KINDS, InPlace, close, copy_of, normal
from torch import Tensor, nn

from rlop.config.schema import Positive, option, options
from rlop.projections import (
    Frobenius,
    MaxNorm,
    Projection,
    frobenius_ball_,
    make_projection,
    max_norm_,
)
from rlop.types import InputError


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.torso = nn.Sequential(
            nn.Conv2d(2, 3, 2), nn.Flatten(), nn.Linear(12, 6), nn.LayerNorm(6), nn.ReLU()
        )
        self.head = nn.Linear(6, 2, bias=False)


def moved_net(seed: int = 0) -> tuple[Net, dict[str, Tensor]]:
    """Return a network far from its initial parameters, and these."""
    torch.manual_seed(seed)
    net = Net().double()
    initial = copy_of(dict(net.named_parameters()))
    with torch.no_grad():
        for i, parameter in enumerate(net.parameters()):
            parameter.add_(10 * normal(*parameter.shape, seed=seed + i))
    return net, initial


INITIAL = {"weight": torch.tensor([[1.0, 1.0]]), "bias": torch.tensor([2.0])}
MOVED = {"weight": torch.tensor([[3.0, 4.0]]), "bias": torch.tensor([8.0])}


@pytest.mark.parametrize(
    ("radius", "options", "weight", "bias"),
    [
        # Moves (2, 3) and 6, of length 7 together; the radius over sqrt(1 * 2) is half of that.
        (7 * 2**0.5 / 2, {}, [2.0, 2.5], 5.0),
        (13**0.5 / 2, {"bias": "exempt", "parametrization": "none"}, [2.0, 2.5], 8.0),
        (1.0, {"center": "zero", "bias": "exempt", "parametrization": "ntk"}, [0.6, 0.8], 8.0),
    ],
)
def test_max_norm_in_place_by_hand(
    radius: float, options: Mapping[str, str], weight: list[float], bias: float
) -> None:
    layer = nn.Linear(2, 1)
    layer.load_state_dict(MOVED)
    max_norm_(layer, INITIAL, radius, **options)
    close(layer.weight.detach(), torch.tensor([weight]))
    close(layer.bias.detach(), torch.tensor([bias]))


@pytest.mark.parametrize(("kind", "in_place"), KINDS)
def test_every_layer_is_in_its_ball_and_norm_gains_are_exempt(kind: str, in_place: InPlace) -> None:
    net, initial = moved_net()
    gain = net.torso[3].weight.detach().clone()
    in_place(net, initial, 2.0)

    for name, fan_in, n_out in [("torso.0", 8, 3), ("torso.2", 12, 6), ("head", 6, 2)]:
        layer = net.get_submodule(name)
        rows = (layer.weight - initial[f"{name}.weight"]).detach().flatten(1)
        if layer.bias is not None:
            bias = (layer.bias - initial[f"{name}.bias"]).detach()
            rows = torch.cat([rows, bias[:, None]], 1)
        if kind == "max_norm":
            radius = 2.0 / math.sqrt(n_out * fan_in)
            close(rows.norm(dim=1), torch.full((n_out,), radius, dtype=torch.float64))
        else:
            assert rows.norm().item() == pytest.approx(2.0 / math.sqrt(fan_in))
    assert torch.equal(net.torso[3].weight, gain)


def test_only_the_named_layers_are_projected() -> None:
    net, initial = moved_net()
    before = copy_of(dict(net.named_parameters()))
    max_norm_(net, initial, 1.0, layers=["torso.2"])
    changed = {name for name, p in net.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {"torso.2.weight", "torso.2.bias"}


@pytest.mark.parametrize(("kind", "in_place"), KINDS)
def test_a_large_radius_changes_nothing_and_a_second_call_neither(
    kind: str, in_place: InPlace
) -> None:
    net, initial = moved_net()
    before = copy_of(dict(net.named_parameters()))
    in_place(net, initial, math.inf)
    for name, parameter in net.named_parameters():
        assert torch.equal(parameter, before[name])

    in_place(net, initial, 1.0)
    once = copy_of(dict(net.named_parameters()))
    in_place(net, initial, 1.0)
    for name, parameter in net.named_parameters():
        close(parameter.detach(), once[name])


@pytest.mark.parametrize(("kind", "in_place"), KINDS)
@pytest.mark.parametrize("center", ["init", "zero"])
def test_stacked_parameters_equal_one_module_per_run(
    kind: str, in_place: InPlace, center: str
) -> None:
    pairs = [moved_net(seed) for seed in range(3)]
    parameters, initial = {}, {}
    for name in pairs[0][1]:
        parameters[name] = torch.stack([net.get_parameter(name).detach() for net, _ in pairs])
        initial[name] = torch.stack([start[name] for _, start in pairs])

    radius = torch.tensor([0.5, math.inf, 3.0], dtype=torch.float64)
    project = make_projection(kind, center=center).attach(parameters, lead=1)
    project(parameters, initial, radius)
    for run, (net, start) in enumerate(pairs):
        in_place(net, start, radius[run].item(), center=center)
        for name, parameter in net.named_parameters():
            close(parameters[name][run], parameter.detach())


def test_with_two_leading_axes_every_critic_has_its_own_balls() -> None:
    initial = {"head.weight": normal(2, 3, 4, 5), "head.bias": normal(2, 3, 4, seed=1)}
    parameters = {name: tensor + 9 for name, tensor in initial.items()}
    radius = torch.tensor([0.5, 2.0], dtype=torch.float64)
    MaxNorm(parametrization="none").attach(parameters, lead=2)(parameters, initial, radius)

    moves = torch.cat(
        [
            parameters["head.weight"] - initial["head.weight"],
            (parameters["head.bias"] - initial["head.bias"]).unsqueeze(-1),
        ],
        dim=-1,
    )
    close(moves.norm(dim=-1), radius[:, None, None].expand(2, 3, 4))


def test_compiled_update_is_one_graph_and_takes_new_radii() -> None:
    parameters = {"0.weight": normal(3, 4, 5), "0.bias": normal(3, 4), "1.weight": normal(3, 2, 4)}
    initial = {name: p + normal(*p.shape, seed=1) for name, p in parameters.items()}
    project = MaxNorm().attach(parameters, lead=1)
    graphs: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    compiled = torch.compile(project, backend=backend, fullgraph=True)
    for radius in ([0.1, 1.0, 9.0], [9.0, math.inf, 0.1]):
        eager, traced = copy_of(parameters), copy_of(parameters)
        project(eager, initial, torch.tensor(radius).double())
        compiled(traced, initial, torch.tensor(radius).double())
        for name, tensor in eager.items():
            assert torch.equal(traced[name], tensor)
        assert not torch.equal(eager["0.weight"], parameters["0.weight"])
    assert len(graphs) == 1


@pytest.mark.parametrize(("kind", "in_place"), KINDS)
def test_the_in_place_form_compiles(kind: str, in_place: InPlace) -> None:
    net, initial = moved_net()
    twin, _ = moved_net()
    torch.compiler.reset()
    torch.compile(lambda: in_place(net, initial, 1.0), backend="aot_eager", fullgraph=True)()
    in_place(twin, initial, 1.0)
    for compiled, eager in zip(net.parameters(), twin.parameters()):
        close(compiled.detach(), eager.detach())


def test_parameters_keep_their_dtype_storage_and_gradient() -> None:
    layer = nn.Linear(3, 2)
    initial = {name: p.detach() + 1 for name, p in layer.named_parameters()}
    layer(torch.ones(1, 3)).sum().backward()
    pointers = [p.data_ptr() for p in layer.parameters()]
    grad = layer.weight.grad

    max_norm_(layer, initial, torch.tensor(0.5, dtype=torch.float64))
    assert [p.data_ptr() for p in layer.parameters()] == pointers
    assert layer.weight.dtype == torch.float32
    assert layer.weight.requires_grad
    assert layer.weight.grad is grad


# --- options ---


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("maxnorm", {}, "'maxnorm'.*did you mean 'max_norm'"),
        ("max_norm", {"centre": "zero"}, r"projections\.max_norm\.centre'.*did you mean 'center'"),
        ("max_norm", {"center": "initial"}, r"projections\.max_norm\.center = 'initial'.*'init'"),
        ("frobenius", {"bias": "joined"}, r"frobenius\.bias = 'joined'.*'join'"),
        ("max_norm", {"parametrization": "mup"}, r"max_norm\.parametrization = 'mup'"),
        ("max_norm", {"layers": "head"}, r"max_norm\.layers = 'head': expected a list"),
        ("max_norm", {"layers": [1]}, r"max_norm\.layers\[0\] = 1"),
        ("max_norm", {"lead": "x"}, r"unknown key 'projections\.max_norm\.lead'"),
        ("max_norm", {"radius": 1}, r"unknown key 'projections\.max_norm\.radius'"),
        ("math:pi", {}, "expected a subclass of rlop.projections.Projection"),
        ("math:pie", {}, "did you mean 'pi'"),
    ],
)
def test_a_wrong_option_is_refused_by_its_dotted_key(
    kind: str, options: Mapping[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        make_projection(kind, **options)


def test_options_are_those_of_the_class() -> None:
    assert make_projection("max_norm") == MaxNorm()
    made = make_projection("frobenius", layers=["head"], center="zero")
    assert made == Frobenius(layers=("head",), center="zero")


@options
class NonNegativeWeights(Projection):
    share: Positive = option(1.0, "how far to move")

    def attach(self, parameters: Mapping[str, Tensor], lead: int) -> InPlace:
        def project(parameters: Mapping[str, Tensor], initial: object, radius: Tensor) -> None:
            for parameter in parameters.values():
                parameter.add_(self.share * (-parameter).relu())

        return project


def test_a_projection_is_named_by_its_import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    package = types.ModuleType("a_package")
    package.NonNegativeWeights = NonNegativeWeights
    monkeypatch.setitem(sys.modules, "a_package", package)

    projection = make_projection("a_package:NonNegativeWeights", share=0.5)
    parameters = {"weight": torch.tensor([[-2.0, 3.0]])}
    projection.attach(parameters, lead=0)(parameters, {}, torch.ones(1))
    assert parameters["weight"].tolist() == [[-1.0, 3.0]]
    with pytest.raises(InputError, match=r"NonNegativeWeights\.share = 0: expected a number > 0"):
        make_projection("a_package:NonNegativeWeights", share=0)


def test_a_layer_that_the_network_has_not_is_refused_when_it_is_attached() -> None:
    net, _ = moved_net()
    with pytest.raises(InputError, match=r"layer 'torso\.1'.*did you mean 'torso\.\d'"):
        MaxNorm(layers=("torso.1",)).attach(dict(net.named_parameters()), lead=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": ["torso.1"]}, r"layer 'torso\.1'.*did you mean 'torso\.\d'"),
        ({"layers": "head"}, "layers 'head': expected a list"),
        ({"center": "initial"}, "center 'initial'.*did you mean 'init'"),
        ({"bias": "joined"}, "bias 'joined'.*did you mean 'join'"),
        ({"parametrization": "mup"}, "parametrization 'mup'"),
    ],
)
@pytest.mark.parametrize("in_place", [max_norm_, frobenius_ball_])
def test_the_in_place_form_refuses_wrong_options(
    in_place: InPlace, options: Mapping[str, object], message: str
) -> None:
    net, initial = moved_net()
    with pytest.raises(InputError, match=message):
        in_place(net, initial, 1.0, **options)


@pytest.mark.parametrize("in_place", [max_norm_, frobenius_ball_])
def test_the_in_place_form_refuses_wrong_arguments(in_place: InPlace) -> None:
    net, initial = moved_net()
    with pytest.raises(InputError, match=r"'torso\.0\.weight' not found"):
        in_place(net, None, 1.0)
    with pytest.raises(InputError, match=r"'torso\.0\.weight' is the parameter itself"):
        in_place(net, net.state_dict(), 1.0)
    with pytest.raises(ValueError, match="center: expected"):
        in_place(net, initial | {"torso.0.weight": torch.zeros(3, 2)}, 1.0)
    for radius in (0.0, -1.0, math.nan):
        with pytest.raises(InputError, match="expected a number above 0"):
            in_place(net, initial, radius)
