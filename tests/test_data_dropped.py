"""Rows that a reader drops are counted, said, and kept in the record of the data's changes."""

from __future__ import annotations

import logging
from dataclasses import replace

import h5py
import numpy as np
import pytest
from helpers import replay, rlu
from helpers.data import d4rl_arrays
from rlop.agents import BC

import rlop
from rlop.cli import main
from rlop.data import Dataset, load_dataset, write_hdf5
from rlop.data.transforms import scale_reward
from rlop.training.checkpoint import load_agent
from rlop.training.loop import Loop
from rlop.training.options import TrainOptions
from rlop.training.resume import differences, identity_of

SUCCESSOR = "their next observation is not there"


def npz(folder):
    """Two cut episodes of 6 and 4 rows, without next observations: two rows lead nowhere."""
    path = folder / "walks.npz"
    ends = np.isin(np.arange(10), [5, 9])
    np.savez(
        path,
        obs=np.eye(10, dtype=np.float32),
        action=np.arange(10) % 3,
        reward=np.ones(10),
        terminated=np.zeros(10, bool),
        truncated=ends,
    )
    return str(path)


def hdf5(folder):
    """A terminated episode keeps its last row, the cut end of the file does not."""
    write_hdf5(folder / "a.hdf5", d4rl_arrays(1200, terminals=[3], timeouts=[]), {})
    return str(folder / "a.hdf5")


def d4rl(folder):
    write_hdf5(
        folder / "pen-v0_demos_clipped.hdf5", d4rl_arrays(50, terminals=[9], timeouts=[19, 49]), {}
    )
    return "d4rl:pen-human-v0"


def d3rlpy(folder):
    """Two cut episodes of five rows and a terminated one."""
    rows = np.arange(15)
    with h5py.File(folder / "buffer.h5", "w") as file:
        file["observations"] = rows[:, None].astype(np.float32)
        file["actions"] = rows % 2
        file["rewards"] = rows.astype(np.float32)
        file["terminals"] = (rows == 14).astype(np.float32)
        file["episode_terminals"] = np.isin(rows, [4, 9, 14]).astype(np.float32)
        file["discrete_action"] = True
        file["version"] = "1.0"
    return f"d3rlpy:{folder / 'buffer.h5'}"


def ogbench(folder):
    np.savez(
        folder / "scene-play-v0.npz",
        observations=np.eye(8, dtype=np.float32),
        actions=np.zeros((8, 2), np.float32),
        terminals=np.isin(np.arange(8), [2, 7]),
    )
    return f"ogbench:{folder / 'scene-play-v0.npz'}"


def unplugged(folder):
    """One of two episodes is cut: nobody saw what its last action led to."""
    episodes = [
        rlu.episode(np.arange(1, 7), 0, 0),
        rlu.episode(np.arange(7, 12), 0, 1, terminated=False),
    ]
    rlu.shard(folder, 0, episodes)
    return "rlu:atari/Pong/1"


def dqn_replay(folder):
    """The first three rows have no stack, the last one no successor."""
    columns = replay.log(np.random.default_rng(0), 20, ends=0)
    replay.save(replay.folder_of(folder), 0, columns, 20, np.array([], int))
    return replay.NAME


# source -> how many rows were dropped, of how many, and why
ROWS = {
    npz: f"2 of 10 rows dropped: {SUCCESSOR}",
    hdf5: f"1 of 1,200 rows dropped: {SUCCESSOR}",
    d4rl: f"2 of 50 rows dropped: {SUCCESSOR}",
    d3rlpy: f"2 of 15 rows dropped: {SUCCESSOR}",
    ogbench: f"2 of 8 rows dropped: {SUCCESSOR}",
    unplugged: f"1 of 10 rows dropped: {SUCCESSOR}",
    dqn_replay: "4 of 20 rows dropped: padding, or rows whose stack or next frame is not there",
}


