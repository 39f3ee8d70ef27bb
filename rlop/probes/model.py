"""A view of an agent for the heavier probes, the same for discrete and continuous actions."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from rlop.nets.qnetwork import preprocess
from rlop.probes.gradients import Values, gradient_blocks, gram
from rlop.probes.lipschitz import StateValues
from rlop.runs import Runs
from rlop.types import Batch, InputError, Spec


class ValueLearner(Protocol):
    """The part of a learner that the heavier probes read; parameters are `[R, ...]`, by name."""

    @property
    def online(self) -> nn.Module:
        """Network that gives features and values."""
        ...

    @property
    def target(self) -> Any:
        """Target network; None without action values."""
        ...

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """Parameters of the online network."""
        ...

    @property
    def initial(self) -> Mapping[str, Tensor]:
        """The same before training."""
        ...


class ValueAgent(Protocol):
    """The part of an agent with action values that the heavier probes read."""

    spec: Spec
    runs: Runs
    device: torch.device

    @property
    def main(self) -> ValueLearner:
        """The learner whose network has the features."""
        ...

    def act(self, obs: Tensor) -> Tensor:
        """Return greedy actions, `[R, B]` or `[R, B, m]`, for observations `[R, B, *obs_shape]`."""
        ...

    def encode(self, obs: Tensor) -> Tensor:
        """Return what the main network reads of observations `[R, B, *obs_shape]`."""
        ...

    def features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return phi(s, a) and phi(s', a'), `[R, B, D]` or `[R, E, B, D]` each."""
        ...


class DiscreteValueAgent(ValueAgent, Protocol):
    """An agent whose network gives outputs for every action."""

    def action_values(self, outputs: Tensor) -> Tensor:
        """Return action values `[..., A]` from the network's outputs `[..., A K]`."""
        ...


def value_learner(agent: ValueAgent) -> ValueLearner:
    """Return the learner of an agent's action values.

    Args:
        agent: any agent.
    Raises:
        InputError: for an agent without them, which has no target network.
    """
    if agent.main.target is None:
        raise InputError(f"{type(agent).__name__}: expected an agent with action values")
    return agent.main


