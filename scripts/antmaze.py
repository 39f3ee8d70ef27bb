"""Offline CQL on D4RL's antmaze data, evaluated in gymnasium-robotics in D4RL's layout.

    python scripts/antmaze.py
    python scripts/antmaze.py configs/antmaze/umaze.yaml --data d4rl:antmaze-medium-play-v2

Origin, start, goal, reward, end and the ant itself are D4RL's; see `D4RLAntMaze` in
rlop/envs/layouts.py.
"""

from rlop.cli import train_command
from rlop.command import run_script

if __name__ == "__main__":
    run_script(__file__, train_command, default="configs/antmaze/umaze.yaml")
