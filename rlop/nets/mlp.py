"""Multi-layer perceptron with leading run (and critic) axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice, pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlop.nets.linear import LayerNorm, Linear
from rlop.nets.torso import Torso

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "elu": F.elu,
    "leaky_relu": F.leaky_relu,
    "silu": F.silu,
    "identity": nn.Identity(),
}
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16}  # None keeps the dtype of the input


class MLP(Torso):
    """Hidden layers only: the activations of the last one are the features phi of a linear head.

    Args:
        lead: leading axes of the parameters, `(R,)` or `(R, E)`.
        in_features: width of the flattened input.
        hidden: widths of the hidden layers.
        activation: a key of `ACTIVATIONS`.
        layer_norm: normalize before each activation.
        precision: a key of `PRECISIONS`, for the products between hidden layers. Inputs, features
            and parameters keep their dtype, so that small steps and large values are not rounded
            away.
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
        self.batch_axis = len(lead)
        self.activation = activation
        self.precision = precision
        self.n_features = hidden[-1] if hidden else in_features

        self.layers = nn.ModuleList()
        self.norms = nn.ModuleList()
        for n_in, n_out in pairwise([in_features, *hidden]):
            self.layers.append(Linear(lead, n_in, n_out))
            self.norms.append(LayerNorm(lead, n_out) if layer_norm else nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        """Map `[*lead, B, ...]` to `[*lead, B, D]`; observation axes after B are flattened."""
        # One network of a stack may be called alone, on [B, I].
        first_obs_axis = min(self.batch_axis + 1, x.ndim - 1)
        return self.above(self.layers[0](x.flatten(first_obs_axis)))

    def above(self, x: Tensor) -> Tensor:
        """Continue from the first layer's product: `[*lead, B, hidden[0]]` to `[*lead, B, D]`."""
        phi = ACTIVATIONS[self.activation]
        dtype = x.dtype
        product_dtype = PRECISIONS[self.precision] or dtype

        x = as_laid_out(phi, self.norms[0](x))
        above_first = islice(zip(self.layers, self.norms, strict=True), 1, None)
        for layer, norm in above_first:
            x = as_laid_out(phi, norm(layer(x.to(product_dtype))))
        return x.to(dtype)


def as_laid_out(phi: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Compute an activation of `[*lead, B, D]` in the order in which x lies in memory.

    The products of stacked networks lie column by column, and a compiler would otherwise write the
    result row by row, which takes longer than the activation.
    """
    columns = x.mT
    return phi(columns).mT if columns.is_contiguous() else phi(x)
