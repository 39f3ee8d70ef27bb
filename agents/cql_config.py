"""Options of continuous CQL, and what published codes set them to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from rlop.agent import OptimizerConfig, TermsConfig
from rlop.config.checks import check_range
from rlop.config.schema import Sweep
from rlop.nets import Layers
from rlop.training.resets import ResetOptions
from rlop.types import InputError

from .options import TargetNoise, check_optimizer


@dataclass(frozen=True)
class CQLConfig(TermsConfig, OptimizerConfig):
    """Options of `CQL`. Those typed `Sweep` take a number, or a list of numbers to run side by side."""

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

    preset: str | None = None  # a key of `PRESETS`; options given beside it win
    # --- what is learned ---
    backup: Literal["sample", "mean", "max_then_min", "min_then_max"] = (
        "sample"  # a' in the target, see `CQL`
    )
    backup_samples: int = 10  # actions drawn by the two max backups
    backup_entropy: bool = False  # subtract entropy_coef * log pi(a'|s') in the target
    gamma: Sweep[float] = 0.99  # discount factor in [0, 1)
    n_critics: int = 2
    # --- conservative term ---
    conservative: Literal["H", "rho"] = (
        "H"  # CQL(H) with importance sampling, or CQL(rho) without, see `CQL`
    )
    alpha: Sweep[float] = 5.0  # weight of the conservative term; 0 is plain SAC
    temperature: Sweep[float] = 1.0  # T of the log-sum-exp
    action_samples: int = 10  # actions drawn from each of the three distributions
    clip_diff_min: float | None = None  # clip logsumexp - Q(s, a), state by state
    clip_diff_max: float | None = None
    lagrange: Literal["off", "official", "corl", "d3rlpy"] = (
        "off"  # train the term's weight, see `td.LAGRANGES`
    )
    gap: Sweep[float] = 5.0  # threshold of the Lagrange form, not the tau of the target network
    alpha_lr: Sweep[float] = 3e-4  # of the trained weight
    # --- policy ---
    policy_lr: Sweep[float] = 1e-4
    entropy_coef: float = 1.0  # weight of the entropy at the start
    entropy_lr: Sweep[float] = 1e-4  # of its logarithm; 0 keeps it
    entropy_loss: Literal["log", "exp"] = (
        "log"  # what multiplies the entropy's error: log of the weight, or the weight
    )
    target_entropy: Sweep[float] = -1.0  # for each action dimension
    bc_steps: int = 0  # the policy clones the data for so many first steps
    log_std_range: tuple[float, float] = (-20.0, 2.0)
    log_std_affine: tuple[float, float] | None = (
        None  # trained scale and shift of log std, from these values
    )
    # --- networks ---
    hidden: tuple[int, ...] = (256, 256)  # of the critics
    policy_hidden: tuple[int, ...] = (256, 256)
    activation: str = "relu"
    layer_norm: bool = False  # in the critics, before each activation
    precision: Literal["fp32", "bf16"] = (
        "fp32"  # of the products between hidden layers; parameters are fp32
    )
    layers: Layers = field(default_factory=Layers)  # of the critics, see rlop/nets/layers.py
    init: Literal["default", "small_head", "orthogonal"] = (
        "default"  # orthogonal: critics only, policy as small_head
    )
    # --- optimization ---
    lr: Sweep[float] = 3e-4  # of the critics
    batch_size: int = 256
    tau: Sweep[float] = 0.005  # weight of a target update
    target_period: int = 1  # gradient steps between target updates
    adam_betas: tuple[float, float] = (0.9, 0.999)
    adam_eps: float = 1e-8
    max_grad_norm: float | None = None  # per run and network; None for no clipping
    resets: ResetOptions = field(
        default_factory=ResetOptions
    )  # of the critics, see rlop/training/resets.py
    optimizer: str | dict[str, Any] = (
        "adam"  # of the critics, see `rlop.optim.choice`; Adam trains all else
    )
    # --- implicit and explicit regularization of the critics ---
    regularizers: dict[str, Any] = field(
        default_factory=dict
    )  # name -> coef, [coefs] or {coef: ..., option: ...}
    projections: dict[str, Any] = field(
        default_factory=dict
    )  # name -> radius, [radii] or {radius: ..., option: ...}
    target_noise: TargetNoise | None = None  # {scale: 0.1, kind: gaussian | sign, off_after: step}

    def __post_init__(self) -> None:
        check_range("gamma", self.gamma, low=0, high=1, high_open=True)
        check_range("tau", self.tau, low=0, high=1, low_open=True)
        for name in ("alpha", "entropy_lr", "alpha_lr", "bc_steps"):
            check_range(name, getattr(self, name), low=0)
        for name in ("temperature", "lr", "policy_lr", "entropy_coef", "adam_eps"):
            check_range(name, getattr(self, name), low=0, low_open=True)
        for name in ("gap", "target_entropy"):
            check_range(name, getattr(self, name))
        for name in (
            "batch_size",
            "target_period",
            "n_critics",
            "action_samples",
            "backup_samples",
        ):
            check_range(name, getattr(self, name), low=1)
        for name in ("hidden", "policy_hidden"):
            check_range(name, list(getattr(self, name)), low=1)
        if self.max_grad_norm is not None:
            check_range("max_grad_norm", self.max_grad_norm, low=0, low_open=True)
        check_optimizer(self)
        if not self.log_std_range[0] < self.log_std_range[1]:
            raise InputError(
                f"log_std_range = {list(self.log_std_range)}: expected the lower end first"
            )
        draws = [*self.layers.replaced, *["zero_head"] * self.layers.zero_head]
        if draws and self.init != "default":
            raise InputError(
                f"init = {self.init}: not with layers.{draws[0]}, whose draw it would undo"
            )
        low, high = self.clip_diff_min, self.clip_diff_max
        if low is not None and high is not None and not low < high:
            raise InputError(
                f"clip_diff_min = {low:g}: expected less than clip_diff_max = {high:g}"
            )


# Reward transforms, observation scaling and evaluation are not the agent's. Ours differ from all of these codes in
# that every loss is taken at the same parameters, before any step.
PRESETS: dict[str, Mapping[str, Any]] = {
    # aviralkumar2907/CQL d67dbe9, examples/cql_mujoco_new.py with the README's arguments for Gym. Not followed: rlkit's
    # own initialisation (small_head is the nearest) and its clamp of the policy's mean to [-9, 9]. The scripts' own
    # defaults, lagrange_thresh 5 and min_q_weight 1, are `lagrange: official, gap: 5, alpha: 1`.
    "cql/official": {
        "hidden": (256, 256, 256),  # layer_size
        "policy_hidden": (256, 256, 256),
        "alpha": 5.0,  # min_q_weight; the README says 5 or 10
        "backup": "sample",  # deterministic_backup means without entropy there, not without sampling
        "policy_lr": 1e-4,
        "entropy_lr": 1e-4,  # policy_lr
        "alpha_lr": 3e-4,  # qf_lr
        "bc_steps": 40_000,  # policy_eval_start; the code clones for one step less
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
    # tinkoff-ai/CORL 6afec90, configs/offline/cql/antmaze. Rewards there are scaled by 10 and shifted by -5.
    "cql/corl-antmaze": {
        "hidden": (256,) * 5,  # q_n_hidden_layers; its second critic has 3 whatever is asked for
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
    # takuseno/d3rlpy 2.8.1, defaults of CQLConfig. Its reproduction script has three layers of 256 and turns the
    # Lagrange form off with alpha_learning_rate = 0.
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
