"""Offline DQN, QR-DQN, REM and CQL, with and without DR3, on the DQN Replay Dataset.

    DQN_REPLAY_DIR=/data/dqn python scripts/atari.py configs/atari/cql_dr3.yaml
    python scripts/atari.py configs/atari/dqn.yaml \\
        --data "dqn-replay:Pong/1?subset=1%" --data_options.root /data/dqn

To collect a small data set yourself:

    rlop collect --format dqn-replay --env Breakout --steps 200000 data/Breakout/1
"""

from rlop.cli import train_command
from rlop.command import run_script

if __name__ == "__main__":
    run_script(__file__, train_command, default="configs/atari/dqn.yaml")
