"""Import CORL's scripts from a checkout in $CORL_DIR."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from unittest import mock

# What they import for environments and logs is not needed, and replaced by mocks.
UNUSED = ("d4rl", "gym", "wandb", "pyrallis", "tqdm", "tqdm.auto")
CHECKOUT = Path(os.environ.get("CORL_DIR", "missing"))
SCRIPTS = CHECKOUT / "algorithms" / "offline"
CONFIGS = CHECKOUT / "configs" / "offline"
if not SCRIPTS.is_dir():
    raise ModuleNotFoundError("no checkout in $CORL_DIR", name="CORL, a checkout in $CORL_DIR")


def script(name: str) -> ModuleType:
    """Import one of its scripts."""
    spec = importlib.util.spec_from_file_location(f"corl_{name}", SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    mocks = {unused: mock.MagicMock() for unused in UNUSED}
    with mock.patch.dict(sys.modules, {**mocks, spec.name: module}):
        spec.loader.exec_module(module)
    return module
