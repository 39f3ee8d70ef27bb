"""Implicit Q-learning: the best of the data's actions by expectile regression, without a policy in
the target.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rlop.agent import Losses, Noise
from rlop.losses import tanh_gaussian, td
from rlop.nets import Critics, DiscreteCritics, QNetwork, SharedWidthPolicy
from rlop.optim.learner import Learner
from rlop.types import Batch, InputError, Metrics

from .actor_critic import ActorCritic
from .critic_heads import ScalarCritic
from .heads import name_of
from .iql_config import PRESETS, IQLConfig
from .networks import make_discrete_critics

Outputs = tuple[Tensor, Tensor]  # what a policy's network returns


# --- policies: log pi(a|s) `[R, B]` of outputs and actions, and the greedy actions of outputs


def gaussian_log_prob(outputs: Outputs, action: Tensor) -> Tensor:
    """Return the log-density of actions `[R, B, m]`, Gaussian around tanh(mean)."""
    mean, log_std = outputs
    unit = (action - torch.tanh(mean)) * torch.exp(-log_std)
    return (-0.5 * unit.square() - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)


def squashed_log_prob(outputs: Outputs, action: Tensor) -> Tensor:
    """Return the log-density of actions `[R, B, m]` in (-1, 1), tanh of a Gaussian."""
    return tanh_gaussian.log_prob(*outputs, action)


def negative_error(outputs: Outputs, action: Tensor) -> Tensor:
    """Return -|tanh(mean) - a|^2 of actions `[R, B, m]`, in place of a log-density."""
    return -(torch.tanh(outputs[1]) - action).square().sum(-1)


def categorical_log_prob(outputs: Outputs, action: Tensor) -> Tensor:
    """Return the log-probability of actions `[R, B]`, int64."""
    return td.select(outputs[1].log_softmax(-1), action)


class PolicyKind(NamedTuple):
    """A kind of policy.

    Args:
        log_prob: (outputs of its network, actions) -> log pi(a|s), `[R, B]`.
        greedy: outputs of its network -> actions.
    """

    log_prob: Callable[[Outputs, Tensor], Tensor]
    greedy: Callable[[Outputs], Tensor]


POLICIES = {
    "gaussian": PolicyKind(gaussian_log_prob, lambda outputs: torch.tanh(outputs[0])),
    "squashed": PolicyKind(squashed_log_prob, lambda outputs: torch.tanh(outputs[0])),
    "deterministic": PolicyKind(negative_error, lambda outputs: torch.tanh(outputs[1])),
    "categorical": PolicyKind(categorical_log_prob, lambda outputs: outputs[1].argmax(-1)),
}


class IQL(ActorCritic):
    """Implicit Q-learning with E critics, for vectors of actions or discrete ones.

        value    mean |expectile - 1(u < 0)| u^2,  u = min_e Q'_e(s, a) - V(s)
        critics  L = sum_e mean (Q_e(s, a) - y)^2 + sum_k coef_k reg_k,
                 y = r + gamma (1 - terminated) V(s')
        policy   -mean[ w log pi(a|s) ],  w = min(exp(inverse_temperature u), max_weight)

    All actions are the data's, in [-1, 1] where they are vectors. Policies: `gaussian` has its mean
    at tanh of the network and a width that all states share (the authors, CORL, d3rlpy);
    `squashed` is the tanh of a Gaussian whose width depends on the state, as CQL's;
    `deterministic` has -|pi(s) - a|^2 for log pi (CORL's Hopper); `categorical` is for discrete
    actions.

    The target holds no next action; a' of the features phi(s', a') is the policy's greedy one. Of
    discrete actions, phi(s) is the input of Q_e(s, .).

    Args: as in `rlop.agent.Agent`; `options` are the fields of `IQLConfig`.
    Raises:
        InputError: for unknown options, wrong types, impossible values, or a policy that does not
            fit the actions.
    Reference: Kostrikov, Nair and Levine, "Offline Reinforcement Learning with Implicit
        Q-Learning", ICLR 2022, arXiv:2110.06169.
    Differs from: the codes in `PRESETS` except CORL's: all losses are taken before any step. The
        paper has continuous actions only.
    """

    Config = IQLConfig
    presets = PRESETS
    config: IQLConfig

    def check(self) -> None:
        """Pick the policy, and raise InputError for data or a policy that does not fit."""
        self.discrete = self.spec.n_actions is not None
        super().check()
        if self.discrete and not isinstance(self.head, ScalarCritic):
            raise InputError(
                f"head = {name_of(self.config.head)}: expected scalar for discrete actions; "
                "DQN has heads for them"
            )

        fitting = ("categorical",) if self.discrete else ("gaussian", "squashed", "deterministic")
        name = fitting[0] if self.config.policy == "auto" else self.config.policy
        if name not in fitting:
            kind = "discrete" if self.discrete else "continuous"
            raise InputError(f"policy = {name}: expected {' or '.join(fitting)} for {kind} actions")
        self.policy_name = name

    def check_actions(self) -> None:
        """Raise InputError unless actions are vectors or discrete."""
        if not self.discrete:
            super().check_actions()

    def make_learners(self) -> dict[str, Learner]:
        """Build the learners of every run from its seed.

        They are `critics` with their target network, `value`, `policy`, and for images `encoder`.
        """
        config, hyper, runs = self.config, self.hyper, len(self.runs)
        critics: Critics | DiscreteCritics
        if self.discrete:
            critics = make_discrete_critics(self.inputs, config, runs, config.n_critics)
        else:
            critics = self.make_critics()
        value = QNetwork(self.make_torso(), 1, runs)
        policy, encoder = self.make_policy_network(), self.make_encoder()
        self.draw(critics, value, policy, *encoder)

        return {
            "critics": self.main_learner(critics, tau=hyper["tau"]),
            "value": self.adam_learner(value, hyper["value_lr"]),
            "policy": self.adam_learner(policy, hyper["policy_lr"]),
            **self.encoder_learner(encoder),
        }

    def make_policy_network(self) -> nn.Module:
        """Build the network of the policy; its parameters are NaN until `draw`."""
        if self.policy_name == "squashed":
            return self.make_policy()

        runs, outputs = len(self.runs), self.spec.n_actions or self.spec.action_shape[0]
        if self.policy_name == "gaussian":
            return SharedWidthPolicy(self.make_torso(), outputs, runs, self.config.log_std_range)
        return QNetwork(self.make_torso(), outputs, runs)

    def losses(self, batch: Batch, noise: Noise) -> tuple[Losses, Metrics]:
        """Return the loss of each network `[R]`, and their parts."""
        batch, seen = self.encoded(batch, noise)

        # Value: an expectile of the data's actions, by the target network.
        with torch.no_grad():
            target_q = self.target(seen.obs, batch.action)[1].amin(1)
            next_value = self.value(seen.next_obs)
        value = self.value(seen.obs)
        advantage = target_q - value
        value_loss = td.expectile_loss(advantage, self.hyper["expectile"]).mean(-1)

        # Critics: TD loss and penalties, summed over critics.
        particles = self.bootstrap(batch, self.head.single(next_value), noise)
        features, z = self.critics.outputs(batch.obs, batch.action)  # [R, E, B, D], [R, E, B, K]
        q, target = self.head.mean(z), self.head.target(particles)
        td_loss = self.td_loss(z, particles, batch)

        others = self.other_features(batch)
        context = self.context(batch, features=features, q=q, target=target, **others)
        critic_loss, penalties = self.add_penalties(td_loss, batch, context)

        # Policy: the data's actions, cloned with weights.
        weight = self.weight(advantage)
        log_pi = POLICIES[self.policy_name].log_prob(self.actor(seen.obs), batch.action)
        policy_loss = -(weight * log_pi).mean(-1)

        losses = {"critics": critic_loss, "value": value_loss, "policy": policy_loss}
        losses |= self.encoder_loss(critic_loss)
        metrics = {
            "loss/td": td_loss,
            "loss/total": critic_loss,
            "q/data": q.mean((1, 2)),
            "q/target": target.mean(-1),
            **penalties,
            "loss/value": value_loss,
            "loss/policy": policy_loss,
            "value/data": value.mean(-1),
            "policy/weight": weight.mean(-1),
        }
        return losses, metrics

    def other_features(self, batch: Batch) -> dict[str, Tensor]:
        """Return the optional features of a `TDContext` that some regularizer reads."""
        if not self.penalties.needs:
            return {}
        pair = (batch.obs, batch.action)
        next_pair = (batch.next_obs, self.greedy(batch.next_obs))
        return self.penalties.features(self.main, pair, next_pair)

    def weight(self, advantage: Tensor) -> Tensor:
        """Return the weights of the data's actions, without gradient: `[R, B]` to `[R, B]`."""
        beta = self.hyper["inverse_temperature"].unsqueeze(-1)
        return (beta * advantage.detach()).exp().clamp_max(self.config.max_weight)

    def value(self, seen: Tensor) -> Tensor:
        """Return V(s) of the online network, `[R, B]`, at what `encode` returns."""
        return self.learners["value"].online(seen)[1].squeeze(-1)

    def action_values(self, outputs: Tensor) -> Tensor:
        """Return values of discrete actions `[R, B, A]`, the mean over critics `[R, E, B, A]`."""
        return outputs.mean(1)

    @torch.no_grad()
    def greedy(self, seen: Tensor) -> Tensor:
        """Return greedy actions at what `encode` returns.

        The mean of vectors, `[R, B, m]`; the most likely of discrete actions, int64 `[R, B]`.
        """
        return POLICIES[self.policy_name].greedy(self.actor(seen))
