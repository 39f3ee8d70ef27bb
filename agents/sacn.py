"""SAC-N and EDAC: soft actor-critic with many critics, pessimistic by their minimum."""

from __future__ import annotations

import torch
from torch import Tensor

from rlop.agent import Losses, Noise, NoiseShapes
from rlop.losses import tanh_gaussian
from rlop.optim.learner import Learner
from rlop.regularizers import diversity
from rlop.types import Batch, InputError, Metrics

from .actor_critic import Moments, SoftActorCritic
from .sacn_config import PRESETS, EDACConfig, SACNConfig


class SACN(SoftActorCritic):
    """Soft actor-critic with E critics, and with `eta` the diversity of their slopes.

        target   y = r + gamma (1 - terminated) [ min_e Q'_e(s', a') - c log pi(a'|s') ]
        critics  L = sum_e mean (Q_e(s, a) - y)^2 + eta mean diversity + sum_k coef_k reg_k
        policy   mean[ c log pi(a~|s) - min_e Q_e(s, a~) ],  a~ from pi(.|s)
        entropy  -log c * mean[ log pi(a~|s) + target_entropy m ]

    The diversity is that of `rlop.regularizers.diversity`, of dQ_e(s, a)/da of expected values. As
    an option it stays where `regularizers` are named, and its slopes come from the TD loss's own
    pass. Actions are in [-1, 1].

    Args: as in `rlop.agent.Agent`; `options` are the fields of `SACNConfig`.
    Raises:
        InputError: for unknown options, wrong types, impossible values, or discrete actions.
    Reference: An et al., "Uncertainty-Based Offline Reinforcement Learning with Diversified
        Q-Ensemble", NeurIPS 2021, arXiv:2110.01548.
    Differs from: the codes in `PRESETS`: all losses are taken before any step.
    """

    Config = SACNConfig
    presets = PRESETS
    config: SACNConfig

    def check(self) -> None:
        """Raise InputError for data that do not fit, or a single critic with diversity."""
        super().check()
        self.diversifies = any(self.runs.values["eta"])
        if self.diversifies and self.config.n_critics == 1:
            raise InputError("n_critics = 1: expected at least 2 where eta is above 0")

    def make_learners(self) -> dict[str, Learner]:
        """Build the learners of every run from its seed.

        They are `critics` with their target network, `policy`, `entropy`, and for images `encoder`.
        """
        critics, policy, encoder = self.make_critics(), self.make_policy(), self.make_encoder()
        self.draw(critics, policy, *encoder)
        return {
            "critics": self.main_learner(critics, tau=self.hyper["tau"]),
            "policy": self.adam_learner(policy, self.hyper["policy_lr"]),
            "entropy": self.entropy_learner(),
            **self.encoder_learner(encoder),
        }

    def make_noise(self) -> NoiseShapes:
        """Return kind and shape of the random numbers that one update needs."""
        shape = (self.config.batch_size, *self.spec.action_shape)
        return {"backup": ("normal", shape), "policy": ("normal", shape), **super().make_noise()}

    def losses(self, batch: Batch, noise: Noise) -> tuple[Losses, Metrics]:
        """Return the loss of each network `[R]`, and their parts."""
        batch, seen = self.encoded(batch, noise)
        next_action, particles = self.backup(batch, noise)

        # Critics: TD loss, diversity and penalties, summed over critics.
        parts: Metrics = {}
        if self.diversifies:
            features, z, slopes = self.critics.with_slopes(batch.obs, batch.action)
            parts["loss/diversity"] = diversity(slopes).mean(-1)
        else:
            features, z = self.critics.outputs(batch.obs, batch.action)  # [R, E, B, D or K]
        q, target = self.head.mean(z), self.head.target(particles)
        loss = td_loss = self.td_loss(z, particles, batch)
        if self.diversifies:
            loss = td_loss + self.hyper["eta"] * parts["loss/diversity"]

        pair, next_pair = (batch.obs, batch.action), (batch.next_obs, next_action)
        others = self.penalties.features(self.main, pair, next_pair)
        context = self.context(batch, features=features, q=q, target=target, **others)
        critic_loss, penalties = self.add_penalties(loss, batch, context)

        # Policy, and the weight of its entropy.
        policy_loss, log_pi, policy_q = self.policy_loss(seen.obs, noise)
        entropy_loss = self.entropy_loss(log_pi)

        metrics = {
            "loss/td": td_loss,
            "loss/total": critic_loss,
            "q/data": q.mean((1, 2)),
            "q/target": target.mean(-1),
            **parts,
            **penalties,
            "loss/policy": policy_loss,
            "loss/entropy": entropy_loss,
            "q/policy": policy_q.mean(-1),
            "policy/entropy": -log_pi.mean(-1),
            "policy/entropy_coef": self.entropy_coef,
        }
        losses = {"critics": critic_loss, "policy": policy_loss, "entropy": entropy_loss}
        return losses | self.encoder_loss(critic_loss), metrics

    @torch.no_grad()
    def backup(self, batch: Batch, noise: Noise) -> tuple[Tensor, Tensor]:
        """Return the action that is backed up `[R, B, m]`, and the target's particles."""
        pi: Moments = self.actor(batch.next_obs)
        action, log_pi = tanh_gaussian.sample(*pi, noise["backup"])
        value = self.head.lowest(self.target.outputs(batch.next_obs, action)[1])
        value = value - self.head.single(self.entropy_coef.unsqueeze(-1) * log_pi)
        return action, self.bootstrap(batch, value, noise)

    def policy_loss(self, obs: Tensor, noise: Noise) -> tuple[Tensor, Tensor, Tensor]:
        """Draw an action at each state, and return the policy's loss `[R]`.

        Returns:
            The loss, log pi(a|s) and min_e Q_e(s, a), `[R, B]` each.
        """
        pi: Moments = self.actor(obs)
        action, log_pi = tanh_gaussian.sample(*pi, noise["policy"])
        q = self.critics(obs, action)[1].amin(1)
        return (self.entropy_coef.unsqueeze(-1) * log_pi - q).mean(-1), log_pi, q


class EDAC(SACN):
    """EDAC: `SACN` with the diversity of its critics' slopes, `eta` 1."""

    Config = EDACConfig
