"""Hold episodes out of training, and measure the agent's loss on them."""

from __future__ import annotations

import copy
import logging

import numpy as np
import torch
from torch import Tensor

from rlop.agent import Agent, Noise
from rlop.data.changes import with_change
from rlop.data.dataset import Dataset
from rlop.data.dqn_replay.window import RollingWindow
from rlop.data.sampler import Streams, Table
from rlop.logs.messages import say
from rlop.regularizers.penalties import Penalties
from rlop.training.options import TrainOptions
from rlop.types import Batch, InputError

METRIC = "loss/validation"
LOSSES = ("loss/td", "loss/total")  # of an agent: the first one that it logs is measured
MEASURED = 2048  # transitions, rounded to whole batches
SEED = 0  # of the episodes, the transitions and the noise: the same in every training


class Validation:
    """Episodes that are held out of training, on which the loss is measured.

    The loss is that of an update, `loss/td`, or `loss/total` without penalties for an agent that
    logs none, such as BC. Transitions and noise are the same for every run and at every step.

    Args:
        agent: the agent; it is not changed.
        data: the whole data set.
        share: of its transitions that are held out, in (0, 1).
    Attributes:
        rest: the episodes to train on.
    Raises:
        InputError: the data are a single episode, or the agent cannot use those held out.
    """

    def __init__(self, agent: Agent, data: Dataset, share: float) -> None:
        self.rest, held_out = split(data, share)

        # A copy: what `prepare` keeps in the agent, such as counts of actions, is of the rest.
        columns = copy.deepcopy(agent).prepare(held_out).columns()
        usable, size = len(columns["reward"]), agent.batch_size
        order = np.random.default_rng(SEED).permutation(usable)
        batches = max(1, min(usable, MEASURED) // size)
        rows = np.resize(order, batches * size)  # fewer than a batch are repeated
        chosen = {name: np.asarray(column[rows]) for name, column in columns.items()}
        self.table = Table(chosen, agent.device)

    @torch.no_grad()
    def measure(self, agent: Agent) -> dict[str, np.ndarray]:
        """Return `loss/validation` of every run, `[R]`.

        Raises:
            InputError: the agent's losses need gradients.
        """
        runs, size = len(agent.runs), agent.batch_size
        streams = Streams([SEED], size, len(self.table), agent.noise, agent.device)
        losses = []
        for rows in torch.arange(len(self.table), device=agent.device).split(size):
            _, drawn = streams.next()
            noise = {name: one.expand(runs, *one.shape[1:]) for name, one in drawn.items()}
            losses.append(loss_on(agent, self.table.gather(rows.expand(runs, -1)), noise))
        return {METRIC: torch.stack(losses).mean(0).cpu().numpy()}


def loss_on(agent: Agent, batch: Batch, noise: Noise) -> Tensor:
    """Return the loss of every run on a batch, without penalties, `[R]`.

    Raises:
        InputError: the agent's losses need gradients.
    """
    unpenalized = copy.copy(agent)
    unpenalized.penalties = Penalties({}, {})
    try:
        _, metrics = unpenalized.losses(batch, noise)
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"validation: expected losses of {agent.name} that need no gradients ({reason})"
        ) from error
    return next(metrics[name] for name in LOSSES if name in metrics)


def validation_of(
    agent: Agent, data: Dataset | RollingWindow, options: TrainOptions
) -> Validation | None:
    """Return the validation of a training; None without one.

    Raises:
        InputError: the data have a window, or nothing is ever measured.
    """
    share = options.validation
    if not share:
        return None
    if isinstance(data, RollingWindow):
        raise InputError(
            f"validation = {share}: expected data without a window, which replaces what is held out"
        )
    if not options.probe_every:
        raise InputError(
            f"validation = {share}, probe_every = 0: measured with the probe, expected probe_every "
            "of at least 1"
        )
    return Validation(agent, data, share)


def split(data: Dataset, share: float) -> tuple[Dataset, Dataset]:
    """Return the episodes to train on, and those held out: as many as make up the share.

    Args:
        data: the whole data set.
        share: of the transitions, in (0, 1).
    Raises:
        InputError: the data are a single episode.
    """
    lengths = data.episode_lengths()
    if len(lengths) == 1:
        raise InputError(
            f"validation = {share}: expected several episodes, {data.name} has one, and whole ones "
            "are held out"
        )
    order = np.random.default_rng(SEED).permutation(len(lengths))
    count = int(np.searchsorted(lengths[order].cumsum(), share * len(data))) + 1
    chosen = order[: min(count, len(order) - 1)]

    is_held_out = np.isin(np.arange(len(lengths)), chosen).repeat(lengths)
    rest = with_change(data, data.subset(~is_held_out), "hold_out", {"share": share})
    held_out = data.subset(is_held_out)
    say(
        f"validation: {len(held_out):,} of {len(data):,} transitions are held out, {len(chosen):,} "
        f"of {len(lengths):,} episodes",
        logging.INFO,
    )
    return rest, held_out
