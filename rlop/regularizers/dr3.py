"""DR3: keep the features of consecutive state-action pairs from aligning."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from rlop.config.checks import check_known
from rlop.config.schema import option, options
from rlop.regularizers.base import PairRegularizer, sum_over_critics
from rlop.regularizers.shapes import check_pair, masked_mean
from rlop.types import Penalty, TDContext

Form: TypeAlias = Literal["signed", "abs", "squared"]

FORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "signed": lambda dot: dot,
    "abs": torch.abs,
    "squared": torch.square,
}

PRESETS: dict[str, Mapping[str, object]] = {
    # The published penalty: signed, with gradient through both sides. The text mentions no mask,
    # and the Atari code has none.
    "dr3/paper": {
        "form": "signed",
        "stop_gradient": False,
        "next_features": "online",
        "mask_terminal": False,
    },
    # dopamine labs/offline_rl, OfflineJaxDR3Agent, and reincarnating_rl
    "dr3/dopamine": {
        "form": "abs",
        "stop_gradient": False,
        "next_features": "online",
        "mask_terminal": False,
    },
    # code of "A Workflow for Offline Model-Free Robotic RL", option `dr3_feat`
    "dr3/workflow": {
        "form": "signed",
        "stop_gradient": True,
        "next_features": "online",
        "mask_terminal": False,
    },
    # jaxrl2 and PTR, pixel CQL
    "dr3/jaxrl2": {
        "form": "signed",
        "stop_gradient": False,
        "next_features": "online",
        "mask_terminal": True,
    },
}

NON_NEGATIVE = frozenset({"relu", "sigmoid", "softplus", "squared_relu"})

_warned = False


def dr3(
    features: Tensor, next_features: Tensor, mask: Tensor | None = None, form: str = "signed"
) -> Tensor:
    """Compute the mean dot product of consecutive features, the DR3 penalty.

        1/B sum_b m_b f( phi(s_b, a_b) . phi(s'_b, a'_b) ),  f(x) = x, |x| or x^2

    Gradient flows through both arguments: detach one to stop it. It is a dot product, not a
    cosine, so it depends on scale: shrinking the features while the head grows lowers it too.
    Log the norms of features and head to see that. The signed form is bounded below only for
    features that cannot be negative (see `warn_if_unbounded`).

    Args:
        features: phi(s, a), `[..., B, D]`, the input of the last linear layer, after its
            activation.
        next_features: phi(s', a'), same shape, a' the action used in the TD target.
        mask: 1 - terminated, `[..., B]`, float or bool; None counts terminal transitions too. The
            sum is divided by B with a mask as well, as jaxrl2 does, so that a batch with many
            terminals weighs less.
        form: `signed`, `abs` or `squared`.
    Returns:
        `[...]`, unweighted.
    Raises:
        ValueError: when shapes differ.
        InputError: for an unknown form.
    Reference: Kumar et al., "DR3: Value-Based Deep Reinforcement Learning Requires Explicit
        Regularization", ICLR 2022, arXiv:2112.04716, section 4 (Sigma_M* = I, gradients of the
        last layer only).
    Differs from: dopamine labs/offline_rl, which takes the absolute value; with ReLU features that
        is the same number.
    """
    check_pair(features, next_features, mask)
    check_known("dr3: form", form, FORMS)
    dot = (features * next_features).sum(-1)
    return masked_mean(FORMS[form](dot), mask)


@options
class DR3(PairRegularizer):
    """`dr3` of every critic, summed.

    A preset sets form, gradient and mask, never the coefficient. These are the coefficients of the
    codes that the presets follow; they do not carry over to another feature width:

    - `dr3/paper`: 0.03 with discrete CQL at alpha = 0.1 on Atari, the setting that Kumar et al.
      2022 ("When Should We Prefer Offline RL over Behavioral Cloning?") took over from it. The
      coefficient for other agents is not known here.
    - `dr3/dopamine`: 0.1 in `jax_dr3.gin`, whose CQL coefficient is 0; the class default is 0.
    - `dr3/workflow`: default 0.001, on the features of a convolutional trunk.
    - `dr3/jaxrl2`: no default known; on the output of an image encoder, before the action.

    The paper reports `stop_gradient` to be slightly worse (its section 4), and takes phi(s', a')
    from the online network.

    Reference: Kumar et al., "DR3", ICLR 2022, arXiv:2112.04716.
    Differs from: the paper's Atari code, which masks no terminal transitions.
    """

    form: Form = option("signed", "what counts: the dot product, its absolute value or its square")

    def attach(self, network: nn.Module, activation: str, seeds: Sequence[int]) -> Penalty:
        """Warn of a penalty that is unbounded below on these features."""
        warn_if_unbounded(self.form, activation, "dr3")
        return self

    def __call__(self, ctx: TDContext) -> Tensor:
        """Compute the penalty of each run, `[R]`."""
        return sum_over_critics(dr3(*self.pair(ctx), self.form))


def warn_if_unbounded(form: str, activation: str, name: str = "dr3") -> None:
    """Warn, once per process, of the signed form on features that can be negative.

    Such features may turn against each other and grow: the penalty falls without bound.

    Args:
        form: `form` of `dr3`.
        activation: name of the last operation that makes the features (`layer_norm` when nothing
            follows the normalization); one that is not in `NON_NEGATIVE` can be negative.
        name: name of the regularizer, for the message; `peer` has the signed form too.
    Raises:
        InputError: for an unknown form.
    """
    global _warned
    check_known(f"{name}: form", form, FORMS)
    if form != "signed" or activation in NON_NEGATIVE or _warned:
        return

    _warned = True
    warnings.warn(
        f"{name} with form 'signed' on {activation} features, which can be negative, is unbounded "
        "below: use dr3 with form 'abs' or 'squared', or an activation that is not negative",
        UserWarning,
        stacklevel=2,
    )
