"""Options of ReBRAC and TD3+BC, and the values that published codes set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from rlop.config.schema import Count, NonEmpty, NonNegative, Positive, Sweep, option, options

from .option_groups import DeterministicActorOptions


@options
class ReBRACConfig(DeterministicActorOptions):
    """Options of `ReBRAC`."""

    swept: ClassVar[tuple[str, ...]] = (
        "lr",
        "policy_lr",
        "gamma",
        "tau",
        "policy_bc",
        "critic_bc",
        "q_weight",
        "policy_noise",
    )

    preset: str | None = option(None, "a key of `PRESETS`; options given together with it win")
    policy_bc: Sweep[NonNegative] = option(
        0.01, "weight of the distance between pi(s) and the data's action in the policy's loss"
    )
    critic_bc: Sweep[NonNegative] = option(
        0.01,
        "weight of the distance between a' and the data's next action in the target; 0 in every "
        "run also keeps the last rows of cut episodes, which have no next action",
    )
    bc_distance: Literal["sum", "mean"] = option(
        "sum", "squared distance in the policy's loss: sum or mean over the action's dimensions"
    )
    q_weight: Sweep[NonNegative] = option(1.0, "weight of Q in the policy's loss")
    normalize_q: bool = option(True, "divide Q in the policy's loss by its mean absolute value")
    policy_q: Literal["min", "first"] = option(
        "min", "Q in the policy's loss: the smallest of the critics', or that of the first one"
    )
    policy_noise: Sweep[NonNegative] = option(0.2, "standard deviation of the noise on a'")
    noise_clip: Positive = option(0.5, "largest size of that noise")
    policy_period: Count = option(2, "gradient steps between those of the policy")

    target_period: Count = option(2, "gradient steps between target updates")
    hidden: Annotated[tuple[Count, ...], NonEmpty()] = option((256, 256, 256), "widths")
    policy_hidden: Annotated[tuple[Count, ...], NonEmpty()] = option(
        (256, 256, 256), "widths of the policy"
    )
    layer_norm: bool = option(True, "layer normalization before each activation of the critics")
    lr: Sweep[Positive] = option(1e-3, "learning rate of the critics")
    policy_lr: Sweep[Positive] = option(1e-3, "learning rate of the policy")
    batch_size: Count = option(1024, "transitions in a minibatch of each run")


@options
class TD3BCConfig(ReBRACConfig):
    """Options of `TD3BC`: those of `ReBRAC`, with the values of TD3+BC."""

    policy_bc: Sweep[NonNegative] = option(
        1.0, "weight of the distance between pi(s) and the data's action in the policy's loss"
    )
    critic_bc: Sweep[NonNegative] = option(0.0, "as in `ReBRAC`")
    bc_distance: Literal["sum", "mean"] = option("mean", "as in `ReBRAC`")
    q_weight: Sweep[NonNegative] = option(2.5, "weight of Q in the policy's loss, their alpha")
    policy_q: Literal["min", "first"] = option("first", "as in `ReBRAC`")
    hidden: Annotated[tuple[Count, ...], NonEmpty()] = option((256, 256), "widths")
    policy_hidden: Annotated[tuple[Count, ...], NonEmpty()] = option(
        (256, 256), "widths of the policy"
    )
    layer_norm: bool = option(False, "layer normalization before each activation of the critics")
    lr: Sweep[Positive] = option(3e-4, "learning rate of the critics")
    policy_lr: Sweep[Positive] = option(3e-4, "learning rate of the policy")
    batch_size: Count = option(256, "transitions in a minibatch of each run")


# tinkoff-ai/CORL 6afec90, configs/offline/rebrac, after the authors' code: data set ->
# (actor_bc_coef, critic_bc_coef).
LOCOMOTION = {
    "halfcheetah-random": (0.001, 0.1),
    "halfcheetah-medium": (0.001, 0.01),
    "halfcheetah-expert": (0.01, 0.01),
    "halfcheetah-medium-expert": (0.01, 0.1),
    "halfcheetah-medium-replay": (0.01, 0.001),
    "halfcheetah-full-replay": (0.001, 0.1),
    "hopper-random": (0.001, 0.01),
    "hopper-medium": (0.01, 0.01),
    "hopper-expert": (0.1, 0.1),
    "hopper-medium-expert": (0.1, 0.01),
    "hopper-medium-replay": (0.05, 0.5),
    "hopper-full-replay": (0.01, 0.01),
    "walker2d-random": (0.01, 0.0),
    "walker2d-medium": (0.05, 0.1),
    "walker2d-expert": (0.01, 0.5),
    "walker2d-medium-expert": (0.01, 0.01),
    "walker2d-medium-replay": (0.05, 0.01),
    "walker2d-full-replay": (0.01, 0.01),
}
ANTMAZE = {
    "antmaze-umaze": (0.003, 0.002),
    "antmaze-umaze-diverse": (0.003, 0.001),
    "antmaze-medium-play": (0.001, 0.0005),
    "antmaze-medium-diverse": (0.001, 0.0),
    "antmaze-large-play": (0.002, 0.001),
    "antmaze-large-diverse": (0.002, 0.002),
}
OTHERS = {
    "maze2d-umaze": (0.003, 0.001),
    "maze2d-medium": (0.003, 0.001),
    "maze2d-large": (0.003, 0.001),
    "pen-human": (0.1, 0.5),
    "pen-cloned": (0.05, 0.5),
    "pen-expert": (0.01, 0.01),
    "door-human": (0.1, 0.1),
    "door-cloned": (0.01, 0.1),
    "door-expert": (0.05, 0.01),
    "hammer-human": (0.01, 0.5),
    "hammer-cloned": (0.1, 0.5),
    "hammer-expert": (0.01, 0.01),
    "relocate-human": (0.1, 0.01),
    "relocate-cloned": (0.1, 0.01),
    "relocate-expert": (0.05, 0.01),
}

# Not followed in ReBRAC's presets: layers there are normalized after the activation, and hidden
# biases start at 0.1; heads start uniform in +-0.003 (+-0.001 of the policy), for which
# `small_head` is the nearest. Reward transforms (AntMaze's are times 100), observation scaling and
# evaluation are not options of the agent.
REBRAC: Mapping[str, Any] = {
    "hidden": (256, 256, 256),  # hidden_dim, critic_n_hiddens
    "policy_hidden": (256, 256, 256),  # actor_n_hiddens
    "layer_norm": True,  # critic_ln; actor_ln is false
    "bc_distance": "sum",
    "q_weight": 1.0,
    "policy_q": "min",
    "init": "small_head",
}
FAST = {"lr": 1e-3, "policy_lr": 1e-3, "batch_size": 1024}
SLOW = {"lr": 3e-4, "policy_lr": 3e-4, "batch_size": 256}
MAZE = {"lr": 5e-5, "policy_lr": 3e-4, "batch_size": 256, "gamma": 0.999}
TASKS = ((LOCOMOTION, FAST), (ANTMAZE, MAZE), (OTHERS, SLOW))


def presets_of_tasks() -> dict[str, Mapping[str, Any]]:
    """Return one preset for each data set of CORL's configurations."""
    presets: dict[str, Mapping[str, Any]] = {}
    for weights, rates in TASKS:
        for name, (policy_bc, critic_bc) in weights.items():
            own = {"policy_bc": policy_bc, "critic_bc": critic_bc}
            presets[f"rebrac/{name}"] = {**REBRAC, **rates, **own}
    return presets


PRESETS: dict[str, Mapping[str, Any]] = {
    # takuseno/d3rlpy 2.8.1, defaults of ReBRACConfig: 2 layers without normalization. Not followed:
    # the policy steps at the critics' new weights, as in TD3.
    "rebrac/d3rlpy": {
        **FAST,
        "hidden": (256, 256),
        "policy_hidden": (256, 256),
        "layer_norm": False,
        "bc_distance": "sum",
        "q_weight": 1.0,
        "policy_q": "min",
        "policy_bc": 0.001,  # actor_beta
        "critic_bc": 0.01,  # critic_beta
    },
    # sfujim/TD3_BC by way of tinkoff-ai/CORL 6afec90, algorithms/offline/td3_bc.py; d3rlpy's
    # TD3PlusBCConfig has the same defaults. Observations are normalized there
    # (`transforms: {normalize_obs: {}}`).
    "td3bc/corl": {
        **SLOW,
        "hidden": (256, 256),
        "policy_hidden": (256, 256),
        "layer_norm": False,
        "bc_distance": "mean",
        "q_weight": 2.5,  # alpha
        "policy_q": "first",
        "policy_bc": 1.0,
        "critic_bc": 0.0,
    },
    **presets_of_tasks(),
}
