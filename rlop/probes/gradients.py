"""Gradients of every value in a batch with respect to the parameters, for any module, and their Gram matrices.

Nothing is stored in `.grad`, and no network is changed: a network enters as a function of its parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap

Parameters = Mapping[str, Tensor]
Values = Callable[
    [dict[str, Tensor]], Tensor
]  # parameters -> one value per row of a batch, [..., n]
Blocks = dict[str, Tensor]  # parameter -> gradient of every value, [..., n, size of the parameter]


def value_function(module: nn.Module, inputs: Any, action: Tensor | None = None) -> Values:
    """Q(s_i, a_i) of a batch as a function of a module's parameters.

    Args:
        module: gives action values `[..., n, A]`, or `[..., n, 1]` where the action is an input.
        inputs: what it is called with; a tuple is passed as positional arguments.
        action: int64 `[..., n]`, the column of each row; None takes the only one.
    Returns:
        A function of `dict(module.named_parameters())` that gives `[..., n]`.
    """
    arguments = inputs if isinstance(inputs, tuple) else (inputs,)

    def values(parameters: dict[str, Tensor]) -> Tensor:
        q_values = functional_call(module, parameters, arguments)
        if action is None and q_values.shape[-1] != 1:
            raise ValueError(f"action: expected for values of shape {tuple(q_values.shape)}")
        return (
            q_values.squeeze(-1)
            if action is None
            else q_values.gather(-1, action.unsqueeze(-1)).squeeze(-1)
        )

    return values


def gradient_blocks(values: Values, parameters: Parameters) -> Blocks:
    """Gradient of every value, parameter by parameter.

    One reverse pass, vectorised over the n values. Stacked networks need no loop: with leading axes the value of a run
    must depend on that run's parameters alone, and each run gets its own gradients. Differentiable where the
    parameters require gradient; hand over detached ones otherwise.

    Args:
        values: gives `[*lead, n]`, value i from row i alone.
        parameters: by name, each `[*lead, ...]`.
    Returns:
        By name, `[*lead, n, p]` with p the size of one run's parameter.
    Raises:
        ValueError: when a parameter lacks the leading axes of the values.
    """
    found, pull_back = vjp(values, dict(parameters))  # type: ignore[misc]
    lead, n = found.shape[:-1], found.shape[-1]
    for name, parameter in parameters.items():
        if parameter.shape[: len(lead)] != lead:
            raise ValueError(
                f"{name} {tuple(parameter.shape)}: expected leading axes {tuple(lead)} as the values have"
            )
    basis = (
        torch.eye(n, dtype=found.dtype, device=found.device)
        .view(n, *[1] * len(lead), n)
        .expand(n, *lead, n)
    )
    (gradients,) = vmap(pull_back)(basis)
    return {name: g.reshape(n, *lead, -1).movedim(0, -2) for name, g in gradients.items()}


def gradient_rows(values: Values, parameters: Parameters) -> Tensor:
    """The matrix whose row i is the gradient of value i, parameters side by side in their order.

    Args:
        values, parameters: see `gradient_blocks`.
    Returns:
        `[*lead, n, d]` with d the number of one run's parameters.
    """
    return torch.cat(list(gradient_blocks(values, parameters).values()), dim=-1)


def gram(a: Blocks, b: Blocks) -> Tensor:
    """Inner products of two sets of gradients, in float64, without joining the parameters.

        [A B^T]_ij = grad a_i . grad b_j

    Args:
        a, b: from `gradient_blocks`, of the same parameters, `[..., n, p]` and `[..., m, p]` each.
    Returns:
        `[..., n, m]` float64.
    """
    if a.keys() != b.keys():
        raise ValueError(f"gradients of different parameters: {sorted(a)} and {sorted(b)}")
    products = [a[name].double() @ b[name].double().mT for name in a]
    return torch.stack(products).sum(0)


def guarded(decompose: Callable[[Tensor], Tensor], matrix: Tensor) -> Tensor:
    """A decomposition that would raise for the whole stack when one matrix is not finite: that one gets NaN instead.

    Args:
        decompose: `[..., n, n]` to `[..., k]`.
        matrix: `[..., n, n]`.
    Returns:
        `[..., k]`.
    """
    check_square("matrix", matrix)
    finite = matrix.isfinite().all(-1).all(-1)
    found = decompose(matrix.where(finite[..., None, None], 0))
    return found.where(finite[..., None], torch.nan)


def per_matrix(value: float | Tensor, like: Tensor) -> Tensor:
    """A number, or one per leading index `[...]`, as it broadcasts over the last two axes of `like`.

    Args:
        value: a number or `[...]`.
        like: `[..., n, m]`.
    Returns:
        `[..., 1, 1]`.
    """
    return torch.as_tensor(value, dtype=like.dtype, device=like.device)[..., None, None]


def check_square(name: str, matrix: Tensor) -> None:
    """Raise ValueError unless a tensor is a stack of non-empty square matrices.

    Args:
        name: what the message calls it.
        matrix: `[..., n, n]`.
    """
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2] or matrix.shape[-1] == 0:
        raise ValueError(
            f"{name}: expected a non-empty square [..., n, n], got {tuple(matrix.shape)}"
        )
