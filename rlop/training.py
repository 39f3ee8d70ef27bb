"""The training loop: sample, update, and now and then probe, evaluate, log, save."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlop import checkpoint, probes
from rlop.board import Board, History, read_metrics
from rlop.checks import build, check_range
from rlop.config import to_dict
from rlop.data.dataset import Dataset
from rlop.data.sampler import Streams, Table, check_batch_size, probe_batch
from rlop.progress import Progress
from rlop.types import InputError, Metrics

CHECKPOINT = "checkpoint.pt"
Evaluation = Callable[[Any], dict[str, np.ndarray]]  # agent -> {metric: [R]}


@dataclass(frozen=True)
class TrainOptions:
    """How often what happens beside the updates, in gradient steps; 0 turns it off."""

    steps: int = 100_000
    log_every: int = 1000
    probe_every: int = 1000
    probe_size: int = 0  # transitions in the fixed probe batch; 0 means max(2048, 4 D), at most the data
    eval_every: int = 10_000
    checkpoint_every: int = 50_000
    compile: bool = False  # the update as one graph; pays for itself in long runs only

    def __post_init__(self) -> None:
        check_range("steps", self.steps, low=1)
        for name in ("log_every", "probe_every", "probe_size", "eval_every", "checkpoint_every"):
            check_range(name, getattr(self, name), low=0)


def train(
    agent: Any,
    data: Dataset,
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
        data: the data set; the agent takes the columns it needs.
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
    loop = Loop(agent, data, build(TrainOptions, {"steps": steps, **options}, where="train"), evaluate)
    if logdir is None:
        if resume:
            raise InputError("resume = true: expected a logdir that holds a checkpoint")
        with Progress(steps, enabled=progress) as bar:
            loop.run(bar)
        return loop.history()
    logdir = Path(logdir)
    if resume:
        loop.restore(checkpoint.load(logdir / CHECKPOINT, agent.device))
    settings = {"agent": type(agent).__name__, "data": data.name, **to_dict(agent.config), **to_dict(loop.options)}
    with Board(logdir, agent.runs.labels, agent.runs.hparams, settings, resume=resume) as board:
        try:
            with Progress(steps, start=loop.step, enabled=progress) as bar:
                loop.run(bar, board)
            board.close(loop.final())
        except KeyboardInterrupt:
            print(f"interrupted at step {loop.step}: logs and checkpoint are in {logdir}", file=sys.stderr)
            raise
        finally:
            loop.save(logdir)
    return read_metrics(logdir)


class Loop:
    """State of one training: agent, table of transitions, random streams, running sums of the metrics."""

    def __init__(self, agent: Any, data: Dataset, options: TrainOptions, evaluate: Evaluation | None) -> None:
        prepared = agent.prepare(data)
        check_batch_size(agent.batch_size, len(prepared))
        if data.spec != agent.spec:
            raise InputError(f"data {data.name}: {data.spec} is not what the agent was made for, {agent.spec}")
        self.agent, self.options, self.evaluate = agent, options, evaluate
        self.table = Table(prepared.columns(), agent.device)
        self.streams = Streams(agent.runs.seeds, agent.batch_size, len(self.table), agent.noise, agent.device)
        size = options.probe_size or max(2048, 4 * agent.head_weight.shape[-1])
        self.probe_batch = probe_batch(data.columns(), size, len(agent.runs), agent.device)
        self.step = 0
        self.rows: dict[str, list[tuple[int, np.ndarray]]] = {}
        self.frozen: set[int] = set()
        self.update = compiled(self.one_update) if options.compile else self.one_update

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from the content of a checkpoint."""
        self.agent.load_state_dict(state["state"])
        self.streams.load_state_dict(state["streams"])
        self.step = state["step"]

    def save(self, logdir: Path) -> Path:
        """Write the checkpoint."""
        return checkpoint.save(logdir / CHECKPOINT, self.agent, self.step, self.streams.state_dict())

    def one_update(self, index: Tensor, noise: dict[str, Tensor]) -> Metrics:
        """Gather the batch and update every run: the part that is compiled."""
        return self.agent.update(self.table.gather(index), noise)

    def run(self, bar: Progress, board: Board | None = None) -> None:
        """Train from the present step to the last."""
        if self.step == 0:
            self.look(bar, board)
        sums, since, started = None, self.step, time.perf_counter()
        while self.step < self.options.steps:
            metrics = self.update(*self.streams.next())
            self.step += 1
            if self.step % self.agent.target_period == 0:
                self.agent.update_target()
            values = torch.stack(tuple(metrics.values()))
            sums = values if sums is None else sums.add_(values)
            if self.due(self.options.log_every):
                mean = (sums / (self.step - since)).double().cpu().numpy()  # the one place where the host waits
                speed = (self.step - since) / (time.perf_counter() - started)
                self.log(dict(zip(metrics, mean, strict=True)), speed, bar, board)
                sums, since, started = None, self.step, time.perf_counter()
            self.look(bar, board)

    def due(self, every: int) -> bool:
        """Whether something that happens every so many steps, and at the last one, is due now."""
        return every > 0 and (self.step % every == 0 or self.step == self.options.steps)

    def log(self, metrics: dict[str, np.ndarray], speed: float, bar: Progress, board: Board | None) -> None:
        """Write the means since the last log, say which runs were frozen, and move the progress bar."""
        active = self.agent.active.cpu().numpy()
        metrics["run/active"] = active.astype(float)
        metrics["time/steps_per_s"] = np.full(len(active), speed)
        for run in sorted(set(np.flatnonzero(~active)) - self.frozen):
            self.frozen.add(run)
            label = self.agent.runs.labels[run]
            print(f"run {label} diverged by step {self.step} and is frozen; the others go on", file=sys.stderr)
        self.write(metrics, board)
        bar.update(self.step, loss=float(metrics["loss/total"][active].mean()) if active.any() else float("nan"))

    def look(self, bar: Progress, board: Board | None) -> None:
        """Probe, evaluate and save, when due."""
        found: dict[str, np.ndarray] = {}
        if self.due(self.options.probe_every):
            found |= self.probe()
        if self.evaluate is not None and self.due(self.options.eval_every):
            found |= self.evaluate(self.agent)
        if found:
            self.write(found, board)
        if "eval/return" in found:
            bar.update(self.step, ret=float(np.mean(found["eval/return"])))
        if board is not None and self.step and self.due(self.options.checkpoint_every):
            self.save(board.logdir)

    def write(self, metrics: dict[str, np.ndarray], board: Board | None) -> None:
        """Keep the numbers in memory, and on the board when there is one."""
        for name, values in metrics.items():
            self.rows.setdefault(name, []).append((self.step, values))
        if board is not None:
            board.log(self.step, metrics)

    def final(self) -> dict[str, np.ndarray]:
        """Last value of every metric that tells how a run ended, for the hyper-parameter tab."""
        groups = ("eval/", "rank/srank", "feature/dot", "q/data", "run/active")
        return {name: rows[-1][1] for name, rows in self.rows.items() if name.startswith(groups)}

    def history(self) -> History:
        """The record in memory."""
        series = {k: (np.array([s for s, _ in rows]), np.stack([v for _, v in rows])) for k, rows in self.rows.items()}
        steps = np.unique(np.concatenate([s for s, _ in series.values()])) if series else np.zeros(0, int)
        runs = self.agent.runs
        return History(steps, series, list(runs.labels), list(runs.hparams), to_dict(self.agent.config))

    def probe(self) -> dict[str, np.ndarray]:
        """Representation measures of every run on the fixed batch."""
        features, next_features = self.agent.features(self.probe_batch)
        measured = probes.measure(
            features, next_features, 1 - self.probe_batch.terminated, self.agent.head_weight, self.agent.activation
        )
        return {name: value.cpu().numpy() for name, value in measured.items()}


def compiled(update: Callable[..., Metrics], backend: str = "inductor") -> Callable[..., Metrics]:
    """The update as one graph, gradient and optimizer included.

    Raises:
        InputError: when this PyTorch cannot trace `torch.autograd.grad` inside a graph.
    """
    config = torch._dynamo.config
    if not hasattr(config, "trace_autograd_ops"):
        raise InputError(f"compile = true: PyTorch {torch.__version__} is too old for it; 2.13 is known to work")
    graph = torch.compile(update, fullgraph=True, backend=backend)

    def run(*args: Any) -> Metrics:
        with config.patch(trace_autograd_ops=True):
            return graph(*args)

    return run
