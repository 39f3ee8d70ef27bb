"""The training loop: sample and update; periodically log, probe, evaluate and save."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import numpy as np
from torch import Tensor

from rlop.agent import Agent, Noise
from rlop.agent_checks import check_metrics
from rlop.data.dataset import Dataset
from rlop.data.dqn_replay.window import RollingWindow
from rlop.data.prefetch import Prefetcher
from rlop.data.sampler import Streams, StreamState, Table, check_batch_size
from rlop.data.tables import make_table
from rlop.envs.watched import EnvironmentFailed
from rlop.logs.logger import Logger
from rlop.logs.messages import say
from rlop.logs.progress import Progress
from rlop.training import checkpoint
from rlop.training.callbacks import Callbacks, say_stopped
from rlop.training.choice import CompileChoice
from rlop.training.compile import Compiled, Forms, Launch, Update, updates_per_launch
from rlop.training.evaluate import Evaluation
from rlop.training.exact import Scores
from rlop.training.feed import Feed, check_data
from rlop.training.interrupt import StopSignal
from rlop.training.options import TrainOptions
from rlop.training.probing import measure_agent, pictures_of, probed_transitions
from rlop.training.resets import Resets
from rlop.training.sums import Best, Logged, Sums
from rlop.training.validation import validation_of
from rlop.types import Batch, InputError

PICTURES = 10  # probes per picture of what they measure; a picture costs about as much as a probe


class Loop:
    """The state of one training: agent, table of transitions, random streams, sums of metrics.

    Args:
        agent: the agent to train.
        data: the data set, or a rolling window of one.
        options: the schedule.
        evaluate: see `train`.
        callbacks: see `train`.
    Raises:
        InputError: for options or data that do not fit the agent.
    """

    def __init__(
        self,
        agent: Agent,
        data: Dataset | RollingWindow,
        options: TrainOptions,
        evaluate: Evaluation | None = None,
        callbacks: Callbacks | None = None,
    ) -> None:
        if options.reload_every and not isinstance(data, RollingWindow):
            raise InputError(
                f"reload_every = {options.reload_every}: "
                "expected data with a window, see RollingWindow"
            )
        self.agent = agent
        self.options = options
        self.evaluate = evaluate
        self.callbacks = callbacks or Callbacks()
        self.data = data
        self.step = 0
        self.end = options.steps  # the last step, unless a callback stops before
        self.feed: Feed
        self.number: int | None = None  # draw of a rolling window that is loaded
        self.stream_state: StreamState | None = None  # state of the streams when a draw was dropped
        self.dropped: int | None = None  # number of that draw
        self.sums = Sums()
        self.resets = Resets(agent)

        self.graphs: dict[tuple[Update, int], Compiled] = {}  # by update and the table's rows

        self.choice = CompileChoice(options.compile, agent, len(data))
        self.validation = validation_of(agent, data, options)
        self.probe_batch = probed_transitions(agent, self.load(0), options.probe_size)

        self.is_whole = True  # False within an update, where nothing can be saved
        self.before: Logged | None = None  # the tasks of the last step that had any
        self.tasks_done_at = -1  # last step at which all that was due is done
        self.best: Best | None = None
        self.scored: list[str] = []  # names of an evaluation's scores, once there was one

    def run(
        self, logger: Logger, bar: Progress, stop: StopSignal, save: Callable[[], bool]
    ) -> None:
        """Train from the current step to the last one.

        Args:
            logger: of the metrics.
            bar: shows the step.
            stop: says when to end.
            save: writes a checkpoint between the first step and the last; says whether it could.

        Raises:
            Interrupted: after the update, or within the evaluation, at which a signal came.
        """
        if self.tasks_done_at != self.step:  # at step 0, or what a resume found undone
            self.do_tasks(logger, bar, stop, save)
        self.sums.start_clock()

        while self.step < self.end:
            self.advance()
            if self.any_due():
                self.do_tasks(logger, bar, stop, save)
            stop.leave()
        if self.choice.compiles:
            self.choice.remember()

    def advance(self) -> int:
        """Make one launch from the current step; return the number of its updates."""
        self.follow_window()
        feed = self.feed
        self.is_whole = False

        # The first update is plain: it makes the sums, and a fault in it is said in one line. After
        # it, or a resume between launches, single ones run until launches are aligned.
        is_plain = self.sums.total is None or self.choice.compiles is None
        count = 1 if is_plain or self.step % feed.launch.size else feed.launch.size
        if count == 1:
            update = (feed.plain if is_plain else feed.update).after(self.step)
            with self.choice.timed():
                update(*feed.streams.next())
        else:
            feed.launch(*feed.streams.take(count))
        self.sums.count += count
        self.step += count

        # A target that moves within a launch moves before a reset, and so it must with single
        # updates.
        period = self.agent.target_period
        within_launch = count % period == 0
        if within_launch and count == 1:
            self.agent.update_target()
        if self.resets.due(self.step):
            self.resets(self.probe_batch, self.step)
        if not within_launch and self.step % period == 0:
            self.agent.update_target()
        if self.choice.decide(self.options.steps - self.step):
            self.feed = self.make_feed(feed.table, feed.streams)
        self.is_whole = True
        return count

    # --- data

    def load(self, number: int) -> Dataset:
        """Load the data set, or draw `number` of a rolling window.

        Random streams restart and recorded CUDA graphs are discarded.
        """
        # Free the previous draw before the next one is read: memory may not hold both. If the next
        # one cannot be read, a checkpoint still has the state of the random streams.
        if self.number is not None:
            self.stream_state = self.feed.streams.state_dict()
            self.dropped, self.number = self.number, None
            del self.feed
            for graph in self.graphs.values():
                graph.renew()

        data = self.data.draw(number) if isinstance(self.data, RollingWindow) else self.data
        if self.validation is not None:
            data = self.validation.rest
        check_data(self.agent.spec, data)
        prepared = self.agent.prepare(data)
        check_batch_size(self.agent.batch_size, len(prepared))
        if len(prepared) < len(data) and number == 0:
            say(
                f"{data.name}: {self.agent.name} leaves out {len(data) - len(prepared):,} of "
                f"{len(data):,} rows, which lack what its target reads, such as a next action"
            )

        table = make_table(prepared.columns(), self.agent.device)
        seeds, size = self.agent.runs.seeds, self.agent.batch_size
        noise, device = self.agent.noise, self.agent.device
        streams = Streams(seeds, size, len(table), noise, device, prepared.mixture)
        # Batches from disk are prefetched on other threads, and replace their rows.
        source = Prefetcher(streams, table.gather) if table.on_disk else streams
        self.feed = self.make_feed(table, source)
        self.number = number
        return data

    def make_feed(self, table: Table, streams: Streams | Prefetcher) -> Feed:
        """Set up the update; one that gathers its own batch is faster, where it can."""
        period = self.agent.policy_period
        plain = Forms(self.gather_and_update, self.gather_and_partial_update, period)
        if table.on_disk:
            plain = Forms(self.update, self.partial_update, period)
        forms = plain
        if self.choice.compiles:
            whole, partial = (
                self.compiled(form, len(table)) for form in (plain.whole, plain.partial)
            )
            forms = Forms(whole, partial, period)

        launches = self.agent.device.type == "cuda" or self.choice.compiles
        size = updates_per_launch(
            self.options, self.resets.options.every, self.agent, bool(launches), table.on_disk
        )
        return Feed(table, streams, plain, forms, Launch(self.agent, forms, size, self.sums))

    def gather_and_update(self, rows: Tensor, noise: Noise) -> None:
        """Update every run on the transitions at `rows` `[R, B]`."""
        self.update(self.feed.table.gather(rows), noise)

    def gather_and_partial_update(self, rows: Tensor, noise: Noise) -> None:
        """Update every run on the transitions at `rows` `[R, B]`, without delayed learners."""
        self.partial_update(self.feed.table.gather(rows), noise)

    def partial_update(self, batch: Batch, noise: Noise) -> None:
        """Update every run on a batch without delayed learners, and add its metrics to the sums."""
        self.sums.add(self.agent.partial_update(batch, noise))

    def update(self, batch: Batch, noise: Noise) -> None:
        """Update every run on a batch, and add its metrics to the sums."""
        metrics = self.agent.update(batch, noise)
        if self.sums.total is None:
            agent = self.agent
            check_metrics(metrics, len(agent.runs), agent.name, agent.penalties.regularizers)
        self.sums.add(metrics)

    def compiled(self, update: Update, rows: int) -> Update:
        """Return the compiled form of an update, the same one for every table of so many rows."""
        if (update, rows) not in self.graphs:
            fitting = {key: graph for key, graph in self.graphs.items() if key[1] == rows}
            self.graphs = {**fitting, (update, rows): Compiled(update)}
        self.graphs[update, rows].renew()
        return self.graphs[update, rows]

    def follow_window(self) -> None:
        """Load the draw of a rolling window for the current step."""
        every = self.options.reload_every
        if every and self.step // every != self.number:
            self.continue_streams(self.feed.streams.state_dict(), self.number)

    def continue_streams(self, streams: StreamState, drawn: int | None) -> None:
        """Continue random streams on the data of the current step.

        Args:
            streams: their state.
            drawn: the draw of a rolling window that they are for.
        """
        every = self.options.reload_every
        number = self.step // every if every else 0
        if every and number != self.number:
            self.load(number)
        with checkpoint.fitting("resume: the checkpoint's random streams"):
            self.feed.streams.load_state_dict(streams)

        # Indices drawn ahead refer to the size of the previous draw.
        if every and number != drawn:
            self.feed.streams.renew()

    # --- periodic tasks

    def due(self, every: int) -> bool:
        """Return whether a task of this interval is due, which also runs at the last step."""
        return every > 0 and (self.step % every == 0 or self.step == self.end)

    def log(self, logger: Logger, bar: Progress) -> dict[str, np.ndarray]:
        """Log and return the means since the last log; report the runs that were frozen."""
        metrics, speed = self.sums.take()
        active = self.agent.active.cpu().numpy()
        metrics["run/active"] = active.astype(float)
        metrics["time/steps_per_s"] = np.full(len(active), speed)

        for run in np.flatnonzero(~active):
            label = self.agent.runs.labels[run]
            logger.say_once(
                f"run {label} diverged by step {self.step} and is frozen; the others go on",
                key=label,
            )
        logger.log(self.step, metrics)
        loss = metrics["loss/total"][active].mean() if active.any() else np.nan
        bar.update(self.step, loss=float(loss))
        return metrics

    def any_due(self) -> bool:
        """Return whether anything is due at the current step."""
        options = self.options
        looks = (options.log_every, options.probe_every, options.eval_every)
        return any(map(self.due, (*looks, options.checkpoint_every)))

    def do_tasks(
        self, logger: Logger, bar: Progress, stop: StopSignal, save: Callable[[], bool]
    ) -> None:
        """Log, probe, evaluate and save, if due; what an interruption leaves, a resume does."""
        self.before = self.logged(logger)
        is_best = self.look(logger, bar, stop, self.due)

        # `train` writes the last checkpoint.
        between = 0 < self.step < self.end and not self.callbacks.reason
        every = self.options.checkpoint_every
        if between and every and (is_best or self.due(every)) and save():
            self.callbacks.checkpoint(self.step)

        if self.callbacks.reason and self.step < self.end:
            self.end_here(logger, bar, stop)

    def look(
        self, logger: Logger, bar: Progress, stop: StopSignal, due: Callable[[int], bool]
    ) -> bool:
        """Log, probe and evaluate, if due; return whether the evaluation is the best so far."""
        means: dict[str, np.ndarray] = {}
        if self.sums.count and due(self.options.log_every):
            means = self.log(logger, bar)

        probed: dict[str, np.ndarray] = {}
        if due(self.options.probe_every):
            probed = measure_agent(self.agent, self.probe_batch, self.options.probes)
            if logger.logdir is not None and due(PICTURES * self.options.probe_every):
                pictures = pictures_of(self.agent, self.probe_batch, self.options.probes)
                logger.draw(self.step, pictures)
            if self.validation is not None:
                probed |= self.validation.measure(self.agent)
        scores: Scores = {}
        if self.evaluate is not None and due(self.options.eval_every):
            with stop.at_once():
                scores = self.evaluated(self.evaluate)

        if probed or scores:
            logger.log(self.step, {**probed, **scores})
        if "eval/return" in scores:
            bar.update(self.step, ret=float(np.mean(scores["eval/return"])))
        is_best = self.note_best(scores)
        self.tasks_done_at = self.step

        # Last, so that whatever they do, the record is whole.
        if means:
            self.callbacks.log(self.step, means)
        if probed:
            self.callbacks.probe(self.step, probed)
        if scores:
            self.callbacks.evaluate(self.step, scores)
        return is_best

    def end_here(self, logger: Logger, bar: Progress, stop: StopSignal) -> None:
        """Make this step the last one, and do what is due at the end alone."""
        say_stopped(self.callbacks, self.step, self.end)
        self.end = self.step
        self.tasks_done_at = -1
        self.look(logger, bar, stop, lambda every: every > 0 and self.step % every != 0)

    def evaluated(self, evaluate: Evaluation) -> Scores:
        """Return the scores of an evaluation; NaN where the environment failed.

        Raises:
            EnvironmentFailed: the first time: an environment that never worked is a mistake.
        """
        try:
            scores = evaluate(self.agent)
        except EnvironmentFailed as error:
            if not self.scored:
                raise
            say(
                f"{error}; the evaluation at step {self.step} is recorded as failed, without a "
                "number, and the training goes on",
                logging.WARNING,
            )
            return {name: np.full(len(self.agent.runs), np.nan) for name in self.scored}
        self.scored = list(scores)
        return scores

    def logged(self, logger: Logger) -> Logged:
        """Return what was logged up to now."""
        return Logged(self.step, logger.mark(), self.sums.state_dict(), self.best)

    def note_best(self, metrics: Mapping[str, np.ndarray]) -> bool:
        """Remember the step of the best mean return after step 0; return whether it is this one."""
        returns = np.asarray(metrics.get("eval/return", ()), np.float64)
        finite = returns[np.isfinite(returns)]
        score = float(finite.mean()) if finite.size and self.step else -np.inf
        is_best = score > (self.best["score"] if self.best else -np.inf)
        if is_best:
            self.best = Best(step=self.step, score=score)
        return is_best

    def stream_states(self) -> tuple[StreamState | None, int | None]:
        """Return the state of the random streams, and the draw of a window that it is for."""
        if self.number is None and self.stream_state is not None:
            return self.stream_state, self.dropped
        return self.feed.streams.state_dict(), self.number
