"""Measure one layer of any `nn.Module` without changing the module."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from rlop.config.checks import nearest
from rlop.nets.linear import Linear
from rlop.probes.measure import measure
from rlop.types import InputError


def probe(
    model: nn.Module,
    batch: object,
    layer: str | None = None,
    next_batch: object = None,
    mask: Tensor | None = None,
    activation: str = "relu",
    head: str | None = None,
) -> dict[str, Tensor]:
    """Measure one layer of a network without changing the network.

    The network runs once (twice with `next_batch`) in eval mode and without gradient. If a layer
    runs several times in one forward pass, its last output is measured.

    Args:
        model: any module.
        batch: its input; a tuple is passed as positional arguments.
        layer: name of the submodule (as in `model.named_modules()`) whose output `[n, ...]` is
            measured, flattened to `[n, d]`; name the non-linearity, not the linear layer before it.
            None takes the input of the `nn.Linear` that runs last, which is phi in the papers, and
            adds the norm of its weight.
        next_batch: the input at (s', a'), row by row; adds `feature/dot` and `feature/cosine`.
        mask: 1 - terminated, `[n]`, for these two measures.
        activation: activation of the measured layer; determines the meaning of `units/dead`.
        head: instead of `layer`, name of the `nn.Linear` whose input is measured, where a network
            has several outputs, such as twin critics.
    Returns:
        The measures of `measure`, each a scalar.
    Raises:
        InputError: for an argument of the wrong type, or a layer that does not exist, does not run,
            does not give a batch of features, has a single unit, or is the network's output.
    """
    _check_arguments(model, layer, mask, activation, head)
    heads = _heads(model, layer, head)
    features, reader = _features_of(model, batch, layer, heads)

    next_features = None
    if next_batch is not None:
        next_features, _ = _features_of(model, next_batch, layer, heads)

    weight = None if reader is None else reader.weight
    return measure(features, next_features, mask, weight, activation)


def _check_arguments(
    model: object,
    layer: object,
    mask: object,
    activation: object,
    head: object,
) -> None:
    """Reject arguments of the wrong type; messages give types and shapes, never content."""
    agent_way = "rlop.probe_agent(agent, data) measures an agent"
    if not isinstance(model, nn.Module):
        raise InputError(f"model: expected a torch.nn.Module, got {_describe(model)}; {agent_way}")
    if any(isinstance(module, Linear) for module in model.modules()):
        raise InputError(
            f"model: {_describe(model)} holds several runs, stacked along an axis; {agent_way}"
        )

    if layer is not None and not isinstance(layer, str):
        raise InputError(
            f"layer: expected the name of a submodule, got {_describe(layer)}; "
            "pass several inputs as one tuple: probe(model, (obs, action))"
        )

    if mask is not None and not isinstance(mask, Tensor):
        raise InputError(f"mask: expected a tensor [n], got {_describe(mask)}")

    if head is not None and not isinstance(head, str):
        raise InputError(f"head: expected the name of an nn.Linear, got {_describe(head)}")

    if not isinstance(activation, str):
        raise InputError(f"activation: expected its name, got {_describe(activation)}")


def _heads(model: nn.Module, layer: str | None, head: str | None) -> dict[str, nn.Linear]:
    """Return the linear layers of which the one that runs last reads what is measured."""
    linear = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    if layer is not None or head is None:
        return linear
    if head not in linear:
        hint = nearest(head, linear)
        raise InputError(f"head = {head!r}: no nn.Linear of {type(model).__name__}{hint}")
    return {head: linear[head]}


def _describe(value: object) -> str:
    """Name a value's type, and the shape of a tensor."""
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)}"
    return type(value).__name__


class _Recorder:
    """The last output of the measured layer, and the linear layer that reads it, if known."""

    def __init__(self) -> None:
        self.ran = False
        self.output: object = None
        self.head: nn.Linear | None = None
        self.last: nn.Module | None = None  # module without children that ran last

    def record_input(self, head: nn.Module, args: tuple[object, ...]) -> None:
        """Record what a linear layer reads; a forward pre-hook."""
        assert isinstance(head, nn.Linear)
        self._record(args[0])
        self.head = head

    def record_output(
        self,
        layer: nn.Module,
        args: tuple[object, ...],
        output: object,
    ) -> None:
        """Record what a layer gives; a forward hook."""
        self._record(output)

    def record_run(self, module: nn.Module, args: tuple[object, ...]) -> None:
        """Note that a module runs; a forward pre-hook."""
        self.last = module

    def _record(self, output: object) -> None:
        # A copy, because the next module may work in place.
        self.output = output.clone() if isinstance(output, Tensor) else output
        self.ran = True


@torch.no_grad()
def _features_of(
    model: nn.Module,
    batch: object,
    layer: str | None,
    heads: Mapping[str, nn.Linear],
) -> tuple[Tensor, nn.Linear | None]:
    """Run the model and return the features `[n, d]` of a layer, and the linear layer on them."""
    recorder = _Recorder()
    inputs = batch if isinstance(batch, tuple) else (batch,)
    with _recording(model, layer, heads, recorder), eval_mode(model):
        model(*inputs)

    title = f"layer {layer!r}"
    if layer is None:
        title = "the last nn.Linear" if len(heads) != 1 else f"head {next(iter(heads))!r}"
    where = f"{title} of {type(model).__name__}"
    if not recorder.ran:
        raise InputError(f"{where}: expected it to run in the forward pass, it did not")

    features = recorder.output
    if not isinstance(features, Tensor):
        raise InputError(f"{where}: expected a tensor [n, ...], found {_describe(features)}")
    if features.ndim < 2:
        raise InputError(f"{where}: expected a tensor [n, ...], found {tuple(features.shape)}")

    features = features.flatten(1)
    if features.shape[1] == 1:
        # Every rank of one column is 1, which would read as a total collapse.
        raise InputError(
            f"{where}: expected features [n, d] with d > 1, got one unit, such as a network's "
            "output; name the layer that feeds it"
        )
    if recorder.last is not None and recorder.last is heads.get(layer or ""):
        raise InputError(
            f"{where}: expected features, got the network's output; name the layer that feeds it"
        )
    return features, recorder.head


@contextmanager
def _recording(
    model: nn.Module,
    layer: str | None,
    heads: Mapping[str, nn.Linear],
    recorder: _Recorder,
) -> Iterator[None]:
    """Hook the layer to measure, or the linear layers that may read it, during a `with` block."""
    modules = dict(model.named_modules())
    handles: list[RemovableHandle] = []

    if layer is None:
        for head in heads.values():
            handles.append(head.register_forward_pre_hook(recorder.record_input))
    elif layer in modules:
        handles.append(modules[layer].register_forward_hook(recorder.record_output))
        for module in modules.values():
            if not list(module.children()):
                handles.append(module.register_forward_pre_hook(recorder.record_run))
    else:
        hint = nearest(layer, modules)
        raise InputError(f"layer = {layer!r}: not a module of {type(model).__name__}{hint}")

    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode during a `with` block.

    Args:
        model: any module; each of its modules gets its own mode back.
    """
    # Flag by flag, because model.train() would also change layers that the user keeps in eval mode.
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, flag in training.items():
            module.training = flag