@pytest.fixture
def folders(tmp_path, monkeypatch):
    for name in ("D4RL_DATASET_DIR", "RLU_DIR", "DQN_REPLAY_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("source", ROWS, ids=lambda source: source.__name__)
def test_every_reader_counts_the_rows_that_it_drops(source, folders, caplog):
    name = source(folders)
    with caplog.at_level(logging.INFO, logger="rlop"):
        data = load_dataset(name)
    assert data.spec.changes == (ROWS[source],)
    said = [message for message in caplog.messages if "rows dropped" in message]
    assert said == [f"{data.name}: {ROWS[source]}"]
    kept, rows = len(data), int(ROWS[source].split()[2].replace(",", ""))
    assert rows - kept == int(ROWS[source].split()[0])


def test_d4rl_with_kept_timeouts_still_drops_its_last_row(folders):
    data = load_dataset(d4rl(folders), terminate_on_end=True)
    assert (len(data), data.spec.changes) == (49, (f"1 of 50 rows dropped: {SUCCESSOR}",))


def test_info_of_a_file_and_of_a_checkpoint_say_it(folders, capsys):
    name = npz(folders)
    assert main(["info", name]) == 0
    printed = capsys.readouterr().out
    assert f"changes of the data:\n  {ROWS[npz]}\n" in printed
    assert printed.startswith("walks.npz: 8 transitions in 2 episodes")

    data = load_dataset(name)
    rlop.train(BC(data.spec, hidden=(4,), batch_size=4), data, 1, logdir=folders / "run")
    assert main(["info", str(folders / "run")]) == 0
    assert capsys.readouterr().out.endswith(f"changes of the data:\n  {ROWS[npz]}\n")


def test_data_with_all_their_successors_have_nothing_to_say(tiny, capsys):
    assert tiny.spec.changes == ()
    assert main(["info", "gridworld?size=4&steps=60"]) == 0
    assert "changes of the data" not in capsys.readouterr().out


def test_a_cache_keeps_the_record(folders, caplog):
    name = npz(folders)
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="rlop"):
            data = load_dataset(name, cache=folders / "cache")
        assert data.spec.changes == (ROWS[npz],)
        assert f"walks.npz: {ROWS[npz]}" in caplog.messages


def test_a_mixture_says_whose_rows_were_dropped(folders, caplog):
    sources = [{"source": npz(folders)}, {"source": npz(folders)}]
    with caplog.at_level(logging.INFO, logger="rlop"):
        data = load_dataset("mix", sources=sources)
    assert data.spec.changes == (
        f"walks.npz: {ROWS[npz]}",
        f"walks.npz: {ROWS[npz]}",
        "mix(8 of walks.npz, 8 of walks.npz)",
    )
    assert caplog.messages.count(f"walks.npz: {ROWS[npz]}") == 2


def test_a_checkpoint_of_an_earlier_version_has_no_record_and_goes_on(tmp_path):
    rng = np.random.default_rng(1)
    obs, ends = rng.normal(size=(12, 2)), np.arange(12) % 4 == 3
    data = Dataset.from_arrays(obs, np.arange(12) % 2, obs[:, 0], ends & False, ends)
    old_spec = replace(data.spec, changes=())

    def train(data, steps, **options):
        agent = BC(data.spec, hidden=(4,), batch_size=4)
        return rlop.train(agent, data, steps, logdir=tmp_path, checkpoint_every=2, **options)

    train(replace(data, spec=old_spec), 2)
    assert train(data, 4, resume=True).steps[-1] == 4
    agent, content = load_agent(tmp_path / "checkpoint.pt")
    assert content["step"] == 4
    assert agent.spec.changes == (f"3 of 12 rows dropped: {SUCCESSOR}",)


def test_other_rows_are_still_refused_with_what_was_done_to_them(tiny):
    def identity(data):
        agent = BC(data.spec, hidden=(4,), batch_size=4)
        loop = Loop(agent, data, TrainOptions())
        return identity_of(agent, data, loop.probe_batch, loop.options, False, None)

    halved = scale_reward(tiny, 0.5)
    found = differences(identity(tiny), identity(halved))
    assert "spec.changes = [] -> ['scale_reward(scale=0.5)']" in found
    assert any(text.startswith("data.reward = ") for text in found)
    assert differences(identity(tiny), identity(tiny)) == []
