"""Writers on a full disk: one line that names the folder, and nothing left behind."""

import errno
import gzip

import numpy as np
import pytest

from rlop.collect import minari
from rlop.collect.dqn_replay import write_dqn_replay
from rlop.types import InputError


def full_disk(*args, **options):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_minari_data_set(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    monkeypatch.setattr(minari.os, "fsync", full_disk)
    with pytest.raises(InputError, match=r"x-v0: cannot be written .*No space left"):
        minari.write_minari(tiny, "x-v0")
    assert not list(tmp_path.iterdir())


def test_a_replay_log(tmp_path, monkeypatch):
    monkeypatch.setattr(gzip, "open", full_disk)
    frames = np.zeros((8, 4, 4), np.uint8)
    column = np.zeros(8, int)
    with pytest.raises(InputError, match=r"logs: cannot be written .*No space left"):
        write_dqn_replay(tmp_path / "logs", frames, column, column, column)
    assert not list((tmp_path / "logs").iterdir())
