"""Options that several agents share: network, optimization, bootstrapped target, penalties."""

from __future__ import annotations

from typing import Annotated, Literal

from rlop.config.schema import (
    Choice,
    Count,
    Discount,
    NonEmpty,
    NonNegative,
    Number,
    Positive,
    Share,
    Sweep,
    Terms,
    option,
    options,
)
from rlop.config.terms import TermsConfig
from rlop.losses.noise import BootstrapConfig, TargetNoise
from rlop.nets import ImageOptions, Layers
from rlop.nets.init import InitConfig
from rlop.optim import optimizer_options
from rlop.optim.choice import OPTIONS as OPTIMIZERS
from rlop.optim.choice import OptimizerConfig, RMDOptions
from rlop.training.resets import ResetOptions, ResetsConfig
from rlop.types import InputError

from .critic_heads import CRITIC_HEADS, make_critic_head
from .heads import check_fit


@options
class NetworkOptions:
    """Options of the network that is trained."""

    hidden: Annotated[tuple[Count, ...], NonEmpty()] = option(
        (256, 256), "widths; the convolutional networks' hidden layer takes the last"
    )
    activation: str = option("relu", "activation after each hidden layer")
    layer_norm: bool = option(False, "layer normalization before each activation")
    precision: Literal["fp32", "bf16"] = option(
        "fp32", "of the products between hidden layers; parameters are fp32"
    )
    layers: Layers = option(Layers(), "what hidden layers are made of")


@options
class OptimizationOptions(OptimizerConfig, ResetsConfig):
    """Options of the optimization."""

    lr: Sweep[Positive] = option(3e-4, "learning rate")
    batch_size: Count = option(256, "transitions in a minibatch of each run")
    adam_betas: tuple[float, float] = option((0.9, 0.999), "decay of Adam's two moments")
    adam_eps: Positive = option(1e-8, "added to the root of Adam's second moment")
    max_grad_norm: Positive | None = option(
        None, "longest gradient, per run and network; null for no clipping"
    )
    resets: ResetOptions = option(ResetOptions(), "scheduled resets of weights")
    optimizer: Annotated[str | dict[str, object], Choice(OPTIMIZERS)] = option(
        "adam", "adam, sgd, {sgd: {momentum: 0.9}}, {smd: {q: 1.1}}, {rmd: {lam: 3}}"
    )

    def __post_init__(self) -> None:
        uses_rmd = isinstance(optimizer_options(self.optimizer), RMDOptions)
        if uses_rmd and self.max_grad_norm is not None:
            raise InputError(
                "max_grad_norm: not with optimizer rmd, for it would shorten the step of the "
                "weights and not that of the slacks, and the regularizer would no longer be lam's"
            )


@options
class BootstrapOptions(BootstrapConfig):
    """Options of a bootstrapped target and of the network that it is taken from."""

    gamma: Sweep[Discount] = option(0.99, "discount factor")
    tau: Sweep[Share] = option(0.005, "weight of a target update: 1 copies, 0.005 is a Polyak step")
    target_period: Count = option(1, "gradient steps between target updates")
    target_noise: TargetNoise | None = option(
        None, "label noise, {scale: 0.1, kind: gaussian | sign, off_after: step}"
    )


@options
class PenaltyOptions(TermsConfig):
    """Explicit regularization: terms of the loss, and constraints on the weights."""

    regularizers: Annotated[dict[str, object], Terms("rlop.regularizers:REGULARIZERS", "coef")] = (
        option({}, "name -> coef, [coefs] or {coef: ..., option: ...}")
    )
    projections: Annotated[dict[str, object], Terms("rlop.projections:PROJECTIONS", "radius")] = (
        option({}, "name -> radius, [radii] or {radius: ..., option: ...}")
    )


@options
class DeterministicActorOptions(
    PenaltyOptions, OptimizationOptions, NetworkOptions, BootstrapOptions, InitConfig
):
    """Options of an agent with critics and a policy without a width.

    Those of the network, its optimization and penalties are the critics'.
    """

    n_critics: Count = option(2, "critics, each with its own initialization")
    policy_lr: Sweep[Positive] = option(3e-4, "learning rate of the policy")
    policy_hidden: Annotated[tuple[Count, ...], NonEmpty()] = option(
        (256, 256), "widths of the policy"
    )
    init: Literal["default", "small_head", "orthogonal"] = option(
        "default", "initialization; orthogonal: critics only, other networks as small_head"
    )
    head: Annotated[str | dict[str, object], Choice(CRITIC_HEADS)] = option(
        "scalar", "outputs of each critic: scalar, quantile, {hl_gauss: {v_min: 0, v_max: 1}}, ..."
    )

    images: ImageOptions | None = option(
        None, "of images, {encoder: drq, width: 50, random_shift: 4, ...}; null for the defaults"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fit(make_critic_head(self.head), self.head, self.target_noise, self.optimizer)

        # These layers draw their own weights.
        own_draws = [*self.layers.replaced]
        if self.layers.zero_head:
            own_draws.append("zero_head")
        if own_draws and self.init != "default":
            raise InputError(
                f"init = {self.init}: not with layers.{own_draws[0]}, whose draw it would undo"
            )


@options
class ActorCriticOptions(DeterministicActorOptions):
    """Options of an agent with critics and a Gaussian policy."""

    log_std_range: tuple[float, float] = option(
        (-20.0, 2.0), "ends of the policy's log standard deviation"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.log_std_range[0] < self.log_std_range[1]:
            raise InputError(
                f"log_std_range = {list(self.log_std_range)}: expected the lower end first"
            )


@options
class SoftActorOptions(ActorCriticOptions):
    """Options of a soft actor-critic, whose policy's entropy has a trained weight."""

    entropy_coef: Positive = option(1.0, "weight of the entropy at the start")
    entropy_lr: Sweep[NonNegative] = option(
        1e-4, "learning rate of the logarithm of that weight; 0 keeps it"
    )
    entropy_loss: Literal["log", "exp"] = option(
        "log", "what multiplies the entropy's error: log of the weight, or the weight"
    )
    target_entropy: Sweep[Number] = option(-1.0, "entropy aimed at, for each action dimension")
