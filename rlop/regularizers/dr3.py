"""DR3: keep the features of consecutive state-action pairs from aligning."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rlop.config.checks import check_known
from rlop.regularizers.adapt import check_pair, masked_mean, of_pairs
from rlop.types import Regularizer

FORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "signed": lambda dot: dot,
    "abs": torch.abs,
    "squared": torch.square,
}

PRESETS: dict[str, Mapping[str, Any]] = {
    # the published penalty: signed, gradient through both sides; the text mentions no mask and the Atari code has none
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
    """Mean dot product of consecutive features, the DR3 penalty.

        1/B sum_b m_b f( phi(s_b, a_b) . phi(s'_b, a'_b) ),  f(x) = x, |x| or x^2

    Gradient flows through both arguments: detach one to stop it. It is a dot product, not a cosine, so it is not
    scale-free, and shrinking the features while the head grows lowers it too: log feature and head norms beside it.
    The signed form is bounded below only for features that cannot be negative (see `warn_if_unbounded`).

    Args:
        features: phi(s, a), `[..., B, D]`, the input of the last linear layer, after its activation.
        next_features: phi(s', a'), same shape, a' the action used in the TD target.
        mask: 1 - terminated, `[..., B]`, float or bool; None counts terminal transitions too. The sum is divided by B
            with a mask as well, as jaxrl2 does, so that a batch with many terminals weighs less.
        form: `signed`, `abs` or `squared`.
    Returns:
        `[...]`, unweighted.
    Raises:
        ValueError: when shapes differ.
        InputError: for an unknown form.
    Reference: Kumar et al., "DR3: Value-Based Deep Reinforcement Learning Requires Explicit Regularization",
        ICLR 2022, arXiv:2112.04716, section 4 (Sigma_M* = I, gradients of the last layer only).
    Differs from: dopamine labs/offline_rl, which takes the absolute value; with ReLU features that is the same number.
    """
    check_pair(features, next_features, mask)
    check_known("dr3: form", form, FORMS)
    return masked_mean(FORMS[form]((features * next_features).sum(-1)), mask)


def dr3_regularizer(
    form: str = "signed",
    stop_gradient: bool = False,
    next_features: str = "online",
    mask_terminal: bool = True,
) -> Regularizer:
    """`dr3` as a regularizer of the run-axis update; features of several critics are penalised one by one and summed.

    Coefficients found with the codes that the presets follow; they do not carry over to another feature width:

    - `dr3/paper`: 0.03 beside discrete CQL with alpha = 0.1 on Atari, the setting that Kumar et al. 2022 ("When Should
      We Prefer Offline RL over Behavioral Cloning?") took over from it. That of other agents is not known here.
    - `dr3/dopamine`: 0.1 in `jax_dr3.gin`, whose CQL coefficient is 0; the class default is 0.
    - `dr3/workflow`: default 0.001, on the features of a convolutional trunk.
    - `dr3/jaxrl2`: no default known; on the output of an image encoder, before the action.

    Args:
        form: `signed` (paper), `abs` or `squared`.
        stop_gradient: no gradient through phi(s', a'); the paper reports it slightly worse, its section 4.
        next_features: phi(s', a') of the `online` or of the `target` network; the paper uses no target network.
        mask_terminal: leave out terminal transitions, whose next state is not defined in some data sets. The default
            differs from the paper's Atari code, which masks none.
    Returns:
        A function of `TDContext` that returns `[R]`.
    Raises:
        InputError: for an unknown form or side.
    Reference: Kumar et al., "DR3", ICLR 2022, arXiv:2112.04716.
    """
    check_known("dr3: form", form, FORMS)
    value = partial(dr3, form=form)
    penalty = of_pairs("dr3", value, next_features, stop_gradient, mask_terminal)
    penalty.form = form  # type: ignore[attr-defined]  # for `warn_if_unbounded`, where the network is known
    return penalty


def warn_if_unbounded(form: str, activation: str, name: str = "dr3") -> None:
    """Warn, once per process, of the signed form on features that can be negative.

    There features may turn against each other and grow: the penalty falls without bound. Call it where the network is
    built, with the last operation that makes the features (`layer_norm` when nothing follows the normalisation).

    Args:
        form: of `dr3`; a regularizer from `dr3_regularizer` carries its own as the attribute `form`.
        activation: name of the activation; anything that is not in `NON_NEGATIVE` can be negative.
        name: of the regularizer; `peer` is the signed form too.
    Raises:
        InputError: for an unknown form.
    """
    global _warned
    check_known("dr3: form", form, FORMS)
    if form != "signed" or activation in NON_NEGATIVE or _warned:
        return
    _warned = True
    warnings.warn(
        f"{name} with form 'signed' on {activation} features, which can be negative, is unbounded below: "
        "use dr3 with form 'abs' or 'squared', or an activation that is not negative",
        UserWarning,
        stacklevel=2,
    )
