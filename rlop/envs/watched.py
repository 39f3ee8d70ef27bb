"""Environments that raise or hang: one error that names them, so that a training can go on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import numpy as np
from gymnasium.vector import VectorWrapper

from rlop.envs.spaces import Info, VectorEnv
from rlop.types import InputError

LONGEST_CALL = 600.0  # seconds that an environment may take for one reset or step

_limits: list[float] = []  # seconds, while answers are awaited: a process has one alarm


class EnvironmentFailed(InputError):
    """An environment raised an exception, or did not answer."""


class Watched(VectorWrapper):
    """Environments of which every fault is an `EnvironmentFailed`.

    Args:
        env: a vector of environments.
        name: of the environment, for messages.
    """

    def __init__(self, env: VectorEnv, name: str) -> None:
        super().__init__(env)
        self.name = name

    def reset(self, **options: Any) -> tuple[np.ndarray, Info]:
        """Begin episodes."""
        return self._answer("reset", self.env.reset, **options)

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, Info]:
        """Take one action in every environment."""
        return self._answer("step", self.env.step, actions)

    def _answer(self, name: str, call: Callable[..., Any], *values: Any, **options: Any) -> Any:
        """Call an environment; name it and the call in every exception."""
        try:
            answer = call(*values, **options)
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise EnvironmentFailed(f"env = {self.name!r}: {name} failed ({reason})") from error
        if _limits:
            signal.setitimer(signal.ITIMER_REAL, _limits[-1])
        return answer


@contextmanager
def answers_awaited() -> Iterator[None]:
    """Raise TimeoutError when watched environments do not answer for `LONGEST_CALL` seconds.

    There is no limit on Windows, outside the main thread, and where the program uses the alarm for
    something else; and code in C that never returns to Python is not interrupted.
    """
    is_possible = (
        hasattr(signal, "setitimer")
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
    )
    if not is_possible:
        yield
        return

    seconds = LONGEST_CALL

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"no answer for {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    _limits.append(seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        _limits.pop()
        signal.signal(signal.SIGALRM, before)
