"""Options of SAC-N and EDAC, and the values that published codes set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from rlop.config.schema import Count, NonEmpty, NonNegative, Positive, Sweep, option, options

from .option_groups import SoftActorOptions


@options
class SACNConfig(SoftActorOptions):
    """Options of `SACN`."""

    swept: ClassVar[tuple[str, ...]] = (
        "lr",
        "policy_lr",
        "entropy_lr",
        "gamma",
        "tau",
        "target_entropy",
        "eta",
    )

    preset: str | None = option(None, "a key of `PRESETS`; options given together with it win")
    eta: Sweep[NonNegative] = option(0.0, "weight of the diversity of the critics' action slopes")

    n_critics: Count = option(10, "critics, each with its own initialization")
    hidden: Annotated[tuple[Count, ...], NonEmpty()] = option((256, 256, 256), "widths")
    policy_hidden: Annotated[tuple[Count, ...], NonEmpty()] = option(
        (256, 256, 256), "widths of the policy"
    )
    policy_lr: Sweep[Positive] = option(3e-4, "learning rate of the policy")
    entropy_lr: Sweep[NonNegative] = option(
        3e-4, "learning rate of the logarithm of the entropy's weight; 0 keeps it"
    )
    log_std_range: tuple[float, float] = option(
        (-5.0, 2.0), "ends of the policy's log standard deviation"
    )


@options
class EDACConfig(SACNConfig):
    """Options of `EDAC`: those of `SACN`, with the diversity on."""

    eta: Sweep[NonNegative] = option(1.0, "weight of the diversity of the critics' action slopes")


# tinkoff-ai/CORL 6afec90, configs/offline/edac: tasks -> (num_critics, eta).
EDAC_TASKS: dict[str, tuple[int, float]] = {
    "halfcheetah-medium": (10, 1.0),
    "halfcheetah-medium-replay": (10, 1.0),
    "halfcheetah-medium-expert": (10, 5.0),
    "hopper": (50, 1.0),
    "walker2d-medium": (10, 1.0),
    "walker2d-medium-replay": (10, 1.0),
    "walker2d-medium-expert": (10, 5.0),
    "antmaze": (10, 1.0),
    "maze2d": (10, 0.1),
    "pen-human": (20, 1000.0),
    "pen-cloned": (20, 10.0),
    "pen-expert": (20, 10.0),
    "adroit": (50, 200.0),  # door, hammer, relocate
}
# The same, configs/offline/sac_n: tasks -> num_critics.
SACN_TASKS = {
    "halfcheetah": 10,
    "hopper-medium": 500,
    "hopper-medium-replay": 200,
    "hopper-medium-expert": 200,
    "walker2d": 20,
    "antmaze": 25,
    "maze2d": 25,
    "adroit": 100,
}

# Not followed: hidden biases there start at 0.1 and heads uniform in +-0.003 (+-0.001 of the
# policy), for which `small_head` is the nearest; the entropy's weight and the policy step before
# the critics; its log-density adds 1e-6. A million updates here are a third of its training.
CORL: Mapping[str, Any] = {
    "hidden": (256, 256, 256),
    "policy_hidden": (256, 256, 256),
    "lr": 3e-4,  # critic_learning_rate
    "policy_lr": 3e-4,  # actor_learning_rate
    "entropy_lr": 3e-4,  # alpha_learning_rate
    "target_entropy": -1.0,  # for each dimension
    "log_std_range": (-5.0, 2.0),
    "init": "small_head",
}


def presets_of_tasks() -> dict[str, Mapping[str, Any]]:
    """Return one preset for each group of data sets that CORL's configurations treat alike."""
    presets: dict[str, Mapping[str, Any]] = {}
    for name, (n_critics, eta) in EDAC_TASKS.items():
        presets[f"edac/{name}"] = {**CORL, "n_critics": n_critics, "eta": eta}
    for name, n_critics in SACN_TASKS.items():
        presets[f"sacn/{name}"] = {**CORL, "n_critics": n_critics, "eta": 0.0}
    return presets


PRESETS = presets_of_tasks()
