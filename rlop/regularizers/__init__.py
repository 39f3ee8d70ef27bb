"""Differentiated terms added to the TD loss.

A new one is a function of `TDContext` in a file of its own, made by a factory whose keyword arguments are its options,
and one row in `REGULARIZERS`.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable
from typing import Any

from rlop.regularizers.dr3 import PRESETS as DR3_PRESETS
from rlop.regularizers.dr3 import dr3, dr3_regularizer, warn_if_unbounded
from rlop.types import InputError, Regularizer

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
    _check_known("regularizer", name, [*REGULARIZERS, *PRESETS])
    factory = REGULARIZERS[name.partition("/")[0]]
    accepted = inspect.signature(factory).parameters
    for option in options:
        _check_known(f"regularizer {name}: option", option, accepted)
    return factory(**{**PRESETS.get(name, {}), **options})


def _check_known(kind: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        nearest = difflib.get_close_matches(str(name), known, 1, 0.0)[0]
        raise InputError(f"{kind} {name!r}: expected one of {', '.join(known)}; did you mean {nearest!r}?")
