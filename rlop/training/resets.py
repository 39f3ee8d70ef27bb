"""Scheduled resets: shrink and perturb, recycling of dormant units, pruning with rewinding."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from rlop.agent import Agent
from rlop.config.schema import Index, NonNegative, Share, option, options
from rlop.nets.init import InitConfig, reinit_runs
from rlop.nets.linear import reset_runs
from rlop.nets.masks import MaskedLinear, prune_, rewind_weights_
from rlop.optim.step import RunOptimizer
from rlop.runs import per_run
from rlop.training.recycling import hidden_units, redo_
from rlop.types import Batch, InputError

Named: TypeAlias = Mapping[str, Tensor]


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
    rewind: Literal["none", "weights", "rate"] = option(
        "none",
        "of prune, what follows it: weights: the kept ones return to their start, and the "
        "optimizer starts over; rate: the optimizer alone starts over",
    )
    layers: tuple[str, ...] = option(
        (), "of shrink_and_perturb: beginnings of parameters' names, such as head; empty for all"
    )

    def __post_init__(self) -> None:
        if self.rewind != "none" and self.kind != "prune":
            raise InputError(f"rewind = {self.rewind}: expected kind = prune with it")


class ResetsConfig:
    """Base of the options of an agent with scheduled resets."""

    resets: ResetOptions


class Resets:
    """The scheduled resets of an agent's main network, configured by its option `resets`.

    Random numbers depend only on the run's seed and the step, not on other runs or on interruptions
    of the training. The optimizer's moments of the parameters that were reset become 0; its count
    of steps continues. Masks and projections are applied again. The target network follows through
    its usual updates.

    After pruning, weights can be rewound to their start, or the learning rate: agents have no
    schedule of it to repeat, so that their optimizer starts over, its moments and its count.

    Args:
        agent: the agent; without the option `resets` nothing is reset.
    Raises:
        InputError: for names of parameters that the network does not have, or pruning without
            masks.
    """

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.learner = agent.main
        self.options = ResetOptions()
        if isinstance(agent.config, ResetsConfig):
            self.options = agent.config.resets

        if self.options.every:
            self.chosen = self._choose()
            self.masked = self._masked_layers()

    def _choose(self) -> dict[str, Tensor]:
        """Return the parameters whose names begin with an entry of the option `layers`, by name."""
        parameters = self.learner.parameters
        beginnings = self.options.layers
        if not beginnings:
            return dict(parameters)

        for beginning in beginnings:
            if not any(name.startswith(beginning) for name in parameters):
                raise InputError(
                    f"resets.layers: no parameter's name begins with {beginning!r}; "
                    f"one of {list(parameters)}"
                )
        return {name: p for name, p in parameters.items() if name.startswith(beginnings)}

    def _masked_layers(self) -> dict[str, MaskedLinear]:
        """Return the layers that can be pruned, by name."""
        masked = {}
        for name, module in self.learner.online.named_modules():
            if isinstance(module, MaskedLinear):
                masked[name] = module

        if self.options.kind == "prune" and not masked:
            raise InputError(
                "resets: prune: expected layers with masks to prune, as layers.density < 1 makes "
                "them"
            )
        return masked

    def due(self, step: int) -> bool:
        """Return whether a reset follows this step."""
        every = self.options.every
        until = self.options.until
        is_over = until is not None and step > until
        return every > 0 and step % every == 0 and not is_over

    def __call__(self, batch: Batch, step: int) -> None:
        """Reset after a step.

        Args:
            batch: the batch on which dormancy is measured.
            step: gradient steps done.
        """
        learner = self.learner
        touched = self._reset(batch, step)
        for name, mask in touched.items():
            clear_moments_(learner.optimizer, learner.parameters[name], mask)
        learner.project()

    def _reset(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Change parameters or masks, and return what changed: name -> bool."""
        learner = self.learner
        options = self.options
        active = learner.active
        if options.kind == "redo":
            hidden = hidden_units(learner.online, self.agent.features, batch)
            return redo_(learner.parameters, self.draw(step), hidden, options.tau, active)

        if options.kind == "prune":
            rounds = step // options.every
            pruned = prune_(self.masked, options.keep**rounds, active)
            return pruned if options.rewind == "none" else self._rewind()

        shrink_and_perturb_(self.chosen, self.draw(step), options.shrink, options.noise, active)
        return {name: per_run(active, p) for name, p in self.chosen.items()}

    def _rewind(self) -> dict[str, Tensor]:
        """Rewind weights or learning rate of the active runs; return what starts over."""
        learner = self.learner
        active = learner.active
        if self.options.rewind == "weights":
            masks = {f"{name}.weight": layer.mask for name, layer in self.masked.items()}
            rewind_weights_(learner.parameters, learner.initial, masks, active)

        (group,) = learner.optimizer.param_groups
        if "step" in group:  # Adam's, by which it corrects its moments
            group["step"].zero_()
        return {name: per_run(active, p) for name, p in learner.parameters.items()}

    def draw(self, step: int) -> dict[str, Tensor]:
        """Draw initial parameters for this step, by name."""
        seeds = []
        for seed in self.agent.runs.seeds:
            sequence = np.random.SeedSequence([seed, step])
            seeds.append(int(sequence.generate_state(1)[0]))

        network = copy.deepcopy(self.learner.online).cpu()
        reset_runs(network, seeds)
        if isinstance(self.agent.config, InitConfig):
            reinit_runs([(network, self.agent.config.init)], seeds)

        device = self.agent.device
        return {name: p.detach().to(device) for name, p in network.named_parameters()}


@torch.no_grad()
def shrink_and_perturb_(
    params: Named,
    fresh: Named,
    shrink: float,
    noise: float,
    active: Tensor,
) -> None:
    """Mix parameters with a new draw of the initialization, in place.

        p <- shrink p + noise p_0

    shrink 0 and noise 1 is a full reset.

    Args:
        params: p, by name, `[R, ...]`.
        fresh: p_0, new draws of the same.
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
def clear_moments_(optimizer: RunOptimizer, parameter: Tensor, mask: Tensor) -> None:
    """Set an optimizer's state for some weights to 0, in place.

    Args:
        optimizer: with one tensor of the parameter's shape in its state for each moment.
        parameter: one of its parameters.
        mask: bool, broadcastable to it; True where the state becomes 0.
    """
    for value in optimizer.state[parameter].values():
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            value.masked_fill_(mask, 0)
