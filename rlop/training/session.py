"""One training in its folder: locked, logged, saved, interrupted and resumed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlop.agent import Agent
from rlop.agent_checks import memory_named
from rlop.config.files import to_dict
from rlop.config.schema import build
from rlop.data.dataset import Dataset
from rlop.data.dqn_replay.window import RollingWindow
from rlop.envs.given import Given
from rlop.logs.logger import History, Logger, Mark, final_scores
from rlop.logs.messages import say
from rlop.logs.progress import Progress
from rlop.training.callbacks import Callback, Callbacks
from rlop.training.evaluate import Evaluation, evaluation_of
from rlop.training.folder import CHECKPOINT, RunFolder, how_to_resume, newest
from rlop.training.interrupt import StopSignal
from rlop.training.loop import Loop
from rlop.training.options import Experiment, TrainOptions
from rlop.training.resume import plain
from rlop.training.saving import Content, Saver, compiled_as, fork, resume
from rlop.training.started import note_start
from rlop.types import InputError


def train(
    agent: Agent,
    data: Dataset | RollingWindow,
    steps: int = TrainOptions.steps,
    *,
    logdir: str | Path | None = None,
    evaluate: Evaluation | Given | None = None,
    resume: bool | str | Path = False,
    progress: bool | None = None,
    callbacks: Sequence[Callback] = (),
    **options: Any,
) -> History:
    """Train all runs of an agent on a fixed data set.

    Args:
        agent: from `rlop.agents`, or your own subclass of `rlop.agent.Agent`.
        data: the data set; the agent takes the columns it needs. A `RollingWindow` is redrawn
            during training.
        steps: gradient steps in total, also when resuming.
        logdir: where TensorBoard files, `metrics.jsonl` and checkpoints go; None keeps the record
            in memory only.
        evaluate: called with the agent at step 0, every `eval_every` steps and at the end, e.g. an
            `Evaluator`; or an environment, as `Evaluator` takes it, for one as the command line
            makes it.
        resume: continue the training in `logdir`, with exactly the same numbers and record as an
            uninterrupted one. The folder of another training: continue from its checkpoint under
            changed options, with a record of its own in `logdir`.
        progress: show a progress bar; None decides from the terminal.
        callbacks: see `Callback`; they are called after logging, and may stop the training.
        options: fields of `TrainOptions`.
    Returns:
        Every metric logged, each with its steps, `[T, R]`.
    Raises:
        InputError: before any training, for arguments that do not fit, or a resume that would
            change anything but the steps and what is logged when.
        Interrupted: a KeyboardInterrupt, raised after logs and a checkpoint are on disk.
    """
    train_options = build(TrainOptions, {"steps": steps, **options}, where="train")
    evaluation = evaluation_of(agent, evaluate, data.name, Experiment.eval_episodes)
    folder = None if logdir is None else Path(logdir).expanduser()
    origin = origin_of(folder, resume)

    place = nullcontext() if folder is None else RunFolder(folder)
    with place as run_folder:
        return train_in(
            run_folder,
            agent,
            data,
            train_options,
            evaluation,
            origin,
            progress,
            callbacks=callbacks,
        )


def origin_of(folder: Path | None, resume: bool | str | Path) -> Path | None:
    """Return the folder to continue from, or None.

    Raises:
        InputError: there is no such folder, or none to continue in.
    """
    if resume is False:
        return None
    if folder is None:
        raise InputError(f"resume = {resume}: expected a logdir that holds a checkpoint")
    origin = folder if resume is True else Path(resume).expanduser()
    if not origin.is_dir():
        raise InputError(f"{origin / CHECKPOINT}: no such checkpoint")
    return folder if origin.resolve() == folder.resolve() else origin


def train_in(
    folder: RunFolder | None,
    agent: Agent,
    data: Dataset | RollingWindow,
    options: TrainOptions,
    evaluate: Evaluation | None,
    origin: Path | None,
    progress: bool | None,
    config: Mapping[str, object] | None = None,
    callbacks: Sequence[Callback] = (),
) -> History:
    """Train in a folder that this process has locked.

    Args:
        folder: of the training; None keeps the record in memory.
        agent: see `train`.
        data: see `train`.
        options: the schedule.
        evaluate: a function of the agent.
        origin: the folder to continue from, see `origin_of`.
        progress: see `train`.
        config: configuration that continues the training, written to the folder.
        callbacks: see `train`.
    """
    path = None if folder is None else folder.path
    schedule = to_dict(options)
    content, where = _content(folder, origin, agent)
    if content is not None:
        options = compiled_as(content, options)
    hooks = Callbacks(callbacks, None if path is None else path / CHECKPOINT)
    loop = Loop(agent, data, options, evaluate, hooks)
    if loop.validation is not None:
        changes = loop.validation.rest.spec.changes
        agent.spec = replace(agent.spec, changes=changes)  # known to checkpoint and policy
    saver = Saver(loop, path, config)

    mark: Mark | None = None
    if content is not None and origin == path:
        mark = resume(saver, content, where)
    elif content is not None:
        fork(saver, content, where)
    elif folder is not None and origin == path:
        folder.start_over()

    settings = {
        "agent": agent.name,
        "data": data.name,
        **to_dict(agent.config),
        **schedule,
    }
    runs = agent.runs
    is_forked = origin is not None and origin != path
    if not is_forked:
        _write_config(folder, config)
    with Logger(path, runs.labels, runs.hparams, settings, mark, saver.parent) as logger:
        if is_forked:
            # Only with a checkpoint of its own does it continue, and not start over.
            saver.save(logger)
            _write_config(folder, config)
        if folder is not None:
            note_start(folder.path, _made_with(saver, settings))
        return _trained(saver, logger, progress)


def _made_with(saver: Saver, settings: Mapping[str, object]) -> dict[str, object]:
    """Return what `run.json` says of a training itself."""
    parts = ("seeds", "variants", "evaluation", "compile", "data")
    return {
        "step": saver.loop.step,
        "device": str(saver.loop.agent.device),
        "versions": saver.versions,
        "config": plain(settings),
        **{name: saver.identity[name] for name in parts},
    }


def _write_config(folder: RunFolder | None, config: Mapping[str, object] | None) -> None:
    if folder is not None and config is not None:
        folder.write_config(config)


def _content(
    folder: RunFolder | None, origin: Path | None, agent: Agent
) -> tuple[Content | None, str]:
    """Return the content and file of the checkpoint to continue from; None to start."""
    if folder is None:
        return None, ""
    if origin != folder.path:
        folder.check_empty()
    if origin is None:
        return None, ""

    found = newest(origin, agent.device)
    if found is not None:
        return found[1], str(found[0])
    if origin != folder.path:
        raise InputError(f"{origin / CHECKPOINT}: no such checkpoint")
    return None, ""


def _trained(saver: Saver, logger: Logger, progress: bool | None) -> History:
    """Run the loop; save at its end, however it ends."""
    loop = saver.loop
    with StopSignal() as stop:

        def try_to_save() -> bool:
            """Save, or say why not: the checkpoint before is still there."""
            with stop.shield():
                try:
                    saver.save(logger)
                except InputError as error:
                    logger.say_once(f"{error}; nothing newer is saved", key="checkpoint")
                    return False
            return True

        try:
            with (
                memory_named("the training needs more memory than there is"),
                Progress(loop.options.steps, start=loop.step, enabled=progress) as bar,
            ):
                if loop.callbacks.callbacks:
                    loop.callbacks.start(logger.history)
                loop.run(logger, bar, stop, try_to_save)
            history = logger.history
            with stop.shield():
                saver.save(logger)
                logger.close(final_scores(history))
            loop.callbacks.checkpoint(loop.step)
        except BaseException as error:
            if loop.is_whole and not saver.is_current:
                try_to_save()
            _say_how_to_resume(saver, logger, error)
            raise
    return history


def _say_how_to_resume(saver: Saver, logger: Logger, error: BaseException) -> None:
    """Say where a training stands that did not reach its end, and what continues it."""
    if logger.logdir is None or not logger.logdir.is_dir():
        return
    ended = "interrupted" if isinstance(error, KeyboardInterrupt) else "ended"
    where = (
        f"at step {saver.loop.step}" if saver.loop.is_whole else f"after {saver.loop.step} steps"
    )
    saved = saver.saved_at
    if saved is None:
        kept = "before the first checkpoint; it starts over with"
    elif saved == saver.loop.step:
        kept = "logs and checkpoint are written; it continues with"
    else:
        kept = f"the checkpoint is of step {saved}; it continues with"
    say(f"{ended} {where}: {kept}: {how_to_resume(logger.logdir)}", logging.WARNING)
