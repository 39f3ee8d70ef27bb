"""Deep Q-learning from a fixed data set, and its conservative form: DQN and discrete CQL(H).

One class, because CQL(H) on discrete actions is DQN plus one term:

    target   y = r + gamma (1 - terminated) V(s'),  V by `backup`
    loss     L = mean huber(Q(s, a) - y) + alpha mean gap + sum_k coef_k reg_k
             gap = T logsumexp_b Q(s, b)/T - Q(s, a)

With `target_noise`, y becomes y + scale std(y) xi. With the optimizer `rmd`, the slack of the
transition is subtracted from y. With `logit_adjustment`, the conservative term (a cross-entropy) is
computed from adjusted Q, see `rlop.losses.imbalance.vs_logits`. A `head` (agents/heads.py) makes
Q(s, a) from K outputs z and defines its own TD loss.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from rlop.agent import Agent, Losses, Noise, NoiseShapes
from rlop.data.dataset import Dataset
from rlop.losses import td
from rlop.losses.imbalance import action_counts, vs_logits
from rlop.losses.noise import noisy_target
from rlop.nets import QNetwork, reinit_runs
from rlop.optim.learner import Learner
from rlop.optim.rmd import relaxed
from rlop.regularizers import initial_features
from rlop.types import Batch, InputError, Metrics

from .behavior import make_source
from .dqn_config import PRESETS, DiscreteCQLConfig, DQNConfig
from .heads import make_head
from .networks import make_q_network


class DQN(Agent):
    """Offline DQN for discrete actions.

    Backups, with Q' the target network: `max` takes V(s') = max_a Q'(s', a) (Mnih et al. 2015),
    `double` takes Q'(s', argmax_a Q(s', a)) (van Hasselt et al. 2016), `sarsa` takes Q'(s', a')
    with a' the data's next action, `behavior` draws a' from a behavior policy at s' at every update
    (the option `behavior`: that of the data's counts, a cloned one, or the known one), and `mc`
    does not bootstrap: it regresses on the Monte-Carlo return.

    Args: as in `rlop.agent.Agent`; `options` are the fields of `DQNConfig`.
    Raises:
        InputError: for unknown options, wrong types, impossible values, or continuous actions.
    Reference: Mnih et al., Nature 518, 2015; conservative term: Kumar et al. 2020,
        arXiv:2006.04779, equation 4.
    Differs from: the authors' discrete CQL, which builds on QR-DQN (`head: quantile`); the default
        follows Dopamine's offline agents.
    """

    Config = DQNConfig
    presets = PRESETS
    config: DQNConfig

    @classmethod
    def shared(cls, config: DQNConfig) -> tuple[str, ...]:
        """Return gamma where the returns of the data are summed with it, once for all runs."""
        return ("gamma",) if config.n_step > 1 or config.backup == "mc" else ()

    def check(self) -> None:
        """Raise InputError for continuous actions, and for options that do not fit the runs."""
        config, values = self.config, self.runs.values
        if self.spec.n_actions is None:
            raise InputError(
                f"{self.name}: expected discrete actions, the data has continuous ones of shape "
                f"{self.spec.action_shape}; whole numbers stored as floats need n_actions"
            )

        for name in self.shared(config):
            if len(set(values[name])) > 1:
                raise InputError(
                    f"{name} differs between runs: "
                    "n-step and Monte-Carlo returns are summed with one gamma"
                )

        self.has_conservative_term = any(values["alpha"])
        if config.logit_adjustment and not self.has_conservative_term:
            raise InputError(
                "logit_adjustment: adjusts the conservative term, expected alpha > 0 in some run"
            )

    def make_learners(self) -> dict[str, Learner]:
        """Build the Q-network of every run from its seed."""
        config, seeds = self.config, self.runs.seeds
        self.head = make_head(config.head)
        outputs = self.n_actions * self.head.n

        network = make_q_network(self.spec, config, outputs, seeds, config.network)
        reinit_runs([(network, config.init)], seeds)
        learner = self.main_learner(
            network, tau=self.hyper["tau"], bootstraps=config.backup != "mc"
        )

        self.counts = torch.ones(self.n_actions, device=self.device)  # see `prepare`
        return {"q": learner}

    def make_noise(self) -> NoiseShapes:
        """Return kind and shape of the random numbers that one update needs."""
        config = self.config

        noise = dict(self.head.draws())
        if config.backup == "behavior":
            noise["action"] = ("uniform", (config.batch_size,))
        return noise | super().make_noise()

    @property
    def n_actions(self) -> int:
        """A, the number of actions."""
        assert self.spec.n_actions is not None  # ensured by `check`
        return self.spec.n_actions

    @property
    def online(self) -> QNetwork:
        """The Q-network that is trained."""
        return cast(QNetwork, self.main.online)

    @property
    def target(self) -> QNetwork:
        """Its target network."""
        return self.main.target

    def prepare(self, data: Dataset) -> Dataset:
        """Return the rows that the backup can use, with the columns that it reads.

        Also counts the data's actions and allocates the slack of each row.
        """
        rows = self.rows(data)

        self.main.allot(len(rows))
        self.counts.copy_(action_counts(rows.action, self.n_actions, self.device))
        return rows

    def rows(self, data: Dataset) -> Dataset:
        """Return what `prepare` returns, without changing the agent."""
        config, gamma = self.config, self.runs.values["gamma"][0]
        if config.backup == "mc":
            return data.with_mc_returns(gamma)

        if config.backup == "sarsa":
            data = data.with_next_action()

        if config.backup == "behavior":
            data = make_source(config.behavior).add_to(data, self.device)

        return data.n_step(config.n_step, gamma) if config.n_step > 1 else data

    def losses(self, batch: Batch, noise: Noise) -> tuple[Losses, Metrics]:
        """Return the loss of the Q-network `[R]`, and its parts."""
        features, z, next_features, next_z_online = self.forward(batch, noise)
        next_features_target, next_z = self.forward_target(batch, noise)

        q_values = self.head.mean(z)  # [R, B, A]
        z_data = self.head.at(z, batch.action)  # [R, B, K]
        q = self.head.mean(z_data)  # [R, B]

        # TD loss: the outputs of the data's action against the particles of the target.
        particles, weights = self.td_target(batch, noise, next_z, next_z_online)
        td_loss = self.head.loss(z_data, particles, weights, self.error(batch)).mean(-1)
        target = self.head.target(particles, weights)

        start = None
        if "initial_features" in self.penalties.needs:
            start = initial_features(self.main, batch.obs)
        context = self.context(
            batch,
            features=features,
            q=q,
            q_values=q_values,
            target=target,
            next_features=next_features,
            next_features_target=next_features_target,
            initial_features=start,
        )

        loss, parts = td_loss, {"loss/td": td_loss}
        if self.has_conservative_term:
            gap = self.conservative_gap(q_values, q, batch.action)
            loss = td_loss + self.hyper["alpha"] * gap
            parts["loss/conservative"] = gap
        total, penalties = self.penalties.add_to(loss, context)

        metrics = {
            **parts,
            "loss/total": total,
            "q/data": q.mean(-1),
            "q/target": target.mean(-1),
            **penalties,
        }
        return {"q": total}, metrics

    def conservative_gap(self, q_values: Tensor, q: Tensor, action: Tensor) -> Tensor:
        """Return the mean conservative gap, `[R]`.

        Args:
            q_values: `[R, B, A]`.
            q: of the data's actions, `[R, B]`.
            action: int64 `[R, B]`.
        """
        if self.config.logit_adjustment:
            gamma = self.hyper["logit_adjustment.gamma"]
            tau = self.hyper["logit_adjustment.tau"]
            q_values = vs_logits(q_values, self.counts, gamma, tau)
            q = td.select(q_values, action)
        return td.conservative_gap(q_values, q, self.hyper["temperature"]).mean(-1)

    def forward(
        self, batch: Batch, noise: Noise
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """Run the online network at s, and at s' if its output there is needed.

        Returns:
            Features `[R, B, D]` and outputs z `[R, B, A, K]` at s, then the same at s', or None.
        """
        if "next_features" in self.penalties.needs:
            # One pass over both states, so that gradient flows through both features.
            both = torch.cat([batch.obs, batch.next_obs], dim=1)
            features, z = self.outputs(self.online, both, noise)

            features, next_features = features.chunk(2, dim=1)
            z, next_z = z.chunk(2, dim=1)

            return features, z, next_features, next_z.detach()

        features, z = self.outputs(self.online, batch.obs, noise)
        if self.config.backup != "double":
            return features, z, None, None

        with torch.no_grad():
            _, next_z = self.outputs(self.online, batch.next_obs, noise)
        return features, z, None, next_z

    @torch.no_grad()
    def forward_target(self, batch: Batch, noise: Noise) -> tuple[Tensor | None, Tensor | None]:
        """Run the target network at s'; return (None, None) if its output is not needed."""
        if self.config.backup == "mc" and "next_features_target" not in self.penalties.needs:
            return None, None

        return self.outputs(self.target, batch.next_obs, noise)

    def outputs(self, network: QNetwork, obs: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """Return features `[R, B, D]`, and outputs `[R, B, A, K]`, mixed by the head."""
        features, outputs = network(obs)
        return features, self.head.mix(self.head.split(outputs), noise)

    @torch.no_grad()
    def td_target(
        self, batch: Batch, noise: Noise, next_z: Tensor | None, next_z_online: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the target's particles, `[R, B, J]`, and their weights, None if all are equal.

        A scalar head has no axis J.
        """
        config = self.config
        if config.backup == "mc":
            particles, weights = self.head.single(batch.extra["mc_return"]), None
        else:
            assert next_z is not None  # `forward_target` ran
            backup = td.BACKUPS[config.backup]

            def pick(target: Tensor, online: Tensor | None) -> Tensor:
                return backup(target, online, batch, noise)

            values, weights = self.head.particles(next_z, next_z_online, pick)
            particles = td.td_target(
                batch.reward, values, batch.terminated, batch.discount, self.hyper["gamma"]
            )

        if config.target_noise is not None:  # only with heads that have a single target
            steps = self.main.steps
            target = self.head.target(particles, weights)
            noisy = noisy_target(target, noise, config.target_noise, self.hyper, steps)
            particles = self.head.single(noisy)
        return particles, weights

    def error(self, batch: Batch) -> Callable[[Tensor], Tensor]:
        """Return the elementwise loss of Q - y; with RMD, of Q - (y - slack)."""
        loss = td.LOSSES[self.config.loss]
        return lambda difference: loss(relaxed(difference, batch))

    @torch.no_grad()
    def q_values(self, obs: Tensor) -> Tensor:
        """Return online action values: `[R, B, *obs_shape]` to `[R, B, A]`."""
        _, outputs = self.online(obs)
        return self.action_values(outputs)

    def action_values(self, outputs: Tensor) -> Tensor:
        """Return action values `[..., A]` of a network's outputs `[..., A K]`."""
        return self.head.mean(self.head.split(outputs))

    def act(self, obs: Tensor) -> Tensor:
        """Return greedy actions: `[R, B, *obs_shape]` to int64 `[R, B]`."""
        return self.q_values(obs).argmax(-1)

    @torch.no_grad()
    def features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return online phi(s) and phi(s'), `[R, B, D]` each.

        The features phi do not depend on a discrete action.
        """
        return self.online.features(batch.obs), self.online.features(batch.next_obs)

    @property
    def head_weight(self) -> Tensor:
        """Weight of the linear head, `[R, A K, D]`."""
        return self.online.head.weight


class DiscreteCQL(DQN):
    """Discrete CQL(H): `DQN` whose default `alpha` is 0.1."""

    Config = DiscreteCQLConfig
