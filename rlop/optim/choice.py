"""The optimizer of an agent, from the option `optimizer` of its configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from torch import Tensor

from rlop.config.ranges import values_of
from rlop.config.schema import Discount, Positive, Range, Sweep, build_choice, option, options
from rlop.optim.adam import Adam
from rlop.optim.rmd import RMD
from rlop.optim.sgd import SGD
from rlop.optim.smd import SMD
from rlop.optim.step import RunOptimizer
from rlop.runs import SweptOptions
from rlop.types import InputError

Exponent = Annotated[float, Range(low=1, low_open=True)]
# (parameters, lr [R]) -> optimizer
MakeOptimizer: TypeAlias = Callable[[list[Tensor], Tensor], RunOptimizer]


class OptimizerConfig:
    """Base of the options of an agent that lets its user choose the optimizer."""

    optimizer: str | dict[str, object]
    adam_betas: tuple[float, float]
    adam_eps: float
    max_grad_norm: float | None


@options
class OptimizerOptions(SweptOptions):
    """Base of the options of an optimizer."""

    make: ClassVar[Callable[..., RunOptimizer]]
    constants: ClassVar[tuple[str, ...]] = ()  # arguments that the agent gives


@options
class AdamOptions(OptimizerOptions):
    """`optimizer: adam`; `adam_betas` and `adam_eps` are options of the agent."""

    make: ClassVar[Callable[..., RunOptimizer]] = Adam
    constants: ClassVar[tuple[str, ...]] = ("betas", "eps")


@options
class SGDOptions(OptimizerOptions):
    """`optimizer: sgd`, or `optimizer: {sgd: {momentum: 0.9}}`."""

    make: ClassVar[Callable[..., RunOptimizer]] = SGD
    swept: ClassVar[tuple[str, ...]] = ("momentum",)
    momentum: Sweep[Discount] = option(0.0, "share of the last step that is added to the next")


@options
class SMDOptions(OptimizerOptions):
    """`optimizer: {smd: {q: 1.1}}` or `optimizer: {smd: {potential: entropy}}`."""

    make: ClassVar[Callable[..., RunOptimizer]] = SMD
    swept: ClassVar[tuple[str, ...]] = ("q",)
    q: Sweep[Exponent] = option(2.0, "exponent of the potential")
    potential: Literal["norm", "entropy"] = option("norm", "|w|^q, or the entropy")
    reference: Literal["zero", "init"] = option("zero", "center of the potential")

    def __post_init__(self) -> None:
        has_default_q = all(q == 2 for q in values_of(self.q))
        is_plain = self.reference == "zero" and has_default_q
        if self.potential == "entropy" and not is_plain:
            raise InputError("potential = entropy: takes no q and no reference")


@options
class RMDOptions(OptimizerOptions):
    """`optimizer: {rmd: {lam: 3.0}}`."""

    make: ClassVar[Callable[..., RunOptimizer]] = RMD
    constants: ClassVar[tuple[str, ...]] = ("form",)
    swept: ClassVar[tuple[str, ...]] = ("lam", "q")
    lam: Sweep[Positive] = option(
        description="weight of the loss against the potential of the weights; slacks hardly move "
        "where lam is far above lr visits / batch_size, visits of a transition in the training"
    )
    q: Sweep[Exponent] = option(2.0, "exponent of the potential")
    reference: Literal["zero", "init"] = option("zero", "center of the potential")


OPTIONS: dict[str, type[OptimizerOptions]] = {
    "adam": AdamOptions,
    "sgd": SGDOptions,
    "smd": SMDOptions,
    "rmd": RMDOptions,
}


def optimizer_options(optimizer: str | Mapping[str, object]) -> OptimizerOptions:
    """Return the options of the optimizer that `name` or `{name: {option: value}}` names.

    Args:
        optimizer: as in a configuration.
    Raises:
        InputError: for an unknown name or option, an impossible value, or more than one optimizer.
    """
    return build_choice(OPTIONS, optimizer, "optimizer")


def optimizer_maker(
    options: OptimizerOptions,
    numbers: Mapping[str, Tensor],
    **constants: object,
) -> MakeOptimizer:
    """Return the function that makes the optimizer of a `Learner`.

    Args:
        options: from `optimizer_options`.
        numbers: `optimizer.<option>` -> `[R]`, for the options that take one number per run.
        constants: `betas` and `eps` of Adam, `form` of RMD; other optimizers do not read them.
    """
    arguments: dict[str, object] = {}
    for name, value in asdict(options).items():
        is_swept = name in options.swept
        arguments[name] = numbers[f"optimizer.{name}"] if is_swept else value
    for name in options.constants:
        if name in constants:
            arguments[name] = constants[name]

    return partial(options.make, **arguments)


def nested_options(config: Any) -> dict[str, SweptOptions]:
    """Return the options with numbers for each run that stand in fields of a configuration."""
    nested: dict[str, SweptOptions] = {}
    if isinstance(config, OptimizerConfig):
        nested["optimizer"] = optimizer_options(config.optimizer)
    for name, value in config.__dict__.items():
        if isinstance(value, SweptOptions):
            nested[name] = value
    return nested
