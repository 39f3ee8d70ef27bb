"""Rows of the published D4RL files: the same transitions as D4RL's own rule, value for value."""

import h5py
import numpy as np
from helpers.data import qlearning_rows

from rlop.data import load_dataset
from rlop.data.formats import d4rl
from rlop.data.scores import source_of


def name_of(stem: str) -> str:
    """Return D4RL's name of a file: `hopper_medium` is hopper-medium-v0."""
    versioned = stem if "-v" in stem else f"{stem}-v0"
    return versioned.replace("_", "-")


def test_every_real_file_gives_the_transitions_of_qlearning_dataset(shared_data, monkeypatch):
    files = sorted((shared_data / "d4rl").glob("*.hdf5"))
    assert len(files) >= 35
    for path in files:
        with h5py.File(path) as file:
            keys = ("observations", "actions", "rewards", "terminals", "timeouts")
            made = {key: file[key][()] for key in keys if key in file}
        for key in ("rewards", "terminals", "timeouts"):
            made[key] = made[key].reshape(-1)

        name = name_of(path.stem)
        monkeypatch.setattr(d4rl, "find", lambda *args, path=path: path)
        data = load_dataset(f"d4rl:{name}")
        rows, _ = qlearning_rows(made, source_of(name).limit)
        following = np.array(rows) + 1
        for ours, theirs in (
            (data.obs, made["observations"][rows]),
            (data.action, made["actions"][rows]),
            (data.reward, made["rewards"][rows]),
            (data.terminated, made["terminals"][rows].astype(bool)),
            (data.next_obs, made["observations"][following]),
        ):
            assert np.array_equal(ours, theirs.astype(ours.dtype)), path.name


def test_every_real_file_is_read_as_a_file_too(shared_data):
    for path in sorted((shared_data / "d4rl").glob("*.hdf5")):
        data = load_dataset(path)
        assert set(data.keys) >= {"obs", "action", "reward", "terminated"}, path.name
        assert data.n_episodes >= 1
