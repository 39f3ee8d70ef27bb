"""The folder of one training: one writer, its configuration, its checkpoints."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import torch

from rlop.config.files import dump_yaml
from rlop.logs.history import RECORD, clear, read_metrics
from rlop.logs.messages import say
from rlop.training import checkpoint, lock
from rlop.types import InputError

CHECKPOINT, CONFIG = "checkpoint.pt", "config.yaml"


def new_folder(parent: str | Path, name: str) -> Path:
    """Make a folder of its own for a training, `NAME-TIME`, and return its path.

    Trainings that start in the same second get numbers: `NAME-TIME-2`.

    Raises:
        InputError: nothing can be written there.
    """
    parent = Path(parent)
    _make(parent)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for number in count(1):
        path = parent / (f"{name}-{stamp}" if number == 1 else f"{name}-{stamp}-{number}")
        with suppress(FileExistsError):
            path.mkdir()
            return path
    raise AssertionError  # `count` has no end


def _make(path: Path) -> None:
    """Make a folder and those that hold it; raise InputError where that is impossible."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error}), expected a folder to write to"
        ) from None


class RunFolder:
    """The folder of one training, which holds its lock within a `with` statement.

    What dead writers left there is removed. A folder that was made here and stays empty is removed
    at the end.

    Args:
        path: the folder, made if missing.
        is_new: whether the folder was made for this training already.

    Raises:
        InputError: another process writes there, or nothing can be written.
    """

    def __init__(self, path: Path, is_new: bool = False) -> None:
        self.path = path
        self.is_new = is_new

    def __enter__(self) -> RunFolder:
        self.is_new |= not os.path.exists(self.path)  # False for impossible names, too
        _make(self.path)
        self.held = lock.acquire(self.path)
        self._remove_leftovers()
        return self

    def __exit__(self, *error: object) -> None:
        lock.release(self.held)
        if self.is_new:
            with suppress(OSError):  # not empty
                self.path.rmdir()

    def _remove_leftovers(self) -> None:
        """Remove the temporary files of processes that have ended: `.NAME.PID.tmp`."""
        for path in self.path.glob(".*.tmp"):
            pid = path.name.split(".")[-2]
            is_ours = pid.isdecimal()
            if not is_ours or (int(pid) != os.getpid() and lock.is_alive(int(pid))):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def check_empty(self) -> None:
        """Raise InputError if the folder holds a record."""
        if (self.path / RECORD).exists():
            raise InputError(
                f"{self.path} already holds a record ({RECORD}): expected another logdir, or resume"
            )

    def start_over(self) -> None:
        """Remove the record of a training that ended before its first checkpoint.

        Raises:
            InputError: the record is that of a training that reached its end, or continued another.
        """
        if (self.path / RECORD).exists():
            self._check_unfinished()
            say(f"{self.path}: holds no checkpoint, so the training starts over", logging.WARNING)
        clear(self.path)

    def _check_unfinished(self) -> None:
        """Raise InputError unless the record is of a training that can start over."""
        try:
            history = read_metrics(self.path)
        except InputError:  # killed while the record was begun
            return
        if history.parent is not None:
            raise InputError(
                f"{self.path}: continues another training, but holds no {CHECKPOINT}: "
                "expected a new fork, in another folder"
            )
        end = history.config.get("steps")
        if isinstance(end, int) and history.steps.size and history.steps[-1] >= end:
            raise InputError(f"{self.path}: holds a whole record, but no {CHECKPOINT} to resume")

    def write_config(self, values: Mapping[str, object]) -> None:
        """Write the configuration with which the training can be continued."""
        dump_yaml(values, self.path / CONFIG)


def how_to_resume(folder: Path) -> str:
    """Return what continues a training: a command, or a call without a configuration."""
    if (folder / CONFIG).exists():
        return f"rlop train --resume {shlex.quote(str(folder))}"
    return f"rlop.train(..., logdir={str(folder)!r}, resume=True)"


def newest(folder: Path, device: torch.device | str) -> tuple[Path, dict[str, Any]] | None:
    """Return the last checkpoint of a folder, or the one before if the last is damaged.

    Returns:
        Its file and content; None if there is no checkpoint.
    Raises:
        InputError: every checkpoint is damaged; the message is about the last one.
    """
    last = folder / CHECKPOINT
    paths = [path for path in (last, checkpoint.previous(last)) if path.exists()]
    fault: InputError | None = None
    for path in paths:
        try:
            content = checkpoint.load(path, device)
        except InputError as error:
            fault = fault or error
            continue
        if fault:
            say(f"{fault}; the one before it is taken, {path.name}", logging.WARNING)
        return path, content
    if fault:
        raise fault
    return None
