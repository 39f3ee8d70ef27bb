"""Measure the networks of any training on a fixed batch, and record what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from torch import Tensor, nn

from rlop.config.checks import check_range
from rlop.interop.values import ActionValues, HeavierProbes
from rlop.logs.logger import Logger, Mark
from rlop.probes.hook import probe
from rlop.types import Batch, InputError

EVERY = 10_000  # steps between two probes, which then cost less than 1 % of a DQN of two layers
ACTOR = "actor"


class NetworkProbe:
    """Measure networks every N steps of a training loop, for TensorBoard and `rlop report`.

        with rlop.interop.NetworkProbe("runs/mine", q_network, obs, seed=1) as probe:
            for step in range(1, 1_000_001):
                ...
                probe(step)

    A network is measured as `rlop.probe` does: without gradient, in eval mode, and changing
    nothing, the state of random numbers included. Of several networks, each measure is recorded as
    `rank/srank/NAME`, and the mean over all that are not named `actor` as `rank/srank`.

    Args:
        logdir: folder of the record; each training needs its own.
        networks: a module, or modules by name, such as `{"critic_1": qf1, "critic_2": qf2}`, on the
            same batch.
        batch: their input, a tensor `[n, ...]` or a tuple of several; n should be at least 4 times
            the number of features.
        next_batch: the input at (s', a'), row by row; adds `feature/dot` and `feature/cosine`.
        mask: 1 - terminated, `[n]`, for these two.
        every: steps between two probes; 0 for none but those of `measure`.
        heads: of one module with several outputs, name -> the `nn.Linear` that reads the features.
        layer: of one module, the layer to measure; see `rlop.probe`.
        activation: of the measured layer.
        name: of the method; runs of one name are a group in reports.
        seed: of the training.
        config: whatever else describes the training.
        probes: of the heavier probes of `rlop.probes.pack`, those that are recorded, too.
        values: the action values that they read.
        rows: the transitions that they are measured on, from `rlop.interop.transitions`.
    Raises:
        InputError: for a folder with a record, an argument of the wrong type, or a heavier probe
            that cannot be taken of these networks.
    """

    def __init__(
        self,
        logdir: str | Path,
        networks: nn.Module | Mapping[str, nn.Module],
        batch: object,
        next_batch: object = None,
        mask: Tensor | None = None,
        every: int = EVERY,
        heads: Mapping[str, str] | None = None,
        layer: str | None = None,
        activation: str = "relu",
        name: str = "network",
        seed: int = 0,
        config: Mapping[str, object] | None = None,
        probes: Sequence[str] = (),
        values: ActionValues | None = None,
        rows: Batch | None = None,
    ) -> None:
        check_range("every", every, low=0)
        several = isinstance(networks, Mapping)
        if several and (heads is not None or layer is not None):
            raise InputError("heads, layer: expected with one network, not with several")

        self.networks = dict(networks) if isinstance(networks, Mapping) else {"": networks}
        self.heads: Mapping[str, str | None] = heads or {"": None}
        self.batch, self.next_batch, self.mask = batch, next_batch, mask
        self.every, self.layer, self.activation = every, layer, activation
        self.step = 0  # of the last probe

        self.heavier: HeavierProbes | None = None
        if probes:
            if values is None or rows is None:
                raise InputError("probes: expected with values and rows")
            self.heavier = HeavierProbes(values, rows, probes)

        self.record = ProbeRecord(logdir, name, seed, config)

    def __call__(self, step: int) -> dict[str, float]:
        """Measure if a probe is due at this step; return what was measured.

        Steps may be skipped, as with several environments: a probe is due as soon as a multiple of
        `every` is reached.
        """
        if not self.every or step // self.every == self.step // self.every:
            return {}
        return self.measure(step)

    def measure(self, step: int, extra: Mapping[str, float] | None = None) -> dict[str, float]:
        """Measure the networks now.

        Args:
            step: of the training.
            extra: other numbers to record at this step.
        Returns:
            The measures of `rlop.probe` and the heavier ones by name, as recorded.
        Raises:
            InputError: for a network or a batch that cannot be measured.
        """
        self.step = step
        each: dict[str, dict[str, float]] = {}
        for name, network in self.networks.items():
            for output, head in self.heads.items():
                each[name or output] = self._measures(network, head)

        measures = summarized(each)
        if self.heavier is not None:
            measures |= self.heavier()
        self.record.log(step, {**measures, **(extra or {})})
        return measures

    def _measures(self, network: nn.Module, head: str | None) -> dict[str, float]:
        """Measure one output of a network."""
        values = probe(
            network,
            self.batch,
            self.layer,
            self.next_batch,
            self.mask,
            self.activation,
            head,
        )
        return {name: float(value) for name, value in values.items()}

    def close(self) -> None:
        """Complete the record. Idempotent."""
        self.record.close()

    def __enter__(self) -> NetworkProbe:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.record.close(success=kind is None)


class ProbeRecord:
    """The record of a training that is not ours, which may be closed and continued.

    Args:
        logdir: its folder.
        name: of the method.
        seed: of the training.
        config: whatever else describes it.
    Raises:
        InputError: the folder holds a record.
    """

    def __init__(
        self,
        logdir: str | Path,
        name: str,
        seed: int,
        config: Mapping[str, object] | None = None,
    ) -> None:
        self.logdir = Path(logdir)
        self.hparams = {"variant": name, "seed": seed}
        self.config = dict(config or {})
        self._mark: Mark | None = None  # where it was closed
        self._logger: Logger | None = self._open()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record numbers at a step; continue a record that was closed."""
        if self._logger is None:
            self._logger = self._open()
        self._logger.log(step, {name: [value] for name, value in metrics.items()})

    def close(self, success: bool = True) -> None:
        """Complete the record. Idempotent."""
        if self._logger is not None:
            self._mark = self._logger.mark()
            self._logger.close(success=success)
            self._logger = None

    def _open(self) -> Logger:
        label = f"{self.hparams['variant']}-{self.hparams['seed']}"
        return Logger(self.logdir, [label], [self.hparams], self.config, self._mark)


def summarized(each: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return the measures of several networks, and their means over all but the actor.

    Args:
        each: network -> measure -> value; a network named "" is the only one.
    """
    measures: dict[str, float] = {}
    judged = [values for name, values in each.items() if name != ACTOR or len(each) == 1]
    for measure in judged[0]:
        measures[measure] = float(np.mean([values[measure] for values in judged]))

    if len(each) > 1:
        for name, values in each.items():
            for measure, value in values.items():
                measures[f"{measure}/{name}"] = value
    return measures
