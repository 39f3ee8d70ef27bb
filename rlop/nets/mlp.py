"""Multi-layer perceptron with leading run (and critic) axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice, pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlop.nets.linear import LayerNorm, Linear

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "elu": F.elu,
    "leaky_relu": F.leaky_relu,
    "silu": F.silu,
    "identity": torch.nn.Identity(),
}
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16}  # None: as the inputs are


class MLP(nn.Module):
    """Hidden layers only: the last one's activations are the features phi that a linear head reads.

    Args:
        lead: leading axes of the parameters, `(R,)` or `(R, E)`.
        in_features: width of the flattened input.
        hidden: widths of the hidden layers.
        activation: a key of `ACTIVATIONS`.
        layer_norm: normalise before each activation.
        precision: a key of `PRECISIONS`, of the products between hidden layers. Inputs, features and the parameters
            themselves stay as they are, so that small steps and large values are not rounded away.
    """

    def __init__(
        self,
        lead: Sequence[int],
        in_features: int,
        hidden: Sequence[int] = (256, 256),
        activation: str = "relu",
        layer_norm: bool = False,
        precision: str = "fp32",
    ) -> None:
        super().__init__()
        widths = [in_features, *hidden]
        self.batch_axis = len(lead)
        self.layers = nn.ModuleList(Linear(lead, i, o) for i, o in pairwise(widths))
        self.norms = nn.ModuleList(
            LayerNorm(lead, o) if layer_norm else nn.Identity() for o in hidden
        )
        self.activation, self.precision = activation, precision
        self.n_features = widths[-1]

    def forward(self, x: Tensor) -> Tensor:
        """`[*lead, B, ...] -> [*lead, B, D]`; observation axes after B are flattened."""
        # one network of a stack may be called alone, on [B, I]
        return self.above(self.layers[0](x.flatten(min(self.batch_axis + 1, x.ndim - 1))))

    def above(self, x: Tensor) -> Tensor:
        """What follows the first layer's product: `[*lead, B, hidden[0]] -> [*lead, B, D]`."""
        phi, dtype = ACTIVATIONS[self.activation], x.dtype
        x = phi(self.norms[0](x))
        for layer, norm in islice(zip(self.layers, self.norms, strict=True), 1, None):
            x = phi(norm(layer(x.to(PRECISIONS[self.precision] or dtype))))
        return x.to(dtype)
