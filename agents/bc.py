"""Behaviour cloning: what supervised learning alone makes of the data, the baseline of offline RL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from rlop import tanh_gaussian
from rlop.build import build
from rlop.checks import check_range
from rlop.data.dataset import Dataset
from rlop.learner import Learner
from rlop.nets import GaussianPolicy, QNetwork, make_torso, reset_runs
from rlop.runs import expand
from rlop.terms import Sweep
from rlop.types import Batch, InputError, Metrics, Spec


@dataclass(frozen=True)
class BCConfig:
    """Options of `BC`. `lr` takes a number, or a list of numbers to run side by side."""

    loss: Literal["auto", "cross_entropy", "mse", "nll"] = "auto"  # auto: cross_entropy or mse, by the actions
    network: Literal["auto", "mlp", "minatar", "nature"] = "auto"  # auto: by the shape of the observations
    hidden: tuple[int, ...] = (256, 256)
    activation: str = "relu"
    layer_norm: bool = False
    precision: Literal["fp32", "bf16"] = "fp32"  # of the products between hidden layers; parameters are fp32
    log_std_range: tuple[float, float] = (-20.0, 2.0)  # of nll
    lr: Sweep = 3e-4
    batch_size: int = 256
    adam_betas: tuple[float, float] = (0.9, 0.999)
    adam_eps: float = 1e-8
    max_grad_norm: float | None = None  # per run; None for no clipping

    def __post_init__(self) -> None:
        for name in ("lr", "adam_eps"):
            check_range(name, getattr(self, name), low=0, low_open=True)
        check_range("batch_size", self.batch_size, low=1)
        check_range("hidden", list(self.hidden), low=1)
        if self.max_grad_norm is not None:
            check_range("max_grad_norm", self.max_grad_norm, low=0, low_open=True)


class BC:
    """Behaviour cloning, R runs at once; discrete actions, or continuous ones in [-1, 1].

        cross_entropy   -log softmax(W phi(s) + b)_a
        mse             |tanh(W phi(s) + b) - a|^2 / m
        nll             -log pi(a|s), pi a Gaussian squashed by tanh with a width that depends on the state

    Args:
        spec: of the data set, `data.spec`.
        seeds: how many, or which; every value of `lr` is run with each.
        variants: name -> {"lr": value}.
        device: where parameters and data live.
        options: fields of `BCConfig`.
    Raises:
        InputError: for unknown options, wrong types, impossible values, or a loss for other actions.
    Reference: Pomerleau, "ALVINN", NeurIPS 1988.
    """

    Config = BCConfig
    target_period = 1
    noise: Mapping[str, tuple[str, tuple[int, ...]]] = {}

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
        self.spec, self.seeds, self.variants, self.device = spec, seeds, variants, torch.device(device)
        self.batch_size = config.batch_size
        self.runs = expand({"lr": config.lr}, seeds, variants)
        count = len(self.runs)
        torso = make_torso(
            spec, count, config.network, config.hidden, config.activation, config.layer_norm, config.precision
        )
        if self.loss_kind == "nll":
            self.policy: Any = GaussianPolicy(torso, spec.action_shape[0], count, config.log_std_range)
        else:
            self.policy = QNetwork(torso, spec.n_actions or spec.action_shape[0], count)
        reset_runs(self.policy, self.runs.seeds)
        self.learner = Learner(
            self.policy.to(self.device),
            lr=self.runs.tensor("lr", self.device),
            betas=config.adam_betas,
            eps=config.adam_eps,
            max_grad_norm=config.max_grad_norm,
        )
        self.active = self.learner.active
        self.activation: str = torso.activation  # type: ignore[assignment]

    def prepare(self, data: Dataset) -> Dataset:
        """The data set as it is, once continuous actions are known to lie in [-1, 1].

        Raises:
            InputError: naming the range found.
        """
        if self.spec.n_actions is None:
            tanh_gaussian.check_actions(data.action, data.name)
        return data

    def loss(self, batch: Batch, noise: Mapping[str, Tensor]) -> tuple[Tensor, Metrics]:
        """Loss of each run `[R]`, and how often its action is the data's or how far it is from it."""
        if self.loss_kind == "cross_entropy":
            logits = self.policy(batch.obs)[1]
            loss = F.cross_entropy(logits.movedim(-1, 1), batch.action, reduction="none").mean(-1)
            score = {"policy/accuracy": (logits.argmax(-1) == batch.action).to(loss.dtype).mean(-1)}
        elif self.loss_kind == "mse":
            error = (torch.tanh(self.policy(batch.obs)[1]) - batch.action).square().mean((1, 2))
            loss, score = error, {"policy/error": error}
        else:
            mean, log_std = self.policy(batch.obs)
            loss = -tanh_gaussian.log_prob(mean, log_std, batch.action.to(mean.dtype)).mean(-1)
            score = {"policy/error": (torch.tanh(mean) - batch.action).square().mean((1, 2))}
        metrics = {"loss/bc": loss, "loss/total": loss, **score}
        return loss, {name: value.detach() for name, value in metrics.items()}

    def update(self, batch: Batch, noise: Mapping[str, Tensor]) -> Metrics:
        """One gradient step of every run."""
        loss, metrics = self.loss(batch, noise)
        return {**metrics, **self.learner.step(loss)}

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
        raise InputError(f"BC: expected discrete actions or actions of shape (m,), the data has {spec.action_shape}")
    fits = ("mse", "nll") if spec.n_actions is None else ("cross_entropy",)
    if loss not in ("auto", *fits):
        kind = "continuous" if spec.n_actions is None else "discrete"
        raise InputError(f"loss = {loss}: expected {' or '.join(fits)} for {kind} actions")
    return fits[0] if loss == "auto" else loss
