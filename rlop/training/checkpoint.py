"""Write and read the whole state of a training, atomically and without unpickling."""

from __future__ import annotations

import inspect
import os
import shutil
import sys
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from rlop.agent import Agent
from rlop.agent_checks import usable_device
from rlop.config.files import atomic, to_dict
from rlop.config.parts import is_import_path, load_part
from rlop.config.writing import late_errors, unwritable_named
from rlop.data.stored_spec import spec_from
from rlop.projections import Projection
from rlop.regularizers import Regularizer
from rlop.runs import seed_list
from rlop.training.names import agent_class, agent_name
from rlop.types import Declared, InputError

FORMAT = 3
READ = (1, 2, FORMAT)  # formats that are read; a resume takes the last alone
NONE = type(None)
# Parts of a checkpoint -> their types, and what messages call these.
PARTS: dict[str, tuple[tuple[type, ...], str]] = {
    "agent": ((str,), "the name of an agent"),
    "spec": ((Mapping,), "a mapping"),
    "config": ((Mapping,), "a mapping"),
    "seeds": ((list,), "a list of seeds"),
    "variants": ((Mapping, NONE), "a mapping of variants"),
    "state": ((Mapping,), "a mapping"),
    "streams": ((Mapping, NONE), "a mapping"),
    "step": ((int,), "a whole number"),
    "training": ((Mapping, NONE), "a mapping"),
}
# Sections of a configuration whose entries name parts, and the base class of these parts.
SECTIONS: dict[str, type] = {"regularizers": Regularizer, "projections": Projection}


def save(
    path: str | Path,
    agent: Agent,
    step: int,
    streams: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
) -> Path:
    """Write agent, random streams and step to `path`, whole or not at all.

    Args:
        path: the checkpoint file; an older one is replaced only once the new one is complete, and
            then is the one before, see `previous`.
        agent: its configuration and state.
        step: gradient steps done.
        streams: state of the random streams, for an exact continuation.
        training: all else that a resume needs, see `rlop.training.resume`.
    Raises:
        InputError: the file cannot be written; the older one is still there.
    """
    path = Path(path)

    content = {
        "format": FORMAT,
        "agent": agent_name(type(agent)),
        "spec": asdict(agent.spec),
        "config": stored_config(agent.config),
        "seeds": seed_list(agent.seeds),
        "variants": to_dict(agent.variants) if agent.variants else None,
        "state": agent.state_dict(),
        "streams": streams,
        "step": step,
        "training": training,
    }
    with atomic(path) as temporary:
        with late_errors(temporary) as file:
            torch.save(content, file)
        if path.exists():
            copy_to(path, previous(path))
    return path


def previous(path: Path) -> Path:
    """Return where the checkpoint before the one at `path` is kept."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def best(path: Path) -> Path:
    """Return where the checkpoint with the best evaluation is kept."""
    return path.with_name(f"{path.stem}.best{path.suffix}")


def copy_to(path: Path, copy: Path) -> None:
    """Let a file stand at another path of the same folder as well, whole or not at all."""
    temporary = copy.with_name(f".{copy.name}.{os.getpid()}.tmp")
    try:
        with unwritable_named(copy):
            temporary.unlink(missing_ok=True)
            try:
                os.link(path, temporary)
            except OSError:  # a file system without links
                shutil.copyfile(path, temporary)
            os.replace(temporary, copy)
    finally:
        with suppress(OSError):  # the folder may be gone, or read-only by now
            temporary.unlink()


def load(path: str | Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Return the content of a checkpoint: tensors, numbers, text and containers only.

    Args:
        path: the checkpoint file.
        device: device of its tensors.
    Raises:
        InputError: when the file is missing, is not a checkpoint, or has an unknown format.
    """
    device = usable_device(device)
    if not Path(path).exists():
        raise InputError(f"{path}: no such checkpoint")
    check_archive(path)
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # what PyTorch raises for wrong bytes depends on where they are
        raise InputError(f"{path}: not a checkpoint of rlop ({type(error).__name__})") from None

    found = content.get("format") if isinstance(content, dict) else None
    is_known = isinstance(found, int) and found in READ
    if not is_known:
        raise InputError(f"{path}: expected a checkpoint of format {FORMAT}")
    if found != FORMAT:
        content.setdefault("training", None)
    check_content(path, content)
    return from_format_1(content) if found == 1 else content


