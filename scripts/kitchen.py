"""Offline CQL on D4RL's kitchen data, without evaluation.

    python scripts/kitchen.py
    python scripts/kitchen.py configs/kitchen/complete.yaml --steps 100000

No current environment has D4RL's observations (60: positions and a goal; FrankaKitchen has 59, with
velocities), so this shows the representation: ranks, norms, values.
"""

from rlop.cli import train_command
from rlop.command import run_script

if __name__ == "__main__":
    run_script(__file__, train_command, default="configs/kitchen/complete.yaml")
