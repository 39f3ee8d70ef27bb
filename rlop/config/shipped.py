"""The configuration files that come with the library."""

from __future__ import annotations

from pathlib import Path

# An installed wheel holds them in the package, a checkout beside it.
_PACKAGE = Path(__file__).resolve().parents[1]
_FOLDERS = (_PACKAGE / "configs", _PACKAGE.parent / "configs")


def shipped(name: str) -> Path:
    """Return the path of a configuration that comes with the library.

    Args:
        name: folder and name, such as `gridworld/demo`.
    Raises:
        FileNotFoundError: for a name that is not shipped.
    """
    for folder in _FOLDERS:
        path = folder / f"{name}.yaml"
        if path.exists():
            return path
    raise FileNotFoundError(f"no shipped configuration {name!r} in {_FOLDERS[0]} or {_FOLDERS[1]}")
