"""Callbacks: a user's functions that see what was logged, and may stop a training."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from rlop.config.checks import nearest, show
from rlop.logs.history import History
from rlop.logs.messages import say
from rlop.types import InputError

PerRun: TypeAlias = Mapping[str, np.ndarray]  # metric -> [R]
Verdict: TypeAlias = bool | str | None  # of a callback: True, or the reason, stops the training


class Callback:
    """Base of callbacks for `rlop.train(..., callbacks=[...])`; override what you need.

    Methods are called between updates, after the record of the step is written. Each may return
    True, or a text that says why, to stop the training: it then ends as at its last step, with a
    log, a probe, an evaluation and a checkpoint. A callback that raises ends the training, too; its
    checkpoint is valid, and a resume goes on after that step.

    The state of a callback is the user's: a checkpoint does not hold it, and a resume calls
    `on_start` with all that was logged before, from which it can be rebuilt.
    """

    def on_start(self, history: History) -> None:
        """Prepare for a training, before its first task.

        Args:
            history: its labels and configuration; on a resume, also what was logged before.
        """

    def on_log(self, step: int, metrics: PerRun) -> Verdict:
        """See the logged means.

        Args:
            step: updates so far.
            metrics: name -> `[R]`.
        """

    def on_probe(self, step: int, metrics: PerRun) -> Verdict:
        """See the measures of the representation; arguments as of `on_log`."""

    def on_evaluate(self, step: int, metrics: PerRun) -> Verdict:
        """See the scores of an evaluation; arguments as of `on_log`."""

    def on_checkpoint(self, step: int, path: Path) -> Verdict:
        """See a checkpoint that is on disk.

        Args:
            step: updates so far.
            path: its file, which the next checkpoint replaces.
        """


class Callbacks:
    """The callbacks of one training, called in order.

    Args:
        callbacks: instances of `Callback`.
        checkpoint: file of the training's checkpoints; None for none.
    Raises:
        InputError: one of them is no `Callback`.
    """

    def __init__(self, callbacks: Sequence[Callback] = (), checkpoint: Path | None = None) -> None:
        for number, callback in enumerate(callbacks):
            if not isinstance(callback, Callback):
                raise InputError(
                    f"callbacks[{number}] = {show(callback)}: expected an instance of rlop.Callback"
                )
        self.callbacks = tuple(callbacks)
        self.path = checkpoint
        self.reason = ""  # why the training is to stop

    def start(self, history: History) -> None:
        """Call `on_start`."""
        for callback in self.callbacks:
            callback.on_start(history)

    def log(self, step: int, metrics: PerRun) -> None:
        """Call `on_log`."""
        for callback in self.callbacks:
            self._note(callback, callback.on_log(step, metrics))

    def probe(self, step: int, metrics: PerRun) -> None:
        """Call `on_probe`."""
        for callback in self.callbacks:
            self._note(callback, callback.on_probe(step, metrics))

    def evaluate(self, step: int, metrics: PerRun) -> None:
        """Call `on_evaluate`."""
        for callback in self.callbacks:
            self._note(callback, callback.on_evaluate(step, metrics))

    def checkpoint(self, step: int) -> None:
        """Call `on_checkpoint`, where there are checkpoints."""
        if self.path is not None:
            for callback in self.callbacks:
                self._note(callback, callback.on_checkpoint(step, self.path))

    def _note(self, callback: Callback, verdict: Verdict) -> None:
        """Keep the first reason to stop."""
        if verdict and not self.reason:
            name = type(callback).__name__
            self.reason = f"{name}: {verdict}" if isinstance(verdict, str) else name


class EarlyStopping(Callback):
    """Stop once a metric has not improved for a number of times in a row that it was logged.

    A number that is not finite is no improvement. A resume takes up the count from the record.

    Args:
        metric: any metric that is logged, such as `eval/return` or `loss/td`.
        patience: times without an improvement after which the training stops.
        mode: `max` if more is better, `min` if less is.
        runs: `mean` watches the mean over the runs with a finite value; `all` waits until no single
            run improves.
    Raises:
        InputError: for another mode or choice of runs, or a patience below 1; in training, at the
            first log, for a metric that is not logged.
    """

    def __init__(
        self, metric: str = "eval/return", patience: int = 10, mode: str = "max", runs: str = "mean"
    ) -> None:
        if mode not in ("max", "min"):
            raise InputError(f"mode = {show(mode)}: expected 'max' or 'min'")
        if runs not in ("mean", "all"):
            raise InputError(f"runs = {show(runs)}: expected 'mean' or 'all'")
        if patience < 1:
            raise InputError(f"patience = {show(patience)}: expected a whole number of at least 1")
        self.metric, self.patience, self.mode, self.runs = metric, patience, mode, runs
        self._forget()

    def _forget(self) -> None:
        self.best: np.ndarray | None = None  # [R], or [1] for the mean; larger is better
        self.waited = np.zeros(1, int)  # times since the best
        self.names: set[str] = set()  # metrics that were logged
        self.is_continued = self.is_checked = False

    def on_start(self, history: History) -> None:
        """Take up the count from the record."""
        self._forget()
        self.is_continued = history.steps.size > 0 or history.parent is not None
        self.names.update(history.metrics)
        if self.metric in history.metrics:
            for values in history.metrics[self.metric][1]:
                self._count(values)

    def on_log(self, step: int, metrics: PerRun) -> Verdict:
        """Count; check, at the first log, that the metric is logged at all."""
        verdict = self._see(metrics)
        if not self.is_checked and self.metric not in self.names:
            fault = f"early stopping: metric '{self.metric}' is not logged"
            hint = nearest(self.metric, sorted(self.names))
            # Probes and evaluations come at step 0, if they come at all, but not after a resume.
            if not self.is_continued:
                raise InputError(f"{fault} in this training{hint}")
            say(f"{fault} so far, and stops nothing until it is{hint}", logging.WARNING)
        self.is_checked = True
        return verdict

    def on_probe(self, step: int, metrics: PerRun) -> Verdict:
        """Count."""
        return self._see(metrics)

    def on_evaluate(self, step: int, metrics: PerRun) -> Verdict:
        """Count."""
        return self._see(metrics)

    def _see(self, metrics: PerRun) -> Verdict:
        """Count the metric if it is among these; return why to stop, or None."""
        self.names.update(metrics)
        if self.metric not in metrics:
            return None
        self._count(metrics[self.metric])
        if (self.waited < self.patience).any():
            return None
        return f"{self.metric} has not improved {self.patience} times in a row"

    def _count(self, values: np.ndarray) -> None:
        """Compare values `[R]` with the best ones."""
        values = np.asarray(values, np.float64)
        finite = np.isfinite(values)
        score = np.where(finite, values if self.mode == "max" else -values, -np.inf)
        if self.runs == "mean":
            score = np.array([score[finite].mean() if finite.any() else -np.inf])

        if self.best is None:
            self.best, self.waited = score, np.zeros(len(score), int)
            return
        self.waited = np.where(score > self.best, 0, self.waited + 1)
        self.best = np.maximum(score, self.best)


def say_stopped(callbacks: Callbacks, step: int, steps: int) -> None:
    """Say which callback stopped a training, and where."""
    say(f"stopped at step {step:,} of {steps:,} by {callbacks.reason}")
