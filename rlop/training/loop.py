"""The training loop: sample, update, and now and then probe, evaluate, log, save."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from rlop import probes
from rlop.config.checks import check_range
from rlop.config.files import to_dict
from rlop.config.schema import build
from rlop.data.dataset import Dataset
from rlop.data.dqn_replay.stacks import make_table
from rlop.data.dqn_replay.window import RollingWindow
from rlop.data.prefetch import Prefetcher
from rlop.data.sampler import Streams, check_batch_size, probe_batch
from rlop.logs.logger import History, final_scores
from rlop.logs.logger import Logger as Board
from rlop.logs.progress import Progress
from rlop.training import checkpoint
from rlop.training.compile import Launch, compiled, launch_size, pays
from rlop.training.interrupt import StopSignal
from rlop.training.resets import Resets
from rlop.types import InputError, Metrics

CHECKPOINT = "checkpoint.pt"
INTERVALS = ("log_every", "probe_every", "eval_every", "checkpoint_every", "reload_every")
Evaluation = Callable[[Any], dict[str, np.ndarray]]  # agent -> {metric: [R]}


@dataclass(frozen=True)
class TrainOptions:
    """How often what happens beside the updates, in gradient steps; 0 turns it off."""

    steps: int = 100_000
    log_every: int = 1000
    probe_every: int = 1000
    probe_size: int = (
        0  # transitions in the fixed probe batch; 0 means max(2048, 4 D), at most the data
    )
    eval_every: int = 10_000
    checkpoint_every: int = 50_000
    reload_every: int = 0  # draw the data anew, where they are a `RollingWindow`
    compile: Literal["auto", True, False] = (
        "auto"  # the update as one graph; auto: where it pays, see `pays`
    )
    updates_per_launch: int = (
        0  # 0: one on a CPU; on CUDA as many as the intervals allow, see `launch_size`
    )

    def __post_init__(self) -> None:
        check_range("steps", self.steps, low=1)
        for name in (*INTERVALS, "probe_size", "updates_per_launch"):
            check_range(name, getattr(self, name), low=0)


def train(
    agent: Any,
    data: Dataset | RollingWindow,
    steps: int = TrainOptions.steps,
    *,
    logdir: str | Path | None = None,
    evaluate: Evaluation | None = None,
    resume: bool = False,
    progress: bool | None = None,
    **options: Any,
) -> History:
    """Train all runs of an agent on a fixed data set.

    Args:
        agent: from `rlop.agents`, or anything with their methods.
        data: the data set; the agent takes the columns it needs. Of a `RollingWindow` draw after draw is trained on.
        steps: gradient steps in all, also when resuming.
        logdir: where TensorBoard files, `metrics.jsonl` and `checkpoint.pt` go; None keeps the record in memory only.
        evaluate: called with the agent at step 0, every `eval_every` steps and at the end, e.g. an `Evaluator`.
        resume: continue from `logdir/checkpoint.pt`, with the very same numbers as an uninterrupted training.
        progress: show a progress bar; None decides from the terminal.
        options: fields of `TrainOptions`.
    Returns:
        Every metric logged, each with its steps, `[T, R]`.
    Raises:
        InputError: before any work starts, for what does not fit.
        KeyboardInterrupt: passed on, after logs and a checkpoint are on disk.
    """
    loop = Loop(
        agent, data, build(TrainOptions, {"steps": steps, **options}, where="train"), evaluate
    )
    if resume:
        if logdir is None:
            raise InputError("resume = true: expected a logdir that holds a checkpoint")
        loop.restore(checkpoint.load(Path(logdir) / CHECKPOINT, agent.device))
    settings = {
        "agent": type(agent).__name__,
        "data": data.name,
        **to_dict(agent.config),
        **to_dict(loop.options),
    }
    with Board(logdir, agent.runs.labels, agent.runs.hparams, settings, resume=resume) as board:
        try:
            with Progress(steps, start=loop.step, enabled=progress) as bar, StopSignal() as stop:
                loop.run(board, bar, stop)
            history = board.history
            board.close(final_scores(history))
        except KeyboardInterrupt:
            if board.logdir is not None:
                print(
                    f"interrupted at step {loop.step}: logs and checkpoint are in {logdir}",
                    file=sys.stderr,
                )
            raise
        finally:
            loop.save(board.logdir)
    return history


class Loop:
    """State of one training: agent, table of transitions, random streams, running sums of the metrics."""

    def __init__(
        self,
        agent: Any,
        data: Dataset | RollingWindow,
        options: TrainOptions,
        evaluate: Evaluation | None,
    ) -> None:
        if options.reload_every and not isinstance(data, RollingWindow):
            raise InputError(
                f"reload_every = {options.reload_every}: expected data with a window, see RollingWindow"
            )
        self.agent, self.options, self.evaluate, self.data = agent, options, evaluate, data
        self.resets, self.step = Resets(agent), 0
        self.compiles = options.compile is True or (
            options.compile == "auto" and pays(options.steps)
        )
        self.compiled = cache(compiled) if self.compiles else lambda update: update
        size = options.probe_size or max(2048, 4 * agent.head_weight.shape[-1])
        self.probe_batch = probe_batch(self.load(0).columns(), size, len(agent.runs), agent.device)

    def load(self, number: int) -> Dataset:
        """Take the data, or draw `number` of a window; streams begin anew, and so does what a GPU has recorded."""
        vars(self).update(
            dict.fromkeys(("table", "streams", "launch", "launches"))
        )  # let go before the next is read
        data, agent = (
            self.data.draw(number) if isinstance(self.data, RollingWindow) else self.data,
            self.agent,
        )
        prepared = agent.prepare(data)
        check_batch_size(agent.batch_size, len(prepared))
        if (data.spec.shapes, data.spec.obs_normalizer) != (
            agent.spec.shapes,
            agent.spec.obs_normalizer,
        ):
            made_for = f"is not what the agent was made for: {agent.spec.shapes}"
            raise InputError(f"data {data.name}: {data.spec.shapes} {made_for}")
        self.table, self.number = make_table(prepared.columns(), agent.device), number
        self.streams: Any = Streams(
            agent.runs.seeds, agent.batch_size, len(self.table), agent.noise, agent.device
        )
        update = self.one_update
        if self.table.on_disk:  # batches are gathered ahead, and come in place of their indices
            self.streams, update = Prefetcher(self.streams, self.table.gather), agent.update
        update = self.compiled(update)
        self.launch, self.launches = (
            Launch(agent, update, 1),
            Launch(agent, update, self.per_launch()),
        )
        return data

    def go_on(self, streams: dict[str, Any]) -> None:
        """Continue random streams on the data of the present step, loading them if they are others."""
        every = self.options.reload_every
        if every and self.step // every != self.number:
            self.load(self.step // every)
        self.streams.load_state_dict(streams)
        if every and self.step and self.step % every == 0:
            self.streams.renew()

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from the content of a checkpoint."""
        self.agent.load_state_dict(state["state"])
        self.step = state["step"]
        self.go_on(state["streams"])

    def save(self, logdir: Path | None) -> None:
        """Write the checkpoint, if there is a folder for it."""
        if logdir is not None:
            checkpoint.save(logdir / CHECKPOINT, self.agent, self.step, self.streams.state_dict())

    def one_update(self, index: Tensor, noise: dict[str, Tensor]) -> Metrics:
        """Gather the batch and update every run: the part that is compiled."""
        return self.agent.update(self.table.gather(index), noise)

    def per_launch(self) -> int:
        """How many updates go into one launch.

        Raises:
            InputError: for a number asked for that does not fit the intervals.
        """
        asked, period = self.options.updates_per_launch, self.agent.target_period
        intervals = [
            self.options.steps,
            self.resets.options.every,
            *(getattr(self.options, n) for n in INTERVALS),
        ]
        if any(every % (asked or 1) for every in intervals) or (
            asked and asked % period and period % asked
        ):
            raise InputError(
                f"updates_per_launch = {asked}: expected a divisor of steps and all intervals ({intervals}) and a "
                f"divisor or a multiple of target_period = {period}"
            )
        replays = self.agent.device.type == "cuda" and not self.table.on_disk
        return asked or (launch_size(intervals, period) if replays else 1)

    def advance(self) -> tuple[Launch, Tensor]:
        """One launch from the present step: what it was, and sums of its metrics `[M, R]`."""
        if self.options.reload_every and self.step // self.options.reload_every != self.number:
            self.go_on(self.streams.state_dict())
        size = self.launches.size
        launch = (
            self.launch if self.step % size else self.launches
        )  # after a resume at an odd step one by one
        sums = launch(*self.streams.take(launch.size))
        self.step += launch.size
        if self.resets.due(self.step):
            self.resets(self.probe_batch, self.step)
        if not launch.moves_target and self.step % self.agent.target_period == 0:
            self.agent.update_target()
        return launch, sums

    def run(self, board: Board, bar: Progress, stop: StopSignal) -> None:
        """Train from the present step to the last; KeyboardInterrupt after the step in which `stop` was set."""
        if self.compiles:
            board.say_once(
                f"compiling the update for {self.options.steps:,} steps: the first takes half a minute"
            )
        if self.step == 0:
            self.look(board, bar)
        sums, since, started = None, self.step, time.perf_counter()
        while self.step < self.options.steps:
            launch, values = self.advance()
            sums = values if sums is None else sums.add_(values)
            if self.due(self.options.log_every):
                mean = (
                    (sums / (self.step - since)).double().cpu().numpy()
                )  # the one place where the host waits
                speed = (self.step - since) / (time.perf_counter() - started)
                self.log(dict(zip(launch.names, mean, strict=True)), speed, board, bar)
                sums, since, started = None, self.step, time.perf_counter()
            self.look(board, bar)
            if stop.asked:
                raise KeyboardInterrupt

    def due(self, every: int) -> bool:
        """Whether something that happens every so many steps, and at the last one, is due now."""
        return every > 0 and (self.step % every == 0 or self.step == self.options.steps)

    def log(
        self, metrics: dict[str, np.ndarray], speed: float, board: Board, bar: Progress
    ) -> None:
        """Write the means since the last log, say which runs were frozen, and move the progress bar."""
        active = self.agent.active.cpu().numpy()
        metrics["run/active"] = active.astype(float)
        metrics["time/steps_per_s"] = np.full(len(active), speed)
        for run in np.flatnonzero(~active):
            label = self.agent.runs.labels[run]
            board.say_once(
                f"run {label} diverged by step {self.step} and is frozen; the others go on",
                key=label,
            )
        board.log(self.step, metrics)
        bar.update(
            self.step,
            loss=float(metrics["loss/total"][active].mean()) if active.any() else float("nan"),
        )

    def look(self, board: Board, bar: Progress) -> None:
        """Probe, evaluate and save, when due."""
        found: dict[str, np.ndarray] = {}
        if self.due(self.options.probe_every):
            found |= self.probe()
        if self.evaluate is not None and self.due(self.options.eval_every):
            found |= self.evaluate(self.agent)
        if found:
            board.log(self.step, found)
        if "eval/return" in found:
            bar.update(self.step, ret=float(np.mean(found["eval/return"])))
        if 0 < self.step < self.options.steps and self.due(
            self.options.checkpoint_every
        ):  # `train` saves the last
            self.save(board.logdir)

    def probe(self) -> dict[str, np.ndarray]:
        """Representation measures of every run on the fixed batch."""
        features, next_features = self.agent.features(self.probe_batch)
        mask = 1 - self.probe_batch.terminated
        if features.ndim == 4:  # [R, E, n, D]: one mask for all critics
            mask = mask.unsqueeze(1).expand(features.shape[:-1])
        measured = probes.measure(
            features, next_features, mask, self.agent.head_weight, self.agent.activation
        )
        # of several critics their mean
        return {
            name: value.reshape(len(value), -1).mean(1).cpu().numpy()
            for name, value in measured.items()
        }
