"""Sparse layers: fixed random masks, pruning by magnitude, rewinding, and how alike two masks are.

A mask is a bool tensor of a weight's shape, True where the weight may be other than 0. Masks are
applied like projections, in place after the optimizer step, so that an optimizer's moments cannot
move what is masked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Generator, Tensor

from rlop.config.checks import check_known, check_range
from rlop.nets.linear import Linear
from rlop.runs import per_run
from rlop.types import InputError

Named = Mapping[str, Tensor]

KINDS = ("er", "uniform")


def layer_densities(
    shapes: Sequence[tuple[int, int]],
    density: float,
    kind: str = "er",
) -> list[float]:
    """Density of every layer such that together they keep a given share of the weights.

    `uniform` gives all layers the same. `er`, after Erdos and Renyi, gives a layer min(1, e (O + I)
    / (O I)): small layers stay denser, and every unit keeps about e connections.

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
    wanted = density * sum(sizes)
    full: set[int] = set()

    # A layer that would be more than full is full, and the others share the rest.
    while len(full) < len(shapes):
        rest = [layer for layer in range(len(shapes)) if layer not in full]
        left = wanted - sum(sizes[layer] for layer in full)
        scale = left / sum(units[layer] for layer in rest)
        overfull = {layer for layer in rest if scale * units[layer] > sizes[layer]}
        if not overfull:
            shares = [1.0] * len(shapes)
            for layer in rest:
                shares[layer] = scale * units[layer] / sizes[layer]
            return shares
        full |= overfull
    return [1.0] * len(shapes)


def random_mask(shape: Sequence[int], density: float, generator: Generator) -> Tensor:
    """Draw a uniformly random mask `[..., O, I]`.

    Exactly round(density O I) entries of each matrix are True, at least one.
    """
    size = shape[-2] * shape[-1]
    count = max(1, round(density * size))
    numbers = torch.rand(*shape[:-2], size, generator=generator)

    # Ranks of random numbers are a random order.
    rank = numbers.argsort(-1).argsort(-1)
    keep = rank < count
    return keep.unflatten(-1, tuple(shape[-2:]))


