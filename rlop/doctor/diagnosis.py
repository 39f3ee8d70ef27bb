"""Diagnose an agent, or any network: measures, then findings, one diagnosis a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from rlop.agent import Agent
from rlop.data.dataset import Dataset
from rlop.doctor.agents import measure_runs
from rlop.doctor.datasets import measure_data
from rlop.doctor.findings import Finding, findings
from rlop.doctor.measures import Measured
from rlop.doctor.modules import measure_module
from rlop.doctor.rules import SICK
from rlop.types import InputError


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor found in one network, or one run.

    Args:
        label: of the run, or the class of the network.
        findings: one for each disease, the worst first.
        measured: every measure by name.
    """

    label: str
    findings: list[Finding]
    measured: Measured

    @property
    def sick(self) -> list[str]:
        """Return the diseases whose level is sick."""
        return [finding.disease for finding in self.findings if finding.level == SICK]


def diagnose(
    model: Agent | nn.Module,
    data: Dataset | Tensor | tuple[Tensor, ...],
    **options: Any,
) -> list[Diagnosis]:
    """Name what is wrong with an agent or a network, run by run; it is not changed.

        for diagnosis in rlop.diagnose(agent, data):
            print(diagnosis.label, diagnosis.sick)
        (diagnosis,) = rlop.diagnose(network, obs, layer="torso")

    Args:
        model: an agent, or any module.
        data: the data set; for a module also its input, where a tuple is passed as positional
            arguments. Values and data can be judged on a data set only.
        options: of an agent `history`, `size` and `refit_steps`, see
            `rlop.doctor.agents.measure_runs`; of a module `gives`, `layer`, `next_batch`, `gamma`,
            `start`, `activation` and `refit_steps`, see `rlop.doctor.modules.measure_module`.
    Returns:
        One diagnosis for each run of an agent, or the one of a module.
    Raises:
        InputError: for a model or data of another kind, or what measuring refuses.
    """
    of_data = measure_data(data) if isinstance(data, Dataset) else {}
    if isinstance(model, Agent):
        if not isinstance(data, Dataset):
            raise InputError(f"data: expected a Dataset with an agent, got {type(data).__name__}")
        runs = measure_runs(model, data, **options)
        labels = model.runs.labels
        return [
            Diagnosis(label, findings(measured | of_data), measured | of_data)
            for label, measured in zip(labels, runs, strict=True)
        ]

    measured = measure_module(model, data, **options) | of_data
    is_redrawn = options.get("start") is None
    return [Diagnosis(type(model).__name__, findings(measured, is_redrawn), measured)]
