"""The direct way to the code of a compiled graph, past PyTorch's wrappers around it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch

# Takes the graph's arguments in a list, which it may empty.
Code: TypeAlias = Callable[[list[Any]], Any]


def call_and_look(graph: Callable[..., Any], arguments: Sequence[Any]) -> tuple[Code, Any]:
    """Call a compiled graph; return its code, which later calls may call directly, and its result.

    The wrappers serve graphs that return tensors, or whose arguments share memory. Around an update
    in place they only hand its tensors on, and take a third of the time of a small network's. This
    call shows whether that is all they do: the code must get the very arguments and return nothing.
    Where it does not, or PyTorch hides it, what is returned as code is the graph itself.

    Args:
        graph: what a backend of `torch.compile` returned.
        arguments: of the graph.
    """

    def wrapped(arguments: list[Any]) -> Any:
        return graph(*arguments)

    compiled = inspect.unwrap(graph)
    code: Code | None = getattr(compiled, "current_callable", None)  # Inductor's
    if code is None:
        return wrapped, graph(*arguments)

    def direct(arguments: list[Any]) -> Any:
        with torch.no_grad():  # as in the wrappers
            return code(arguments)

    plain = []

    def watched(handed_on: list[Any]) -> Any:
        is_same = list(map(id, handed_on)) == list(map(id, arguments))
        result = code(handed_on)
        plain.append(is_same and not result)
        return result

    compiled.current_callable = watched
    try:
        result = graph(*arguments)
    finally:
        compiled.current_callable = code
    return (direct if plain == [True] else wrapped), result
