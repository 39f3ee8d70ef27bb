"""Offline CQL on Hopper, HalfCheetah and Walker2d; scores are D4RL-normalized, on Gymnasium.

    python scripts/mujoco.py configs/mujoco/halfcheetah.yaml
    python scripts/mujoco.py configs/mujoco/hopper.yaml \\
        --data d4rl:hopper-medium-v2 --agent.regularizers.dr3 0.0,0.001

Behavior data come from a PPO policy that is trained and rolled out once, when the data file does
not exist.
"""

from rlop.cli import train_command
from rlop.command import run_script

if __name__ == "__main__":
    run_script(__file__, train_command, default="configs/mujoco/hopper.yaml")
