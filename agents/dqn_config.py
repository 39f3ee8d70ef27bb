"""Options of DQN and discrete CQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from rlop.agent import OptimizerConfig, TermsConfig
from rlop.config.checks import check_range
from rlop.config.schema import Sweep
from rlop.nets import Layers
from rlop.optim import optimizer_options
from rlop.optim.choice import RMDOptions
from rlop.training.resets import ResetOptions
from rlop.types import InputError

from .heads import Scalar, make_head
from .options import LogitAdjustment, TargetNoise, check_optimizer


@dataclass(frozen=True)
class DQNConfig(TermsConfig, OptimizerConfig):
    """Options of `DQN`. Those typed `Sweep` take a number, or a list of numbers to run side by side."""

    swept: ClassVar[tuple[str, ...]] = ("lr", "gamma", "tau", "alpha", "temperature")

    preset: str | None = None  # a key of `PRESETS`; options given beside it win
    # --- what is learned ---
    backup: Literal["max", "double", "sarsa", "behavior", "mc"] = (
        "max"  # V(s') in the target, see `DQN`
    )
    gamma: Sweep[float] = 0.99  # discount factor in [0, 1)
    n_step: int = 1  # rewards summed before bootstrapping
    head: str | dict[str, Any] = (
        "scalar"  # ensemble, rem, {quantile: {n: 50}}, categorical, hl_gauss: see heads.py
    )
    loss: Literal["huber", "mse"] = "huber"  # of differences; distributions have their own
    alpha: Sweep[float] = 0.0  # weight of the conservative term; 0 is plain DQN
    temperature: Sweep[float] = 1.0  # T of the conservative term
    # --- network ---
    network: Literal["auto", "mlp", "minatar", "nature", "impala"] = (
        "auto"  # auto: by the shape of the observations
    )
    hidden: tuple[int, ...] = (
        256,
        256,
    )  # widths; the convolutional networks' hidden layer takes the last
    activation: str = "relu"
    layer_norm: bool = False
    precision: Literal["fp32", "bf16"] = (
        "fp32"  # of the products between hidden layers; parameters are fp32
    )
    init: Literal["default", "dopamine"] = (
        "default"  # PyTorch's, or that of Dopamine's and batch_rl's networks
    )
    layers: Layers = field(
        default_factory=Layers
    )  # what hidden layers are made of, see rlop/nets/layers.py
    # --- optimization ---
    lr: Sweep[float] = 3e-4
    batch_size: int = 64
    tau: Sweep[float] = 1.0  # weight of a target update: 1 copies, 0.005 is a usual Polyak step
    target_period: int = 500  # gradient steps between target updates
    adam_betas: tuple[float, float] = (0.9, 0.999)
    adam_eps: float = 1e-8
    max_grad_norm: float | None = None  # per run; None for no clipping
    resets: ResetOptions = field(
        default_factory=ResetOptions
    )  # of weights, see rlop/training/resets.py
    optimizer: str | dict[str, Any] = (
        "adam"  # adam, sgd, {sgd: {momentum: 0.9}}, {smd: {q: 1.1}}, {rmd: {lam: 3}}
    )
    # --- implicit and explicit regularization ---
    regularizers: dict[str, Any] = field(
        default_factory=dict
    )  # name -> coef, [coefs] or {coef: ..., option: ...}
    projections: dict[str, Any] = field(
        default_factory=dict
    )  # name -> radius, [radii] or {radius: ..., option: ...}
    target_noise: TargetNoise | None = None  # {scale: 0.1, kind: gaussian | sign, off_after: step}
    logit_adjustment: LogitAdjustment | None = (
        None  # {gamma: 0.3, tau: 1.0}: the VS-loss as conservative term
    )

    def __post_init__(self) -> None:
        check_range("gamma", self.gamma, low=0, high=1, high_open=True)
        check_range("alpha", self.alpha, low=0)
        for name in ("temperature", "lr", "adam_eps"):
            check_range(name, getattr(self, name), low=0, low_open=True)
        check_range("tau", self.tau, low=0, high=1, low_open=True)
        for name in ("n_step", "batch_size", "target_period"):
            check_range(name, getattr(self, name), low=1)
        check_range("hidden", list(self.hidden), low=1)
        if self.max_grad_norm is not None:
            check_range("max_grad_norm", self.max_grad_norm, low=0, low_open=True)
        check_optimizer(self)
        check_head(self)
        if self.network == "impala" and self.resets.every and self.resets.kind == "redo":
            raise InputError(
                "resets.kind = redo: not with network impala, whose units are also read past their layer"
            )


def check_head(config: DQNConfig) -> None:
    """Refuse what does not go with the head of a configuration.

    Raises:
        InputError: for an unknown head or option, and for losses and targets that it does not have.
    """
    head, name = (
        make_head(config.head),
        config.head if isinstance(config.head, str) else next(iter(config.head)),
    )
    if config.loss != "huber" and not head.by_error:
        raise InputError(f"loss = {config.loss}: not with head {name}, which has a loss of its own")
    if config.target_noise is not None and not head.one_target:
        raise InputError(
            f"target_noise: not with head {name}, expected one with a single target: scalar or hl_gauss"
        )
    if isinstance(optimizer_options(config.optimizer), RMDOptions) and not isinstance(head, Scalar):
        raise InputError(
            f"optimizer rmd: not with head {name}, its slacks are of one value for each transition"
        )


@dataclass(frozen=True)
class DiscreteCQLConfig(DQNConfig):
    """`DQNConfig` with the conservative term on."""

    alpha: Sweep[float] = 0.1  # on DQN's Huber loss; QR-DQN's larger loss scale goes with 1 to 4


# The offline protocol on Atari: 200 iterations of 62,500 updates each, evaluated after each (scripts/atari.py).
ATARI: Mapping[str, Any] = {
    "network": "nature",
    "hidden": (512,),
    "lr": 5e-5,
    "adam_eps": 3.125e-4,  # 0.01 / 32
    "init": "dopamine",
    "batch_size": 32,
    "target_period": 2000,  # 8,000 steps of play, of which every fourth is an update
}
PRESETS: dict[str, Mapping[str, Any]] = {
    # google-research/batch_rl 6f7f4d5. Not followed: its DQN's RMSProp (the paper also has Adam, these numbers) and
    # its padded convolutions.
    "atari/dqn": ATARI,
    "atari/qr": {**ATARI, "head": {"quantile": {"n": 200}}},
    "atari/rem": {**ATARI, "head": {"rem": {"n": 200}}},
    # Dopamine's labs/offline_rl and the DR3 line: CQL on DQN's Huber loss, alpha 0.1 and c0 0.03. On QR-DQN, `head:
    # quantile`, aviralkumar2907/CQL takes alpha 4 for 1 % of the data and 1 for 10 %.
    "atari/cql": {**ATARI, "alpha": 0.1},
    "atari/cql_dr3": {**ATARI, "alpha": 0.1, "regularizers": {"dr3": 0.03}},
}
