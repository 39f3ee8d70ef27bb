"""Conservative Q-learning for continuous actions: soft actor-critic on a fixed data set, plus one term."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rlop.config.schema import build
from rlop.data.dataset import Dataset
from rlop.losses import tanh_gaussian, td
from rlop.nets import Critics, GaussianPolicy
from rlop.optim.learner import step_together
from rlop.regularizers import initial_features
from rlop.regularizers.penalties import make_terms
from rlop.types import Batch, InputError, Metrics, Spec, TDContext

from .cql_config import PRESETS, SWEPT, CQLConfig
from .cql_networks import Moments, Noise, make_learners, noise_of
from .options import nested_options, noisy_target, relaxed, with_preset


class CQL:
    """Continuous CQL(H) and CQL(rho) with E critics, R runs at once.

        target   y = r + gamma (1 - terminated) [ min_e Q'_e(s', a') - c log pi(a'|s') ],  c only by `backup_entropy`
        critics  L = sum_e { mean (Q_e(s, a) - y)^2 + alpha diff_e } + sum_k coef_k reg_k
                 diff_e = mean[ T logsumexp_k (Q_e(s, a_k) - log p_k)/T - Q_e(s, a) ]
        policy   mean[ c log pi(a~|s) - min_e Q_e(s, a~) ],  a~ from pi(.|s); in the first `bc_steps` log pi(a|s) for Q
        entropy  -log c * mean[ log pi(a~|s) + target_entropy m ],  c for log c with `entropy_loss: exp`

    The a_k, `action_samples` each from the uniform density, pi(.|s) and pi(.|s'), are all valued at s, with no gradient
    into the policy. CQL(rho), the authors' `min_q_version` 2, leaves out log p_k and counts the data's action among the
    a_k. A Lagrange form multiplies alpha by a trained weight, see `td.lagrange_penalty`. Backups: `sample`, a' from
    pi(.|s') (the authors, CORL); `mean`, a' = tanh(mean) (d3rlpy); `max_then_min` (the authors' max_q_backup) and
    `min_then_max` (Geng, CORL, d3rlpy), the best of `backup_samples` draws.

    Actions are in [-1, 1]. In the logs td, conservative term and regularizers are sums over critics, as in the total.

    Args:
        spec: of the data set, `data.spec`.
        seeds: how many, or which; every combination of swept values is run with each.
        variants: name -> {hyper-parameter: value}, e.g. `{"cql": {}, "dr3": {"regularizers.dr3": 0.001}}`.
        device: where parameters and data live.
        options: fields of `CQLConfig`.
    Raises:
        InputError: for unknown options, wrong types, impossible values, or discrete actions.
    Reference: Kumar et al., "Conservative Q-Learning", NeurIPS 2020, arXiv:2006.04779; Haarnoja et al. 2018.
    Differs from: the codes in `PRESETS`: all losses are taken before any step (the authors and d3rlpy move c before the
        policy's loss, d3rlpy also alpha' before the critics', and the critics before the policy's).
    """

    Config = CQLConfig

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
        if len(spec.action_shape) != 1:
            found = (
                f"{spec.n_actions} discrete"
                if spec.n_actions is not None
                else f"of shape {spec.action_shape}"
            )
            raise InputError(
                f"{type(self).__name__}: expected continuous actions of shape (m,), the data has {found}"
            )
        self.spec, self.seeds, self.variants, self.device = (
            spec,
            seeds,
            variants,
            torch.device(device),
        )
        self.batch_size, self.target_period = config.batch_size, config.target_period
        terms = make_terms(config, SWEPT, seeds, variants, self.device, nested_options(config))
        self.runs, self.hyper, self.regularizers = terms.runs, terms.hyper, terms.regularizers
        self.needs = terms.needs
        self.learners = make_learners(spec, config, terms, self.device)
        self.critics: Critics = self.learners["critics"].online  # type: ignore[assignment]
        self.target: Critics = self.learners["critics"].target
        self.policy: GaussianPolicy = self.learners["policy"].online  # type: ignore[assignment]
        self.active, self.activation = (
            self.learners["critics"].active,
            str(self.critics.torso.activation),
        )
        self.steps = self.learners["critics"].steps
        self.noise = noise_of(config, *spec.action_shape)

    def prepare(self, data: Dataset) -> Dataset:
        """The data set as it is, once its actions are known to lie in [-1, 1].

        Raises:
            InputError: naming the range found.
        """
        tanh_gaussian.check_actions(data.action, data.name)
        self.learners["critics"].allot(self.config.n_critics, len(data))
        return data

    def update(self, batch: Batch, noise: Noise) -> Metrics:
        """One gradient step of every run; the caller moves the target network every `target_period` steps."""
        batch = self.learners["critics"].relaxed(batch)
        losses, metrics = self.losses(batch, noise)
        norms = step_together([(self.learners[name], loss) for name, loss in losses.items()], batch)
        return {**metrics, "grad/norm": norms[0], "grad/norm_policy": norms[1]}

    def losses(self, batch: Batch, noise: Noise) -> tuple[dict[str, Tensor], Metrics]:
        """Loss of each network `[R]`, all at the present parameters, and their parts."""
        here = self.policy(batch.obs)  # once a state, however many actions are drawn
        with torch.no_grad():
            there = self.policy(batch.next_obs)
        critic_loss, diff, metrics = self.critic_loss(batch, noise, here, there)
        policy_loss, log_pi, q = self.policy_loss(batch, noise, here)
        losses = {
            "critics": critic_loss,
            "policy": policy_loss,
            "entropy": self.entropy_loss(log_pi),
        }
        metrics |= {
            "loss/policy": policy_loss,
            "loss/entropy": losses["entropy"],
            "q/policy": q.mean(-1),
        }
        metrics |= {"policy/entropy": -log_pi.mean(-1), "policy/entropy_coef": self.entropy_coef}
        if "multiplier" in self.learners:
            losses["multiplier"] = -self.penalty(diff.detach()).mean(-1)
            metrics |= {
                "lagrange/weight": self.log_weight("multiplier").exp(),
                "loss/lagrange": losses["multiplier"],
            }
        return losses, {name: value.detach() for name, value in metrics.items()}

    def critic_loss(
        self, batch: Batch, noise: Noise, here: Moments, there: Moments
    ) -> tuple[Tensor, Tensor, Metrics]:
        """Loss of the critics `[R]`, their conservative differences `[R, E]`, and the loss's parts."""
        next_action, target = self.backup(batch, noise, there)
        features, q = self.critics(batch.obs, batch.action)
        q_values, log_density = self.candidates(batch, noise, here, there)
        td_loss = td.mse(relaxed(q - target.unsqueeze(1), batch)).mean(-1).sum(-1)
        diff = self.conservative_diff(q_values, log_density, q)
        pair, next_pair, critics = (
            (batch.obs, batch.action),
            (batch.next_obs, next_action),
            self.learners["critics"],
        )
        context = TDContext.of(
            batch,
            self.hyper["gamma"],
            critics,
            features=features,
            q=q,
            q_values=q_values,
            target=target,
            next_features=self.critics(*next_pair)[0] if "next_features" in self.needs else None,
            next_features_target=self.target(*next_pair)[0]
            if "next_features_target" in self.needs
            else None,
            initial_features=initial_features(critics, *pair)
            if "initial_features" in self.needs
            else None,
        )
        penalties = {name: (fn(context), coef) for name, (fn, coef) in self.regularizers.items()}
        regularization = sum(coef * value for value, coef in penalties.values())
        total = td_loss + self.penalty(diff, trained=False).sum(-1) + regularization
        metrics = {
            "loss/td": td_loss,
            "loss/conservative": diff.sum(-1),
            "loss/total": total,
            "q/data": q.mean((1, 2)),
            "q/random": q_values[..., : self.config.action_samples].mean((1, 2, 3)),
            "q/target": target.mean(-1),
            **{f"reg/{name}": value for name, (value, _) in penalties.items()},
        }
        return total, diff, metrics

    @torch.no_grad()
    def backup(self, batch: Batch, noise: Noise, there: Moments) -> tuple[Tensor, Tensor]:
        """The action a' at s' that is backed up `[R, B, m]`, and the TD target `[R, B]`."""
        mean = there[0].unsqueeze(2)
        actions, log_pi = tanh_gaussian.sample(
            *there, noise.get("backup", torch.zeros_like(mean))
        )  # [R, B, K, m]
        values = self.target.values(batch.next_obs, actions)
        value, best = td.pessimistic_max(values, min_first=self.config.backup != "max_then_min")
        if self.config.backup_entropy:
            value = value - self.entropy_coef.unsqueeze(-1) * td.select(log_pi, best)
        target = td.td_target(
            batch.reward, value, batch.terminated, batch.discount, self.hyper["gamma"]
        )
        target = noisy_target(target, noise, self.config.target_noise, self.hyper, self.steps)
        return td.select(actions.movedim(-1, -2), best.unsqueeze(-1).expand_as(there[0])), target

    def candidates(
        self, batch: Batch, noise: Noise, here: Moments, there: Moments
    ) -> tuple[Tensor, Tensor]:
        """Values at s `[R, E, B, 3N]` of actions from the uniform density, pi(.|s) and pi(.|s'), and log-densities."""
        with torch.no_grad():
            uniform = 2 * noise["random"] - 1
            log_uniform = torch.full_like(uniform[..., 0], -uniform.shape[-1] * math.log(2))
            drawn = [(uniform, log_uniform)]
            drawn += [
                tanh_gaussian.sample(*pi, noise[name])
                for pi, name in ((here, "here"), (there, "there"))
            ]
        actions, log_density = (torch.cat(parts, dim=2) for parts in zip(*drawn))
        return self.critics.values(batch.obs, actions), log_density

    def conservative_diff(self, q_values: Tensor, log_density: Tensor, q: Tensor) -> Tensor:
        """How much higher the critics value the candidates than the data's actions, `[R, E]`."""
        if self.config.conservative == "H":
            candidates = td.importance_values(q_values, log_density)
        else:
            candidates = torch.cat([q_values, q.unsqueeze(-1)], dim=-1)
        diff = td.conservative_gap(candidates, q, self.hyper["temperature"])
        high = math.inf if self.config.clip_diff_max is None else self.config.clip_diff_max
        return diff.clamp(self.config.clip_diff_min, high).mean(-1)

    def penalty(self, diff: Tensor, trained: bool = True) -> Tensor:
        """The conservative term `[R, E]`; with gradient into its Lagrange weight where that is being trained."""
        alpha, form = self.hyper["alpha"], self.config.lagrange
        if form == "off":
            return alpha.unsqueeze(-1) * diff
        log_weight = self.log_weight("multiplier")
        return td.lagrange_penalty(
            diff, log_weight if trained else log_weight.detach(), alpha, self.hyper["gap"], form
        )

    def policy_loss(
        self, batch: Batch, noise: Noise, here: Moments
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Loss of the policy `[R]`, and log pi(a|s) and min_e Q_e(s, a) `[R, B]` of the actions it would take."""
        action, log_pi = tanh_gaussian.sample(*here, noise["policy"])
        q = self.critics(batch.obs, action)[1].amin(1)
        objective = q
        if self.config.bc_steps:
            cloned = tanh_gaussian.log_prob(*here, batch.action)
            objective = torch.where(self.steps < self.config.bc_steps, cloned, q)
        return (self.entropy_coef.unsqueeze(-1) * log_pi - objective).mean(-1), log_pi, q

    def entropy_loss(self, log_pi: Tensor) -> Tensor:
        """Loss of the entropy's weight, `[R]`: it grows while the entropy is below its target."""
        error = log_pi.detach().mean(-1) + self.hyper["target_entropy"] * self.spec.action_shape[0]
        log_coef = self.log_weight("entropy")
        return -(log_coef if self.config.entropy_loss == "log" else log_coef.exp()) * error

    def log_weight(self, name: str) -> Tensor:
        """Logarithm of a trained weight `[R]`: c of the `entropy`, or alpha' of the Lagrange form, the `multiplier`."""
        return self.learners[name].parameters["log"].squeeze(-1)

    @property
    def entropy_coef(self) -> Tensor:
        """Weight c of the entropy, `[R]`, detached."""
        return self.log_weight("entropy").detach().exp()

    def update_target(self) -> None:
        """Move the target network."""
        self.learners["critics"].update_target()

    @torch.no_grad()
    def act(self, obs: Tensor) -> Tensor:
        """tanh of the policy's mean: `[R, B, *obs_shape]` gives `[R, B, m]`."""
        return torch.tanh(self.policy(obs)[0])

    @torch.no_grad()
    def features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Online phi(s, a) and phi(s', a'), `[R, E, B, D]` each; a' is tanh of the policy's mean."""
        here = self.critics(batch.obs, batch.action)[0]
        return here, self.critics(batch.next_obs, self.act(batch.next_obs))[0]

    @property
    def head_weight(self) -> Tensor:
        """Weight of the critics' linear heads, `[R, E, 1, D]`."""
        return self.critics.head.weight

    def state_dict(self) -> dict[str, Any]:
        """All that training changes."""
        return {name: learner.state_dict() for name, learner in self.learners.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for name, learner in self.learners.items():
            learner.load_state_dict(state[name])
