"""Deep Q-learning from a fixed data set, and its conservative form: DQN and discrete CQL(H).

One class, because CQL(H) on discrete actions is DQN plus one term:

    target   y = r + gamma (1 - terminated) V(s'),  V by `backup`
    loss     L = mean huber(Q(s, a) - y) + alpha mean[ T logsumexp_b Q(s, b)/T - Q(s, a) ] + sum_k coef_k reg_k
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from rlop import td
from rlop.build import build
from rlop.checks import check_range
from rlop.data.dataset import Dataset
from rlop.learner import Learner
from rlop.nets import QNetwork, make_torso, reset_runs
from rlop.terms import Sweep, make_terms
from rlop.types import Batch, InputError, Metrics, Spec, TDContext

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
    # --- optimization ---
    lr: Sweep = 3e-4
    batch_size: int = 64
    tau: Sweep = 1.0  # weight of a target update: 1 copies, 0.005 is a usual Polyak step
    target_period: int = 500  # gradient steps between target updates
    adam_betas: tuple[float, float] = (0.9, 0.999)
    adam_eps: float = 1e-8
    max_grad_norm: float | None = None  # per run; None for no clipping
    # --- implicit and explicit regularization ---
    regularizers: dict[str, Any] = field(default_factory=dict)  # name -> coef, [coefs] or {coef: ..., option: ...}
    projections: dict[str, Any] = field(default_factory=dict)  # name -> radius, [radii] or {radius: ..., option: ...}

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


class DQN:
    """Offline DQN for discrete actions, R runs at once.

    Backups, V(s') with Q' the target network:
    `max` max_a Q'(s', a) (Mnih et al. 2015); `double` Q'(s', argmax_a Q(s', a)) (van Hasselt et al. 2016);
    `sarsa` Q'(s', a') with a' the action taken in the data; `behaviour` a' drawn afresh from the empirical behaviour
    policy at s'; `mc` no bootstrapping at all: regression on the Monte-Carlo return.

    Args:
        spec: of the data set, `data.spec`.
        seeds: how many, or which; every combination of swept values is run with each.
        variants: name -> {hyper-parameter: value}, e.g. `{"dqn": {}, "dr3": {"regularizers.dr3": 0.03}}`.
        device: where parameters and data live.
        options: fields of `DQNConfig`.
    Raises:
        InputError: for unknown options, wrong types, impossible values, or continuous actions.
    Reference: Mnih et al., Nature 518, 2015; conservative term: Kumar et al. 2020, arXiv:2006.04779, equation 4.
    Differs from: the authors' discrete CQL, which sits on QR-DQN; this sits on DQN, like Dopamine's offline agents.
    """

    Config = DQNConfig

    def __init__(
        self,
        spec: Spec,
        *,
        seeds: int | Sequence[int] = 1,
        variants: Mapping[str, Mapping[str, float]] | None = None,
        device: torch.device | str = "cpu",
        **options: Any,
    ) -> None:
        self.config = config = build(self.Config, options, where="agent")
        if spec.n_actions is None:
            raise InputError(f"{type(self).__name__}: expected discrete actions, the data has {spec.action_shape}")
        self.spec, self.seeds, self.variants, self.device = spec, seeds, variants, torch.device(device)
        self.batch_size, self.target_period = config.batch_size, config.target_period
        terms = make_terms(config, SWEPT, seeds, variants, self.device)
        self.runs, self.regularizers = terms.runs, terms.regularizers
        if len(set(self.runs.values["gamma"])) > 1 and (config.n_step > 1 or config.backup == "mc"):
            raise InputError("gamma differs between runs: n-step and Monte-Carlo returns are summed with one gamma")
        self.gamma, self.alpha, self.temperature = (terms.hyper[k] for k in ("gamma", "alpha", "temperature"))
        torso = make_torso(
            spec, len(self.runs), config.network, config.hidden, config.activation, config.layer_norm, config.precision
        )
        network = QNetwork(torso, spec.n_actions, len(self.runs))
        reset_runs(network, self.runs.seeds)
        self.learner = Learner(
            network.to(self.device),
            lr=terms.hyper["lr"],
            tau=terms.hyper["tau"],
            betas=config.adam_betas,
            eps=config.adam_eps,
            max_grad_norm=config.max_grad_norm,
            projections=terms.projections,
        )
        self.online, self.target, self.active = self.learner.online, self.learner.target, self.learner.active
        self.head_weight = network.head.weight  # [R, A, D]
        self.activation: str = torso.activation  # type: ignore[assignment]
        terms.warn(self.activation)
        self.reads_next_online = "next_features" in terms.needs
        self.reads_next_target = config.backup != "mc" or "next_features_target" in terms.needs
        self.pays_gap = any(self.runs.values["alpha"])
        self.noise = {"action": ("uniform", (config.batch_size,))} if config.backup == "behaviour" else {}

    def prepare(self, data: Dataset) -> Dataset:
        """The data set with the columns that this backup needs; rows without them are left out."""
        gamma = self.runs.values["gamma"][0]
        if self.config.backup == "mc":
            return data.with_mc_returns(gamma)
        if self.config.backup == "sarsa":
            data = data.with_next_action()
        if self.config.backup == "behaviour":
            data = data.with_next_policy()
        return data.n_step(self.config.n_step, gamma) if self.config.n_step > 1 else data

    def loss(self, batch: Batch, noise: dict[str, Tensor]) -> tuple[Tensor, Metrics]:
        """Loss of each run `[R]` and its parts."""
        features, q_values, next_features, next_q_online = self.forward(batch)
        next_features_target, next_q_target = self.forward_target(batch)
        q = td.select(q_values, batch.action)
        target = self.td_target(batch, noise, next_q_target, next_q_online)
        td_loss = td.LOSSES[self.config.loss](q - target).mean(-1)
        gap = self.conservative_gap(q_values, q)
        context = TDContext(
            features=features,
            q=q,
            q_values=q_values,
            target=target,
            action=batch.action,
            terminated=batch.terminated,
            index=batch.index,
            next_features=next_features,
            next_features_target=next_features_target,
            parameters=self.learner.parameters,
            initial=self.learner.initial,
        )
        penalties = {name: (fn(context), coef) for name, (fn, coef) in self.regularizers.items()}
        total = td_loss + self.alpha * gap + sum(coef * value for value, coef in penalties.values())
        metrics = {
            "loss/td": td_loss,
            "loss/conservative": gap,
            "loss/total": total,
            "q/data": q.mean(-1),
            "q/target": target.mean(-1),
            **{f"reg/{name}": value for name, (value, _) in penalties.items()},
        }
        return total, {name: value.detach() for name, value in metrics.items()}

    def conservative_gap(self, q_values: Tensor, q: Tensor) -> Tensor:
        """Mean conservative gap, `[R]`; only measured where no run pays for it."""
        values = (q_values, q) if self.pays_gap else (q_values.detach(), q.detach())
        return td.conservative_gap(*values, self.temperature).mean(-1)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """Online features and values at s, and at s' where something reads them."""
        if self.reads_next_online:  # one pass over both, so that gradient flows through both sides
            features, q_values = self.online(torch.cat([batch.obs, batch.next_obs], dim=1))
            (features, next_features), (q_values, next_q) = features.chunk(2, dim=1), q_values.chunk(2, dim=1)
            return features, q_values, next_features, next_q.detach()
        features, q_values = self.online(batch.obs)
        if self.config.backup != "double":
            return features, q_values, None, None
        with torch.no_grad():
            return features, q_values, None, self.online(batch.next_obs)[1]

    @torch.no_grad()
    def forward_target(self, batch: Batch) -> tuple[Tensor | None, Tensor | None]:
        """Target network's features and values at s'."""
        return self.target(batch.next_obs) if self.reads_next_target else (None, None)

    def td_target(
        self, batch: Batch, noise: dict[str, Tensor], next_q: Tensor | None, next_q_online: Tensor | None
    ) -> Tensor:
        """What Q(s, a) is regressed on, `[R, B]`, detached."""
        if self.config.backup == "mc":
            return batch.extra["mc_return"]
        next_value = td.BACKUPS[self.config.backup](next_q, next_q_online, batch, noise)
        return td.td_target(batch.reward, next_value, batch.terminated, batch.discount, self.gamma)

    def update(self, batch: Batch, noise: dict[str, Tensor]) -> Metrics:
        """One gradient step of every run; the caller moves the target network every `target_period` steps."""
        loss, metrics = self.loss(batch, noise)
        return {**metrics, **self.learner.step(loss)}

    def update_target(self) -> None:
        """Move the target network."""
        self.learner.update_target()

    @torch.no_grad()
    def q_values(self, obs: Tensor) -> Tensor:
        """Online action values: `[R, B, *obs_shape]` gives `[R, B, A]`."""
        return self.online(obs)[1]

    def act(self, obs: Tensor) -> Tensor:
        """Greedy actions: `[R, B, *obs_shape]` gives int64 `[R, B]`."""
        return self.q_values(obs).argmax(-1)

    @torch.no_grad()
    def features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Online phi(s) and phi(s'), `[R, B, D]` each; with discrete actions phi does not depend on the action."""
        return self.online.features(batch.obs), self.online.features(batch.next_obs)

    def state_dict(self) -> dict[str, Any]:
        """All that training changes."""
        return self.learner.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.learner.load_state_dict(state)


@dataclass(frozen=True)
class DiscreteCQLConfig(DQNConfig):
    """`DQNConfig` with the conservative term on."""

    alpha: Sweep = 0.1  # on DQN's Huber loss; QR-DQN's larger loss scale goes with 1 to 4


class DiscreteCQL(DQN):
    """Discrete CQL(H): `DQN` whose default `alpha` is 0.1."""

    Config = DiscreteCQLConfig
