"""Data sets: read them from files, names and environments, transform them, and sample from them."""

from __future__ import annotations

from rlop.data.adapter import check_spaces
from rlop.data.atari_scores import dqn_normalized_score, human_normalized_score
from rlop.data.dataset import Dataset
from rlop.data.dqn_replay.reader import read_dqn_replay
from rlop.data.formats.d4rl import read_d4rl
from rlop.data.formats.hdf5 import read_hdf5, write_hdf5
from rlop.data.formats.minari import read_minari
from rlop.data.formats.npz import read_npz
from rlop.data.load import load_dataset, register_dataset
from rlop.data.mix import mix
from rlop.data.returns import returns_to_go
from rlop.data.scores import normalized_score

__all__ = [
    "Dataset",
    "check_spaces",
    "dqn_normalized_score",
    "human_normalized_score",
    "load_dataset",
    "mix",
    "normalized_score",
    "read_d4rl",
    "read_dqn_replay",
    "read_hdf5",
    "read_minari",
    "read_npz",
    "register_dataset",
    "returns_to_go",
    "write_hdf5",
]
