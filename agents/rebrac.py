"""ReBRAC and TD3+BC: a deterministic policy that is kept near the data's actions."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from rlop.agent import Losses, Noise, NoiseShapes
from rlop.data.dataset import Dataset
from rlop.nets import QNetwork
from rlop.nets.critic import first_value
from rlop.optim.learner import Learner
from rlop.types import Batch, Metrics

from .actor_critic import ActorCritic
from .rebrac_config import PRESETS, ReBRACConfig, TD3BCConfig

SMALLEST_Q = 1e-12  # keeps the quotient finite where every Q is 0


class ReBRAC(ActorCritic):
    """TD3 with E critics and two penalties on actions that are far from the data's.

        target   y = r + gamma (1 - terminated) [ min_e Q'_e(s', a~) - critic_bc |a~ - a'|^2 ],
                 a~ = clip(pi'(s') + clip(policy_noise xi)),  a' the data's next action
        critics  L = sum_e mean (Q_e(s, a) - y)^2 + sum_k coef_k reg_k
        policy   mean[ policy_bc |pi(s) - a|^2 - q_weight Q(s, pi(s)) / mean|Q(s, pi(s))| ]

    The policy steps in every `policy_period`-th update, and the target networks, the policy's too,
    move every `target_period` steps. Its metrics are means over the updates in which it steps.

    Actions are in [-1, 1]. The features phi(s', a') are those of a~ in an update, and of pi(s')
    where they are measured.

    Args: as in `rlop.agent.Agent`; `options` are the fields of `ReBRACConfig`.
    Raises:
        InputError: for unknown options, wrong types, impossible values, or discrete actions.
    Reference: Tarasov et al., "Revisiting the Minimalist Approach to Offline Reinforcement
        Learning", NeurIPS 2023, arXiv:2305.09836; Fujimoto and Gu, "A Minimalist Approach to
        Offline Reinforcement Learning", NeurIPS 2021, arXiv:2106.06860 (TD3+BC).
    Differs from: the codes in `PRESETS`: all losses are taken before any step, and the policy steps
        in the first of the updates between two moves of the targets.
    """

    Config = ReBRACConfig
    presets = PRESETS
    config: ReBRACConfig
    delayed = ("policy",)

    def check(self) -> None:
        """Raise InputError unless actions and observations are vectors."""
        super().check()
        self.policy_period = self.config.policy_period
        self.reads_next_action = any(self.runs.values["critic_bc"])

    def make_learners(self) -> dict[str, Learner]:
        """Build the learners of every run from its seed.

        They are `critics` and `policy`, with target networks, and for images `encoder`.
        """
        hyper = self.hyper
        critics, encoder = self.make_critics(), self.make_encoder()
        policy = QNetwork(self.make_torso(), self.spec.action_shape[0], len(self.runs))
        self.draw(critics, policy, *encoder)
        return {
            "critics": self.main_learner(critics, tau=hyper["tau"]),
            "policy": self.adam_learner(policy, hyper["policy_lr"], tau=hyper["tau"]),
            **self.encoder_learner(encoder),
        }

    def make_noise(self) -> NoiseShapes:
        """Return kind and shape of the random numbers that one update needs."""
        shape = (self.config.batch_size, *self.spec.action_shape)
        return {"action": ("normal", shape), **super().make_noise()}

    def prepare(self, data: Dataset) -> Dataset:
        """Return the data set with the next action, where the target reads it."""
        data = super().prepare(data)
        return data.with_next_action() if self.reads_next_action else data

    def losses(self, batch: Batch, noise: Noise) -> tuple[Losses, Metrics]:
        """Return the loss of each network `[R]`, and their parts."""
        batch, seen = self.encoded(batch, noise)
        losses, metrics = self.critic_losses(batch, noise)
        losses["policy"], policy_metrics = self.policy_loss(seen)
        return losses, {**metrics, **policy_metrics}

    def partial_losses(self, batch: Batch, noise: Noise) -> tuple[Losses, Metrics]:
        """Return the loss `[R]` of critics and encoder, and its parts."""
        return self.critic_losses(self.encoded(batch, noise)[0], noise)

    def critic_losses(self, batch: Batch, noise: Noise) -> tuple[Losses, Metrics]:
        """Return the loss `[R]` of critics and encoder, and its parts, of an encoded batch."""
        next_action, particles = self.backup(batch, noise)
        features, z = self.critics.outputs(batch.obs, batch.action)  # [R, E, B, D], [R, E, B, K]
        q, target = self.head.mean(z), self.head.target(particles)
        td_loss = self.td_loss(z, particles, batch)

        pair, next_pair = (batch.obs, batch.action), (batch.next_obs, next_action)
        others = self.penalties.features(self.main, pair, next_pair)
        context = self.context(batch, features=features, q=q, target=target, **others)
        loss, penalties = self.add_penalties(td_loss, batch, context)
        metrics = {
            "loss/td": td_loss,
            "loss/total": loss,
            "q/data": q.mean((1, 2)),
            "q/target": target.mean(-1),
            **penalties,
        }
        return {"critics": loss, **self.encoder_loss(loss)}, metrics

    @torch.no_grad()
    def backup(self, batch: Batch, noise: Noise) -> tuple[Tensor, Tensor]:
        """Return the action that is backed up `[R, B, m]`, and the target's particles."""
        scale, clip = self.hyper["policy_noise"].view(-1, 1, 1), self.config.noise_clip
        mean = torch.tanh(self.learners["policy"].target(batch.next_obs)[1])
        action = (mean + (scale * noise["action"]).clamp(-clip, clip)).clamp(-1, 1)

        value = self.head.lowest(self.target.outputs(batch.next_obs, action)[1])
        if self.reads_next_action:
            distance = (action - batch.extra["next_action"]).square().sum(-1)
            value = value - self.head.single(self.hyper["critic_bc"].unsqueeze(-1) * distance)
        return action, self.bootstrap(batch, value, noise)

    def policy_loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """Return the policy's loss `[R]`, and its parts."""
        config, hyper = self.config, self.hyper
        action = torch.tanh(self.actor(batch.obs)[1])
        if config.policy_q == "min":
            q = self.critics(batch.obs, action)[1].amin(1)
        else:
            q = first_value(self.critics, batch.obs, action)

        distance = (action - batch.action).square()
        distance = distance.sum(-1) if config.bc_distance == "sum" else distance.mean(-1)
        distance, value = distance.mean(-1), q.mean(-1)

        scaled = value
        if config.normalize_q:
            scaled = value / q.detach().abs().mean(-1).clamp_min(SMALLEST_Q)
        loss = hyper["policy_bc"] * distance - hyper["q_weight"] * scaled
        return loss, {"loss/policy": loss, "q/policy": value, "policy/distance": distance}

    @property
    def actor(self) -> QNetwork:
        """The policy's network; tanh of its outputs is the action."""
        return cast(QNetwork, self.learners["policy"].online)

    @torch.no_grad()
    def greedy(self, seen: Tensor) -> Tensor:
        """Return pi(s) at what `encode` returns: `[R, B, m]`."""
        return torch.tanh(self.actor(seen)[1])


class TD3BC(ReBRAC):
    """TD3+BC: `ReBRAC` with the options of `TD3BCConfig`, which are those of `td3bc/corl`."""

    Config = TD3BCConfig
