"""Options of DQN and discrete CQL."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from rlop.checks import check_range
from rlop.nets import Layers, ResetOptions
from rlop.terms import Sweep

from .options import LogitAdjustment, TargetNoise, check_optimizer

SWEPT = ("lr", "gamma", "tau", "alpha", "temperature")  # one value per run


@dataclass(frozen=True)
class DQNConfig:
    """Options of `DQN`. Those typed `Sweep` take a number, or a list of numbers to run side by side."""

    # --- what is learned ---
    backup: Literal["max", "double", "sarsa", "behaviour", "mc"] = "max"  # V(s') in the target, see `DQN`
    gamma: Sweep = 0.99  # discount factor in [0, 1)
    n_step: int = 1  # rewards summed before bootstrapping
    loss: Literal["huber", "mse"] = "huber"
    alpha: Sweep = 0.0  # weight of the conservative term; 0 is plain DQN
    temperature: Sweep = 1.0  # T of the conservative term
    # --- network ---
    network: Literal["auto", "mlp", "minatar", "nature"] = "auto"  # auto: by the shape of the observations
    hidden: tuple[int, ...] = (256, 256)  # widths; the convolutional networks' hidden layer takes the last
    activation: str = "relu"
    layer_norm: bool = False
    precision: Literal["fp32", "bf16"] = "fp32"  # of the products between hidden layers; parameters are fp32
    layers: Layers = field(default_factory=Layers)  # what hidden layers are made of, see rlop/nets/layers.py
    # --- optimization ---
    lr: Sweep = 3e-4
    batch_size: int = 64
    tau: Sweep = 1.0  # weight of a target update: 1 copies, 0.005 is a usual Polyak step
    target_period: int = 500  # gradient steps between target updates
    adam_betas: tuple[float, float] = (0.9, 0.999)
    adam_eps: float = 1e-8
    max_grad_norm: float | None = None  # per run; None for no clipping
    resets: ResetOptions = field(default_factory=ResetOptions)  # of weights, see rlop/nets/resets.py
    optimizer: str | dict[str, Any] = "adam"  # adam, sgd, {sgd: {momentum: 0.9}}, {smd: {q: 1.1}}, {rmd: {lam: 3}}
    # --- implicit and explicit regularization ---
    regularizers: dict[str, Any] = field(default_factory=dict)  # name -> coef, [coefs] or {coef: ..., option: ...}
    projections: dict[str, Any] = field(default_factory=dict)  # name -> radius, [radii] or {radius: ..., option: ...}
    target_noise: TargetNoise | None = None  # {scale: 0.1, kind: gaussian | sign, off_after: step}
    logit_adjustment: LogitAdjustment | None = None  # {gamma: 0.3, tau: 1.0}: the VS-loss as conservative term

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


@dataclass(frozen=True)
class DiscreteCQLConfig(DQNConfig):
    """`DQNConfig` with the conservative term on."""

    alpha: Sweep = 0.1  # on DQN's Huber loss; QR-DQN's larger loss scale goes with 1 to 4
