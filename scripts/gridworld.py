"""See rank collapse and its cure: DQN and CQL, with and without DR3 and max-norm, on a gridworld.

    python scripts/gridworld.py                       # configs/gridworld/demo.yaml
    python scripts/gridworld.py configs/gridworld/backups.yaml --seeds 8

The grid is 16x16. All runs train side by side in one process. Prints a table (mean and 95 %
interval over seeds), writes TensorBoard logs and one picture of the curves.
"""

from collections.abc import Sequence

from rlop.cli import run_script, train_command
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


def main(argv: Sequence[str]) -> None:
    """Train, tabulate, draw."""
    if "--help" in argv or "-h" in argv:
        print(__doc__)
        return train_command(argv)

    experiment, name = from_args(argv, default="configs/gridworld/demo.yaml")
    _, history, logdir = run(experiment, f"gridworld-{name}")

    print(table(history, SHOWN))
    figure(history, SHOWN, logdir / "curves.png")
    print(f"\npicture: {logdir}/curves.png")
    print(f"curves:  tensorboard --logdir {logdir}  (in .venv/bin after `make demo`)")


if __name__ == "__main__":
    run_script(__file__, main)
