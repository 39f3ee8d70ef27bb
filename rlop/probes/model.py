"""What the heavier probes ask of one of our agents, the same for discrete and continuous actions."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from rlop.nets.qnetwork import preprocess
from rlop.probes.gradients import Values, gradient_blocks, gram
from rlop.probes.lipschitz import StateValues
from rlop.types import Batch, InputError


class Subject:
    """An agent with action values on a fixed batch; everything is computed once, when something asks for it.

    Leading axes of values and parameters are `[R]`, or `[R, E]` with critics.

    Args:
        agent: with `q_values`, `online`, `target` and `learner` as `DQN` has, or `critics`, `target`, `policy` and
            `learners["critics"]` as `CQL` has.
        batch: `[R, B, ...]`.
        size: rows that gradients with respect to the parameters are taken of, see `rows`.
    Raises:
        InputError: for an agent without action values.
    """

    def __init__(self, agent: Any, batch: Batch, size: int) -> None:
        self.agent, self.batch, self.size = agent, batch, size
        self.discrete = not hasattr(agent, "critics")
        if self.discrete and not hasattr(agent, "q_values"):
            raise InputError(f"{type(agent).__name__}: expected an agent with action values")
        self.network = agent.online if self.discrete else agent.critics
        self.learner = agent.main
        self.parameters = {name: p.detach() for name, p in self.learner.parameters.items()}

    def q(self, parameters: dict[str, Tensor], obs: Tensor, action: Tensor) -> Tensor:
        """Q(s, a) by the online network with these parameters, `[R, n]` or `[R, E, n]`."""
        if self.discrete:
            q_values = self.agent.action_values(
                functional_call(self.network, parameters, (obs,))[1]
            )
            return q_values.gather(-1, action.unsqueeze(-1)).squeeze(-1)
        return functional_call(self.network, parameters, (obs, action))[1]

    def per_run(self, value: Tensor) -> Tensor:
        """Mean over the axes behind R: critics, layers, states."""
        return value.double().reshape(len(value), -1).mean(1)

    def spread(self, value: Tensor) -> Tensor:
        """`[R]` or `[R, n]` with an axis of one for the critics, where there are any."""
        return value if self.discrete else value.unsqueeze(1)

    def spaced(self, count: int) -> Tensor:
        """At most so many rows at equal distances in the batch, `[count]`: neighbours may be of one episode."""
        total = self.batch.reward.shape[1]
        count = min(count, total)
        return torch.arange(count, device=self.agent.device) * total // count

    @cached_property
    def rows(self) -> Tensor:
        """At most `size` rows with different (s, a): a repeated one would make every kernel singular."""
        candidates = self.spaced(8 * self.size)
        pairs = [
            x[0, candidates].flatten(1).double()
            for x in (self.batch.obs, self.batch.action.unsqueeze(-1))
        ]
        distinct, which = torch.cat(pairs, dim=1).unique(dim=0, return_inverse=True)
        beyond = torch.full((len(distinct),), len(which), device=which.device)
        first = beyond.scatter_reduce(
            0, which, torch.arange(len(which), device=which.device), "amin"
        )
        return candidates[first.sort().values[: self.size]]

    @cached_property
    def gamma(self) -> Tensor:
        """Discount factor, `[R]` or `[R, 1]`."""
        return self.spread(self.agent.runs.tensor("gamma", self.agent.device).double())

    @cached_property
    def carries_over(self) -> Tensor:
        """What the discount of the next value is multiplied with, `[R, B]`: 0 where terminal."""
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
        return self.agent.features(self.batch)[0].double()

    @cached_property
    def target(self) -> Tensor:
        """Greedy TD targets by the target network, `[R, B]`: of several critics the lowest value."""
        with torch.no_grad():
            if self.discrete:
                value = self.agent.target(self.batch.next_obs)[1].amax(-1)
            else:
                value = self.agent.target(self.batch.next_obs, self.next_action)[1].amin(1)
        gamma = self.agent.runs.tensor("gamma", self.agent.device).unsqueeze(-1)
        return self.batch.reward + gamma * self.carries_over * value

    def values(self, following: bool = False) -> Values:
        """Parameters to Q of `rows`: at (s, a), or at (s', a') with what it carries over."""
        rows = self.rows
        if not following:
            return lambda p: self.q(p, self.batch.obs[:, rows], self.batch.action[:, rows])
        scale = self.spread(self.carries_over[:, rows])
        return lambda p: scale * self.q(p, self.batch.next_obs[:, rows], self.next_action[:, rows])

    @cached_property
    def grams(self) -> tuple[Tensor, Tensor, Tensor]:
        """K = A A^T and K' = A B^T of `rows`, and K at initialisation."""
        with torch.no_grad():
            a = gradient_blocks(self.values(), self.parameters)
            data = gram(a, a)
            cross = gram(a, gradient_blocks(self.values(following=True), self.parameters))
            start = gradient_blocks(self.values(), self.learner.initial)
            return data, cross, gram(start, start)

    @cached_property
    def weights(self) -> list[Tensor]:
        """Matrices of the network from the first that all later ones follow, input side first."""
        lead = 1 if self.discrete else 2
        found: list[Tensor] = []
        for weight in reversed([p for p in self.parameters.values() if p.ndim == lead + 2]):
            if found and weight.shape[-2] != found[0].shape[-1]:
                break
            found.insert(0, weight)
        return found

    def states(self, rows: Tensor) -> Tensor:
        """Observations as the network reads them, flattened to `[R, n, d]`."""
        return preprocess(self.batch.obs[:, rows]).flatten(2)

    def state_values(self, rows: Tensor) -> StateValues:
        """Flattened states to values `[R, n]`: of the greedy action, or of these rows' own, mean over critics."""
        if self.discrete:
            return lambda states: self.action_values(states).amax(-1)
        action = self.batch.action[:, rows]
        return lambda states: self.network(self._unflatten(states), action)[1].mean(1)

    def action_values(self, states: Tensor) -> Tensor:
        """Values of every action at flattened states, `[R, n, A]`."""
        return self.network(self._unflatten(states))[1]

    def _unflatten(self, states: Tensor) -> Tensor:
        return states.unflatten(2, self.batch.obs.shape[2:])

    @cached_property
    def group(self) -> Tensor:
        """`[R]`: equal for runs that differ in their seed alone."""
        told = [{k: v for k, v in run.items() if k != "seed"} for run in self.agent.runs.hparams]
        return torch.tensor([told.index(run) for run in told], device=self.agent.device)
