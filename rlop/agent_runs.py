"""The run axis of an agent: the values that its runs differ in, and the terms that need them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlop.config import terms
from rlop.optim.choice import nested_options
from rlop.projections import Projection, make_projections
from rlop.regularizers.base import Regularizer
from rlop.regularizers.penalties import make_regularizers
from rlop.runs import Runs, SweptOptions, expand_options


@dataclass(frozen=True)
class RunAxis:
    """What an agent's configuration, seeds and variants say about its runs.

    Args:
        runs: the R runs, with a value of every hyper-parameter.
        nested: field -> options whose numbers may differ between runs.
        regularizers: by name; `runs` has coefficients `regularizers.<name>`.
        projections: by name; `runs` has radii `projections.<name>`.
    """

    runs: Runs
    nested: dict[str, SweptOptions]
    regularizers: dict[str, Regularizer]
    projections: dict[str, Projection]


def run_axis(
    config: Any,
    seeds: int | Sequence[int],
    variants: Mapping[str, Mapping[str, float]] | None,
) -> RunAxis:
    """Expand an agent's configuration along the run axis, and make its regularizers.

    Args:
        config: an instance of the agent's `Config`.
        seeds: see `rlop.runs.seed_list`.
        variants: see `rlop.runs.expand`.
    Raises:
        InputError: for an unknown term, or an impossible value of a run.
    """
    penalties: dict[str, terms.Term] = {}
    constraints: dict[str, terms.Term] = {}
    if isinstance(config, terms.TermsConfig):
        penalties = terms.read_terms(config.regularizers, terms.REGULARIZERS, variants)
        constraints = terms.read_terms(config.projections, terms.PROJECTIONS, variants)

    # Every number that a run may have of its own, by its dotted name.
    values = {f"regularizers.{name}": term.value for name, term in penalties.items()}
    values |= {f"projections.{name}": term.value for name, term in constraints.items()}
    nested = nested_options(config)
    runs = expand_options(config, values, nested, seeds, variants)

    projections = dict(zip(constraints, make_projections(constraints), strict=True))
    return RunAxis(runs, nested, make_regularizers(penalties), projections)