class AgentView:
    """An agent with action values on a fixed batch; every quantity is computed once, on first use.

    Leading axes of values and parameters are `[R]`, or `[R, E]` with critics.

    Args:
        agent: an agent with action values, for discrete or continuous actions.
        batch: `[R, B, ...]`.
        size: number of rows for gradients with respect to the parameters, see `rows`.
    Raises:
        InputError: for an agent without action values.
    """

    def __init__(
        self,
        agent: ValueAgent,
        batch: Batch,
        size: int,
    ) -> None:
        self.agent = agent
        self.batch = batch
        self.size = size
        self.discrete = agent.spec.n_actions is not None

        self.learner = value_learner(agent)
        self.network = self.learner.online
        self.parameters = {name: p.detach() for name, p in self.learner.parameters.items()}

    @property
    def n_actions(self) -> int:
        """Number A of discrete actions."""
        assert self.agent.spec.n_actions is not None
        return self.agent.spec.n_actions

    def action_values(self, outputs: Tensor) -> Tensor:
        """Return action values `[..., A]` from the outputs of a network with discrete actions."""
        return cast(DiscreteValueAgent, self.agent).action_values(outputs)

    def q(
        self,
        parameters: dict[str, Tensor],
        obs: Tensor,
        action: Tensor,
    ) -> Tensor:
        """Compute Q(s, a) by the online network with these parameters, `[R, n]` or `[R, E, n]`."""
        seen = self.agent.encode(obs)
        if not self.discrete:
            return functional_call(self.network, parameters, (seen, action))[1]

        outputs = functional_call(self.network, parameters, (seen,))[1]
        q_values = self.action_values(outputs)
        return q_values.gather(-1, action.unsqueeze(-1)).squeeze(-1)

    def per_run(self, value: Tensor) -> Tensor:
        """Average over the axes after R: critics, layers, states."""
        return value.double().reshape(len(value), -1).mean(1)

    def over_critics(self, value: Tensor) -> Tensor:
        """Add an axis of one for the critics to `[R]` or `[R, n]`, if the agent has any."""
        return value if self.discrete else value.unsqueeze(1)

    def like_features(self, value: Tensor) -> Tensor:
        """Repeat what every critic has in common, `[R, n]`, along the leading axes of features."""
        lead = self.features.shape[: self.lead]
        shape = (len(value), *[1] * (self.lead - 1), *value.shape[1:])
        return value.reshape(shape).expand(*lead, *value.shape[1:])

    def spaced(self, count: int) -> Tensor:
        """Return at most `count` evenly spaced rows of the batch.

        They are spaced because neighboring rows may be of one episode.

        Returns:
            Indices, `[count]`.
        """
        total = self.batch.reward.shape[1]
        count = min(count, total)
        return torch.arange(count, device=self.agent.device) * total // count

    @cached_property
    def rows(self) -> Tensor:
        """At most `size` rows with different (s, a): a repeated one makes every kernel singular."""
        candidates = self.spaced(8 * self.size)
        obs = self.batch.obs[0, candidates].flatten(1).double()
        action = self.batch.action[0, candidates].unsqueeze(-1).flatten(1).double()
        pairs = torch.cat([obs, action], dim=1)

        # The first candidate of every distinct pair.
        distinct, which = pairs.unique(dim=0, return_inverse=True)
        position = torch.arange(len(which), device=which.device)
        beyond = torch.full((len(distinct),), len(which), device=which.device)
        first = beyond.scatter_reduce(0, which, position, "amin")
        return candidates[first.sort().values[: self.size]]

    @cached_property
    def gamma(self) -> Tensor:
        """Discount factor, `[R]` or `[R, 1]`."""
        return self.over_critics(self.agent.runs.tensor("gamma", self.agent.device).double())

    @cached_property
    def continuation(self) -> Tensor:
        """Factor of gamma times the next value in the TD target, `[R, B]`: 0 where terminal."""
        return self.batch.discount * (1 - self.batch.terminated)

    @cached_property
    def next_action(self) -> Tensor:
        """Greedy actions at s'."""
        return self.agent.act(self.batch.next_obs)

    @cached_property
    def greedy(self) -> Tensor:
        """Greedy actions at s."""
        return self.agent.act(self.batch.obs)

    @cached_property
    def features(self) -> Tensor:
        """phi(s, a), `[R, B, D]` or `[R, E, B, D]`."""
        phi, _ = self.agent.features(self.batch)
        return phi.double()

    @property
    def lead(self) -> int:
        """Number of leading axes of features and parameters: runs, or runs and critics."""
        return self.features.ndim - 2

    @cached_property
    def target(self) -> Tensor:
        """Greedy TD targets by the target network, `[R, B]`; the lowest of several critics."""
        network: nn.Module = self.learner.target
        with torch.no_grad():
            seen = self.agent.encode(self.batch.next_obs)
            if self.discrete:
                value = self.action_values(network(seen)[1]).amax(-1)
            else:
                value = network(seen, self.next_action)[1].amin(1)

        gamma = self.agent.runs.tensor("gamma", self.agent.device).unsqueeze(-1)
        return self.batch.reward + gamma * self.continuation * value

    def values(self) -> Values:
        """Return a function from parameters to Q(s, a) at `rows`."""
        obs = self.batch.obs[:, self.rows]
        action = self.batch.action[:, self.rows]
        return lambda parameters: self.q(parameters, obs, action)

    def next_values(self) -> Values:
        """Return a function from parameters to Q(s', a') at `rows`, times `continuation`."""
        obs = self.batch.next_obs[:, self.rows]
        action = self.next_action[:, self.rows]
        scale = self.over_critics(self.continuation[:, self.rows])
        return lambda parameters: scale * self.q(parameters, obs, action)

    @cached_property
    def grams(self) -> tuple[Tensor, Tensor, Tensor]:
        """K = A A^T and K' = A B^T at `rows`, and K at initialization."""
        with torch.no_grad():
            a = gradient_blocks(self.values(), self.parameters)
            b = gradient_blocks(self.next_values(), self.parameters)
            start = gradient_blocks(self.values(), self.learner.initial)
            return gram(a, a), gram(a, b), gram(start, start)

    @cached_property
    def weights(self) -> list[Tensor]:
        """Matrices of the longest chain of layers that ends the network, input side first."""
        chain: list[Tensor] = []
        for weight in reversed(self.parameters.values()):
            if weight.ndim != self.lead + 2:
                continue
            if chain and weight.shape[-2] != chain[0].shape[-1]:
                break
            chain.insert(0, weight)
        return chain

    def states(self, rows: Tensor) -> Tensor:
        """Return observations as the network reads them, flattened to `[R, n, d]`."""
        return preprocess(self.batch.obs[:, rows]).flatten(2)

    def state_values(self, rows: Tensor) -> StateValues:
        """Return a function from flattened states to values `[R, n]`.

        With discrete actions the value of the greedy action, else of the action of these rows,
        averaged over critics.
        """
        if self.discrete:
            return lambda states: self.q_values(states).amax(-1)
        action = self.batch.action[:, rows]
        return lambda states: self.network(self._seen(states), action)[1].mean(1)

    def q_values(self, states: Tensor) -> Tensor:
        """Compute the values of every discrete action at flattened states, `[R, n, A]`."""
        return self.action_values(self.network(self._seen(states))[1])

    def _seen(self, states: Tensor) -> Tensor:
        return self.agent.encode(states.unflatten(2, self.batch.obs.shape[2:]))

    @cached_property
    def group(self) -> Tensor:
        """`[R]`: equal for runs that differ in their seed alone."""
        settings = []
        for hparams in self.agent.runs.hparams:
            settings.append({name: value for name, value in hparams.items() if name != "seed"})
        return torch.tensor([settings.index(s) for s in settings], device=self.agent.device)
