"""From configuration entries such as `dr3: 0.03` to the callables and the per-run numbers of an update."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from rlop.config.checks import check_known, check_range
from rlop.optim.learner import Projection
from rlop.projections import make_projection
from rlop.regularizers import make_regularizer, warn_if_unbounded
from rlop.runs import Runs, expand
from rlop.types import KEPT, OPTIONAL, InputError, Regularizer

Sweep = float | list[float]


@dataclass(frozen=True)
class Terms:
    """The run axis of an agent: which runs there are, their numbers, and the terms they switch on."""

    runs: Runs
    hyper: dict[str, Tensor]  # hyper-parameter -> [R]
    regularizers: dict[str, tuple[Regularizer, Tensor]]  # name -> (function, coefficients [R])
    projections: list[tuple[Projection, Tensor]]  # (projection, radii [R])

    @property
    def needs(self) -> set[str]:
        """Optional fields of `TDContext` that some regularizer reads; all of them where one does not say."""
        return set().union(
            *(getattr(fn, "needs", OPTIONAL) for fn, _ in self.regularizers.values())
        )

    def attach(self, network: Any, activation: str, bootstraps: bool = True) -> None:
        """Show every regularizer the network that it will act on, once, before the network is given to a `Learner`.

        A regularizer that keeps numbers of its own for each run, an `nn.Module` with `prepare`, becomes the network's
        submodule `terms.<name>`. So what it trains is optimized, clipped and frozen with its run, and saved with it.

        Args:
            network: its head is `head`, with weight `[R, A, D]` or `[R, E, A, D]`.
            activation: of the features; warns of a regularizer that is unbounded below on them.
            bootstraps: whether targets hold the value of the next state.
        Raises:
            InputError: for a regularizer that makes no sense with this agent or network.
        """
        kept: dict[str, nn.Module] = {}
        for name, (fn, _) in self.regularizers.items():
            _check_needs(name, fn, bootstraps)
            if hasattr(fn, "form"):
                warn_if_unbounded(fn.form, activation, name.partition("/")[0])
            if hasattr(fn, "prepare"):
                fn.prepare(network, self.runs.seeds)
                kept |= {name: fn} if isinstance(fn, nn.Module) else {}
        if kept:
            network.add_module(KEPT.rstrip("."), nn.ModuleDict(kept))


def _check_needs(name: str, fn: Regularizer, bootstraps: bool) -> None:
    """Refuse a regularizer that reads what no agent gives, or what there is not without a next value."""
    for wanted in getattr(fn, "needs", ()):
        check_known(f"regularizers.{name}: needs", wanted, OPTIONAL)
    if "discount" in getattr(fn, "needs", ()) and not bootstraps:
        raise InputError(f"regularizers.{name}: needs a bootstrapped target, backup = mc has none")


def make_terms(
    config: Any,
    swept: Sequence[str],
    seeds: int | Sequence[int],
    variants: Mapping[str, Mapping[str, float]] | None,
    device: torch.device,
    options: Mapping[str, Any] | None = None,
) -> Terms:
    """Expand an agent's configuration along the run axis.

    Args:
        config: with `regularizers`, `projections` and a field for each name in `swept`.
        swept: hyper-parameters that take one value per run.
        seeds: how many, or which.
        variants: name -> values that replace those of the configuration; a regularizer or projection that only a
            variant names is off in the others.
        device: where the numbers live.
        options: nested options with numbers of their own, see `numbers_of`; they join `hyper` as `name.option`.
    Raises:
        InputError: for an unknown term or option, or an impossible value.
    """
    regularizers = split(
        _with_variants(config.regularizers, "regularizers", 0.0, variants), "coef", make_regularizer
    )
    projections = split(
        _with_variants(config.projections, "projections", float("inf"), variants),
        "radius",
        make_projection,
    )
    for name, changes in (variants or {}).items():
        _check_variant(name, changes, config, swept)
    hyper = {name: getattr(config, name) for name in swept}
    hyper |= {f"regularizers.{name}": coef for name, (_, coef) in regularizers.items()}
    hyper |= {f"projections.{name}": radius for name, (_, radius) in projections.items()}
    nested = numbers_of(options or {})
    runs = expand(hyper | nested, seeds, variants)
    check_runs(options or {}, runs)
    numbers = {name: runs.tensor(name, device) for name in hyper | nested}
    return Terms(
        runs,
        {name: numbers[name] for name in (*swept, *nested)},
        {name: (fn, numbers[f"regularizers.{name}"]) for name, (fn, _) in regularizers.items()},
        [(fn, numbers[f"projections.{name}"]) for name, (fn, _) in projections.items()],
    )


def run_numbers(
    config: Any,
    swept: Sequence[str],
    seeds: int | Sequence[int],
    variants: Mapping[str, Mapping[str, float]] | None,
    device: torch.device,
    options: Mapping[str, Any],
) -> tuple[Runs, dict[str, Tensor]]:
    """The run axis of an agent without regularizers and projections, and its numbers `[R]` by name.

    Args and errors: as in `make_terms`.
    """
    for name, changes in (variants or {}).items():
        _check_variant(name, changes, config, swept)
    numbers = {name: getattr(config, name) for name in swept} | numbers_of(options)
    runs = expand(numbers, seeds, variants)
    check_runs(options, runs)
    return runs, {name: runs.tensor(name, device) for name in numbers}


def numbers_of(options: Mapping[str, Any]) -> dict[str, Sweep]:
    """The numbers of nested options that take one value per run, by dotted name.

    Args:
        options: name -> dataclass that lists such fields in `swept`, or None where the option is off.
    """
    return {
        f"{name}.{key}": getattr(given, key)
        for name, given in options.items()
        if given
        for key in given.swept
    }


def check_runs(options: Mapping[str, Any], runs: Runs) -> None:
    """Hold the nested options' numbers of every run, those of variants among them, to the ranges of the options."""
    for name, given in options.items():
        if given:
            try:
                replace(given, **{key: list(runs.values[f"{name}.{key}"]) for key in given.swept})
            except InputError as error:
                raise InputError(f"{name}.{error}") from None


