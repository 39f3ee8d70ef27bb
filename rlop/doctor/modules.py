"""Measure any `nn.Module` on a batch, or on a data set: what needs no training record of ours."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from rlop.config.checks import check_known
from rlop.data.dataset import Dataset
from rlop.data.sampler import probe_batch
from rlop.doctor.measures import (
    FRESH,
    REFIT_ROWS,
    Measured,
    as_measured,
    feature_changes,
    limit_of,
    refit_ratio,
    returns_at,
    value_measures,
)
from rlop.probes.hook import probe
from rlop.probes.unseen import at_bound
from rlop.types import Batch, InputError

SIZE = 2048  # transitions of a data set that are measured
GIVES = ("features", "q", "actions")


class Inputs(NamedTuple):
    """Arguments of a network at some states, and at the next ones if they are known."""

    here: tuple[Tensor, ...]
    following: object
    mask: Tensor | None  # 1 - terminated, `[n]`


@runtime_checkable
class Resettable(Protocol):
    """A layer that can draw its parameters again, as those of PyTorch."""

    def reset_parameters(self) -> None:
        """Draw the parameters from the layer's initialization."""
        ...


def measure_module(
    model: nn.Module,
    data: Dataset | Tensor | tuple[Tensor, ...],
    *,
    gives: str = "features",
    layer: str | None = None,
    next_batch: Tensor | tuple[Tensor, ...] | None = None,
    gamma: float = 0.99,
    start: nn.Module | None = None,
    activation: str = "relu",
    refit_steps: int = 100,
) -> Measured:
    """Measure a network; it is not changed.

    Args:
        model: takes observations `[n, ...]`, or several arguments.
        data: a data set, or the network's input; a tuple is passed as positional arguments.
        gives: what its output is: q for values of actions, `[n, A]`, or `[n]` where the action is
            the second argument; actions for a policy in [-1, 1]; features if neither is known.
        layer: see `rlop.probe`.
        next_batch: input at the next states, where `data` is no data set.
        gamma: discount of the values.
        start: the network before training; None redraws copies of it.
        activation: of the measured layer.
        refit_steps: budget of the refit; 0 leaves it out.
    Raises:
        InputError: for what `rlop.probe` refuses, or an output that is not what `gives` says.
    """
    check_known("gives", gives, GIVES)
    batch = None
    by_action = False
    if isinstance(data, Dataset):
        batch = probe_batch(data.columns(), SIZE, 1)
        by_action = gives == "q" and data.spec.n_actions is None
        inputs = _inputs_of(batch, by_action)
    else:
        inputs = Inputs(data if isinstance(data, tuple) else (data,), next_batch, None)

    def measures(network: nn.Module) -> dict[str, np.ndarray]:
        found = probe(network, inputs.here, layer, inputs.following, inputs.mask, activation)
        return {name: value.cpu().numpy()[None] for name, value in found.items()}

    now = measures(model)  # refuses what is no module
    model = copy.deepcopy(model).eval()  # its mode and its running statistics stay as they are

    fresh = [redrawn(model, number) for number in range(FRESH + 1)]
    references = fresh[:-1] if start is None else [start]
    starts = [measures(network) for network in references]
    typical = _medians(starts)
    found = feature_changes(now, typical)

    if batch is not None and isinstance(data, Dataset) and gives != "features":
        found |= _outputs(model, data, batch, gives, by_action, gamma)
    if refit_steps:
        found |= _refit(model, fresh, inputs.here, refit_steps)
    return as_measured(found, 0)


def _medians(measured: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the median of every measure over several networks."""
    typical: dict[str, np.ndarray] = {}
    for name in measured[0]:
        typical[name] = np.median([one[name] for one in measured], axis=0)
    return typical


def _inputs_of(batch: Batch, by_action: bool) -> Inputs:
    """Return what a network is called with at the rows of a batch."""
    if by_action:  # the next action of a critic is not known: there are no features at (s', a')
        return Inputs((batch.obs[0], batch.action[0]), None, None)
    return Inputs((batch.obs[0],), (batch.next_obs[0],), 1 - batch.terminated[0])


def redrawn(model: nn.Module, seed: int) -> nn.Module:
    """Return a copy of a network with its parameters drawn again by its layers.

    Args:
        model: layers that draw nothing themselves keep what they have.
        seed: of the draw; PyTorch's own stream is left alone.
    """
    fresh = copy.deepcopy(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in fresh.modules():
            if isinstance(module, Resettable):
                module.reset_parameters()
    return fresh


@torch.no_grad()
def _outputs(
    model: nn.Module,
    data: Dataset,
    batch: Batch,
    gives: str,
    by_action: bool,
    gamma: float,
) -> dict[str, Tensor]:
    """Measure the values, or the actions, that a network gives at the rows of a batch."""
    obs, action = batch.obs[0], batch.action
    if gives == "actions":
        return {"policy/bound": at_bound(_tensor(model(obs), gives))[None]}

    discount = torch.tensor([gamma], dtype=torch.float64)
    known_returns = returns_at(data, batch, discount)
    if by_action:
        drawn = torch.rand(action.shape, generator=torch.Generator().manual_seed(0))
        q_data = _tensor(model(obs, action[0]), gives).reshape(1, -1)
        q_random = _tensor(model(obs, 2 * drawn[0] - 1), gives).reshape(1, -1)
        q_policy = q_data  # a critic alone has no policy
    else:
        q_values = _tensor(model(obs), gives)
        n_actions = data.spec.n_actions
        if q_values.shape != (len(obs), n_actions):
            raise InputError(
                f"{type(model).__name__}: expected values ({len(obs)}, {n_actions}), one for each "
                f"action of the data, got {tuple(q_values.shape)}"
            )
        q_data = q_values.gather(-1, action[0].unsqueeze(-1)).T
        q_policy = q_values.amax(-1)[None]
        q_random = q_values.mean(-1)[None]

    found = value_measures(q_data, q_policy, q_random, *known_returns)
    if by_action:
        del found["value/policy"]
    largest = torch.maximum(q_data.abs().amax(-1), q_policy.abs().amax(-1))
    found["value/limit"] = largest.double() / limit_of(data, discount)
    return found


def _tensor(output: object, gives: str) -> Tensor:
    if isinstance(output, Tensor):
        return output
    raise InputError(f"model: expected a tensor of {gives}, got {type(output).__name__}")


def _refit(
    model: nn.Module,
    fresh: list[nn.Module],
    inputs: tuple[Tensor, ...],
    steps: int,
) -> dict[str, Tensor]:
    """Compare the refit of a network with that of fresh ones; nothing where it gives no tensor."""
    few = tuple(part[:REFIT_ROWS] for part in inputs)
    with torch.no_grad():
        example = model(*few)
    if not isinstance(example, Tensor) or not example.is_floating_point():
        return {}

    def outputs(parameters: Mapping[str, Tensor]) -> Tensor:
        values = functional_call(model, dict(parameters), few)
        return values.reshape(len(values), -1)

    draws = [dict(network.named_parameters()) for network in fresh]
    ratio = refit_ratio(outputs, dict(model.named_parameters()), draws, steps)
    return {"plasticity/refit": ratio[None]}
