"""Offline CQL on D4RL's Adroit data: pen, door, hammer, relocate.

    python scripts/adroit.py
    python scripts/adroit.py configs/adroit/pen.yaml --data d4rl:door-human-v1

Scores are D4RL-normalized, on Gymnasium. A dropped pen ends its episode, as in D4RL; `d4rl_env` in
rlop/envs/layouts.py lists the differences.
"""

from rlop.cli import train_command
from rlop.command import run_script

if __name__ == "__main__":
    run_script(__file__, train_command, default="configs/adroit/pen.yaml")
