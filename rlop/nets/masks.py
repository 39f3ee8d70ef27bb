"""Sparse layers: fixed random masks, pruning by magnitude, rewinding, overlap of masks.

A mask is a bool tensor of a weight's shape, True where the weight may be other than 0. Masks are
applied like projections, in place after the optimizer step, so that an optimizer's moments cannot
move masked weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Generator, Tensor

from rlop.config.checks import check_known, check_range
from rlop.nets.linear import Linear
from rlop.runs import per_run
from rlop.types import InputError

Named: TypeAlias = Mapping[str, Tensor]

KINDS = ("er", "uniform")


def layer_densities(
    shapes: Sequence[tuple[int, int]],
    density: float,
    kind: str = "er",
) -> list[float]:
    """Divide the kept weights among layers, and return each layer's density.

    `uniform` gives all layers the same. `er`, after Erdos and Renyi, gives a layer the density
    min(1, e (O + I) / (O I)): small layers stay denser, and every unit keeps about e connections.

    Args:
        shapes: (O, I) of each layer.
        density: share of all weights that is kept, in (0, 1].
        kind: `er` or `uniform`.
    Returns:
        One number in (0, 1] for each layer; their mean, weighted with O I, is `density`.
    Reference: Mocanu et al., "Scalable Training of Artificial Neural Networks with Adaptive Sparse
        Connectivity", Nature Communications 2018, arXiv:1707.04780 (er).
    """
    check_known("mask", kind, KINDS)
    check_range("density", density, low=0, high=1, low_open=True)
    if kind == "uniform":
        return [density] * len(shapes)

    sizes = [n_out * n_in for n_out, n_in in shapes]
    units = [n_out + n_in for n_out, n_in in shapes]
    n_kept = density * sum(sizes)
    shares = [1.0] * len(shapes)

    # A layer cannot be more than full: the others share the remaining weights.
    rest = list(range(len(shapes)))
    while rest:
        full = [layer for layer in range(len(shapes)) if layer not in rest]
        left = n_kept - sum(sizes[layer] for layer in full)
        scale = left / sum(units[layer] for layer in rest)
        fitting = [layer for layer in rest if scale * units[layer] <= sizes[layer]]
        if fitting == rest:
            for layer in rest:
                shares[layer] = scale * units[layer] / sizes[layer]
            break
        rest = fitting
    return shares


def random_mask(shape: Sequence[int], density: float, generator: Generator) -> Tensor:
    """Draw a uniformly random mask with exactly round(density O I) True in each matrix.

    Args:
        shape: `[..., O, I]`.
        density: share of True; each matrix has at least one.
        generator: generator of the random numbers.
    """
    *lead, n_out, n_in = shape
    size = n_out * n_in
    n_kept = max(1, round(density * size))
    order = torch.rand(*lead, size, generator=generator).argsort(-1).argsort(-1)
    return (order < n_kept).unflatten(-1, (n_out, n_in))


class MaskedLinear(Linear):
    """`Linear` whose weight has a fixed random mask, a buffer `mask` of the weight's shape.

    Each run and critic has its own mask, drawn from the run's seed with the first draw of the
    weights; it is kept when they are redrawn. Weights are drawn as in a `Linear` with density I
    inputs, so that outputs keep their scale. `mask_` must be applied after every training step
    (`rlop.optim.learner.Learner` does).

    Args:
        lead, in_features, out_features: as in `Linear`.
        density: share of the weights that is kept, in (0, 1].
    Reference: Timpl et al., "Understanding the effect of sparsity on neural networks robustness",
        2021, arXiv:2206.10915.
    """

    mask: Tensor

    def __init__(
        self,
        lead: Sequence[int],
        in_features: int,
        out_features: int,
        density: float,
    ) -> None:
        super().__init__(lead, in_features, out_features)
        check_range("density", density, low=0, high=1, low_open=True)
        self.density = density
        self.register_buffer("mask", torch.ones(self.weight.shape, dtype=torch.bool))

    def reset_run(self, run: int, generator: Generator) -> None:
        """Draw the parameters of one run, and its mask unless it has one."""
        super().reset_run(run, generator)
        has_no_mask = self.mask[run].all()
        if has_no_mask:
            self.mask[run] = random_mask(self.mask[run].shape, self.density, generator)
        self.weight.data[run].mul_(self.mask[run] * self.density**-0.5)


@torch.no_grad()
def mask_(params: Named, masks: Named) -> None:
    """Set masked weights to 0, in place: an idempotent projection.

    Args:
        params: parameters by name.
        masks: masks of some of the parameters, bool of the same shape.
    Raises:
        InputError: for a mask without its parameter, or of another shape.
    """
    for name, mask in masks.items():
        if name not in params or params[name].shape != mask.shape:
            raise InputError(
                f"mask of {name!r}: no parameter of this name and of shape {tuple(mask.shape)}"
            )
        params[name].mul_(mask)  # the sign of a zero aside, no bit of a kept weight changes


@torch.no_grad()
def magnitude_masks(params: Named, density: float, masks: Named | None = None) -> dict[str, Tensor]:
    """Return masks that keep the largest weights of a whole network, run by run.

    For iterative pruning by a fifth per round: `magnitude_masks(params, 0.8 ** round, masks)`.

    Args:
        params: the weights to prune, `[R, ...]` by name; omit those that must stay, e.g. the
            head's.
        density: share of all these weights that is kept, in (0, 1]; exactly round(density n) in
            each run.
        masks: masks of earlier rounds; masked weights stay masked.
    Reference: Han et al., "Learning both Weights and Connections for Efficient Neural Networks",
        NeurIPS 2015, arXiv:1506.02626; global, as in Frankle and Carbin 2019 and Renda et al. 2020.
    """
    check_range("density", density, low=0, high=1, low_open=True)

    # Weights that are already masked rank below all others.
    magnitudes = {}
    for name, parameter in params.items():
        magnitude = parameter.abs()
        magnitudes[name] = magnitude if masks is None else magnitude.where(masks[name], -1)

    flat = torch.cat([magnitude.flatten(1) for magnitude in magnitudes.values()], dim=1)
    rank = flat.argsort(dim=1, descending=True, stable=True).argsort(1)
    n_kept = max(1, round(density * flat.shape[1]))
    keep = (rank < n_kept) & (flat >= 0)

    kept = {}
    sizes = [magnitude[0].numel() for magnitude in magnitudes.values()]
    for part, (name, parameter) in zip(keep.split(sizes, dim=1), params.items(), strict=True):
        kept[name] = part.view(parameter.shape)
    return kept


@torch.no_grad()
def prune_(layers: Mapping[str, MaskedLinear], share: float, active: Tensor) -> dict[str, Tensor]:
    """Prune masked layers by global magnitude: their masks keep only the largest weights, in place.

    `Learner.project`, which applies the masks, sets the weights themselves to 0.

    Args:
        layers: layers by name; all their weights are ranked together, run by run.
        share: share of the weights that the layers' own densities keep, in (0, 1].
        active: `[R]` bool; other runs keep their masks.
    Returns:
        Name of the weight -> bool of its shape, True where it is now masked.
    """
    weights: dict[str, Tensor] = {}
    masks: dict[str, Tensor] = {}
    n_kept = 0.0
    n_weights = 0
    for name, layer in layers.items():
        weights[f"{name}.weight"] = layer.weight
        masks[f"{name}.weight"] = layer.mask
        size = layer.weight[0].numel()
        n_kept += layer.density * size
        n_weights += size

    # The share is relative to the density that the layers started with.
    initial_density = n_kept / n_weights
    pruned = magnitude_masks(weights, share * initial_density, masks)

    for name, mask in pruned.items():
        masks[name].copy_(torch.where(per_run(active, mask), mask, masks[name]))
    return {name: ~mask for name, mask in masks.items()}


@torch.no_grad()
def rewind_weights_(
    params: Named, saved: Named, masks: Named, active: Tensor | None = None
) -> None:
    """Rewind weights: restore all parameters of an early step, with pruned ones at 0, in place.

    The optimizer and the schedule must restart from that step as well.

    Args:
        params: parameters by name.
        saved: their values at that step.
        masks: masks of some of the parameters.
        active: `[R]` bool; other runs keep their parameters. None for all.
    Reference: Frankle et al., "Stabilizing the Lottery Ticket Hypothesis", 2019, arXiv:1903.01611.
    """
    for name, p in params.items():
        p.copy_(saved[name] if active is None else saved[name].where(per_run(active, p), p))
    mask_(params, masks)


def union(first: Named, second: Named) -> dict[str, Tensor]:
    """Return the union of two masks, by name."""
    return {name: mask | second[name] for name, mask in first.items()}


def intersection(first: Named, second: Named) -> dict[str, Tensor]:
    """Return the intersection of two masks, by name."""
    return {name: mask & second[name] for name, mask in first.items()}


def density(masks: Named) -> Tensor:
    """Return the share of kept weights among all that have a mask, `[R]`."""
    flat = torch.cat([mask.flatten(1) for mask in masks.values()], dim=1)
    return flat.double().mean(1)


def jaccard(first: Named, second: Named) -> Tensor:
    """Return the overlap of two masks, |both| / |either|, `[R]`.

    Two random masks of density d have about d / (2 - d).

    Reference: Movva, Carbin and Frankle, "Studying the Consistency and Composability of Lottery
        Ticket Pruning Masks", 2021, arXiv:2104.14753.
    """
    both = density(intersection(first, second))
    either = density(union(first, second))
    return both / either


def width_at_equal_count(n_in: int, n_out: int, depth: int, width: int, density: float) -> int:
    """Return the width at which a sparse network has as many parameters as a dense one, or fewer.

    It is the largest such width. The count includes the kept weights of the hidden layers, the
    whole head, and all biases.

    Args:
        n_in, n_out: inputs and outputs of the network.
        depth: number of hidden layers.
        width: width of the dense network's hidden layers.
        density: density of the sparse network's hidden layers, in (0, 1].
    """
    check_range("density", density, low=0, high=1, low_open=True)

    def count(units: int, share: float) -> float:
        weights = n_in * units + (depth - 1) * units * units
        biases = depth * units
        head = n_out * (units + 1)
        return share * weights + biases + head

    # Bisection; at width / density even one hidden layer has more parameters.
    budget = count(width, 1.0)
    low = width
    high = round(width / density) + 1
    while high - low > 1:
        middle = (low + high) // 2
        if count(middle, density) <= budget:
            low = middle
        else:
            high = middle
    return low
