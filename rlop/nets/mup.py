"""How initialisation and learning rate scale with the width: standard, NTK and maximal-update
parametrization.

An abc-parametrization writes W = n^-a w with w drawn at a scale n^-b and trained with the learning
rate eta n^-c. The
three exponents are redundant: with Adam, whose step does not feel the scale of a gradient, n^-theta
    more in front and n^theta more in the draw is the same training as n^-theta more in the learning
    rate. So a learning rate for each kind of layer is folded into the layer, as a constant in front
    of its weight, and every optimizer keeps one learning rate a run. What is folded is the
    exponents of `EXPONENTS`, relative to a base width at which all parametrizations are the same
network and the same training: tune there, then widen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Generator, Tensor, nn

from rlop.config.checks import check_known
from rlop.nets.linear import Linear, stacked_affine
from rlop.optim.adam import Adam

ROLES = ("input", "hidden", "output")
# parametrization -> optimizer -> (a, b) of each role, with c = 0
EXPONENTS: dict[str, dict[str, tuple[tuple[float, float], ...]]] = {
    "standard": {"sgd": ((0, 0), (0, 0.5), (0, 0.5)), "adam": ((0, 0), (0, 0.5), (0, 0.5))},
    "ntk": {"sgd": ((0, 0), (0.5, 0), (0.5, 0)), "adam": ((0, 0), (0.5, 0), (0.5, 0))},
    "mup": {"sgd": ((-0.5, 0.5), (0, 0.5), (0.5, 0.5)), "adam": ((0, 0), (1, -0.5), (1, 0))},
}


def abc_exponent(a: Sequence[float], b: Sequence[float], c: float = 0.0) -> float:
    """How fast the features stop moving as a network trained by SGD gets wider: they move by n^-r.

        r = min(a_L+1 + b_L+1, 2 a_L+1 + c) + c - 1 + min_{l <= L} (2 a_l + 1[l = 1])

    r = 0: features are learned; r > 0: the network is in the kernel regime; r < 0: it blows up.

    Args:
        a: exponents in front of the L + 1 layers, input to output.
        b: exponents of their draws.
        c: exponent of the learning rate.
    Reference: Yang and Hu, "Feature Learning in Infinite-Width Neural Networks", ICML 2021,
        arXiv:2011.14522.
    """
    if len(a) != len(b) or len(a) < 2:
        raise ValueError(
            f"a, b: expected one number for each of at least 2 layers, got {len(a)} and {len(b)}"
        )
    inner = min(2 * exponent + (layer == 0) for layer, exponent in enumerate(a[:-1]))
    return min(a[-1] + b[-1], 2 * a[-1] + c) + c - 1 + inner


def rate_exponent(parametrization: str, role: str, optimizer: str = "adam") -> float:
    """How the learning rate of W itself scales with the width where nothing is folded: as n^x.

    What parameter groups would hold: a step of w moves W by n^-a of it, and SGD's gradient has
        another n^-a.

    Args:
        parametrization: a key of `EXPONENTS`.
        role: `input`, `hidden` or `output`.
        optimizer: `adam` or `sgd`.
    Reference: Yang et al., "Tensor Programs V", 2022, arXiv:2203.03466, tables of muP for SGD and
        Adam.
    """
    a, _ = exponents(parametrization, role, optimizer)
    return -2 * a if optimizer == "sgd" else -a


def exponents(parametrization: str, role: str, optimizer: str = "adam") -> tuple[float, float]:
    """The pair (a, b) of one layer; InputError for a name that is not known."""
    check_known("parametrization", parametrization, EXPONENTS)
    check_known("optimizer", optimizer, EXPONENTS[parametrization])
    check_known("role", role, ROLES)
    return EXPONENTS[parametrization][optimizer][ROLES.index(role)]


class ScaledLinear(Linear):
    """`Linear` with a constant in front of its weight: (m W) x + b, for Adam.

    At the base width it is `Linear`. Of a layer that reads ratio times as many units as at the base
    width, m is ratio^-a, its weight is drawn as that of `Linear` times ratio^(1/2 - b), and its
    bias as at the base width. What looks at `weight` (projections, penalties on weights, gradient
    norms) sees the weight without m.

    Args:
        lead, in_features, out_features: as in `Linear`.
        parametrization: a key of `EXPONENTS`.
        role: `input` (reads what does not widen), `hidden` or `output`.
        base_width: units read at the base width, by layers that are not `input`.
        zero: start with weight and bias at 0; recommended for the output in muP, where its draw
            vanishes with n anyway.
    Reference: Yang et al., arXiv:2203.03466; the package `mup` (readout, biases).
    Differs from: `mup`, which sets learning rates by parameter groups and divides the readout's
        input.
    """

    def __init__(
        self,
        lead: Sequence[int],
        in_features: int,
        out_features: int,
        parametrization: str = "standard",
        role: str = "hidden",
        base_width: int = 64,
        zero: bool = False,
    ) -> None:
        super().__init__(lead, in_features, out_features)
        a, b = exponents(parametrization, role)
        ratio = (
            1.0 if role == "input" or parametrization == "standard" else in_features / base_width
        )
        self.multiplier: float = ratio**-a
        self.gain: float = 0.0 if zero else ratio ** (0.5 - b)
        self.bias_gain: float = 0.0 if zero else ratio**0.5

    def reset_run(self, run: int, generator: Generator) -> None:
        """Draw the parameters of one run."""
        super().reset_run(run, generator)
        self.weight.data[run].mul_(self.gain)
        self.bias.data[run].mul_(self.bias_gain)

    def forward(self, x: Tensor) -> Tensor:
        """`[*lead, B, I] -> [*lead, B, O]`."""
        return stacked_affine(x, self.multiplier * self.weight, self.bias)


def coordinate_check(
    make: Callable[[int], nn.Module],
    obs: Tensor,
    target: Tensor,
    widths: Sequence[int] = (64, 128, 256, 512, 1024),
    steps: int = 5,
    lr: float = 1e-2,
) -> Mapping[str, Tensor]:
    """Mean |pre-activation| of every layer after a few Adam steps on a regression, width by width.

    Flat in muP; a slope on a log-log scale says that the layer blows up or stops moving as it gets
    wider.

    Args:
        make: width -> a network that maps observations to (features, outputs), e.g. a `QNetwork`.
        obs: `[R, B, ...]`.
        target: `[R, B, A]`, what the outputs are regressed on.
        widths: to compare.
        steps: of Adam before the measurement.
        lr: the same at all widths.
    Returns:
        Layer name -> `[len(widths)]`, averaged over runs, batch and units.
    Reference: Yang et al., arXiv:2203.03466, and the coordinate check of the package `mup`.
    """
    rows = []
    for width in widths:
        network = make(width)
        optimizer = Adam(network.parameters(), lr)
        for _ in range(steps):
            loss = (network(obs)[1] - target).square().mean((1, 2)).sum()
            optimizer.apply(list(torch.autograd.grad(loss, list(network.parameters()))))
        rows.append(_sizes(network, obs))
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


@torch.no_grad()
def _sizes(network: nn.Module, obs: Tensor) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, Linear)}
    hooks = [
        layer.register_forward_hook(
            lambda _, args, out, name=name: found.update({name: out.abs().mean()})
        )
        for name, layer in layers.items()
    ]
    network(obs)
    for hook in hooks:
        hook.remove()
    return found
