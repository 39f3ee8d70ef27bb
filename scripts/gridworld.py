"""See rank collapse and its cure: DQN and CQL, with and without DR3 and max-norm, on a gridworld.

    python scripts/gridworld.py                       # configs/gridworld/demo.yaml
    python scripts/gridworld.py configs/gridworld/backups.yaml --seeds 8

The same as `rlop demo`. All runs train side by side in one process. Prints a table (mean and 95 %
interval over seeds), writes TensorBoard logs and one picture of the curves.
"""

import sys

from rlop.cli import demo_command, guarded

if __name__ == "__main__":
    sys.exit(guarded(demo_command))
