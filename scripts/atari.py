"""Offline DQN, QR-DQN, REM and CQL, with and without DR3, on the DQN Replay Dataset.

    DQN_REPLAY_DIR=/data/dqn python scripts/atari.py configs/atari/cql_dr3.yaml
    python scripts/atari.py configs/atari/dqn.yaml --data "dqn-replay:Pong/1?subset=1%" --data_options.root /data/dqn

A small data set of one's own: rlop collect --format dqn-replay --env Breakout --steps 200000 data/Breakout/1
"""

import sys

from rlop.cli import guarded, train_command

if __name__ == "__main__":
    sys.exit(guarded(lambda argv: train_command(argv, default="configs/atari/dqn.yaml")))
