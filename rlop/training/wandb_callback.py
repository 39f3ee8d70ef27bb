"""Send what a training logs to Weights & Biases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rlop.logs.history import History
from rlop.training.callbacks import Callback, PerRun
from rlop.types import InputError


class WandbCallback(Callback):
    """Send every metric to Weights & Biases, as one of its runs per training.

    A metric is named `loss/td`, or `loss/td/LABEL` where several runs train side by side, and is
    drawn over `step`. Needs the extra `wandb`. An adapter for another service is as short:

        class Mine(rlop.Callback):
            def on_start(self, history):
                self.labels, self.log = history.labels, connect(history.config)

            def on_log(self, step, metrics):
                for name, values in metrics.items():  # [R], in the order of the labels
                    for label, value in zip(self.labels, values):
                        self.log(f"{label}/{name}", value, step)

            on_probe = on_evaluate = on_log

    Args:
        options: of `wandb.init`, such as `project`; for a resume `id` and `resume="allow"`.
    """

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.run: Any = None  # of wandb, an untyped library; its `finish()` ends it early
        self.labels: list[str] = []

    def on_start(self, history: History) -> None:
        """Begin a run of Weights & Biases with the configuration.

        Raises:
            InputError: wandb is not installed.
        """
        try:
            import wandb
        except ImportError:
            raise InputError("WandbCallback needs wandb: pip install 'rlop[wandb]'") from None
        self.labels = history.labels
        self.run = wandb.init(**{"config": history.config, **self.options})
        # Its own steps only grow, but a resume goes back to the last checkpoint.
        self.run.define_metric("*", step_metric="step")

    def on_log(self, step: int, metrics: PerRun) -> None:
        """Send the metrics `[R]` of a step."""
        row: dict[str, float] = {"step": step}
        for name, values in metrics.items():
            for label, value in zip(self.labels, values):
                row[name if len(self.labels) == 1 else f"{name}/{label}"] = float(value)
        self.run.log(row)

    on_probe = on_log
    on_evaluate = on_log

    def on_checkpoint(self, step: int, path: Path) -> None:
        """Note the step of the last checkpoint; the file stays where it is."""
        self.run.summary["checkpoint_step"] = step
