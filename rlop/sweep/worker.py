"""One launch of a sweep: train it to its end, or go on where an earlier try was killed."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from pathlib import Path

from rlop.command import guarded
from rlop.config.files import write_atomic
from rlop.data.dataset import Dataset
from rlop.sweep.launches import Launch
from rlop.sweep.plan import read_plan
from rlop.training import lock
from rlop.training.parent import end_with_parent
from rlop.training.run import experiment_of, run
from rlop.types import InputError

DONE = "done.json"  # in the folder of a launch, once it has reached its end
PATIENCE = 60.0  # seconds for a writer that was asked to end
FAILED = 1  # exit code of an error that is no mistake in a configuration


def is_done(folder: Path, launch: Launch) -> bool:
    """Return whether a launch has reached its end."""
    return (folder / launch.name / DONE).exists()


def log_of(folder: Path, launch: Launch) -> Path:
    """Return the file with all that a launch prints."""
    return folder / f"{launch.name}.log"


def train_launch(folder: Path, launch: Launch, data: Dataset | None = None) -> int:
    """Train a launch with its output in a file; return the exit code of `rlop train`.

    Args:
        folder: of the sweep.
        launch: what to train.
        data: its data, where they are loaded already.
    """

    def command(_: Sequence[str]) -> None:
        _train(folder / launch.name, launch, data)

    with (
        open(log_of(folder, launch), "a", buffering=1) as log,
        redirect_stdout(log),
        redirect_stderr(log),
    ):
        try:
            return guarded(command, [])
        except Exception:
            traceback.print_exc()
            return FAILED


def _train(home: Path, launch: Launch, data: Dataset | None) -> None:
    """Train in a folder, from its checkpoint if there is one; say at the end that it is done."""
    _wait_for_writer(home)
    values = {**launch.values, "logdir": str(home), "resume": True}
    _, history, _ = run(experiment_of(values, f"{home}"), launch.name, data)

    steps = int(history.steps[-1]) if len(history.steps) else 0
    when = datetime.now(UTC).isoformat(timespec="seconds")
    write_atomic(home / DONE, f'{{"steps": {steps}, "time": "{when}"}}\n'.encode())


def _wait_for_writer(home: Path) -> None:
    """Wait for the worker of a sweep that was killed, which writes a checkpoint and ends."""
    end = time.monotonic() + PATIENCE
    while lock.is_held(home) and time.monotonic() < end:
        time.sleep(0.2)


def main(argv: Sequence[str]) -> int:
    """Train the launch of that name in a sweep's folder."""
    folder, name = Path(argv[0]), argv[1]
    end_with_parent()
    plan = read_plan(folder)
    if plan is None:
        raise InputError(f"{folder}: holds no sweep")
    named = {launch.name: launch for launch in plan.launches}
    return train_launch(folder, named[name])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
