"""Neural TD learning: policy evaluation with the two-layer network and the steps that the theory is about."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from rlop.config.checks import check_range
from rlop.config.schema import build
from rlop.data.dataset import Dataset
from rlop.losses import td
from rlop.nets import preprocess, reset_runs
from rlop.optim import SGD, per_run
from rlop.optim.learner import Learner
from rlop.projections import Project, make_projection
from rlop.regularizers.penalties import Sweep, run_numbers
from rlop.types import Batch, InputError, Metrics, Spec

from .options import TargetNoise, noisy_target


@dataclass(frozen=True)
class NeuralTDConfig:
    """Options of `NeuralTD`. Those typed `Sweep` take a number, or a list of numbers to run side by side."""

    projection: Literal["free", "max_norm", "frobenius"] = "max_norm"
    radius: Sweep = (
        30.0  # R: max_norm keeps each neuron within R/sqrt(m) of its start, frobenius all within R
    )
    lr: Sweep = 0.1
    gamma: Sweep = 0.99
    width: int = 256  # m, even
    batch_size: int = 32  # 1 in the paper
    bias: bool = False  # one more input that is constant
    scale_obs: bool = True  # divide observations by the longest one, for the theory has |x| <= 1
    target_noise: TargetNoise | None = None  # {scale: 0.1, kind: gaussian | sign, off_after: step}

    def __post_init__(self) -> None:
        check_range("gamma", self.gamma, low=0, high=1, high_open=True)
        for name in ("radius", "lr"):
            check_range(name, getattr(self, name), low=0, low_open=True)
        check_range("batch_size", self.batch_size, low=1)
        if self.width < 2 or self.width % 2:
            raise InputError(
                f"width = {self.width}: expected an even number, for neurons start in pairs"
            )


class TwoLayer(nn.Module):
    """V(x) = sum_i a_i relu(w_i . x) / sqrt(m) for R runs, trained in w only.

    The neurons i and i + m/2 start with the same weights, standard normal, and opposite signs a: V is 0 at first.

    Args:
        runs: R.
        size: inputs.
        width: m, even.
    """

    def __init__(self, runs: int, size: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(runs, width, size))
        self.register_buffer("signs", torch.empty(runs, width))

    def reset_run(self, run: int, generator: Generator) -> None:
        """Draw one run."""
        half = self.weight.shape[1] // 2
        signs = 2.0 * torch.randint(2, (half,), generator=generator) - 1
        normal = torch.randn(half, self.weight.shape[2], generator=generator)
        self.signs[run] = torch.cat([signs, -signs])
        self.weight.data[run] = normal.repeat(2, 1)

    def features(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """relu(w_i . x) / sqrt(m): `[R, B, d]` to `[R, B, m]`, with other weights `[R, m, d]` if given."""
        weight = self.weight if weight is None else weight
        return F.relu(x @ weight.mT) / math.sqrt(weight.shape[1])

    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """V(x): `[R, B, d]` to `[R, B]`."""
        return (self.features(x, weight) * self.signs.unsqueeze(1)).sum(-1)


class NeuralTD:
    """Value of the policy that made the data, by semi-gradient TD(0), R runs at once.

        delta = r + gamma (1 - terminated) V(s'; W) - V(s; W)
        W <- W + lr mean_B delta grad V(s; W);  W <- projection of W;  W_mean <- mean of all W so far

    in this order; the answer is V(s; W_mean). There is no target network. `free` does not project, `max_norm` keeps
    every neuron in a ball of radius R/sqrt(m) around its start, `frobenius` the whole matrix in one of radius R; with
    |x| <= 1 either has |V| <= R. R must exceed the norm of the true value function; `weights/travel`, which is
    sqrt(m) max_i |w_i - w_i(0)|, says in a free run how much that takes, and hardly depends on the width.

    Args:
        spec: of the data set, `data.spec`; actions are not looked at.
        seeds: how many, or which; every combination of swept values is run with each.
        variants: name -> {hyper-parameter: value}, e.g. `{"near": {"radius": 5}, "far": {"radius": 50}}`.
        device: where parameters and data live.
        options: fields of `NeuralTDConfig`.
    Raises:
        InputError: for unknown options, wrong types or impossible values.
    Reference: Cayci, Satpathi, He and Srikant, IEEE TAC 2023, arXiv:2103.01391 (free and max_norm); Cai et al.,
        NeurIPS 2019, arXiv:1905.10027 (frobenius).
    Differs from: both in minibatches from a fixed data set where they draw single transitions, and from the second in
        the start, which is standard normal here in every mode.
    """

    Config = NeuralTDConfig
    target_period = 1
    activation = "relu"

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
        self.spec, self.seeds, self.variants, self.device = (
            spec,
            seeds,
            variants,
            torch.device(device),
        )
        self.batch_size = config.batch_size
        nested = {"target_noise": config.target_noise}
        self.runs, self.hyper = run_numbers(
            config, ("lr", "gamma", "radius"), seeds, variants, self.device, nested
        )
        network = TwoLayer(
            len(self.runs), max(1, math.prod(spec.obs_shape)) + config.bias, config.width
        )
        reset_runs(network, self.runs.seeds)
        self.learner = Learner(
            network.to(self.device),
            lr=self.hyper["lr"],
            make=SGD,
            projections=self.projections(config.projection, network),
        )
        self.online: TwoLayer = self.learner.online  # type: ignore[assignment]
        self.active = self.learner.active
        self.mean = self.online.weight.detach().clone()  # of the iterates, [R, m, d]
        self.longest = torch.ones((), device=self.device)  # observations are divided by it
        self.noise = config.target_noise.draws(config.batch_size) if config.target_noise else {}

    def projections(self, kind: str, network: TwoLayer) -> list[tuple[Project, Tensor]]:
        """Return what is applied after a step, with its radii `[R]`."""
        if kind == "free":
            return []
        projection = make_projection(kind, parametrization="ntk")
        project = projection.attach(dict(network.named_parameters()), lead=1)
        return [(project, self.hyper["radius"])]

    def prepare(self, data: Dataset) -> Dataset:
        """The data set as it is; finds the longest observation, but for a trained agent, which keeps its scale."""
        if self.config.scale_obs and not self.learner.steps:
            self.longest.fill_(max(self.longest_of(data.obs), self.longest_of(data.next_obs)))
        return data

    def longest_of(self, obs: Any, chunk: int = 65536) -> float:
        """Largest l2 norm of the observations `[N, *obs_shape]`, the constant input included; 1 if all are zero."""
        parts = (
            self.flat(torch.from_numpy(obs[i : i + chunk])[None]) for i in range(0, len(obs), chunk)
        )
        return max(float(part.norm(dim=-1).max()) for part in parts) or 1.0

    def flat(self, obs: Tensor) -> Tensor:
        """Observations `[R, B, *obs_shape]` as vectors `[R, B, d]`, the constant input included."""
        x = preprocess(obs).flatten(2)
        return F.pad(x, (0, 1), value=1.0) if self.config.bias else x

    def inputs(self, obs: Tensor) -> Tensor:
        """What the network reads, `[R, B, d]`."""
        return self.flat(obs) / self.longest

    def loss(self, batch: Batch, noise: dict[str, Tensor]) -> tuple[Tensor, Metrics]:
        """Half the mean squared TD error of each run `[R]`, whose gradient is that of V(s) alone, and its parts."""
        value = self.online(self.inputs(batch.obs))
        with torch.no_grad():
            next_value = self.online(self.inputs(batch.next_obs))
        target = td.td_target(
            batch.reward, next_value, batch.terminated, batch.discount, self.hyper["gamma"]
        )
        target = noisy_target(
            target, noise, self.config.target_noise, self.hyper, self.learner.steps
        )
        loss = td.mse(value - target).mean(-1) / 2
        metrics = {
            "loss/td": loss,
            "loss/total": loss,
            "q/data": value.mean(-1),
            "q/target": target.mean(-1),
        }
        return loss, {name: metric.detach() for name, metric in metrics.items()}

    @torch.no_grad()
    def average(self) -> None:
        """W_mean <- (1 - 1/(t + 1)) W_mean + W/(t + 1) after t steps, the start counted; frozen runs keep theirs."""
        weight = self.active / (self.learner.steps + 1)
        self.mean.lerp_(self.online.weight, per_run(weight, self.mean))

    def update(self, batch: Batch, noise: dict[str, Tensor]) -> Metrics:
        """One step of every run: down the gradient, onto the ball, into the average."""
        loss, metrics = self.loss(batch, noise)
        metrics |= self.learner.step(loss)
        self.average()
        return {**metrics, "weights/travel": self.travel()}

    @torch.no_grad()
    def travel(self) -> Tensor:
        """sqrt(m) max_i |w_i - w_i(0)|, `[R]`: the least radius that would have let every neuron go where it is."""
        moved = self.online.weight - self.learner.initial["weight"]
        return math.sqrt(moved.shape[1]) * torch.linalg.vector_norm(moved, dim=-1).amax(-1)

    def update_target(self) -> None:
        """Nothing: there is no target network."""

    @torch.no_grad()
    def values(self, obs: Tensor, last: bool = False) -> Tensor:
        """V of observations `[R, B, *obs_shape]` under the averaged weights, or the last ones: `[R, B]`."""
        return self.online(self.inputs(obs), None if last else self.mean)

    def act(self, obs: Tensor) -> Tensor:
        """There is nothing to act by.

        Raises:
            InputError: always.
        """
        raise InputError(
            "NeuralTD: values the policy that made the data and has none to act by; set eval_every = 0"
        )

    @torch.no_grad()
    def features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """relu(W x)/sqrt(m) at s and s' under the last weights, `[R, B, m]` each."""
        return self.online.features(self.inputs(batch.obs)), self.online.features(
            self.inputs(batch.next_obs)
        )

    @property
    def head_weight(self) -> Tensor:
        """The fixed signs, `[R, 1, m]`."""
        return self.online.signs.unsqueeze(1)

    def state_dict(self) -> dict[str, Any]:
        """All that training changes."""
        return {"learner": self.learner.state_dict(), "mean": self.mean, "longest": self.longest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.learner.load_state_dict(state["learner"])
        self.mean.copy_(state["mean"])
        self.longest.copy_(state["longest"])
