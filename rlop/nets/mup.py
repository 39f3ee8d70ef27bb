"""Standard, NTK and maximal-update parametrization: how initialization and steps scale with width.

An abc-parametrization writes W = n^-a w, with w drawn at a scale n^-b and trained with the learning
rate eta n^-c. The three exponents are redundant: with Adam, whose step does not depend on the scale
of a gradient, scaling the factor in front by n^-theta and the draw by n^theta gives the same
training as scaling the learning rate by n^-theta. So the learning rate of each kind of layer is
folded into the layer, as a constant in front of its weight, and every optimizer keeps one learning
rate per run. The exponents in `EXPONENTS` are relative to a base width, at which all
parametrizations are the same network and the same training: tune there, then widen.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Generator, Tensor

from rlop.config.checks import check_known
from rlop.nets.linear import Linear, stacked_affine

ROLES = ("input", "hidden", "output")
# parametrization -> optimizer -> (a, b) of each role, with c = 0
EXPONENTS: dict[str, dict[str, tuple[tuple[float, float], ...]]] = {
    "standard": {
        "sgd": ((0, 0), (0, 0.5), (0, 0.5)),
        "adam": ((0, 0), (0, 0.5), (0, 0.5)),
    },
    "ntk": {
        "sgd": ((0, 0), (0.5, 0), (0.5, 0)),
        "adam": ((0, 0), (0.5, 0), (0.5, 0)),
    },
    "mup": {
        "sgd": ((-0.5, 0.5), (0, 0.5), (0.5, 0.5)),
        "adam": ((0, 0), (1, -0.5), (1, 0)),
    },
}


def abc_exponent(a: Sequence[float], b: Sequence[float], c: float = 0.0) -> float:
    """Return r, where the features of a network of width n trained by SGD move by n^-r.

        r = min(a_L+1 + b_L+1, 2 a_L+1 + c) + c - 1 + min_{l <= L} (2 a_l + 1[l = 1])

    r = 0: features are learned; r > 0: the network is in the kernel regime; r < 0: it diverges.

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

    *inner, last = a
    first_layer = 2 * inner[0] + 1
    smallest = min([first_layer, *(2 * exponent for exponent in inner[1:])])
    output = min(last + b[-1], 2 * last + c)
    return output + c - 1 + smallest


def exponents(parametrization: str, role: str, optimizer: str = "adam") -> tuple[float, float]:
    """Return the pair (a, b) of one layer; raise InputError for an unknown name.

    Args:
        parametrization: a key of `EXPONENTS`.
        role: `input`, `hidden` or `output`.
        optimizer: `adam` or `sgd`.
    """
    check_known("parametrization", parametrization, EXPONENTS)
    by_optimizer = EXPONENTS[parametrization]
    check_known("optimizer", optimizer, by_optimizer)
    check_known("role", role, ROLES)
    return by_optimizer[optimizer][ROLES.index(role)]


class ScaledLinear(Linear):
    """`Linear` with a constant in front of its weight, (m W) x + b, for Adam.

    At the base width it is `Linear`. A layer that reads ratio times as many units as at the base
    width has m = ratio^-a; its weight is drawn as in `Linear` times ratio^(1/2 - b), and its
    bias as at the base width. Projections and penalties on weights see `weight`, without m.

    In muP's hidden layers m stands for a smaller learning rate of m W, so the gradient of `weight`
    is that with respect to m W: otherwise it would be ratio times smaller relative to Adam's eps,
    and to a limit on the gradient's norm, than in a network whose learning rates are set layer by
    layer.

    Args:
        lead: leading axes of the parameters, `(R,)` or `(R, E)`.
        in_features: I.
        out_features: O.
        parametrization: a key of `EXPONENTS`.
        role: `input` (its inputs do not widen), `hidden` or `output`.
        base_width: inputs at the base width, of layers that are not `input`.
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
        widens = role != "input" and parametrization != "standard"
        ratio = in_features / base_width if widens else 1.0

        self.multiplier: float = ratio**-a
        self.gain: float = 0.0 if zero else ratio ** (0.5 - b)
        self.bias_gain: float = 0.0 if zero else ratio**0.5
        self.folds_rate = parametrization == "mup" and role == "hidden"

    def reset_run(self, run: int, generator: Generator) -> None:
        """Draw the parameters of one run."""
        super().reset_run(run, generator)
        self.weight.data[run].mul_(self.gain)
        self.bias.data[run].mul_(self.bias_gain)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[*lead, B, I]` to `[*lead, B, O]`, computed in the dtype of `x`."""
        scaled = self.multiplier * self.weight
        if self.folds_rate:
            # The value is m W, the gradient of W the one with respect to m W: see the class.
            zero = self.weight - self.weight.detach()
            scaled = scaled.detach() + zero
        return stacked_affine(x, scaled.to(x.dtype), self.bias.to(x.dtype))
