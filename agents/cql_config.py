"""Options of continuous CQL, and the values that published codes set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from rlop.config.schema import (
    Count,
    Index,
    NonNegative,
    Number,
    Positive,
    Sweep,
    option,
    options,
)
from rlop.types import InputError

from .option_groups import SoftActorOptions


@options
class CQLConfig(SoftActorOptions):
    """Options of `CQL`."""

    swept: ClassVar[tuple[str, ...]] = (
        "lr",
        "policy_lr",
        "entropy_lr",
        "alpha_lr",
        "gamma",
        "tau",
        "alpha",
        "temperature",
        "target_entropy",
        "gap",
    )

    preset: str | None = option(None, "a key of `PRESETS`; options given together with it win")
    backup: Literal["sample", "mean", "max_then_min", "min_then_max"] = option(
        "sample", "a' in the target, see `CQL`"
    )
    backup_samples: Count = option(10, "actions drawn by the two max backups")
    backup_entropy: bool = option(False, "subtract entropy_coef * log pi(a'|s') in the target")
    conservative: Literal["H", "rho"] = option(
        "H", "CQL(H) with importance sampling, or CQL(rho) without, see `CQL`"
    )
    alpha: Sweep[NonNegative] = option(5.0, "weight of the conservative term; 0 is plain SAC")
    temperature: Sweep[Positive] = option(1.0, "temperature T of the log-sum-exp")
    action_samples: Count = option(10, "actions drawn from each of the three distributions")
    clip_diff_min: float | None = option(
        None, "lower clip of logsumexp - Q(s, a), state by state; null for none"
    )
    clip_diff_max: float | None = option(None, "upper clip; null for none")
    lagrange: Literal["off", "official", "corl", "d3rlpy"] = option(
        "off", "train the conservative term's weight, see `td.LAGRANGES`"
    )
    gap: Sweep[Number] = option(
        5.0, "threshold of the Lagrange form, not the tau of the target network"
    )
    alpha_lr: Sweep[NonNegative] = option(3e-4, "learning rate of the trained weight")
    policy_lr: Sweep[Positive] = option(1e-4, "learning rate of the policy")
    bc_steps: Index = option(0, "first gradient steps, in which the policy clones the data")
    log_std_affine: tuple[float, float] | None = option(
        None, "trained scale and shift of log std, from these values; null for none"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self.clip_diff_min, self.clip_diff_max
        if low is not None and high is not None and not low < high:
            raise InputError(
                f"clip_diff_min = {low:g}: expected less than clip_diff_max = {high:g}"
            )


# Reward transforms, observation scaling and evaluation are not options of the agent. Unlike all of
# these codes, the agent computes every loss at the same parameters, before any step.
PRESETS: dict[str, Mapping[str, Any]] = {
    # aviralkumar2907/CQL d67dbe9, examples/cql_mujoco_new.py with the README's arguments for Gym.
    # Not followed: rlkit's own initialization (small_head is the nearest) and its clamp of the
    # policy's mean to [-9, 9]. The scripts' own defaults, lagrange_thresh 5 and min_q_weight 1, are
    # `lagrange: official, gap: 5, alpha: 1`.
    "cql/official": {
        "hidden": (256, 256, 256),  # layer_size
        "policy_hidden": (256, 256, 256),
        "alpha": 5.0,  # min_q_weight; the README says 5 or 10
        # Its deterministic_backup means without entropy, not without sampling.
        "backup": "sample",
        "policy_lr": 1e-4,
        "entropy_lr": 1e-4,  # policy_lr
        "alpha_lr": 3e-4,  # qf_lr
        "bc_steps": 40_000,  # policy_eval_start; the code clones for one step fewer
        "log_std_range": (-5.0, 2.0),  # LOG_SIG_MIN, LOG_SIG_MAX
        "init": "small_head",
    },
    # tinkoff-ai/CORL 6afec90, configs/offline/cql/<Gym task>, after young-geng/CQL. With
    # `bc_steps` its log_prob ignored the data's actions; ours does not.
    "cql/corl": {
        "hidden": (256, 256, 256),  # q_n_hidden_layers
        "policy_hidden": (256, 256, 256),
        "alpha": 10.0,  # cql_alpha
        "policy_lr": 3e-5,
        "entropy_lr": 3e-5,  # policy_lr
        "log_std_affine": (1.0, -1.0),  # policy_log_std_multiplier, log_std_offset
        "init": "orthogonal",  # orthogonal_init, which its policy ignores
    },
    # tinkoff-ai/CORL 6afec90, configs/offline/cql/antmaze. Rewards there are scaled by 10 and
    # shifted by -5.
    "cql/corl-antmaze": {
        "hidden": (256,) * 5,  # q_n_hidden_layers; its second critic always has 3
        "policy_hidden": (256, 256, 256),
        "alpha": 5.0,  # cql_alpha
        "backup": "min_then_max",  # cql_max_target_backup
        "lagrange": "corl",
        "gap": 0.8,  # cql_target_action_gap
        "alpha_lr": 3e-4,  # qf_lr
        "clip_diff_min": -200.0,  # cql_clip_diff_min
        "policy_lr": 1e-4,
        "entropy_lr": 1e-4,  # policy_lr
        "log_std_affine": (1.0, -1.0),
        "init": "orthogonal",
    },
    # takuseno/d3rlpy 2.8.1, defaults of CQLConfig. Its reproduction script has three layers of 256
    # and turns the Lagrange form off with alpha_learning_rate = 0.
    "cql/d3rlpy": {
        "alpha": 5.0,  # conservative_weight
        "backup": "mean",  # soft_q_backup = False
        "lagrange": "d3rlpy",
        "gap": 10.0,  # alpha_threshold
        "alpha_lr": 1e-4,  # alpha_learning_rate
        "policy_lr": 1e-4,
        "entropy_lr": 1e-4,  # temp_learning_rate
        "entropy_loss": "exp",
    },
}
