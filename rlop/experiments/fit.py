"""Train R small networks at once, each on its own labels and in its own order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from rlop.nets.linear import Linear, reset_runs
from rlop.nets.mlp import MLP

Loss: TypeAlias = Callable[[nn.Module, Tensor, Tensor], Tensor]  # (net, x, y) -> [R]


def child_seeds(seed: int, count: int) -> list[int]:
    """Draw seeds that different values of `seed` do not share, as `seed + i` would.

    Args:
        seed: seed of the experiment.
        count: how many; the first ones stay the same if there are more.
    """
    children = np.random.SeedSequence(seed).spawn(count)
    # 53 bits: whole numbers that every generator takes, and that stay exact as floats.
    return [int(child.generate_state(1, np.uint64)[0] >> np.uint64(11)) for child in children]


def network(
    seeds: Sequence[int], n_in: int, hidden: Sequence[int], n_out: int, activation: str = "relu"
) -> nn.Sequential:
    """Build a stacked MLP and its linear head, one run per seed; `net[0]` gives the features."""
    lead = (len(seeds),)
    net = nn.Sequential(MLP(lead, n_in, hidden, activation), Linear(lead, hidden[-1], n_out))
    reset_runs(net, seeds)
    return net


def orders(runs: int, n: int, batch: int, epochs: int, seed: int) -> Iterator[Tensor]:
    """Yield the indices `[R, B]` of minibatches, shuffled again for every run and pass."""
    # The offset separates this stream from those of the data and of the initialization.
    generator = Generator().manual_seed(seed + 10_000)
    for _ in range(epochs):
        yield from torch.rand(runs, n, generator=generator).argsort(1).split(batch, 1)


def take(data: Tensor, index: Tensor) -> Tensor:
    """Pick rows of every run, `[R, N, ...]` at `[R, B]` -> `[R, B, ...]`."""
    return data[torch.arange(len(index))[:, None], index]


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Average the cross-entropy of every run, `[R, B, K]` and `[R, B] -> [R]`."""
    return F.cross_entropy(logits.mT, labels, reduction="none").mean(-1)


def classification(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Compute the cross-entropy of a network's logits, `[R]`."""
    return cross_entropy(net(x), y)


@torch.no_grad()
def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute the share of right predictions of every run, `[R, B, K]` and `[R, B] -> [R]`."""
    return (logits.argmax(-1) == labels).float().mean(-1)


@torch.no_grad()
def predict(net: nn.Module, x: Tensor, runs: int) -> Tensor:
    """Evaluate every run on shared inputs, `[N, D] -> [R, N, K]`."""
    return net(x.expand(runs, *x.shape))


def weight_matrices(net: nn.Module) -> dict[str, Tensor]:
    """Return the weight matrices by name, each `[R, O, I]`; biases are omitted."""
    return {name: p for name, p in net.named_parameters() if name.endswith("weight")}


@torch.no_grad()
def apply_masks(net: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Set to 0 the weights that a mask excludes, in place.

    Args:
        net: any network.
        masks: parameter -> mask of its shape; parameters without one stay as they are.
    """
    for name, parameter in net.named_parameters():
        if name in masks:
            parameter.mul_(masks[name])


def fit(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    y: Tensor,
    batches: Iterable[Tensor],
    loss: Loss = classification,
    after: Callable[[], None] | None = None,
) -> None:
    """Train every run on its own labels.

    Args:
        net: inputs `[R, B, D]` to outputs `[R, B, K]`.
        optimizer: holds the parameters of `net`.
        x: inputs that all runs share, `[N, D]`, or one set each, `[R, N, D]`.
        y: one set of labels or targets for each run, `[R, N, ...]`.
        batches: indices `[R, B]`, one tensor per step, as from `orders`.
        loss: function of the network, a batch of inputs and one of labels, giving `[R]`.
        after: called after every step, for masks.
    """
    x = x.expand(*y.shape[:2], x.shape[-1])

    for index in batches:
        optimizer.zero_grad()
        loss(net, take(x, index), take(y, index)).sum().backward()
        optimizer.step()
        if after is not None:
            after()
