"""Offline DQN and CQL on MinAtar with its convolutional network.

    python scripts/minatar.py
    python scripts/minatar.py configs/minatar/breakout.yaml --data my.hdf5 --steps 100000

Behavior data come from a PPO policy that is trained and rolled out once, when the data file does
not exist.
"""

from rlop.cli import train_command
from rlop.command import run_script

if __name__ == "__main__":
    run_script(__file__, train_command, default="configs/minatar/breakout.yaml")