class MaskedLinear(Linear):
    """`Linear` whose weight has a fixed random mask, a buffer `mask` of the weight's shape.

    Each run and critic has its own mask, drawn from the run's seed with the first draw of the
    weights; it stays when they are drawn again. Weights are drawn as `Linear` draws those of a
    layer with density I inputs, so that outputs keep their scale. Whoever trains it applies `mask_`
    after every step (`rlop.optim.learner.Learner` does).

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
        if self.mask[run].all():
            self.mask[run] = random_mask(self.mask[run].shape, self.density, generator)
        self.weight.data[run].mul_(self.mask[run] * self.density**-0.5)


@torch.no_grad()
def mask_(params: Named, masks: Named) -> None:
    """Set masked weights to 0, in place: a projection, idempotent.

    Args:
        params: by name.
        masks: of some of them, bool of the same shape.
    Raises:
        InputError: for a mask of a parameter that is not there, or of another shape.
    """
    for name, mask in masks.items():
        if name not in params or params[name].shape != mask.shape:
            raise InputError(
                f"mask of {name!r}: no parameter of this name and of shape {tuple(mask.shape)}"
            )
        params[name].mul_(mask)  # the sign of a zero aside, no bit of a kept weight changes


@torch.no_grad()
def magnitude_masks(params: Named, density: float, masks: Named | None = None) -> dict[str, Tensor]:
    """Make masks that keep the largest weights of a network, run by run: global pruning.

    For iterative pruning by a fifth a round: `magnitude_masks(params, 0.8 ** round, masks)`.

    Args:
        params: the weights to prune, `[R, ...]` by name; leave out those to spare, e.g. the head's.
        density: share of all these weights that is kept, in (0, 1]; exactly round(density n) in
            each run.
        masks: of earlier rounds; what they mask stays masked.
    Reference: Han et al., "Learning both Weights and Connections for Efficient Neural Networks",
        NeurIPS 2015, arXiv:1506.02626; global, as in Frankle and Carbin 2019 and Renda et al. 2020.
    """
    check_range("density", density, low=0, high=1, low_open=True)
    magnitudes = {}
    for name, parameter in params.items():
        magnitude = parameter.abs()
        magnitudes[name] = magnitude if masks is None else magnitude.where(masks[name], -1)

    # The largest of all weights of a run, without those that are masked already.
    flat = torch.cat([magnitude.flatten(1) for magnitude in magnitudes.values()], dim=1)
    rank = flat.argsort(dim=1, descending=True, stable=True).argsort(1)
    count = max(1, round(density * flat.shape[1]))
    keep = (rank < count) & (flat >= 0)

    parts = keep.split([magnitude[0].numel() for magnitude in magnitudes.values()], dim=1)
    return {
        name: part.view(parameter.shape)
        for part, (name, parameter) in zip(parts, params.items(), strict=True)
    }


@torch.no_grad()
def prune_(layers: Mapping[str, MaskedLinear], share: float, active: Tensor) -> dict[str, Tensor]:
    """Prune masked layers by global magnitude: their masks keep only the largest weights, in place.

    `Learner.project`, which applies the masks, sets the weights themselves to 0.

    Args:
        layers: by name; all their weights are ranked together, run by run.
        share: of the weights that the layers' own densities keep, in (0, 1].
        active: `[R]` bool; other runs keep their masks.
    Returns:
        Name of the weight -> bool of its shape, True where it is masked now.
    """
    weights = {f"{name}.weight": layer.weight for name, layer in layers.items()}
    masks = {f"{name}.weight": layer.mask for name, layer in layers.items()}

    # The share counts from the density that the layers started with.
    kept = total = 0.0
    for layer in layers.values():
        size = layer.weight[0].numel()
        kept += layer.density * size
        total += size
    pruned = magnitude_masks(weights, share * (kept / total), masks)

    for name, mask in pruned.items():
        masks[name].copy_(torch.where(per_run(active, mask), mask, masks[name]))
    return {name: ~mask for name, mask in masks.items()}


@torch.no_grad()
def rewind_weights_(params: Named, saved: Named, masks: Named) -> None:
    """Rewind weights: restore all parameters of an early step, with pruned ones at 0, in place.

    The optimizer and the schedule must restart from that step as well.

    Args:
        params: by name.
        saved: the same at that step.
        masks: of some of them.
    Reference: Frankle et al., "Stabilizing the Lottery Ticket Hypothesis", 2019, arXiv:1903.01611.
    """
    for name, p in params.items():
        p.copy_(saved[name])
    mask_(params, masks)


def rewind_schedule(
    schedule: Callable[[int], float],
    pruned_at: int,
    rewind_to: int,
) -> Callable[[int], float]:
    """Rewind the learning rate: from the step of pruning on, replay the schedule of an early step.

    Weights stay.

    Args:
        schedule: step -> learning rate, of the first training.
        pruned_at: step of pruning.
        rewind_to: step whose learning rate comes next.
    Returns:
        step -> learning rate, with steps counted on.
    Reference: Renda, Frankle and Carbin, "Comparing Rewinding and Fine-tuning in Neural Network
        Pruning", ICLR 2020, arXiv:2003.02389.
    """
    if not 0 <= rewind_to <= pruned_at:
        raise InputError(
            f"rewind_to = {rewind_to}: expected a step in [0, {pruned_at}], that of pruning"
        )

    def rewound(step: int) -> float:
        return schedule(step if step < pruned_at else step - pruned_at + rewind_to)

    return rewound


def union(first: Named, second: Named) -> dict[str, Tensor]:
    """Return what either of two masks keeps, by name."""
    return {name: mask | second[name] for name, mask in first.items()}


def intersection(first: Named, second: Named) -> dict[str, Tensor]:
    """Return what both of two masks keep, by name."""
    return {name: mask & second[name] for name, mask in first.items()}


def density(masks: Named) -> Tensor:
    """Return the share that is kept of all weights that have a mask, `[R]`."""
    flat = torch.cat([mask.flatten(1) for mask in masks.values()], dim=1)
    return flat.double().mean(1)


def jaccard(first: Named, second: Named) -> Tensor:
    """Return the overlap of two masks, |both| / |either|, `[R]`.

    Two random masks of density d have d / (2 - d).

    Reference: Movva, Carbin and Frankle, "Studying the Consistency and Composability of Lottery
        Ticket Pruning Masks", 2021, arXiv:2104.14753.
    """
    return density(intersection(first, second)) / density(union(first, second))


def width_at_equal_count(n_in: int, n_out: int, depth: int, width: int, density: float) -> int:
    """Return the width that gives a sparse network a dense one's parameters, or just fewer.

    Counted are the weights that are kept in the hidden layers, the whole head, and all biases.

    Args:
        n_in, n_out: of the network.
        depth: hidden layers.
        width: of the dense network's hidden layers.
        density: of the sparse network's hidden layers, in (0, 1].
    """

    def count(units: int, share: float) -> float:
        hidden = n_in * units + (depth - 1) * units * units
        return share * hidden + depth * units + n_out * (units + 1)

    check_range("density", density, low=0, high=1, low_open=True)
    allowed = count(width, 1.0)

    # At width / density even one hidden layer has more.
    low = width
    high = round(width / density) + 1
    while high - low > 1:
        middle = (low + high) // 2
        if count(middle, density) <= allowed:
            low = middle
        else:
            high = middle
    return low
