"""Resolve imports that Python's own finders miss: the agents of a checkout, and old names.

Old names work for one minor version, with a `DeprecationWarning` that names the new place.
`MODULES` and `NAMES` list all of them; delete the rows of a version when the next one is released.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

AGENTS = "rlop.agents"
# A checkout keeps the agents at its top level; an installed wheel has them inside the package.
CHECKOUT_AGENTS = Path(__file__).resolve().parents[1] / "agents" / "__init__.py"

# old module -> new module; names of 0.1, kept in 0.2
MODULES = {
    "rlop.board": "rlop.logs.logger",
    "rlop.build": "rlop.config.schema",
    "rlop.checkpoint": "rlop.training.checkpoint",
    "rlop.checks": "rlop.config.checks",
    "rlop.data.collect": "rlop.collect.collector",
    "rlop.data.collect_atari": "rlop.collect.atari",
    "rlop.data.d4rl": "rlop.data.formats.d4rl",
    "rlop.data.download": "rlop.data.formats.download",
    "rlop.data.dqn_replay_files": "rlop.data.dqn_replay.files",
    "rlop.data.dqn_replay_parts": "rlop.data.dqn_replay.parts",
    "rlop.data.dqn_replay_write": "rlop.collect.dqn_replay",
    "rlop.data.embedded": "rlop.data.formats.embedded",
    "rlop.data.frame_store": "rlop.data.dqn_replay.storage",
    "rlop.data.frames": "rlop.data.dqn_replay.stacks",
    "rlop.data.generate": "rlop.data.formats.generate",
    "rlop.data.hdf5": "rlop.data.formats.hdf5",
    "rlop.data.minari": "rlop.data.formats.minari",
    "rlop.data.minari_arrow": "rlop.data.formats.arrow",
    "rlop.data.minari_write": "rlop.collect.minari",
    "rlop.data.normalizer": "rlop.collect.vecnormalize",
    "rlop.data.npz": "rlop.data.formats.npz",
    "rlop.data.policies": "rlop.collect.policies",
    "rlop.data.replay": "rlop.collect.sb3_training",
    "rlop.data.rolling_window": "rlop.data.dqn_replay.window",
    "rlop.data.rollout": "rlop.collect.rollout",
    "rlop.data.writer": "rlop.collect.writer",
    "rlop.distributional": "rlop.losses.distributional",
    "rlop.evaluate": "rlop.training.evaluate",
    "rlop.events": "rlop.logs.tensorboard",
    "rlop.experiment": "rlop.training.run",
    "rlop.launch": "rlop.training.compile",
    "rlop.learner": "rlop.optim.learner",
    "rlop.nets.resets": "rlop.training.resets",
    "rlop.noise": "rlop.losses.noise",
    "rlop.optim.axis": "rlop.runs",
    "rlop.picture": "rlop.report.figures",
    "rlop.probes.subject": "rlop.probes.model",
    "rlop.progress": "rlop.logs.progress",
    "rlop.record": "rlop.logs.history",
    "rlop.stats": "rlop.report.statistics",
    "rlop.stop": "rlop.training.interrupt",
    "rlop.tanh_gaussian": "rlop.losses.tanh_gaussian",
    "rlop.td": "rlop.losses.td",
    "rlop.terms": "rlop.regularizers.penalties",
}

# old name -> new name, where a module became a package or a function got a clearer name; names of
# 0.1, kept in 0.2
NAMES = {
    "rlop.config.apply_overrides": "rlop.config.overrides.apply_overrides",
    "rlop.config.dump_yaml": "rlop.config.files.dump_yaml",
    "rlop.config.overrides_only": "rlop.config.files.overrides_only",
    "rlop.config.read_yaml": "rlop.config.files.read_yaml",
    "rlop.config.to_dict": "rlop.config.files.to_dict",
    "rlop.config.write_atomic": "rlop.config.files.write_atomic",
    "rlop.feature_rank": "rlop.rank_measures",
    "rlop.optim.on_the_host": "rlop.runs.on_the_host",
    "rlop.optim.per_run": "rlop.runs.per_run",
    "rlop.report.curves": "rlop.report.groups.curves",
    "rlop.report.figure": "rlop.report.tables.figure",
    "rlop.report.group_runs": "rlop.report.groups.group_runs",
    "rlop.report.load": "rlop.report.groups.load",
    "rlop.report.report": "rlop.report.tables.report",
    "rlop.report.table": "rlop.report.tables.table",
    "rlop.training.Loop": "rlop.training.loop.Loop",
    "rlop.training.TrainOptions": "rlop.training.options.TrainOptions",
    "rlop.training.train": "rlop.train",
}


class Finder:
    """Find `rlop.agents` in a checkout, and the modules of `MODULES`.

    Python asks it last, so it changes no import that works without it. The class is a finder and a
    loader by its methods; the base classes in `importlib.abc` would double the time of `import
    rlop`.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how to import a module, or None for every name that is not ours."""
        if fullname == AGENTS and CHECKOUT_AGENTS.is_file():
            folder = str(CHECKOUT_AGENTS.parent)
            return spec_from_file_location(
                AGENTS, CHECKOUT_AGENTS, submodule_search_locations=[folder]
            )

        if fullname in MODULES:
            return ModuleSpec(fullname, self)  # type: ignore[arg-type]  # a loader by its methods

        return None

    def create_module(self, spec: ModuleSpec) -> None:
        """Return None: Python then creates a placeholder module until `exec_module` runs."""

    def exec_module(self, module: ModuleType) -> None:
        """Warn, and register the new module under the old name."""
        old = module.__name__
        new = MODULES[old]
        # Level 2 is the line that imports the old name: frames of the import system do not count.
        warnings.warn(_advice(old, new), DeprecationWarning, stacklevel=2)
        sys.modules[old] = import_module(new)


def install_finder() -> None:
    """Ask `Finder` for every import that all other finders miss. Idempotent."""
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.append(Finder())


def moved_attribute(package: str, name: str) -> object:
    """Return the object that an old name refers to, and warn; for use in `__getattr__`.

    Args:
        package: dotted name of the package, `__name__` in its `__init__.py`.
        name: attribute that the package does not have.

    Raises:
        AttributeError: for a name that `NAMES` does not list.
    """
    old = f"{package}.{name}"
    if old not in NAMES:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    new = NAMES[old]
    # Levels 1 and 2 are this function and `__getattr__`; 3 is the line that reads the old name.
    warnings.warn(_advice(old, new), DeprecationWarning, stacklevel=3)
    module, _, attribute = new.rpartition(".")
    return getattr(import_module(module), attribute)


def _advice(old: str, new: str) -> str:
    return f"{old} is now {new}; the old name goes in rlop 0.3"
