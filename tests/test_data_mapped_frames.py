"""Frames in a mapped file that is cut, zeroed, changed or removed, before or during a training."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from helpers.forks import in_a_fork, limit_files
from helpers.replay import NAME, save_three

from rlop.data import read_dqn_replay
from rlop.data.dqn_replay.storage import store_frames
from rlop.data.tables import make_table

SHAPE = (20, 6, 5)


def fill(out):
    out[:] = np.arange(out.size, dtype=np.uint8).reshape(out.shape)


def stored(path):
    return store_frames(SHAPE, 0, fill, "x", 1e-9, lambda: path)


def cut(path):
    os.truncate(path, path.stat().st_size - 40)


def zero(path):
    path.write_bytes(bytes(path.stat().st_size))


def flip(path):
    content = bytearray(path.read_bytes())
    content[3 * 30 + 1] ^= 255
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [cut, zero, flip])
def test_a_damaged_file_is_written_again(tmp_path, caplog, damage):
    path = tmp_path / "x.frames"
    whole = np.array(stored(path))
    damage(path)
    assert np.array_equal(stored(path), whole)
    assert "damaged or cut short, it is written again" in caplog.text
    caplog.clear()
    stored(path)
    assert not caplog.text


@pytest.fixture
def table(tmp_path):
    """A table on disk, and the file of its frames."""
    save_three(tmp_path)
    data = read_dqn_replay(NAME, root=tmp_path, cache=tmp_path / "cache", memory_gb=8e-5)
    (path,) = (tmp_path / "cache").iterdir()
    return make_table(data.columns()), path


@pytest.mark.parametrize("damage", [cut, zero])
def test_a_file_that_changes_under_a_training_is_refused(table, damage):
    frames, path = table
    rows = torch.zeros(1, 2, dtype=torch.int64)
    frames.gather(rows)
    damage(path)
    with pytest.raises(ValueError, match="was changed while data were read from it"):
        frames.gather(rows)


def test_a_file_that_is_removed_can_be_read_to_the_end(table):
    frames, path = table
    rows = torch.zeros(1, 2, dtype=torch.int64)
    before = frames.gather(rows).obs.clone()
    path.unlink()
    assert torch.equal(frames.gather(rows).obs, before)


def store_on_a_full_disk(path):
    limit_files(1000)
    with pytest.raises(ValueError, match="cannot be written") as caught:
        store_frames((90, 9, 9), 0, lambda out: out.fill(1), "x", 1e-9, lambda: path)
    return str(caught.value)


def test_room_on_the_disk_is_taken_before_the_file_is_mapped(tmp_path):
    pytest.importorskip("resource", reason="limits on the size of files are POSIX's")
    message = in_a_fork(store_on_a_full_disk, tmp_path / "x.frames")
    assert "x.frames: cannot be written" in message
    assert not list(tmp_path.iterdir())
