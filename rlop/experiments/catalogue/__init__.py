"""The workshop's 51 abstracts: what each claims, where it lives here, and which experiments test it.

"Over-parameterization: Pitfalls and Opportunities", a workshop at ICML 2021. No verdict is written down here: it is
computed from the last run (`scripts/reproduce.py`).
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from rlop.experiments.catalogue.pending import PENDING
from rlop.experiments.catalogue.posters import POSTERS
from rlop.experiments.catalogue.posters_two import POSTERS_TWO
from rlop.experiments.catalogue.row import KINDS, Row
from rlop.experiments.catalogue.talks import TALKS
from rlop.types import InputError

__all__ = [
    "CATALOGUE",
    "KINDS",
    "PENDING",
    "SLOW",
    "Row",
    "available",
    "experiment_names",
    "resolve",
]

CATALOGUE: tuple[Row, ...] = TALKS + POSTERS + POSTERS_TWO

# Experiments that take longer than 3 seconds of a processor: left out by `reproduce.py fast`, marked slow in the tests.
SLOW = frozenset(
    {
        "block_structure",
        "class_variance",
        "depth",
        "disagreement",
        "dr3_backups",
        "dr3_remedy",
        "flip_rate",
        "imbalanced_gmm",
        "implicit_rank",
        "implicit_regularizer",
        "label_corruption",
        "learning_time",
        "linear_conv",
        "low_rank_training",
        "mc_cures_rank",
        "offpolicy_chain",
        "path_norm_sparsity",
        "pruning",
        "shattering",
        "siblings",
        "static_sparsity",
        "strong_weak_features",
        "two_moons",
    }
)


def experiment_names() -> list[str]:
    """Every experiment that the catalogue names, once, in the order of the abstracts."""
    return list(dict.fromkeys(name for row in CATALOGUE for name in row.experiments))


def available() -> list[str]:
    """Those of `experiment_names` that are there."""
    return [
        name for name in experiment_names() if find_spec(f"rlop.experiments.{name}") is not None
    ]


def resolve(dotted: str) -> Any:
    """The module, class or function behind a dotted name.

    Args:
        dotted: e.g. `rlop.projections.max_norm`.
    Raises:
        InputError: when there is no such thing.
    """
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        try:
            for name in parts[end:]:
                found = getattr(found, name)
            return found
        except AttributeError:
            break
    raise InputError(f"catalogue: {dotted!r} is not there")