def check_archive(path: str | Path) -> None:
    """Raise InputError unless a file is a zip archive that fits all its checksums.

    PyTorch writes a checksum of every part, but does not look at them.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: not a checkpoint of rlop, but a folder or a device")
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = [(part.compress_type, part.file_size) for part in archive.infolist()]
            is_plain = all(kind == zipfile.ZIP_STORED for kind, _ in sizes)
            if not is_plain or sum(size for _, size in sizes) > Path(path).stat().st_size:
                raise InputError(f"{path}: not a checkpoint of rlop: its parts are compressed")
            damaged = archive.testzip()
    except InputError:
        raise
    except Exception as error:  # what zipfile raises for wrong bytes depends on where they are
        raise InputError(
            f"{path}: not a checkpoint of rlop, or cut short ({type(error).__name__})"
        ) from None
    if damaged is not None:
        raise InputError(f"{path}: damaged: {damaged!r} does not fit its checksum")


def check_content(path: str | Path, content: Mapping[str, Any]) -> None:
    """Raise InputError unless a checkpoint has all its parts, each of its kind.

    Args:
        path: the checkpoint file, for the message.
        content: of the file.
    """
    for name, (kinds, expected) in PARTS.items():
        if name not in content:
            raise InputError(f"{path}: {name}: missing, expected {expected}")
        value = content[name]
        if not isinstance(value, kinds) or isinstance(value, bool):
            found = type(value).__name__
            raise InputError(f"{path}: {name}: found {found}, expected {expected}")
    if content["step"] < 0:
        raise InputError(f"{path}: step = {content['step']}: expected at least 0")


def load_agent(
    path: str | Path,
    device: torch.device | str = "cpu",
    *,
    allow: Collection[str] = (),
    parts: Mapping[str, Callable[..., Any]] | None = None,
) -> tuple[Agent, dict[str, Any]]:
    """Rebuild the agent of a checkpoint; return it with the checkpoint's content.

    A checkpoint may come from a stranger: the parts that it names by import path are used only from
    modules that are imported already, or that the caller allows.

    Args:
        path: the checkpoint file.
        device: device of the agent.
        allow: modules that may be imported, as `my_pkg.reg`.
        parts: name of a regularizer or projection -> its function, for those given as functions in
            Python.
    Raises:
        InputError: for a file that is not a checkpoint, or a part that is not available here.
    """
    content = load(path, device)
    return agent_of(path, content, device, allow, parts), content


def agent_of(
    path: str | Path,
    content: Mapping[str, Any],
    device: torch.device | str = "cpu",
    allow: Collection[str] = (),
    parts: Mapping[str, Callable[..., Any]] | None = None,
) -> Agent:
    """Rebuild the agent from the content of a checkpoint; see `load_agent`."""
    try:
        return _rebuilt(path, content, device, allow, parts or {})
    except InputError as error:
        message = str(error)
        where = "" if message.startswith(str(path)) else f"{path}: "
        raise InputError(f"{where}{message}") from error
    except Exception as error:  # whatever wrong types, keys and shapes in a stranger's file lead to
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"{path}: damaged, or not a checkpoint of rlop ({reason})") from error


def _rebuilt(
    path: str | Path,
    content: Mapping[str, Any],
    device: torch.device | str,
    allow: Collection[str],
    parts: Mapping[str, Callable[..., Any]],
) -> Agent:
    """Make the agent of a checkpoint's content."""
    spec = spec_from(path, content["spec"], allow)
    check_part(path, content["agent"], Agent, allow)
    check_variants(path, content["variants"] or {}, allow)
    config = with_functions(path, content["config"], allow, parts)
    cls = agent_class(content["agent"])
    agent = cls(spec, seeds=content["seeds"], variants=content["variants"], device=device, **config)
    with fitting(f"{path}: state"):
        agent.load_state_dict(content["state"])
    return agent


