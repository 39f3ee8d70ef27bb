"""Run one part of an experiment for one seed; keep its record, and the curves of its picture."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

import numpy as np
import torch

from rlop.config.checks import check_known
from rlop.config.files import write_atomic
from rlop.experiments.catalogue import workshop
from rlop.experiments.outcome import Outcome
from rlop.experiments.records import (
    CONTROL,
    PARTS,
    RUN,
    Record,
    from_json,
    installed,
    source_hash,
    to_json,
)
from rlop.training.started import CODE, git_state
from rlop.types import InputError

LONGEST_CURVE = 300  # points of a curve that is kept


def run_part(name: str, seed: int, part: str = RUN) -> tuple[Record, Outcome]:
    """Run `rlop.experiments.NAME`, or its control, on one thread.

    Returns:
        The record, with processor time since other programs may use the machine, and the outcome;
        that of a control has no curves.
    Raises:
        InputError: an unknown name, an experiment without a control, an optional package that is
            not installed, or values that lack a measure of the catalogue.
    """
    check_known("experiment", name, workshop().experiments)
    check_known("part", part, PARTS)
    experiment = import_module(f"rlop.experiments.{name}")
    if part == CONTROL and not has_control(name):
        raise InputError(f"{name}: has no function `control`")

    with plain_process():
        started = time.process_time()
        outcome = Outcome(experiment.control(seed), {}) if part == CONTROL else experiment.run(seed)
        seconds = time.process_time() - started

    for measure in workshop().measures_of(name):
        if measure.name not in outcome.values:
            raise InputError(f"{name}, {part}: lacks the value '{measure.name}' of the catalogue")

    record = Record(
        experiment=name,
        seed=seed,
        part=part,
        values={key: float(value) for key, value in outcome.values.items()},
        seconds=round(seconds, 1),
        day=datetime.now(UTC).date().isoformat(),
        commit=_commit(),
        source=source_hash(name),
        versions=installed(),
    )
    return record, outcome


@contextmanager
def plain_process() -> Iterator[None]:
    """Compute on one thread, with denormal numbers as zeros, until the block ends.

    Gradients of a network that interpolates are denormal, which are slow on a CPU.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(False)


def has_control(name: str) -> bool:
    """Return whether an experiment has a control yet."""
    return hasattr(import_module(f"rlop.experiments.{name}"), "control")


def _commit() -> str:
    """Return the commit of the checkout, with "+" if files differ from it; "" without git."""
    state = git_state(CODE) if (CODE / ".git").exists() else None
    if state is None:
        return ""
    return str(state["commit"])[:9] + ("+" if state["dirty"] else "")


def file_of(folder: Path, name: str, seed: int, part: str) -> Path:
    """Return where a finished part stands in a folder of results."""
    return folder / "parts" / f"{name}.{seed}.{part}.json"


def save(record: Record, outcome: Outcome, folder: Path) -> Path:
    """Write what a part came to; return the file, which is written whole or not at all."""
    path = file_of(folder, record.experiment, record.seed, record.part)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "record": to_json(record),
        "curves": {label: _thinned(x, y) for label, (x, y) in outcome.curves.items()},
        "x": outcome.x,
        "y": outcome.y,
        "log": outcome.log,
    }
    write_atomic(path, json.dumps(content).encode())
    return path


def _thinned(x: object, y: object) -> list[list[float | None]]:
    """Keep every k-th point of a curve, and of each coordinate five digits."""
    step = -(-len(np.asarray(x)) // LONGEST_CURVE)
    columns: list[list[float | None]] = []
    for numbers in (x, y):
        kept = np.asarray(numbers, float)[::step]
        columns.append([float(f"{v:.5g}") if np.isfinite(v) else None for v in kept])
    return columns


def load(path: Path) -> tuple[Record, Outcome]:
    """Read what `save` wrote.

    Raises:
        InputError: no such file, or a damaged one.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        outcome = Outcome({}, _curves(content["curves"]), content["x"], content["y"])
        record = from_json(content["record"], str(path))
        log = str(content["log"])
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError):
        raise InputError(f"{path}: damaged, expected the record of an experiment") from None
    return record, Outcome(record.values, outcome.curves, outcome.x, outcome.y, log)


def _curves(content: Mapping[str, list[list[float | None]]]) -> dict[str, tuple]:
    return {label: (np.array(x, float), np.array(y, float)) for label, (x, y) in content.items()}
