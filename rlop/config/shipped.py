"""The configuration files that come with the library."""

from __future__ import annotations

from pathlib import Path

# Configurations lie inside the package in a wheel, and next to it in a checkout.
_PACKAGE = Path(__file__).resolve().parents[1]
_ROOTS = (_PACKAGE, _PACKAGE.parent)


def shipped(path: str) -> Path:
    """Return the path of a configuration that comes with the library.

    Args:
        path: from the top of the repository, such as `configs/gridworld/demo.yaml`.
    Raises:
        FileNotFoundError: for a file that is not shipped.
    """
    for root in _ROOTS:
        if (root / path).exists():
            return root / path
    raise FileNotFoundError(f"{path}: not among the shipped configurations in {_ROOTS[0]}")
