"""Offline CQL on D4RL's Adroit data: pen, door, hammer, relocate; scores are D4RL-normalised on Gymnasium.

    python scripts/adroit.py configs/adroit/pen.yaml
    python scripts/adroit.py configs/adroit/pen.yaml --data d4rl:door-human-v1

A pen that is dropped ends its episode, as in D4RL; see `d4rl_env` in rlop/envs/layouts.py for what differs.
"""

import sys

from rlop.cli import guarded, train_command

if __name__ == "__main__":
    sys.exit(guarded(lambda argv: train_command(argv, default="configs/adroit/pen.yaml")))
