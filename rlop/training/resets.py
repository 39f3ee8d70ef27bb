"""Scheduled resets of weights: shrink and perturb, ReDo (dormant units), magnitude pruning."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from rlop.agent import Agent
from rlop.config.schema import Index, NonNegative, Share, option, options
from rlop.nets.conv import Conv2d
from rlop.nets.factorized import FactorizedLinear
from rlop.nets.init import reinit_runs
from rlop.nets.linear import Linear, reset_runs
from rlop.nets.masks import MaskedLinear, prune_
from rlop.nets.norms import HypersphericalLinear
from rlop.nets.stack import Matrix
from rlop.optim.choice import RunOptimizer
from rlop.probes.units import dormant_units
from rlop.runs import per_run
from rlop.types import Batch, InputError

Named = Mapping[str, Tensor]

# layer -> (parameters with a row for each of its units, parameter with a column for each unit of
# the layer before)
PARTS: Mapping[type[nn.Module], tuple[tuple[str, ...], str]] = {
    Linear: (("weight", "bias"), "weight"),
    Conv2d: (("weight", "bias"), "weight"),
    FactorizedLinear: (("u", "bias"), "v"),
    HypersphericalLinear: (("weight", "scale"), "weight"),
    Matrix: ((), "weight"),  # its outputs are not recycled
}


@dataclass(frozen=True)
class Hidden:
    """Units between two layers: the names of their parameters, and their activations on a batch."""

    incoming: tuple[str, ...]  # parameters `[*lead, D, ...]`, one row for each unit
    outgoing: str  # parameter `[*lead, O, D k, ...]`, k columns for each unit, side by side
    activations: Tensor  # [*lead, n, D]


@torch.no_grad()
def shrink_and_perturb_(
    params: Named, fresh: Named, shrink: float, noise: float, active: Tensor
) -> None:
    """Shrink parameters and add a new draw of the initialization, in place.

        p <- shrink p + noise p_0

    shrink 0 and noise 1 is a full reset.

    Args:
        params: by name, `[R, ...]`.
        fresh: new draws of the same.
        shrink, noise: the two weights.
        active: `[R]` bool; other runs keep their parameters.
    Reference: Ash and Adams, "On Warm-Starting Neural Network Training", NeurIPS 2020,
        arXiv:1910.08475; with shrink + noise = 1 as in D'Oro et al., "SR-SPR", ICLR 2023, and
        Schwarzer et al., "BBF", arXiv:2305.19452.
    """
    for name, p in params.items():
        mixed = shrink * p + noise * fresh[name]
        p.copy_(torch.where(per_run(active, p), mixed, p))


@torch.no_grad()
def redo_(
    params: Named, fresh: Named, hidden: Sequence[Hidden], tau: float, active: Tensor
) -> dict[str, Tensor]:
    """Recycle dormant units, in place: draw incoming weights again, and zero outgoing ones.

    A weight between two recycled units becomes 0. Where the units were exactly silent, the network
    computes what it did before.

    Args:
        params: by name, `[*lead, ...]`.
        fresh: new draws of the same.
        hidden: the units, layer by layer.
        tau: a unit is dormant when its score is at most tau, see `rlop.probes.units.dormant_units`.
        active: `[R]` bool; other runs keep their parameters.
    Returns:
        Name -> bool, broadcastable to the parameter, True where it was reset.
    Raises:
        ValueError: when the activations do not fit the parameters.
    Reference: Sokar et al., "The Dormant Neuron Phenomenon in Deep Reinforcement Learning", ICML
        2023, arXiv:2302.12902.
    Differs from: dopamine `labs/redo`, which sets the bias to 0, as its initialization does; here
        it is drawn as well.
    """
    recycled = []
    for units in hidden:
        dormant = dormant_units(units.activations, tau)
        check_fit(params, units, dormant)
        recycled.append(dormant & per_run(active, dormant))

    touched: dict[str, Tensor] = {}
    for units, dormant in zip(hidden, recycled, strict=True):
        for name in units.incoming:
            p = params[name]
            rows = dormant.view(*dormant.shape, *[1] * (p.ndim - dormant.ndim))
            p.copy_(torch.where(rows, fresh[name], p))
            touched[name] = rows

    # Outgoing weights come after all incoming ones, so that 0 wins between two recycled units.
    for units, dormant in zip(hidden, recycled, strict=True):
        p = params[units.outgoing]  # [*lead, O, D k, ...]
        repeats = p.shape[dormant.ndim] // dormant.shape[-1]
        columns = dormant.repeat_interleave(repeats, dim=-1).unsqueeze(-2)
        columns = columns.view(*columns.shape, *[1] * (p.ndim - columns.ndim))
        p.masked_fill_(columns, 0)
        before = touched.get(units.outgoing, torch.zeros_like(columns))
        touched[units.outgoing] = before | columns
    return touched


def check_fit(params: Named, units: Hidden, dormant: Tensor) -> None:
    """Raise ValueError unless the activations of some units fit their parameters.

    Args:
        params: by name.
        units: their parameters' names.
        dormant: `[*lead, D]`.
    """
    rows_fit = all(params[name].shape[: dormant.ndim] == dormant.shape for name in units.incoming)
    columns = params[units.outgoing].shape[dormant.ndim]
    if not rows_fit or columns % dormant.shape[-1]:
        shape = tuple(units.activations.shape)
        raise ValueError(f"activations {shape}: do not fit {units.incoming[0]}")


@torch.no_grad()
def hidden_units(network: nn.Module, agent: Agent, batch: Batch) -> list[Hidden]:
    """Find the units of a network whose layers feed one another in a line, and their activations.

    Args:
        network: with layers of the types in `PARTS`, registered in the order of use; images are
            flattened channel by channel.
        agent: its `features(batch)` passes the batch through the network up to the head's input.
        batch: of transitions; activations are those at s (and a).
    Raises:
        InputError: for a network that is not such a line.
    """
    layers = [(name, layer) for name, layer in network.named_modules() if parts(layer) is not None]
    inputs: dict[str, Tensor] = {}

    def record(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            inputs.setdefault(name, arguments[0])  # the first pass is that of s

        return hook

    hooks = [layer.register_forward_pre_hook(record(name)) for name, layer in layers]
    features, _ = agent.features(batch)
    for handle in hooks:
        handle.remove()

    last = layers[-1][0]
    inputs.setdefault(last, features)
    if list(inputs) != [name for name, _ in layers]:
        raise InputError("resets: redo: expected a network whose layers feed one another in a line")

    hidden = []
    for (name, layer), (next_name, next_layer) in pairwise(layers):
        if not isinstance(layer, Matrix):  # its outputs pass no activation
            units = units_between(name, layer, next_name, next_layer, inputs[next_name])
            hidden.append(units)
    return hidden


def parts(layer: nn.Module) -> tuple[tuple[str, ...], str] | None:
    """Return the row of `PARTS` for a layer, None for any other module."""
    for kind, row in PARTS.items():
        if isinstance(layer, kind):
            return row
    return None


def units_between(
    name: str, layer: nn.Module, next_name: str, next_layer: nn.Module, x: Tensor
) -> Hidden:
    """Return the units between two layers.

    Args:
        name: of the first layer.
        layer: the first layer.
        next_name: of the second layer.
        next_layer: the second layer.
        x: input of the second layer.
    """
    row, next_row = parts(layer), parts(next_layer)
    assert row is not None  # both layers are among `PARTS`
    assert next_row is not None
    parameters = dict(layer.named_parameters(recurse=False))
    tensors = {**parameters, **dict(layer.named_buffers(recurse=False))}
    n_units = tensors[row[0][-1]].shape[-1]

    if isinstance(next_layer, Conv2d):
        x = x.movedim(2, -1).flatten(1, 3)
    elif x.shape[-1] != n_units:  # flattened images, [*lead, B, D k]
        x = x.unflatten(-1, (n_units, -1)).mT.flatten(-3, -2)

    trained = [kind for kind in row[0] if kind in parameters]  # a bias may be a buffer
    incoming = tuple(f"{name}.{kind}" for kind in trained)
    return Hidden(incoming, f"{next_name}.{next_row[1]}", x)


@options
class ResetOptions:
    """Scheduled resets of weights; with `every` 0 there are none."""

    every: Index = option(0, "gradient steps between resets; 0 for none")
    until: Index | None = option(None, "last step with a reset; null for no end")
    kind: Literal["redo", "shrink_and_perturb", "prune"] = option(
        "redo", "recycle dormant units, shrink and perturb, or prune by magnitude"
    )
    tau: NonNegative = option(0.1, "of redo: score up to which a unit is dormant")
    shrink: NonNegative = option(0.5, "of shrink_and_perturb: weight of the present parameters")
    noise: NonNegative = option(0.5, "of shrink_and_perturb: weight of the new draw")
    keep: Share = option(
        0.8, "of prune: share of the kept weights that a reset keeps; begins at layers.density"
    )
    layers: tuple[str, ...] = option(
        (), "of shrink_and_perturb: beginnings of parameters' names, such as head; empty for all"
    )


class ResetsConfig:
    """Base of the options of an agent with scheduled resets."""

    resets: ResetOptions


class Resets:
    """The scheduled resets of an agent's main network, as its option `resets` says.

    New numbers come from the run's seed and the step, so that a run does not depend on its
    neighbors, nor on whether training was interrupted. The optimizer's moments of reset weights
    become 0; its count of steps goes on. Masks and projections hold afterwards. The target network
    follows at its own pace.

    Args:
        agent: whose main network is reset.
    Raises:
        InputError: for options that do not fit the network.
    """

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.options = ResetOptions()
        if isinstance(agent.config, ResetsConfig):
            self.options = agent.config.resets
        if not self.options.every:
            return

        self.chosen = self._choose()
        self.masked = {}
        for name, module in agent.main.online.named_modules():
            if isinstance(module, MaskedLinear):
                self.masked[name] = module
        if self.options.kind == "prune" and not self.masked:
            raise InputError(
                "resets: prune: expected layers with masks to prune, "
                "as layers.density < 1 makes them"
            )

    def _choose(self) -> dict[str, Tensor]:
        """Return the parameters that shrink_and_perturb acts on, by name."""
        parameters, beginnings = self.agent.main.parameters, self.options.layers
        for beginning in beginnings:
            if not any(name.startswith(beginning) for name in parameters):
                raise InputError(
                    f"resets.layers: no parameter's name begins with {beginning!r}; "
                    f"one of {list(parameters)}"
                )
        return {name: p for name, p in parameters.items() if name.startswith(beginnings or "")}

    def due(self, step: int) -> bool:
        """Tell whether there is a reset after this step."""
        every, until = self.options.every, self.options.until
        return every > 0 and step % every == 0 and (until is None or step <= until)

    def __call__(self, batch: Batch, step: int) -> None:
        """Reset after a step.

        Args:
            batch: on which dormancy is measured.
            step: gradient steps done.
        """
        learner, options = self.agent.main, self.options
        if options.kind == "redo":
            hidden = hidden_units(learner.online, self.agent, batch)
            fresh = self.draw(step)
            touched = redo_(learner.parameters, fresh, hidden, options.tau, learner.active)
        elif options.kind == "prune":
            share = options.keep ** (step // options.every)
            touched = prune_(self.masked, share, learner.active)
        else:
            fresh = self.draw(step)
            shrink_and_perturb_(self.chosen, fresh, options.shrink, options.noise, learner.active)
            touched = {name: per_run(learner.active, p) for name, p in self.chosen.items()}

        for name, mask in touched.items():
            clear_moments_(learner.optimizer, learner.parameters[name], mask)
        learner.project()

    def draw(self, step: int) -> dict[str, Tensor]:
        """Draw initial parameters for this step, by name."""
        seeds = []
        for seed in self.agent.runs.seeds:
            state = np.random.SeedSequence([seed, step]).generate_state(1)
            seeds.append(int(state[0]))

        network = copy.deepcopy(self.agent.main.online).cpu()
        reset_runs(network, seeds)
        reinit_runs([(network, self.agent.init)], seeds)
        device = self.agent.device
        return {name: p.detach().to(device) for name, p in network.named_parameters()}


@torch.no_grad()
def clear_moments_(optimizer: RunOptimizer, parameter: Tensor, mask: Tensor) -> None:
    """Set what an optimizer remembers of some weights to 0, in place.

    Args:
        optimizer: with one tensor of the parameter's shape in its state for each moment.
        parameter: one of its parameters.
        mask: bool, broadcastable to it; True where the state becomes 0.
    """
    for value in optimizer.state[parameter].values():
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            value.masked_fill_(mask, 0)