def _check_variant(
    name: str, changes: Mapping[str, float], config: Any, swept: Sequence[str]
) -> None:
    """Hold the values of a variant to the ranges of the configuration."""
    try:
        replace(config, **{key: value for key, value in changes.items() if key in swept})
        for key, value in changes.items():
            check_range(
                key, value, low=0 if "." in key else None, low_open=key.startswith("projections.")
            )
    except InputError as error:
        raise InputError(f"variants.{name}: {error}") from None


def split(
    entries: Mapping[str, Any], scale: str, make: Callable[..., Any]
) -> dict[str, tuple[Any, Any]]:
    """Resolve a mapping of terms to `{name: (callable, scale value or list)}`.

    Args:
        entries: name -> number, list of numbers, or `{<scale>: ..., "fn": optional callable, **options}`.
        scale: what the number means, `coef` of a regularizer or `radius` of a projection.
        make: `make(name, **options)` for names without `fn`.
    Raises:
        InputError: for an entry without its number, an impossible number, or what `make` refuses.
    """
    terms = {}
    for name, entry in entries.items():
        options = dict(entry) if isinstance(entry, Mapping) else {scale: entry}
        if scale not in options:
            raise InputError(
                f"{name}: {scale} is missing; expected a number or {{{scale}: number, option: value}}"
            )
        value = options.pop(scale)
        check_range(f"{name}.{scale}", value, low=0, low_open=scale == "radius")
        terms[name] = (options.pop("fn", None) or make(name, **options), value)
    return terms


def _with_variants(
    entries: Mapping[str, Any],
    prefix: str,
    off: float,
    variants: Mapping[str, Mapping[str, float]] | None,
) -> dict[str, Any]:
    named = {
        key
        for changes in (variants or {}).values()
        for key in changes
        if key.startswith(prefix + ".")
    }
    return {**{key[len(prefix) + 1 :]: off for key in sorted(named)}, **entries}
