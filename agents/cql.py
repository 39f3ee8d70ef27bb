"""Conservative Q-learning for continuous actions: soft actor-critic on a fixed data set, plus one
term.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rlop.agent import Losses, Noise, NoiseShapes
from rlop.losses import tanh_gaussian, td
from rlop.optim.learner import Learner
from rlop.types import Batch, Metrics

from .actor_critic import Moments, SoftActorCritic
from .cql_config import PRESETS, CQLConfig
from .networks import make_log_weight


class CQL(SoftActorCritic):
    """Continuous CQL(H) and CQL(rho) with E critics.

        target   y = r + gamma (1 - terminated) [ min_e Q'_e(s', a') - c log pi(a'|s') ]
        critics  L = sum_e { mean (Q_e(s, a) - y)^2 + alpha diff_e } + sum_k coef_k reg_k
                 diff_e = mean[ T logsumexp_k (Q_e(s, a_k) - log p_k)/T - Q_e(s, a) ]
        policy   mean[ c log pi(a~|s) - min_e Q_e(s, a~) ],  a~ from pi(.|s)
        entropy  -log c * mean[ log pi(a~|s) + target_entropy m ]

    The target has its entropy term only with `backup_entropy`. In the first `bc_steps` updates,
    log pi(a|s) replaces Q in the policy's loss. With `entropy_loss: exp`, c replaces log c.

    The candidates a_k, `action_samples` each from the uniform density, pi(.|s) and pi(.|s'), are
    all evaluated at s, without gradient into the policy. CQL(rho), the authors' `min_q_version` 2,
    omits log p_k and adds the data's action to the candidates. A Lagrange form multiplies alpha by
    a trained weight, see `td.lagrange_penalty`.

    Backups: `sample` draws a' from pi(.|s') (the authors, CORL); `mean` takes a' = tanh(mean)
    (d3rlpy); `max_then_min` (the authors' max_q_backup) and `min_then_max` (Geng, CORL, d3rlpy)
    take the best of `backup_samples` draws.

    Actions are in [-1, 1]. Logged TD loss, conservative term and penalties are sums over critics,
    as in the total.

    Args: as in `rlop.agent.Agent`; `options` are the fields of `CQLConfig`.
    Raises:
        InputError: for unknown options, wrong types, impossible values, or discrete actions.
    Reference: Kumar et al., "Conservative Q-Learning", NeurIPS 2020, arXiv:2006.04779; Haarnoja et
        al. 2018.
    Differs from: the codes in `PRESETS`: all losses are taken before any step. (The authors and
        d3rlpy move c before the policy's loss, d3rlpy also alpha' before the critics', and the
        critics before the policy's.)
    """

    Config = CQLConfig
    presets = PRESETS
    config: CQLConfig

    def make_learners(self) -> dict[str, Learner]:
        """Build the learners of every run from its seed.

        They are `critics` with their target network, `policy`, `entropy`, for images `encoder`, and
        for a Lagrange form `multiplier`.
        """
        config, hyper = self.config, self.hyper
        critics, policy = self.make_critics(), self.make_policy(config.log_std_affine)
        encoder = self.make_encoder()
        self.draw(critics, policy, *encoder)

        learners = {
            "critics": self.main_learner(critics, tau=hyper["tau"]),
            "policy": self.adam_learner(policy, hyper["policy_lr"]),
            "entropy": self.entropy_learner(),
            **self.encoder_learner(encoder),
        }
        if config.lagrange != "off":
            start = td.LAGRANGES[config.lagrange].log_initial
            multiplier = make_log_weight(start, len(self.runs))
            learners["multiplier"] = self.adam_learner(multiplier, hyper["alpha_lr"])
        return learners

    def make_noise(self) -> NoiseShapes:
        """Return kind and shape of the random numbers that one update needs."""
        config, (n_dims,) = self.config, self.spec.action_shape
        candidates = (config.batch_size, config.action_samples, n_dims)

        noise: NoiseShapes = {
            "random": ("uniform", candidates),
            "here": ("normal", candidates),
            "there": ("normal", candidates),
            "policy": ("normal", (config.batch_size, n_dims)),
        }

        if config.backup != "mean":
            draws = 1 if config.backup == "sample" else config.backup_samples
            noise["backup"] = ("normal", (config.batch_size, draws, n_dims))
        return noise | super().make_noise()

    def losses(self, batch: Batch, noise: Noise) -> tuple[Losses, Metrics]:
        """Return the loss of each network `[R]`, and their parts."""
        batch, seen = self.encoded(batch, noise)

        # The policy's moments are computed once per state, however many actions are drawn from
        # them.
        pi = self.actor(seen.obs)
        with torch.no_grad():
            next_pi = self.actor(seen.next_obs)

        # Critics: TD loss and conservative term, summed over critics.
        next_action, particles = self.backup(batch, noise, next_pi)
        features, z = self.critics.outputs(batch.obs, batch.action)  # [R, E, B, D], [R, E, B, K]
        q, target = self.head.mean(z), self.head.target(particles)

        q_values, log_density = self.candidates(batch, noise, pi, next_pi)
        td_loss = self.td_loss(z, particles, batch)

        diff = self.conservative_diff(q_values, log_density, q)  # [R, E]

        pair, next_pair = (batch.obs, batch.action), (batch.next_obs, next_action)
        context = self.context(
            batch,
            features=features,
            q=q,
            q_values=q_values,
            target=target,
            **self.penalties.features(self.main, pair, next_pair),
        )

        conservative = self.conservative_term(diff, trained=False).sum(-1)
        critic_loss, penalties = self.add_penalties(td_loss + conservative, batch, context)

        # Policy, and the weight of its entropy.
        policy_loss, log_pi, policy_q = self.policy_loss(seen, noise, pi)
        entropy_loss = self.entropy_loss(log_pi)
        losses = {"critics": critic_loss, "policy": policy_loss, "entropy": entropy_loss}
        losses |= self.encoder_loss(critic_loss)

        random = q_values[..., : self.config.action_samples]
        metrics = {
            "loss/td": td_loss,
            "loss/conservative": diff.sum(-1),
            "loss/total": critic_loss,
            "q/data": q.mean((1, 2)),
            "q/random": random.mean((1, 2, 3)),
            "q/target": target.mean(-1),
            **penalties,
            "loss/policy": policy_loss,
            "loss/entropy": entropy_loss,
            "q/policy": policy_q.mean(-1),
            "policy/entropy": -log_pi.mean(-1),
            "policy/entropy_coef": self.entropy_coef,
        }

        if "multiplier" in self.learners:
            losses["multiplier"] = -self.conservative_term(diff.detach()).mean(-1)
            metrics["lagrange/weight"] = self.log_weight("multiplier").exp()
            metrics["loss/lagrange"] = losses["multiplier"]
        return losses, metrics

    @torch.no_grad()
    def backup(self, batch: Batch, noise: Noise, next_pi: Moments) -> tuple[Tensor, Tensor]:
        """Return the action a' that is backed up `[R, B, m]`, and the target's particles."""
        config = self.config

        mean = next_pi[0]
        unit = noise["backup"] if "backup" in noise else torch.zeros_like(mean.unsqueeze(2))
        actions, log_pi = tanh_gaussian.sample(*next_pi, unit)  # [R, B, N, m], [R, B, N]

        min_first = config.backup != "max_then_min"
        value, best = self.head.best_of(self.target, batch.next_obs, actions, min_first)

        if config.backup_entropy:
            entropy = self.entropy_coef.unsqueeze(-1) * td.select(log_pi, best)
            value = value - self.head.single(entropy)

        action = td.select(actions.movedim(-1, -2), best.unsqueeze(-1).expand_as(mean))
        return action, self.bootstrap(batch, value, noise)

    def candidates(
        self, batch: Batch, noise: Noise, pi: Moments, next_pi: Moments
    ) -> tuple[Tensor, Tensor]:
        """Evaluate the candidates at s: uniform actions, and draws from pi(.|s) and pi(.|s').

        Returns:
            Values `[R, E, B, 3N]` and log-densities `[R, B, 3N]`.
        """
        with torch.no_grad():
            uniform = 2 * noise["random"] - 1
            log_uniform = torch.full_like(uniform[..., 0], -uniform.shape[-1] * math.log(2))
            here, log_here = tanh_gaussian.sample(*pi, noise["here"])
            there, log_there = tanh_gaussian.sample(*next_pi, noise["there"])

        actions = torch.cat([uniform, here, there], dim=2)
        log_density = torch.cat([log_uniform, log_here, log_there], dim=2)
        return self.critics.values(batch.obs, actions), log_density

    def conservative_diff(self, q_values: Tensor, log_density: Tensor, q: Tensor) -> Tensor:
        """Return by how much the candidates' values exceed the data actions', `[R, E]`."""
        config = self.config
        if config.conservative == "H":
            candidates = td.importance_values(q_values, log_density)
        else:
            candidates = torch.cat([q_values, q.unsqueeze(-1)], dim=-1)

        diff = td.conservative_gap(candidates, q, self.hyper["temperature"])

        high = math.inf if config.clip_diff_max is None else config.clip_diff_max
        return diff.clamp(config.clip_diff_min, high).mean(-1)

    def conservative_term(self, diff: Tensor, trained: bool = True) -> Tensor:
        """Return the conservative term `[R, E]`.

        Args:
            diff: from `conservative_diff`, `[R, E]`.
            trained: let the gradient flow into the weight of the Lagrange form.
        """
        alpha, form = self.hyper["alpha"], self.config.lagrange
        if form == "off":
            return alpha.unsqueeze(-1) * diff

        weight = self.log_weight("multiplier")
        weight = weight if trained else weight.detach()
        return td.lagrange_penalty(diff, weight, alpha, self.hyper["gap"], form)

    def policy_loss(self, batch: Batch, noise: Noise, pi: Moments) -> tuple[Tensor, Tensor, Tensor]:
        """Draw an action at each state, and return the policy's loss `[R]`.

        Returns:
            The loss, log pi(a|s) and min_e Q_e(s, a), `[R, B]` each.
        """
        action, log_pi = tanh_gaussian.sample(*pi, noise["policy"])
        q = self.critics(batch.obs, action)[1].amin(1)

        objective = q
        if self.config.bc_steps:
            cloned = tanh_gaussian.log_prob(*pi, batch.action)
            objective = torch.where(self.main.steps < self.config.bc_steps, cloned, q)

        loss = (self.entropy_coef.unsqueeze(-1) * log_pi - objective).mean(-1)
        return loss, log_pi, q
