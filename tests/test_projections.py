"""Projections of one weight: the sets, the run axis, and the theory of the two-layer network."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from helpers.projections import close, normal
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rlop.projections import check_radius, frobenius_ball, max_norm, neuron_radius
from rlop.types import InputError

Project = Callable[..., Tensor]

PURE = [max_norm, frobenius_ball]


def distances(weight: Tensor, center: Tensor, project: Project) -> Tensor:
    """Distance from the center of each neuron, or of the whole matrix, in float64."""
    move = weight.double() - center.double()
    return move.norm(dim=1) if project is max_norm else move.norm()[None]


# --- by hand ---


def test_max_norm_by_hand() -> None:
    weight = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    close(max_norm(weight, None, 1.0), torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]]))
    center = torch.tensor([[3.0, 0.0], [0.3, 0.4], [0.0, 0.0]])
    close(max_norm(weight, center, 1.0), torch.tensor([[3.0, 1.0], [0.3, 0.4], [0.0, 0.0]]))


def test_frobenius_ball_by_hand() -> None:
    weight = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    close(frobenius_ball(weight, None, 1.0), weight / 5)
    center = torch.tensor([[3.0, 0.0], [0.0, 0.0]])
    close(frobenius_ball(weight, center, 1.0), torch.tensor([[3.0, 0.0], [0.0, 1.0]]))


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
    project: Project, seed: int, radius: float, share: float
) -> None:
    center = normal(4, 3, seed=seed)
    one = project(3 * normal(4, 3, seed=seed + 1), center, radius)
    two = project(3 * normal(4, 3, seed=seed + 2), center, radius)
    close(project(one, center, radius), one)

    mixed = share * one + (1 - share) * two
    close(project(mixed, center, radius), mixed)
    assert (distances(mixed, center, project) <= radius * (1 + 1e-12)).all()


@pytest.mark.parametrize("project", PURE)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), radius=st.floats(0.01, 10))
def test_no_other_point_of_the_set_is_nearer(project: Project, seed: int, radius: float) -> None:
    center, weight = normal(4, 3, seed=seed), 3 * normal(4, 3, seed=seed + 1)
    other = project(center + normal(4, 3, seed=seed + 2), center, radius)
    nearest = project(weight, center, radius)
    # The variational inequality of a projection.
    assert ((weight - nearest) * (other - nearest)).sum() <= 1e-9


@pytest.mark.parametrize("project", PURE)
@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 1000),
    radius=st.floats(0.1, 10),
    exponent=st.floats(-2, 15),
    around_zero=st.booleans(),
)
def test_single_precision_lands_on_the_sphere_from_any_distance(
    project: Project, seed: int, radius: float, exponent: float, around_zero: bool
) -> None:
    move = normal(6, 8, seed=seed)
    center = torch.zeros(6, 8) if around_zero else normal(6, 8, seed=seed + 1).float()
    weight = (center.double() + 10**exponent * move).float()
    projected = project(weight, None if around_zero else center, radius)

    before = distances(weight, center, project)
    after = distances(projected, center, project)
    expected = before.clamp_max(radius)
    # The center's own rounding limits what a short difference can say.
    torch.testing.assert_close(after, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("radius", [100.0, math.inf])
@pytest.mark.parametrize("project", PURE)
def test_a_feasible_point_keeps_every_bit(project: Project, radius: float) -> None:
    weight = normal(64, 33, dtype=torch.float32)
    for scale in (1e-6, 1.0):
        center = scale * normal(64, 33, seed=1, dtype=torch.float32)
        assert torch.equal(project(weight, center, radius), weight)
    assert torch.equal(project(weight, None, radius), weight)


@pytest.mark.parametrize("project", PURE)
def test_zero_and_the_center_are_safe(project: Project) -> None:
    zero, weight = torch.zeros(3, 2), normal(3, 2)
    for radius in (1.0, math.inf):
        assert torch.equal(project(zero, None, radius), zero)
        assert torch.equal(project(weight, weight.clone(), radius), weight)


def test_frobenius_ball_contains_the_max_norm_set_and_more() -> None:
    weight, center, radius = 5 * normal(16, 3), normal(16, 3, seed=1), 2.0
    inside = max_norm(weight, center, neuron_radius(radius, 16, 3, "ntk"))
    assert (inside - center).norm() == pytest.approx(radius)
    torch.testing.assert_close(frobenius_ball(inside, center, radius), inside)

    # One neuron may use up the whole radius of the matrix.
    lonely = center.clone()
    lonely[0, 0] += radius
    close(frobenius_ball(lonely, center, radius), lonely)
    assert (max_norm(lonely, center, radius / 4) - center).norm() == pytest.approx(radius / 4)


# --- runs ---


@pytest.mark.parametrize("project", PURE)
@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 2, 4, 5), (3, 4, 2, 2, 2)])
def test_a_run_alone_equals_itself_among_others(project: Project, shape: tuple[int, ...]) -> None:
    lead = 2 if len(shape) == 4 else 1
    weight, center = 3 * normal(*shape), normal(*shape, seed=1)
    radius = torch.tensor([0.5, math.inf, 2.0], dtype=torch.float64)
    together = project(weight, center, radius, lead)
    for run in range(3):
        alone = project(weight[run], center[run], radius[run].item(), lead - 1)
        close(together[run], alone)
    assert torch.equal(together[1], weight[1])


@pytest.mark.parametrize("project", PURE)
def test_vmap_equals_the_run_axis(project: Project) -> None:
    weight, center = 3 * normal(3, 4, 5), normal(3, 4, 5, seed=1)
    radius = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    close(torch.vmap(project)(weight, center, radius), project(weight, center, radius, 1))


@pytest.mark.parametrize("project", PURE)
def test_one_radius_per_critic(project: Project) -> None:
    weight = 3 * normal(2, 2, 4, 5)
    radius = torch.tensor([[0.5, 1.0], [2.0, math.inf]], dtype=torch.float64)
    close(project(weight, None, radius, 2)[1, 0], project(weight[1, 0], None, 2.0))


@pytest.mark.parametrize("project", PURE)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("center", [None, 0.1])
def test_a_diverged_run_leaves_its_neighbors_alone(
    project: Project, bad: float, center: float | None
) -> None:
    weight = 3 * normal(3, 4, 5)
    centers = None if center is None else torch.full_like(weight, center)
    healthy = project(weight, centers, 1.0, 1)
    weight[1, 0, 0] = bad
    projected = project(weight, centers, 1.0, 1)
    assert torch.equal(projected[[0, 2]], healthy[[0, 2]])
    assert not projected[1].isfinite().all()


@pytest.mark.parametrize("project", PURE)
def test_shapes_are_checked(project: Project) -> None:
    with pytest.raises(ValueError, match="center: expected"):
        project(torch.zeros(3, 2), torch.zeros(2), 1.0)
    with pytest.raises(ValueError, match="radius: expected"):
        project(torch.zeros(3, 4, 2), None, torch.ones(4), 1)
    with pytest.raises(ValueError, match="radius: expected"):
        project(torch.zeros(3, 4), None, torch.ones(3))
    with pytest.raises(ValueError, match="weight: expected"):
        project(torch.zeros(3), None, 1.0, 2)


# --- theory: the two-layer network with symmetric initialization ---


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

    far = initial + 10 * normal(2 * half, d, seed=seed + 3)
    weight = max_norm(far, initial, neuron_radius(radius, 2 * half, d, "ntk"))
    change = two_layers(x, weight, sign) - two_layers(x, initial, sign)
    assert (change.abs() <= radius * x.norm(dim=1) * (1 + 1e-9)).all()
    assert (weight - initial).norm() <= radius * (1 + 1e-9)


def test_the_bound_is_reached() -> None:
    # All neurons open and pushed along x by the whole radius: the change is R ||x||.
    m, x = 8, torch.tensor([3.0, 4.0], dtype=torch.float64)
    initial, sign = x.expand(m, 2).clone(), torch.ones(m, dtype=torch.float64)
    weight = max_norm(initial + x, initial, neuron_radius(2.0, m, 2, "ntk"))
    change = two_layers(x, weight, sign) - two_layers(x, initial, sign)
    assert change.item() == pytest.approx(2.0 * 5.0, rel=1e-12)


# --- radii ---


@pytest.mark.parametrize("radius", [0, [1.0, -1.0], torch.tensor([1.0, math.nan]), math.nan])
def test_check_radius_refuses(radius: float | list[float] | Tensor) -> None:
    with pytest.raises(InputError, match="expected a number above 0"):
        check_radius(radius)


def test_check_radius_allows_infinity() -> None:
    check_radius([1, 0.5, math.inf])
    check_radius(torch.tensor(math.inf))
