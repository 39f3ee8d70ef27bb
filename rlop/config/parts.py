"""Parts named by import path, `my_package.module:Name`: agents, regularizers, projections, readers.

Only a user's configuration may name such a part. Names in a data file or a checkpoint come from
strangers and must not be imported.
"""

from __future__ import annotations

from importlib import import_module

from rlop.config.checks import nearest
from rlop.types import InputError


def is_import_path(name: str) -> bool:
    """Return whether a name is an import path, `module:attribute`, not a registered name."""
    return ":" in name


def load_part(path: str, what: str, key: str = "") -> object:
    """Import a part.

    Args:
        path: `module:attribute`, as in `my_package.regularizers:FeatureNorm`.
        what: the kind of part that is expected, with its article, as in "an agent".
        key: of the option that names it, for the message.
    Raises:
        InputError: for a path of another form, a module that cannot be imported, or a module
            without the attribute.
    """
    module_name, colon, attribute = path.partition(":")
    named = f"{key}: {path!r}" if key else repr(path)
    well_formed = all(word.isidentifier() for word in [*module_name.split("."), attribute])
    if not colon or not well_formed:
        raise InputError(f"{named}: expected {what}, as registered or as module:Name")

    try:
        module = import_module(module_name)
    except Exception as error:  # importing runs the module's code, which can raise anything
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(
            f"{named}: expected {what}, but module {module_name!r} cannot be imported ({reason})"
        ) from error

    if attribute not in module.__dict__:
        public = [name for name in module.__dict__ if not name.startswith("_")]
        raise InputError(
            f"{named}: expected {what}, but module {module_name!r} has no {attribute!r}"
            f"{nearest(attribute, public)}"
        )
    return module.__dict__[attribute]
