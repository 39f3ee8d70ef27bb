"""The interface of a regularizer, and helpers that read a `TDContext`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from rlop.config.schema import option, options
from rlop.types import KEPT, OPTIONAL, Declared, InputError, Penalty, TDContext


@options
class Regularizer(ABC):
    """A differentiable penalty on an update; a frozen dataclass whose fields are its options.

        @options
        class FeatureNorm(Regularizer):
            power: Positive = option(2.0, "power of the length of a feature vector")

            def __call__(self, ctx: TDContext) -> Tensor:
                return sum_over_critics(ctx.features.norm(dim=-1).pow(self.power).mean(-1))

    The mathematics belongs in a free function of plain tensors; `__call__` is one call of it.
    """

    @property
    def needs(self) -> frozenset[str]:
        """Optional fields of `TDContext` that the penalty reads; no agent computes the others."""
        return frozenset()

    def attach(self, network: nn.Module, activation: str, seeds: Sequence[int]) -> Penalty:
        """Prepare the penalty for one network; called once, before training.

        A regularizer with tensors of its own returns an `nn.Module` that is called with the
        context. It becomes the network's submodule `terms.<name>`, so that its parameters are
        optimized, clipped and frozen with their run, and saved in the checkpoint.

        Args:
            network: its head is `head`, with weight `[R, A, D]` or `[R, E, A, D]`.
            activation: name of the activation that makes the features.
            seeds: one for each run.
        Returns:
            The function that an update calls; by default the regularizer itself.
        Raises:
            InputError: for a network to which the penalty does not apply.
        """
        return self

    @abstractmethod
    def __call__(self, ctx: TDContext) -> Tensor:
        """Compute the penalty of each run, `[R]`, unweighted."""


@options
class PairRegularizer(Regularizer):
    """The options of a penalty on pairs of phi(s, a) and phi(s', a')."""

    stop_gradient: bool = option(False, "stop the gradient through phi(s', a')")
    next_features: Literal["online", "target"] = option(
        "online", "the network that gives phi(s', a')"
    )
    mask_terminal: bool = option(
        True, "leave out terminal transitions, whose next state some data sets do not define"
    )

    @property
    def needs(self) -> frozenset[str]:
        """The features of the next state, of the network that the options name."""
        return frozenset({self._field})

    def pair(self, ctx: TDContext) -> tuple[Tensor, Tensor, Tensor | None]:
        """Read the pairs that the options ask for.

        Returns:
            phi(s, a) and phi(s', a'), `[R, B, D]` or `[R, E, B, D]` each, and 1 - terminated,
            `[R, B]` or `[R, E, B]`, or None if terminal transitions count.
        """
        if self.next_features == "online":
            next_features = required(ctx.next_features, self._field, self)
        else:
            next_features = required(ctx.next_features_target, self._field, self)

        if self.stop_gradient:
            next_features = next_features.detach()
        return ctx.features, next_features, nonterminal(ctx) if self.mask_terminal else None

    @property
    def _field(self) -> str:
        return "next_features" if self.next_features == "online" else "next_features_target"


@dataclass(frozen=True)
class FunctionRegularizer(Regularizer):
    """A plain function of `TDContext` as a regularizer.

    Args:
        function: `TDContext` to `[R]`, unweighted.
        reads: optional fields of `TDContext` that the function reads.
    """

    function: Penalty
    reads: frozenset[str] = OPTIONAL

    @property
    def needs(self) -> frozenset[str]:
        """The fields that the function declared, or all of them."""
        return self.reads

    def __call__(self, ctx: TDContext) -> Tensor:
        """Call the function."""
        return self.function(ctx)


def as_regularizer(part: object, name: str) -> Regularizer:
    """Return a user's part as a regularizer.

    Args:
        part: a regularizer, or a function of `TDContext`. One that `rlop.types.needs` does not
            mark gets every optional field.
        name: name of the part, for the message.
    Raises:
        InputError: for anything else.
    """
    if isinstance(part, Regularizer):
        return part
    if isinstance(part, Declared):
        return FunctionRegularizer(part.function, part.needs)
    if isinstance(part, nn.Module):
        raise InputError(
            f"regularizers.{name}: a module would not be trained; expected a subclass of "
            "rlop.regularizers.Regularizer whose `attach` returns it"
        )
    if callable(part) and not isinstance(part, type):
        return FunctionRegularizer(part)
    raise InputError(
        f"regularizers.{name}: expected a subclass of rlop.regularizers.Regularizer "
        f"or a function of TDContext, got {part!r}"
    )


def required(value: Tensor | None, field: str, reader: object) -> Tensor:
    """Return an optional field of the context.

    Args:
        value: the field.
        field: its name, for the message.
        reader: the regularizer that reads it, for the message.
    Raises:
        ValueError: when the field is None.
    """
    if value is None:
        raise ValueError(
            f"TDContext.{field}: {type(reader).__name__} needs it, got None; an agent passes "
            "**self.penalties.features(...) to self.context"
        )
    return value


def sum_over_critics(values: Tensor) -> Tensor:
    """Sum over critics.

    Args:
        values: `[R, E]`, one for each critic, or `[R]`.
    Returns:
        `[R]`.
    """
    return values.sum(1) if values.ndim == 2 else values


def repeat_over_critics(column: Tensor, ctx: TDContext) -> Tensor:
    """Shape a column of the batch like the features without their last axis.

    Args:
        column: `[R, B]`, the same for all critics.
        ctx: its features are `[R, B, D]`, or `[R, E, B, D]` with several critics.
    Returns:
        `[R, B]` or `[R, E, B]`.
    """
    if ctx.features.ndim == 3:
        return column
    return column.unsqueeze(1).expand(ctx.features.shape[:-1])


def nonterminal(ctx: TDContext) -> Tensor:
    """Compute the mask 1 - terminated.

    Args:
        ctx: its features tell whether there are several critics.
    Returns:
        `[R, B]` or `[R, E, B]`.
    """
    return repeat_over_critics(1 - ctx.terminated, ctx)


def head_weight(network: nn.Module) -> Tensor:
    """Return the weight of a network's head.

    Args:
        network: with a submodule `head`.
    Returns:
        `[R, A, D]` or `[R, E, A, D]`.
    """
    weight = network.get_submodule("head").weight
    if not isinstance(weight, Tensor):
        raise TypeError(f"head.weight: expected a tensor, got {type(weight).__name__}")
    return weight


def without_terms(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leave out the parameters that regularizers keep in a network.

    Args:
        parameters: of the network, by name.
    """
    return {name: value for name, value in parameters.items() if not name.startswith(KEPT)}
