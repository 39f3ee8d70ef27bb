"""The demo: rank collapse and two treatments, with DQN and CQL on a small gridworld."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rlop.report.tables import figure, table
from rlop.training.run import from_args, run

SHOWN = [
    "rank/srank",
    "rank/effective_rank",
    "feature/dot",
    "units/dormant",
    "eval/q_error",
    "eval/return",
]


def demo(argv: Sequence[str], default: Path) -> None:
    """Train all runs side by side; print a table and draw the curves.

    Args:
        argv: `[CONFIG.yaml] [--key value ...]`.
        default: the configuration if the arguments name none.
    """
    experiment, name = from_args(argv, default)
    _, history, logdir = run(experiment, f"gridworld-{name}")

    print(table(history, SHOWN))
    figure(history, SHOWN, logdir / "curves.png")
    print(f"\npicture: {logdir}/curves.png\ncurves:  tensorboard --logdir {logdir}")
