"""Scheduled resets of weights: shrink and perturb, recycling of dormant units (ReDo), pruning by
magnitude.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from rlop.config.schema import Index, NonNegative, Share, option, options
from rlop.nets.conv import Conv2d
from rlop.nets.factorized import FactorizedLinear
from rlop.nets.init import reinit_runs
from rlop.nets.linear import Linear, reset_runs
from rlop.nets.masks import MaskedLinear, prune_
from rlop.nets.norms import HypersphericalLinear
from rlop.nets.stack import Matrix
from rlop.probes.units import dormant_units
from rlop.runs import per_run
from rlop.types import Batch, InputError

Named = Mapping[str, Tensor]

# layer -> (parameters whose rows are its units, parameter whose columns are those of the layer
# before)
PARTS: Mapping[type[nn.Module], tuple[tuple[str, ...], str]] = {
    Linear: (("weight", "bias"), "weight"),
    Conv2d: (("weight", "bias"), "weight"),
    FactorizedLinear: (("u", "bias"), "v"),
    HypersphericalLinear: (("weight", "scale"), "weight"),
    Matrix: ((), "weight"),  # its outputs pass no activation, so that they are not recycled
}


@dataclass(frozen=True)
class Hidden:
    """Units between two layers: how the parameters are called, and what the units do on some batch.
    """

    incoming: tuple[str, ...]  # parameters `[*lead, D, ...]`, one row for each unit
    outgoing: str  # parameter `[*lead, O, D k, ...]`, k columns for each unit, side by side
    activations: Tensor  # [*lead, n, D]


@torch.no_grad()
def shrink_and_perturb_(
    params: Named, fresh: Named, shrink: float, noise: float, active: Tensor
) -> None:
    """p <- shrink p + noise p_0 with p_0 from a new draw of the initialisation, in place.

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
        p.copy_(torch.where(per_run(active, p), shrink * p + noise * fresh[name], p))


@torch.no_grad()
def redo_(
    params: Named, fresh: Named, hidden: Sequence[Hidden], tau: float, active: Tensor
) -> dict[str, Tensor]:
    """Recycle dormant units, in place: their incoming weights are drawn anew, their outgoing ones
    become 0.

    A weight between two recycled units becomes 0. Where the units were exactly silent, the network
    computes what it did before.

    Args:
        params: by name, `[*lead, ...]`.
        fresh: new draws of the same.
        hidden: the units, layer by layer.
        tau: a unit is dormant when its score is at most tau, see `rlop.probes.units.dormant_units`.
        active: `[R]` bool; other runs keep their parameters.
    Returns:
        name -> bool, broadcastable to the parameter: what was reset.
    Raises:
        ValueError: when the activations do not fit the parameters.
    Reference: Sokar et al., "The Dormant Neuron Phenomenon in Deep Reinforcement Learning", ICML
        2023, arXiv:2302.12902.
    Differs from: dopamine `labs/redo`, which sets the bias to 0, where its initialisation has it;
        here it is drawn too.
    """
    touched: dict[str, Tensor] = {}
    found = []
    for units in hidden:
        dormant = dormant_units(units.activations, tau)
        found.append(dormant & per_run(active, dormant))
        misfit = any(params[name].shape[: dormant.ndim] != dormant.shape for name in units.incoming)
        if misfit or params[units.outgoing].shape[dormant.ndim] % dormant.shape[-1]:
            raise ValueError(
                f"activations {tuple(units.activations.shape)}: do not fit {units.incoming[0]}"
            )
    for units, dormant in zip(hidden, found, strict=True):
        for name in units.incoming:
            p = params[name]
            rows = dormant.view(*dormant.shape, *[1] * (p.ndim - dormant.ndim))
            p.copy_(torch.where(rows, fresh[name], p))
            touched[name] = rows
    for units, dormant in zip(hidden, found, strict=True):
        p, axis = params[units.outgoing], dormant.ndim  # [*lead, O, D k, ...]
        columns = dormant.repeat_interleave(p.shape[axis] // dormant.shape[-1], dim=-1).unsqueeze(
            -2
        )
        columns = columns.view(*columns.shape, *[1] * (p.ndim - columns.ndim))
        p.masked_fill_(columns, 0)
        touched[units.outgoing] = touched.get(units.outgoing, torch.zeros_like(columns)) | columns
    return touched


@torch.no_grad()
def hidden_units(network: nn.Module, agent: Any, batch: Batch) -> list[Hidden]:
    """The units of a network whose layers feed one another in a line, and what they do on a batch.

    Args:
        network: with layers of the types in `PARTS`, registered in the order of use; images are
            flattened channel by channel.
        agent: its `features(batch)` passes the batch through the network up to the head's input.
        batch: of transitions; the units are looked at in s (and a).
    Raises:
        InputError: for a network that is not such a line.
    """
    layers = [(name, layer) for name, layer in network.named_modules() if parts(layer) is not None]
    inputs: dict[str, Tensor] = {}

    def remember(name: str) -> Any:
        return lambda _, args: inputs.update(
            {name: inputs.get(name, args[0])}
        )  # the first pass, that of s

    hooks = [layer.register_forward_pre_hook(remember(name)) for name, layer in layers]
    features, _ = agent.features(batch)
    for hook in hooks:
        hook.remove()
    inputs.setdefault(layers[-1][0], features)
    if list(inputs) != [name for name, _ in layers]:
        raise InputError("resets: redo: expected a network whose layers feed one another in a line")
    pairs = [(a, b) for a, b in pairwise(layers) if not isinstance(a[1], Matrix)]
    return [_hidden(before, after, inputs[after[0]]) for before, after in pairs]


