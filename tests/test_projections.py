"""Projections: the sets, the theory of the two-layer network, and the in-place forms on modules."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rlop.projections import (
    check_radius,
    frobenius_ball,
    frobenius_ball_,
    make_projection,
    max_norm,
    max_norm_,
    neuron_radius,
)
from rlop.types import InputError

PURE = [max_norm, frobenius_ball]


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def close(found: Tensor, expected: Tensor) -> None:
    exact = found.dtype == torch.float64
    torch.testing.assert_close(
        found, expected, rtol=1e-12 if exact else 3e-7, atol=1e-12 if exact else 1e-7
    )


# --- by hand ---


def test_max_norm_by_hand() -> None:
    weight = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    close(max_norm(weight, None, 1.0), torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]]))
    center = torch.tensor([[3.0, 0.0], [0.3, 0.4], [0.0, 0.0]])
    close(max_norm(weight, center, 1.0), torch.tensor([[3.0, 1.0], [0.3, 0.4], [0.0, 0.0]]))


def test_frobenius_ball_by_hand() -> None:
    weight = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    close(frobenius_ball(weight, None, 1.0), weight / 5)
    close(
        frobenius_ball(weight, torch.tensor([[3.0, 0.0], [0.0, 0.0]]), 1.0),
        torch.tensor([[3.0, 0.0], [0.0, 1.0]]),
    )


def test_neuron_radius_by_hand() -> None:
    assert neuron_radius(6.0, 4, 9) == 1.0
    assert neuron_radius(6.0, 4, 9, "ntk") == 3.0
    assert neuron_radius(6.0, 4, 9, "none") == 6.0
    assert neuron_radius(torch.tensor([6.0, math.inf]), 4, 9).tolist() == [1.0, math.inf]
    with pytest.raises(InputError, match=r"parametrization 'ntl'.*'ntk'"):
        neuron_radius(1.0, 1, 1, "ntl")


def test_max_norm_around_zero_is_renorm() -> None:
    weight = normal(7, 5, dtype=torch.float32)
    torch.testing.assert_close(max_norm(weight, None, 1.5), torch.renorm(weight, 2, 0, 1.5))


def test_a_filter_is_one_neuron() -> None:
    weight, center = normal(4, 3, 2, 2), normal(4, 3, 2, 2, seed=1)
    expected = max_norm(weight.flatten(1), center.flatten(1), 1.0).view_as(weight)
    close(max_norm(weight, center, 1.0), expected)


# --- the sets ---


@pytest.mark.parametrize("project", PURE)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), radius=st.floats(0.01, 10), share=st.floats(0, 1))
def test_in_the_set_idempotent_and_convex(
    project: Any, seed: int, radius: float, share: float
) -> None:
    center = normal(4, 3, seed=seed)
    one, two = (project(3 * normal(4, 3, seed=seed + i), center, radius) for i in (1, 2))
    close(project(one, center, radius), one)
    mixed = share * one + (1 - share) * two
    close(project(mixed, center, radius), mixed)
    norms = (mixed - center).norm(dim=1 if project is max_norm else (0, 1))
    assert (norms <= radius * (1 + 1e-12)).all()


@pytest.mark.parametrize("project", PURE)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), radius=st.floats(0.01, 10))
def test_no_other_point_of_the_set_is_nearer(project: Any, seed: int, radius: float) -> None:
    center, weight = normal(4, 3, seed=seed), 3 * normal(4, 3, seed=seed + 1)
    other = project(center + normal(4, 3, seed=seed + 2), center, radius)
    nearest = project(weight, center, radius)
    assert (
        (weight - nearest) * (other - nearest)
    ).sum() <= 1e-9  # variational inequality of a projection


@pytest.mark.parametrize("radius", [100.0, math.inf])
@pytest.mark.parametrize("project", PURE)
def test_a_feasible_point_keeps_every_bit(project: Any, radius: float) -> None:
    weight, center = (
        normal(4, 3, dtype=torch.float32),
        1e-6 * normal(4, 3, seed=1, dtype=torch.float32),
    )
    assert torch.equal(project(weight, center, radius), weight)


@pytest.mark.parametrize("project", PURE)
def test_zero_and_the_center_are_safe(project: Any) -> None:
    zero, weight = torch.zeros(3, 2), normal(3, 2)
    for radius in (1.0, math.inf):
        assert torch.equal(project(zero, None, radius), zero)
        assert torch.equal(project(weight, weight.clone(), radius), weight)


def test_frobenius_ball_contains_the_max_norm_set_and_more() -> None:
    weight, center, radius = 5 * normal(16, 3), normal(16, 3, seed=1), 2.0
    inside = max_norm(weight, center, neuron_radius(radius, 16, 3, "ntk"))
    assert (inside - center).norm() == pytest.approx(radius)
    torch.testing.assert_close(frobenius_ball(inside, center, radius), inside)
    lonely = center.clone()
    lonely[0] += torch.tensor(
        [radius, 0.0, 0.0]
    )  # one neuron may use up the whole radius of the matrix
    close(frobenius_ball(lonely, center, radius), lonely)
    assert (max_norm(lonely, center, radius / 4) - center).norm() == pytest.approx(radius / 4)


# --- runs ---


@pytest.mark.parametrize("project", PURE)
@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 2, 4, 5), (3, 4, 2, 2, 2)])
def test_run_axis_equals_a_loop(project: Any, shape: tuple[int, ...]) -> None:
    lead = 2 if len(shape) == 4 else 1
    weight, center = 3 * normal(*shape), normal(*shape, seed=1)
    radius = torch.tensor([0.5, math.inf, 2.0], dtype=torch.float64)
    together = project(weight, center, radius, lead)
    alone = [project(weight[r], center[r], radius[r].item(), lead - 1) for r in range(3)]
    close(together, torch.stack(alone))
    assert torch.equal(together[1], weight[1])


@pytest.mark.parametrize("project", PURE)
def test_vmap_equals_the_run_axis(project: Any) -> None:
    weight, center, radius = (
        3 * normal(3, 4, 5),
        normal(3, 4, 5, seed=1),
        torch.tensor([0.5, 1.0, 2.0]).double(),
    )
    close(torch.vmap(project)(weight, center, radius), project(weight, center, radius, 1))


@pytest.mark.parametrize("project", PURE)
def test_one_radius_per_critic(project: Any) -> None:
    weight, radius = (
        3 * normal(2, 2, 4, 5),
        torch.tensor([[0.5, 1.0], [2.0, math.inf]], dtype=torch.float64),
    )
    close(project(weight, None, radius, 2)[1, 0], project(weight[1, 0], None, 2.0))


@pytest.mark.parametrize("project", PURE)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_diverged_run_leaves_its_neighbours_alone(project: Any, bad: float) -> None:
    weight = 3 * normal(3, 4, 5)
    healthy = project(weight[[0, 2]], None, 1.0, 1)
    weight[1, 0, 0] = bad
    assert torch.equal(project(weight, None, 1.0, 1)[[0, 2]], healthy)


@pytest.mark.parametrize("project", PURE)
def test_shapes_are_checked(project: Any) -> None:
    with pytest.raises(ValueError, match="center: expected"):
        project(torch.zeros(3, 2), torch.zeros(2), 1.0)
    with pytest.raises(ValueError, match="radius: expected"):
        project(torch.zeros(3, 4, 2), None, torch.ones(4), 1)
    with pytest.raises(ValueError, match="radius: expected"):
        project(torch.zeros(3, 4), None, torch.ones(3))
    with pytest.raises(ValueError, match="weight: expected"):
        project(torch.zeros(3), None, 1.0, 2)


# --- theory: the two-layer network with symmetric initialisation ---


def two_layers(x: Tensor, weight: Tensor, sign: Tensor) -> Tensor:
    return (x @ weight.mT).relu() @ sign / len(sign) ** 0.5


@settings(max_examples=30, deadline=None)
@given(
    half=st.integers(1, 40),
    d=st.integers(1, 8),
    radius=st.floats(0.01, 20),
    seed=st.integers(0, 1000),
)
def test_the_value_stays_within_radius_of_the_initial_one(
    half: int, d: int, radius: float, seed: int
) -> None:
    w, a = normal(half, d, seed=seed), normal(half, seed=seed + 1).sign()
    initial, sign = torch.cat([w, w]), torch.cat([a, -a])
    x = 2 * normal(50, d, seed=seed + 2)
    assert two_layers(x, initial, sign).abs().max() <= 1e-12 * x.norm(dim=1).max() * initial.norm()
    weight = max_norm(
        initial + 10 * normal(2 * half, d, seed=seed + 3),
        initial,
        neuron_radius(radius, 2 * half, d, "ntk"),
    )
    change = two_layers(x, weight, sign) - two_layers(x, initial, sign)
    assert (change.abs() <= radius * x.norm(dim=1) * (1 + 1e-9)).all()
    assert (weight - initial).norm() <= radius * (1 + 1e-9)


def test_the_bound_is_reached() -> None:
    # all neurons open and pushed along x by the whole radius: the change is R ||x||
    m, x = 8, torch.tensor([3.0, 4.0], dtype=torch.float64)
    initial, sign = x.expand(m, 2).clone(), torch.ones(m, dtype=torch.float64)
    weight = max_norm(initial + x, initial, neuron_radius(2.0, m, 2, "ntk"))
    change = two_layers(x, weight, sign) - two_layers(x, initial, sign)
    assert change.item() == pytest.approx(2.0 * 5.0, rel=1e-12)


# --- modules ---


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.torso = nn.Sequential(
            nn.Conv2d(2, 3, 2), nn.Flatten(), nn.Linear(12, 6), nn.LayerNorm(6), nn.ReLU()
        )
        self.head = nn.Linear(6, 2, bias=False)


def moved(seed: int = 0) -> tuple[nn.Module, dict[str, Tensor]]:
    torch.manual_seed(seed)
    net = Net().double()
    initial = {name: p.detach().clone() for name, p in net.named_parameters()}
    with torch.no_grad():
        for i, p in enumerate(net.parameters()):
            p.add_(10 * normal(*p.shape, seed=seed + i))
    return net, initial


def test_max_norm_in_place_by_hand() -> None:
    layer = nn.Linear(2, 1)
    initial = {"weight": torch.tensor([[1.0, 1.0]]), "bias": torch.tensor([2.0])}
    start = {
        "weight": torch.tensor([[3.0, 4.0]]),
        "bias": torch.tensor([8.0]),
    }  # moves (2, 3) and 6, length 7
    layer.load_state_dict(start)
    max_norm_(layer, initial, 7 * 2**0.5 / 2)  # over sqrt(1 * 2): half the length
    close(layer.weight.detach(), torch.tensor([[2.0, 2.5]]))
    close(layer.bias.detach(), torch.tensor([5.0]))
    layer.load_state_dict(start)
    max_norm_(layer, initial, 13**0.5 / 2, bias="exempt", parametrization="none")
    close(layer.weight.detach(), torch.tensor([[2.0, 2.5]]))
    assert layer.bias.item() == 8.0
    layer.load_state_dict(start)
    max_norm_(layer, None, 1.0, center="zero", bias="exempt", parametrization="ntk")
    close(layer.weight.detach(), torch.tensor([[0.6, 0.8]]))


@pytest.mark.parametrize(
    ("kind", "in_place"), [("max_norm", max_norm_), ("frobenius", frobenius_ball_)]
)
def test_every_layer_is_in_its_ball_and_norm_gains_are_exempt(kind: str, in_place: Any) -> None:
    net, initial = moved()
    gain = net.torso[3].weight.detach().clone()
    in_place(net, initial, 2.0)
    for name, fan_in, n_out in [("torso.0", 8, 3), ("torso.2", 12, 6), ("head", 6, 2)]:
        layer = net.get_submodule(name)
        rows = torch.cat([(layer.weight - initial[f"{name}.weight"]).flatten(1)], 1)
        if layer.bias is not None:
            rows = torch.cat([rows, (layer.bias - initial[f"{name}.bias"])[:, None]], 1)
        if kind == "max_norm":
            expected = torch.full((n_out,), 2.0 / math.sqrt(n_out * fan_in), dtype=torch.float64)
            close(rows.norm(dim=1).detach(), expected)
        else:
            assert rows.norm().item() == pytest.approx(2.0 / math.sqrt(fan_in))
    assert torch.equal(net.torso[3].weight, gain)


def test_only_the_named_layers_are_projected() -> None:
    net, initial = moved()
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    max_norm_(net, initial, 1.0, layers=["torso.2"])
    changed = {name for name, p in net.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {"torso.2.weight", "torso.2.bias"}


def test_a_large_radius_changes_nothing_and_a_second_call_neither() -> None:
    net, initial = moved()
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    max_norm_(net, initial, math.inf)
    assert all(torch.equal(p, before[name]) for name, p in net.named_parameters())
    max_norm_(net, initial, 1.0)
    once = {name: p.detach().clone() for name, p in net.named_parameters()}
    max_norm_(net, initial, 1.0)
    for name, p in net.named_parameters():
        close(p.detach(), once[name])


@pytest.mark.parametrize("in_place", [max_norm_, frobenius_ball_])
def test_stacked_parameters_equal_one_module_per_run(in_place: Any) -> None:
    nets, initials = zip(*(moved(seed) for seed in range(3)))
    params = {
        name: torch.stack([dict(net.named_parameters())[name].detach() for net in nets])
        for name in initials[0]
    }
    initial = {name: torch.stack([start[name] for start in initials]) for name in initials[0]}
    kind = "max_norm" if in_place is max_norm_ else "frobenius"
    radius = torch.tensor([0.5, math.inf, 3.0], dtype=torch.float64)
    make_projection(kind)(params, initial, radius)
    for r, net in enumerate(nets):
        in_place(net, initials[r], radius[r].item())
        for name, p in net.named_parameters():
            close(params[name][r], p.detach())


def test_compiled_update_is_one_graph_and_takes_new_radii() -> None:
    params = {"0.weight": normal(3, 4, 5), "0.bias": normal(3, 4), "1.weight": normal(3, 2, 4)}
    initial = {name: p + normal(*p.shape, seed=1) for name, p in params.items()}
    project, graphs = make_projection("max_norm"), []

    def backend(graph: Any, inputs: list[Tensor]) -> Any:
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    compiled = torch.compile(
        lambda p, radius: project(p, initial, radius), backend=backend, fullgraph=True
    )
    for radius in (
        torch.tensor([0.1, 1.0, 9.0]).double(),
        torch.tensor([9.0, math.inf, 0.1]).double(),
    ):
        eager, traced = ({name: p.clone() for name, p in params.items()} for _ in range(2))
        project(eager, initial, radius)
        compiled(traced, radius)
        assert all(torch.equal(traced[name], eager[name]) for name in params)
        assert not torch.equal(eager["0.weight"], params["0.weight"])
    assert len(graphs) == 1


def test_max_norm_in_place_compiles() -> None:
    net, initial = moved()
    twin, _ = moved()
    torch.compiler.reset()
    torch.compile(lambda: max_norm_(net, initial, 1.0), backend="aot_eager", fullgraph=True)()
    max_norm_(twin, initial, 1.0)
    for p, q in zip(net.parameters(), twin.parameters()):
        close(p.detach(), q.detach())


def test_parameters_keep_their_dtype_storage_and_gradient() -> None:
    layer = nn.Linear(3, 2)
    initial = {name: p.detach() + 1 for name, p in layer.named_parameters()}
    layer(torch.ones(1, 3)).sum().backward()
    pointers, grad = [p.data_ptr() for p in layer.parameters()], layer.weight.grad
    max_norm_(layer, initial, torch.tensor(0.5, dtype=torch.float64))
    assert [p.data_ptr() for p in layer.parameters()] == pointers
    assert layer.weight.dtype == torch.float32
    assert layer.weight.requires_grad
    assert layer.weight.grad is grad


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("maxnorm", {}, "'maxnorm'.*did you mean 'max_norm'"),
        ("max_norm", {"centre": "zero"}, "option 'centre'.*did you mean 'center'"),
        ("max_norm", {"center": "initial"}, "center 'initial'.*did you mean 'init'"),
        ("frobenius", {"bias": "joined"}, "bias 'joined'.*did you mean 'join'"),
        ("max_norm", {"parametrization": "mup"}, "parametrization 'mup'"),
        ("max_norm", {"layers": "head"}, "layers 'head': expected a list"),
    ],
)
def test_mistakes_in_options_name_the_nearest(
    kind: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        make_projection(kind, **options)


def test_mistakes_in_arguments() -> None:
    net, initial = moved()
    with pytest.raises(InputError, match=r"layer 'torso\.1'.*did you mean 'torso\.\d'"):
        max_norm_(net, initial, 1.0, layers=["torso.1"])
    with pytest.raises(InputError, match=r"'torso\.0\.weight' not found"):
        max_norm_(net, None, 1.0)
    with pytest.raises(
        InputError, match=r"'torso\.0\.weight' is the parameter itself, expected a clone"
    ):
        max_norm_(net, net.state_dict(), 1.0)
    with pytest.raises(ValueError, match="center: expected"):
        max_norm_(net, initial | {"torso.0.weight": torch.zeros(3, 2)}, 1.0)
    for radius in (0.0, -1.0, math.nan):
        with pytest.raises(InputError, match="expected a number above 0"):
            max_norm_(net, initial, radius)


@pytest.mark.parametrize("radius", [0, [1.0, -1.0], torch.tensor([1.0, math.nan]), math.nan])
def test_check_radius_refuses(radius: Any) -> None:
    with pytest.raises(InputError, match="expected a number above 0"):
        check_radius(radius)


def test_check_radius_allows_infinity() -> None:
    check_radius([1, 0.5, math.inf])
    check_radius(torch.tensor(math.inf))
