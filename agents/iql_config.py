"""Options of implicit Q-learning, and the values that published codes set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from rlop.config.schema import NonNegative, Positive, Range, Sweep, option, options

from .option_groups import ActorCriticOptions

Expectile: TypeAlias = Annotated[float, Range(low=0, high=1, low_open=True, high_open=True)]


@options
class IQLConfig(ActorCriticOptions):
    """Options of `IQL`."""

    swept: ClassVar[tuple[str, ...]] = (
        "lr",
        "policy_lr",
        "value_lr",
        "gamma",
        "tau",
        "expectile",
        "inverse_temperature",
    )

    preset: str | None = option(None, "a key of `PRESETS`; options given together with it win")
    expectile: Sweep[Expectile] = option(
        0.7, "of Q(s, a) over the data's actions that V(s) fits: 0.5 is their mean, 1 the maximum"
    )
    inverse_temperature: Sweep[NonNegative] = option(
        3.0, "factor of the advantage in the policy's weights; 0 clones the data"
    )
    max_weight: Positive = option(100.0, "largest of the policy's weights")
    value_lr: Sweep[Positive] = option(3e-4, "learning rate of V")
    policy: Literal["auto", "gaussian", "squashed", "deterministic", "categorical"] = option(
        "auto", "kind of policy, see `IQL`; auto: gaussian or categorical, by the actions"
    )


# Reward transforms, observation scaling and evaluation are not options of the agent. Not followed:
# the policy's learning rate, which falls as a cosine to 0 over the training in all but d3rlpy.
PRESETS: dict[str, Mapping[str, Any]] = {
    # ikostrikov/implicit_q_learning 7bd6d76, configs/mujoco_config.py. Not followed: all weights,
    # the heads' too, are orthogonal times sqrt(2), and Q bootstraps from V after V's step.
    "iql/official": {
        "expectile": 0.7,
        "inverse_temperature": 3.0,  # temperature
        "log_std_range": (-5.0, 2.0),  # log_std_min
    },
    # The same, configs/antmaze_config.py. Rewards there are shifted by -1.
    "iql/official-antmaze": {
        "expectile": 0.9,
        "inverse_temperature": 10.0,
        "log_std_range": (-5.0, 2.0),
    },
    # The same, configs/kitchen_config.py. Not followed: the policy's dropout_rate of 0.1.
    "iql/official-kitchen": {
        "expectile": 0.7,
        "inverse_temperature": 0.5,
        "log_std_range": (-5.0, 2.0),
    },
    # tinkoff-ai/CORL 6afec90, configs/offline/iql of HalfCheetah and Walker2d. The critics' loss
    # there is the mean over critics, here their sum: with Adam the steps are the same.
    "iql/corl": {
        "expectile": 0.7,  # iql_tau
        "inverse_temperature": 3.0,  # beta
    },
    # The same of hopper-medium and hopper-medium-replay; the other levels of Hopper have the values
    # of `iql/corl`, medium-expert with expectile 0.5 and inverse_temperature 6.
    "iql/corl-hopper": {
        "expectile": 0.7,
        "inverse_temperature": 3.0,
        "policy": "deterministic",  # iql_deterministic
        "tau": 0.001,
    },
    # The same of antmaze.
    "iql/corl-antmaze": {
        "expectile": 0.9,
        "inverse_temperature": 10.0,
    },
    # The same of Adroit. Its actor_dropout reaches the deterministic policy alone, which is off.
    "iql/corl-adroit": {
        "expectile": 0.8,
        "inverse_temperature": 3.0,
    },
    # takuseno/d3rlpy 2.8.1, defaults of IQLConfig. Not followed: log std is there a sigmoid between
    # its ends, which starts at -1.5, and the policy's weights are taken after Q's and V's step.
    "iql/d3rlpy": {
        "expectile": 0.7,
        "inverse_temperature": 3.0,  # weight_temp
        "log_std_range": (-5.0, 2.0),
    },
}
