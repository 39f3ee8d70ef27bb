"""Neural TD learning: policy evaluation with a two-layer network, as in its theory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from rlop.agent import Agent, Losses, Noise
from rlop.config.schema import Count, Discount, Positive, Sweep, option, options
from rlop.data.dataset import Dataset
from rlop.losses import td
from rlop.losses.noise import BootstrapConfig, TargetNoise
from rlop.nets import preprocess, reset_runs
from rlop.nets.linear import undrawn
from rlop.optim import SGD
from rlop.optim.learner import Learner
from rlop.projections import make_projection
from rlop.runs import per_run
from rlop.types import Batch, InputError, Metrics

CHUNK = 65_536  # observations processed at a time, to bound memory


@options
class NeuralTDConfig(BootstrapConfig):
    """Options of `NeuralTD`."""

    swept: ClassVar[tuple[str, ...]] = ("lr", "gamma", "radius")

    projection: Literal["free", "max_norm", "frobenius"] = option(
        "max_norm", "constraint on the weights after each step"
    )
    radius: Sweep[Positive] = option(
        30.0, "R: max_norm keeps each neuron within R/sqrt(m) of its start, frobenius all within R"
    )
    lr: Sweep[Positive] = option(0.1, "learning rate")
    gamma: Sweep[Discount] = option(0.99, "discount factor")
    width: Count = option(256, "neurons m, an even number")
    batch_size: Count = option(32, "transitions in a minibatch of each run; 1 in the paper")
    bias: bool = option(False, "one more input that is constant")
    scale_obs: bool = option(
        True, "divide observations by the longest one, for the theory has |x| <= 1"
    )
    target_noise: TargetNoise | None = option(
        None, "label noise, {scale: 0.1, kind: gaussian | sign, off_after: step}"
    )

    def __post_init__(self) -> None:
        if self.width % 2:
            raise InputError(
                f"width = {self.width}: expected an even number, for neurons start in pairs"
            )


class TwoLayer(nn.Module):
    """V(x) = sum_i a_i relu(w_i . x) / sqrt(m) for R runs, trained in w only.

    The neurons i and i + m/2 start with the same weights, standard normal, and opposite signs a, so
    V is 0 at the start.

    Args:
        runs: R.
        size: number of inputs.
        width: m, even.
    """

    def __init__(self, runs: int, size: int, width: int) -> None:
        super().__init__()
        self.weight = undrawn(runs, width, size)
        self.register_buffer("signs", torch.empty(runs, width))
        self.signs: Tensor

    def reset_run(self, run: int, generator: Generator) -> None:
        """Draw the weights and signs of one run."""
        half = self.weight.shape[1] // 2
        signs = 2.0 * torch.randint(2, (half,), generator=generator) - 1

        normal = torch.randn(half, self.weight.shape[2], generator=generator)

        self.signs[run] = torch.cat([signs, -signs])
        self.weight.data[run] = normal.repeat(2, 1)

    def features(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return relu(w_i . x) / sqrt(m), `[R, B, d]` to `[R, B, m]`.

        Args:
            x: inputs.
            weight: `[R, m, d]` in place of the network's own.
        """
        weight = self.weight if weight is None else weight
        return F.relu(x @ weight.mT) / math.sqrt(weight.shape[1])

    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return V(x), `[R, B, d]` to `[R, B]`."""
        return (self.features(x, weight) * self.signs.unsqueeze(1)).sum(-1)


class NeuralTD(Agent):
    """Estimate the value of the policy that made the data, by semi-gradient TD(0).

        delta = r + gamma (1 - terminated) V(s'; W) - V(s; W)
        W <- W + lr mean_B delta grad V(s; W);  W <- projection of W
        W_mean <- mean of all W so far

    in this order; the estimate is V(s; W_mean). There is no target network. `free` does not
    project, `max_norm` keeps every neuron in a ball of radius R/sqrt(m) around its start,
    `frobenius` the whole matrix in one of radius R. With |x| <= 1 either constraint gives |V| <= R.
    R must exceed the norm of the true value function: in a free run the metric `weights/travel`,
    sqrt(m) max_i |w_i - w_i(0)|, shows the radius that suffices, which hardly depends on the width.

    Args: as in `rlop.agent.Agent`; `options` are the fields of `NeuralTDConfig`. Actions are not
        read.
    Raises:
        InputError: for unknown options, wrong types or impossible values.
    Reference: Cayci, Satpathi, He and Srikant, IEEE TAC 2023, arXiv:2103.01391 (free and max_norm);
        Cai et al., NeurIPS 2019, arXiv:1905.10027 (frobenius).
    Differs from: both, in minibatches from a fixed data set, where they draw single transitions;
        and from the second in the initial weights, which are standard normal here in every mode.
    """

    Config = NeuralTDConfig
    config: NeuralTDConfig

    def make_learners(self) -> dict[str, Learner]:
        """Build the two-layer network of every run from its seed."""
        config = self.config
        size = max(1, math.prod(self.spec.obs_shape)) + config.bias

        network = TwoLayer(len(self.runs), size, config.width)
        reset_runs(network, self.runs.seeds)
        network = network.to(self.device)

        projections = []
        if config.projection != "free":
            projection = make_projection(config.projection, parametrization="ntk")
            attached = projection.attach(dict(network.named_parameters()), lead=1)
            projections = [(attached, self.hyper["radius"])]

        learner = Learner(network, lr=self.hyper["lr"], make=SGD, projections=projections)

        self.mean = network.weight.detach().clone()  # of the iterates, [R, m, d]
        self.longest = torch.ones((), device=self.device)  # observations are divided by it
        return {"value": learner}

    @property
    def online(self) -> TwoLayer:
        """The network, with the last weights."""
        return cast(TwoLayer, self.main.online)

    def prepare(self, data: Dataset) -> Dataset:
        """Return the data set unchanged.

        Before the first update, also measure its longest observation.
        """
        if self.config.scale_obs and not self.main.steps:
            longest = max(self.longest_of(data.obs), self.longest_of(data.next_obs))
            self.longest.fill_(longest)
        return data

    def longest_of(self, obs: np.ndarray) -> float:
        """Return the largest norm of observations `[N, *obs_shape]`; 1 if all are 0.

        The constant input is included.
        """
        longest = 0.0
        for start in range(0, len(obs), CHUNK):
            part = torch.from_numpy(obs[start : start + CHUNK])[None]
            longest = max(longest, float(self.flat(part).norm(dim=-1).max()))
        return longest or 1.0

    def flat(self, obs: Tensor) -> Tensor:
        """Flatten observations `[R, B, *obs_shape]` to `[R, B, d]`, with the constant input."""
        x = preprocess(obs).flatten(2)
        return F.pad(x, (0, 1), value=1.0) if self.config.bias else x

    def inputs(self, obs: Tensor) -> Tensor:
        """Return what the network reads, `[R, B, d]`."""
        return self.flat(obs) / self.longest

    def losses(self, batch: Batch, noise: Noise) -> tuple[Losses, Metrics]:
        """Return half the mean squared TD error `[R]`.

        Gradient flows through V(s) only.
        """
        value = self.online(self.inputs(batch.obs))
        with torch.no_grad():
            next_value = self.online(self.inputs(batch.next_obs))

        target = self.bootstrap(batch, next_value, noise)
        loss = td.mse(value - target).mean(-1) / 2

        metrics = {
            "loss/td": loss,
            "loss/total": loss,
            "q/data": value.mean(-1),
            "q/target": target.mean(-1),
        }
        return {"value": loss}, metrics

    def update(self, batch: Batch, noise: Noise) -> Metrics:
        """Take a gradient step, project onto the ball, and update the averaged weights."""
        metrics = super().update(batch, noise)

        self.average()
        metrics["weights/travel"] = self.travel()
        return metrics

    @torch.no_grad()
    def average(self) -> None:
        """W_mean <- (1 - 1/(t + 1)) W_mean + W/(t + 1) after t steps, counting the initial weights.

        Frozen runs keep their average.
        """
        weight = self.active / (self.main.steps + 1)
        self.mean.lerp_(self.online.weight, per_run(weight, self.mean))

    @torch.no_grad()
    def travel(self) -> Tensor:
        """Return sqrt(m) max_i |w_i - w_i(0)|, `[R]`.

        It is the smallest radius R whose balls hold every neuron.
        """
        moved = self.online.weight - self.main.initial["weight"]
        return math.sqrt(moved.shape[1]) * torch.linalg.vector_norm(moved, dim=-1).amax(-1)

    @torch.no_grad()
    def values(self, obs: Tensor, last: bool = False) -> Tensor:
        """Return V of observations, `[R, B, *obs_shape]` to `[R, B]`.

        Args:
            obs: observations.
            last: take the last weights in place of the averaged ones.
        """
        return self.online(self.inputs(obs), None if last else self.mean)

    def act(self, obs: Tensor) -> Tensor:
        """Raise InputError: a value function has no policy.

        Raises:
            InputError: always.
        """
        raise InputError(
            "NeuralTD: values the policy that made the data and has none to act by; "
            "set eval_every = 0"
        )

    def one_run(self, run: int) -> Self:
        """Return one run alone, with its averaged weights."""
        alone = super().one_run(run)
        alone.mean = self.mean[run : run + 1].clone()
        return alone

    @torch.no_grad()
    def features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return relu(W x)/sqrt(m) at s and s' under the last weights, `[R, B, m]` each."""
        features = self.online.features(self.inputs(batch.obs))
        return features, self.online.features(self.inputs(batch.next_obs))

    @property
    def head_weight(self) -> Tensor:
        """The fixed signs, `[R, 1, m]`."""
        return self.online.signs.unsqueeze(1)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that training changes."""
        return {**super().state_dict(), "mean": self.mean, "longest": self.longest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        self.mean.copy_(state["mean"])
        self.longest.copy_(state["longest"])
