"""Behaviour cloning: what supervised learning alone makes of the data, the baseline of offline RL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from rlop.config.schema import build, option, options
from rlop.data.dataset import Dataset
from rlop.losses import tanh_gaussian, td
from rlop.nets import GaussianPolicy, QNetwork, make_torso, reset_runs, with_layers
from rlop.optim import optimizer_maker, unsigned_loss
from rlop.optim.choice import RMDOptions
from rlop.optim.learner import Learner
from rlop.regularizers.penalties import run_numbers
from rlop.types import Batch, InputError, Metrics, Spec

from .option_groups import NetworkOptions, OptimizationOptions
from .options import LabelNoise, LogitAdjustment, action_counts, nested_options


@options
class BCConfig(OptimizationOptions, NetworkOptions):
    """Options of `BC`."""

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


class BC:
    """Behaviour cloning, R runs at once; discrete actions, or continuous ones in [-1, 1].

        cross_entropy   -log softmax(W phi(s) + b)_a
        mse             |tanh(W phi(s) + b) - a|^2 / m
        nll             -log pi(a|s), pi a Gaussian squashed by tanh with a width that depends on the state

    With the optimizer `rmd` what is descended is `rlop.optim.unsigned_loss` of the cross-entropy, `loss/total`.

    Args:
        spec: of the data set, `data.spec`.
        seeds: how many, or which; every combination of swept values is run with each.
        variants: name -> {hyper-parameter: value}, e.g. `{"few": {"lr": 1e-3}, "many": {"lr": 1e-2}}`.
        device: where parameters and data live.
        options: fields of `BCConfig`.
    Raises:
        InputError: for unknown options, wrong types, impossible values, or a loss for other actions.
    Reference: Pomerleau, "ALVINN", NeurIPS 1988.
    """

    Config = BCConfig
    target_period = 1

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
        self.loss_kind = pick_loss(config.loss, spec)
        self.spec, self.seeds, self.variants, self.device = (
            spec,
            seeds,
            variants,
            torch.device(device),
        )
        self.batch_size = config.batch_size
        nested = nested_options(config)
        check_classification(self.loss_kind, nested)
        self.runs, self.hyper = run_numbers(config, ("lr",), seeds, variants, self.device, nested)
        count = len(self.runs)
        torso = make_torso(
            spec,
            count,
            config.network,
            config.hidden,
            config.activation,
            config.layer_norm,
            config.precision,
        )
        if self.loss_kind == "nll":
            self.policy: Any = GaussianPolicy(
                torso, spec.action_shape[0], count, config.log_std_range
            )
        else:
            self.policy = QNetwork(torso, spec.n_actions or spec.action_shape[0], count)
        reset_runs(with_layers(self.policy, config.layers), self.runs.seeds)
        self.learner = Learner(
            self.policy.to(self.device),
            lr=self.hyper["lr"],
            make=optimizer_maker(
                nested["optimizer"],
                self.hyper,
                betas=config.adam_betas,
                eps=config.adam_eps,
                form="unsigned",
            ),
            max_grad_norm=config.max_grad_norm,
        )
        self.active = self.learner.active
        self.activation: str = self.policy.torso.activation
        self.counts = torch.ones(
            spec.n_actions or 0, device=self.device
        )  # of the data's actions, see `prepare`
        self.noise = config.label_noise.draws(config.batch_size) if config.label_noise else {}

    def prepare(self, data: Dataset) -> Dataset:
        """The data set as it is, once continuous actions are known to lie in [-1, 1].

        Raises:
            InputError: naming the range found.
        """
        if self.spec.n_actions is None:
            tanh_gaussian.check_actions(data.action, data.name)
        else:
            self.counts.copy_(action_counts(data.action, self.spec.n_actions, self.device))
        self.learner.allot(len(data))
        return data

    def loss(self, batch: Batch, noise: Mapping[str, Tensor]) -> tuple[Tensor, Metrics]:
        """Loss of each run `[R]`, and how often its action is the data's or how far it is from it."""
        if self.loss_kind == "cross_entropy":
            logits = self.policy(batch.obs)[1]
            loss = self.cross_entropy(logits, batch.action, noise)
            score = {"policy/accuracy": (logits.argmax(-1) == batch.action).to(loss.dtype).mean(-1)}
        elif self.loss_kind == "mse":
            error = (torch.tanh(self.policy(batch.obs)[1]) - batch.action).square().mean((1, 2))
            loss, score = error, {"policy/error": error}
        else:
            mean, log_std = self.policy(batch.obs)
            loss = -tanh_gaussian.log_prob(mean, log_std, batch.action.to(mean.dtype)).mean(-1)
            score = {"policy/error": (torch.tanh(mean) - batch.action).square().mean((1, 2))}
        total = unsigned_loss(loss, batch.extra["slack"]) if "slack" in batch.extra else loss
        metrics = {"loss/bc": loss, "loss/total": total, **score}
        return total, {name: value.detach() for name, value in metrics.items()}

    def cross_entropy(self, logits: Tensor, label: Tensor, noise: Mapping[str, Tensor]) -> Tensor:
        """Mean cross-entropy of labels `[R, B]`, noisy if wished, under logits `[R, B, A]`, adjusted if wished."""
        if self.config.label_noise:
            probability = self.hyper["label_noise.probability"]
            label = self.config.label_noise(
                label, noise["label"], probability, self.learner.steps, logits.shape[-1]
            )
        if self.config.logit_adjustment:
            gamma, tau = (self.hyper[f"logit_adjustment.{key}"] for key in ("gamma", "tau"))
            logits = td.vs_logits(logits, self.counts, gamma, tau)
        return F.cross_entropy(logits.movedim(-1, 1), label, reduction="none").mean(-1)

    def update(self, batch: Batch, noise: Mapping[str, Tensor]) -> Metrics:
        """One gradient step of every run."""
        batch = self.learner.relaxed(batch)
        loss, metrics = self.loss(batch, noise)
        return {**metrics, **self.learner.step(loss, batch)}

    def update_target(self) -> None:
        """Nothing: there is no target network."""

    @torch.no_grad()
    def act(self, obs: Tensor) -> Tensor:
        """The likeliest action, int64 `[R, B]`, or tanh of the mean `[R, B, m]`, for `[R, B, *obs_shape]`."""
        if self.loss_kind == "nll":
            return torch.tanh(self.policy(obs)[0])
        outputs = self.policy(obs)[1]
        return outputs.argmax(-1) if self.spec.n_actions is not None else torch.tanh(outputs)

    @torch.no_grad()
    def features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The policy's phi(s) and phi(s'), `[R, B, D]` each."""
        return self.policy.features(batch.obs), self.policy.features(batch.next_obs)

    @property
    def head_weight(self) -> Tensor:
        """Weight of the policy's linear head, `[R, A, D]`; with `nll` the rows are means, then log widths."""
        return self.policy.head.weight

    def state_dict(self) -> dict[str, Any]:
        """All that training changes."""
        return self.learner.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.learner.load_state_dict(state)


def pick_loss(loss: str, spec: Spec) -> str:
    """The loss that `auto` means for these actions, or the one asked for.

    Raises:
        InputError: for a loss that does not fit the actions.
    """
    if spec.n_actions is None and len(spec.action_shape) != 1:
        raise InputError(
            f"BC: expected discrete actions or actions of shape (m,), the data has {spec.action_shape}"
        )
    fits = ("mse", "nll") if spec.n_actions is None else ("cross_entropy",)
    if loss not in ("auto", *fits):
        kind = "continuous" if spec.n_actions is None else "discrete"
        raise InputError(f"loss = {loss}: expected {' or '.join(fits)} for {kind} actions")
    return fits[0] if loss == "auto" else loss


def check_classification(loss: str, nested: Mapping[str, Any]) -> None:
    """Refuse options of the cross-entropy for another loss.

    Raises:
        InputError: naming the option.
    """
    wrong = [name for name in ("label_noise", "logit_adjustment") if nested[name]]
    wrong += ["optimizer: rmd"] * isinstance(nested["optimizer"], RMDOptions)
    if wrong and loss != "cross_entropy":
        raise InputError(f"{wrong[0]}: expected loss = cross_entropy, found {loss}")
