"""Options of DQN and discrete CQL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from rlop.config.schema import (
    Choice,
    Count,
    Formerly,
    NonNegative,
    Positive,
    Share,
    Sweep,
    option,
    options,
)
from rlop.losses.imbalance import LogitAdjustment
from rlop.nets.init import InitConfig
from rlop.types import InputError

from .behavior import SOURCES, Counts, make_source
from .heads import HEADS, check_fit, make_head, name_of
from .option_groups import BootstrapOptions, NetworkOptions, OptimizationOptions, PenaltyOptions


@options
class DQNConfig(PenaltyOptions, OptimizationOptions, NetworkOptions, BootstrapOptions, InitConfig):
    """Options of `DQN`."""

    swept: ClassVar[tuple[str, ...]] = ("lr", "gamma", "tau", "alpha", "temperature")

    preset: str | None = option(None, "a key of `PRESETS`; options given together with it win")
    backup: Annotated[
        Literal["max", "double", "sarsa", "behavior", "mc"], Formerly({"behaviour": "behavior"})
    ] = option("max", "V(s') in the target, see `DQN`")
    behavior: Annotated[str | dict[str, object], Choice(SOURCES)] = option(
        "counts", "policy of backup behavior: counts, bc, {bc: {seed: 1}}, {known: {policy: m:f}}"
    )
    n_step: Count = option(1, "rewards summed before bootstrapping")
    head: Annotated[str | dict[str, object], Choice(HEADS)] = option(
        "scalar", "outputs for each action: scalar, rem, {quantile: {n: 50}}, ..."
    )
    loss: Literal["huber", "mse"] = option(
        "huber", "loss of differences; heads of distributions have their own"
    )
    alpha: Sweep[NonNegative] = option(0.0, "weight of the conservative term; 0 is plain DQN")
    temperature: Sweep[Positive] = option(1.0, "temperature T of the conservative term")
    logit_adjustment: LogitAdjustment | None = option(
        None, "{gamma: 0.3, tau: 1.0}: the VS-loss as conservative term"
    )
    tau: Sweep[Share] = option(1.0, "weight of a target update: 1 copies, 0.005 is a Polyak step")
    target_period: Count = option(500, "gradient steps between target updates")
    network: Literal["auto", "mlp", "minatar", "nature", "impala"] = option(
        "auto", "kind of network; auto: by the shape of the observations"
    )
    init: Literal["default", "dopamine"] = option(
        "default", "PyTorch's initialization, or that of Dopamine's and batch_rl's networks"
    )
    batch_size: Count = option(64, "transitions in a minibatch of each run")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_head(self)

        redraws = self.backup == "behavior"
        if not redraws and not isinstance(make_source(self.behavior), Counts):
            raise InputError(f"behavior: only with backup behavior, found backup = {self.backup}")

        recycles_units = self.resets.every and self.resets.kind == "redo"
        if self.network == "impala" and recycles_units:
            raise InputError(
                "resets.kind = redo: not with network impala, "
                "whose units are also read past their layer"
            )


def check_head(config: DQNConfig) -> None:
    """Reject options that do not fit the head of a configuration.

    Raises:
        InputError: for losses, targets and optimizers that the head does not support.
    """
    head = make_head(config.head)
    if config.loss != "huber" and not head.by_error:
        raise InputError(
            f"loss = {config.loss}: not with head {name_of(config.head)}, "
            "which has a loss of its own"
        )
    check_fit(head, config.head, config.target_noise, config.optimizer)


@options
class DiscreteCQLConfig(DQNConfig):
    """Options of `DiscreteCQL`: those of `DQN`, with the conservative term on."""

    alpha: Sweep[NonNegative] = option(
        0.1, "weight of the conservative term; QR-DQN's larger loss scale goes with 1 to 4"
    )


# The offline protocol on Atari: 200 iterations of 62,500 updates each, evaluated after each
# (scripts/atari.py).
ATARI: Mapping[str, Any] = {
    "network": "nature",
    "hidden": (512,),
    "lr": 5e-5,
    "adam_eps": 3.125e-4,  # 0.01 / 32
    "init": "dopamine",
    "batch_size": 32,
    "target_period": 2000,  # 8,000 environment steps, with an update at every fourth
}
PRESETS: dict[str, Mapping[str, Any]] = {
    # google-research/batch_rl 6f7f4d5. Not followed: its DQN's RMSProp (the paper also uses Adam,
    # with these numbers) and its padded convolutions.
    "atari/dqn": ATARI,
    "atari/qr": {**ATARI, "head": {"quantile": {"n": 200}}},
    "atari/rem": {**ATARI, "head": {"rem": {"n": 200}}},
    # Dopamine's labs/offline_rl and the DR3 line: CQL on DQN's Huber loss, alpha 0.1 and c0 0.03.
    # On QR-DQN, `head: quantile`, aviralkumar2907/CQL takes alpha 4 for 1 % of the data and 1 for
    # 10 %.
    "atari/cql": {**ATARI, "alpha": 0.1},
    "atari/cql_dr3": {**ATARI, "alpha": 0.1, "regularizers": {"dr3": 0.03}},
}
