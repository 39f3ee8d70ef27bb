"""The contract of an agent, and the base that holds what every agent shares.

An agent is R runs of one algorithm (axis R: seeds x hyper-parameter values). The training loop, the
evaluator, the probes, the checkpoint and the report use only the members of an agent listed here.
A new agent is a subclass that names its options in `Config` and writes `make_learners`, `losses`,
`act`, `features` and `head_weight`.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Self, TypeAlias

import torch
from torch import Tensor, nn

from rlop.agent_checks import check_drawn, check_losses, check_noise, memory_named, usable_device
from rlop.agent_runs import run_axis
from rlop.config.checks import within
from rlop.config.schema import build, with_preset
from rlop.data.dataset import Dataset
from rlop.deploy.card import about_run
from rlop.deploy.policy import Policy
from rlop.deploy.spaces import adapter_for
from rlop.envs.given import Given
from rlop.envs.spaces import Space
from rlop.losses import td
from rlop.losses.noise import BootstrapConfig, noisy_target
from rlop.optim import Adam, optimizer_maker, optimizer_options
from rlop.optim.choice import OptimizerConfig
from rlop.optim.learner import Learner, step_together
from rlop.regularizers.base import head_weight, without_terms
from rlop.regularizers.penalties import Penalties
from rlop.types import Batch, Metrics, Spec, TDContext

Noise: TypeAlias = dict[str, Tensor]  # name -> [R, *shape], the random numbers of one update
# name -> (kind, shape); the kind is "uniform", in [0, 1), or "normal"
NoiseShapes: TypeAlias = dict[str, tuple[str, tuple[int, ...]]]
Losses: TypeAlias = dict[str, Tensor]  # learner -> [R]


class Agent(ABC):
    """R runs of one offline algorithm.

    Args:
        spec: of the data set, `data.spec`.
        seeds: how many, or which; every combination of swept values is run with each.
        variants: name -> {hyper-parameter: value}, as in
            `{"cql": {}, "dr3": {"regularizers.dr3": 0.03}}`.
        device: where parameters and data live.
        options: fields of `Config`.
    Attributes:
        config: an instance of `Config`.
        runs: the R runs: seeds, values, labels.
        hyper: hyper-parameter -> `[R]`, for every option declared `Sweep[...]`, also nested ones
            (`target_noise.scale`).
        learners: name -> network with its optimizer and target network; the first one is `main`.
        penalties: the regularizers of the main network, with their coefficients.
        noise: kinds and shapes of the random numbers that one update takes; the loop draws them.
        batch_size: transitions in a minibatch.
        activation: name of the activation that makes the features; that of the main network's
            `torso`, where it has one.
    Raises:
        InputError: for unknown options, wrong types, impossible values, or data that the algorithm
            cannot use.
    """

    Config: ClassVar[type[Any]]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # name -> options
    # Further learners whose gradient norm is logged, as `grad/norm_<name>`.
    logged_norms: ClassVar[tuple[str, ...]] = ()
    # Learners that step in every `policy_period`-th update only; partial updates leave them out.
    delayed: ClassVar[tuple[str, ...]] = ()
    policy_period: int = 1
    activation: str = "relu"

    def __init__(
        self,
        spec: Spec,
        *,
        seeds: int | Sequence[int] = 1,
        variants: Mapping[str, Mapping[str, float]] | None = None,
        device: torch.device | str = "cpu",
        **options: Any,
    ) -> None:
        options = with_preset(options, self.presets)
        self.config = build(self.Config, options, where="agent")
        self.spec = spec
        self.seeds = seeds
        self.variants = variants
        self.device = usable_device(device)
        self.batch_size: int = self.config.batch_size

        with within("agent"):
            self._make_runs()
        self.check()
        with memory_named(f"{self.name}: its networks do not fit into memory"):
            self.learners = self.make_learners()
        check_drawn(self.name, {name: part.online for name, part in self.learners.items()})
        self.noise = self.make_noise()
        check_noise(self.name, self.noise)

    def _make_runs(self) -> None:
        """Expand the configuration along the run axis, and make penalties and projections."""
        axis = run_axis(self.config, self.seeds, self.variants)
        self.runs, self.nested = axis.runs, axis.nested

        numbers = {name: self.runs.tensor(name, self.device) for name in self.runs.values}
        coefs = {name: numbers.pop(f"regularizers.{name}") for name in axis.regularizers}
        radii = {name: numbers.pop(f"projections.{name}") for name in axis.projections}

        self.hyper = numbers
        self.penalties = Penalties(axis.regularizers, coefs)
        self._projections = [(part, radii[name]) for name, part in axis.projections.items()]

    @property
    def name(self) -> str:
        """Name of the class."""
        return type(self).__name__

    # --- what an agent writes

    def check(self) -> None:  # noqa: B027  # most agents have nothing to check
        """Raise InputError when configuration and data set do not fit.

        Called before any network is built.
        """

    @classmethod
    def shared(cls, config: Any) -> tuple[str, ...]:
        """Return the hyper-parameters that must be the same in all runs of a configuration."""
        return ()

    @abstractmethod
    def make_learners(self) -> dict[str, Learner]:
        """Build the networks and return their learners, the main one (see `main_learner`) first."""

    def make_noise(self) -> NoiseShapes:
        """Return kinds and shapes of the random numbers that one update takes.

        An agent with random numbers of its own returns them `| super().make_noise()`, which holds
        those of the option `target_noise`. Shapes are without the run axis.
        """
        config = self.config
        if isinstance(config, BootstrapConfig) and config.target_noise:
            return config.target_noise.draws(self.batch_size)
        return {}

    def prepare(self, data: Dataset) -> Dataset:
        """Return the data set with the columns that updates read.

        Called for every data set that is trained on, before its first update.

        Raises:
            InputError: for data that the algorithm cannot use.
        """
        self.main.allot(*self.head_weight.shape[1:-2], len(data))
        return data

    @abstractmethod
    def losses(self, batch: Batch, noise: Noise) -> tuple[Losses, Metrics]:
        """Return the losses, by learner, and the metrics of one update, `[R]` each.

        Every learner needs a loss; two may share one. All are computed before any step, and each
        moves only the learner of its name: nothing need be detached for the others' sake. A learner
        that shall wait gets its loss times 0 (Adam then still decays its moments), or is `delayed`.
        """

    def partial_losses(self, batch: Batch, noise: Noise) -> tuple[Losses, Metrics]:
        """Return what `losses` does, without the losses of `delayed` learners and their metrics."""
        return self.losses(batch, noise)

    @abstractmethod
    def act(self, obs: Tensor) -> Tensor:
        """Return greedy actions for observations `[R, B, *obs_shape]`.

        Int64 `[R, B]` of discrete actions, or `[R, B, m]` in [-1, 1].
        """

    def encode(self, obs: Tensor) -> Tensor:
        """Return what the main network reads of observations `[R, B, *obs_shape]`."""
        return obs

    @abstractmethod
    def features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return phi(s, a) and phi(s', a') of the main network, without gradient.

        `[R, B, D]` each, or `[R, E, B, D]` for E critics.
        """

    @property
    @abstractmethod
    def head_weight(self) -> Tensor:
        """Weight of the linear head on those features, `[R, A, D]` or `[R, E, A, D]`."""

    # --- what all agents share

    @property
    def main(self) -> Learner:
        """The learner with the features; penalties, projections and resets act on it."""
        return next(iter(self.learners.values()))

    @property
    def target_period(self) -> int:
        """Gradient steps between calls of `update_target`."""
        config = self.config
        return config.target_period if isinstance(config, BootstrapConfig) else 1

    @property
    def active(self) -> Tensor:
        """Which runs are still trained, `[R]` bool.

        A run that diverges is frozen and turns False.
        """
        return self.main.active

    def one_run(self, run: int) -> Self:
        """Return one run alone, R = 1: a copy that acts, values and represents, but cannot train.

        An agent that keeps tensors `[R, ...]` outside of its learners selects the run's here.

        Args:
            run: its index.
        """
        alone = copy.copy(self)
        alone.runs = self.runs.one(run)
        alone.learners = {name: part.one_run(run) for name, part in self.learners.items()}
        alone.hyper = {name: value[run : run + 1] for name, value in self.hyper.items()}
        alone.penalties, alone._projections = Penalties({}, {}), []
        alone._parameters, alone._initial = {}, {}
        return alone

    def policy(
        self,
        run: int | str | None = None,
        *,
        env: Given | None = None,
        observation_space: Space | None = None,
        action_space: Space | None = None,
        epsilon: float = 0.0,
    ) -> Policy:
        """Return a copy of one run as a policy, in the environment's own units.

        Args:
            run: its index or label; None is the only one there is.
            env: see `rlop.load_policy`, also for the other arguments.
            observation_space: of the environment.
            action_space: of the environment.
            epsilon: probability of a random action.
        Raises:
            InputError: as `rlop.load_policy`.
        """
        index = self.runs.find(run)
        adapter = adapter_for(self.spec, env, observation_space, action_space)
        about = about_run(self.name, self.runs, index, self.config)
        policy = Policy(self.one_run(index), adapter, epsilon=epsilon, about=about)
        policy.try_out()
        return policy

    def predict(self, obs: Any, run: int | str | None = None) -> Any:
        """Return the actions of one run, `self.policy(run)(obs)`; make the policy once for many."""
        return self.policy(run)(obs)

    def update(self, batch: Batch, noise: Noise) -> Metrics:
        """Make one gradient step of every run.

        The loop moves the target network every `target_period` steps.
        """
        return self._step(batch, noise, is_whole=True)

    def partial_update(self, batch: Batch, noise: Noise) -> Metrics:
        """Make one gradient step of every run without the `delayed` learners."""
        return self._step(batch, noise, is_whole=False)

    def _step(self, batch: Batch, noise: Noise, is_whole: bool) -> Metrics:
        batch = self.main.relaxed(batch)
        losses, metrics = (self.losses if is_whole else self.partial_losses)(batch, noise)
        waiting = () if is_whole else self.delayed
        stepping = [name for name in self.learners if name not in waiting]
        check_losses(self.name, losses, stepping, len(self.runs))
        steps = [(self.learners[name], loss) for name, loss in losses.items()]
        norms = step_together(steps, batch, [self.learners[name] for name in waiting])

        norm_of = dict(zip(losses, norms))
        metrics = {name: value.detach() for name, value in metrics.items()}
        metrics["grad/norm"] = norm_of[next(iter(self.learners))]
        metrics |= {f"grad/norm_{key}": norm_of[key] for key in self.logged_norms if key in norm_of}
        if self.main.slacks is not None:
            metrics["slack/abs"] = batch.extra["slack"].detach().abs().flatten(1).mean(1)
        return metrics

    def update_target(self) -> None:
        """Move the target networks; learners without one are left alone."""
        for learner in self.learners.values():
            learner.update_target()

    def bootstrap(self, batch: Batch, next_value: Tensor, noise: Noise) -> Tensor:
        """Return the TD target of next values `[R, B]`, with the option `target_noise`.

        Without the option also of particles, `[R, B, J]`.
        """
        gamma = self.hyper["gamma"]
        target = td.td_target(batch.reward, next_value, batch.terminated, batch.discount, gamma)
        return noisy_target(target, noise, self.config.target_noise, self.hyper, self.main.steps)

    def context(self, batch: Batch, **values: Tensor | None) -> TDContext:
        """Return what regularizers may look at in one update.

        Args:
            batch: of the update.
            values: the fields of `TDContext` that the agent computes. Without `q_values` the
                data's action is the only candidate.
        """
        q = values.get("q")
        if q is not None:
            values.setdefault("q_values", q.unsqueeze(-1))
        discount = self.hyper["gamma"].unsqueeze(-1) * batch.discount
        return TDContext(
            action=batch.action,
            terminated=batch.terminated,
            index=batch.index,
            reward=batch.reward,
            discount=discount,
            parameters=self._parameters,
            initial=self._initial,
            **values,  # type: ignore[arg-type]  # some fields may be None, others not
        )

    def main_learner(
        self,
        network: nn.Module,
        *,
        tau: Tensor | None = None,
        bootstraps: bool = True,
        **constants: str,
    ) -> Learner:
        """Attach penalties and projections to the main network, and return its learner.

        The learning rate is `lr`; the optimizer is the one that the configuration names.

        Args:
            network: parameters `[R, ...]` or `[R, E, ...]`; its linear head is `head`.
            tau: `[R]` weights of the target update; None for no target network.
            bootstraps: whether targets hold the value of the next state.
            constants: further arguments of the optimizer, such as the `form` of RMD.
        """
        config: OptimizerConfig = self.config
        chosen = optimizer_options(config.optimizer)
        make = optimizer_maker(
            chosen, self.hyper, betas=config.adam_betas, eps=config.adam_eps, **constants
        )
        torso = getattr(network, "torso", None)
        self.activation = str(getattr(torso, "activation", self.activation))
        self.penalties.attach(network, self.activation, self.runs.seeds, bootstraps)
        network = network.to(self.device)

        # Run and critic axes precede a layer's own two: each neuron of each critic has a ball.
        lead = head_weight(network).ndim - 2
        parameters = dict(network.named_parameters())
        projections = [
            (part.attach(parameters, lead), radius) for part, radius in self._projections
        ]
        learner = Learner(
            network,
            lr=self.hyper["lr"],
            tau=tau,
            make=make,
            max_grad_norm=config.max_grad_norm,
            projections=projections,
        )

        # What regularizers keep in the network is not theirs to penalize.
        self._parameters = without_terms(learner.parameters)
        self._initial = without_terms(learner.initial)
        return learner

    def adam_learner(self, network: nn.Module, lr: Tensor, *, tau: Tensor | None = None) -> Learner:
        """Return the learner of another network: Adam, without penalties and projections.

        Args:
            network: parameters `[R, ...]`.
            lr: `[R]`.
            tau: `[R]` weights of the target update; None for no target network.
        """
        config: OptimizerConfig = self.config
        make = partial(Adam, betas=config.adam_betas, eps=config.adam_eps)
        network = network.to(self.device)
        return Learner(network, lr=lr, tau=tau, make=make, max_grad_norm=config.max_grad_norm)

    def state_dict(self) -> dict[str, Any]:
        """Return all that training changes."""
        return {name: learner.state_dict() for name, learner in self.learners.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for name, learner in self.learners.items():
            learner.load_state_dict(state[name])
