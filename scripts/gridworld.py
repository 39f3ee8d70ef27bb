"""Offline RL on gridworlds: collapse of the feature rank under DQN and CQL, and what stops it.

    python scripts/gridworld.py                       # configs/gridworld/demo.yaml
    python scripts/gridworld.py configs/gridworld/backups.yaml --seeds 8

The same as `rlop demo`. All runs train side by side in one process. Prints a table (mean and 95 %
interval over seeds), writes TensorBoard logs and one picture of the curves.
"""

from rlop.cli import demo_command
from rlop.command import run_script

if __name__ == "__main__":
    run_script(__file__, demo_command)
