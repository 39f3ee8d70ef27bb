"""Offline DQN and CQL on CartPole, Acrobot, MountainCar and LunarLander.

    python scripts/classic.py
    python scripts/classic.py configs/classic/cartpole.yaml \\
        --data my.hdf5 --agent.regularizers.dr3 0.0,0.03

A configuration says how its data are collected; that happens once, when the file does not exist.
"""

from rlop.cli import train_command
from rlop.command import run_script

if __name__ == "__main__":
    run_script(__file__, train_command, default="configs/classic/cartpole.yaml")
