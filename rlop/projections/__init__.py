"""Constraints on the weights, applied in place after each optimizer step.

They act before the target network's update. Every set here is a product of l2 balls, hence convex:
averages of feasible weights (Polyak, EMA, the averaged iterate) are feasible, so a target network
that starts at the center needs no projection.

Three things are called max-norm: the matrix norm of Srebro and Shraibman (not implemented here),
the bound on the incoming weights of a unit from maxout and dropout practice (`center="zero"`), and
the ball around the initialization (`center="init"`).
"""

from __future__ import annotations

from collections.abc import Mapping

from rlop.config.checks import check_known
from rlop.config.parts import is_import_path, load_part
from rlop.config.schema import build
from rlop.config.terms import Term
from rlop.projections.balls import check_radius, frobenius_ball, max_norm, neuron_radius
from rlop.projections.layers import (
    Attached,
    Frobenius,
    MaxNorm,
    Project,
    Projection,
    frobenius_ball_,
    max_norm_,
)
from rlop.types import InputError

__all__ = [
    "PROJECTIONS",
    "Attached",
    "Frobenius",
    "MaxNorm",
    "Project",
    "Projection",
    "check_radius",
    "frobenius_ball",
    "frobenius_ball_",
    "make_projection",
    "make_projections",
    "max_norm",
    "max_norm_",
    "neuron_radius",
]

PROJECTIONS: dict[str, type[Projection]] = {"max_norm": MaxNorm, "frobenius": Frobenius}


def make_projection(kind: str, **options: object) -> Projection:
    """Make a projection from its name or import path.

    Args:
        kind: `max_norm`, `frobenius`, or the import path `my_package.module:Part` of a subclass of
            `Projection`.
        options: options of the projection.
    Raises:
        InputError: for an unknown kind or option, or a value of another type.
    """
    key = f"projections.{kind}"
    if not is_import_path(kind):
        check_known("projections:", kind, PROJECTIONS)
        return build(PROJECTIONS[kind], options, where="", key=key)

    part = load_part(kind, "a projection", "projections")
    if not (isinstance(part, type) and issubclass(part, Projection)):
        raise InputError(f"{key}: expected a subclass of rlop.projections.Projection, got {part!r}")
    return build(part, options, where="", key=key)


def make_projections(terms: Mapping[str, Term]) -> list[Projection]:
    """Make the projection of every term, in order.

    Args:
        terms: from `rlop.config.terms.read_terms`.
    Raises:
        InputError: for an unknown projection or option, or a function.
    """
    projections = []
    for name, term in terms.items():
        if "fn" in term.options:
            raise InputError(
                f"projections.{name}: expected the import path of a subclass of "
                "rlop.projections.Projection as its name, in place of fn"
            )
        projections.append(make_projection(name, **term.options))
    return projections
