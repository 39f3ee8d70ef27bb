"""Save a training whole, and restore it: a resume continues as if nothing had happened."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rlop.config.schema import change
from rlop.logs.logger import Logger, Mark
from rlop.logs.messages import say
from rlop.training import checkpoint
from rlop.training.folder import CHECKPOINT
from rlop.training.loop import Loop
from rlop.training.options import TrainOptions
from rlop.training.resume import (
    check_same,
    differences,
    identity_of,
    plain,
    versions,
    with_newer_options,
)
from rlop.training.sums import Logged
from rlop.types import InputError

Content = Mapping[str, Any]  # of a checkpoint


class Saver:
    """Writes the checkpoints of one training.

    Args:
        loop: the training.
        folder: where they go; None for none.
        config: the configuration of a training on the command line.
    """

    def __init__(
        self, loop: Loop, folder: Path | None, config: Mapping[str, object] | None = None
    ) -> None:
        self.loop = loop
        self.folder = folder
        self.config = None if config is None else plain(config)
        self.identity: dict[str, Any] = {} if folder is None else identity(loop)
        self.versions = versions()
        self.saved_at: int | None = None  # step of the last checkpoint
        self.saved_whole = False  # whether all that was due there was done
        self.parent: Mapping[str, object] | None = None

    def save(self, logger: Logger) -> None:
        """Write the checkpoint of the current step; keep a copy if its evaluation is the best."""
        if self.folder is None:
            return
        loop = self.loop
        streams, drawn = loop.stream_states()
        training = {**self._training(logger), "draw": drawn}

        logger.sync()
        path = self.folder / CHECKPOINT
        checkpoint.save(path, loop.agent, loop.step, streams, training)
        self.saved_at, self.saved_whole = loop.step, training["is_done"]
        if loop.best is not None and loop.best["step"] == loop.step:
            checkpoint.copy_to(path, checkpoint.best(path))

    @property
    def is_current(self) -> bool:
        """Whether the last checkpoint holds the present state."""
        return self.saved_whole and self.saved_at == self.loop.step

    def _training(self, logger: Logger) -> dict[str, Any]:
        """Return all that a resume needs, except agent and random streams."""
        loop = self.loop
        now = loop.logged(logger)
        has_tasks = loop.before is not None and loop.before.step == loop.step
        before = loop.before if loop.before is not None and has_tasks else now
        return {
            "identity": {**self.identity, "compile": loop.choice.compiles},
            "parent": self.parent,
            "versions": self.versions,
            "options": {**asdict(loop.options), "steps": loop.end},
            "config": self.config,
            # Whether all that is due at this step is done.
            "is_done": loop.tasks_done_at == loop.step or not loop.any_due(),
            "before": _plain(before),
            "after": _plain(now),
        }


def _plain(logged: Logged) -> dict[str, Any]:
    """Return what was logged in plain containers, which are read without unpickling."""
    return {
        "record": logged.mark.record,
        "events": dict(logged.mark.events),
        "sums": logged.sums,
        "best": logged.best,
    }


def identity(loop: Loop) -> dict[str, Any]:
    """Describe what a training is made with; see `rlop.training.resume`."""
    return identity_of(
        loop.agent, loop.data, loop.probe_batch, loop.options, loop.choice.compiles, loop.evaluate
    )


def compiled_as(content: Content, options: TrainOptions) -> TrainOptions:
    """Return the options with `compile: auto` resolved as in the checkpoint.

    More steps must not change how the update runs.
    """
    training = content["training"]
    if options.compile != "auto" or training is None:
        return options
    with checkpoint.fitting("resume: the checkpoint's identity"):
        decided = training["identity"]["compile"]
        return options if decided is None else change(options, {"compile": bool(decided)}, "train")


def resume(saver: Saver, content: Content, where: str) -> Mark:
    """Continue a training from a checkpoint; return where its record goes on.

    Args:
        saver: of the training, which has not begun.
        content: of the checkpoint.
        where: file of the checkpoint, for messages.
    Raises:
        InputError: the checkpoint is of another training, or of an older version.
    """
    loop, training = saver.loop, content["training"]
    if training is None:
        raise InputError(
            f"{where}: written by an older version, with too little for a resume; "
            "--fork NEW continues in another folder"
        )
    with checkpoint.fitting("resume: the checkpoint's part training"):
        old = with_newer_options(training["identity"], loop.agent)
        check_same(where, old, saver.identity)
        _say_versions(training["versions"], saver.versions)
        saver.parent = training["parent"]

        # The last step has tasks that another end would not have, or have elsewhere.
        step, old_end, end = content["step"], training["options"]["steps"], loop.options.steps
        has_same_tasks = old_end == end or step not in (old_end, end)
        is_done = training["is_done"] and has_same_tasks
        logged = training["after" if is_done else "before"]
        mark = Mark(int(logged["record"]), {str(k): int(v) for k, v in logged["events"].items()})

    _load_state(loop, content, where)
    loop.continue_streams(content["streams"], training["draw"])
    with checkpoint.fitting("resume: the checkpoint's part training"):
        loop.sums.load_state_dict(logged["sums"])
        loop.best = logged["best"]
        loop.tasks_done_at = step if is_done else -1
    saver.saved_at, saver.saved_whole = step, is_done
    return mark


def fork(saver: Saver, content: Content, where: str) -> None:
    """Continue from the checkpoint of another training under changed options.

    Parameters, optimizers, step and random streams are those of the checkpoint; the record starts
    at its step. With other seeds, or on another kind of device, the random streams are new.

    Args:
        saver: of the training, which has not begun.
        content: of the checkpoint.
        where: file of the checkpoint.
    Raises:
        InputError: the agent's state does not fit.
    """
    loop, training = saver.loop, content["training"] or {}
    _load_state(loop, content, where)
    with checkpoint.fitting("resume: the checkpoint's part training"):
        old = training.get("identity", {})
        old = with_newer_options(old, loop.agent) if old else {}
        changes = differences(old, saver.identity) if old else []
        has_streams = all(old.get(key) == saver.identity[key] for key in ("seeds", "device"))
    if has_streams:
        loop.continue_streams(content["streams"], training["draw"])
    else:
        say("other seeds, or another device: the random streams are new")

    saver.parent = {"checkpoint": where, "step": loop.step, "changes": changes}
    changed = "; ".join(changes) or "nothing that is known"
    say(f"continuing from step {loop.step} of {where} under changed options: {changed}")


def _load_state(loop: Loop, content: Content, where: str) -> None:
    """Load the state of the agent, and the step."""
    steps, done = loop.options.steps, content["step"]
    if steps < done:
        raise InputError(f"steps = {steps}: expected at least {done}, the step of {where}")
    with checkpoint.fitting("resume: the checkpoint's state"):
        loop.agent.load_state_dict(content["state"])
    loop.step = content["step"]


def _say_versions(old: Mapping[str, str], new: Mapping[str, str]) -> None:
    """Warn where what computes has changed since the checkpoint."""
    changed = [
        f"{name} {old[name]} -> {new.get(name)}" for name in old if old[name] != new.get(name)
    ]
    if changed:
        say(f"numbers may differ in their last bits: {', '.join(changed)}", logging.WARNING)
