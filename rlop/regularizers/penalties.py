"""From configuration entries such as `dr3: 0.03` to the callables and the per-run numbers of an update."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from rlop.config.checks import check_known, check_range
from rlop.projections import Project, Projection, make_projection
from rlop.regularizers import as_regularizer, make_regularizer
from rlop.regularizers.base import Regularizer, head_weight
from rlop.runs import Runs, expand
from rlop.types import KEPT, OPTIONAL, InputError, Penalty

Sweep = float | list[float]


@dataclass(frozen=True)
class Terms:
    """The runs of an agent, their numbers, and the penalties and projections they switch on.

    `attach` replaces regularizers and projections by what an update calls.
    """

    runs: Runs
    hyper: dict[str, Tensor]  # hyper-parameter -> [R]
    regularizers: dict[str, tuple[Regularizer | Penalty, Tensor]]  # name -> (it, coefficients [R])
    projections: list[tuple[Projection | Project, Tensor]]  # (it, radii [R])
    needs: frozenset[str]  # optional fields of `TDContext` that some regularizer reads

    def attach(self, network: nn.Module, activation: str, bootstraps: bool = True) -> None:
        """Attach every regularizer and projection to the network, before a `Learner` gets it.

        Modules that regularizers return become the network's submodules `terms.<name>`.

        Args:
            network: its head is `head`, with weight `[R, A, D]` or `[R, E, A, D]`.
            activation: of the features.
            bootstraps: whether targets hold the value of the next state.
        Raises:
            InputError: for a regularizer that makes no sense with this agent or network, or a
                projection of a layer that the network has not.
        """
        modules: dict[str, nn.Module] = {}
        for name, (regularizer, coef) in self.regularizers.items():
            assert isinstance(regularizer, Regularizer)
            _check_needs(name, regularizer, bootstraps)
            penalty = regularizer.attach(network, activation, self.runs.seeds)
            self.regularizers[name] = (penalty, coef)
            if isinstance(penalty, nn.Module):
                modules[name] = penalty
        if modules:
            network.add_module(KEPT.rstrip("."), nn.ModuleDict(modules))

        parameters = dict(network.named_parameters())
        lead = head_weight(network).ndim - 2
        for position, (projection, radius) in enumerate(self.projections):
            assert isinstance(projection, Projection)
            self.projections[position] = (projection.attach(parameters, lead), radius)


def _check_needs(name: str, regularizer: Regularizer, bootstraps: bool) -> None:
    """Refuse a regularizer that reads a field that does not exist, or that this agent lacks."""
    if regularizer.needs == OPTIONAL:  # a function that declares nothing gets what exists
        return

    for field in regularizer.needs:
        check_known(f"regularizers.{name}: needs", field, OPTIONAL)
    if "discount" in regularizer.needs and not bootstraps:
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
    entries = _with_variants(config.regularizers, "regularizers", 0.0, variants)
    regularizers: dict[str, tuple[Regularizer, Sweep]] = {}
    for name, (part, coef) in split(entries, "coef", make_regularizer).items():
        regularizers[name] = (as_regularizer(part, name), coef)
    projections = split(
        _with_variants(config.projections, "projections", float("inf"), variants),
        "radius",
        make_projection,
    )
    for name, (part, _) in projections.items():
        if not isinstance(part, Projection):
            raise InputError(f"projections.{name}: expected a Projection, got {part!r}")
    for name, changes in (variants or {}).items():
        _check_variant(name, changes, config, swept)
    hyper = {name: getattr(config, name) for name in swept}
    hyper |= {f"regularizers.{name}": coef for name, (_, coef) in regularizers.items()}
    hyper |= {f"projections.{name}": radius for name, (_, radius) in projections.items()}
    nested = numbers_of(options or {})
    runs = expand(hyper | nested, seeds, variants)
    check_runs(options or {}, runs)
    numbers = {name: runs.tensor(name, device) for name in hyper | nested}
    needs: frozenset[str] = frozenset()
    for regularizer, _ in regularizers.values():
        needs |= regularizer.needs
    return Terms(
        runs,
        {name: numbers[name] for name in (*swept, *nested)},
        {name: (fn, numbers[f"regularizers.{name}"]) for name, (fn, _) in regularizers.items()},
        [(fn, numbers[f"projections.{name}"]) for name, (fn, _) in projections.items()],
        needs,
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