@contextmanager
def fitting(where: str) -> Iterator[None]:
    """Let a state that does not fit what it is loaded into be an InputError.

    Args:
        where: the part of the checkpoint, for the message.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # missing keys, other shapes and types
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"{where}: damaged, or of other settings ({reason[:200]})") from error


def stored_config(config: Any) -> dict[str, Any]:
    """Return a configuration as a checkpoint holds it: with names in place of functions."""
    stored = to_dict(config)
    for section in SECTIONS:
        for name, entry in stored.get(section, {}).items():
            if isinstance(entry, dict) and "fn" in entry:
                entry["fn"] = function_name(config.__dict__[section][name]["fn"])
    return stored


def function_name(function: Callable[..., Any]) -> str:
    """Return the import path of a function, `module:name`; of another object, `module:<Class>`."""
    if isinstance(function, Declared):
        function = function.function
    if inspect.isroutine(function):
        return f"{function.__module__}:{function.__qualname__}"
    cls = type(function)
    return f"{cls.__module__}:<{cls.__qualname__}>"


def check_part(path: str | Path, name: str, kind: type, allow: Collection[str]) -> None:
    """Reject an import path in a checkpoint, unless it is known to be harmless.

    A subclass of `kind` in a module that is already imported is harmless. The caller may allow
    everything in a module by the module's name.

    Args:
        path: the checkpoint file, for the message.
        name: a registered name, which passes, or `module:Name`.
        kind: base class of such parts.
        allow: modules that the caller allows.
    Raises:
        InputError: for any other part; the message says how to allow it.
    """
    module_name, _, attribute = name.partition(":")
    if not is_import_path(name) or module_name in allow:
        return

    module = sys.modules.get(module_name)
    part = None if module is None else module.__dict__.get(attribute)
    if not (isinstance(part, type) and issubclass(part, kind)):
        raise InputError(
            f"{path}: names {name!r}, and a checkpoint imports nothing: import {module_name} first "
            f"if it is a {kind.__name__}, or allow it (allow=[{module_name!r}], "
            f"--allow {module_name})"
        )


def check_variants(
    path: str | Path, variants: Mapping[str, Mapping[str, float]], allow: Collection[str]
) -> None:
    """Check the parts that only variants name, as in `{"x": {"regularizers.dr3": 0.1}}`.

    Args:
        path: the checkpoint file, for the message.
        variants: variants of the checkpoint.
        allow: modules that the caller allows.
    Raises:
        InputError: as for `check_part`.
    """
    for changes in variants.values():
        for key in changes:
            section, _, name = key.partition(".")
            if section in SECTIONS:
                check_part(path, name, SECTIONS[section], allow)


def with_functions(
    path: str | Path,
    config: Mapping[str, Any],
    allow: Collection[str],
    parts: Mapping[str, Callable[..., Any]],
) -> dict[str, Any]:
    """Return a checkpoint's configuration with its parts checked, and its functions restored."""
    result = dict(config)
    for section, kind in SECTIONS.items():
        if section not in config:
            continue
        terms = {}
        for name, entry in config[section].items():
            check_part(path, name, kind, allow)
            if isinstance(entry, Mapping) and "fn" in entry:
                entry = {**entry, "fn": find_function(path, name, entry["fn"], allow, parts)}
            terms[name] = entry
        result[section] = terms
    return result


def find_function(
    path: str | Path,
    name: str,
    stored: str,
    allow: Collection[str],
    parts: Mapping[str, Callable[..., Any]],
) -> object:
    """Return the function of a regularizer or projection that Python code passed."""
    if name in parts:
        return parts[name]

    # Lambdas, local functions, methods and objects have no import path.
    module_name, _, attribute = stored.partition(":")
    has_path = attribute.isidentifier()
    if has_path and module_name in allow:
        function = load_part(stored, "a function")
        if not callable(function):
            raise InputError(f"{path}: {name!r} is {stored!r}, expected a function")
        return function

    way_out = f"load_agent(..., parts={{{name!r}: function}})"
    if has_path:
        way_out += f", or allow=[{module_name!r}]"
    raise InputError(
        f"{path}: {name!r} was a function ({stored}), and a checkpoint imports nothing; "
        f"give it again: {way_out}"
    )


def from_format_1(content: dict[str, Any]) -> dict[str, Any]:
    """Convert the content of a checkpoint of format 1 to the current format."""
    config = dict(content["config"])
    if config.get("backup") == "behaviour":
        config["backup"] = "behavior"

    state = content["state"]
    if content["agent"] in ("DQN", "DiscreteCQL"):
        state = {"q": state}
    elif content["agent"] == "BC":
        state = {"policy": state}
    elif content["agent"] == "NeuralTD":
        # A missing part is named where the state is loaded.
        names = {"learner": "value", "mean": "mean", "longest": "longest"}
        state = {new: state[old] for old, new in names.items() if old in state}
    return {**content, "format": FORMAT, "config": config, "state": state}
