"""Gradients of every value in a batch with respect to the parameters, and their Gram matrices.

They work for any module. Nothing is stored in `.grad`, and no network is changed: a network enters
as a function of its parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap

from rlop.probes.shapes import check_square, shapes_of

Parameters: TypeAlias = Mapping[str, Tensor]
# Parameters to one value per row of a batch, [..., n].
Values: TypeAlias = Callable[[dict[str, Tensor]], Tensor]
# Name of a parameter -> gradient of every value, [..., n, size of the parameter].
Blocks: TypeAlias = dict[str, Tensor]


def value_function(
    module: nn.Module,
    inputs: Tensor | tuple[Tensor, ...],
    action: Tensor | None = None,
) -> Values:
    """Return Q(s_i, a_i) of a batch as a function of a module's parameters.

    Args:
        module: gives action values `[..., n, A]`, or `[..., n, 1]` where the action is an input.
        inputs: its arguments; a tuple is passed as positional arguments.
        action: int64 `[..., n]`, the column of each row; None takes the only one.
    Returns:
        A function of `dict(module.named_parameters())` that gives `[..., n]`.
    """
    arguments = inputs if isinstance(inputs, tuple) else (inputs,)

    def values(parameters: dict[str, Tensor]) -> Tensor:
        q_values = functional_call(module, parameters, arguments)
        if action is not None:
            column = action.unsqueeze(-1)
            return q_values.gather(-1, column).squeeze(-1)

        if q_values.shape[-1] != 1:
            raise ValueError(f"action: expected for values of shape {shapes_of(q_values)}")
        return q_values.squeeze(-1)

    return values


def gradient_blocks(values: Values, parameters: Parameters) -> Blocks:
    """Compute the gradient of every value, parameter by parameter.

    One reverse pass, vectorized over the n values. Stacked networks need no loop: with leading axes
    the value of a run must depend on that run's parameters alone, and each run gets its own
    gradients. Differentiable where the parameters require gradient; otherwise pass detached ones.

    Args:
        values: gives `[*lead, n]`, value i from row i alone.
        parameters: by name, each `[*lead, ...]`.
    Returns:
        By name, `[*lead, n, p]` with p the size of one run's parameter.
    Raises:
        ValueError: when a parameter lacks the leading axes of the values.
    """
    outputs, pull_back = vjp(values, dict(parameters))  # type: ignore[misc]  # no has_aux: a pair
    lead = outputs.shape[:-1]
    n = outputs.shape[-1]
    for name, parameter in parameters.items():
        if parameter.shape[: len(lead)] != lead:
            axes = f"expected leading axes {tuple(lead)} as the values have"
            raise ValueError(f"{name} {shapes_of(parameter)}: {axes}")

    # Row i of the basis selects value i of every run at once.
    basis = torch.eye(n, dtype=outputs.dtype, device=outputs.device)
    ones = [1] * len(lead)
    basis = basis.view(n, *ones, n).expand(n, *lead, n)
    (gradients,) = vmap(pull_back)(basis)

    blocks: Blocks = {}
    for name, gradient in gradients.items():
        blocks[name] = gradient.reshape(n, *lead, -1).movedim(0, -2)
    return blocks


def gradient_rows(values: Values, parameters: Parameters) -> Tensor:
    """Return the matrix whose row i is the gradient of value i.

    Args:
        values, parameters: see `gradient_blocks`.
    Returns:
        `[*lead, n, d]` with d the number of one run's parameters, concatenated in their order.
    """
    blocks = gradient_blocks(values, parameters)
    return torch.cat(list(blocks.values()), dim=-1)


def gram(a: Blocks, b: Blocks) -> Tensor:
    """Compute inner products of two sets of gradients in float64, without joining parameters.

        [A B^T]_ij = grad a_i . grad b_j

    Args:
        a, b: from `gradient_blocks`, of the same parameters, `[..., n, p]` and `[..., m, p]` each.
    Returns:
        `[..., n, m]` float64.
    Raises:
        ValueError: for gradients of different parameters.
    """
    if a.keys() != b.keys():
        raise ValueError(f"gradients of different parameters: {sorted(a)} and {sorted(b)}")

    products = []
    for name in a:
        product = a[name].double() @ b[name].double().mT
        products.append(product)
    return torch.stack(products).sum(0)


def guarded(decompose: Callable[[Tensor], Tensor], matrix: Tensor) -> Tensor:
    """Decompose a stack of matrices, of which some may hold NaN or infinity.

    LAPACK would raise for the whole stack; here a matrix that is not finite gets NaN.

    Args:
        decompose: `[..., n, n]` to `[..., k]`.
        matrix: `[..., n, n]`.
    Returns:
        `[..., k]`.
    """
    check_square("matrix", matrix)
    finite = matrix.isfinite().all(-1).all(-1)
    harmless = matrix.where(finite[..., None, None], 0)
    result = decompose(harmless)
    return result.where(finite[..., None], torch.nan)


def per_matrix(value: float | Tensor, like: Tensor) -> Tensor:
    """Reshape a number, or one per leading index, to broadcast over the last two axes of `like`.

    Args:
        value: a number or `[...]`.
        like: `[..., n, m]`.
    Returns:
        `[..., 1, 1]`.
    """
    numbers = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    return numbers[..., None, None]
