"""Networks of other people's trainings, rebuilt from their saved weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import nn

from rlop.config.checks import check_known
from rlop.interop.d3rlpy_weights import read_d3rlpy
from rlop.interop.parts import Contents
from rlop.interop.sb3_weights import read_sb3
from rlop.interop.scripts import read_cleanrl, read_corl

READERS: Mapping[str, Callable[[Path], Contents]] = {
    "sb3": read_sb3,
    "cleanrl": read_cleanrl,
    "corl": read_corl,
    "d3rlpy": read_d3rlpy,
}


def load_network(
    path: str | Path,
    kind: str,
    part: str | None = None,
    activation: type[nn.Module] | None = None,
) -> nn.Module:
    """Rebuild a network from a file of Stable-Baselines3, CleanRL, CORL or d3rlpy.

    Nothing in the file is executed or imported, and its package need not be installed. Networks
    that are a plain chain of linear layers, Nature convolutions and normalizations can be rebuilt.

        network = rlop.interop.load_network("dqn.zip", "sb3")
        q_values = network(obs)  # [n, A]

    Args:
        path: a zip of `model.save` for `sb3`, a state dict of `torch.save` for `cleanrl`, a
            `checkpoint_*.pt` for `corl`, a `.d3` of `algo.save` for `d3rlpy`.
        kind: `sb3`, `cleanrl`, `corl` or `d3rlpy`.
        part: `q` (values of discrete actions), `actor` (its logits, or the mean of its actions,
            in [-1, 1] where it squashes them), `value`, or `critic_1`, `critic_2` (called with obs
            and action). None takes `q` if the file has it, else `actor`.
        activation: class of the hidden layers' activation, where the script uses another one than
            published: the files of `cleanrl` and `corl` do not name it.
    Returns:
        A network in eval mode on the CPU; its forward takes observations `[n, ...]`, as the
        environment gives them (CHW for images, one-hot for discrete ones).
    Raises:
        InputError: for a file of another kind, or a network that cannot be rebuilt.
    """
    check_known("kind", kind, READERS)
    path = Path(path)
    return READERS[kind](path).network(path, part, activation)
