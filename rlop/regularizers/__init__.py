"""Differentiated terms added to the TD loss, one idea per file.

To add one, write a file with a free function of plain tensors and a subclass of `Regularizer` whose
fields are its options, and add a row to `REGULARIZERS`. A configuration may also name a class or a
function of another package by its import path, `my_package.module:FeatureNorm`.
"""

from __future__ import annotations

from collections.abc import Mapping

from rlop.config.checks import check_known
from rlop.config.parts import is_import_path, load_part
from rlop.config.schema import build
from rlop.regularizers.base import (
    FunctionRegularizer,
    PairRegularizer,
    Regularizer,
    as_regularizer,
    nonterminal,
    repeat_over_critics,
    required,
    sum_over_critics,
)
from rlop.regularizers.cosine import Cosine, cosine
from rlop.regularizers.diversity import Diversity, diversity
from rlop.regularizers.dr3 import DR3, dr3, warn_if_unbounded
from rlop.regularizers.dr3 import PRESETS as DR3_PRESETS
from rlop.regularizers.infer import InFeR, infer, initial_features
from rlop.regularizers.moments import (
    FeatureDecorrelation,
    FeatureNorm,
    feature_decorrelation,
    feature_norm,
)
from rlop.regularizers.path_norm import PathNorm, neuron_products, path_norm
from rlop.regularizers.pc_share import PCShare, pc_share
from rlop.regularizers.peer import BEER, PEER, beer, peer
from rlop.regularizers.peer import PRESETS as PEER_PRESETS
from rlop.regularizers.spectral_decoupling import SpectralDecoupling, spectral_decoupling
from rlop.regularizers.srank_penalty import SrankPenalty, srank_penalty
from rlop.regularizers.weights import L2, L2Init, l2
from rlop.types import InputError, Penalty, needs

__all__ = [
    "BEER",
    "DR3",
    "L2",
    "PEER",
    "PRESETS",
    "REGULARIZERS",
    "Cosine",
    "Diversity",
    "FeatureDecorrelation",
    "FeatureNorm",
    "FunctionRegularizer",
    "InFeR",
    "L2Init",
    "PCShare",
    "PairRegularizer",
    "PathNorm",
    "Penalty",
    "Regularizer",
    "SpectralDecoupling",
    "SrankPenalty",
    "as_regularizer",
    "beer",
    "cosine",
    "diversity",
    "dr3",
    "feature_decorrelation",
    "feature_norm",
    "infer",
    "initial_features",
    "l2",
    "make_regularizer",
    "needs",
    "neuron_products",
    "nonterminal",
    "path_norm",
    "pc_share",
    "peer",
    "repeat_over_critics",
    "required",
    "spectral_decoupling",
    "srank_penalty",
    "sum_over_critics",
    "warn_if_unbounded",
]

REGULARIZERS: dict[str, type[Regularizer]] = {
    # co-adaptation of consecutive features
    "dr3": DR3,
    "cosine": Cosine,
    "peer": PEER,
    "beer": BEER,
    # shape of the feature matrix
    "srank_penalty": SrankPenalty,
    "pc_share": PCShare,
    "feature_decorrelation": FeatureDecorrelation,
    "feature_norm": FeatureNorm,
    "infer": InFeR,
    # outputs and weights
    "spectral_decoupling": SpectralDecoupling,
    "path_norm": PathNorm,
    "l2": L2,
    "l2_init": L2Init,
    # critics of continuous actions
    "diversity": Diversity,
}

# "<regularizer>/<variant>" -> options that reproduce a published code
PRESETS: dict[str, Mapping[str, object]] = {**DR3_PRESETS, **PEER_PRESETS}


def make_regularizer(name: str, **options: object) -> Regularizer:
    """Make a regularizer from its name, a preset or an import path.

    Args:
        name: a key of `REGULARIZERS` or of `PRESETS`, as in `dr3` or `dr3/dopamine`; or the import
            path `my_package.module:Part` of a subclass of `Regularizer` or of a function of
            `TDContext`.
        options: options of the regularizer; they override those of the preset.
    Raises:
        InputError: for an unknown name or option, or a value of another type or out of range.
    """
    if is_import_path(name):
        return _load_regularizer(name, options)

    check_known("regularizers:", name, [*REGULARIZERS, *PRESETS])
    regularizer = REGULARIZERS[name.partition("/")[0]]
    values = {**PRESETS.get(name, {}), **options}
    return build(regularizer, values, where="", key=f"regularizers.{name}")


def _load_regularizer(path: str, options: Mapping[str, object]) -> Regularizer:
    part = load_part(path, "a regularizer", "regularizers")
    if isinstance(part, type) and issubclass(part, Regularizer):
        return build(part, options, where="", key=f"regularizers.{path}")

    regularizer = as_regularizer(part, path)
    if options:
        raise InputError(f"regularizers.{path}: a function takes no options, got {list(options)}")
    return regularizer
