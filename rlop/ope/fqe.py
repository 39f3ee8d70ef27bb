"""Fitted Q evaluation of many policies at once, on the run axis of the stacked networks.

Axes: P policies, W weightings of the episodes (all, without a fold, resampled), R = P W networks.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from torch import Tensor, nn

from rlop.config.schema import (
    Count,
    Discount,
    Fraction,
    Index,
    NonEmpty,
    Positive,
    option,
    options,
)
from rlop.data.dataset import Dataset
from rlop.data.returns import returns_to_go
from rlop.data.sampler import Streams, Table
from rlop.losses import td
from rlop.nets import Critics, QNetwork, make_torso, reset_runs
from rlop.ope.policies import AT_ONCE, Policies, answers
from rlop.optim.learner import Learner, step_together
from rlop.types import Batch, InputError, Spec


@options
class FQEOptions:
    """Options of fitted Q evaluation."""

    gamma: Discount = option(0.99, "discount of the value that is estimated")
    steps: Count = option(10_000, "gradient steps")
    batch_size: Count = option(256, "transitions of a step, the same for every policy")
    hidden: Annotated[tuple[Count, ...], NonEmpty()] = option((256, 256), "widths of the networks")
    layer_norm: bool = option(False, "normalize before each activation")
    lr: Positive = option(3e-4, "learning rate of Adam")
    tau: Fraction = option(0.005, "weight of the new parameters in each step of the target network")
    seed: Index = option(0, "of networks, minibatches and resampling")


class FittedQ:
    """Q of P policies, each fitted under W weightings of the episodes.

    Made by `fit_q`. Values are in the units of the data's rewards; those of a network that diverged
    are NaN.

    Args:
        network: with R = P W runs, the policies' runs one after another.
        spec: of the data.
        weightings: W.
        scale: what values of the network are multiplied with.
        active: which runs stayed finite, `[R]` bool.
    """

    def __init__(
        self, network: nn.Module, spec: Spec, weightings: int, scale: float, active: Tensor
    ) -> None:
        self.network = network
        self.spec = spec
        self.weightings = weightings
        self.scale = scale
        self.active = active

    def taken(self, obs: np.ndarray, action: np.ndarray) -> np.ndarray:
        """Return Q(s, a) of given actions, `[P, W, n]` float64.

        Args:
            obs: `[n, *obs_shape]`.
            action: `[n]`, or `[n, m]`.
        """
        if self.spec.n_actions is None:
            shared = np.broadcast_to(action, (self._policies, *action.shape))
        else:
            hot = np.eye(self.spec.n_actions, dtype=np.float32)[action]
            shared = np.broadcast_to(hot, (self._policies, *hot.shape))
        return self.values(obs, shared)

    @torch.no_grad()
    def values(self, obs: np.ndarray, decisions: np.ndarray) -> np.ndarray:
        """Return V(s), the value of what each policy does, `[P, W, n]` float64.

        Args:
            obs: `[n, *obs_shape]`.
            decisions: of each policy there, see `rlop.ope.policies.answers`.
        """
        parts = []
        for start in range(0, len(obs), AT_ONCE):
            rows = slice(start, start + AT_ONCE)
            given = torch.from_numpy(np.array(obs[rows])).to(self.active.device)
            done = torch.from_numpy(np.array(decisions[:, rows])).to(self.active.device)
            expanded = given.expand(len(self.active), *given.shape)
            chosen = done.repeat_interleave(self.weightings, 0)
            parts.append(value_of(self.network, expanded, chosen))
        value = torch.cat(parts, 1).double() * self.scale
        value[~self.active] = torch.nan
        return value.unflatten(0, (-1, self.weightings)).cpu().numpy()

    @property
    def _policies(self) -> int:
        return len(self.active) // self.weightings


def fit_q(
    policies: Policies,
    data: Dataset,
    options: FQEOptions,
    weights: np.ndarray | None = None,
    device: torch.device | str = "cpu",
) -> FittedQ:
    """Fit Q of every policy to the data by temporal differences with a lagging target network.

        Q <- argmin_Q  sum_i w_i (Q(s_i, a_i) - r_i - gamma V_target(s'_i))^2
        V(s) = sum_a pi(a | s) Q(s, a),  or Q(s, pi(s)) of continuous actions

    All networks take one step together. They see the same transitions, and under the same
    weighting start from the same parameters, so that policies are compared, not draws. Rewards are
    divided by the largest return of the data, and values multiplied with it.

    Args:
        policies: the P policies.
        data: with one-step rows.
        options: of the fit.
        weights: how much each episode counts, `[W, episodes]`; None for all of them alike, W = 1.
        device: where it is computed.
    Raises:
        InputError: rows of several steps, actions of another kind, or answers of policies that do
            not fit.
    Reference: Le, Voloshin and Yue, "Batch Policy Learning under Constraints", ICML 2019,
        arXiv:1903.08738, algorithm 3.
    Differs from: it, which fits every iterate to the end; here the target moves a little at each
        step, as in Fu et al., "Benchmarks for Deep Off-Policy Evaluation", ICLR 2021,
        arXiv:2103.16596.
    """
    check_data(data)
    if weights is None:
        weights = np.ones((1, data.n_episodes))
    # A terminal row has no next state: whatever is answered there, targets mask.
    following = torch.from_numpy(answers(policies, data.next_obs, data.spec)).to(device)
    scale = largest_return(data, options.gamma)

    count, weightings = len(following), len(weights)
    seeds = np.tile(options.seed + np.arange(weightings), count).tolist()
    network = make_network(data.spec, options, seeds).to(device)
    per_run = torch.ones(count * weightings, device=device)
    learner = Learner(network, lr=options.lr * per_run, tau=options.tau * per_run)
    gamma = options.gamma * per_run

    table = Table(data.columns(), device)
    episode = torch.from_numpy(np.repeat(np.arange(data.n_episodes), data.episode_lengths()))
    weight = torch.from_numpy(weights).float().to(device)[:, episode.to(device)]  # [W, N]
    streams = Streams([options.seed], options.batch_size, len(data), {}, device)

    for _ in range(options.steps):
        rows, _ = streams.next()  # [1, B]
        batch = for_all(table.gather(rows), count * weightings)
        decisions = following[:, rows[0]].repeat_interleave(weightings, 0)
        error = td_errors(learner, batch, decisions, gamma, scale)
        loss = (weight[:, rows[0]].repeat(count, 1) * td.mse(error)).mean(-1)
        step_together([(learner, loss)])
        learner.update_target()
    return FittedQ(learner.target, data.spec, weightings, scale, learner.active)


def td_errors(
    learner: Learner, batch: Batch, decisions: Tensor, gamma: Tensor, scale: float
) -> Tensor:
    """Return Q(s, a) - r / scale - gamma V_target(s'), `[R, B]`; the target has no gradient.

    Args:
        learner: of the networks.
        batch: `[R, B, ...]`.
        decisions: of the policies at s', `[R, B, A]` probabilities or `[R, B, m]` actions.
        gamma: `[R]`.
        scale: of rewards.
    """
    with torch.no_grad():
        next_value = value_of(learner.target, batch.next_obs, decisions)
    reward = batch.reward / scale
    target = td.td_target(reward, next_value, batch.terminated, batch.discount, gamma)

    if isinstance(learner.online, Critics):
        q = learner.online(batch.obs, batch.action)[1].squeeze(1)
    else:
        q = td.select(learner.online(batch.obs)[1], batch.action)
    return q - target


def value_of(network: nn.Module, obs: Tensor, decisions: Tensor) -> Tensor:
    """Return the values of decisions, `[R, n]`.

    Args:
        network: with R runs.
        obs: `[R, n, *obs_shape]`.
        decisions: `[R, n, A]` probabilities or `[R, n, m]` actions.
    """
    if isinstance(network, Critics):
        return network(obs, decisions)[1].squeeze(1)
    return (network(obs)[1] * decisions).sum(-1)


def make_network(spec: Spec, options: FQEOptions, seeds: list[int]) -> nn.Module:
    """Build networks that value actions, one for each seed, drawn from it."""
    runs, hidden, norm = len(seeds), options.hidden, options.layer_norm
    if spec.n_actions is not None:
        torso = make_torso(spec, runs, "auto", hidden, "relu", norm)
        network: nn.Module = QNetwork(torso, spec.n_actions, runs)
    else:
        size = int(np.prod(spec.obs_shape))
        network = Critics(size, spec.action_shape[0], (runs, 1), hidden, layer_norm=norm)
    reset_runs(network, seeds)
    return network


def for_all(batch: Batch, runs: int) -> Batch:
    """Show one minibatch `[1, B, ...]` to all runs, without a copy."""
    rows = batch._asdict()
    extra = rows.pop("extra")
    shared = {name: column.expand(runs, *column.shape[1:]) for name, column in rows.items()}
    return Batch(**shared, extra=extra)


def check_data(data: Dataset) -> None:
    """Raise InputError unless rows are single steps with actions that networks can read."""
    if data.discount is not None:
        raise InputError(
            f"{data.name}: policies are valued on one-step rows; call it before n_step"
        )
    if data.spec.n_actions is None and len(data.spec.action_shape) != 1:
        raise InputError(
            f"{data.name}: expected discrete actions or actions of shape (m,), found "
            f"{data.spec.action_shape}"
        )


def largest_return(data: Dataset, gamma: float) -> float:
    """Return the largest absolute discounted return in the data; 1 if all are 0."""
    largest = float(np.abs(returns_to_go(data.reward, data.end, gamma)).max())
    return largest if largest > 0 else 1.0