def parts(layer: nn.Module) -> tuple[tuple[str, ...], str] | None:
    """The row of `PARTS` for a layer, None for a module that is no such layer."""
    return next((row for kind, row in PARTS.items() if isinstance(layer, kind)), None)


def _hidden(before: tuple[str, nn.Module], after: tuple[str, nn.Module], x: Tensor) -> Hidden:
    """Units between two layers, from the second one's input."""
    rows, columns = parts(before[1])[0], parts(after[1])[1]  # type: ignore[index]
    shape = getattr(before[1], rows[-1]).shape  # [*lead, D]
    rows = tuple(
        row for row in rows if isinstance(getattr(before[1], row), nn.Parameter)
    )  # a bias may not be trained
    if isinstance(after[1], Conv2d):
        x = x.movedim(2, -1).flatten(1, 3)
    elif x.shape[-1] != shape[-1]:  # flattened images, [*lead, B, D k]
        x = x.unflatten(-1, (shape[-1], -1)).mT.flatten(-3, -2)
    return Hidden(tuple(f"{before[0]}.{row}" for row in rows), f"{after[0]}.{columns}", x)


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


class Resets:
    """The scheduled resets of an agent's Q-network, critics or policy, as its option `resets` says.

    New numbers come from the run's seed and the step, so that a run does not depend on its
    neighbours, nor on whether training was interrupted. The optimizer's moments of what was reset
    become 0; its count of steps goes on. Masks and projections hold afterwards. The target network
    follows in its own time.

    Args:
        agent: with `config`, `runs.seeds`, `features`, and `learner` or `learners["critics"]`.
    """

    def __init__(self, agent: Any) -> None:
        self.agent = agent
        self.options: ResetOptions = getattr(agent.config, "resets", ResetOptions())
        if self.options.every:
            self.learner: Any = agent.main
            self.chosen = self._choose()
            self.masked = {
                n: m for n, m in self.learner.online.named_modules() if isinstance(m, MaskedLinear)
            }
            if self.options.kind == "prune" and not self.masked:
                raise InputError(
                    "resets: prune: expected layers with masks to prune, as layers.density < 1 makes them"
                )

    def _choose(self) -> dict[str, Tensor]:
        found = self.learner.parameters
        for beginning in self.options.layers:
            if not any(name.startswith(beginning) for name in found):
                raise InputError(
                    f"resets.layers: no parameter's name begins with {beginning!r}; one of {list(found)}"
                )
        return {name: p for name, p in found.items() if name.startswith(self.options.layers or "")}

    def due(self, step: int) -> bool:
        """Whether there is a reset after this step."""
        every, until = self.options.every, self.options.until
        return every > 0 and step % every == 0 and (until is None or step <= until)

    def __call__(self, batch: Batch, step: int) -> None:
        """Reset, with dormancy measured on `batch`."""
        learner, options, fresh = self.learner, self.options, self.draw(step)
        if options.kind == "redo":
            hidden = hidden_units(learner.online, self.agent, batch)
            touched = redo_(learner.parameters, fresh, hidden, options.tau, learner.active)
        elif options.kind == "prune":
            touched = prune_(self.masked, options.keep ** (step // options.every), learner.active)
        else:
            shrink_and_perturb_(self.chosen, fresh, options.shrink, options.noise, learner.active)
            touched = {name: per_run(learner.active, p) for name, p in self.chosen.items()}
        for name, mask in touched.items():
            clear_moments_(learner.optimizer, learner.parameters[name], mask)
        learner.project()

    def draw(self, step: int) -> dict[str, Tensor]:
        """Initial parameters drawn anew for this step."""
        network = copy.deepcopy(self.learner.online).cpu()
        seeds = [
            int(np.random.SeedSequence([seed, step]).generate_state(1)[0])
            for seed in self.agent.runs.seeds
        ]
        reset_runs(network, seeds)
        reinit_runs([(network, getattr(self.agent.config, "init", "default"))], seeds)
        return {name: p.detach().to(self.agent.device) for name, p in network.named_parameters()}


@torch.no_grad()
def clear_moments_(optimizer: torch.optim.Optimizer, parameter: Tensor, mask: Tensor) -> None:
    """Set what an optimizer remembers of some weights to 0, in place.

    Args:
        optimizer: with one tensor of the parameter's shape in its state for each moment.
        parameter: one of its parameters.
        mask: bool, broadcastable to it; True where the state becomes 0.
    """
    for value in optimizer.state[parameter].values():
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            value.masked_fill_(mask, 0)
