"""Linear layers between torso and head: same functions, but gradient descent prefers low rank."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Generator, Tensor, nn

from rlop.nets.linear import undrawn

INITS = ("default", "orthogonal")


class Matrix(nn.Module):
    """Stacked linear map without bias: weight `[*lead, O, I]`, input `[*lead, B, I]`.

    Initialized like `nn.Linear`, uniform in +-1/sqrt(fan_in), or orthogonal.
    """

    def __init__(
        self,
        lead: Sequence[int],
        in_features: int,
        out_features: int,
        init: str = "default",
    ) -> None:
        super().__init__()
        self.init = init
        self.weight = undrawn(*lead, out_features, in_features)

    def reset_run(self, run: int, generator: Generator) -> None:
        """Draw the parameters of one run."""
        weight = self.weight.data[run]
        bound = weight.shape[-1] ** -0.5
        matrices = weight.reshape(-1, *weight.shape[-2:])  # views, one for each critic

        for matrix in matrices:
            if self.init == "orthogonal":
                nn.init.orthogonal_(matrix, generator=generator)
            else:
                matrix.uniform_(-bound, bound, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[*lead, B, I]` to `[*lead, B, O]`."""
        return x @ self.weight.mT


class LinearStack(nn.Sequential):
    """l square linear maps without biases, x -> W_l ... W_1 x; the rank of the features can fall.

    Under gradient flow from balanced weights a singular value s of the product moves l s^(2 - 2/l)
    times as fast as without the stack: large ones grow first, small ones stay behind. With the
    default initialization each map shrinks its input by about sqrt(3), so l also sets the initial
    size of the product; `orthogonal` starts at an isometry.

    Args:
        lead: leading axes of the parameters, `(R,)` or `(R, E)`.
        features: D.
        length: l.
        init: `default`, as in `nn.Linear`, or `orthogonal`.
    Reference: Jing, Zbontar and LeCun, "Implicit Rank-Minimizing Autoencoder", NeurIPS 2020,
        arXiv:2010.00679 (default initialization); Sun et al., "Implicit Greedy Rank Learning in
        Autoencoders via Overparameterized Linear Networks", 2021, arXiv:2107.01301 (orthogonal).
    Differs from: Sun et al. in that the learning rate is not adjusted to l; their rule was not
        available.
    """

    def __init__(
        self,
        lead: Sequence[int],
        features: int,
        length: int,
        init: str = "default",
    ) -> None:
        maps = [Matrix(lead, features, features, init) for _ in range(length)]
        super().__init__(*maps)

    def collapse(self) -> Tensor:
        """Return the product W_l ... W_1, `[*lead, D, D]`.

        The stack maps x to `x @ collapse().mT`.
        """
        first, *others = self.parameters()

        product: Tensor = first
        for weight in others:
            product = weight @ product
        return product
