"""Functions in a copy of this process: it has imported everything, and keeps what it changes."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any


class Fork:
    """A function that runs in a copy of this process from now on.

    Args:
        work: is called there.
        arguments: of the function.
    Attributes:
        code: exit code, the negative number of a signal that ended the process; None before `end`.
    """

    def __init__(self, work: Callable[..., object], *arguments: object) -> None:
        context = get_context("fork")
        self.answer, answer = context.Pipe(duplex=False)
        self.process = context.Process(target=_work, args=(answer, work, arguments))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which wait for work
            self.process.start()
        answer.close()  # this process's end, so that its death ends the reading
        self.code: int | None = None

    def end(self) -> Any:
        """Wait; return what the function returned, or None if a signal ended the process.

        Raises:
            AssertionError: the function raised an exception; the message is its traceback.
        """
        try:
            result, error = self.answer.recv()
        except EOFError:
            result, error = None, ""
        self.answer.close()
        self.process.join()
        self.code = self.process.exitcode
        assert not error, error
        return result


def in_a_fork(work: Callable[..., object], *arguments: object) -> Any:
    """Return what a function returns in a copy of this process; see `Fork`."""
    return Fork(work, *arguments).end()


def _work(answer: Connection, work: Callable[..., object], arguments: tuple[object, ...]) -> None:
    try:
        result, error = work(*arguments), ""
    except BaseException:  # an assertion, or the end of the program
        result, error = None, traceback.format_exc()
    answer.send((result, error))


def limit_files(size: int) -> None:
    """Let no file of this process grow beyond a number of bytes, as on a full disk."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
