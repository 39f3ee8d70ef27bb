"""Offline CQL on D4RL's kitchen data, without evaluation.

    python scripts/kitchen.py configs/kitchen/complete.yaml --steps 100000

No environment of today has D4RL's observations here (60: positions and a goal; FrankaKitchen has 59, with velocities),
so what this shows is the representation: ranks, norms, values.
"""

import sys

from rlop.cli import guarded, train_command

if __name__ == "__main__":
    sys.exit(guarded(lambda argv: train_command(argv, default="configs/kitchen/complete.yaml")))
