"""Replay logs: Dopamine's index rules against their description; files written and read back."""

from __future__ import annotations

import gzip
import io

import numpy as np
import pytest
from helpers.data import PROPERTY
from helpers.replay import FRAME, NAME, about, folder_of, log, same_as_dopamine, save, valid_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from rlop.collect.dqn_replay import write_dqn_replay
from rlop.data import load_dataset, read_dqn_replay
from rlop.data.dqn_replay.files import file_name
from rlop.data.dqn_replay.stacks import ring, valid_positions
from rlop.data.info import summary
from rlop.types import InputError

FAST = settings(PROPERTY, max_examples=25)
SEEDS = st.integers(0, 2**32 - 1)
FLAGS = st.lists(st.booleans(), min_size=6, max_size=40)


@given(FLAGS, st.integers(0, 130), st.booleans())
@FAST
def test_valid_rows_are_dopamines(terminal, add_count, fresh):
    rows = len(terminal)
    invalid = about(add_count % rows, rows) if fresh else np.zeros(4)
    first, length = ring(add_count, rows, whole=True)
    position = valid_positions(np.array(terminal, np.uint8), first, length, invalid)
    expected = valid_rows(terminal, add_count, invalid, rows)
    assert ((first + position) % rows).tolist() == expected


@given(SEEDS, st.integers(6, 30), st.integers(0, 70), st.booleans())
@FAST
def test_a_whole_file_gives_dopamines_batches(tmp_path, seed, rows, add_count, fresh):
    columns = log(np.random.default_rng(seed), rows)
    invalid = about(add_count % rows, rows) if fresh else np.zeros(4)
    save(folder_of(tmp_path), 0, columns, add_count, invalid)
    expected = valid_rows(columns["terminal"], add_count, invalid, rows)
    if not expected:
        with pytest.raises(InputError, match="no transition"):
            read_dqn_replay(NAME, root=tmp_path)
        return

    data = read_dqn_replay(NAME, root=tmp_path, clip_reward=False)
    same_as_dopamine(data, np.arange(len(data)), columns, expected, rows)


@given(SEEDS, st.sampled_from([5, 10, 25]), st.integers(0, 3), st.booleans())
@FAST
def test_the_first_rows_of_a_file_give_dopamines_batches(tmp_path, seed, percent, suffix, stale):
    rows, capacity = 200, 2 * percent
    columns = log(np.random.default_rng(seed), rows)
    add_count = (suffix + 1) * rows - stale
    invalid = about(add_count % rows, rows) if stale else np.zeros(4)
    save(folder_of(tmp_path), suffix, columns, add_count, invalid)

    # Dopamine keeps `capacity` + 4 rows and takes them for a buffer of that capacity.
    terminal = columns["terminal"][: capacity + 4]
    expected = valid_rows(terminal, add_count, invalid, capacity)
    if expected:
        source = f"{NAME}?files={suffix}&subset={percent}%"
        data = read_dqn_replay(source, root=tmp_path, clip_reward=False)
        same_as_dopamine(data, np.arange(len(data)), columns, expected, capacity)
        assert len(data.obs.frames) <= capacity


def test_the_published_layout_by_hand():
    """Ten rows, an end at row 4, padding 5 to 7; the second file of a log, its last row stale."""
    terminal = np.zeros(10, np.uint8)
    terminal[4] = 1
    first, length = ring(19, 10, whole=True)
    position = valid_positions(terminal, first, length, np.array([8, 9, 0, 1, 2]))
    # 3 is whole; 4 is terminal; 5, 6, 7 reach over the end; 8 is next to the cursor, 9 is stale.
    assert (first, length) == (9, 10)
    assert ((first + position) % 10).tolist() == [3, 4]


# ---- the writer


def readable(terminal, truncated, capacity):
    """File, row and step of every transition that can be read back."""
    # Three rows of padding before the first step of an episode count as that step, too.
    starts = np.append(True, terminal[:-1] | truncated[:-1])
    step = np.repeat(np.arange(len(terminal)), 1 + 3 * starts)
    is_padding = np.append(step[1:] == step[:-1], False)
    size = len(step) if capacity is None else capacity - 1

    expected = []
    for row, t in enumerate(step):
        file, inside = divmod(row, size)
        is_last = row + 1 == min((file + 1) * size, len(step))
        has_stack = inside >= 3
        if has_stack and not is_padding[row] and not truncated[t] and not is_last:
            expected.append((file, inside, t))
    return expected


