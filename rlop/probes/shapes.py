"""Shape checks shared by the measures; their messages give shapes, never values."""

from __future__ import annotations

from torch import Tensor


def shapes_of(*tensors: Tensor) -> str:
    """Return shapes as a message lists them: `(3, 4) and (3, 5)`.

    Args:
        tensors: one or more.
    """
    return " and ".join(str(tuple(tensor.shape)) for tensor in tensors)


def check_matrices(
    name: str,
    matrix: Tensor,
    axes: str = "n, d",
) -> None:
    """Raise ValueError unless a tensor has at least two axes.

    Args:
        name: name of the tensor in the message.
        matrix: `[..., n, d]`.
        axes: names of the last two axes in the message.
    """
    if matrix.ndim < 2:
        raise ValueError(f"{name}: expected [..., {axes}], got {shapes_of(matrix)}")


def check_same_shape(
    names: str,
    axes: str,
    *tensors: Tensor,
) -> None:
    """Raise ValueError unless all tensors have one shape.

    Args:
        names: names of the tensors in the message.
        axes: axes in the message, such as `n, d`.
        tensors: two or more.
    """
    if any(tensor.shape != tensors[0].shape for tensor in tensors):
        raise ValueError(f"{names}: expected one shape [..., {axes}], got {shapes_of(*tensors)}")


def check_shape(
    name: str,
    tensor: Tensor,
    shape: tuple[int, ...],
) -> None:
    """Raise ValueError unless a tensor has exactly this shape.

    Args:
        name: name of the tensor in the message.
        tensor: the tensor to check.
        shape: the expected shape.
    """
    if tensor.shape != shape:
        raise ValueError(f"{name}: expected {tuple(shape)}, got {shapes_of(tensor)}")


def check_square(name: str, matrix: Tensor) -> None:
    """Raise ValueError unless a tensor is a stack of non-empty square matrices.

    Args:
        name: name of the tensor in the message.
        matrix: `[..., n, n]`.
    """
    is_square = matrix.ndim >= 2 and matrix.shape[-1] == matrix.shape[-2]
    if not is_square or matrix.shape[-1] == 0:
        expected = "expected a non-empty square [..., n, n]"
        raise ValueError(f"{name}: {expected}, got {shapes_of(matrix)}")
