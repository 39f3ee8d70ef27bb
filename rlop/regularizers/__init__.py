"""Differentiated terms added to the TD loss.

A new one is a function of `TDContext` in a file of its own, made by a factory whose keyword arguments are its options,
and one row in `REGULARIZERS`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from rlop.checks import check_known
from rlop.regularizers.dr3 import PRESETS as DR3_PRESETS
from rlop.regularizers.dr3 import dr3, dr3_regularizer, warn_if_unbounded
from rlop.types import Regularizer

__all__ = ["PRESETS", "REGULARIZERS", "dr3", "dr3_regularizer", "make_regularizer", "warn_if_unbounded"]

REGULARIZERS: dict[str, Callable[..., Regularizer]] = {
    "dr3": dr3_regularizer,
}

# "<regularizer>/<variant>" -> options that reproduce a published code
PRESETS = {**DR3_PRESETS}


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