@given(SEEDS, st.integers(2, 60), st.one_of(st.none(), st.integers(6, 30)))
@FAST
def test_a_written_log_is_read_back(tmp_path, monkeypatch, seed, steps, capacity):
    monkeypatch.setattr("os.fsync", lambda file: None)  # what costs the time here
    rng = np.random.default_rng(seed)
    columns = log(rng, steps)
    frames, action, reward = columns["observation"], columns["action"], columns["reward"]
    terminal = columns["terminal"] != 0
    truncated = (rng.random(steps) < 0.05) & ~terminal

    folder = folder_of(tmp_path)
    for old in folder.glob("*.gz"):
        old.unlink()
    count = write_dqn_replay(folder, frames, action, reward, terminal, truncated, capacity=capacity)
    assert len(list(folder.iterdir())) == count * (7 if truncated.any() else 6)

    expected = readable(terminal, truncated, capacity)
    if not expected:
        return
    file, row, step = map(list, zip(*expected))
    data = read_dqn_replay(NAME, root=tmp_path, clip_reward=False)
    assert data.infos["file"].tolist() == file
    assert data.infos["row"].tolist() == row
    assert np.array_equal(data.reward, reward[step])
    assert np.array_equal(data.action, action[step])
    assert np.array_equal(data.terminated, terminal[step])

    follows = np.diff(data.infos["row"] + 1000 * data.infos["file"], append=0) == 1
    assert np.array_equal(data.end, data.terminated | ~follows)

    # Frames before the first of an episode are blank.
    starts = np.append(True, terminal[:-1] | truncated[:-1])
    begin = np.maximum.accumulate(np.where(starts, np.arange(steps), 0))
    padded = np.concatenate([np.zeros((1, *FRAME), np.uint8), frames])
    for obs, next_obs, t in zip(np.asarray(data.obs), np.asarray(data.next_obs), step):
        recent = np.arange(t - 3, t + 1)
        assert np.array_equal(obs, padded[np.where(recent < begin[t], 0, recent + 1)])
        assert terminal[t] or np.array_equal(next_obs[-1], frames[t + 1])


def test_written_files_hold_what_the_format_says(tmp_path):
    columns = log(np.random.default_rng(0), 5)
    frames = columns["observation"]
    terminal = [0, 0, 1, 0, 0]
    write_dqn_replay(
        tmp_path, frames, columns["action"], columns["reward"], terminal, capacity=12, suffix=7
    )

    read = {}
    for path in tmp_path.iterdir():
        read[path.name] = np.load(io.BytesIO(gzip.decompress(path.read_bytes())))
    kinds = {name.removesuffix("_ckpt.7.gz"): array.dtype.str for name, array in read.items()}
    assert kinds.pop("add_count")
    assert kinds.pop("invalid_range")
    assert kinds == {
        "$store$_observation": "|u1",
        "$store$_action": "<i4",
        "$store$_reward": "<f4",
        "$store$_terminal": "|u1",
    }

    blank = np.zeros((3, *FRAME), np.uint8)
    stored = np.concatenate([blank, frames[:3], blank, frames[3:], blank[:1]])
    assert np.array_equal(read["$store$_observation_ckpt.7.gz"], stored)
    assert read["$store$_terminal_ckpt.7.gz"].nonzero()[0].tolist() == [5]
    assert len(read["$store$_terminal_ckpt.7.gz"]) == 12
    assert read["add_count_ckpt.7.gz"] == 11
    assert read["invalid_range_ckpt.7.gz"].tolist() == [10, 11, 0, 1, 2]


def arguments():
    columns = log(np.random.default_rng(0), 9)
    return {
        "frames": columns["observation"],
        "actions": columns["action"],
        "rewards": columns["reward"],
        "terminals": columns["terminal"],
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": np.zeros((9, 4, 5), np.float32)}, "frames: float32"),
        ({"actions": np.zeros(8, np.int32)}, r"action: int32 of shape \(8,\)"),
        ({"rewards": np.zeros(9, bool)}, "reward: bool"),
        ({"capacity": 5}, "capacity = 5"),
    ],
)
def test_the_writer_names_what_does_not_fit(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        write_dqn_replay(tmp_path, **{**arguments(), **change})


def test_the_writer_does_not_overwrite_unless_asked_to(tmp_path):
    write_dqn_replay(tmp_path, **arguments())
    with pytest.raises(InputError, match="exists already"):
        write_dqn_replay(tmp_path, **arguments())
    write_dqn_replay(tmp_path, **arguments(), overwrite=True)
    assert not list(tmp_path.glob("*.tmp"))


# ---- a published file


def test_the_real_sample(shared_data):
    folder = shared_data / "dqn_replay_sample"
    data = load_dataset("dqn-replay:Breakout/1", root=folder)
    for suffix in (0, 1):
        read = {}
        for name in ("observation", "action", "reward", "terminal", "add_count", "invalid_range"):
            path = folder / "Breakout" / "1" / "replay_logs" / file_name(name, suffix)
            with gzip.open(path) as file:
                read[name] = np.load(file)

        add_count = int(read["add_count"])
        rows = valid_rows(read["terminal"], add_count, read["invalid_range"], 5000)
        at = np.flatnonzero(data.infos["file"] == suffix)
        assert data.infos["row"][at].tolist() == rows

        some = np.random.default_rng(suffix).choice(len(at), 200, replace=False)
        same_as_dopamine(data, at[some], read, [rows[k] for k in some], 5000)

    assert (len(data), data.spec.n_actions, data.spec.obs_shape) == (9974, 4, (4, 84, 84))
    text = summary(data)
    assert "whole episodes: 6 of 8 parts, return mean 34.33, 26 to 43" in text
    assert "reward counts: 0: 9683, 1: 291" in text
