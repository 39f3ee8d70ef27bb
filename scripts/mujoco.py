"""Offline CQL on Hopper, HalfCheetah and Walker2d; scores are D4RL-normalized, on Gymnasium.

    python scripts/mujoco.py configs/mujoco/halfcheetah.yaml
    python scripts/mujoco.py configs/mujoco/hopper.yaml \\
        --data d4rl:hopper-medium-v2 --agent.regularizers.dr3 0.0,0.001

Behavior data come from a PPO policy that is trained and rolled out once, when the data file does
not exist.
"""

from rlop.cli import train_script

if __name__ == "__main__":
    train_script(__file__, "configs/mujoco/hopper.yaml")
