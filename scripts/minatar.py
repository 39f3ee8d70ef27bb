"""Offline DQN and CQL on MinAtar with its convolutional network.

    python scripts/minatar.py configs/minatar/breakout.yaml
    python scripts/minatar.py configs/minatar/breakout.yaml --data my.hdf5 --steps 100000

Behaviour data come from a PPO policy that is trained and rolled out once, when the data file is not there yet.
"""

import sys

from rlop.cli import guarded, train_command

if __name__ == "__main__":
    sys.exit(guarded(lambda argv: train_command(argv, default="configs/minatar/breakout.yaml")))
