"""The optimizer of an agent, from one line of its configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, TypeAlias

from torch import Tensor

from rlop.config.checks import check_known, check_range, show
from rlop.config.schema import build
from rlop.optim.adam import Adam
from rlop.optim.rmd import RMD
from rlop.optim.sgd import SGD
from rlop.optim.smd import SMD
from rlop.types import InputError

Number = float | list[float]  # for all runs, or a list to run side by side
# (parameters, lr [R]) -> optimizer with `apply(grads, active)`
MakeOptimizer: TypeAlias = Callable[[Sequence[Tensor], Tensor], Any]


@dataclass(frozen=True)
class AdamOptions:
    """`optimizer: adam`; `adam_betas` and `adam_eps` are options of the agent."""

    make: ClassVar[Callable[..., Any]] = Adam
    swept: ClassVar[tuple[str, ...]] = ()


@dataclass(frozen=True)
class SGDOptions:
    """`optimizer: sgd`, or `optimizer: {sgd: {momentum: 0.9}}`."""

    make: ClassVar[Callable[..., Any]] = SGD
    swept: ClassVar[tuple[str, ...]] = ("momentum",)
    momentum: Number = 0.0

    def __post_init__(self) -> None:
        check_range("momentum", self.momentum, low=0, high=1, high_open=True)


@dataclass(frozen=True)
class SMDOptions:
    """`optimizer: {smd: {q: 1.1}}` or `optimizer: {smd: {potential: entropy}}`."""

    make: ClassVar[Callable[..., Any]] = SMD
    swept: ClassVar[tuple[str, ...]] = ("q",)
    q: Number = 2.0
    potential: Literal["norm", "entropy"] = "norm"
    reference: Literal["zero", "init"] = "zero"  # what the potential is centred at

    def __post_init__(self) -> None:
        check_range("q", self.q, low=1, low_open=True)
        plain = self.reference == "zero" and all(
            q == 2 for q in (self.q if isinstance(self.q, list) else [self.q])
        )
        if self.potential == "entropy" and not plain:
            raise InputError("potential = entropy: takes no q and no reference")


@dataclass(frozen=True)
class RMDOptions:
    """`optimizer: {rmd: {lam: 3.0}}`."""

    make: ClassVar[Callable[..., Any]] = RMD
    swept: ClassVar[tuple[str, ...]] = ("lam", "q")
    lam: Number  # weight of the loss against the potential of the weights
    q: Number = 2.0
    reference: Literal["zero", "init"] = "zero"

    def __post_init__(self) -> None:
        check_range("lam", self.lam, low=0, low_open=True)
        check_range("q", self.q, low=1, low_open=True)


OPTIONS: dict[str, type] = {
    "adam": AdamOptions,
    "sgd": SGDOptions,
    "smd": SMDOptions,
    "rmd": RMDOptions,
}


def optimizer_options(optimizer: str | Mapping[str, Any]) -> Any:
    """Options of the optimizer that `name` or `{name: {option: value}}` asks for.

    Raises:
        InputError: for an unknown name or option, an impossible value, or more than one optimizer.
    """
    named = {optimizer: {}} if isinstance(optimizer, str) else dict(optimizer)
    if len(named) != 1:
        raise InputError(
            f"optimizer = {show(optimizer)}: expected one of them, as in sgd or {{sgd: {{momentum: 0.9}}}}"
        )
    ((name, options),) = named.items()
    check_known("optimizer", name, OPTIONS)
    return build(OPTIONS[name], options or {}, where=f"optimizer: {name}")


def optimizer_maker(options: Any, numbers: Mapping[str, Tensor], **constants: Any) -> MakeOptimizer:
    """What a `Learner` makes its optimizer with.

    Args:
        options: from `optimizer_options`.
        numbers: `optimizer.<option>` -> `[R]`, for the options that take one number per run.
        constants: `betas` and `eps` of Adam, `form` of RMD; those of another optimizer are not read.
    """
    own = {AdamOptions: ("betas", "eps"), RMDOptions: ("form",)}.get(type(options), ())
    names = [f.name for f in fields(options)]
    fixed = {name: getattr(options, name) for name in names if name not in options.swept}
    fixed |= {name: value for name, value in constants.items() if name in own}
    swept = {name: numbers[f"optimizer.{name}"] for name in options.swept}
    make = type(options).make
    return lambda params, lr: make(params, lr, **swept, **fixed)
