"""Mappings of named terms with one number each, as in `regularizers: {dr3: 0.03}`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias, cast

from rlop.config.checks import check_range
from rlop.config.schema import PLAIN
from rlop.types import InputError

Numbers: TypeAlias = float | list[float]  # one, or several to train side by side


class TermsConfig:
    """Base of the options of an agent with regularizers and projections."""

    regularizers: dict[str, object]  # name -> coef, [coefs] or {coef: ..., option: ...}
    projections: dict[str, object]  # name -> radius, [radii] or {radius: ..., option: ...}


@dataclass(frozen=True)
class TermKind:
    """The meaning of the number of a term.

    Args:
        section: key of the mapping in an agent's options, as in `regularizers`.
        scale: name of the number, as in `coef`.
        off: the number that switches a term off.
        zero_allowed: whether the number may be 0.
    """

    section: str
    scale: str
    off: float
    zero_allowed: bool


REGULARIZERS = TermKind("regularizers", "coef", off=0.0, zero_allowed=True)
PROJECTIONS = TermKind("projections", "radius", off=math.inf, zero_allowed=False)


@dataclass(frozen=True)
class Term:
    """One entry of a mapping of terms.

    Args:
        value: its number, or a list of numbers to train side by side.
        options: options of the part; `fn` holds the part itself if Python code passed it.
    """

    value: Numbers
    options: dict[str, object]


def read_terms(
    entries: Mapping[str, object],
    kind: TermKind,
    variants: Mapping[str, Mapping[str, float]] | None,
) -> dict[str, Term]:
    """Read a mapping of terms; a term that only a variant names is off in the others.

    Args:
        entries: name -> number, list of numbers, or `{<scale>: ..., option: value}`.
        kind: the kind of the mapping.
        variants: name -> {dotted hyper-parameter: value}.
    Raises:
        InputError: for an entry without its number, or an impossible number.
    """
    prefix = f"{kind.section}."
    named_by_variants: set[str] = set()
    for changes in (variants or {}).values():
        named_by_variants.update(key for key in changes if key.startswith(prefix))

    defaults = {key.removeprefix(prefix): kind.off for key in sorted(named_by_variants)}
    return {name: _read(name, entry, kind) for name, entry in {**defaults, **entries}.items()}


def _read(name: str, entry: object, kind: TermKind) -> Term:
    where = f"agent: {kind.section}.{name}"
    options = dict(entry) if isinstance(entry, Mapping) else {kind.scale: entry}
    if PLAIN in options:
        options[kind.scale] = options.pop(PLAIN)

    if kind.scale not in options:
        expected = f"a number or {{{kind.scale}: number, option: value}}"
        raise InputError(f"{where}: {kind.scale} is missing; expected {expected}")
    value = options.pop(kind.scale)
    check_range(f"{where}.{kind.scale}", value, low=0, low_open=not kind.zero_allowed)
    return Term(cast(Numbers, value), options)
