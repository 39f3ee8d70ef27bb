"""Record what a training was started with, in `run.json` of its folder."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import torch

from rlop.config.files import read_whole, write_atomic
from rlop.logs.history import MALFORMED
from rlop.logs.messages import say

FILE = "run.json"
PATIENCE = 10  # seconds for a command of git
CODE = Path(__file__).resolve().parents[2]  # of a checkout, or where packages are installed


def note_start(folder: Path, made_with: Mapping[str, object]) -> None:
    """Append a start or a resume to the list `starts` of `run.json`.

    An entry holds the time, the arguments of the process, the state of git, threads, and what the
    training was made with; of the environment's variables, nothing.

    Args:
        folder: of the training.
        made_with: further entries, as JSON has them: step, configuration, versions, data.
    Raises:
        InputError: the file cannot be written.
    """
    path = folder / FILE
    entry = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "argv": list(sys.argv),
        "git": _git_states(),
        "threads": torch.get_num_threads(),
        **made_with,
    }
    content = {"starts": [*_starts(path), entry]}
    write_atomic(path, json.dumps(content, indent=1).encode() + b"\n")


def _git_states() -> dict[str, object]:
    """Return the states of the working directory and of rlop's checkout, which may be the same."""
    here = git_state(".")
    if not (CODE / ".git").exists():
        return {"folder": here, "rlop": None}
    return {"folder": here, "rlop": here if CODE.samefile(".") else git_state(CODE)}


def _starts(path: Path) -> list[object]:
    """Return the entries of a file; none where there is no file, or a damaged one."""
    if not path.exists():
        return []
    try:
        starts = json.loads(read_whole(path))["starts"]
        if not isinstance(starts, list):
            raise TypeError
    except (OSError, *MALFORMED):
        say(f"{path}: damaged, expected the list `starts`; it begins again")
        return []
    return starts


def git_state(folder: str | Path) -> dict[str, object] | None:
    """Return the commit that is checked out in a folder, and whether tracked files differ from it.

    Args:
        folder: anywhere in a checkout.
    Returns:
        `commit` and `dirty`; None outside a checkout, before its first commit, or without git.
    """
    status = git_output(folder, "status", "--porcelain=v2", "--branch", "--untracked-files=no")
    if status is None:
        return None
    first, *lines = status.splitlines()
    commit = first.removeprefix("# branch.oid ")
    if commit == "(initial)":
        return None
    return {"commit": commit, "dirty": any(not line.startswith("#") for line in lines)}


def git_output(folder: str | Path, *arguments: str) -> str | None:
    """Return what a command of git prints, or None if it fails."""
    # Neither takes a lock, nor starts a program that the checkout's configuration names.
    command = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", "-C", str(folder)]
    try:
        done = subprocess.run(
            [*command, *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
