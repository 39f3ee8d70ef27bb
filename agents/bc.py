"""Behavior cloning, the supervised baseline of offline RL."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from rlop.agent import Agent, Losses, Noise, NoiseShapes
from rlop.config.schema import option, options
from rlop.data.dataset import Dataset
from rlop.losses import tanh_gaussian
from rlop.losses.imbalance import LogitAdjustment, action_counts, vs_logits
from rlop.losses.noise import LabelNoise
from rlop.nets import GaussianPolicy, QNetwork, reset_runs, with_layers
from rlop.optim import unsigned_loss
from rlop.optim.choice import RMDOptions
from rlop.optim.learner import Learner
from rlop.types import Batch, InputError, Metrics

from .networks import make_q_network, torso_of
from .option_groups import NetworkOptions, OptimizationOptions


@options
class BCConfig(OptimizationOptions, NetworkOptions):
    """Options of `BC`."""

    swept: ClassVar[tuple[str, ...]] = ("lr",)

    loss: Literal["auto", "cross_entropy", "mse", "nll"] = option(
        "auto", "auto: cross_entropy or mse, by the actions"
    )
    network: Literal["auto", "mlp", "minatar", "nature"] = option(
        "auto", "kind of network; auto: by the shape of the observations"
    )
    log_std_range: tuple[float, float] = option(
        (-20.0, 2.0), "of nll: ends of the policy's log standard deviation"
    )
    label_noise: LabelNoise | None = option(
        None, "of cross_entropy: random labels, {probability: 0.1, off_after: step}"
    )
    logit_adjustment: LogitAdjustment | None = option(
        None, "of cross_entropy: the VS-loss, {gamma: 0.3, tau: 1.0}"
    )


class BC(Agent):
    """Behavior cloning for discrete actions, or continuous ones in [-1, 1].

        cross_entropy   -log softmax(W phi(s) + b)_a
        mse             |tanh(W phi(s) + b) - a|^2 / m
        nll             -log pi(a|s), pi a squashed Gaussian whose width depends on the state

    The optimizer `rmd` minimizes `rlop.optim.unsigned_loss` of the cross-entropy, `loss/total`.

    Args: as in `rlop.agent.Agent`; `options` are the fields of `BCConfig`.
    Raises:
        InputError: for unknown options, wrong types, impossible values, or a loss that does not fit
            the actions.
    Reference: Pomerleau, "ALVINN", NeurIPS 1988.
    """

    Config = BCConfig
    config: BCConfig

    def check(self) -> None:
        """Pick the loss, and raise InputError for options that do not fit it or the actions."""
        self.loss_kind = self.pick_loss()
        if self.loss_kind == "cross_entropy":
            return

        options = {
            "label_noise": self.config.label_noise,
            "logit_adjustment": self.config.logit_adjustment,
            "optimizer: rmd": isinstance(self.nested["optimizer"], RMDOptions),
        }
        for name, given in options.items():
            if given:
                raise InputError(f"{name}: expected loss = cross_entropy, found {self.loss_kind}")

    def pick_loss(self) -> str:
        """Return the name of the loss; `auto` decides by the actions."""
        spec, loss = self.spec, self.config.loss
        discrete = spec.n_actions is not None
        if not discrete and len(spec.action_shape) != 1:
            raise InputError(
                "BC: expected discrete actions or actions of shape (m,), "
                f"the data has {spec.action_shape}"
            )

        fitting = ("cross_entropy",) if discrete else ("mse", "nll")
        if loss == "auto":
            return fitting[0]
        if loss not in fitting:
            kind = "discrete" if discrete else "continuous"
            raise InputError(f"loss = {loss}: expected {' or '.join(fitting)} for {kind} actions")
        return loss

    def make_learners(self) -> dict[str, Learner]:
        """Build the policy of every run from its seed."""
        config, spec, count = self.config, self.spec, len(self.runs)
        seeds = self.runs.seeds
        network: GaussianPolicy | QNetwork
        if self.loss_kind == "nll":
            torso = torso_of(spec, config, count, config.network)
            policy = GaussianPolicy(torso, spec.action_shape[0], count, config.log_std_range)
            network = with_layers(policy, config.layers)
            reset_runs(network, seeds)
        else:
            outputs = spec.n_actions or spec.action_shape[0]
            network = make_q_network(spec, config, outputs, seeds, config.network)

        self.counts = torch.ones(spec.n_actions or 0, device=self.device)  # see `prepare`
        return {"policy": self.main_learner(network, form="unsigned")}

    def make_noise(self) -> NoiseShapes:
        """Return kind and shape of the random numbers that label noise needs."""
        noise = self.config.label_noise
        return noise.draws(self.config.batch_size) if noise else {}

    @property
    def actor(self) -> Any:
        """The policy's network: a `QNetwork` whose outputs are logits or means, or a
        `GaussianPolicy` with `nll`.
        """
        return self.main.online

    def prepare(self, data: Dataset) -> Dataset:
        """Return the data set unchanged, after reading its actions.

        Discrete actions are counted; continuous ones are checked to lie in [-1, 1].

        Raises:
            InputError: for continuous actions outside [-1, 1], with the range of the data.
        """
        if self.spec.n_actions is None:
            tanh_gaussian.check_actions(data.action, data.name)
        else:
            self.counts.copy_(action_counts(data.action, self.spec.n_actions, self.device))
        return super().prepare(data)

    def losses(self, batch: Batch, noise: Noise) -> tuple[Losses, Metrics]:
        """Return the policy's loss `[R]`, and its accuracy or its error."""
        if self.loss_kind == "cross_entropy":
            logits = self.actor(batch.obs)[1]
            loss = self.cross_entropy(logits, batch.action, noise)
            hits = logits.argmax(-1) == batch.action
            metrics = {"policy/accuracy": hits.to(loss.dtype).mean(-1)}
        elif self.loss_kind == "mse":
            loss = self.squared_error(self.actor(batch.obs)[1], batch.action)
            metrics = {"policy/error": loss}
        else:
            mean, log_std = self.actor(batch.obs)
            action = batch.action.to(mean.dtype)
            loss = -tanh_gaussian.log_prob(mean, log_std, action).mean(-1)
            metrics = {"policy/error": self.squared_error(mean, batch.action)}

        total = unsigned_loss(loss, batch.extra["slack"]) if "slack" in batch.extra else loss
        return {"policy": total}, {"loss/bc": loss, "loss/total": total, **metrics}

    def squared_error(self, mean: Tensor, action: Tensor) -> Tensor:
        """Return the mean squared error of tanh(mean), `[R]`; both arguments are `[R, B, m]`."""
        return (torch.tanh(mean) - action).square().mean((1, 2))

    def cross_entropy(self, logits: Tensor, label: Tensor, noise: Noise) -> Tensor:
        """Return the mean cross-entropy `[R]` of labels `[R, B]` under logits `[R, B, A]`.

        Label noise and logit adjustment are applied here, if configured.
        """
        config, hyper = self.config, self.hyper
        if config.label_noise:
            probability = hyper["label_noise.probability"]
            steps = self.main.steps
            label = config.label_noise(label, noise["label"], probability, steps, logits.shape[-1])

        if config.logit_adjustment:
            gamma, tau = hyper["logit_adjustment.gamma"], hyper["logit_adjustment.tau"]
            logits = vs_logits(logits, self.counts, gamma, tau)

        return F.cross_entropy(logits.movedim(-1, 1), label, reduction="none").mean(-1)

    @torch.no_grad()
    def act(self, obs: Tensor) -> Tensor:
        """Return actions for observations `[R, B, *obs_shape]`.

        Discrete actions are the most likely ones, int64 `[R, B]`; continuous ones are tanh of the
        mean, `[R, B, m]`.
        """
        if self.loss_kind == "nll":
            return torch.tanh(self.actor(obs)[0])

        outputs = self.actor(obs)[1]
        return outputs.argmax(-1) if self.spec.n_actions is not None else torch.tanh(outputs)

    @torch.no_grad()
    def features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the policy's phi(s) and phi(s'), `[R, B, D]` each."""
        return self.actor.features(batch.obs), self.actor.features(batch.next_obs)

    @property
    def head_weight(self) -> Tensor:
        """Weight of the policy's linear head, `[R, A, D]`.

        With `nll` the first m rows give the means, the others the logarithms of the widths.
        """
        return self.actor.head.weight
