"""Offline DQN and CQL on CartPole, Acrobot, MountainCar and LunarLander.

    python scripts/classic.py configs/classic/cartpole.yaml
    python scripts/classic.py configs/classic/cartpole.yaml --data my.hdf5 --agent.regularizers.dr3 0.0,0.03

A configuration says how its data are collected; that happens once, when the file is not there yet.
"""

import sys

from rlop.cli import guarded, train_command

if __name__ == "__main__":
    sys.exit(guarded(lambda argv: train_command(argv, default="configs/classic/cartpole.yaml")))
