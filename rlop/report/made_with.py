"""The versions that trainings were made with, as their `run.json` has them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rlop.config.files import read_whole
from rlop.logs.history import MALFORMED

FILE = "run.json"
NAMED = ("rlop", "torch", "numpy", "gymnasium", "python")


def made_with(folders: Sequence[str]) -> str:
    """Return the versions of all trainings in words; empty where no folder says any.

    Args:
        folders: of trainings; records of earlier versions and of other programs say none.
    """
    versions: dict[str, list[str]] = {}
    for folder in dict.fromkeys(folders):
        for package, version in _latest(Path(folder) / FILE).items():
            of_package = versions.setdefault(package, [])
            if version not in of_package:
                of_package.append(version)
    parts = [f"{name} {' and '.join(versions[name])}" for name in NAMED if name in versions]
    return ", ".join(parts)


def _latest(path: Path) -> dict[str, str]:
    """Return the versions of the last start that a file tells of; none where it is damaged."""
    try:
        versions = json.loads(read_whole(path))["starts"][-1]["versions"]
        return {str(name): str(version) for name, version in versions.items()}
    except (OSError, IndexError, *MALFORMED):
        return {}
