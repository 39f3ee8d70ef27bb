"""The option `compile: auto`: an update is compiled if that saves more than it costs."""

from __future__ import annotations

import hashlib
import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from rlop.agent import Agent
from rlop.logs.messages import say
from rlop.training.compile import can_compile

TRIAL = 8  # updates that are timed
# Of the time of an update that compiling saves, at least; docs/speed.md measures what it saves.
SAVED = 0.25
# Seconds of the first compiled update: where none like it was compiled on this machine, and where
# PyTorch finds it in its cache.
COLD, CACHED = 30.0, 10.0


class CompileChoice:
    """Whether updates are compiled: as the option says, or decided from what the first ones cost.

    Args:
        option: true, false or "auto".
        agent: the agent that is trained.
        rows: of its table.
    Attributes:
        compiles: None until it is decided.
    """

    def __init__(self, option: bool | str, agent: Agent, rows: int) -> None:
        self.compiles: bool | None = None
        if isinstance(option, bool):
            self.compiles = option
        elif not has_compiler():
            self.compiles = False
        self.agent = agent
        self.rows = rows
        self.seconds: list[float] = []  # of updates

    @property
    def mark(self) -> Path:
        """File in PyTorch's cache that says that it holds the update of such an agent."""
        return mark_of(self.agent, self.rows)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Time one update, while it is not decided."""
        if self.compiles is not None:
            yield
            return
        self._wait()
        started = time.perf_counter()
        yield
        self._wait()
        self.seconds.append(time.perf_counter() - started)

    def decide(self, steps: int) -> bool:
        """Decide if enough updates were timed; return whether this was the moment.

        Args:
            steps: gradient steps to come.
        """
        if self.compiles is not None or len(self.seconds) < TRIAL:
            return False
        update = min(self.seconds)
        cost, self.compiles = CACHED, False
        # What follows imports PyTorch's compiler, which takes longer than many a training.
        if pays(update, steps, CACHED) and can_compile():
            cost = CACHED if self.mark.exists() else COLD
            self.compiles = pays(update, steps, cost)
        estimate = (
            f"an update takes {update * 1e3:.2f} ms, so compiling would save about "
            f"{update * steps * SAVED:.0f} s of the {steps:,} steps to come, for {cost:.0f} s at "
            "the first"
        )
        if self.compiles:
            say(f"compile = auto: compiling the update; {estimate}", logging.INFO)
        else:
            say(f"compile = auto: not compiling; {estimate}", logging.DEBUG)
        return True

    def remember(self) -> None:
        """Note that PyTorch's cache holds this update."""
        with suppress(OSError):  # a cache that cannot be written
            mark = self.mark
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()

    def _wait(self) -> None:
        if self.agent.device.type == "cuda":
            torch.cuda.synchronize(self.agent.device)


def pays(update: float, steps: int, cost: float) -> bool:
    """Return whether compiling saves more than it costs.

    Args:
        update: seconds of an update that is not compiled.
        steps: gradient steps to come.
        cost: seconds of the first compiled update.
    """
    return update * steps * SAVED > cost


def has_compiler() -> bool:
    """Return whether a C++ compiler is at hand."""
    return any(shutil.which(name) for name in ("g++", "clang++", "cl"))


def mark_of(agent: Agent, rows: int) -> Path:
    """Return the file in PyTorch's cache that says that it holds the update of such an agent."""
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    parts = (torch.__version__, agent.name, agent.config, agent.spec, len(agent.runs), rows)
    name = hashlib.sha256(repr((*parts, str(agent.device))).encode()).hexdigest()[:32]
    return Path(cache_dir()) / "rlop" / name
