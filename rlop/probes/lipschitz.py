"""How sensitive values and greedy actions are to the state, at data points and between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from rlop.probes.shapes import shapes_of

# States [..., n, d] to values [..., n], each from its own row alone.
StateValues: TypeAlias = Callable[[Tensor], Tensor]
# States [..., n, d] to values [..., n, A], likewise.
ActionValues: TypeAlias = Callable[[Tensor], Tensor]


class Sensitivity(NamedTuple):
    """Norm of the gradient with respect to the state, mean over points, `[...]` each."""

    at: Tensor  # at the data
    between: Tensor  # half-way between pairs of data points


class Flip(NamedTuple):
    """The one-step attack on a greedy action, `[..., n]` each."""

    distance: Tensor  # length of the step
    relative: Tensor  # that length over the length of the state
    flipped: Tensor  # whether the greedy action changed


def state_gradient(values: StateValues, states: Tensor) -> Tensor:
    """Compute the gradient of each value with respect to its own state.

    Args:
        values: states `[..., n, d]` to values `[..., n]`; no row may depend on another (no batch
            normalization).
        states: `[..., n, d]`, floating.
    Returns:
        `[..., n, d]`, detached.
    Raises:
        ValueError: for states or values of the wrong type or shape.
    """
    _, gradients = _gradients(lambda x: values(x).unsqueeze(-1), states)
    return gradients[0]


def sensitivity(values: StateValues, states: Tensor) -> Sensitivity:
    """Measure the mean slope of a value function at the data and half-way between data points.

        mean_i || grad_s V(s_i) ||,  mean_i || grad_s V((s_i + s_j)/2) ||,  j = i + n/2 modulo n

    An empirical Lipschitz constant. A function that interpolates with local spikes is steep at the
    data and flat between; fitting noise with few parameters makes it steep everywhere.

    Args:
        values, states: see `state_gradient`; rows half a batch apart are paired.
    Returns:
        At and between, `[...]` each.
    Reference: Bubeck and Sellke, "A Universal Law of Robustness via Isoperimetry", NeurIPS 2021,
        arXiv:2105.12806; Narang, Muthukumar, Sahai, 2021, arXiv:2109.13215 (sensitivity localized
        near training points).
    """
    n = states.shape[-2]
    half_way = 0.5 * (states + states.roll(n // 2, dims=-2))

    at = state_gradient(values, states).norm(dim=-1)
    between = state_gradient(values, half_way).norm(dim=-1)
    return Sensitivity(at=at.mean(-1), between=between.mean(-1))


def flip_radius(
    q_values: ActionValues,
    states: Tensor,
    overshoot: float = 0.02,
) -> Flip:
    """Measure the length of the step along one gradient that changes the greedy action.

        m_a = Q(s, a*) - Q(s, a),  dx = -(1 + overshoot) m_a grad m_a / ||grad m_a||^2
        a the nearest rival

    Random deep ReLU networks of input dimension d are flipped by a relative length of order
    1 / sqrt(d).

    Args:
        q_values: states `[..., n, d]` to values `[..., n, A]`, A >= 2; no row may depend on
            another. For the sign of a scalar f give the pair (f/2, -f/2).
        states: `[..., n, d]`, floating.
        overshoot: how much further than the linear prediction of the boundary to go.
    Returns:
        Length, relative length and success of the attack, `[..., n]` each; infinite where every
        gradient is zero.
    Raises:
        ValueError: for states or values of the wrong type or shape.
    Reference: Bartlett, Bubeck, Cherapanamjeri, "Adversarial Examples in Multi-Layer Random ReLU
        Networks", NeurIPS 2021, arXiv:2106.12611. Several actions: the first step of
        Moosavi-Dezfooli, Fawzi, Frossard, CVPR 2016, arXiv:1511.04599.
    """
    values, gradients = _gradients(q_values, states)
    n_actions = values.shape[-1]
    if n_actions < 2:
        raise ValueError(f"q_values: expected at least two actions, got {shapes_of(values)}")

    # Margin of the greedy action over every rival, and its gradient.
    greedy = values.argmax(-1)
    margin = values.amax(-1, keepdim=True) - values  # [..., n, A]
    slope = gradients.movedim(0, -2)  # [..., n, A, d]
    slope = slope.take_along_dim(greedy[..., None, None], -2) - slope
    steepness = slope.norm(dim=-1)

    # The rival that a linear step reaches first.
    action = torch.arange(n_actions, device=values.device)
    is_rival = action != greedy.unsqueeze(-1)
    is_reachable = is_rival & (steepness > 0)
    distances = (margin / steepness).where(is_reachable, torch.inf)
    distance, rival = distances.min(-1)
    distance = (1 + overshoot) * distance

    direction = slope.take_along_dim(rival[..., None, None], -2).squeeze(-2)
    length = distance.where(distance.isfinite(), 0)
    step = F.normalize(direction, dim=-1) * length.unsqueeze(-1)
    with torch.no_grad():
        attacked = q_values(states - step)
    flipped = attacked.argmax(-1) != greedy

    relative = distance / states.norm(dim=-1)
    return Flip(distance, relative, flipped)


def _gradients(q_values: ActionValues, states: Tensor) -> tuple[Tensor, Tensor]:
    """Compute values `[..., n, A]` and their gradients `[A, ..., n, d]`, detached."""
    if states.ndim < 2 or not states.is_floating_point():
        described = f"{states.dtype} {shapes_of(states)}"
        raise ValueError(f"states: expected a floating [..., n, d], got {described}")

    with torch.enable_grad():
        x = states.detach().clone().requires_grad_()
        values = q_values(x)
        if values.shape[:-1] != x.shape[:-1]:
            expected = f"expected one per row of states {shapes_of(x)}"
            raise ValueError(f"values {shapes_of(values)}: {expected}")

        gradients = []
        for action in range(values.shape[-1]):
            column = values[..., action].sum()
            (gradient,) = torch.autograd.grad(column, x, retain_graph=True)
            gradients.append(gradient)
    return values.detach(), torch.stack(gradients)
