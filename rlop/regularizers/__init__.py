"""Differentiated terms added to the TD loss.

A new one is a function of `TDContext` in a file of its own, made by a factory whose keyword arguments are its options,
and one row in `REGULARIZERS`. One that must see the network first, or keeps numbers of its own for each run, has a
method `prepare(network, seeds)` besides; if it is an `nn.Module` it becomes part of the network,
see `rlop.regularizers.penalties`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from rlop.config.checks import check_known
from rlop.regularizers.cosine import cosine, cosine_regularizer
from rlop.regularizers.dr3 import PRESETS as DR3_PRESETS
from rlop.regularizers.dr3 import dr3, dr3_regularizer, warn_if_unbounded
from rlop.regularizers.infer import InFeR, infer, initial_features
from rlop.regularizers.moments import (
    feature_decorrelation,
    feature_decorrelation_regularizer,
    feature_norm,
    feature_norm_regularizer,
)
from rlop.regularizers.path_norm import neuron_products, path_norm, path_norm_regularizer
from rlop.regularizers.pc_share import PCShare, pc_share
from rlop.regularizers.peer import PRESETS as PEER_PRESETS
from rlop.regularizers.peer import beer, beer_regularizer, peer, peer_regularizer
from rlop.regularizers.spectral_decoupling import (
    spectral_decoupling,
    spectral_decoupling_regularizer,
)
from rlop.regularizers.srank_penalty import srank_penalty, srank_penalty_regularizer
from rlop.regularizers.weights import l2, l2_init_regularizer, l2_regularizer
from rlop.types import Regularizer

__all__ = [
    "PRESETS",
    "REGULARIZERS",
    "InFeR",
    "PCShare",
    "beer",
    "cosine",
    "dr3",
    "dr3_regularizer",
    "feature_decorrelation",
    "feature_norm",
    "infer",
    "initial_features",
    "l2",
    "make_regularizer",
    "neuron_products",
    "path_norm",
    "pc_share",
    "peer",
    "spectral_decoupling",
    "srank_penalty",
    "warn_if_unbounded",
]

REGULARIZERS: dict[str, Callable[..., Regularizer]] = {
    # co-adaptation of consecutive features
    "dr3": dr3_regularizer,
    "cosine": cosine_regularizer,
    "peer": peer_regularizer,
    "beer": beer_regularizer,
    # shape of the feature matrix
    "srank_penalty": srank_penalty_regularizer,
    "pc_share": PCShare,
    "feature_decorrelation": feature_decorrelation_regularizer,
    "feature_norm": feature_norm_regularizer,
    "infer": InFeR,
    # outputs and weights
    "spectral_decoupling": spectral_decoupling_regularizer,
    "path_norm": path_norm_regularizer,
    "l2": l2_regularizer,
    "l2_init": l2_init_regularizer,
}

# "<regularizer>/<variant>" -> options that reproduce a published code
PRESETS = {**DR3_PRESETS, **PEER_PRESETS}


def make_regularizer(name: str, **options: Any) -> Regularizer:
    """The regularizer of that name or preset.

    Args:
        name: a key of `REGULARIZERS` or of `PRESETS`, as in `dr3` or `dr3/dopamine`.
        options: of the regularizer; they override those of the preset.
    Returns:
        A function of `TDContext` that returns `[R]`, unweighted, with the set `needs` of optional fields it reads.
    Raises:
        InputError: for an unknown name or option.
    """
    check_known("regularizer", name, [*REGULARIZERS, *PRESETS])
    factory = REGULARIZERS[name.partition("/")[0]]
    accepted = inspect.signature(factory).parameters
    for option in options:
        check_known(f"regularizer {name}: option", option, accepted)
    return factory(**{**PRESETS.get(name, {}), **options})
