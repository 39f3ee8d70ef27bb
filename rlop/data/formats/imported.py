"""Data from a function of the user's, named by its import path."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib import import_module
from inspect import Parameter, signature

from rlop.config.checks import nearest
from rlop.data.dataset import Dataset
from rlop.data.options import check_options, split_query
from rlop.types import InputError

IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def is_import_path(name: str) -> bool:
    """Return whether a name, without a query, has the form `module:function`."""
    return IMPORT_PATH.fullmatch(name) is not None


def read_imported(source: str, **options: object) -> Dataset:
    """Call `module:function`, with options as keywords or in a query: `my_files:load?x=1`.

    The module is imported, so a source may come from the user's own program or configuration, but
    never from a data file.

    Args:
        source: import path. In its query numbers, `true` and `false` are read as such, all else is
            text.
        options: further keyword arguments; they win over the query.

    Raises:
        InputError: no such module, function or option, or a result that is no `Dataset`.
    """
    name, query = split_query(source)
    module_name, _, attribute = name.partition(":")
    given = {key: _parse(text) for key, text in query.items()} | options

    function = _find(name, module_name, attribute)
    _check_call(name, function, given)
    data = function(**given)
    if not isinstance(data, Dataset):
        raise InputError(f"{name}: returned {type(data).__name__}, expected a Dataset")
    return data


def _find(name: str, module_name: str, attribute: str) -> Callable[..., object]:
    """Import a module and return its function."""
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        raise InputError(
            f"{name}: no module {missing!r}, expected one that Python finds (sys.path, PYTHONPATH)"
        ) from None
    except ImportError as error:
        raise InputError(f"{name}: module {module_name!r} cannot be imported: {error}") from None

    # getattr, because a module may define its contents lazily (`__getattr__`).
    function = getattr(module, attribute, None)
    if function is None:
        public = [key for key in dir(module) if not key.startswith("_")]
        raise InputError(
            f"{name}: module {module_name!r} has no {attribute!r}{nearest(attribute, public)}"
        )

    if not callable(function):
        raise InputError(f"{name}: found {type(function).__name__}, expected a function")
    return function


def _check_call(name: str, function: Callable[..., object], given: Mapping[str, object]) -> None:
    """Raise InputError for an option that the function does not take, or one that it lacks."""
    call = signature(function)
    parameters = call.parameters.values()
    if all(parameter.kind is not Parameter.VAR_KEYWORD for parameter in parameters):
        check_options(name, given, [parameter.name for parameter in parameters])

    try:
        call.bind(**given)
    except TypeError as error:
        raise InputError(f"{name}: {error}") from None


def _parse(text: str) -> object:
    """Read a number or a truth value; all else is text."""
    if text in ("true", "false"):
        return text == "true"
    if not any(character.isdigit() for character in text):
        return text  # float() would read "inf" and "nan" as well

    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
