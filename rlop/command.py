"""Run commands: errors as one line, exit codes, and scripts outside the package."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn, TypeAlias

from rlop.logs.messages import messages_on_stderr
from rlop.types import InputError, Interrupted

Command: TypeAlias = Callable[[Sequence[str]], None]

EXIT_BAD_INPUT = 2
EXIT_SIGNAL = 128  # as a shell reports a signal: this and its number
EXIT_BROKEN_PIPE = 141
LONGEST_NAME = 120  # characters of a file's name in a message
LEVELS = {"--quiet": logging.WARNING, "--verbose": logging.DEBUG}


def guarded(command: Command, argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code.

    Bad input becomes one line on stderr and exit code 2. Signals end with the code that a shell
    reports: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP.

    Args:
        command: takes the arguments, without `--quiet` and `--verbose`.
        argv: the arguments; by default those of the process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    level = logging.INFO
    for flag, level_of_flag in LEVELS.items():
        if flag in arguments:
            arguments.remove(flag)
            level = level_of_flag

    try:
        with messages_on_stderr(level):
            command(arguments)
    except InputError as error:
        print(f"rlop: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except Interrupted as error:
        return EXIT_SIGNAL + error.number
    except KeyboardInterrupt:
        return EXIT_SIGNAL + signal.SIGINT
    except BrokenPipeError:
        # The reader of the pipe, such as head, has closed it: nothing more can be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except OSError as error:
        if error.filename is None:
            raise
        name = str(error.filename)
        shown = name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}..."
        print(f"rlop: {shown}: {error.strerror}", file=sys.stderr)
        return EXIT_BAD_INPUT
    return 0


def run_script(script: str, command: Callable[..., None], **options: str) -> NoReturn:
    """Run a command as the main program of a file in `scripts/`, and exit with its code.

    Args:
        script: path of the file, its `__file__`.
        command: takes the arguments that follow the script's name.
        options: further arguments of the command, such as the `default` of `train_command`.
    """
    leave_script_folder(script)
    sys.exit(guarded(partial(command, **options)))


def leave_script_folder(script: str) -> None:
    """Replace the folder `scripts/` by the checkout on the import path.

    Python puts the folder of the running script first. There, `scripts/mujoco.py` and
    `scripts/minatar.py` would shadow the packages of the same names.
    """
    folder = Path(script).resolve().parent
    if sys.path and Path(sys.path[0]).resolve() == folder:
        sys.path[0] = str(folder.parent)
