"""Other initializations, drawn after `reset_runs` to replace that of `Linear`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor, nn

from rlop.nets.conv import Conv2d
from rlop.nets.linear import Linear

HEADS: dict[str, Callable[..., Tensor]] = {
    "small_head": nn.init.xavier_uniform_,
    "orthogonal": nn.init.orthogonal_,
}
HEAD_GAIN = 0.01  # so that all outputs start near 0
HIDDEN_GAIN = math.sqrt(2)  # of orthogonal hidden layers


class InitConfig:
    """Base of the options of an agent that lets its user choose the initialization."""

    init: str  # of the main network, a name that `reinit_runs` knows


def reinit_runs(networks: Sequence[tuple[nn.Module, str]], seeds: Sequence[int]) -> None:
    """Redraw the weights of networks with a `torso` and a `head`, each run from its own seed.

    `default` changes nothing. `small_head` draws the head from Xavier's uniform distribution times
    0.01. `orthogonal` makes the hidden layers orthogonal times sqrt(2) and the head orthogonal
    times 0.01. `dopamine` draws every `Linear` and `Conv2d` uniform in +-sqrt(sqrt(3) / fan_in),
    1.3 times as wide as `reset_runs`. Biases of the layers that are drawn become 0.

    Args:
        networks: pairs of a network and one of these names; parameters `[R, ...]` or `[R, E, ...]`,
            each critic draws its own.
        seeds: one per run.
    Reference: `init_module_weights` in CORL's CQL, with orthogonal_init false and true; variance
        scaling by 1/sqrt(3), fan in, of Dopamine's original and of batch_rl's networks, for
        parameters `[R, ...]`.
    """
    for run, seed in enumerate(seeds):
        generator = Generator().manual_seed(seed)
        for network, init in networks:
            _reinit_run(network, init, run, generator)


def _reinit_run(network: nn.Module, init: str, run: int, generator: Generator) -> None:
    """Draw the weights of one run of one network."""
    if init == "default":
        return

    if init == "dopamine":
        for layer in network.modules():
            if type(layer) is Linear or type(layer) is Conv2d:
                _draw_by_fan_in(layer, run, generator)
        return

    if init == "orthogonal":
        for layer in network.get_submodule("torso").modules():
            if isinstance(layer, Linear):
                _draw(layer, run, nn.init.orthogonal_, HIDDEN_GAIN, generator)
    head = network.get_submodule("head")
    assert isinstance(head, Linear)
    _draw(head, run, HEADS[init], HEAD_GAIN, generator)


@torch.no_grad()
def _draw_by_fan_in(layer: Linear | Conv2d, run: int, generator: Generator) -> None:
    """Draw one run's weights uniform in +-sqrt(sqrt(3) / fan_in), and zero its biases."""
    fan_in = layer.weight[run][0].numel()
    bound = math.sqrt(math.sqrt(3) / fan_in)
    layer.weight[run].uniform_(-bound, bound, generator=generator)
    layer.bias[run].zero_()


@torch.no_grad()
def _draw(
    layer: Linear,
    run: int,
    init: Callable[..., Tensor],
    gain: float,
    generator: Generator,
) -> None:
    """Draw one run's weight matrices, one for each critic, and zero its biases."""
    layer.bias[run].zero_()
    matrices = layer.weight[run].reshape(-1, *layer.weight.shape[-2:])  # views, one per critic
    for matrix in matrices:
        init(matrix, gain, generator)
