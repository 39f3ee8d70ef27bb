"""Offline CQL on D4RL's antmaze data, evaluated in gymnasium-robotics brought into D4RL's layout.

    python scripts/antmaze.py configs/antmaze/umaze.yaml
    python scripts/antmaze.py configs/antmaze/umaze.yaml --data d4rl:antmaze-medium-play-v2

Origin, start, goal, reward, end and the ant itself are D4RL's, see `D4RLAntMaze` in rlop/envs/layouts.py.
"""

import sys

from rlop.cli import guarded, train_command

if __name__ == "__main__":
    sys.exit(guarded(lambda argv: train_command(argv, default="configs/antmaze/umaze.yaml")))
