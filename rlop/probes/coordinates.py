"""The coordinate check: whether the activations of a network keep their size as it widens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from rlop.nets.linear import Linear
from rlop.optim import Adam


def coordinate_check(
    make: Callable[[int], nn.Module],
    obs: Tensor,
    target: Tensor,
    widths: Sequence[int] = (64, 128, 256, 512, 1024),
    steps: int = 5,
    lr: float = 1e-2,
) -> Mapping[str, Tensor]:
    """Measure the mean |pre-activation| of every layer after a few Adam steps, width by width.

    The network is trained on a regression. Sizes are flat in muP; a slope on a log-log scale means
    that the layer blows up or stops changing as the network widens.

    Args:
        make: width -> a network that maps observations to (features, outputs), e.g. a `QNetwork`.
        obs: `[R, B, ...]`.
        target: `[R, B, A]`, targets of the regression.
        widths: widths to compare.
        steps: steps of Adam before the measurement.
        lr: learning rate, the same at all widths.
    Returns:
        Layer name -> `[len(widths)]`, averaged over runs, batch and units.
    Reference: Yang et al., arXiv:2203.03466, and the coordinate check of the package `mup`.
    """
    sizes = []
    for width in widths:
        network = make(width)
        parameters = list(network.parameters())
        optimizer = Adam(parameters, lr)
        for _ in range(steps):
            _, outputs = network(obs)
            loss = (outputs - target).square().mean((1, 2)).sum()
            optimizer.apply(list(torch.autograd.grad(loss, parameters)))
        sizes.append(_activation_sizes(network, obs))

    by_name: dict[str, Tensor] = {}
    for name in sizes[0]:
        by_name[name] = torch.stack([size[name] for size in sizes])
    return by_name


@torch.no_grad()
def _activation_sizes(network: nn.Module, obs: Tensor) -> dict[str, Tensor]:
    """Return the mean |output| of every `Linear`, by the layer's name."""
    sizes: dict[str, Tensor] = {}

    def record(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, inputs: object, output: Tensor) -> None:
            sizes[name] = output.abs().mean()

        return hook

    hooks = []
    for name, layer in network.named_modules():
        if isinstance(layer, Linear):
            hooks.append(layer.register_forward_hook(record(name)))
    network(obs)
    for hook in hooks:
        hook.remove()
    return sizes
