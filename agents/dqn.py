"""Deep Q-learning from a fixed data set, and its conservative form: DQN and discrete CQL(H).

One class, because CQL(H) on discrete actions is DQN plus one term:

    target   y = r + gamma (1 - terminated) V(s'),  V by `backup`
    loss     L = mean huber(Q(s, a) - y) + alpha mean[ T logsumexp_b Q(s, b)/T - Q(s, a) ] + sum_k coef_k reg_k

With `target_noise` y is y + scale std(y) xi, with the optimizer `rmd` it is y less the transition's slack; with
`logit_adjustment` the second term, a cross-entropy, is that of adjusted Q (`td.vs_logits`). A `head` (agents/heads.py)
makes Q(s, a) of K outputs z, and has a TD loss of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rlop.config.schema import build
from rlop.data.dataset import Dataset
from rlop.losses import td
from rlop.losses.distributional import select_atoms
from rlop.nets import QNetwork, make_torso, reinit_runs, reset_runs, with_layers
from rlop.optim import optimizer_maker
from rlop.optim.learner import Learner
from rlop.regularizers import initial_features
from rlop.regularizers.penalties import make_terms
from rlop.types import Batch, InputError, Metrics, Spec, TDContext

from .dqn_config import PRESETS, SWEPT, DiscreteCQLConfig, DQNConfig
from .heads import make_head
from .options import action_counts, nested_options, noisy_target, relaxed, with_preset


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
    Differs from: the authors' discrete CQL, on QR-DQN (`head: quantile`); by default as Dopamine's offline agents.
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
        self.config = config = build(self.Config, with_preset(options, PRESETS), where="agent")
        if spec.n_actions is None:
            raise InputError(
                f"{type(self).__name__}: expected discrete actions, the data has {spec.action_shape}"
            )
        self.spec, self.seeds, self.variants, self.device = (
            spec,
            seeds,
            variants,
            torch.device(device),
        )
        self.batch_size, self.target_period = config.batch_size, config.target_period
        nested = nested_options(config)
        terms = make_terms(config, SWEPT, seeds, variants, self.device, nested)
        self.runs, self.regularizers, self.head = (
            terms.runs,
            terms.regularizers,
            make_head(config.head),
        )
        if len(set(self.runs.values["gamma"])) > 1 and (config.n_step > 1 or config.backup == "mc"):
            raise InputError(
                "gamma differs between runs: n-step and Monte-Carlo returns are summed with one gamma"
            )
        self.gamma, self.alpha, self.temperature = (
            terms.hyper[k] for k in ("gamma", "alpha", "temperature")
        )
        torso = make_torso(
            spec,
            len(self.runs),
            config.network,
            config.hidden,
            config.activation,
            config.layer_norm,
            config.precision,
        )
        network = with_layers(
            QNetwork(torso, spec.n_actions * self.head.n, len(self.runs)), config.layers
        )
        reset_runs(network, self.runs.seeds)
        reinit_runs([(network, config.init)], self.runs.seeds)
        self.activation: str = network.torso.activation  # type: ignore[assignment]
        terms.attach(network, self.activation, bootstraps=config.backup != "mc")
        self.learner = Learner(
            network.to(self.device),
            lr=terms.hyper["lr"],
            tau=terms.hyper["tau"],
            make=optimizer_maker(
                nested["optimizer"], terms.hyper, betas=config.adam_betas, eps=config.adam_eps
            ),
            max_grad_norm=config.max_grad_norm,
            projections=terms.projections,
        )
        self.online, self.target, self.active = (
            self.learner.online,
            self.learner.target,
            self.learner.active,
        )
        self.head_weight = network.head.weight  # [R, A K, D]
        self.hyper, self.needs = terms.hyper, terms.needs
        self.pays_gap = any(self.runs.values["alpha"])
        if config.logit_adjustment and not self.pays_gap:
            raise InputError(
                "logit_adjustment: it is of the conservative term, expected alpha > 0 in some run"
            )
        self.counts = torch.ones(
            spec.n_actions, device=self.device
        )  # of the data's actions, see `prepare`
        self.noise = self.head.draws()
        self.noise |= (
            {"action": ("uniform", (config.batch_size,))} if config.backup == "behaviour" else {}
        )
        self.noise |= config.target_noise.draws(config.batch_size) if config.target_noise else {}

    def prepare(self, data: Dataset) -> Dataset:
        """The data set with the columns that this backup needs; rows without them are left out."""
        rows = self.rows(data)
        self.learner.allot(len(rows))
        self.counts.copy_(action_counts(rows.action, len(self.counts), self.device))
        return rows

    def rows(self, data: Dataset) -> Dataset:
        """What `prepare` returns; changes nothing in the agent."""
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
        features, z, next_features, next_z_online = self.forward(batch, noise)
        next_features_target, next_z = self.forward_target(batch, noise)
        q_values = self.head.mean(z)
        q = td.select(q_values, batch.action)
        particles, weights = self.td_target(batch, noise, next_z, next_z_online)
        td_loss = self.head.loss(
            select_atoms(z, batch.action), particles, weights, self.error(batch)
        ).mean(-1)
        target = particles.mean(-1) if weights is None else (weights * particles).sum(-1)
        gap = self.conservative_gap(q_values, batch.action)
        context = TDContext.of(
            batch,
            self.gamma,
            self.learner,
            features=features,
            q=q,
            q_values=q_values,
            target=target,
            next_features=next_features,
            next_features_target=next_features_target,
            initial_features=initial_features(self.learner, batch.obs)
            if "initial_features" in self.needs
            else None,
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

    def conservative_gap(self, q_values: Tensor, action: Tensor) -> Tensor:
        """Mean conservative gap, `[R]`; only measured where no run pays for it."""
        values = q_values if self.pays_gap else q_values.detach()
        if self.config.logit_adjustment:
            gamma, tau = (self.hyper[f"logit_adjustment.{key}"] for key in ("gamma", "tau"))
            values = td.vs_logits(values, self.counts, gamma, tau)
        return td.conservative_gap(values, td.select(values, action), self.temperature).mean(-1)

    def forward(
        self, batch: Batch, noise: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """Online features `[R, B, D]` and outputs z `[R, B, A, K]` at s, and at s' where something reads them."""
        if (
            "next_features" in self.needs
        ):  # one pass over both, so that gradient flows through both sides
            features, z = self.outputs(
                self.online, torch.cat([batch.obs, batch.next_obs], dim=1), noise
            )
            (features, next_features), (z, next_z) = features.chunk(2, dim=1), z.chunk(2, dim=1)
            return features, z, next_features, next_z.detach()
        features, z = self.outputs(self.online, batch.obs, noise)
        if self.config.backup != "double":
            return features, z, None, None
        with torch.no_grad():
            return features, z, None, self.outputs(self.online, batch.next_obs, noise)[1]

    @torch.no_grad()
    def forward_target(
        self, batch: Batch, noise: dict[str, Tensor]
    ) -> tuple[Tensor | None, Tensor | None]:
        """Target network's features and outputs at s'."""
        reads = self.config.backup != "mc" or "next_features_target" in self.needs
        return self.outputs(self.target, batch.next_obs, noise) if reads else (None, None)

    def outputs(
        self, network: QNetwork, obs: Tensor, noise: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Features, and what the update sees of a network's outputs, `[R, B, A, K]`."""
        features, outputs = network(obs)
        return features, self.head.mix(self.head.split(outputs), noise)

    @torch.no_grad()
    def td_target(
        self,
        batch: Batch,
        noise: dict[str, Tensor],
        next_z: Tensor | None,
        next_z_online: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:
        """What Q(s, a) is held to: particles `[R, B, J]`, and their weights where they are not alike."""
        if self.config.backup == "mc":
            particles, weights = batch.extra["mc_return"].unsqueeze(-1), None
        else:
            pick = partial(td.BACKUPS[self.config.backup], batch=batch, noise=noise)
            values, weights = self.head.particles(next_z, next_z_online, pick)
            particles = td.td_target(
                batch.reward, values, batch.terminated, batch.discount, self.gamma
            )
        if self.config.target_noise is not None:  # heads with a single target only
            noisy = noisy_target(
                particles[..., 0], noise, self.config.target_noise, self.hyper, self.learner.steps
            )
            particles = noisy.unsqueeze(-1)
        return particles, weights

    def error(self, batch: Batch) -> Callable[[Tensor], Tensor]:
        """Huber or square of Q - y, elementwise, with RMD of Q - (y - slack)."""
        return lambda difference: td.LOSSES[self.config.loss](relaxed(difference, batch))

    def update(self, batch: Batch, noise: dict[str, Tensor]) -> Metrics:
        """One gradient step of every run; the caller moves the target network every `target_period` steps."""
        batch = self.learner.relaxed(batch)
        loss, metrics = self.loss(batch, noise)
        return {**metrics, **self.learner.step(loss, batch)}

    def update_target(self) -> None:
        """Move the target network."""
        self.learner.update_target()

    @torch.no_grad()
    def q_values(self, obs: Tensor) -> Tensor:
        """Online action values: `[R, B, *obs_shape]` gives `[R, B, A]`."""
        return self.action_values(self.online(obs)[1])

    def action_values(self, outputs: Tensor) -> Tensor:
        """Action values `[..., A]` from a network's outputs `[..., A K]`."""
        return self.head.mean(self.head.split(outputs))

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


class DiscreteCQL(DQN):
    """Discrete CQL(H): `DQN` whose default `alpha` is 0.1."""

    Config = DiscreteCQLConfig
