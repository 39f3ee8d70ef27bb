"""Offline CQL on Hopper, HalfCheetah and Walker2d; scores are D4RL-normalised on Gymnasium.

    python scripts/mujoco.py configs/mujoco/halfcheetah.yaml
    python scripts/mujoco.py configs/mujoco/hopper.yaml --data d4rl:hopper-medium-v2 --agent.regularizers.dr3 0.0,0.001

Behaviour data come from a PPO policy that is trained and rolled out once, when the data file is not there yet.
"""

import sys

from rlop.cli import guarded, train_command

if __name__ == "__main__":
    sys.exit(guarded(lambda argv: train_command(argv, default="configs/mujoco/hopper.yaml")))
