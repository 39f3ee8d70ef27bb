"""From configuration entries such as `dr3: 0.03` to the callables and the per-run numbers of an update."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rlop.checks import check_range
from rlop.types import InputError

Sweep = float | list[float]


def split(entries: Mapping[str, Any], scale: str, make: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
    """Resolve a mapping of terms to `{name: (callable, scale value or list)}`.

    Args:
        entries: name -> number, list of numbers, or `{<scale>: ..., "fn": optional callable, **options}`.
        scale: what the number means, `coef` of a regularizer or `radius` of a projection.
        make: `make(name, **options)` for names without `fn`.
    Raises:
        InputError: for an entry without its number, or what `make` refuses.
    """
    terms = {}
    for name, entry in entries.items():
        options = dict(entry) if isinstance(entry, Mapping) else {scale: entry}
        if scale not in options:
            raise InputError(f"{name}: {scale} is missing; expected a number or {{{scale}: number, option: value}}")
        value = options.pop(scale)
        for number in value if isinstance(value, (list, tuple)) else [value]:
            check_range(f"{name}.{scale}", number, low=0, low_open=scale == "radius")
        terms[name] = (options.pop("fn", None) or make(name, **options), value)
    return terms


def with_variants(
    entries: Mapping[str, Any], prefix: str, off: float, variants: Mapping[str, Mapping[str, float]] | None
) -> dict[str, Any]:
    """Add terms that only a variant names, switched off (`off`) everywhere else."""
    named = {key for changes in (variants or {}).values() for key in changes if key.startswith(prefix + ".")}
    return {**{key[len(prefix) + 1 :]: off for key in sorted(named)}, **entries}
