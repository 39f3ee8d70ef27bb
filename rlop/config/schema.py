"""Option classes: typed fields with ranges and descriptions, read strictly from plain values.

    @options
    class TargetNoise:
        scale: Sweep[NonNegative] = option(description="in standard deviations of the targets")
        kind: Literal["gaussian", "sign"] = option("gaussian", "distribution of the noise")

    TargetNoise(scale=-1)
    InputError: scale = -1: expected a number >= 0 or a list of them
    build(TargetNoise, {"scael": 1}, where="a.yaml")
    InputError: a.yaml: unknown key 'scael', did you mean 'scale'?

See `rlop.config.reading` for the values that are accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, replace
from functools import wraps
from typing import Any, TypeVar, cast, dataclass_transform, get_args

from rlop.config.annotations import bare, kind_of, members_of
from rlop.config.checks import check_known
from rlop.config.ranges import (
    Choice,
    Count,
    Discount,
    Formerly,
    Fraction,
    Index,
    NonEmpty,
    NonNegative,
    Number,
    Positive,
    Probability,
    Range,
    Share,
    Sweep,
    Terms,
)
from rlop.config.reading import (
    PLAIN,
    build_choice,
    build_section,
    hints_of,
    is_required,
    options_of,
    read_fields,
)
from rlop.types import InputError

__all__ = [
    "PLAIN",
    "Choice",
    "Count",
    "Discount",
    "Formerly",
    "Fraction",
    "Index",
    "NonEmpty",
    "NonNegative",
    "Number",
    "Positive",
    "Probability",
    "Range",
    "Share",
    "Sweep",
    "Terms",
    "build",
    "build_choice",
    "change",
    "describe",
    "flags_of",
    "hints_of",
    "is_required",
    "option",
    "options",
    "options_of",
]

C = TypeVar("C")
V = TypeVar("V")

_REQUIRED: Any = MISSING  # the default of an option that must be given


def option(
    default: V = _REQUIRED,
    description: str = "",
) -> V:
    """Declare one option of an option class.

    Args:
        default: its default (lists and dictionaries are copied); without one, the option must be
            given.
        description: its meaning and unit, for `--help` and the JSON schema.
    """
    metadata = {"description": description}
    if isinstance(default, (dict, list)):
        # To type checkers an option is its default, as with `dataclasses.field`.
        return cast(V, field(default_factory=default.copy, metadata=metadata))
    return field(default=default, metadata=metadata)


@dataclass_transform(frozen_default=True, kw_only_default=True)
def options(cls: type[C]) -> type[C]:
    """Make an option class: a frozen, keyword-only dataclass whose constructor checks every value.

    The annotations may be int, float, bool, str, Path, None, Literal, list, tuple, dict, other
    option classes, unions of these, `object` for anything, and the types of `rlop.config.ranges`.
    Rules for several fields belong in `__post_init__`, which raises `InputError` with a message
    that begins with the name of a field.
    """
    made = dataclass(frozen=True, kw_only=True)(cls)
    assign: Callable[..., None] = made.__init__

    @wraps(assign)
    def __init__(self: C, **values: object) -> None:
        assign(self, **read_fields(made, values, ""))

    made.__init__ = __init__  # type: ignore[assignment]  # takes the same arguments, unconverted
    return made


def build(cls: type[C], values: Mapping[str, object], where: str = "config", key: str = "") -> C:
    """Build an option class, or any dataclass, from plain values.

    Args:
        cls: the class.
        values: field -> value, nested mappings for nested classes; omitted fields keep their
            default.
        where: the source, named at the start of messages, usually a file; "" for none.
        key: dotted name of the section that holds the values, such as `agent`.
    Raises:
        InputError: an unknown or missing key, a value of another type or out of range; one line
            with the dotted key, what was found and what was expected.
    """
    try:
        return build_section(cls, values, key)
    except InputError as error:
        raise InputError(f"{where}: {error}" if where else str(error)) from None


def change(instance: C, values: Mapping[str, object], where: str) -> C:
    """Return a copy of an option class with some fields changed, checked like the original.

    Raises:
        InputError: for an impossible value; the message begins with `where` and the field.
    """
    try:
        return replace(instance, **values)  # type: ignore[type-var]  # an option class is a dataclass
    except InputError as error:
        raise InputError(f"{where}.{error}") from None


def describe(item: Field[object]) -> str:
    """Return the description that a field was declared with."""
    return str(item.metadata.get("description", ""))


def swept_fields(cls: type) -> tuple[str, ...]:
    """Return the names of the fields that are declared `Sweep[...]`."""
    hints = hints_of(cls)
    names = []
    for name in options_of(cls):
        kinds = [kind_of(member) for member in members_of(hints[name])]
        if list in kinds and float in kinds:
            names.append(name)
    return tuple(names)


def flags_of(cls: type) -> list[str]:
    """Return the names of the fields that take `true`."""
    flags = []
    for name in options_of(cls):
        members = members_of(hints_of(cls)[name])
        if bool in members or any(_takes_true(member) for member in members):
            flags.append(name)
    return flags


def _takes_true(member: object) -> bool:
    """Return whether `true` is one of the values that a type lists."""
    return any(choice is True for choice in get_args(bare(member)))


def with_preset(
    options: Mapping[str, Any], presets: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Fill options left unset from the preset that the option `preset` names.

    Raises:
        InputError: for an unknown preset.
    """
    preset = options.get("preset")
    if preset is None or not presets:
        return dict(options)
    check_known("agent: preset", preset, presets)
    return {**presets[preset], **options}
